//! What becomes of mirrored arguments (see [`header_params`](crate::wire::mcp::header_params)) in schemas that are derived.

use serde_json::Value;

/// The word in a property's schema.
const WORD: &str = "x-mcp-header";

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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_optional_mirrored_argument_becomes_a_plain_one() {
        let mut schema = json!({"properties": {"a": {"type": ["string", "null"], "x-mcp-header": "A"}, "b": {"type": ["string", "null"]}}});
        plain_types(&mut schema);
        assert_eq!(schema["properties"]["a"]["type"], "string");
        assert_eq!(schema["properties"]["b"]["type"], json!(["string", "null"]));
    }
}
