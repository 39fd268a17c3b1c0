//! Arguments that clients mirror into HTTP headers (2026-07-28, basic/transports/streamable-http, "x-mcp-header").

use serde_json::{Map, Value};

/// The word in a property's schema.
const WORD: &str = "x-mcp-header";

/// What a mirrored argument is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum HeaderKind {
    String,
    Integer,
    Boolean,
}

/// One argument that travels in the header `Mcp-Param-{name}` as well.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct HeaderParam {
    /// As written in the schema; header names are compared without regard to case.
    pub name: String,
    /// Names of members that lead to the argument, from the root of the arguments.
    pub path: Vec<String>,
    pub kind: HeaderKind,
}

/// Finds the mirrored arguments of an input schema.
pub(crate) fn of(schema: &Value) -> Result<Vec<HeaderParam>, String> {
    let mut found = Vec::new();
    if let Some(root) = schema.as_object() {
        collect(root, &mut Vec::new(), &mut found)?;
    }
    for (index, param) in found.iter().enumerate() {
        if found[..index].iter().any(|other| other.name.eq_ignore_ascii_case(&param.name)) {
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

/// Makes optional mirrored arguments of a derived schema (a type or null) plain ones: clients drop a tool whose mirrored argument has
/// another type than string, integer or boolean, and an argument that is null is one that is absent.
pub(super) fn plain_types(schema: &mut Value) {
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return };
    for property in properties.values_mut() {
        if property.get(WORD).is_some()
            && let Some(Value::Array(kinds)) = property.get_mut("type")
        {
            kinds.retain(|kind| kind != "null");
            if let [kind] = kinds.as_slice() {
                property["type"] = kind.clone();
            }
        }
        plain_types(property);
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
        let found = of(&schema).expect("all valid");
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
        assert_eq!(of(&schema), Ok(Vec::new()));
    }

    #[test]
    fn an_optional_mirrored_argument_becomes_a_plain_one() {
        let mut schema = json!({"properties": {"a": {"type": ["string", "null"], "x-mcp-header": "A"}, "b": {"type": ["string", "null"]}}});
        plain_types(&mut schema);
        assert_eq!(schema["properties"]["a"]["type"], "string");
        assert_eq!(schema["properties"]["b"]["type"], json!(["string", "null"]));
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
            assert!(of(&json!({"type": "object", "properties": properties})).is_err(), "{properties}");
        }
        assert!(of(&json!({"type": "object", "$defs": {"a": {"type": "string", "x-mcp-header": "A"}}})).is_err());
        assert!(of(&json!({"type": "object", "x-mcp-header": "A"})).is_err());
    }
}
