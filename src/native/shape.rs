//! The kinds of values that a derived schema admits, checked on raw bytes before decoding.
//!
//! serde's decoding of a type enforces most of the schema derived from it, but it is laxer in places: a struct also decodes from an
//! array, an enum's variant from an object, an absent or null optional may be one that the schema demands, and unknown members pass
//! unless the type denies them. A shape closes these gaps without building a value: it looks at the first byte of each raw value.

use std::fmt;

use serde_json::{Map, Value};

use super::schema::resolve;
use crate::wire::json;

/// Deepest nesting of schemas that a shape follows; a recursive type goes deeper, and is compiled instead.
const DEPTH_MAX: usize = 12;
/// Most members that one object may demand: they are ticked off in an integer.
const REQUIRED_MAX: usize = 64;

/// Kinds of JSON values, as a set of bits.
mod kind {
    pub const OBJECT: u8 = 1;
    pub const ARRAY: u8 = 2;
    pub const STRING: u8 = 4;
    pub const NUMBER: u8 = 8;
    pub const BOOLEAN: u8 = 16;
    pub const NULL: u8 = 32;
    pub const ANY: u8 = 63;
}

/// What kinds of value may stand in one place, and below it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Shape {
    kinds: u8,
    object: Option<Box<Members>>,
    items: Option<Box<Shape>>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Members {
    named: Vec<(Box<str>, Shape)>,
    /// Bit n: the member `named[n]` must be there.
    required: u64,
    /// The shape of members not named; none: there may be none.
    others: Option<Shape>,
    /// Whether every name stands in a message as it is, unless its sender escapes what needs no escape.
    is_plain: bool,
}

/// Where a value has a kind that the schema does not admit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Violation {
    path: Vec<String>,
    what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            f.write_str("`")?;
            for (level, name) in self.path.iter().rev().enumerate() {
                if level > 0 && !name.starts_with('[') {
                    f.write_str(".")?;
                }
                f.write_str(name)?;
            }
            f.write_str("`: ")?;
        }
        f.write_str(&self.what)
    }
}

impl Shape {
    const ANY: Self = Self::plain(kind::ANY);

    const fn plain(kinds: u8) -> Self {
        Self { kinds, object: None, items: None }
    }

    /// The shape of a derived schema. None: the schema says more than shape and decoding enforce together.
    pub fn of(schema: &Value) -> Option<Self> {
        Reader { root: schema }.shape(schema, 0)
    }

    /// Looks at a raw value that is known to be JSON.
    pub fn check(&self, raw: &[u8]) -> Result<(), Violation> {
        let found = kind_of(raw);
        if self.kinds & found == 0 {
            return Err(Violation { path: Vec::new(), what: format!("expected {}, found {}", name(self.kinds), name(found)) });
        }
        match (found, &self.object, &self.items) {
            (kind::OBJECT, Some(members), _) => members.check(raw),
            (kind::ARRAY, _, Some(items)) => json::elements(raw)
                .enumerate()
                .try_for_each(|(index, item)| items.check(item).map_err(|violation| violation.under(format!("[{index}]")))),
            _ => Ok(()),
        }
    }
}

impl Violation {
    #[cold]
    fn under(mut self, name: String) -> Self {
        self.path.push(name);
        self
    }
}

impl Members {
    fn check(&self, raw: &[u8]) -> Result<(), Violation> {
        if self.is_plain && self.passes_plainly(raw) == Some(true) {
            return Ok(());
        }
        let mut missing = self.required;
        for (key, value) in json::members(raw) {
            match self.position(key) {
                Some(index) => {
                    missing &= !(1_u64.checked_shl(index as u32).unwrap_or(0));
                    let (name, shape) = &self.named[index];
                    shape.check(value).map_err(|violation| violation.under(name.to_string()))?;
                }
                None => match &self.others {
                    Some(shape) => shape.check(value).map_err(|violation| violation.under(json::unescape(key).into_owned()))?,
                    None => return Err(self.unknown(key)),
                },
            }
        }
        match self.named.get(missing.trailing_zeros() as usize) {
            Some((name, _)) => Err(Violation { path: Vec::new(), what: format!("missing field `{name}`") }),
            None => Ok(()),
        }
    }

    /// Whether an object of nothing but known members, none of them an object or array itself, passes. None or false: a closer look tells.
    ///
    /// This is what most arguments are, and it takes a fraction of the closer look.
    fn passes_plainly(&self, raw: &[u8]) -> Option<bool> {
        let mut missing = self.required;
        let mut rest = raw.strip_prefix(b"{")?.trim_ascii_start();
        if rest == b"}" {
            return Some(missing == 0);
        }
        loop {
            let key = rest.strip_prefix(b"\"")?;
            let named = |name: &str| key.strip_prefix(name.as_bytes()).and_then(|after| after.strip_prefix(b"\""));
            let mut members = self.named.iter().enumerate();
            let (index, shape, after) = members.find_map(|(index, (name, shape))| Some((index, shape, named(name)?)))?;
            let value = after.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
            if shape.kinds & kind_of(value) == 0 {
                return Some(false);
            }
            missing &= !(1_u64.checked_shl(index as u32).unwrap_or(0));
            match after_scalar(value)?.trim_ascii_start().split_first()? {
                (b',', more) => rest = more.trim_ascii_start(),
                (b'}', []) => return Some(missing == 0),
                _ => return None,
            }
        }
    }

