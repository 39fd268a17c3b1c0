//! HTTP requests of the legacy era: sessions, and what POST, GET and DELETE mean to them (2025-03-26, 2025-06-18 and 2025-11-25,
//! transports, "Streamable HTTP"). What the methods do stands in [`super::legacy_method`], how streams go on in [`super::legacy_stream`].

use super::batch::{Gather, Plan, plan};
use super::call::Ending;
use super::calls::Call;
use super::exchange::Owner;
use super::ladder::Fall;
use super::legacy_method::{self, Answer};
use super::legacy_stream;
use super::modern::Post;
use super::news::News;
use super::out::Out;
use super::pending::{Pending, PendingId, Pendings};
use super::session::{Found, Sessions};
use super::session_id::ConnMemo;
use super::session_state::{AskToken, Ended};
use super::stream_log::{EventId, StreamNo};
use super::{Engine, EngineConfig, Shared, Verdict, handshake, reply, server_request};
use crate::base::fault::Kind;
use crate::base::ids::{ConnId, CoreId, SessionKey};
use crate::base::metrics::{Counter, Gauge};
use crate::base::time::{Nanos, Now};
use crate::gateway;
use crate::native::host::Effect as Wish;
use crate::wire::http1::Known;
use crate::wire::jsonrpc::{Batch, Body, Message, Notification, Request};
use crate::wire::mcp::{self, Era, Method, Version};
use crate::wire::sse;
use siphasher::sip::SipHasher24;

/// Who hears what comes of a call: a response that is owed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Asker(pub(super) PendingId);

/// What a connection carries while its response is not complete.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Carried {
    /// The response of a POST.
    Post(PendingId),
    /// A stream that a GET opened or resumed.
    Get(SessionKey, StreamNo),
}

/// The legacy era of one core.
pub(super) struct Legacy {
    pub sessions: Sessions,
    pub pendings: Pendings,
    /// Draws the ids of requests to clients.
    pub tokens: Tokens,
    /// Streams that a GET opened and that are open.
    pub gets: usize,
}

impl Legacy {
    pub fn new(core: CoreId, config: &EngineConfig, shared: &'static Shared) -> Self {
        let (boot, _) = shared.boot().split_first_chunk().expect("a boot is longer than a number");
        let boot = u64::from_le_bytes(*boot);
        let salt = [&shared.boot()[..], &core.0.to_le_bytes()].concat();
        let secret = config.seal_keys.secret("ringhub 2026 v1 tokens of requests to clients", &salt);
        let mut key = [0; 16];
        key.copy_from_slice(&secret[..16]);
        Self {
            sessions: Sessions::new(core, boot, shared.sessions(), config.sessions_max, config.session_idle_timeout),
            pendings: Pendings::default(),
            tokens: Tokens { key, drawn: 0 },
            gets: 0,
        }
    }

    /// When [`on_tick`] has something to do.
    pub fn next_due(&self) -> Nanos {
        self.sessions.next_deadline()
    }
}

/// Draws tokens that nobody can foretell: a keyed hash of a count. The key is secret and differs from core to core.
pub(super) struct Tokens {
    key: [u8; 16],
    drawn: u64,
}

impl Tokens {
    pub fn draw(&mut self) -> AskToken {
        self.drawn += 1;
        AskToken(SipHasher24::new_with_key(&self.key).hash(&self.drawn.to_le_bytes()))
    }
}

/// Why a request does not reach its session.
enum Stop {
    Fault(Kind),
    /// The session is at home there.
    Move(CoreId),
}

/// One POST. `body` is of the legacy era.
pub(super) fn on_post(
    engine: &mut Engine,
    now: Now,
    post: &Post<'_>,
    memo: &mut ConnMemo,
    body: &Body<'_>,
    reply: &mut Vec<u8>,
    out: &mut Out,
) -> Verdict {
    if !(post.terms.json && post.terms.sse) {
        return refuse(engine, now, post, Kind::NotAcceptable, reply);
    }
    if let Body::One(Message::Request(request)) = body
        && request.method == Method::Initialize.name()
    {
        return handshake::on_initialize(engine, now, post, memo, request, reply);
    }
    let key = match enter(engine, now, post, memo) {
        Ok(key) => key,
        Err(Stop::Move(core)) => return Verdict::Move(core),
        Err(Stop::Fault(kind)) => return refuse(engine, now, post, kind, reply),
    };
    match body {
        Body::One(Message::Request(request)) => on_single(engine, now, post, key, request, reply, out),
        Body::One(Message::Notification(notification)) => {
            on_notification(engine, now, key, notification, out);
            engine.accept(now, &post.terms, reply)
        }
        Body::One(Message::Response(response)) => {
            server_request::on_response(engine, now, key, response, out);
            engine.accept(now, &post.terms, reply)
        }
        Body::Batch(batch) => on_batch(engine, now, post, key, batch, reply, out),
    }
}

