//! Sampling: having the client's model write something.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::ask::AskError;
use super::content::{Content, Role};

/// What the client's model is to write: see [`Context::sample`](super::Context::sample).
///
/// ```
/// use ringhub::native::{testing::Client, Context, Empty, Sampling, Server, Tool, ToolError};
///
/// let server = Server::builder("demo", "1.0")
///     .tool_async(Tool::new("haiku"), |_: Empty, cx: Context| async move {
///         let wanted = Sampling::new(100)
///             .system("You are a poet")
///             .user("Write a haiku about rings")
///             .temperature(0.7)
///             .stop("\n\n")
///             .prefer_model("claude");
///         Ok::<_, ToolError>(cx.sample("haiku", wanted).await?.text())
///     })
///     .build()?;
/// let written = serde_json::json!({"role": "assistant", "model": "m", "content": {"type": "text", "text": "Round it goes"}});
/// let mut client = Client::new(server).answer("haiku", written);
/// assert_eq!(client.call("haiku", serde_json::json!({}))?.text(), "Round it goes");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sampling {
    messages: Vec<Message>,
    max_tokens: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_prompt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stop_sequences: Vec<String>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    model_preferences: Map<String, Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Value>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    metadata: Map<String, Value>,
}

#[derive(Clone, Debug, Serialize)]
struct Message {
    role: Role,
    content: Value,
}

impl Sampling {
    /// Something of at most `max_tokens` tokens.
    #[must_use]
    pub fn new(max_tokens: u32) -> Self {
        Self {
            messages: Vec::new(),
            max_tokens,
            system_prompt: None,
            temperature: None,
            stop_sequences: Vec::new(),
            model_preferences: Map::new(),
            tools: Vec::new(),
            tool_choice: None,
            metadata: Map::new(),
        }
    }

    /// Adds a message of the user.
    #[must_use]
    pub fn user(self, content: impl Into<Content>) -> Self {
        self.message(Role::User, &content.into())
    }

    /// Adds a message of the assistant.
    #[must_use]
    pub fn assistant(self, content: impl Into<Content>) -> Self {
        self.message(Role::Assistant, &content.into())
    }

    /// Adds a message whose content is JSON of the sampling schema, such as tool uses and their results.
    #[must_use]
    pub fn raw_message(mut self, role: Role, content: Value) -> Self {
        self.messages.push(Message { role, content });
        self
    }

    /// Sets the system prompt.
    #[must_use]
    pub fn system(mut self, prompt: impl Into<String>) -> Self {
        self.system_prompt = Some(prompt.into());
        self
    }

    /// Sets the temperature.
    #[must_use]
    pub const fn temperature(mut self, temperature: f64) -> Self {
        self.temperature = Some(temperature);
        self
    }

    /// Adds a text at which to stop.
    #[must_use]
    pub fn stop(mut self, sequence: impl Into<String>) -> Self {
        self.stop_sequences.push(sequence.into());
        self
    }

    /// Adds a model, or part of a model's name, that would suit; the first one matters most.
    #[must_use]
    pub fn prefer_model(mut self, name: impl Into<String>) -> Self {
        let hints = self.model_preferences.entry("hints").or_insert_with(|| json!([]));
        if let Value::Array(hints) = hints {
            hints.push(json!({"name": name.into()}));
        }
        self
    }

    /// Says how much cost, speed and intelligence matter, each from 0 to 1.
    #[must_use]
    pub fn priorities(mut self, cost: f64, speed: f64, intelligence: f64) -> Self {
        for (name, value) in [("costPriority", cost), ("speedPriority", speed), ("intelligencePriority", intelligence)] {
            self.model_preferences.insert(name.to_owned(), json!(value.clamp(0.0, 1.0)));
        }
        self
    }

    /// Adds a tool that the model may use: a JSON object with `name`, `description` and `inputSchema` (2025-11-25 and later).
    #[must_use]
    pub fn tool(mut self, tool: Value) -> Self {
        self.tools.push(tool);
        self
    }

    /// Says how the model is to use the tools: `auto`, `required` or `none`.
    #[must_use]
    pub fn tool_choice(mut self, mode: &str) -> Self {
        self.tool_choice = Some(json!({"mode": mode}));
        self
    }

    /// Adds a member to the metadata for the model's provider.
    #[must_use]
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.metadata.insert(name.into(), value.into());
        self
    }

    fn message(self, role: Role, content: &Content) -> Self {
        // Content made by this crate always has a JSON form.
        let content = serde_json::to_value(content).unwrap_or_default();
        self.raw_message(role, content)
    }

    pub(super) fn has_tools(&self) -> bool {
        !self.tools.is_empty() || self.tool_choice.is_some()
    }

    pub(super) fn params(&self) -> Result<Vec<u8>, AskError> {
        serde_json::to_vec(self).map_err(|error| AskError::Invalid(error.to_string()))
    }
}

/// What the client's model wrote.
///
/// ```
/// use ringhub::native::Sampled;
/// let written = serde_json::json!({
///     "role": "assistant", "model": "m", "stopReason": "endTurn",
///     "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}],
/// });
/// let sampled: Sampled = serde_json::from_value(written)?;
/// assert_eq!((sampled.text().as_str(), sampled.blocks().len(), sampled.stop_reason.as_deref()), ("one\ntwo", 2, Some("endTurn")));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Sampled {
    /// Whose words it is: the assistant's, as a rule.
    pub role: Role,
    /// The content: one block, or a list of blocks, as JSON.
    pub content: Value,
    /// The model that wrote it.
    pub model: String,
    /// Why it stopped: `endTurn`, `stopSequence`, `maxTokens`, `toolUse`, or what its provider says.
    pub stop_reason: Option<String>,
}

impl Sampled {
    /// All its text, blocks joined by a line break.
    #[must_use]
    pub fn text(&self) -> String {
        let texts: Vec<&str> = self.blocks().iter().filter_map(|block| block.get("text")?.as_str()).collect();
        texts.join("\n")
    }

    /// Its blocks of content.
    #[must_use]
    pub fn blocks(&self) -> &[Value] {
        match &self.content {
            Value::Array(blocks) => blocks,
            one => std::slice::from_ref(one),
        }
    }

    pub(super) fn read(raw: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(raw).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_what_was_set_and_nothing_else() {
        let params = Sampling::new(5).user("a").prefer_model("m").params().expect("it encodes");
        let value: Value = serde_json::from_slice(&params).expect("JSON");
        let expected = json!({
            "messages": [{"role": "user", "content": {"type": "text", "text": "a"}}],
            "maxTokens": 5,
            "modelPreferences": {"hints": [{"name": "m"}]},
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn an_answer_may_have_one_block_or_several() {
        let one = Sampled::read(br#"{"role":"assistant","model":"m","content":{"type":"text","text":"a"}}"#).expect("valid");
        assert_eq!(one.text(), "a");
        let raw =
            br#"{"role":"assistant","model":"m","content":[{"type":"text","text":"a"},{"type":"tool_use"},{"type":"text","text":"b"}]}"#;
        assert_eq!(Sampled::read(raw).expect("valid").text(), "a\nb");
        assert!(Sampled::read(br#"{"content":{"type":"text","text":"a"}}"#).is_err(), "role and model are required");
    }
}
