//! Driving a server without a socket: for tests of servers.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context as Task, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::context::Context;
use super::host::{AskMethod, CallSpec, Effect, Host, List, Question};
use super::inbox::{Event, Inbox};
use super::outcome::{Cache, Finished, Outcome, Started};
use super::server::Server;
use crate::base::ids::CallId;
use crate::base::limits::ASK_ROUNDS_MAX;
use crate::base::time::{Nanos, Now};
use crate::wire::json::Decoder;
use crate::wire::mcp::{ClientCapabilities, Level, Version};

/// How long a call waits for other threads before it is given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most turns that a call may take.
const TURNS_MAX: usize = 100_000;

/// A client in the same thread: calls a server's tools, reads its resources, gets its prompts, and answers its questions.
///
/// It speaks 2026-07-28, or 2025-11-25 with [`Client::legacy`]. Sleeping handlers are not waited for: time jumps to the next timer.
/// Questions are answered as [`Client::answer`] was told, by key; a question with no answer fails the call.
///
/// ```
/// use ringhub::native::{testing::Client, ClientCapabilities, Context, Empty, Level, Server, Version};
///
/// let server = Server::builder("demo", "1.0")
///     .tool("who", |_: Empty, cx: &Context| {
///         cx.log(Level::Debug, None, "asked");
///         cx.notify().resource_updated("demo://log");
///         format!("{} {}", cx.client().name.unwrap_or_default(), cx.version().as_str())
///     })
///     .build()?;
/// let mut client = Client::new(server).version(Version::V2025_06_18).capabilities(ClientCapabilities::NONE).log_level(Level::Info);
/// let reply = client.call("who", serde_json::json!({}))?;
/// assert_eq!(reply.text(), "testing 2025-06-18");
/// assert!(reply.notifications.is_empty(), "nothing below info is logged");
/// assert_eq!(client.updated(), ["demo://log"]);
/// let unknown = client.call("what", serde_json::json!({})).unwrap_err();
/// assert_eq!(unknown.code, -32602);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Client {
    server: Server,
    host: Rc<Host>,
    inbox: Arc<Inbox>,
    woken: Arc<Woken>,
    decoder: Decoder,
    version: Version,
    capabilities: ClientCapabilities,
    level: Option<Level>,
    answers: BTreeMap<String, Value>,
    changed: Vec<List>,
    updated: Vec<String>,
    rounds: u32,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("server", &self.server).field("version", &self.version).finish_non_exhaustive()
    }
}

/// Whether any waker of this client was used.
#[derive(Default)]
struct Woken {
    flag: Mutex<bool>,
    changed: Condvar,
}

impl Woken {
    fn set(&self) {
        *self.flag.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    fn take(&self) -> bool {
        std::mem::take(&mut *self.flag.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until a waker is used; false when none was in time.
    fn wait(&self, until: Instant) -> bool {
        let flag = self.flag.lock().unwrap_or_else(PoisonError::into_inner);
        let left = until.saturating_duration_since(Instant::now());
        let waited = self.changed.wait_timeout_while(flag, left, |woken| !*woken);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.set();
    }
}

/// What a request came to.
///
/// ```
/// use ringhub::native::{testing::Client, Context, Empty, Server};
/// let server = Server::builder("demo", "1.0").tool("hi", |_: Empty, _: &Context| "hello").build()?;
/// let reply = Client::new(server).call("hi", serde_json::json!({}))?;
/// assert_eq!(reply.text(), "hello");
/// assert!(!reply.is_error() && reply.structured().is_err() && reply.notifications.is_empty());
/// assert_eq!(reply.result["content"][0]["type"], "text");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct Reply {
    /// The result.
    pub result: Value,
    /// Notifications sent before it, each with `method` and `params`.
    pub notifications: Vec<Value>,
    /// The cache that a resource named for it.
    pub cache: Option<Cache>,
}

impl Reply {
    /// All its text, of content, resource contents or messages, joined by line breaks.
    #[must_use]
    pub fn text(&self) -> String {
        let blocks = ["content", "contents", "messages"].iter().find_map(|member| self.result.get(member)?.as_array());
        let texts = blocks.into_iter().flatten().filter_map(|block| {
            let text = block.get("text").or_else(|| block.pointer("/content/text"));
            text.or_else(|| block.pointer("/resource/text"))?.as_str()
        });
        texts.collect::<Vec<_>>().join("\n")
    }

    /// Whether it is an error that the model is told.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.result.get("isError") == Some(&Value::Bool(true))
    }

    /// Its structured part.
    ///
    /// # Errors
    /// It has none.
    pub fn structured(&self) -> Result<&Value, Failure> {
        self.result.get("structuredContent").ok_or_else(|| Failure::new(0, "the result has no structured part"))
    }
}

/// A request that got a JSON-RPC error, or none at all (code 0).
///
/// ```
/// use ringhub::native::{testing::Client, Context, Empty, Server, ToolError};
/// let server = Server::builder("demo", "1.0").tool("no", |_: Empty, _: &Context| Err::<(), _>(ToolError::rpc(-32050, "no"))).build()?;
/// let failure = Client::new(server).call("no", serde_json::json!({})).unwrap_err();
/// assert_eq!((failure.code, failure.message.as_str(), failure.data), (-32050, "no", None));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct Failure {
    /// JSON-RPC error code; 0: the request was not answered.
    pub code: i32,
    /// What went wrong.
    pub message: String,
    /// More about it.
    pub data: Option<Value>,
}

