//! Asking the client: written once, working in both eras.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

use serde::Deserialize;
use serde_json::Value;

use super::call::Text;
use super::context::Context;
use super::elicit::{Elicitation, Elicited, UrlElicitation};
use super::host::{AskMethod, Effect, Question};
use super::questions::{Look, NoResult};
use super::sample::{Sampled, Sampling};
use crate::wire::mcp::{ClientCapabilities, Era};

/// What a client must have declared before it can be asked something.
///
/// ```
/// use ringhub::native::{Capability, ClientCapabilities};
/// let declared = ClientCapabilities::SAMPLING;
/// assert!(Capability::Sampling.is_in(declared) && !Capability::SamplingTools.is_in(declared));
/// assert_eq!(Capability::Roots.required(), r#"{"roots":{}}"#);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Capability {
    /// To have its model write something: [`Context::sample`].
    Sampling,
    /// The same, with tools at hand.
    SamplingTools,
    /// To show its user a form: [`Context::elicit`].
    Elicitation,
    /// To send its user to a page: [`Context::elicit_url`].
    ElicitationUrl,
    /// To tell its roots: [`Context::roots`].
    Roots,
}

impl Capability {
    /// Whether a client declared it.
    #[must_use]
    pub const fn is_in(self, declared: ClientCapabilities) -> bool {
        match self {
            Self::Sampling => declared.sampling(),
            Self::SamplingTools => declared.sampling() && declared.sampling_tools(),
            Self::Elicitation => declared.elicitation_form(),
            Self::ElicitationUrl => declared.elicitation_url(),
            Self::Roots => declared.roots(),
        }
    }

    /// As a `ClientCapabilities` object, in JSON.
    #[must_use]
    pub const fn required(self) -> &'static str {
        match self {
            Self::Sampling => r#"{"sampling":{}}"#,
            Self::SamplingTools => r#"{"sampling":{"tools":{}}}"#,
            Self::Elicitation => r#"{"elicitation":{"form":{}}}"#,
            Self::ElicitationUrl => r#"{"elicitation":{"url":{}}}"#,
            Self::Roots => r#"{"roots":{}}"#,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Sampling => "sampling",
            Self::SamplingTools => "sampling.tools",
            Self::Elicitation => "elicitation.form",
            Self::ElicitationUrl => "elicitation.url",
            Self::Roots => "roots",
        }
    }
}

/// Why a question to the client has no answer.
///
/// In a handler, `?` makes a [`ToolError`](super::ToolError) of it: a client that lacks the capability is told which one (2026-07-28:
/// -32021 with HTTP 400), anything else is told to the model.
///
/// ```
/// use ringhub::native::{testing::Client, AskError, Capability, ClientCapabilities, Context, Empty, Server};
///
/// let server = Server::builder("demo", "1.0")
///     .tool_async("where", |_: Empty, cx: Context| async move {
///         match cx.roots("roots").await {
///             Ok(roots) => format!("{} roots", roots.len()),
///             Err(AskError::Undeclared(Capability::Roots)) => "the client has no roots".to_owned(),
///             Err(error) => error.to_string(),
///         }
///     })
///     .build()?;
/// let reply = Client::new(server).capabilities(ClientCapabilities::NONE).call("where", serde_json::json!({}))?;
/// assert_eq!(reply.text(), "the client has no roots");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum AskError {
    /// The client did not declare that it can be asked this.
    Undeclared(Capability),
    /// The client answered with an error.
    Refused {
        /// JSON-RPC error code.
        code: i64,
        /// What the client said.
        message: String,
    },
    /// The client's answer is not what was asked for.
    Malformed(String),
    /// The client cannot be reached any more, or did not answer in time.
    Lost,
    /// The question itself is not one that may be asked: the server's mistake.
    Invalid(String),
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undeclared(capability) => {
                write!(f, "the client does not declare the capability `{}`, which this needs", capability.name())
            }
            Self::Refused { code, message } => write!(f, "the client refused to answer: {message} ({code})"),
            Self::Malformed(why) => write!(f, "the client's answer is not what was asked for: {why}"),
            Self::Lost => f.write_str("the client did not answer"),
            Self::Invalid(why) => write!(f, "this cannot be asked: {why}"),
        }
    }
}

impl std::error::Error for AskError {}

