//! What the engine gives to handlers and takes from them: one [`Host`] per core.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use super::call::CallState;
use super::context::Context;
use super::inbox::Inbox;
use super::timers::Timers;
use crate::base::ids::CallId;
use crate::base::time::{Nanos, Now};
use crate::wire::mcp::{ClientCapabilities, Level, Version};

/// Most idle call states a core keeps for reuse.
const POOL_MAX: usize = 1024;

/// A list of a server that can change.
///
/// ```
/// use ringhub::native::{testing::Client, Context, Empty, List, Server};
/// let server = Server::builder("demo", "1.0")
///     .tool("change", |_: Empty, cx: &Context| cx.notify().tools_changed())
///     .build()?;
/// let mut client = Client::new(server);
/// client.call("change", serde_json::json!({}))?;
/// assert_eq!(client.changed(), [List::Tools]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum List {
    /// Its tools.
    Tools,
    /// Its prompts.
    Prompts,
    /// Its resources and resource templates.
    Resources,
}

/// A notification that belongs to one call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Notify {
    /// `notifications/progress`
    Progress,
    /// `notifications/message`
    Message,
}

impl Notify {
    pub const fn method(self) -> &'static str {
        match self {
            Self::Progress => "notifications/progress",
            Self::Message => "notifications/message",
        }
    }
}

/// A request that a server makes of its client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AskMethod {
    /// `elicitation/create`
    Elicit,
    /// `sampling/createMessage`
    Sample,
    /// `roots/list`
    Roots,
}

impl AskMethod {
    pub const fn method(self) -> &'static str {
        match self {
            Self::Elicit => "elicitation/create",
            Self::Sample => "sampling/createMessage",
            Self::Roots => "roots/list",
        }
    }
}

/// A question to the client that the call waits for (modern era: one entry of `inputRequests`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Question {
    pub key: String,
    pub method: AskMethod,
    /// JSON object.
    pub params: Vec<u8>,
}

/// What handlers want done. `params` is always a JSON object.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Send a notification on the call's stream.
    Notify { call: CallId, method: Notify, params: Vec<u8> },
    /// Legacy era: send the client a request on the call's stream; its reply goes to [`Context::answer`].
    Ask { call: CallId, key: String, method: AskMethod, params: Vec<u8> },
    /// Tell every subscriber, on every core, that a list changed.
    Changed { server: u32, list: List },
    /// Tell every subscriber, on every core, that a resource changed.
    Updated { server: u32, uri: String },
    /// Legacy era, 2025-11-25: close the call's stream; the client comes back after `retry_ms` with `Last-Event-ID`.
    CloseStream { call: CallId, retry_ms: u64 },
}

/// All that the engine says about a request when it hands it to a server.
pub(crate) struct CallSpec<'a> {
    pub call: CallId,
    /// Number of the server among those of the core: comes back in [`Effect::Changed`] and [`Effect::Updated`].
    pub server: u32,
    /// Its era is the call's era.
    pub version: Version,
    /// As it stands in the message: a JSON number or string.
    pub progress_token: Option<&'a [u8]>,
    /// The lowest level that may be logged; none: nothing may.
    pub level: Option<Level>,
    pub capabilities: ClientCapabilities,
    /// JSON `Implementation` object: of the request (modern) or of the session (legacy).
    pub client_info: Option<&'a [u8]>,
    /// JSON object: the request's `_meta`.
    pub meta: Option<&'a [u8]>,
    /// Who calls: equal bytes for the same caller.
    pub principal: &'a [u8],
    /// Modern era: the request's `inputResponses`, a JSON object.
    pub input_responses: Option<&'a [u8]>,
    /// Modern era: what [`Context::state_to_seal`] gave in the round before, out of the `requestState` that the engine opened.
    pub state: Option<&'a [u8]>,
}

/// One core's side of its native servers. Never borrowed while a handler runs.
pub(crate) struct Host {
    now: Cell<Now>,
    effects: RefCell<Vec<Effect>>,
    timers: RefCell<Timers>,
    pool: RefCell<Vec<Rc<CallState>>>,
    inbox: Arc<Inbox>,
}

impl Host {
    pub fn new(inbox: Arc<Inbox>, now: Now) -> Rc<Self> {
        Rc::new(Self { now: Cell::new(now), effects: RefCell::default(), timers: RefCell::default(), pool: RefCell::default(), inbox })
    }

    /// Sets the moment that handlers see. The engine calls it whenever it is entered.
    pub fn set_now(&self, now: Now) {
        self.now.set(now);
    }

    pub fn now(&self) -> Now {
        self.now.get()
    }

    /// The queue that other threads reach this core by.
    pub fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    /// Wakes every task whose timer is due. Wakers run outside any borrow.
    pub fn fire_timers(&self, now: Nanos) {
        loop {
            let due = self.timers.borrow_mut().pop_due(now);
            match due {
                Some(waker) => waker.wake(),
                None => return,
            }
        }
    }

    /// When the next timer comes due; [`Nanos::NEVER`] when there is none.
    pub fn next_timer(&self) -> Nanos {
        self.timers.borrow_mut().next()
    }

    /// Moves what handlers want done into `into`, oldest first.
    pub fn drain_effects(&self, into: &mut Vec<Effect>) {
        into.append(&mut self.effects.borrow_mut());
    }

    /// Whether handlers want anything done.
    pub fn has_effects(&self) -> bool {
        !self.effects.borrow().is_empty()
    }

    /// A context for one request. Its state comes from the free list and goes back there when the last clone is dropped.
    pub fn context(self: &Rc<Self>, spec: &CallSpec<'_>) -> Context {
        let state = self.pool.borrow_mut().pop().unwrap_or_default();
        state.begin(spec);
        Context::new(state, Rc::clone(self))
    }

    pub(super) fn effect(&self, effect: Effect) {
        self.effects.borrow_mut().push(effect);
    }

    pub(super) fn timers(&self) -> &RefCell<Timers> {
        &self.timers
    }

    /// Takes back a state that nobody else holds.
    pub(super) fn give_back(&self, state: &Rc<CallState>) {
        state.reset();
        let mut pool = self.pool.borrow_mut();
        if pool.len() < POOL_MAX {
            pool.push(Rc::clone(state));
        }
    }
}
