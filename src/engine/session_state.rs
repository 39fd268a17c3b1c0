//! One legacy session: what was agreed at `initialize`, and what is in work.

use std::rc::Rc;

use hashbrown::HashMap;

use super::{
    directory::DirectoryKey,
    session::Opening,
    stream_log::{EventLog, StreamNo, Streams},
};
use crate::{
    base::{
        ids::{CallId, ConnId},
        limits::{ASKS_PER_SESSION_MAX, CALLS_PER_SESSION_MAX},
    },
    wire::mcp::{ClientCapabilities, Level, Version},
};

/// Begins the id of every request that a server sends to a client: such ids are never a client's.
const ASK_PREFIX: &[u8] = b"\"ask-";
/// Hexadecimal digits of an ask's token.
const TOKEN_DIGITS: usize = 16;

/// Names one request from the server to the client within its session. Drawn so that a client cannot guess one it was not sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct AskToken(pub u64);

impl AskToken {
    /// Appends the request id as it stands in the message: a JSON string.
    pub fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(ASK_PREFIX);
        for digit in (0..TOKEN_DIGITS).rev() {
            let nibble = (self.0 >> (digit * 4)) & 0xF;
            out.push(b"0123456789abcdef"[nibble as usize]);
        }
        out.push(b'"');
    }

    /// Reads a posted response's id as it stands in the message; none unless it is just what [`Self::write`] writes.
    #[must_use]
    pub fn parse(raw: &[u8]) -> Option<Self> {
        let digits = raw.strip_prefix(ASK_PREFIX)?.strip_suffix(b"\"")?;
        let lower = digits.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if digits.len() != TOKEN_DIGITS || !lower {
            return None;
        }
        u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok().map(Self)
    }
}

/// A request to the client that waits for its answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ask {
    /// The call that asked.
    pub call: CallId,
    /// The name under which it asked.
    pub key: Box<str>,
}

/// Why a request was not taken into work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotBegun {
    /// A request with this id is in work (JSON-RPC ids are unique among those).
    Duplicate,
    /// The session has as many in work as it may.
    Full,
}

/// What ended with a session.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Calls to cancel.
    pub calls: Vec<CallId>,
    /// Connections whose streams are to be ended.
    pub conns: Vec<ConnId>,
}

/// What only a session with something in work needs.
#[derive(Debug, Default)]
struct Active {
    calls: HashMap<Box<[u8]>, CallId>,
    asks: HashMap<AskToken, Ask>,
    subscriptions: Vec<Rc<[u8]>>,
    subscribed_bytes: usize,
    streams: Streams,
}

const _: () = assert!(size_of::<Active>() <= 256, "a session whose client only listens is to cost little, too");

impl Active {
    fn is_empty(&self) -> bool {
        self.calls.is_empty() && self.asks.is_empty() && self.subscriptions.is_empty() && self.streams.is_empty()
    }
}

/// One legacy session.
#[derive(Debug)]
pub struct Session {
    /// Number of the endpoint it is good for.
    pub endpoint: u64,
    /// The version agreed on.
    pub version: Version,
    /// What the client declared.
    pub capabilities: ClientCapabilities,
    /// What `logging/setLevel` asked for last.
    pub level: Option<Level>,
    /// Whether `notifications/initialized` has come.
    pub ready: bool,
    /// Numbers given to streams. Never reset: event ids are unique within the session.
    streams_used: u32,
    directory: DirectoryKey,
    client_info: Option<Rc<[u8]>>,
    active: Option<Box<Active>>,
}

impl Session {
    pub(super) fn new(opening: &Opening<'_>, client_info: Option<Rc<[u8]>>, directory: DirectoryKey) -> Self {
        Self {
            endpoint: opening.endpoint,
            version: opening.version,
            capabilities: opening.capabilities,
            level: None,
            ready: false,
            streams_used: 0,
            directory,
            client_info,
            active: None,
        }
    }

    pub(super) const fn directory_key(&self) -> DirectoryKey {
        self.directory
    }

    /// The client's `clientInfo`, as it stood in `initialize`.
    #[must_use]
    pub fn client_info(&self) -> Option<Rc<[u8]>> {
        self.client_info.clone()
    }