/// The rules of sessions: the id is there, names a living session of this endpoint, and the version header names a version of this era
/// (2025-06-18, transports, "Session Management" and "Protocol Version Header").
fn enter(engine: &mut Engine, now: Now, post: &Post<'_>, memo: &mut ConnMemo) -> Result<SessionKey, Stop> {
    let id = post.headers.get(Known::SessionId).filter(|id| !id.is_empty()).ok_or(Stop::Fault(Kind::SessionMissing))?;
    if post.headers.repeated(Known::SessionId) {
        return Err(Stop::Fault(Kind::SessionRepeated));
    }
    let key = match engine.legacy.sessions.find(&mut engine.sealer, memo, id) {
        Found::Here(key) => key,
        Found::Elsewhere(core) => return Err(Stop::Move(core)),
        Found::Dead => return Err(Stop::Fault(Kind::SessionNotFound)),
    };
    let session = engine.legacy.sessions.get(key).filter(|session| session.endpoint == post.view.endpoint.id.number);
    let version = session.ok_or(Stop::Fault(Kind::SessionNotFound))?.version;
    // Most name the session's own version, which is of this era.
    let named = post.headers.get(Known::ProtocolVersion).filter(|named| *named != version.as_str().as_bytes());
    let is_other = |named: &[u8]| Version::parse(named).is_none_or(|version| version.era() != Era::Legacy);
    let is_repeated = post.headers.repeated(Known::ProtocolVersion);
    if named.is_some_and(is_other) || (is_repeated && post.headers.values(Known::ProtocolVersion).any(is_other)) {
        return Err(Stop::Fault(Kind::VersionHeader));
    }
    engine.legacy.sessions.touch(key, now.mono);
    Ok(key)
}

fn on_single(
    engine: &mut Engine,
    now: Now,
    post: &Post<'_>,
    key: SessionKey,
    request: &Request<'_>,
    reply: &mut Vec<u8>,
    out: &mut Out,
) -> Verdict {
    let mut body = std::mem::take(&mut engine.scratch.body);
    body.clear();
    let mut owed = None;
    let answer = legacy_method::on_request(engine, now, post, key, request, &mut owed, &mut body, out);
    let verdict = match (answer, owed) {
        (Answer::Now(status), Some(id)) if engine.has_wishes() => {
            open(engine, now, post, id);
            engine.carry_out(now, out);
            legacy_stream::reply(engine, now, id, status, &body, out);
            Verdict::Later
        }
        (Answer::Now(status), _) => {
            let date = engine.date.at(now.wall_ms);
            reply::json(reply, &post.terms, date, status, &[], &body);
            Verdict::Answered { close: post.terms.close }
        }
        (Answer::Waiting(id), _) => {
            open(engine, now, post, id);
            engine.carry_out(now, out);
            Verdict::Later
        }
    };
    engine.scratch.body = body;
    verdict
}

/// The response does not complete at once.
fn open(engine: &mut Engine, now: Now, post: &Post<'_>, id: PendingId) {
    engine.exchanges.open(post.conn, &post.terms, Owner::Legacy(Carried::Post(id)), now.mono);
}

fn on_batch(
    engine: &mut Engine,
    now: Now,
    post: &Post<'_>,
    key: SessionKey,
    batch: &Batch<'_>,
    reply: &mut Vec<u8>,
    out: &mut Out,
) -> Verdict {
    let is_allowed = engine.legacy.sessions.get(key).is_some_and(|session| session.version.batches());
    if !is_allowed || batch.len() > engine.config.batch_messages_max {
        let why =
            if is_allowed { "Invalid request: the batch is too long" } else { "Invalid request: this protocol version has no batches" };
        return engine.refuse(now, &post.terms, None, &Fall::new(Kind::InvalidRequest, why), reply);
    }
    let requests = match plan(batch) {
        Ok(Plan::Calls { requests }) => requests,
        Ok(Plan::Responses) => 0,
        Err(why) => return engine.refuse(now, &post.terms, None, &Fall::new(Kind::InvalidRequest, why), reply),
    };
    if requests == 0 {
        for message in batch.iter().flatten() {
            match message {
                Message::Notification(notification) => on_notification(engine, now, key, &notification, out),
                Message::Response(response) => server_request::on_response(engine, now, key, &response, out),
                Message::Request(_) => {}
            }
        }
        return engine.accept(now, &post.terms, reply);
    }
    let waiting = u32::try_from(requests).unwrap_or(u32::MAX);
    let pending = Pending { session: key, conn: Some(post.conn), stream: None, gather: Some(Gather::default()), waiting };
    let id = engine.legacy.pendings.insert(pending);
    open(engine, now, post, id);
    for message in batch.iter().flatten() {
        match message {
            Message::Request(request) => on_element(engine, now, post, key, id, &request, out),
            Message::Notification(notification) => on_notification(engine, now, key, &notification, out),
            Message::Response(_) => {}
        }
    }
    Verdict::Later
}

