//! Sessions of upstreams of the legacy era: opened when they are first needed, and opened anew when the upstream has forgotten them (2025-11-25,
//! transports, "Session Management"). Whose they are stands in `owner`.

use compact_str::CompactString;

use super::failure::Failure;
use super::http::answer_to;
use super::owner::{Owner, Seat};
use super::rejoin::LAST_EVENT_ID;
use super::reply::Reply;
use super::scout::Errand;
use super::slots::Key;
use super::trip::{Stage, Trip, TripId, Verb, Who};
use super::upstream::{Open, Starts, State};
use super::write::{self, Number};
use super::{Gateway, Owned};
use crate::base::limits;
use crate::base::time::Nanos;
use crate::wire::json;
use crate::wire::jsonrpc::Id;
use crate::wire::mcp::{ClientCapabilities, Era, Method, Version};

/// What clients of the legacy era can be asked for through this gateway.
pub(super) const RELAYED: ClientCapabilities =
    ClientCapabilities::SAMPLING.with(ClientCapabilities::ELICITATION_FORM).with(ClientCapabilities::ROOTS);

/// Appends the head of a request of the legacy era. What a session says of itself was checked when it came. `after` is the last event of the
/// stream that is to be taken up.
pub(super) fn legacy_head(
    out: &mut Vec<u8>,
    starts: &Starts,
    verb: Verb,
    session: Option<&Open>,
    after: Option<&[u8]>,
    len: Option<usize>,
) {
    let mut head = starts.begin(out, verb);
    if let Some(open) = session {
        let version = head.field("MCP-Protocol-Version", open.version.as_str().as_bytes());
        let id = open.id.as_deref().map_or(Ok(()), |id| head.field("MCP-Session-Id", id));
        debug_assert!(version.and(id).is_ok(), "a version is a token, and the id was checked when it came");
    }
    if let Some(after) = after {
        let told = head.field(LAST_EVENT_ID, after);
        debug_assert!(told.is_ok(), "it was checked when it came");
    }
    head.end(len);
}

impl Gateway {
    /// Whether there is a session. If not, one is opened, and the request waits for it.
    pub(super) fn has_session(&mut self, now: Nanos, upstream: u32, key: Key) -> bool {
        let Some(seat) = self.trips.get(key).map(|trip| trip.seat) else { return false };
        let Some(session) = self.session_mut(upstream, seat) else {
            self.fail(now, key, Failure::NoSession);
            return false;
        };
        let mut is_new = false;
        match &mut session.state {
            State::Open(_) => return true,
            State::Opening { waiting } => waiting.push(key),
            none @ State::None => {
                *none = State::Opening { waiting: vec![key] };
                is_new = true;
            }
        }
        self.waits_unopened(upstream, key);
        if is_new {
            self.initialize(now, upstream, seat);
        }
        false
    }

    /// A request waits for its session.
    pub(super) fn waits_unopened(&mut self, upstream: u32, key: Key) {
        if let Some(trip) = self.trips.get_mut(key) {
            trip.stage = Stage::Unopened;
            self.upstreams[upstream].unopened += 1;
        }
    }

    /// Asks for a session on behalf of the scout.
    pub(super) fn open_session(&mut self, now: Nanos, upstream: u32) {
        let session = &mut self.upstreams[upstream].session;
        if !matches!(session.state, State::Opening { .. }) {
            session.state = State::Opening { waiting: Vec::new() };
            self.initialize(now, upstream, Seat::Shared);
        }
    }

    fn initialize(&mut self, now: Nanos, upstream: u32, seat: Seat) {
        let version = Version::LEGACY_NEWEST;
        // What is asked on the stream of a call is passed on to who called. On a shared pipe nobody could say who that is.
        let is_process = self.upstreams[upstream].pipe.is_some();
        let Some(session) = self.session(upstream, seat) else { return };
        let members = if session.members.is_empty() {
            write::initialize_members(version, if is_process { ClientCapabilities::NONE } else { RELAYED }, None)
        } else {
            session.members.to_vec()
        };
        self.ask_in(
            now,
            seat,
            Owned { upstream, errand: Errand::Initialize(seat), method: Method::Initialize, version, members: &members },
        );
    }

