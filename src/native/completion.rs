//! Completion: what a user may mean while typing the argument of a prompt, or the variable of a resource template.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::context::Context;

/// Most values one answer may hold (server/utilities/completion).
const VALUES_MAX: usize = 100;

/// What has been typed so far: given to a completer.
///
/// ```
/// use ringhub::native::{testing::Client, Completing, Context, Prompt, Server};
///
/// #[derive(serde::Deserialize, schemars::JsonSchema)]
/// struct Weather { city: String, country: Option<String> }
///
/// let server = Server::builder("demo", "1.0")
///     .prompt("weather", |args: Weather, _: &Context| format!("How is the weather in {}?", args.city))
///     .complete_prompt("weather", "city", |typed: &Completing, _: &Context| {
///         let cities = if typed.argument("country") == Some("fr") { ["Paris", "Lyon"] } else { ["Oslo", "Porto"] };
///         cities.into_iter().filter(|city| city.starts_with(&typed.value)).map(str::to_owned).collect()
///     })
///     .build()?;
/// let mut client = Client::new(server);
/// assert_eq!(client.complete_prompt("weather", "city", "P")?, ["Porto"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Completing {
    /// What has been typed.
    pub value: String,
    /// Arguments given before, by name.
    arguments: Vec<(String, String)>,
}

impl Completing {
    /// The value of an argument given before.
    #[must_use]
    pub fn argument(&self, name: &str) -> Option<&str> {
        self.arguments.iter().find(|(named, _)| named == name).map(|(_, value)| value.as_str())
    }
}

/// Gives the values that complete what has been typed, best first.
pub(super) type Complete = Box<dyn Fn(&Completing, &Context) -> Vec<String>>;

/// A completer as the server keeps it.
pub(crate) struct CompleterEntry {
    pub target: Target,
    pub argument: String,
    pub complete: Complete,
}

/// What is completed.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(tag = "type")]
pub(crate) enum Target {
    #[serde(rename = "ref/prompt")]
    Prompt { name: String },
    #[serde(rename = "ref/resource")]
    Resource { uri: String },
}

/// `params` of `completion/complete`.
#[derive(Deserialize)]
pub(super) struct CompleteParams {
    #[serde(rename = "ref")]
    pub target: Target,
    pub argument: Typed,
    #[serde(default)]
    context: Option<Given>,
}

#[derive(Deserialize)]
pub(super) struct Typed {
    pub name: String,
    pub value: String,
}

#[derive(Deserialize)]
struct Given {
    #[serde(default)]
    arguments: Option<Map<String, Value>>,
}

impl CompleteParams {
    pub fn completing(&mut self) -> Completing {
        let given = self.context.take().and_then(|given| given.arguments).unwrap_or_default();
        let text = |(name, value)| match value {
            Value::String(value) => Some((name, value)),
            _ => None,
        };
        Completing { value: std::mem::take(&mut self.argument.value), arguments: given.into_iter().filter_map(text).collect() }
    }
}

/// Writes the members of the result.
pub(super) fn write(mut values: Vec<String>, out: &mut Vec<u8>) {
    let total = values.len();
    values.truncate(VALUES_MAX);
    let completion = json!({"values": values, "total": total, "hasMore": total > VALUES_MAX});
    out.extend_from_slice(br#""completion":"#);
    out.extend_from_slice(completion.to_string().as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_a_hundred_values_at_most() {
        let mut out = b"{".to_vec();
        write((0..250).map(|n| n.to_string()).collect(), &mut out);
        out.push(b'}');
        let value: Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!(value["completion"]["values"].as_array().map(Vec::len), Some(VALUES_MAX));
        assert_eq!((&value["completion"]["total"], &value["completion"]["hasMore"]), (&json!(250), &json!(true)));
    }

    #[test]
    fn arguments_given_before_are_there() {
        let raw =
            br#"{"ref":{"type":"ref/prompt","name":"p"},"argument":{"name":"a","value":"x"},"context":{"arguments":{"b":"y","c":1}}}"#;
        let mut params: CompleteParams = serde_json::from_slice(raw).expect("valid");
        let typed = params.completing();
        assert_eq!((typed.value.as_str(), typed.argument("b"), typed.argument("c")), ("x", Some("y"), None));
    }
}