impl Failure {
    fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl std::error::Error for Failure {}

/// A request to the server.
enum Request<'a> {
    Tool(&'a str, &'a [u8]),
    Read(&'a str),
    Prompt(&'a str, &'a [u8]),
    Complete(&'a [u8]),
}

/// What one run of a handler came to.
enum Run {
    Done(Finished),
    /// Modern era: these questions are to be answered first.
    Asks(Vec<Question>, Vec<u8>),
}

/// How the client is set up.
impl Client {
    /// A client of this server. It declares every capability and wants all log messages and progress.
    #[must_use]
    pub fn new(server: Server) -> Self {
        let woken = Arc::new(Woken::default());
        let wake = Arc::clone(&woken);
        let inbox = Arc::new(Inbox::new(Box::new(move || wake.set())));
        let host = Host::new(Arc::clone(&inbox), Now { mono: Nanos(0), wall_ms: 1_785_196_800_000 });
        server.attach(&host, 0);
        Self {
            server,
            host,
            inbox,
            woken,
            decoder: Decoder::new(),
            version: Version::V2026_07_28,
            capabilities: ClientCapabilities::parse(
                br#"{"sampling":{"tools":{}},"elicitation":{"form":{},"url":{}},"roots":{"listChanged":true}}"#,
            ),
            level: Some(Level::Debug),
            answers: BTreeMap::new(),
            changed: Vec::new(),
            updated: Vec::new(),
            rounds: 0,
        }
    }

    /// Speaks this revision.
    #[must_use]
    pub const fn version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// Speaks 2025-11-25; `false`: 2026-07-28.
    #[must_use]
    pub const fn legacy(self, legacy: bool) -> Self {
        self.version(if legacy { Version::V2025_11_25 } else { Version::V2026_07_28 })
    }

    /// Declares these capabilities.
    #[must_use]
    pub const fn capabilities(mut self, capabilities: ClientCapabilities) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// Wants log messages of this level and above.
    #[must_use]
    pub const fn log_level(mut self, level: Level) -> Self {
        self.level = Some(level);
        self
    }

    /// Answers the question of this key with this result.
    #[must_use]
    pub fn answer(mut self, key: impl Into<String>, result: Value) -> Self {
        self.answers.insert(key.into(), result);
        self
    }
}

/// What it asks of the server.
impl Client {
    /// Calls a tool.
    ///
    /// # Errors
    /// The server answered with a JSON-RPC error, or not at all.
    #[expect(clippy::needless_pass_by_value, reason = "callers write the arguments in place")]
    pub fn call(&mut self, name: &str, arguments: Value) -> Result<Reply, Failure> {
        let raw = arguments.to_string();
        self.run(&Request::Tool(name, raw.as_bytes()))
    }

    /// Reads a resource.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn read(&mut self, uri: &str) -> Result<Reply, Failure> {
        self.run(&Request::Read(uri))
    }

    /// Gets a prompt.
    ///
    /// # Errors
    /// As [`Client::call`].
    #[expect(clippy::needless_pass_by_value, reason = "callers write the arguments in place")]
    pub fn prompt(&mut self, name: &str, arguments: Value) -> Result<Reply, Failure> {
        let raw = arguments.to_string();
        self.run(&Request::Prompt(name, raw.as_bytes()))
    }

    /// Completes an argument of a prompt.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn complete_prompt(&mut self, name: &str, argument: &str, value: &str) -> Result<Vec<String>, Failure> {
        self.complete(&json!({"type": "ref/prompt", "name": name}), argument, value)
    }