    /// The place of the member that a raw key (quotes included) names.
    fn position(&self, key: &[u8]) -> Option<usize> {
        let inner = key.get(1..key.len().saturating_sub(1))?;
        // A key without escapes says what stands there; one with a backslash says something else than its bytes.
        if memchr::memchr(b'\\', inner).is_none() {
            return self.named.iter().position(|(name, _)| name.as_bytes() == inner);
        }
        self.named.iter().position(|(name, _)| json::key_is(key, name))
    }

    #[cold]
    fn unknown(&self, key: &[u8]) -> Violation {
        let known: Vec<String> = self.named.iter().map(|(name, _)| format!("`{name}`")).collect();
        let known = if known.is_empty() { "there are no fields".to_owned() } else { format!("expected {}", known.join(", ")) };
        let key: String = json::unescape(key).chars().take(80).collect();
        Violation { path: Vec::new(), what: format!("unknown field `{key}`, {known}") }
    }
}

/// What follows the value at the start of JSON text, unless that is an object or an array.
fn after_scalar(text: &[u8]) -> Option<&[u8]> {
    let Some(mut inner) = text.strip_prefix(b"\"") else {
        let ends = |byte: &u8| matches!(byte, b',' | b'}') || byte.is_ascii_whitespace();
        let is_scalar = !matches!(text.first(), Some(b'{' | b'['));
        return text.iter().position(ends).filter(|_| is_scalar).and_then(|end| text.get(end..));
    };
    loop {
        let at = memchr::memchr2(b'"', b'\\', inner)?;
        let (found, after) = inner.get(at..)?.split_first()?;
        if *found == b'"' {
            return Some(after);
        }
        inner = after.get(1..)?;
    }
}

fn kind_of(raw: &[u8]) -> u8 {
    match raw.first() {
        Some(b'{') => kind::OBJECT,
        Some(b'[') => kind::ARRAY,
        Some(b'"') => kind::STRING,
        Some(b't' | b'f') => kind::BOOLEAN,
        Some(b'n') => kind::NULL,
        _ => kind::NUMBER,
    }
}

fn name(kinds: u8) -> String {
    let names = [
        (kind::OBJECT, "an object"),
        (kind::ARRAY, "an array"),
        (kind::STRING, "a string"),
        (kind::NUMBER, "a number"),
        (kind::BOOLEAN, "a boolean"),
        (kind::NULL, "null"),
    ];
    let named: Vec<&str> = names.iter().filter(|(bit, _)| kinds & bit != 0).map(|&(_, name)| name).collect();
    named.join(" or ")
}

/// Words of a schema that say nothing of which values it admits.
const ANNOTATIONS: [&str; 11] =
    ["title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment", "$defs", "$schema", "x-mcp-header"];

/// Reads schemas as schemars derives them from types. Whatever it does not know makes it give up.
struct Reader<'a> {
    root: &'a Value,
}