    /// The upstream has answered `initialize`.
    pub(super) fn on_initialized(&mut self, now: Nanos, upstream: u32, seat: Seat, reply: Result<&Reply<'_>, Failure>) {
        let error = reply.as_ref().ok().and_then(|reply| reply.outcome().ok()?.err());
        let opened = reply.and_then(|reply| {
            let result = reply.result()?;
            // What it offers instead of what was asked for (2025-11-25, lifecycle, "Version Negotiation").
            let version = json::get(result, "protocolVersion").and_then(Version::from_raw);
            let version = version.filter(|version| version.era() == Era::Legacy).ok_or(Failure::NoSession)?;
            let id = reply.session.clone().filter(|id| id.len() <= limits::UPSTREAM_SESSION_BYTES_MAX);
            let logs = json::get(result, "capabilities").and_then(|all| json::get(all, "logging")).is_some_and(|raw| raw.starts_with(b"{"));
            Ok((Open { id, version, logs, level: None }, result))
        });
        let (open, result) = match opened {
            Ok(opened) => opened,
            Err(failure) => return self.on_no_session(now, upstream, seat, &failure, error),
        };
        let up = &mut self.upstreams[upstream];
        let info = json::get(result, "serverInfo").filter(|raw| raw.starts_with(b"{") && raw.len() <= limits::SERVER_TEXT_BYTES_MAX);
        if let Some(info) = info.filter(|info| **info != *up.info) {
            up.info = info.into();
        }
        up.is_neutral = open.id.is_none() && up.pipe.is_none();
        let is_neutral = up.is_neutral;
        if let (Seat::Shared, Some(scout)) = (seat, &mut up.scout) {
            scout.greeted(result);
        }
        let Some(session) = self.session_mut(upstream, seat) else { return };
        let waiting = session.take_waiting();
        let is_waited_for = !waiting.is_empty();
        session.state = State::Open(open);
        session.opened = session.opened.wrapping_add(1).max(1);
        // They wait until the upstream knows that the session has begun.
        session.greeting = waiting;
        match seat {
            // The next requests of its owner go in the shared one.
            Seat::Own(key) if is_neutral => self.end_session(key),
            Seat::Own(key) => self.close_if_over(key),
            Seat::Shared if self.is_draining && !is_waited_for => return self.end_shared(upstream),
            Seat::Shared => {}
        }
        if self.session(upstream, seat).is_some() {
            self.notify(now, upstream, seat, Errand::Initialized(seat), br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        }
    }

    /// The upstream knows that the session has begun, or would not be told.
    pub(super) fn on_session_begun(&mut self, now: Nanos, upstream: u32, seat: Seat, told: Result<(), Failure>) {
        if let Err(failure) = told {
            return self.on_no_session(now, upstream, seat, &failure, None);
        }
        self.release_greeting(now, upstream, seat);
        if seat == Seat::Shared {
            self.on_session(now, upstream);
        }
    }

    /// The session is to log from another level on, or would not be told.
    pub(super) fn on_level_set(&mut self, now: Nanos, upstream: u32, seat: Seat) {
        self.release_greeting(now, upstream, seat);
    }

    /// What waited goes on; perhaps the upstream is to be told of a level first.
    fn release_greeting(&mut self, now: Nanos, upstream: u32, seat: Seat) {
        let greeting = self.session_mut(upstream, seat).map(|session| std::mem::take(&mut session.greeting)).unwrap_or_default();
        for key in greeting {
            let Some(trip) = self.trips.get_mut(key).filter(|trip| trip.stage == Stage::Unopened) else { continue };
            trip.stage = Stage::Waiting;
            self.upstreams[upstream].unopened -= 1;
            self.dispatch(now, key);
        }
    }

    /// `error`: what the upstream said instead.
    fn on_no_session(&mut self, now: Nanos, upstream: u32, seat: Seat, failure: &Failure, error: Option<&[u8]>) {
        let Some(session) = self.session_mut(upstream, seat) else { return };
        let mut waiting = session.take_waiting();
        waiting.append(&mut session.greeting);
        let open = session.close();
        session.state = State::None;
        for key in waiting {
            if !error.is_some_and(|error| self.renegotiate(now, key, error)) {
                self.fail(now, key, failure.clone());
            }
        }
        // It may have it all the same.
        if let Some(open) = open {
            self.end_later(upstream, open);
        }
        match seat {
            Seat::Shared => self.on_scout_failure(now, upstream, failure),
            Seat::Own(key) => self.close_if_over(key),
        }
    }

    /// Whether an answer says that the session is no more.
    pub(super) fn is_session_lost(&self, key: Key, status: u16, body: &[u8]) -> bool {
        let Some(trip) = self.trips.get(key).filter(|trip| trip.session != 0) else { return false };
        // Some say it with 400, in words. What answers the request itself says nothing of the session.
        let is_worded = || memchr::memmem::find(body, b"ession").is_some() && !trip.is_answered_by(body);
        status == 404 || (status == 400 && is_worded())
    }

    /// The session is no more: the request, which was not taken, goes again in another one; once.
    pub(super) fn renew(&mut self, now: Nanos, key: Key) {
        let Some(trip) = self.trips.get_mut(key) else { return };
        if std::mem::replace(&mut trip.is_renewed, true) {
            return self.fail(now, key, Failure::NoSession);
        }
        let (upstream, seat, session) = (trip.upstream, trip.seat, trip.session);
        // Another request that was sent in it may have found that out before.
        if self.session(upstream, seat).is_some_and(|own| own.opened == session) {
            self.forget_session(upstream, seat);
        }
        self.part(key);
        self.dispatch(now, key);
    }

    /// The upstream knows this session no more.
    pub(super) fn forget_session(&mut self, upstream: u32, seat: Seat) {
        if let Some(session) = self.session_mut(upstream, seat) {
            session.close();
        }
    }

    /// Whether as many messages as may be are on their way there. Each takes a link: neither clients that come and go nor an upstream that asks
    /// and asks may have one for each time.
    fn tells_enough(&self, upstream: u32) -> bool {
        self.upstreams[upstream].tells >= limits::UPSTREAM_TELLS_MAX
    }

    /// Tells an upstream that nobody waits for this request any more (2025-11-25, basic, "Cancellation"). One of the modern era that is not a
    /// process is told by hanging up.
    pub(super) fn tell_cancelled(&mut self, now: Nanos, upstream: u32, seat: Seat, number: u64) {
        if self.tells_enough(upstream) {
            return;
        }
        let message = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{number},"reason":"The client does not wait for it any more"}}}}"#
        );
        self.notify(now, upstream, seat, Errand::Tell, message.as_bytes());
    }

    /// Answers what an upstream asks while a request is in work.
    pub(super) fn answer_question(&mut self, now: Nanos, upstream: u32, seat: Seat, id: &[u8], method: Method) {
        if self.tells_enough(upstream) {
            return;
        }
        let mut message = self.buffer();
        answer_to(method, id, &mut message);
        self.notify(now, upstream, seat, Errand::Tell, &message);
        self.give_back(message);
    }

    /// The client has answered what the upstream asked while it worked on a request: a result, or an error object.
    pub fn answer(&mut self, now: Nanos, trip: TripId, id: &str, reply: Result<&[u8], &[u8]>) {
        let Some(trip) = self.trips.get_mut((trip.0, trip.1)) else { return };
        trip.questions = trip.questions.saturating_sub(1);
        let (upstream, seat) = (trip.upstream, trip.seat);
        if trip.questions == 0 {
            trip.asked = 0;
            let up = &self.upstreams[upstream];
            trip.ends = up.deadline(now);
            // One whose stream is apart waits for that.
            trip.due = if trip.stage == Stage::Apart { trip.due } else { now.after(up.settings.idle_timeout) };
            let due = trip.due.min(trip.ends);
            self.expect(due);
        }
        let mut message = self.buffer();
        message.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
        message.extend_from_slice(id.as_bytes());
        let (name, value) = match reply {
            Ok(result) => (&br#","result":"#[..], result),
            Err(error) => (&br#","error":"#[..], error),
        };
        message.extend_from_slice(name);
        message.extend_from_slice(value);
        message.push(b'}');
        self.notify(now, upstream, seat, Errand::Tell, &message);
        self.give_back(message);
    }

    /// Another request of the client waits for what the first one did: its id and progress token are put in their places.
    pub fn readdress(&mut self, trip: TripId, id: Id<'_>, token: Option<&[u8]>) {
        let Some(trip) = self.trips.get_mut((trip.0, trip.1)) else { return };
        trip.id = CompactString::from_utf8_lossy(id.raw());
        trip.token = token.map(CompactString::from_utf8_lossy).unwrap_or_default();
    }

    /// Sends a message that is not answered.
    fn notify(&mut self, now: Nanos, upstream: u32, seat: Seat, errand: Errand, message: &[u8]) {
        if errand == Errand::Tell && self.upstreams[upstream].pipe.is_some() {
            return self.tell_piped(upstream, message);
        }
        // What there is to be said of a session that is no more, nobody wants to know.
        if errand == Errand::Tell && self.session(upstream, seat).is_none_or(|session| session.open().is_none()) {
            return;
        }
        let key = self.own_trip(now, upstream, seat, errand, Verb::Post, Method::Unknown, Version::LEGACY_NEWEST);
        if let Some(trip) = self.trips.get_mut(key) {
            trip.body.extend_from_slice(message);
        }
        self.dispatch(now, key);
    }

    /// Sends a request of this gateway's own.
    pub(super) fn ask(&mut self, now: Nanos, owned: Owned<'_>) -> Key {
        self.ask_in(now, Seat::Shared, owned)
    }

    /// The same in this session.
    pub(super) fn ask_in(&mut self, now: Nanos, seat: Seat, owned: Owned<'_>) -> Key {
        let number = self.number();
        let Owned { upstream, errand, method, version, members } = owned;
        let key = self.own_trip(now, upstream, seat, errand, Verb::Post, method, version);
        if let (Some(scout), Seat::Shared) = (self.scout(upstream), seat) {
            scout.asked = now;
        }
        let starts = &self.upstreams[upstream].settings.starts;
        if let Some(trip) = self.trips.get_mut(key) {
            write::own_request(&mut trip.body, number, method, version, members);
            trip.number = Some(number);
            if version.era() == Era::Modern && self.upstreams[upstream].pipe.is_none() {
                let mut head = starts.begin(&mut trip.head, Verb::Post);
                let mirrored = write::mirrors(&mut head, version, method, "", &mut self.space);
                debug_assert!(mirrored.is_ok(), "methods and versions are tokens");
                head.end(Some(trip.body.len()));
            }
        }
        self.dispatch(now, key);
        key
    }

    #[expect(clippy::too_many_arguments, reason = "one request in all its parts")]
    pub(super) fn own_trip(
        &mut self,
        now: Nanos,
        upstream: u32,
        seat: Seat,
        errand: Errand,
        verb: Verb,
        method: Method,
        version: Version,
    ) -> Key {
        let (head, body) = (self.buffer(), self.buffer());
        let up = &mut self.upstreams[upstream];
        up.tells += usize::from(errand == Errand::Tell);
        up.ending += usize::from(errand == Errand::End);
        let ends = up.deadline(now);
        let trip = Trip {
            upstream,
            pass: None,
            who: Who::Own(errand),
            stage: Stage::Waiting,
            verb,
            version,
            client: version.era(),
            method,
            head,
            body,
            id: CompactString::default(),
            number: None::<Number>,
            token: CompactString::default(),
            names: None,
            level: None,
            wanted: None,
            due: Nanos::NEVER,
            ends,
            is_retried: false,
            seat,
            session: 0,
            is_renewed: false,
            owner: Owner::Shared,
            speaks: version,
            capabilities: ClientCapabilities::NONE,
            agrees: true,
            is_mended: false,
            questions: 0,
            asked: 0,
            rejoin: None,
        };
        self.trips.insert(trip)
    }
}
