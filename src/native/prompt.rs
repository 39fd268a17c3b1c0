//! Prompts: messages that a client's user picks.

use std::borrow::Cow;
use std::future::Future;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::ask::AskError;
use super::content::{Content, Icon, Role};
use super::context::Context;
use super::error::ToolError;
use super::outcome::{Finished, Outcome, RpcError, Started};
use super::schema::{self, Check};
use crate::wire::json::Decoder;
use crate::wire::mcp::Version;

/// What a prompt is called and said to be. Its handler is given beside it: see [`Builder::prompt`](super::Builder::prompt).
///
/// Its arguments are listed from the handler's argument type: names, doc comments, and which are required. The protocol carries them as
/// text, so the fields are to be `String`s, enumerations, or `Option`s of these.
///
/// ```
/// use ringhub::native::{testing::Client, Context, Prompt, Server};
///
/// #[derive(serde::Deserialize, schemars::JsonSchema)]
/// struct Review {
///     /// The code to review
///     code: String,
///     style: Option<String>,
/// }
///
/// let server = Server::builder("demo", "1.0")
///     .prompt(Prompt::new("review").title("Review").description("Reviews code"), |args: Review, _: &Context| {
///         format!("Review this code:\n{}", args.code)
///     })
///     .build()?;
/// let mut client = Client::new(server);
/// assert_eq!(client.prompts()[0]["arguments"][0], serde_json::json!({"name": "code", "description": "The code to review", "required": true}));
/// assert_eq!(client.prompt("review", serde_json::json!({"code": "x = 1"}))?.text(), "Review this code:\nx = 1");
/// assert!(client.prompt("review", serde_json::json!({})).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Prompt {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    arguments: Vec<Argument>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    icons: Vec<Icon>,
    #[serde(rename = "_meta", skip_serializing_if = "Map::is_empty")]
    meta: Map<String, Value>,
}

/// An argument as listed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct Argument {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    required: bool,
}

impl Prompt {
    /// A prompt of this name.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Its name for people.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// What it is for.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// Adds a picture of it.
    #[must_use]
    pub fn icon(mut self, icon: Icon) -> Self {
        self.icons.push(icon);
        self
    }

    /// Adds a member to its `_meta`.
    #[must_use]
    pub fn meta(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.meta.insert(name.into(), value.into());
        self
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl From<&str> for Prompt {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

/// One message of a prompt.
///
/// ```
/// use ringhub::native::{testing::Client, Content, Context, Empty, PromptMessage, PromptResult, Server};
///
/// let server = Server::builder("demo", "1.0")
///     .prompt("talk", |_: Empty, _: &Context| {
///         PromptResult::new()
///             .description("A short talk")
///             .message(PromptMessage::user("Look at this"))
///             .message(PromptMessage::user(Content::image(b"...", "image/png")))
///             .message(PromptMessage::assistant("I see"))
///     })
///     .build()?;
/// let reply = Client::new(server).prompt("talk", serde_json::json!({}))?;
/// assert_eq!(reply.result["messages"][2]["role"], "assistant");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct PromptMessage {
    role: Role,
    content: Content,
}

impl PromptMessage {
    /// A message of the user.
    #[must_use]
    pub fn user(content: impl Into<Content>) -> Self {
        Self { role: Role::User, content: content.into() }
    }

    /// A message of the assistant.
    #[must_use]
    pub fn assistant(content: impl Into<Content>) -> Self {
        Self { role: Role::Assistant, content: content.into() }
    }
}

/// What a prompt amounts to: see [`PromptMessage`] for an example.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct PromptResult {
    description: Option<String>,
    messages: Vec<PromptMessage>,
}

impl PromptResult {
    /// No messages yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What the messages are about.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// Adds a message.
    #[must_use]
    pub fn message(mut self, message: PromptMessage) -> Self {
        self.messages.push(message);
        self
    }
}

/// What the handler of a prompt can return.
///
/// Implemented for text (one message of the user), [`PromptMessage`], lists of it, [`PromptResult`] (see [`PromptMessage`] for an
/// example), and for a `Result` of these with [`ToolError`], [`AskError`], `String` or `&'static str` as its error.
///
/// ```
/// use ringhub::native::{IntoPrompt, PromptMessage, PromptResult};
/// assert_eq!("hello".into_prompt()?, PromptResult::new().message(PromptMessage::user("hello")));
/// # Ok::<(), ringhub::native::ToolError>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not something a prompt can answer",
    note = "return text, `PromptMessage`, `Vec<PromptMessage>`, `PromptResult`, or a `Result` of one of them"
)]
pub trait IntoPrompt {
    /// The messages.
    ///
    /// # Errors
    /// There are none.
    fn into_prompt(self) -> Result<PromptResult, ToolError>;
}

impl IntoPrompt for PromptResult {
    fn into_prompt(self) -> Result<PromptResult, ToolError> {
        Ok(self)
    }
}

impl IntoPrompt for Vec<PromptMessage> {
    fn into_prompt(self) -> Result<PromptResult, ToolError> {
        Ok(PromptResult { description: None, messages: self })
    }
}

impl IntoPrompt for PromptMessage {
    fn into_prompt(self) -> Result<PromptResult, ToolError> {
        vec![self].into_prompt()
    }
}

impl IntoPrompt for String {
    fn into_prompt(self) -> Result<PromptResult, ToolError> {
        PromptMessage::user(self).into_prompt()
    }
}

impl IntoPrompt for &'static str {
    fn into_prompt(self) -> Result<PromptResult, ToolError> {
        PromptMessage::user(self).into_prompt()
    }
}