    /// Whether a call is in work or a stream is open.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.active.as_ref().is_some_and(|active| !active.calls.is_empty() || active.streams.any_open())
    }

    /// Whether a request with this id may be taken into work.
    ///
    /// # Errors
    /// When the id is in use, or too many are in work.
    pub fn may_begin(&self, id: &[u8]) -> Result<(), NotBegun> {
        match &self.active {
            Some(active) if active.calls.contains_key(id) => Err(NotBegun::Duplicate),
            Some(active) if active.calls.len() >= CALLS_PER_SESSION_MAX => Err(NotBegun::Full),
            _ => Ok(()),
        }
    }

    /// Takes a request into work under its id, which [`Self::may_begin`].
    pub fn begin(&mut self, id: &[u8], call: CallId) {
        self.active_mut().calls.insert(id.into(), call);
    }

    /// The request in work with that id.
    #[must_use]
    pub fn call(&self, id: &[u8]) -> Option<CallId> {
        self.active.as_ref()?.calls.get(id).copied()
    }

    /// The request is no longer in work; nor is what it asked of the client. Gives the questions left without an answer.
    pub fn finish(&mut self, id: &[u8], call: CallId) -> Vec<AskToken> {
        let Some(active) = &mut self.active else { return Vec::new() };
        if active.calls.get(id) == Some(&call) {
            active.calls.remove(id);
        }
        let open: Vec<_> = active.asks.iter().filter(|(_, ask)| ask.call == call).map(|(&token, _)| token).collect();
        for token in &open {
            active.asks.remove(token);
        }
        self.relax();
        open
    }

    /// Notes a request to the client. False when too many wait for an answer.
    #[must_use]
    pub fn ask(&mut self, token: AskToken, ask: Ask) -> bool {
        let asks = &mut self.active_mut().asks;
        let room = asks.len() < ASKS_PER_SESSION_MAX;
        if room {
            asks.insert(token, ask);
        }
        room
    }

    /// Takes the question that a posted response answers, by the response's id as it stands in the message.
    pub fn answered(&mut self, id: &[u8]) -> Option<Ask> {
        let ask = self.active.as_mut()?.asks.remove(&AskToken::parse(id)?);
        self.relax();
        ask
    }

    /// Whether the call waits for an answer.
    #[must_use]
    pub fn asks(&self, call: CallId) -> bool {
        self.active.as_ref().is_some_and(|active| active.asks.values().any(|ask| ask.call == call))
    }

    /// Opens a stream for the answer of a POST, on the connection that brought it; the connection may have gone meanwhile.
    pub fn open_stream(&mut self, conn: Option<ConnId>) -> StreamNo {
        self.streams_used += 1;
        let number = StreamNo(self.streams_used);
        self.streams_mut().open(number, conn);
        number
    }

    /// The session's streams, to change them.
    pub fn streams_mut(&mut self) -> &mut Streams {
        &mut self.active_mut().streams
    }

    /// The session's streams, if it ever had one.
    #[must_use]
    pub fn streams(&self) -> Option<&Streams> {
        self.active.as_ref().map(|active| &active.streams)
    }

    pub(super) fn forget_oldest_event(&mut self, log: &mut EventLog) -> bool {
        let forgot = self.active.as_mut().is_some_and(|active| active.streams.forget_oldest(log));
        self.relax();
        forgot
    }

    /// The resources it subscribed to.
    #[must_use]
    pub fn subscriptions(&self) -> &[Rc<[u8]>] {
        self.active.as_ref().map_or(&[], |active| &active.subscriptions)
    }

    /// Subscriptions: how many, and their URIs' bytes.
    pub(super) fn subscribed(&self) -> (usize, usize) {
        self.active.as_ref().map_or((0, 0), |active| (active.subscriptions.len(), active.subscribed_bytes))
    }

    /// Whether the session subscribed to the resource.
    #[must_use]
    pub fn subscribes(&self, uri: &[u8]) -> bool {
        self.active.as_ref().is_some_and(|active| active.subscriptions.iter().any(|other| **other == *uri))
    }

    pub(super) fn add_subscription(&mut self, uri: Rc<[u8]>) {
        let active = self.active_mut();
        active.subscribed_bytes += uri.len();
        active.subscriptions.push(uri);
    }

    pub(super) fn remove_subscription(&mut self, uri: &[u8]) -> bool {
        let Some(active) = &mut self.active else { return false };
        let Some(at) = active.subscriptions.iter().position(|other| **other == *uri) else { return false };
        active.subscriptions.swap_remove(at);
        active.subscribed_bytes -= uri.len();
        self.relax();
        true
    }

    pub(super) fn take_subscriptions(&mut self) -> Vec<Rc<[u8]>> {
        self.active.as_mut().map(|active| std::mem::take(&mut active.subscriptions)).unwrap_or_default()
    }

    /// What must be ended with the session. Its events leave the log.
    pub(super) fn end(mut self, log: &mut EventLog) -> Ended {
        let Some(active) = &mut self.active else { return Ended::default() };
        active.streams.forget_all(log);
        Ended { calls: active.calls.values().copied().collect(), conns: active.streams.conns().collect() }
    }

    /// Lets go of the box when nothing is in it.
    pub fn relax(&mut self) {
        if self.active.as_ref().is_some_and(|active| active.is_empty()) {
            self.active = None;
        }
    }

    fn active_mut(&mut self) -> &mut Active {
        self.active.get_or_insert_with(Box::default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        let capabilities = ClientCapabilities::NONE;
        let opening = Opening { endpoint: 0, version: Version::V2025_11_25, capabilities, client_info: None };
        Session::new(&opening, None, DirectoryKey(0))
    }

    fn call(index: u32) -> CallId {
        CallId { index, generation: 0 }
    }

    #[test]
    fn the_id_of_a_request_in_work_is_taken() {
        let mut session = session();
        assert_eq!(session.may_begin(b"1"), Ok(()));
        session.begin(b"1", call(1));
        assert_eq!(session.may_begin(b"1"), Err(NotBegun::Duplicate));
        assert_eq!(session.may_begin(b"\"1\""), Ok(()));
        session.begin(b"\"1\"", call(2));
        assert_eq!(session.call(b"\"1\""), Some(call(2)), "a string is not a number");
        assert!(session.is_busy());
        session.finish(b"1", call(9));
        assert_eq!(session.call(b"1"), Some(call(1)), "another call's end changes nothing");
        session.finish(b"1", call(1));
        session.finish(b"\"1\"", call(2));
        assert!(!session.is_busy() && session.active.is_none());
    }

    #[test]
    fn requests_in_work_are_bounded() {
        let mut session = session();
        for index in 0..CALLS_PER_SESSION_MAX {
            session.begin(index.to_string().as_bytes(), call(index as u32));
        }
        assert_eq!(session.may_begin(b"\"more\""), Err(NotBegun::Full));
    }

    #[test]
    fn an_answer_finds_its_question_once() {
        let mut session = session();
        let ask = Ask { call: call(1), key: "name".into() };
        assert!(session.ask(AskToken(0xAB), ask.clone()));
        let mut id = Vec::new();
        AskToken(0xAB).write(&mut id);
        assert_eq!(id, b"\"ask-00000000000000ab\"");
        for wrong in [b"171".as_slice(), b"\"ask-ab\"", b"\"ask-00000000000000AB\"", b"\"ask-00000000000000ac\"", b"null"] {
            assert_eq!(session.answered(wrong), None);
        }
        assert_eq!(session.answered(&id), Some(ask));
        assert_eq!(session.answered(&id), None);
    }

    #[test]
    fn questions_end_with_the_call_that_asked() {
        let mut session = session();
        session.begin(b"1", call(1));
        assert!(session.ask(AskToken(1), Ask { call: call(1), key: "a".into() }));
        assert!(session.ask(AskToken(2), Ask { call: call(2), key: "b".into() }));
        assert_eq!(session.finish(b"1", call(1)), [AskToken(1)]);
        assert_eq!(session.finish(b"2", call(2)), [AskToken(2)]);
        assert!(session.active.is_none());
    }

    #[test]
    fn questions_are_bounded() {
        let mut session = session();
        for token in 0..ASKS_PER_SESSION_MAX {
            assert!(session.ask(AskToken(token as u64), Ask { call: call(1), key: "k".into() }));
        }
        assert!(!session.ask(AskToken(u64::MAX), Ask { call: call(1), key: "k".into() }));
    }

    #[test]
    fn stream_numbers_are_never_used_twice() {
        let mut session = session();
        let first = session.open_stream(None);
        session.streams_mut().finish(first);
        session.relax();
        assert!(session.active.is_none());
        assert_ne!(session.open_stream(None), first);
    }
}