/// A directory or file that the client lets servers work on: see [`Context::roots`].
///
/// ```
/// use ringhub::native::{testing::Client, Context, Empty, Root, Server, ToolError};
///
/// let server = Server::builder("demo", "1.0")
///     .tool_async("where", |_: Empty, cx: Context| async move {
///         let roots: Vec<Root> = cx.roots("roots").await?;
///         Ok::<_, ToolError>(roots.into_iter().map(|root| root.name.unwrap_or(root.uri)).collect::<String>())
///     })
///     .build()?;
/// let mut client = Client::new(server).answer("roots", serde_json::json!({"roots": [{"uri": "file:///home/ada"}]}));
/// assert_eq!(client.call("where", serde_json::json!({}))?.text(), "file:///home/ada");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[non_exhaustive]
pub struct Root {
    /// Its URI; `file:` today.
    pub uri: String,
    /// Its name for people.
    pub name: Option<String>,
}

#[derive(Deserialize)]
struct Roots {
    roots: Vec<Root>,
}

/// A question to the client, of any kind: see [`Context::ask`].
///
/// ```
/// use ringhub::native::{testing::Client, Answer, Ask, Context, Empty, Server, ToolError};
///
/// let server = Server::builder("demo", "1.0")
///     .tool_async("ask", |_: Empty, cx: Context| async move {
///         Ok::<_, ToolError>(match cx.ask("any", Ask::Roots).await? {
///             Answer::Roots(roots) => roots.len().to_string(),
///             other => format!("{other:?}"),
///         })
///     })
///     .build()?;
/// let mut client = Client::new(server).answer("any", serde_json::json!({"roots": []}));
/// assert_eq!(client.call("ask", serde_json::json!({}))?.text(), "0");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
#[expect(clippy::large_enum_variant, reason = "there is one per question, for a moment")]
pub enum Ask {
    /// A form for its user.
    Elicit(Elicitation),
    /// A page for its user.
    ElicitUrl(UrlElicitation),
    /// Something for its model to write.
    Sample(Sampling),
    /// Its roots.
    Roots,
}

/// The answer to an [`Ask`] of the same kind; see there for an example.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Answer {
    /// What the user entered, as it came.
    Elicited(Elicited<Value>),
    /// What the user said to visiting the page.
    ElicitedUrl(Elicited<()>),
    /// What the model wrote.
    Sampled(Sampled),
    /// The roots.
    Roots(Vec<Root>),
}

/// For handlers: questions to the client.
///
/// Each question has a `key`, which must be another for each question of a call and the same whenever the handler runs again.
///
/// In the legacy era the client is asked while the handler waits. In the modern era the call is answered with `input_required`, and when
/// the client calls again with its answers **the handler runs again from its start**: questions answered before are answered at once.
/// So let a handler ask before it does what must not be done twice, and keep what it needs across with [`Context::remember`].
/// Questions asked at once (see [`join`](super::join)) go to the client in one round.
///
/// ```
/// use ringhub::native::{testing::Client, join, Context, Elicited, Empty, Sampling, Server, Tool, ToolError};
///
/// #[derive(serde::Deserialize, schemars::JsonSchema)]
/// struct Who { name: String }
///
/// let server = Server::builder("greeter", "1.0")
///     .tool_async(Tool::new("greet"), |_: Empty, cx: Context| async move {
///         let (who, poem) = join((
///             cx.elicit::<Who>("who", "What is your name?"),
///             cx.sample("poem", Sampling::new(200).user("Write one line about names")),
///         )).await;
///         Ok::<_, ToolError>(match who? {
///             Elicited::Accepted(who) => format!("Hello, {}! {}", who.name, poem?.text()),
///             Elicited::Declined | Elicited::Cancelled => "Hello, whoever you are".to_owned(),
///         })
///     })
///     .build()?;
/// let mut client = Client::new(server)
///     .answer("who", serde_json::json!({"action": "accept", "content": {"name": "Ada"}}))
///     .answer("poem", serde_json::json!({"role": "assistant", "model": "m", "content": {"type": "text", "text": "A rose."}}));
/// for legacy in [false, true] {
///     client = client.legacy(legacy);
///     assert_eq!(client.call("greet", serde_json::json!({}))?.text(), "Hello, Ada! A rose.");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl Context {
    /// Asks the client anything. The methods for each kind of question are more comfortable.
    ///
    /// # Errors
    /// See [`AskError`].
    pub async fn ask(&self, key: &str, ask: Ask) -> Result<Answer, AskError> {
        match ask {
            Ask::Elicit(form) => self.elicit_form(key, form).await.map(Answer::Elicited),
            Ask::ElicitUrl(page) => self.elicit_url(key, page).await.map(Answer::ElicitedUrl),
            Ask::Sample(sampling) => self.sample(key, sampling).await.map(Answer::Sampled),
            Ask::Roots => self.roots(key).await.map(Answer::Roots),
        }
    }

    /// Has the client's model write something.
    ///
    /// # Errors
    /// See [`AskError`].
    pub async fn sample(&self, key: &str, sampling: Sampling) -> Result<Sampled, AskError> {
        let needs = if sampling.has_tools() { Capability::SamplingTools } else { Capability::Sampling };
        Asking::new(self, key, needs, AskMethod::Sample, sampling.params()?, Sampled::read).await
    }

    /// The directories and files that the client lets servers work on.
    ///
    /// # Errors
    /// See [`AskError`].
    pub async fn roots(&self, key: &str) -> Result<Vec<Root>, AskError> {
        let read = |raw: &[u8]| serde_json::from_slice::<Roots>(raw).map(|answer| answer.roots).map_err(|error| error.to_string());
        Asking::new(self, key, Capability::Roots, AskMethod::Roots, b"{}".to_vec(), read).await
    }
}

