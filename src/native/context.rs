//! The context: what a handler can know of its call and do about it.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::call::{CallState, Text};
use super::host::{Effect, Host, List, Notify, Question};
use super::notifier::Notifier;
use super::questions::NoResult;
use super::timers::TimerId;
use crate::base::ids::CallId;
use crate::base::time::{Nanos, Now};
use crate::wire::mcp::{ClientCapabilities, Era, Level, Version};

/// What a handler knows of its call and does about it: tells progress, logs, asks the client, sleeps, notices cancellation.
///
/// A clone is cheap and belongs to the same call. It stays on its core: a handler on the blocking pool gets a
/// [`BlockingContext`](super::BlockingContext) instead.
///
/// ```
/// use ringhub::native::{testing::Client, Context, Empty, Level, Server, Tool};
/// use std::time::Duration;
///
/// let server = Server::builder("demo", "1.0")
///     .tool_async(Tool::new("work").description("Works for a while"), |_: Empty, cx: Context| async move {
///         for step in 1..=3 {
///             cx.sleep(Duration::from_millis(50)).await;
///             cx.progress(f64::from(step), Some(3.0), Some("working"));
///         }
///         cx.log(Level::Info, Some("work"), "done");
///         if cx.is_cancelled() { "stopped" } else { "finished" }
///     })
///     .build()?;
/// let reply = Client::new(server).call("work", serde_json::json!({}))?;
/// assert_eq!(reply.text(), "finished");
/// assert_eq!(reply.notifications.len(), 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Context {
    state: Rc<CallState>,
    host: Rc<Host>,
}

impl Clone for Context {
    fn clone(&self) -> Self {
        Self { state: Rc::clone(&self.state), host: Rc::clone(&self.host) }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if Rc::strong_count(&self.state) == 1 {
            self.host.give_back(&self.state);
        }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("call", &self.state.call.get()).field("version", &self.state.version.get()).finish_non_exhaustive()
    }
}

/// For handlers.
impl Context {
    /// Tells the client how far the call is. Dropped unless the client asked for progress and `value` is more than the last one told
    /// (progress must increase: basic/utilities/progress of every revision).
    pub fn progress(&self, value: f64, total: Option<f64>, message: Option<&str>) {
        if !(value > self.state.progress.get() && value.is_finite()) {
            return;
        }
        let params = self.state.with_text(Text::ProgressToken, |token| Some(notice::progress(token?, value, total, message)));
        if let Some(params) = params {
            self.state.progress.set(value);
            self.host.effect(Effect::Notify { call: self.call(), method: Notify::Progress, params });
        }
    }

    /// Sends the client a log message, if it wants messages of this level. `data` is any value that serde can serialize.
    pub fn log(&self, level: Level, logger: Option<&str>, data: impl Serialize) {
        if self.logs(level)
            && let Some(params) = notice::message(level, logger, &data)
        {
            self.host.effect(Effect::Notify { call: self.call(), method: Notify::Message, params });
        }
    }

    /// Whether a log message of this level would be sent.
    #[must_use]
    pub fn logs(&self, level: Level) -> bool {
        self.state.level.get().is_some_and(|lowest| level >= lowest)
    }

