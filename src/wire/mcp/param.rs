//! Arguments that clients mirror into HTTP headers (2026-07-28, basic/transports/streamable-http, "x-mcp-header").

use serde_json::{Map, Value};

use super::header::encode;
use crate::wire::json;

/// The word in a property's schema.
const WORD: &str = "x-mcp-header";
/// What the names of such headers begin with.
pub const PARAM_PREFIX: &str = "Mcp-Param-";

/// What a mirrored argument is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeaderKind {
    /// A string.
    String,
    /// An integer.
    Integer,
    /// A boolean.
    Boolean,
}

/// One argument that travels in the header `Mcp-Param-{name}` as well.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeaderParam {
    /// As written in the schema; header names are compared without regard to case.
    pub name: String,
    /// Names of members that lead to the argument, from the root of the arguments.
    pub path: Vec<String>,
    /// What it is.
    pub kind: HeaderKind,
}

/// Finds the mirrored arguments of an input schema.
///
/// # Errors
/// Why one of them may not be mirrored.
pub fn header_params(schema: &Value) -> Result<Vec<HeaderParam>, String> {
    let mut found = Vec::new();
    if let Some(root) = schema.as_object() {
        collect(root, &mut Vec::new(), &mut found)?;
    }
    for (index, param) in found.iter().enumerate() {
        if found.iter().take(index).any(|other| other.name.eq_ignore_ascii_case(&param.name)) {
            return Err(format!("{WORD} {:?} is used twice (case does not count)", param.name));
        }
    }
    Ok(found)
}

/// Looks through `properties` alone; the word anywhere else is an error.
fn collect(schema: &Map<String, Value>, path: &mut Vec<String>, found: &mut Vec<HeaderParam>) -> Result<(), String> {
    if let Some(name) = schema.get(WORD) {
        found.push(param(schema, name, path)?);
    }
    for (word, below) in schema {
        if word == "properties" {
            for (name, property) in below.as_object().into_iter().flatten() {
                if let Some(property) = property.as_object() {
                    path.push(name.clone());
                    collect(property, path, found)?;
                    path.pop();
                }
            }
        } else if !matches!(word.as_str(), "default" | "const" | "enum" | "examples") && is_within(below) {
            return Err(format!("{WORD} stands under `{word}`: it may only be reached through `properties`"));
        }
    }
    Ok(())
}

fn param(schema: &Map<String, Value>, name: &Value, path: &[String]) -> Result<HeaderParam, String> {
    let at = path.join(".");
    if path.is_empty() {
        return Err(format!("{WORD} stands at the root: it belongs to a property"));
    }
    let name = name.as_str().filter(|name| !name.is_empty() && name.bytes().all(is_token_byte));
    let name = name.ok_or_else(|| format!("`{at}`: {WORD} must be a header name (RFC 9110 token)"))?;
    let kind = match schema.get("type").and_then(Value::as_str) {
        Some("string") => HeaderKind::String,
        Some("integer") => HeaderKind::Integer,
        Some("boolean") => HeaderKind::Boolean,
        _ => return Err(format!("`{at}`: {WORD} is for properties of type string, integer or boolean")),
    };
    Ok(HeaderParam { name: name.to_owned(), path: path.to_vec(), kind })
}

/// The mirrored arguments of a tool's definition, a raw JSON object. None when it says of none that it is, or what it says is not allowed.
#[must_use]
pub fn header_params_of(definition: &[u8]) -> Vec<HeaderParam> {
    if memchr::memmem::find(definition, WORD.as_bytes()).is_none() {
        return Vec::new();
    }
    let schema = json::get(definition, "inputSchema").and_then(|raw| serde_json::from_slice(raw).ok());
    schema.and_then(|schema| header_params(&schema).ok()).unwrap_or_default()
}

impl HeaderParam {
    /// The field that goes with these arguments: its name, and its value. An argument that is absent or `null` has none.
    #[must_use]
    pub fn field(&self, arguments: &[u8]) -> Option<(String, Vec<u8>)> {
        let raw = self.path.iter().try_fold(arguments, |at, name| json::get(at, name))?;
        let text = match raw.first()? {
            b'"' => json::string(raw)?,
            b'{' | b'[' | b'n' => return None,
            _ => std::str::from_utf8(raw).ok()?.into(),
        };
        let mut value = Vec::new();
        encode(&mut value, &text);
        Some((format!("{PARAM_PREFIX}{}", self.name), value))
    }
}

fn is_within(value: &Value) -> bool {
    match value {
        Value::Object(members) => members.contains_key(WORD) || members.values().any(is_within),
        Value::Array(items) => items.iter().any(is_within),
        _ => false,
    }
}

/// A byte of a token (RFC 9110 section 5.6.2).
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
#[allow(clippy::expect_used, clippy::indexing_slicing)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn mirrored_arguments_are_found_at_any_depth_of_properties() {
        let schema = json!({"type": "object", "properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "where": {"type": "object", "properties": {"zone": {"type": "integer", "x-mcp-header": "Zone"}}},
            "dry": {"type": "boolean", "x-mcp-header": "Dry"},
        }});
        let found = header_params(&schema).expect("all valid");
        let mut told: Vec<_> = found.iter().map(|param| (param.name.as_str(), param.path.join("."), param.kind)).collect();
        told.sort_by_key(|param| param.0);
        assert_eq!(
            told,
            [
                ("Dry", "dry".to_owned(), HeaderKind::Boolean),
                ("Region", "region".to_owned(), HeaderKind::String),
                ("Zone", "where.zone".to_owned(), HeaderKind::Integer)
            ]
        );
    }

    #[test]
    fn a_property_may_have_any_name() {
        let schema = json!({"type": "object", "properties": {"x-mcp-header": {"type": "string"}}});
        assert_eq!(header_params(&schema), Ok(Vec::new()));
    }

    #[test]
    fn invalid_annotations_are_refused() {
        for properties in [
            json!({"a": {"type": "string", "x-mcp-header": ""}}),
            json!({"a": {"type": "string", "x-mcp-header": "a b"}}),
            json!({"a": {"type": "string", "x-mcp-header": 5}}),
            json!({"a": {"type": "number", "x-mcp-header": "A"}}),
            json!({"a": {"type": "object", "x-mcp-header": "A"}}),
            json!({"a": {"type": ["string", "null"], "x-mcp-header": "A"}}),
            json!({"a": {"x-mcp-header": "A"}}),
            json!({"a": {"type": "string", "x-mcp-header": "A"}, "b": {"type": "string", "x-mcp-header": "a"}}),
            json!({"a": {"type": "array", "items": {"type": "string", "x-mcp-header": "A"}}}),
            json!({"a": {"oneOf": [{"type": "string", "x-mcp-header": "A"}]}}),
        ] {
            assert!(header_params(&json!({"type": "object", "properties": properties})).is_err(), "{properties}");
        }
        assert!(header_params(&json!({"type": "object", "$defs": {"a": {"type": "string", "x-mcp-header": "A"}}})).is_err());
        assert!(header_params(&json!({"type": "object", "x-mcp-header": "A"})).is_err());
    }
}