/// One request of a batch.
fn on_element(engine: &mut Engine, now: Now, post: &Post<'_>, key: SessionKey, id: PendingId, request: &Request<'_>, out: &mut Out) {
    let mut body = std::mem::take(&mut engine.scratch.body);
    body.clear();
    let answer = legacy_method::on_request(engine, now, post, key, request, &mut Some(id), &mut body, out);
    engine.carry_out(now, out);
    if let Answer::Now(_) = answer {
        legacy_stream::reply(engine, now, id, 200, &body, out);
    }
    engine.scratch.body = body;
}

fn on_notification(engine: &mut Engine, now: Now, key: SessionKey, notification: &Notification<'_>, out: &mut Out) {
    match mcp::Notification::parse(notification.method) {
        mcp::Notification::Initialized => engine.legacy.sessions.set_ready(key),
        mcp::Notification::Cancelled => legacy_stream::on_cancelled(engine, now, key, &notification.params, out),
        // Progress of what the server asked, changed roots: a handler asks again when it wants to know.
        _ => {}
    }
}

/// GET: the standalone stream of a session, or one that is resumed ("Listening for Messages from the Server", "Resumability and
/// Redelivery").
pub(super) fn on_get(engine: &mut Engine, now: Now, post: &Post<'_>, memo: &mut ConnMemo, reply: &mut Vec<u8>, out: &mut Out) -> Verdict {
    // A GET that accepts whatever comes does not ask for a stream.
    if !post.terms.sse || post.headers.get(Known::Accept).is_none() {
        let fall = Fall::new(Kind::NotAcceptable, "Not acceptable: a GET must accept text/event-stream");
        return engine.refuse(now, &post.terms, None, &fall, reply);
    }
    let key = match enter(engine, now, post, memo) {
        Ok(key) => key,
        Err(Stop::Move(core)) => return Verdict::Move(core),
        Err(Stop::Fault(kind)) => return refuse(engine, now, post, kind, reply),
    };
    let opened = match post.headers.get(Known::LastEventId) {
        Some(text) => match EventId::parse(text) {
            Some(after) => legacy_stream::resume(engine, now, post, key, after, out),
            None => Err(legacy_stream::unknown_event()),
        },
        None => legacy_stream::open_standalone(engine, now, post, key, out),
    };
    match opened {
        Ok(()) => Verdict::Later,
        Err(fall) => engine.refuse(now, &post.terms, None, &fall, reply),
    }
}

/// DELETE: the client is done with its session.
pub(super) fn on_delete(
    engine: &mut Engine,
    now: Now,
    post: &Post<'_>,
    memo: &mut ConnMemo,
    reply: &mut Vec<u8>,
    out: &mut Out,
) -> Verdict {
    let key = match enter(engine, now, post, memo) {
        Ok(key) => key,
        Err(Stop::Move(core)) => return Verdict::Move(core),
        Err(Stop::Fault(kind)) => return refuse(engine, now, post, kind, reply),
    };
    if let Some(ended) = engine.legacy.sessions.end(key) {
        clear_away(engine, now, key, ended, out);
    }
    let date = engine.date_at(now);
    reply::plain(reply, &post.terms, &date, 200, None, &[], b"");
    Verdict::Answered { close: post.terms.close }
}

/// Ends a session as an operator wishes. Whether there was one.
pub(super) fn end_session(engine: &mut Engine, now: Now, key: SessionKey, out: &mut Out) -> bool {
    let ended = engine.legacy.sessions.end(key);
    let was_there = ended.is_some();
    if let Some(ended) = ended {
        clear_away(engine, now, key, ended, out);
    }
    was_there
}