/// Reads an answer, or says why it cannot be one.
type Read<T> = Box<dyn Fn(&[u8]) -> Result<T, String>>;

/// One question on its way. Ends once its answer is there.
pub(super) struct Asking<T> {
    context: Context,
    question: Option<Question>,
    key: String,
    needs: Capability,
    read: Read<T>,
}

impl<T> Asking<T> {
    pub fn new(
        context: &Context,
        key: &str,
        needs: Capability,
        method: AskMethod,
        params: Vec<u8>,
        read: impl Fn(&[u8]) -> Result<T, String> + 'static,
    ) -> Self {
        let question = Question { key: key.to_owned(), method, params };
        Self { context: context.clone(), question: Some(question), key: key.to_owned(), needs, read: Box::new(read) }
    }

    /// Asks for the first time in this run of the handler.
    fn begin(&mut self, task: &std::task::Context<'_>) -> Poll<Result<T, AskError>> {
        let state = self.context.state();
        if !self.needs.is_in(state.capabilities.get()) {
            return Poll::Ready(Err(AskError::Undeclared(self.needs)));
        }
        let offered = state.questions.borrow_mut().take_offered(&self.key);
        if let Some(raw) = offered
            && let Ok(answer) = (self.read)(&raw)
        {
            state.questions.borrow_mut().settle(&self.key, raw);
            return Poll::Ready(Ok(answer));
        }
        // What the client sent along and cannot be read counts as not sent: it is asked again.
        state.questions.borrow_mut().wait(&self.key, task.waker());
        if let Some(question) = self.question.take() {
            match self.context.era() {
                Era::Modern => state.questions.borrow_mut().record(question),
                Era::Legacy => {
                    let Question { key, method, params } = question;
                    self.context.host().effect(Effect::Ask { call: self.context.call(), key, method, params });
                }
            }
        }
        Poll::Pending
    }
}

impl<T> Future for Asking<T> {
    type Output = Result<T, AskError>;

    fn poll(mut self: Pin<&mut Self>, task: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.context.open_questions();
        let look = this.context.state().questions.borrow_mut().look(&this.key, task.waker());
        match look {
            Look::New => this.begin(task),
            Look::Waiting => Poll::Pending,
            Look::Answered(raw) => Poll::Ready((this.read)(&raw).map_err(AskError::Malformed)),
            Look::Failed(why) => Poll::Ready(Err(failure(&why))),
        }
    }
}

fn failure(why: &NoResult) -> AskError {
    #[derive(Deserialize)]
    struct RpcError {
        code: i64,
        #[serde(default)]
        message: String,
    }
    match why {
        NoResult::Lost => AskError::Lost,
        NoResult::Error(raw) => match serde_json::from_slice::<RpcError>(raw) {
            Ok(RpcError { code, message }) => AskError::Refused { code, message },
            Err(error) => AskError::Malformed(error.to_string()),
        },
    }
}

impl Context {
    /// Whether the client sent answers along (modern era: this is not the first round of the call).
    #[must_use]
    pub fn is_retry(&self) -> bool {
        let state = self.state();
        state.has_text(Text::InputResponses) || state.has_text(Text::State)
    }
}