    /// Completes a variable of a resource template.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn complete_template(&mut self, uri_template: &str, variable: &str, value: &str) -> Result<Vec<String>, Failure> {
        self.complete(&json!({"type": "ref/resource", "uri": uri_template}), variable, value)
    }

    fn complete(&mut self, target: &Value, argument: &str, value: &str) -> Result<Vec<String>, Failure> {
        let params = json!({"ref": target, "argument": {"name": argument, "value": value}}).to_string();
        let reply = self.run(&Request::Complete(params.as_bytes()))?;
        serde_json::from_value(reply.result["completion"]["values"].clone()).map_err(|error| Failure::new(0, error.to_string()))
    }

    /// The items of `tools/list`.
    #[must_use]
    pub fn tools(&self) -> Vec<Value> {
        self.server.tools().iter().map(|tool| value(tool.definition(self.version.era()))).collect()
    }

    /// The items of `resources/list`.
    #[must_use]
    pub fn resources(&self) -> Vec<Value> {
        self.server.resources().iter().map(|resource| value(resource.definition())).collect()
    }

    /// The items of `resources/templates/list`.
    #[must_use]
    pub fn templates(&self) -> Vec<Value> {
        self.server.templates().iter().map(|template| value(template.definition())).collect()
    }

    /// The items of `prompts/list`.
    #[must_use]
    pub fn prompts(&self) -> Vec<Value> {
        self.server.prompts().iter().map(|prompt| value(prompt.definition())).collect()
    }

    /// The lists that were said to have changed since the last look.
    pub fn changed(&mut self) -> Vec<List> {
        // Without a call there is no question that could fail it.
        let _none = self.take_events(&mut Vec::new(), None);
        std::mem::take(&mut self.changed)
    }

    /// The resources that were said to have changed since the last look.
    pub fn updated(&mut self) -> Vec<String> {
        // Without a call there is no question that could fail it.
        let _none = self.take_events(&mut Vec::new(), None);
        std::mem::take(&mut self.updated)
    }

    /// How many rounds of questions the last call took.
    #[must_use]
    pub const fn rounds(&self) -> u32 {
        self.rounds
    }
}

/// How it plays the engine's part.
impl Client {
    fn run(&mut self, request: &Request<'_>) -> Result<Reply, Failure> {
        let mut notifications = Vec::new();
        let (mut responses, mut state) = (None, None);
        self.rounds = 0;
        loop {
            let context = self.context(responses.as_deref(), state.as_deref());
            match self.one_run(request, &context, &mut notifications)? {
                Run::Done(finished) => return self.reply(finished, notifications),
                Run::Asks(questions, to_seal) => {
                    self.rounds += 1;
                    if self.rounds > ASK_ROUNDS_MAX {
                        return Err(Failure::new(0, "the tool asks without end"));
                    }
                    responses = Some(self.responses(&questions)?);
                    state = Some(to_seal);
                }
            }
        }
    }