impl Reader<'_> {
    fn shape(&self, schema: &Value, depth: usize) -> Option<Shape> {
        let Value::Object(schema) = schema else {
            return (*schema == Value::Bool(true)).then_some(Shape::ANY);
        };
        if depth > DEPTH_MAX {
            return None;
        }
        let words = |allowed: &[&str]| schema.keys().all(|word| ANNOTATIONS.contains(&word.as_str()) || allowed.contains(&word.as_str()));
        if let Some(reference) = schema.get("$ref") {
            return words(&["$ref"]).then(|| self.shape(resolve(self.root, reference.as_str()?)?, depth + 1))?;
        }
        if let Some(choices) = schema.get("anyOf") {
            return words(&["anyOf"]).then(|| self.optional(choices, depth))?;
        }
        if let Some(choices) = schema.get("oneOf") {
            let all_text = choices.as_array()?.iter().all(is_text_constant);
            return (words(&["oneOf", "type"]) && all_text).then_some(Shape::plain(kind::STRING));
        }
        let kinds = match schema.get("type") {
            None => return words(&[]).then_some(Shape::ANY),
            Some(Value::String(kind)) => kind_named(kind)?,
            Some(Value::Array(kinds)) => kinds.iter().try_fold(0, |all, kind| Some(all | kind_named(kind.as_str()?)?))?,
            Some(_) => return None,
        };
        match kinds & !kind::NULL {
            kind::OBJECT => self.object(schema, depth).filter(|_| words(&["type", "properties", "required", "additionalProperties"])),
            kind::ARRAY => self.array(schema, depth).filter(|_| words(&["type", "items"])),
            kind::STRING => (words(&["type", "enum", "const"]) && is_enum_of_text(schema)).then_some(Shape::plain(kinds)),
            kind::NUMBER => (words(&["type", "format", "minimum", "maximum"]) && is_native_number(schema)).then_some(Shape::plain(kinds)),
            kind::BOOLEAN | 0 => words(&["type"]).then_some(Shape::plain(kinds)),
            _ => None,
        }
        .map(|shape| Shape { kinds, ..shape })
    }

    /// `anyOf` something and null: an `Option`.
    fn optional(&self, choices: &Value, depth: usize) -> Option<Shape> {
        let [some, null] = choices.as_array()?.as_slice() else { return None };
        if null.get("type")?.as_str()? != "null" {
            return None;
        }
        let shape = self.shape(some, depth + 1)?;
        Some(Shape { kinds: shape.kinds | kind::NULL, ..shape })
    }

    fn object(&self, schema: &Map<String, Value>, depth: usize) -> Option<Shape> {
        let mut members = Members::default();
        if let Some(properties) = schema.get("properties") {
            for (name, schema) in properties.as_object()? {
                members.named.push((name.as_str().into(), self.shape(schema, depth + 1)?));
            }
        }
        for name in schema.get("required").map_or(Some(&Vec::new()), Value::as_array)? {
            let name = name.as_str()?;
            let index = members.named.iter().position(|(named, _)| **named == *name).filter(|&index| index < REQUIRED_MAX)?;
            members.required |= 1 << index;
        }
        members.others = match schema.get("additionalProperties") {
            None => Some(Shape::ANY),
            Some(Value::Bool(false)) => None,
            Some(schema) => Some(self.shape(schema, depth + 1)?),
        };
        members.is_plain = members.named.iter().all(|(name, _)| !name.contains(['"', '\\']));
        Some(Shape { kinds: kind::OBJECT, object: Some(Box::new(members)), items: None })
    }

    fn array(&self, schema: &Map<String, Value>, depth: usize) -> Option<Shape> {
        let items = schema.get("items").map_or(Some(Shape::ANY), |items| self.shape(items, depth + 1))?;
        Some(Shape { kinds: kind::ARRAY, object: None, items: Some(Box::new(items)) })
    }
}

fn kind_named(name: &str) -> Option<u8> {
    Some(match name {
        "object" => kind::OBJECT,
        "array" => kind::ARRAY,
        "string" => kind::STRING,
        "number" | "integer" => kind::NUMBER,
        "boolean" => kind::BOOLEAN,
        "null" => kind::NULL,
        _ => return None,
    })
}

fn is_text_constant(schema: &Value) -> bool {
    let Some(schema) = schema.as_object() else { return false };
    let known = schema.keys().all(|word| ANNOTATIONS.contains(&word.as_str()) || matches!(word.as_str(), "const" | "type"));
    known && schema.get("const").is_some_and(Value::is_string)
}

fn is_enum_of_text(schema: &Map<String, Value>) -> bool {
    let is_text = |value: &Value| value.is_string() || value.is_null();
    schema.get("enum").is_none_or(|values| values.as_array().is_some_and(|values| values.iter().all(is_text)))
        && schema.get("const").is_none_or(Value::is_string)
}