/// Ends what was in work for a session that is no more.
fn clear_away(engine: &mut Engine, now: Now, key: SessionKey, ended: Ended, out: &mut Out) {
    for call in ended.calls {
        legacy_stream::abandon(engine, now, call, out);
    }
    for conn in ended.conns {
        legacy_stream::end_conn(engine, conn, out);
    }
    // What upstreams keep for it goes with it.
    engine.gateway.end_owner(now.mono, gateway::Owner::Session(key));
    engine.metrics.count(Counter::SessionsClosed);
    engine.metrics.set(Gauge::Sessions, engine.legacy.sessions.len() as u64);
}

/// Ends sessions that are idle or whose endpoint is no more, and old events.
pub(super) fn on_tick(engine: &mut Engine, now: Now, out: &mut Out) {
    go_on_closing(engine, now, out);
    let mut all_ended = Vec::new();
    engine.legacy.sessions.tick(now.mono, |key, ended| all_ended.push((key, ended)));
    for (key, ended) in all_ended {
        clear_away(engine, now, key, ended, out);
    }
}

/// A call ended; its caller is answered.
pub(super) fn on_ended(engine: &mut Engine, now: Now, asker: Asker, call: &Call, ending: &Ending, members: &[u8], out: &mut Out) {
    legacy_method::on_ended(engine, now, asker, call, ending, members, out);
}

/// A handler wants something said, asked or closed.
pub(super) fn on_wish(engine: &mut Engine, now: Now, asker: Asker, wish: Wish, out: &mut Out) {
    match wish {
        Wish::Notify { method, params, .. } => legacy_stream::notify(engine, now, asker, method.method(), &params, out),
        Wish::Ask { call, key, method, params } => server_request::ask(engine, now, asker, call, &key, method, &params, out),
        Wish::CloseStream { retry_ms, .. } => legacy_stream::close(engine, now, asker, retry_ms, out),
        Wish::Changed { .. } | Wish::Updated { .. } => {}
    }
}

/// The connection is no more. That calls nothing off: what is left to say waits for a client that resumes the stream.
pub(super) fn on_gone(engine: &mut Engine, now: Now, conn: ConnId, carried: Carried, _out: &mut Out) {
    legacy_stream::detach(engine, now, conn, carried);
}

/// The peer will send no more, which says nothing about whether it listens: something is said, so that one that is gone shows itself by a
/// reset.
pub(super) fn on_half_close(engine: &mut Engine, now: Now, conn: ConnId, carried: Carried, out: &mut Out) {
    if let Carried::Post(id) = carried {
        legacy_stream::commit(engine, now, id, out);
    }
    engine.exchanges.part(conn, now.mono, out, sse::comment);
}

/// Something changed at endpoints.
pub(super) fn on_news(engine: &mut Engine, now: Now, news: &News, out: &mut Out) {
    legacy_stream::tell_news(engine, now, news, out);
}

/// The endpoints with these numbers are no more, and with them their sessions: some end now, the others in the next turns. None of them is
/// found when it is named meanwhile.
pub(super) fn on_endpoints_gone(engine: &mut Engine, now: Now, endpoints: &[u64], out: &mut Out) {
    engine.legacy.sessions.close_all_at(endpoints);
    go_on_closing(engine, now, out);
}

fn go_on_closing(engine: &mut Engine, now: Now, out: &mut Out) {
    let mut all_ended = Vec::new();
    engine.legacy.sessions.go_on_closing(|key, ended| all_ended.push((key, ended)));
    for (key, ended) in all_ended {
        clear_away(engine, now, key, ended, out);
    }
}

/// The process is to end: open-ended streams end.
pub(super) fn on_drain(engine: &mut Engine, _now: Now, out: &mut Out) {
    legacy_stream::end_standalone(engine, out);
}

/// A response that is one fault.
pub(super) fn refuse(engine: &mut Engine, now: Now, post: &Post<'_>, kind: Kind, reply: &mut Vec<u8>) -> Verdict {
    engine.refuse_kind(now, &post.terms, kind, reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_do_not_repeat_and_differ_by_key() {
        let mut one = Tokens { key: [1; 16], drawn: 0 };
        let mut other = Tokens { key: [2; 16], drawn: 0 };
        let drawn: Vec<_> = (0..100).map(|_| one.draw()).collect();
        assert!((1..drawn.len()).all(|at| !drawn[..at].contains(&drawn[at])));
        assert!(!drawn.contains(&other.draw()));
    }
}
