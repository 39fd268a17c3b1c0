//! The context of a handler that runs on the blocking pool.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use serde::Serialize;

use super::call::Text;
use super::context::{Context, notice};
use super::host::Notify;
use super::inbox::{Event, Inbox};
use super::notifier::Notifier;
use crate::base::ids::CallId;
use crate::wire::mcp::{Level, Version};

/// What a handler on the blocking pool knows of its call and does about it. It may be used from any thread; a clone belongs to the same call.
///
/// It cannot ask the client: a handler that both asks and blocks is to be async, with its blocking part in a tool or thread of its own.
///
/// ```
/// use ringhub::native::{testing::Client, BlockingContext, Empty, Level, Server, Tool};
///
/// let server = Server::builder("demo", "1.0")
///     .tool_blocking(Tool::new("crunch"), |_: Empty, cx: &BlockingContext| {
///         cx.progress(1.0, Some(1.0), None);
///         cx.log(Level::Debug, None, "crunched");
///         if cx.is_cancelled() { "stopped" } else { "crunched" }
///     })
///     .build()?;
/// let reply = Client::new(server).call("crunch", serde_json::json!({}))?;
/// assert_eq!((reply.text().as_str(), reply.notifications.len()), ("crunched", 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct BlockingContext {
    shared: Arc<Shared>,
}

struct Shared {
    inbox: Weak<Inbox>,
    call: CallId,
    server: u32,
    version: Version,
    cancelled: Arc<AtomicBool>,
    progress_token: Option<Box<[u8]>>,
    /// Bits of the last value told.
    progress: AtomicU64,
    level: Option<Level>,
}

impl std::fmt::Debug for BlockingContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockingContext").field("call", &self.shared.call).finish_non_exhaustive()
    }
}

impl BlockingContext {
    pub(super) fn new(context: &Context) -> Self {
        let state = context.state();
        let shared = Shared {
            inbox: Arc::downgrade(context.host().inbox()),
            call: context.call(),
            server: state.server.get(),
            version: context.version(),
            cancelled: state.cancel_flag(),
            progress_token: state.with_text(Text::ProgressToken, |token| token.map(Into::into)),
            progress: AtomicU64::new(f64::NEG_INFINITY.to_bits()),
            level: state.level.get(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Tells the client how far the call is: see [`Context::progress`].
    pub fn progress(&self, value: f64, total: Option<f64>, message: Option<&str>) {
        let Some(token) = &self.shared.progress_token else { return };
        if !value.is_finite() {
            return;
        }
        let told = self.shared.progress.fetch_update(Relaxed, Relaxed, |last| (value > f64::from_bits(last)).then_some(value.to_bits()));
        if told.is_ok() {
            self.notify(Notify::Progress, notice::progress(token, value, total, message));
        }
    }

    /// Sends the client a log message, if it wants messages of this level: see [`Context::log`].
    pub fn log(&self, level: Level, logger: Option<&str>, data: impl Serialize) {
        if self.shared.level.is_some_and(|lowest| level >= lowest)
            && let Some(params) = notice::message(level, logger, &data)
        {
            self.notify(Notify::Message, params);
        }
    }

    /// Whether the client has called the request off. A long piece of work should look now and then.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.shared.cancelled.load(Relaxed)
    }

    /// The protocol revision of the request.
    #[must_use]
    pub fn version(&self) -> Version {
        self.shared.version
    }

    /// For telling the server's subscribers of changes.
    #[must_use]
    pub fn notifier(&self) -> Notifier {
        self.shared.inbox.upgrade().map_or_else(Notifier::new, |inbox| Notifier::attached(&inbox, self.shared.server))
    }

    fn notify(&self, method: Notify, params: Vec<u8>) {
        if let Some(inbox) = self.shared.inbox.upgrade() {
            // A core that is far behind drops notifications: they may be lost by their nature.
            let _taken = inbox.push(Event::Notify { call: self.shared.call, method, params });
        }
    }
}
