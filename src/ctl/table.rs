//! Tables for people.

use serde_json::Value;

/// Prints rows below a heading, in columns as wide as what stands in them. Values that are no text are shown as JSON has them.
pub fn lines(columns: &[(&str, &str)], items: &[Value]) -> Vec<String> {
    let mut rows: Vec<Vec<String>> = vec![columns.iter().map(|(heading, _)| (*heading).to_owned()).collect()];
    rows.extend(items.iter().map(|item| columns.iter().map(|(_, pointer)| cell(item, pointer)).collect()));
    let widths: Vec<usize> =
        (0..columns.len()).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn cell(item: &Value, pointer: &str) -> String {
    match item.pointer(pointer) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "-".to_owned(),
        // What a server said of itself must not move the cursor.
        Some(Value::String(text)) => text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect(),
        Some(Value::Array(values)) if values.is_empty() => "-".to_owned(),
        Some(Value::Array(values)) => values.iter().map(|value| cell(value, "")).collect::<Vec<_>>().join(", "),
        Some(Value::Bool(true)) => "yes".to_owned(),
        Some(Value::Bool(false)) => "no".to_owned(),
        Some(value) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let items = [json!({"name": "a\u{1b}", "n": {"t": 12}, "s": []}), json!({"name": "bäb", "s": ["x", "y"]})];
        assert_eq!(
            lines(&[("NAME", "/name"), ("TOOLS", "/n/t"), ("SERVERS", "/s")], &items),
            ["NAME  TOOLS  SERVERS", "a     12     -", "bäb   -      x, y"]
        );
    }
}