    /// Whether the client has called the request off.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.state.cancelled.get()
    }

    /// Waits until the client calls the request off.
    pub async fn cancelled(&self) {
        std::future::poll_fn(|task| {
            if self.state.cancelled.get() {
                return Poll::Ready(());
            }
            self.state.wake_when_cancelled(task.waker());
            Poll::Pending
        })
        .await;
    }

    /// Waits. The core serves others meanwhile.
    #[must_use = "a future does nothing unless it is awaited"]
    pub fn sleep(&self, duration: Duration) -> Sleep {
        Sleep { host: Rc::clone(&self.host), until: self.host.now().mono.after(duration), armed: Cell::new(None) }
    }

    /// The moment the current turn of the core began: the wall clock and a monotonic one.
    #[must_use]
    pub fn now(&self) -> Now {
        self.host.now()
    }

    /// What the client says of itself.
    #[must_use]
    pub fn client(&self) -> ClientView {
        let info = self.state.with_text(Text::ClientInfo, |raw| raw.and_then(|raw| serde_json::from_slice(raw).ok()));
        let Implementation { name, version, title } = info.unwrap_or_default();
        ClientView { name, version, title, capabilities: self.capabilities(), protocol: self.version() }
    }

    /// What the client declared that it can do.
    #[must_use]
    pub fn capabilities(&self) -> ClientCapabilities {
        self.state.capabilities.get()
    }

    /// The protocol revision of the request.
    #[must_use]
    pub fn version(&self) -> Version {
        self.state.version.get()
    }

    /// The era of the request.
    #[must_use]
    pub fn era(&self) -> Era {
        self.version().era()
    }

    /// One member of the request's `_meta`; `None` when it is absent or not a `T`.
    #[must_use]
    pub fn meta<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let value = self.state.with_text(Text::Meta, |raw| {
            let mut meta: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(raw?).ok()?;
            meta.remove(name)
        });
        serde_json::from_value(value?).ok()
    }

    /// Who calls, as opaque bytes: equal for the same caller.
    #[must_use]
    pub fn principal(&self) -> Vec<u8> {
        self.state.with_text(Text::Principal, |raw| raw.unwrap_or_default().to_vec())
    }

    /// Keeps a value under `key` until the call is answered: across all rounds of input that the call asks for.
    ///
    /// In the modern era the client carries it, sealed, so keep it small. See [`Context::recall`].
    ///
    /// # Errors
    /// When `value` has no JSON form.
    pub fn remember(&self, key: &str, value: &impl Serialize) -> Result<(), serde_json::Error> {
        let json = serde_json::to_vec(value)?;
        self.open_questions();
        self.state.questions.borrow_mut().remember(key, json);
        Ok(())
    }

    /// What [`Context::remember`] kept under `key`, in this round or one before.
    #[must_use]
    pub fn recall<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        self.open_questions();
        let json = self.state.questions.borrow().recall(key)?.to_vec();
        serde_json::from_slice(&json).ok()
    }

    /// Tells subscribers, on every core, that something of the server changed.
    #[must_use]
    pub fn notify(&self) -> Changes<'_> {
        Changes { context: self }
    }

    /// The same for use from any thread, also after the call is over.
    #[must_use]
    pub fn notifier(&self) -> Notifier {
        Notifier::attached(self.host.inbox(), self.state.server.get())
    }

    /// Closes the stream that the answer would go out on; the client comes back for it after `retry` (2025-11-25, basic/transports,
    /// "polling"). In other revisions nothing happens.
    pub fn close_stream(&self, retry: Duration) {
        if self.version() == Version::V2025_11_25 {
            let retry_ms = u64::try_from(retry.as_millis()).unwrap_or(u64::MAX);
            self.host.effect(Effect::CloseStream { call: self.call(), retry_ms });
        }
    }
}

/// For the engine, and the rest of this room.
impl Context {
    pub(super) fn new(state: Rc<CallState>, host: Rc<Host>) -> Self {
        Self { state, host }
    }

    /// The call as the engine named it.
    pub(crate) fn call(&self) -> CallId {
        self.state.call.get()
    }

    /// Takes the questions recorded since the last time (modern era). Not empty after a poll that returned `Pending`: the call is to be
    /// answered with `input_required`, and its future dropped.
    pub(crate) fn questions(&self) -> Vec<Question> {
        self.state.questions.borrow_mut().take_recorded()
    }

    /// What must come back in [`super::host::CallSpec::state`] when the client retries: JSON text, to be sealed by the engine.
    pub(crate) fn state_to_seal(&self) -> Vec<u8> {
        self.open_questions();
        self.state.questions.borrow().to_seal()
    }

    /// Legacy era: the client answered the question `key` with this result (JSON text), or gave none.
    pub(crate) fn answer(&self, key: &str, reply: Result<&[u8], NoResult>) {
        let woken = self.state.questions.borrow_mut().reply(key, reply);
        woken.into_iter().for_each(Waker::wake);
    }

    /// The client called the request off. The handler may go on to tidy up; nothing it answers is sent.
    pub(crate) fn cancel(&self) {
        self.state.cancel();
    }

    pub(super) fn state(&self) -> &CallState {
        &self.state
    }

    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    /// Reads what the client sent along with a retry, once per call.
    pub(super) fn open_questions(&self) {
        if self.state.questions.borrow().is_open() {
            return;
        }
        self.state.with_text(Text::State, |state| {
            self.state.with_text(Text::InputResponses, |responses| self.state.questions.borrow_mut().open(state, responses));
        });
    }
}