/// Whether the bounds are exactly those of the Rust type that the format names: then decoding enforces them.
fn is_native_number(schema: &Map<String, Value>) -> bool {
    let bounds = match schema.get("format").and_then(Value::as_str) {
        Some("uint8") => (Some(0), Some(255)),
        Some("uint16") => (Some(0), Some(65_535)),
        Some("int8") => (Some(-128), Some(127)),
        Some("int16") => (Some(-32_768), Some(32_767)),
        Some("uint32" | "uint64" | "uint128" | "uint") => (Some(0), None),
        Some("int32" | "int64" | "int128" | "int" | "float" | "double") => (None, None),
        _ => return false,
    };
    (schema.get("minimum").map(Value::as_i64), schema.get("maximum").map(Value::as_i64)) == (bounds.0.map(Some), bounds.1.map(Some))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use schemars::JsonSchema;
    use serde::Deserialize;
    use serde_json::json;

    use super::super::schema::of_input;
    use super::*;

    #[derive(Deserialize, JsonSchema)]
    #[allow(dead_code, reason = "only its schema is looked at")]
    #[serde(deny_unknown_fields)]
    struct Order {
        id: u32,
        note: Option<String>,
        size: Size,
        address: Option<Address>,
        tags: Vec<String>,
        #[serde(default)]
        prices: HashMap<String, f64>,
        #[schemars(required)]
        wanted: Option<bool>,
    }

    #[derive(Deserialize, JsonSchema)]
    #[allow(dead_code, reason = "only its schema is looked at")]
    struct Address {
        street: String,
    }

    #[derive(Deserialize, JsonSchema)]
    #[allow(dead_code, reason = "only its schema is looked at")]
    enum Size {
        /// For a child
        Small,
        /// For an adult
        Large,
    }

    fn told(raw: &str) -> String {
        let shape = Shape::of(&of_input::<Order>().expect("a struct")).expect("plain types need no compiled schema");
        shape.check(raw.as_bytes()).err().map_or_else(String::new, |violation| violation.to_string())
    }

    #[test]
    fn what_the_schema_admits_passes() {
        assert_eq!(told(r#"{"id":1,"size":"Small","tags":["a"],"wanted":true}"#), "");
        assert_eq!(
            told(r#"{"id":1,"note":null,"size":"Small","address":{"street":"x","more":1},"tags":[],"prices":{"a":1.5},"wanted":false}"#),
            ""
        );
    }

    #[derive(Deserialize, JsonSchema)]
    #[allow(dead_code, reason = "only its schema is looked at")]
    struct Flat {
        text: String,
        textual: Option<bool>,
        number: f64,
    }

    #[test]
    fn the_quick_look_and_the_close_one_agree() {
        let shape = Shape::of(&of_input::<Flat>().expect("a struct")).expect("plain types");
        let quick = shape.object.as_deref().expect("an object");
        assert!(quick.is_plain);
        let mut close = quick.clone();
        close.is_plain = false;
        for (raw, passes) in [
            (r#"{"text":"a","number":1}"#, Some(true)),
            (r#"{ "text" : "a\"b\\" , "number" : -1.5e3 , "textual" : null }"#, Some(true)),
            (r#"{"number":1,"textual":true,"text":""}"#, Some(true)),
            (r#"{"text":"a","number":1,"number":2}"#, Some(true)),
            (r#"{"text":"a","number":"1"}"#, Some(false)),
            (r#"{"text":"a"}"#, Some(false)),
            ("{}", Some(false)),
            ("{ }", Some(false)),
            (r#"{"text":"a","number":1,"other":2}"#, None),
            (r#"{"te\u0078t":"a","number":1}"#, None),
            (r#"{"text":"a","number":1,"textual":[]}"#, Some(false)),
            (r#"{"text":"a","number":{"number":1}}"#, Some(false)),
        ] {
            json::validate(raw.as_bytes()).expect(raw);
            assert_eq!(quick.passes_plainly(raw.as_bytes()), passes, "{raw}");
            assert_eq!(quick.check(raw.as_bytes()), close.check(raw.as_bytes()), "{raw}");
            assert!(passes != Some(true) || close.check(raw.as_bytes()).is_ok(), "{raw}");
        }
    }

    #[test]
    fn what_serde_is_lax_about_is_caught_and_named() {
        assert_eq!(told("[1,2]"), "expected an object, found an array");
        assert_eq!(told(r#"{"id":1,"size":{"Small":null},"tags":[],"wanted":true}"#), "`size`: expected a string, found an object");
        assert_eq!(
            told(r#"{"id":1,"size":"Small","tags":[],"wanted":true,"address":["x"]}"#),
            "`address`: expected an object or null, found an array"
        );
        assert_eq!(told(r#"{"id":1,"size":"Small","tags":["a",2],"wanted":true}"#), "`tags[1]`: expected a string, found a number");
        assert_eq!(
            told(r#"{"id":1,"size":"Small","tags":[],"prices":{"x":"1"},"wanted":true}"#),
            "`prices.x`: expected a number, found a string"
        );
        assert_eq!(told(r#"{"id":1,"size":"Small","tags":[]}"#), "missing field `wanted`");
        assert!(told(r#"{"id":1,"size":"Small","tags":[],"wanted":true,"x":1}"#).starts_with("unknown field `x`"));
    }

    #[test]
    fn anything_unknown_gives_up() {
        for schema in [
            json!({"type": "object", "properties": {"a": {"type": "string", "pattern": "x"}}}),
            json!({"type": "object", "properties": {"a": {"type": "integer", "format": "uint8", "minimum": 1, "maximum": 255}}}),
            json!({"type": "object", "minProperties": 1}),
            json!({"type": "object", "properties": {"a": {"type": "array", "uniqueItems": true}}}),
            json!({"type": "object", "properties": {"a": {"oneOf": [{"type": "string"}, {"type": "integer"}]}}}),
            json!({"type": "object", "properties": {"a": {"$ref": "#"}}}),
            json!(false),
        ] {
            assert_eq!(Shape::of(&schema), None, "{schema}");
        }
    }
}
