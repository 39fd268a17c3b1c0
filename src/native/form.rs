//! Schemas of forms: the flat subset of JSON Schema that elicitation allows (client/elicitation, "requested schema").

use schemars::JsonSchema;
use serde_json::{Map, Value, json};

use super::schema::{of_input, resolve};
use crate::wire::mcp::Version;

/// The form schema of a type, as the revision knows it.
pub(super) fn of<T: JsonSchema>(version: Version) -> Result<Value, String> {
    let derived = of_input::<T>()?;
    let mut properties = Map::new();
    for (name, schema) in derived.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let field = field(&derived, schema, version).map_err(|why| format!("field `{name}`: {why}"))?;
        properties.insert(name.clone(), Value::Object(field));
    }
    let mut form = Map::new();
    form.insert("type".to_owned(), json!("object"));
    form.insert("properties".to_owned(), Value::Object(properties));
    if let Some(required) = derived.get("required") {
        form.insert("required".to_owned(), required.clone());
    }
    Ok(Value::Object(form))
}

/// Whether a schema written by hand is flat.
pub(super) fn demand_flat(schema: &Value) -> Result<(), String> {
    super::schema::demand_object(schema)?;
    let properties = schema.get("properties").and_then(Value::as_object).ok_or("the schema has no `properties`")?;
    for (name, field) in properties {
        let kind = field.get("type").and_then(Value::as_str).unwrap_or_default();
        let is_flat = match kind {
            "string" | "number" | "integer" | "boolean" => true,
            "array" => field.pointer("/items/enum").is_some() || field.pointer("/items/anyOf").is_some(),
            _ => false,
        };
        if !is_flat {
            return Err(format!("field `{name}`: a form has strings, numbers, booleans, enumerations and lists of enumerated values only"));
        }
    }
    Ok(())
}

/// The schema of one field, with references and `Option`s resolved.
fn field(root: &Value, schema: &Value, version: Version) -> Result<Map<String, Value>, String> {
    let resolved = flatten(root, schema)?;
    let mut field = Map::new();
    for word in ["title", "description", "default"] {
        if let Some(value) = resolved.get(word).filter(|value| !value.is_null()) {
            field.insert(word.to_owned(), value.clone());
        }
    }
    if let Some(options) = options(&resolved) {
        field.insert("type".to_owned(), json!("string"));
        put_options(&mut field, &options, version);
        return Ok(field);
    }
    match resolved.get("type").and_then(Value::as_str) {
        Some(kind @ "string") => copy(&resolved, &mut field, kind, &["minLength", "maxLength", "format"]),
        Some(kind @ ("number" | "integer")) => copy(&resolved, &mut field, kind, &["minimum", "maximum"]),
        Some(kind @ "boolean") => copy(&resolved, &mut field, kind, &[]),
        Some("array") => return choices(root, &resolved, field, version),
        Some(kind) => return Err(format!("a form has no fields of type {kind}")),
        None => return Err("a form has strings, numbers, booleans, enumerations and lists of these alone".to_owned()),
    }
    if let Some(format) = field.get("format").and_then(Value::as_str)
        && !matches!(format, "email" | "uri" | "date" | "date-time")
    {
        field.remove("format");
    }
    Ok(field)
}

fn copy(from: &Map<String, Value>, to: &mut Map<String, Value>, kind: &str, words: &[&str]) {
    to.insert("type".to_owned(), json!(kind));
    for word in words {
        if let Some(value) = from.get(*word) {
            to.insert((*word).to_owned(), value.clone());
        }
    }
}

/// Several of an enumeration's values.
fn choices(
    root: &Value,
    schema: &Map<String, Value>,
    mut field: Map<String, Value>,
    version: Version,
) -> Result<Map<String, Value>, String> {
    if matches!(version, Version::V2024_11_05 | Version::V2025_03_26 | Version::V2025_06_18) {
        return Err(format!("revision {} knows no lists in forms", version.as_str()));
    }
    let items = schema.get("items").ok_or("a list in a form needs the schema of its items")?;
    let options = options(&flatten(root, items)?).ok_or("a list in a form must be of enumerated values")?;
    copy(schema, &mut field, "array", &["minItems", "maxItems"]);
    let items = if options.iter().any(|(_, title)| title.is_some()) {
        json!({"anyOf": titled(&options)})
    } else {
        json!({"type": "string", "enum": values(&options)})
    };
    field.insert("items".to_owned(), items);
    Ok(field)
}

/// Follows `$ref` and `Option`. What stands beside a reference wins over what it leads to.
fn flatten(root: &Value, schema: &Value) -> Result<Map<String, Value>, String> {
    let mut flat = schema.as_object().cloned().ok_or("anything at all cannot be asked for in a form")?;
    for _ in 0..4 {
        let below = if let Some(reference) = flat.remove("$ref") {
            reference.as_str().and_then(|reference| resolve(root, reference)).cloned()
        } else if let Some(Value::Array(choices)) = flat.get("anyOf") {
            let mut some: Vec<Value> = choices.iter().filter(|choice| choice.get("type") != Some(&json!("null"))).cloned().collect();
            (some.len() == 1).then(|| some.remove(0))
        } else {
            break;
        };
        flat.remove("anyOf");
        let below = below.as_ref().and_then(Value::as_object).ok_or("a form has no fields that are one of several types")?.clone();
        for (word, value) in below {
            flat.entry(word).or_insert(value);
        }
    }
    if let Some(Value::Array(kinds)) = flat.get("type") {
        let kinds: Vec<Value> = kinds.iter().filter(|kind| *kind != "null").cloned().collect();
        let [kind] = kinds.as_slice() else { return Err("a form has no fields that are one of several types".to_owned()) };
        flat.insert("type".to_owned(), kind.clone());
    }
    if let Some(Value::Array(values)) = flat.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    Ok(flat)
}