/// What [`Context::sleep`] returns: see [`Context`] for an example.
#[derive(Debug)]
pub struct Sleep {
    host: Rc<Host>,
    until: Nanos,
    armed: Cell<Option<TimerId>>,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, task: &mut std::task::Context<'_>) -> Poll<()> {
        if self.host.now().mono >= self.until {
            return Poll::Ready(());
        }
        let waker = task.waker();
        let timers = self.host.timers();
        match self.armed.get() {
            Some(id) => {
                let replaced = timers.borrow_mut().rearm(id, waker);
                drop(replaced);
            }
            None => self.armed.set(Some(timers.borrow_mut().arm(self.until, waker.clone()))),
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(id) = self.armed.get() {
            let waker = self.host.timers().borrow_mut().disarm(id);
            drop(waker);
        }
    }
}

/// What a client says of itself: see [`Context::client`].
///
/// ```
/// use ringhub::native::{testing::Client, Context, Empty, Server, Version};
/// let server = Server::builder("demo", "1.0")
///     .tool("whoami", |_: Empty, cx: &Context| {
///         let client = cx.client();
///         assert!(client.protocol == Version::V2026_07_28 && client.capabilities.sampling());
///         client.name.unwrap_or_default()
///     })
///     .build()?;
/// assert_eq!(Client::new(server).call("whoami", serde_json::json!({}))?.text(), "testing");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientView {
    /// Name of the client program, if it gave one.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// Its name for people.
    pub title: Option<String>,
    /// What it can do.
    pub capabilities: ClientCapabilities,
    /// The protocol revision it speaks.
    pub protocol: Version,
}

#[derive(Default, serde::Deserialize)]
struct Implementation {
    name: Option<String>,
    version: Option<String>,
    title: Option<String>,
}

/// What can be said to have changed: see [`Context::notify`].
///
/// ```
/// use ringhub::native::{testing::Client, Context, Empty, List, Server};
/// let server = Server::builder("demo", "1.0")
///     .tool("touch", |_: Empty, cx: &Context| {
///         let changes = cx.notify();
///         changes.prompts_changed();
///         changes.resources_changed();
///         changes.resource_updated("demo://a");
///     })
///     .build()?;
/// let mut client = Client::new(server);
/// client.call("touch", serde_json::json!({}))?;
/// assert_eq!(client.changed(), [List::Prompts, List::Resources]);
/// assert_eq!(client.updated(), ["demo://a"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Changes<'a> {
    context: &'a Context,
}

impl Changes<'_> {
    /// The list of tools changed.
    pub fn tools_changed(&self) {
        self.changed(List::Tools);
    }

    /// The list of prompts changed.
    pub fn prompts_changed(&self) {
        self.changed(List::Prompts);
    }

    /// The list of resources or of resource templates changed.
    pub fn resources_changed(&self) {
        self.changed(List::Resources);
    }

    /// The resource at `uri` changed: its subscribers are told.
    pub fn resource_updated(&self, uri: impl Into<String>) {
        let server = self.context.state.server.get();
        self.context.host.effect(Effect::Updated { server, uri: uri.into() });
    }

    fn changed(&self, list: List) {
        let server = self.context.state.server.get();
        self.context.host.effect(Effect::Changed { server, list });
    }
}

pub(super) mod notice {
    //! Parameters of the notifications that belong to a call.
    use serde::Serialize;

    use crate::wire::json;
    use crate::wire::mcp::Level;

    /// `params` of `notifications/progress`; `token` is JSON text.
    pub fn progress(token: &[u8], value: f64, total: Option<f64>, message: Option<&str>) -> Vec<u8> {
        let mut out = Vec::with_capacity(96);
        out.extend_from_slice(b"{\"progressToken\":");
        out.extend_from_slice(token);
        out.extend_from_slice(b",\"progress\":");
        json::write_f64(&mut out, value);
        if let Some(total) = total.filter(|total| total.is_finite()) {
            out.extend_from_slice(b",\"total\":");
            json::write_f64(&mut out, total);
        }
        if let Some(message) = message {
            out.extend_from_slice(b",\"message\":");
            json::write_str(&mut out, message);
        }
        out.push(b'}');
        out
    }

    /// `params` of `notifications/message`; nothing when `data` has no JSON form.
    pub fn message(level: Level, logger: Option<&str>, data: &impl Serialize) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(96);
        out.extend_from_slice(b"{\"level\":");
        json::write_str(&mut out, level.as_str());
        if let Some(logger) = logger {
            out.extend_from_slice(b",\"logger\":");
            json::write_str(&mut out, logger);
        }
        out.extend_from_slice(b",\"data\":");
        serde_json::to_writer(&mut out, data).ok()?;
        out.push(b'}');
        Some(out)
    }
}