macro_rules! fallible_prompt {
    ($($error:ty => $into:expr),*) => {$(
        impl<P: IntoPrompt> IntoPrompt for Result<P, $error> {
            fn into_prompt(self) -> Result<PromptResult, ToolError> {
                let into: fn($error) -> ToolError = $into;
                self.map_err(into)?.into_prompt()
            }
        }
    )*};
}

fallible_prompt!(ToolError => |error| error, AskError => ToolError::from, String => ToolError::new, &'static str => ToolError::new);

/// Starts a handler.
type Run = Box<dyn Fn(&[u8], &mut Decoder, &Context, &mut Vec<u8>) -> Started>;

/// A prompt as the server keeps it.
pub(crate) struct PromptEntry {
    name: String,
    definition: Vec<u8>,
    arguments: Vec<Argument>,
    check: Check,
    run: Run,
}

impl PromptEntry {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The item of `prompts/list`, in JSON.
    pub fn definition(&self) -> &[u8] {
        &self.definition
    }

    pub(super) fn has_argument(&self, name: &str) -> bool {
        self.arguments.iter().any(|argument| argument.name == name)
    }

    pub(super) fn start(&self, arguments: Option<&[u8]>, decoder: &mut Decoder, cx: &Context, out: &mut Vec<u8>) -> Started {
        let raw = arguments.filter(|raw| *raw != b"null").unwrap_or(b"{}");
        if raw.first() != Some(&b'{') {
            return Started::Done(Outcome::Error(RpcError::invalid_params("`arguments` must be an object")));
        }
        match self.check.run(raw) {
            Ok(()) => (self.run)(raw, decoder, cx, out),
            Err(why) => refuse(&self.name, &why),
        }
    }
}

/// A prompt's wrong arguments are the client's mistake, not the model's.
#[cold]
fn refuse(name: &str, why: &str) -> Started {
    Started::Done(Outcome::Error(RpcError::invalid_params(format!("Invalid arguments for prompt {name}: {why}"))))
}

fn entry<A: JsonSchema>(mut prompt: Prompt, run: Run) -> Result<PromptEntry, String> {
    if prompt.name.is_empty() {
        return Err("it has no name".to_owned());
    }
    let input = schema::of_input::<A>()?;
    let text = |schema: &Value, word: &str| schema.get(word).and_then(Value::as_str).map(str::to_owned);
    let is_required =
        |name: &String| input.get("required").and_then(Value::as_array).is_some_and(|names| names.iter().any(|named| named == name));
    for (name, schema) in input.get("properties").and_then(Value::as_object).into_iter().flatten() {
        prompt.arguments.push(Argument {
            name: name.clone(),
            title: text(schema, "title"),
            description: text(schema, "description"),
            required: is_required(name),
        });
    }
    // Required ones first, then by name: a stable order for people to read.
    prompt.arguments.sort_by_key(|argument| !argument.required);
    let check = Check::derived(&input)?;
    let definition = serde_json::to_vec(&prompt).map_err(|error| error.to_string())?;
    Ok(PromptEntry { definition, arguments: prompt.arguments, check, run, name: prompt.name })
}

fn write(result: impl IntoPrompt, version: Version, out: &mut Vec<u8>) -> Outcome {
    let PromptResult { description, mut messages } = match result.into_prompt() {
        Ok(result) => result,
        Err(error) => return error.into_rpc_outcome(version.era()),
    };
    for message in &mut messages {
        if let Cow::Owned(known) = message.content.known_to(version) {
            message.content = known;
        }
    }
    let start = out.len();
    if let Some(description) = description {
        out.extend_from_slice(br#""description":"#);
        crate::wire::json::write_str(out, &description);
        out.push(b',');
    }
    out.extend_from_slice(br#""messages":"#);
    match serde_json::to_writer(&mut *out, &messages) {
        Ok(()) => Outcome::RESULT,
        Err(error) => {
            out.truncate(start);
            Outcome::Error(RpcError::internal(error.to_string()))
        }
    }
}

pub(super) fn sync<A, P, F>(prompt: Prompt, handler: F) -> Result<PromptEntry, String>
where
    A: DeserializeOwned + JsonSchema + 'static,
    P: IntoPrompt + 'static,
    F: Fn(A, &Context) -> P + 'static,
{
    let name = prompt.name.clone();
    let run: Run = Box::new(move |raw, decoder, cx, out| match decoder.decode(raw) {
        Ok(arguments) => Started::Done(write(handler(arguments, cx), cx.version(), out)),
        Err(error) => refuse(&name, error.text()),
    });
    entry::<A>(prompt, run)
}

pub(super) fn asynchronous<A, P, F, Fut>(prompt: Prompt, handler: F) -> Result<PromptEntry, String>
where
    A: DeserializeOwned + JsonSchema + 'static,
    P: IntoPrompt + 'static,
    F: Fn(A, Context) -> Fut + 'static,
    Fut: Future<Output = P> + 'static,
{
    let name = prompt.name.clone();
    let run: Run = Box::new(move |raw, decoder, cx, _| match decoder.decode(raw) {
        Ok(arguments) => {
            let (future, version) = (handler(arguments, cx.clone()), cx.version());
            Started::Later(Box::pin(async move {
                let mut members = Vec::new();
                let outcome = write(future.await, version, &mut members);
                Finished { members, outcome }
            }))
        }
        Err(error) => refuse(&name, error.text()),
    });
    entry::<A>(prompt, run)
}
