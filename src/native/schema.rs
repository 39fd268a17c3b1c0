//! JSON Schemas: derived from types, or written by hand and compiled.

use std::borrow::Cow;

use jsonschema::Validator;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::header;
use super::shape::Shape;

/// Most violations told at once.
const VIOLATIONS_TOLD_MAX: usize = 5;
/// Longest text of one violation, bytes: it can quote the value it is about.
const VIOLATION_BYTES_MAX: usize = 300;

/// The schema of what a handler takes, with type `object` at its root, as MCP asks (server/tools, `inputSchema`).
///
/// The dialect is left out (2020-12 is the default) and so is the title that is but the type's name: clients hand schemas to models,
/// and each word there has a price.
pub(super) fn of_input<T: JsonSchema>() -> Result<Value, String> {
    let mut schema = derive::<T>(SchemaSettings::draft2020_12().for_deserialize());
    let Some(root) = schema.as_object_mut() else { return Ok(json!({"type": "object"})) };
    match root.get("type") {
        None => {
            root.insert("type".to_owned(), json!("object"));
        }
        Some(Value::String(kind)) if kind == "object" => {}
        Some(kind) => return Err(format!("the argument type's schema has type {kind}; arguments are always a JSON object")),
    }
    header::plain_types(&mut schema);
    Ok(schema)
}

/// The schema of what a handler answers.
pub(super) fn of_output<T: JsonSchema>() -> Value {
    derive::<T>(SchemaSettings::draft2020_12().for_serialize())
}

fn derive<T: JsonSchema>(settings: SchemaSettings) -> Value {
    let settings = settings.with(|settings| settings.meta_schema = None);
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    if schema.get("title").and_then(Value::as_str) == Some(&T::schema_name()) {
        schema.remove("title");
    }
    schema.to_value()
}

/// Compiles a schema. Nothing is ever fetched: a reference that leads out of the schema is an error.
pub(super) fn compile(schema: &Value) -> Result<Validator, String> {
    jsonschema::options()
        .should_validate_formats(true)
        .build(schema)
        .map_err(|error| format!("the schema is not valid: {}", located(error.instance_path().as_str(), &error.to_string())))
}

/// A schema must be an object whose `type` is `object`.
pub(super) fn demand_object(schema: &Value) -> Result<(), String> {
    match schema.get("type") {
        Some(Value::String(kind)) if kind == "object" => Ok(()),
        _ => Err("the schema's root must have \"type\": \"object\"".to_owned()),
    }
}

/// How arguments are held to their schema.
pub(super) enum Check {
    /// Nothing to hold to: any object will do.
    Nothing,
    /// The decoder of the type enforces it, helped by a look at the kinds of the values.
    Shape(Shape),
    /// Compiled, and run on each.
    Compiled(Box<Validator>),
}

impl Check {
    /// For a schema derived from the type that the arguments are decoded to: compiled only if it says what decoding does not enforce.
    pub fn derived(schema: &Value) -> Result<Self, String> {
        match Shape::of(schema) {
            Some(shape) => Ok(Self::Shape(shape)),
            None => Self::hand_written(schema),
        }
    }

    /// For any schema.
    pub fn hand_written(schema: &Value) -> Result<Self, String> {
        Ok(Self::Compiled(Box::new(compile(schema)?)))
    }

    /// Holds raw arguments to the schema. The error says where and why, for the model.
    pub fn run(&self, raw: &[u8]) -> Result<(), String> {
        match self {
            Self::Nothing => Ok(()),
            Self::Shape(shape) => shape.check(raw).map_err(|violation| violation.to_string()),
            Self::Compiled(validator) => {
                let value: Value = serde_json::from_slice(raw).map_err(|error| error.to_string())?;
                violations(validator, &value)
            }
        }
    }
}

/// Runs a compiled schema. The error names the places.
pub(super) fn violations(validator: &Validator, value: &Value) -> Result<(), String> {
    if validator.is_valid(value) {
        return Ok(());
    }
    let told: Vec<String> = validator
        .iter_errors(value)
        .take(VIOLATIONS_TOLD_MAX)
        .map(|error| located(error.instance_path().as_str(), &error.to_string()))
        .collect();
    Err(told.join("; "))
}

