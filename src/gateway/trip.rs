//! Trips: requests on their way to an upstream, and what was heard of them.

use std::borrow::Cow;

use compact_str::CompactString;

use super::breaker::Pass;
use super::failure::Failure;
use super::owner::{Owner, Seat};
use super::rejoin::Rejoin;
use super::scout::Errand;
use super::translate::{self, Terms};
use super::write::Number;
use crate::base::ids::{CallId, CoreId, LinkId};
use crate::base::time::Nanos;
use crate::wire::mcp::{ClientCapabilities, Era, Level, Method, Version};

/// Names one relayed request on its core.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct TripId(pub(super) u32, pub(super) u32);

/// What was heard of a client's request.
#[derive(Debug)]
pub struct Heard<'i> {
    /// The core where it is in work.
    pub core: CoreId,
    /// Whose it is.
    pub call: CallId,
    /// What was heard.
    pub what: What<'i>,
}

/// See [`Heard`]. Messages are whole, and as the client's era has them.
#[derive(Debug)]
pub enum What<'i> {
    /// A notification to be passed on.
    Notice(Cow<'i, [u8]>),
    /// The response; nothing follows.
    Answer {
        /// The HTTP status that goes with it, should it be a whole response.
        status: u16,
        /// The response.
        message: Cow<'i, [u8]>,
    },
    /// The upstream asks a client of the legacy era something before it goes on: this is its whole response. [`Gateway::resume`] follows.
    ///
    /// [`Gateway::resume`]: super::Gateway::resume
    Asks(Cow<'i, [u8]>),
    /// An upstream of the legacy era asks the client something while it works on the request. [`Gateway::answer`] follows.
    ///
    /// [`Gateway::answer`]: super::Gateway::answer
    Question {
        /// The upstream's id, raw.
        id: Box<str>,
        /// What it asks for.
        method: Box<str>,
        /// The parameters, a raw object.
        params: Box<[u8]>,
    },
    /// The upstream has closed the stream of the request, and is asked for the rest of it later. A client of the legacy era can do the same.
    Apart {
        /// When that is, in milliseconds.
        retry_ms: u64,
    },
    /// There will be no response; nothing follows.
    Failed(Failure),
}

/// Whose request it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Who {
    /// A client's, in work on this core.
    Call(CoreId, CallId),
    /// This gateway's own.
    Own(Errand),
}

/// The method of HTTP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verb {
    Post,
    Get,
    Delete,
}

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// It waits for its session.
    Unopened,
    /// It waits for a link.
    Waiting,
    /// It was written to this link, which carries it alone.
    Sent(LinkId),
    /// It was written to a process, which has others.
    Piped,
    /// The upstream waits for what it asked.
    Asking,
    /// Its stream ended before its answer came, and is taken up again when it is due.
    Apart,
    /// It waits until it is known what header fields its tool wants.
    Refreshing,
}

/// One request and what is needed to send it, perhaps again, and to read its answer.
#[derive(Debug)]
pub(super) struct Trip {
    pub upstream: u32,
    /// The breaker's leave; none for what the gateway asks itself, which is how it sees that an upstream is back.
    pub pass: Option<Pass>,
    pub who: Who,
    pub stage: Stage,
    pub verb: Verb,
    /// What the upstream speaks. A legacy session may have agreed on another revision of its era.
    pub version: Version,
    pub client: Era,
    pub method: Method,
    /// The whole head of a request of the modern era. In the legacy era it depends on the session, and is made when it is sent.
    pub head: Vec<u8>,
    pub body: Vec<u8>,
    /// The client's id, raw.
    pub id: CompactString,
    /// What was sent in its place.
    pub number: Option<Number>,
    /// The client's progress token, raw; empty for none.
    pub token: CompactString,
    /// What upstream and client call a resource that was renamed.
    pub names: Option<Box<(CompactString, CompactString)>>,
    pub level: Option<Level>,
    /// That which its client has asked for.
    pub wanted: Option<Level>,
    /// It fails when nothing is heard of it until then.
    pub due: Nanos,
    /// It fails when it has not ended then.
    pub ends: Nanos,
    /// It was sent again because a link broke.
    pub is_retried: bool,
    /// Whose session it goes in.
    pub seat: Seat,
    /// Which of its sessions it was sent in, as they are counted; 0 for none, or one without an id.
    pub session: u32,
    /// It was sent again because the session had ended.
    pub is_renewed: bool,
    /// Who calls, the version that it speaks, and what it can be asked for.
    pub owner: Owner,
    pub speaks: Version,
    pub capabilities: ClientCapabilities,
    /// See [`Terms`].
    pub agrees: bool,
    /// It was sent again in another way, since the upstream is not as it was known.
    pub is_mended: bool,
    /// What its upstream asked its client and has no answer to.
    pub questions: u32,
    /// Bytes of those questions, and of those answered since there was none.
    pub asked: usize,
    /// Its stream ended before its answer came: what goes out for it from then on asks for the rest.
    pub rejoin: Option<Box<Rejoin>>,
}

impl Trip {
    /// What is to be known to read what is said of it.
    pub fn terms<'a>(&'a self, server_info: &'a [u8]) -> Terms<'a> {
        Terms {
            client: self.client,
            version: self.version,
            method: self.method,
            id: self.id.as_bytes(),
            number: self.number,
            token: self.token.as_bytes(),
            names: self.names.as_deref().map_or(("", ""), |(own, exposed)| (own, exposed)),
            level: self.level,
            agrees: self.agrees,
            knows_tasks: self.capabilities.tasks_extension(),
            server_info,
        }
    }

    /// Whether it changes nothing at the upstream, so that it may be sent twice.
    pub const fn is_safe(&self) -> bool {
        !matches!(self.method, Method::ToolsCall)
    }

    /// Whether a body is the response to it, by its id.
    pub fn is_answered_by(&self, body: &[u8]) -> bool {
        matches!(translate::hear(body, &self.terms(b"{}")), Ok(translate::Heard::Answer(response)) if response.id.is_some())
    }

    /// The link that it was written to.
    pub const fn link(&self) -> Option<LinkId> {
        match self.stage {
            Stage::Sent(link) => Some(link),
            Stage::Unopened | Stage::Waiting | Stage::Piped | Stage::Asking | Stage::Apart | Stage::Refreshing => None,
        }
    }
}