    fn context(&self, input_responses: Option<&[u8]>, state: Option<&[u8]>) -> Context {
        self.host.context(&CallSpec {
            call: CallId { index: 0, generation: self.rounds },
            server: 0,
            version: self.version,
            progress_token: Some(b"\"testing\""),
            level: self.level,
            capabilities: self.capabilities,
            client_info: Some(br#"{"name":"testing","version":"1"}"#),
            meta: None,
            principal: b"testing",
            input_responses,
            state,
        })
    }

    fn one_run(&mut self, request: &Request<'_>, context: &Context, notifications: &mut Vec<Value>) -> Result<Run, Failure> {
        let mut members = Vec::new();
        let (server, decoder) = (&self.server, &mut self.decoder);
        let (started, name) = match *request {
            Request::Tool(name, raw) => (server.start_tool(name, Some(raw), decoder, context, &mut members), name),
            Request::Read(uri) => (server.start_read(uri, context, &mut members), uri),
            Request::Prompt(name, raw) => (server.start_prompt(name, Some(raw), decoder, context, &mut members), name),
            Request::Complete(params) => (server.start_complete(params, decoder, context, &mut members), "completion"),
        };
        match started {
            Started::Done(outcome) => {
                self.take_events(notifications, Some(context))?;
                Ok(Run::Done(Finished { members, outcome }))
            }
            Started::NotFound => Err(Failure::new(-32602, format!("{name} not found"))),
            Started::Blocking(job) => {
                let done = RefCell::new(None);
                std::thread::scope(|scope| done.replace(scope.spawn(job).join().ok()));
                self.take_events(notifications, Some(context))?;
                done.into_inner().map(Run::Done).ok_or_else(|| Failure::new(-32603, "the handler panicked"))
            }
            Started::Later(mut job) => {
                let waker = Waker::from(Arc::clone(&self.woken));
                let mut task = Task::from_waker(&waker);
                let until = Instant::now() + PATIENCE;
                for _ in 0..TURNS_MAX {
                    let _was = self.woken.take();
                    let polled = job.as_mut().poll(&mut task);
                    self.take_events(notifications, Some(context))?;
                    if let Poll::Ready(finished) = polled {
                        return Ok(Run::Done(finished));
                    }
                    let questions = context.questions();
                    if !questions.is_empty() {
                        return Ok(Run::Asks(questions, context.state_to_seal()));
                    }
                    self.wait(until)?;
                }
                Err(Failure::new(0, "the handler does not come to an end"))
            }
        }
    }

    /// Lets time pass until something wakes the handler.
    fn wait(&self, until: Instant) -> Result<(), Failure> {
        let next = self.host.next_timer();
        if next < Nanos::NEVER {
            let now = self.host.now();
            let wall_ms = now.wall_ms + u64::try_from(next.since(now.mono).as_millis()).unwrap_or(0);
            self.host.set_now(Now { mono: next, wall_ms });
            self.host.fire_timers(next);
        } else if !self.woken.wait(until) {
            return Err(Failure::new(0, "the handler waits for something that does not come"));
        }
        Ok(())
    }

    /// Takes what handlers and other threads want done.
    fn take_events(&mut self, notifications: &mut Vec<Value>, context: Option<&Context>) -> Result<(), Failure> {
        let (mut effects, mut events) = (Vec::new(), Vec::new());
        self.host.drain_effects(&mut effects);
        self.inbox.drain(&mut events);
        for event in events {
            match event {
                Event::Notify { call, method, params } => effects.push(Effect::Notify { call, method, params }),
                Event::Changed { server, list } => effects.push(Effect::Changed { server, list }),
                Event::Updated { server, uri } => effects.push(Effect::Updated { server, uri }),
                Event::Finished { .. } | Event::Wake { .. } | Event::Persisted { .. } | Event::Reload | Event::Reread => {}
            }
        }
        for effect in effects {
            match effect {
                Effect::Notify { method, params, .. } => notifications.push(json!({"method": method.method(), "params": value(&params)})),
                Effect::Changed { list, .. } => self.changed.push(list),
                Effect::Updated { uri, .. } => self.updated.push(uri),
                Effect::CloseStream { .. } => {}
                Effect::Ask { key, method, .. } => {
                    let answer = self.answer_to(&key, method)?.to_string();
                    if let Some(context) = context {
                        context.answer(&key, Ok(answer.as_bytes()));
                    }
                }
            }
        }
        Ok(())
    }

    fn answer_to(&self, key: &str, method: AskMethod) -> Result<&Value, Failure> {
        let unknown = || Failure::new(0, format!("the tool asks `{key}` ({}), and the client was told no answer", method.method()));
        self.answers.get(key).ok_or_else(unknown)
    }

    fn responses(&self, questions: &[Question]) -> Result<Vec<u8>, Failure> {
        let mut responses = serde_json::Map::new();
        for question in questions {
            responses.insert(question.key.clone(), self.answer_to(&question.key, question.method)?.clone());
        }
        Ok(Value::Object(responses).to_string().into_bytes())
    }

    fn reply(&self, finished: Finished, notifications: Vec<Value>) -> Result<Reply, Failure> {
        let Finished { mut members, outcome } = finished;
        match outcome {
            Outcome::Result { cache, meta, .. } => {
                members.insert(0, b'{');
                members.push(b'}');
                let mut result = value(&members);
                if let Some(meta) = meta {
                    result["_meta"] = value(&meta);
                }
                Ok(Reply { result, notifications, cache })
            }
            Outcome::Error(error) => Err(Failure { code: error.code, message: error.message, data: error.data.as_deref().map(value) }),
            Outcome::MissingCapability(required) => {
                let data = json!({"requiredCapabilities": value(&required)});
                Err(Failure { code: -32021, message: "The client lacks a capability".to_owned(), data: Some(data) })
            }
            Outcome::Panicked => Err(Failure::new(-32603, "the handler panicked")),
        }
    }
}

/// What the server made is JSON by construction; a mistake there fails the test that uses it.
fn value(raw: &[u8]) -> Value {
    serde_json::from_slice(raw).unwrap_or_else(|error| panic!("not JSON ({error}): {}", String::from_utf8_lossy(raw)))
}