/// `pointer` is a JSON pointer: said as the decoder says it, `` `a.b`: … ``.
fn located(pointer: &str, what: &str) -> String {
    let what = if what.len() > VIOLATION_BYTES_MAX {
        Cow::Owned(format!("{}…", &what[..what.floor_char_boundary(VIOLATION_BYTES_MAX)]))
    } else {
        Cow::Borrowed(what)
    };
    let path = pointer.trim_start_matches('/').replace('/', ".").replace("~1", "/").replace("~0", "~");
    if path.is_empty() { what.into_owned() } else { format!("`{path}`: {what}") }
}

/// The definition that a `$ref` within the schema names.
pub(super) fn resolve<'a>(root: &'a Value, reference: &str) -> Option<&'a Value> {
    root.pointer(reference.strip_prefix('#')?)
}

/// Whether a schema admits objects alone, so far as its root says: what legacy revisions ask of an output schema.
pub(super) fn is_object(schema: &Value) -> bool {
    demand_object(schema).is_ok()
}

/// An object schema with nothing in it.
pub(super) fn any_object() -> Value {
    Value::Object(Map::from_iter([("type".to_owned(), json!("object"))]))
}

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize, JsonSchema)]
    #[allow(dead_code, reason = "only its schema is looked at")]
    struct Plain {
        /// How many
        count: u8,
        name: Option<String>,
        nested: Inner,
    }

    #[derive(Deserialize, JsonSchema)]
    #[allow(dead_code, reason = "only its schema is looked at")]
    struct Inner {
        list: Vec<i32>,
    }

    #[derive(Deserialize, JsonSchema)]
    #[allow(dead_code, reason = "only its schema is looked at")]
    struct Bounded {
        #[schemars(range(min = 1, max = 5))]
        stars: u8,
        #[schemars(length(min = 2))]
        name: String,
    }

    #[test]
    fn a_derived_schema_is_an_object_and_keeps_its_definitions() {
        let schema = of_input::<Plain>().expect("a struct");
        assert_eq!(schema["type"], "object");
        assert_eq!(schema["properties"]["nested"]["$ref"], "#/$defs/Inner");
        assert_eq!(schema["properties"]["count"]["description"], "How many");
        assert!(schema.get("$schema").is_none() && schema.get("title").is_none());
        assert!(resolve(&schema, "#/$defs/Inner").is_some());
        assert_eq!(of_input::<Value>().expect("anything"), any_object());
        assert!(of_input::<Vec<String>>().is_err());
    }

    #[test]
    fn only_what_decoding_leaves_open_is_compiled() {
        let check = Check::derived(&of_input::<Plain>().expect("a struct")).expect("valid");
        assert!(matches!(check, Check::Shape(_)));
        let check = Check::derived(&of_input::<Bounded>().expect("a struct")).expect("valid");
        assert!(matches!(check, Check::Compiled(_)));
        assert!(check.run(br#"{"stars":3,"name":"ab"}"#).is_ok());
        let told = check.run(br#"{"stars":9,"name":"a"}"#).expect_err("out of range");
        assert!(told.contains("`stars`") && told.contains("`name`"), "{told}");
    }

    #[test]
    fn nothing_is_fetched() {
        let told = compile(&json!({"type": "object", "properties": {"a": {"$ref": "https://example.com/schema.json"}}}));
        assert!(told.is_err());
        assert!(compile(&json!({"type": "object", "properties": {"a": {"$ref": "file:///etc/passwd"}}})).is_err());
        assert!(compile(&json!({"type": "objekt"})).is_err());
    }

    #[test]
    fn a_long_value_is_not_told_in_full() {
        let check = Check::hand_written(&json!({"type": "object", "properties": {"a": {"type": "integer"}}})).expect("valid");
        let raw = format!(r#"{{"a":"{}"}}"#, "é".repeat(10_000));
        let told = check.run(raw.as_bytes()).expect_err("not an integer");
        assert!(told.starts_with("`a`: ") && told.len() < 400, "{told}");
    }
}