/// The values of an enumeration, each with its title if it has one.
type Options = Vec<(String, Option<String>)>;

fn options(schema: &Map<String, Value>) -> Option<Options> {
    if let Some(values) = schema.get("enum") {
        return values.as_array()?.iter().map(|value| Some((value.as_str()?.to_owned(), None))).collect();
    }
    if let Some(value) = schema.get("const") {
        return Some(vec![(value.as_str()?.to_owned(), None)]);
    }
    let mut options = Options::new();
    for choice in schema.get("oneOf")?.as_array()? {
        let title = choice.get("title").or_else(|| choice.get("description")).and_then(Value::as_str).map(str::to_owned);
        match choice.get("const") {
            Some(value) => options.push((value.as_str()?.to_owned(), title)),
            // schemars gathers the variants without a doc comment in one choice.
            None => options.extend(choice.get("enum")?.as_array()?.iter().filter_map(|value| Some((value.as_str()?.to_owned(), None)))),
        }
    }
    Some(options)
}

fn put_options(field: &mut Map<String, Value>, options: &Options, version: Version) {
    if options.iter().all(|(_, title)| title.is_none()) {
        field.insert("enum".to_owned(), json!(values(options)));
    } else if version == Version::V2025_06_18 {
        let names: Vec<&String> = options.iter().map(|(value, title)| title.as_ref().unwrap_or(value)).collect();
        field.insert("enumNames".to_owned(), json!(names));
        field.insert("enum".to_owned(), json!(values(options)));
    } else {
        field.insert("oneOf".to_owned(), titled(options));
    }
}

fn values(options: &Options) -> Vec<&String> {
    options.iter().map(|(value, _)| value).collect()
}

fn titled(options: &Options) -> Value {
    options.iter().map(|(value, title)| json!({"const": value, "title": title.as_ref().unwrap_or(value)})).collect()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize, JsonSchema)]
    #[allow(dead_code, reason = "only its schema is looked at")]
    struct Person {
        /// Your name
        #[schemars(length(min = 1, max = 50))]
        name: String,
        #[schemars(email)]
        email: Option<String>,
        #[schemars(range(min = 0, max = 150))]
        #[serde(default = "thirty")]
        age: u8,
        score: f64,
        member: bool,
        color: Option<Color>,
        sizes: Vec<Size>,
    }

    fn thirty() -> u8 {
        30
    }

    #[derive(Deserialize, JsonSchema)]
    #[allow(dead_code, reason = "only its schema is looked at")]
    enum Color {
        Red,
        Green,
    }

    #[derive(Deserialize, JsonSchema)]
    #[allow(dead_code, reason = "only its schema is looked at")]
    enum Size {
        #[schemars(title = "Small one")]
        S,
        #[schemars(title = "Large one")]
        L,
    }

    #[derive(Deserialize, JsonSchema)]
    #[allow(dead_code, reason = "only its schema is looked at")]
    struct One {
        size: Size,
    }

    #[test]
    fn a_type_becomes_a_flat_form() {
        let form = of::<Person>(Version::V2026_07_28).expect("flat");
        let fields = &form["properties"];
        assert_eq!(fields["name"], json!({"type": "string", "description": "Your name", "minLength": 1, "maxLength": 50}));
        assert_eq!(fields["email"], json!({"type": "string", "format": "email"}));
        assert_eq!(fields["age"], json!({"type": "integer", "minimum": 0, "maximum": 150, "default": 30}));
        assert_eq!(fields["score"], json!({"type": "number"}));
        assert_eq!(fields["member"], json!({"type": "boolean"}));
        assert_eq!(fields["color"], json!({"type": "string", "enum": ["Red", "Green"]}));
        let sizes = json!([{"const": "S", "title": "Small one"}, {"const": "L", "title": "Large one"}]);
        assert_eq!(fields["sizes"], json!({"type": "array", "items": {"anyOf": sizes}}));
        assert!(form["required"].as_array().is_some_and(|required| !required.contains(&json!("age")) && required.contains(&json!("name"))));
        assert!(super::super::schema::compile(&form).is_ok());
    }

    #[test]
    fn older_revisions_get_what_they_know() {
        let form = of::<One>(Version::V2025_06_18).expect("flat");
        assert_eq!(form["properties"]["size"], json!({"type": "string", "enum": ["S", "L"], "enumNames": ["Small one", "Large one"]}));
        assert!(of::<Person>(Version::V2025_06_18).is_err_and(|why| why.contains("`sizes`")));
    }

    #[test]
    fn what_is_not_flat_is_refused() {
        #[derive(Deserialize, JsonSchema)]
        #[allow(dead_code, reason = "only its schema is looked at")]
        struct Deep {
            one: One,
        }
        assert!(of::<Deep>(Version::V2026_07_28).is_err_and(|why| why.contains("`one`")));
        assert!(demand_flat(&json!({"type": "object", "properties": {"a": {"type": "object"}}})).is_err());
        assert!(demand_flat(&json!({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "string"}}}})).is_err());
        assert!(demand_flat(&json!({"type": "object", "properties": {"a": {"type": "string", "enum": ["x"]}}})).is_ok());
    }
}
