//! Streams of the legacy era: a response that becomes a stream, what is said on it before its reply, how it outlives its connection, and
//! how a GET takes it up again.

use hashbrown::HashSet;

use super::call::Caller;
use super::exchange::Owner;
use super::ladder::Fall;
use super::legacy::{Asker, Carried};
use super::modern::Post;
use super::news::News;
use super::out::Out;
use super::pending::PendingId;
use super::stream_log::{EVENT_ID_BYTES_MAX, EventId, StreamNo};
use super::{Engine, legacy_method};
use crate::base::fault::Kind;
use crate::base::ids::{CallId, ConnId, SessionKey};
use crate::base::time::Now;
use crate::wire::jsonrpc::{self, Id, Params};
use crate::wire::mcp::Level;
use crate::wire::{json, sse};

/// Says something on the response before its reply. Without a stream the client cannot hear it.
pub(super) fn notify(engine: &mut Engine, now: Now, asker: Asker, method: &str, params: &[u8], out: &mut Out) {
    let mut message = std::mem::take(&mut engine.scratch.message);
    message.clear();
    jsonrpc::notification(&mut message, method, params);
    tell(engine, now, asker.0, &message, out);
    engine.scratch.message = message;
}

/// Sends a message on the response's stream, which it becomes if it must and can.
pub(super) fn tell(engine: &mut Engine, now: Now, id: PendingId, message: &[u8], out: &mut Out) {
    if let Some((key, stream)) = commit(engine, now, id, out) {
        emit(engine, now, key, stream, message, out);
    }
}

/// Makes the response a stream of its session, unless it is one already. None when nobody is there to hear it, or the session is gone.
pub(super) fn commit(engine: &mut Engine, now: Now, id: PendingId, out: &mut Out) -> Option<(SessionKey, StreamNo)> {
    let date = engine.date_at(now);
    let pending = engine.legacy.pendings.get_mut(id)?;
    let key = pending.session;
    if let Some(stream) = pending.stream {
        return Some((key, stream));
    }
    let conn = pending.conn?;
    if !engine.exchanges.commit(conn, &date, &[], now.mono, out) {
        return None;
    }
    let session = engine.legacy.sessions.get_mut(key)?;
    let (stream, version) = (session.open_stream(Some(conn)), session.version);
    pending.stream = Some(stream);
    let gathered = pending.gather.as_mut().and_then(super::batch::Gather::take);
    if version.prime_events() {
        prime(engine, now, key, stream, conn, out);
    }
    if let Some(gathered) = gathered {
        emit(engine, now, key, stream, &gathered, out);
    }
    Some((key, stream))
}

/// Sends an event without data, so that the client has an id to resume by (2025-11-25, transports, "Sending Messages to the Server").
fn prime(engine: &mut Engine, now: Now, key: SessionKey, stream: StreamNo, conn: ConnId, out: &mut Out) {
    let Some(session) = engine.legacy.sessions.get_mut(key) else { return };
    if let Some(id) = session.streams_mut().prime(stream) {
        engine.exchanges.part(conn, now.mono, out, |bytes| sse::prime(bytes, &text(id)));
    }
}

/// Sends a message on a stream of the session: over the connection that carries it, else into the log alone.
fn emit(engine: &mut Engine, now: Now, key: SessionKey, stream: StreamNo, message: &[u8], out: &mut Out) {
    let Some((session, log)) = engine.legacy.sessions.with_log(key) else { return };
    if session.streams().is_none() {
        return;
    }
    let Some(sent) = session.streams_mut().event(log, key, stream, message, now.mono) else { return };
    if let Some(conn) = sent.conn {
        engine.exchanges.part(conn, now.mono, out, |bytes| sse::event(bytes, Some(&text(sent.id)), message));
    }
    engine.legacy.sessions.trim_log(now.mono);
}

fn text(id: EventId) -> Vec<u8> {
    let mut text = Vec::with_capacity(EVENT_ID_BYTES_MAX);
    id.write(&mut text);
    text
}

/// One reply that is owed. The last one completes the response. `status` counts when it is a single JSON body.
pub(super) fn reply(engine: &mut Engine, now: Now, id: PendingId, status: u16, body: &[u8], out: &mut Out) {
    let Some(pending) = engine.legacy.pendings.get_mut(id) else { return };
    let (key, stream) = (pending.session, pending.stream);
    match (stream, &mut pending.gather) {
        (Some(stream), _) => emit(engine, now, key, stream, body, out),
        (None, Some(gather)) => gather.add(|array| array.extend_from_slice(body)),
        (None, None) => {
            let conn = pending.conn;
            engine.legacy.pendings.remove(id);
            let (date, is_draining) = (engine.date_at(now), engine.is_draining);
            if let Some(conn) = conn {
                engine.exchanges.finish(conn, &date, status, body, is_draining, out);
            }
            return;
        }
    }
    settle(engine, now, id, out);
}

/// One reply less is owed; without any left the response is complete.
fn settle(engine: &mut Engine, now: Now, id: PendingId, out: &mut Out) {
    let Some(pending) = engine.legacy.pendings.get_mut(id) else { return };
    pending.waiting = pending.waiting.saturating_sub(1);
    if pending.waiting > 0 {
        return;
    }
    let Some(pending) = engine.legacy.pendings.remove(id) else { return };
    let (date, is_draining) = (engine.date_at(now), engine.is_draining);
    if let Some(stream) = pending.stream {
        let session = engine.legacy.sessions.get_mut(pending.session);
        let carrier = session.and_then(|session| {
            let carrier = session.streams_mut().finish(stream);
            session.relax();
            carrier
        });
        if let Some(conn) = carrier {
            end_conn(engine, conn, out);
        }
        return;
    }
    let Some(conn) = pending.conn else { return };
    match pending.gather.and_then(|mut gather| gather.take()) {
        Some(array) => engine.exchanges.finish(conn, &date, 200, &array, is_draining, out),
        // Every request was cancelled: a stream that ends without a reply is the one answer that is none.
        None => {
            engine.exchanges.commit(conn, &date, &[], now.mono, out);
            engine.exchanges.end(conn, is_draining, out);
        }
    }
}

/// Ends whatever response the connection carries, without another message.
pub(super) fn end_conn(engine: &mut Engine, conn: ConnId, out: &mut Out) {
    let is_get = engine.exchanges.get(conn).is_some_and(|exchange| matches!(exchange.owner, Owner::Legacy(Carried::Get(..))));
    if is_get {
        engine.legacy.gets -= 1;
        engine.count_listens();
    }
    engine.exchanges.end(conn, engine.is_draining, out);
}

/// `notifications/cancelled`: the request is called off and gets no reply (2025-11-25, basic, "Cancellation").
pub(super) fn on_cancelled(engine: &mut Engine, now: Now, key: SessionKey, params: &Params<'_>, out: &mut Out) {
    let Some(id) = params.get("requestId").and_then(Id::from_raw) else { return };
    let session = engine.legacy.sessions.get(key);
    if let Some(call) = session.and_then(|session| session.call(&legacy_method::in_work_key(id))) {
        abandon(engine, now, call, out);
    }
}

/// Calls a call off. Its request gets no reply.
pub(super) fn abandon(engine: &mut Engine, now: Now, call: CallId, out: &mut Out) {
    let Some(work) = engine.calls.get(call) else { return };
    let Caller::Legacy(Asker(id)) = work.caller else { return };
    let rpc_id = work.rpc_id.clone();
    engine.call_off(now, call, out);
    if let Some(pending) = engine.legacy.pendings.get_mut(id)
        && let Some(session) = engine.legacy.sessions.get_mut(pending.session)
        && let Some(rpc_id) = Id::from_raw(rpc_id.as_bytes())
    {
        session.finish(&legacy_method::in_work_key(rpc_id), call);
    }
    settle(engine, now, id, out);
}

/// The response's connection is closed before its reply; the client comes back for the rest after `retry_ms` (2025-11-25, transports:
/// a server may do so once the client has an event id). A client of an older version has none: its stream stays.
pub(super) fn close(engine: &mut Engine, now: Now, asker: Asker, retry_ms: u64, out: &mut Out) {
    let Some(pending) = engine.legacy.pendings.get_mut(asker.0) else { return };
    let session = engine.legacy.sessions.get(pending.session);
    if session.is_none_or(|session| !session.version.prime_events()) {
        return;
    }
    let Some((key, stream)) = commit(engine, now, asker.0, out) else { return };
    let carrier = engine.legacy.sessions.get_mut(key).and_then(|session| session.streams_mut().detach(stream));
    if let Some(pending) = engine.legacy.pendings.get_mut(asker.0) {
        pending.conn = None;
    }
    if let Some(conn) = carrier {
        engine.exchanges.part(conn, now.mono, out, |bytes| sse::retry(bytes, retry_ms));
        end_conn(engine, conn, out);
    }
}

/// The connection is no more; the stream that it carried waits.
pub(super) fn detach(engine: &mut Engine, now: Now, conn: ConnId, carried: Carried) {
    let (key, stream) = match carried {
        Carried::Get(key, stream) => {
            engine.legacy.gets -= 1;
            engine.count_listens();
            (key, Some(stream))
        }
        Carried::Post(id) => {
            let Some(pending) = engine.legacy.pendings.get_mut(id) else { return };
            pending.conn = None;
            (pending.session, pending.stream)
        }
    };
    engine.legacy.sessions.touch(key, now.mono);
    let (Some(stream), Some(session)) = (stream, engine.legacy.sessions.get_mut(key)) else { return };
    // Another connection may have taken the stream over.
    if session.streams().is_some_and(|streams| streams.carried_by(conn) == Some(stream)) {
        session.streams_mut().detach(stream);
    }
}

/// A `Last-Event-ID` that names no event that can be resumed after.
pub(super) fn unknown_event() -> Fall {
    Fall::new(Kind::InvalidRequest, "Invalid request: Last-Event-ID names no event that can be resumed after")
}

/// Whether the process is to end and this stream would only hold it up.
fn refuse_new(engine: &Engine, stream: StreamNo) -> Result<(), Fall> {
    let is_endless = stream == StreamNo::STANDALONE;
    if engine.is_draining && is_endless { Err(Fall::new(Kind::Draining, Kind::Draining.message())) } else { Ok(()) }
}

/// A GET opens the session's standalone stream.
pub(super) fn open_standalone(engine: &mut Engine, now: Now, post: &Post<'_>, key: SessionKey, out: &mut Out) -> Result<(), Fall> {
    refuse_new(engine, StreamNo::STANDALONE)?;
    let Some(session) = engine.legacy.sessions.get_mut(key) else {
        return Err(Fall::new(Kind::SessionNotFound, Kind::SessionNotFound.message()));
    };
    let is_primed = session.version.prime_events();
    session.streams_mut().open_standalone(post.conn).map_err(|_| Fall::new(Kind::Conflict, Kind::Conflict.message()))?;
    engine.legacy.sessions.set_listening(key);
    open_get(engine, now, post, key, StreamNo::STANDALONE, out);
    if is_primed {
        prime(engine, now, key, StreamNo::STANDALONE, post.conn, out);
    }
    Ok(())
}

/// A GET takes up a stream where its client lost it.
pub(super) fn resume(engine: &mut Engine, now: Now, post: &Post<'_>, key: SessionKey, after: EventId, out: &mut Out) -> Result<(), Fall> {
    refuse_new(engine, after.stream)?;
    let session = engine.legacy.sessions.get_mut(key).filter(|session| session.streams().is_some()).ok_or_else(unknown_event)?;
    let resumed = session.streams_mut().resume(after, post.conn).map_err(|_| unknown_event())?;
    if let Some(conn) = resumed.replaced {
        end_conn(engine, conn, out);
    }
    open_get(engine, now, post, key, after.stream, out);
    let Some((session, log)) = engine.legacy.sessions.with_log(key) else { return Ok(()) };
    if let Some(streams) = session.streams() {
        for (id, message) in streams.replay(log, after) {
            engine.exchanges.part(post.conn, now.mono, out, |bytes| sse::event(bytes, Some(&text(id)), message));
        }
    }
    if resumed.done {
        end_conn(engine, post.conn, out);
    }
    Ok(())
}

fn open_get(engine: &mut Engine, now: Now, post: &Post<'_>, key: SessionKey, stream: StreamNo, out: &mut Out) {
    let date = engine.date_at(now);
    engine.exchanges.open(post.conn, &post.terms, Owner::Legacy(Carried::Get(key, stream)), now.mono);
    engine.exchanges.commit(post.conn, &date, &[], now.mono, out);
    engine.legacy.gets += 1;
    engine.count_listens();
}

/// Ends every stream that a GET opened and that has no reply to bring: the process is to end.
pub(super) fn end_standalone(engine: &mut Engine, out: &mut Out) {
    let is_standalone = |owner| matches!(owner, Owner::Legacy(Carried::Get(_, StreamNo::STANDALONE)));
    for conn in engine.exchanges.conns(is_standalone) {
        if let Some(Owner::Legacy(carried)) = engine.exchanges.get(conn).map(|exchange| exchange.owner)
            && let Carried::Get(key, stream) = carried
            && let Some(session) = engine.legacy.sessions.get_mut(key)
        {
            session.streams_mut().detach(stream);
        }
        end_conn(engine, conn, out);
    }
}

/// Tells the sessions of the endpoints that have news, through their standalone streams: which lists changed, and which of the resources
/// that they subscribed to.
pub(super) fn tell_news(engine: &mut Engine, now: Now, news: &News, out: &mut Out) {
    let listening: Vec<_> = engine.legacy.sessions.listening().filter(|(_, endpoint)| news.at(*endpoint).is_some()).collect();
    for (key, endpoint) in listening {
        let Some(at) = news.at(endpoint) else { continue };
        if engine.legacy.sessions.get(key).is_none_or(|session| !session.ready) {
            continue;
        }
        at.lists.each().for_each(|list| push(engine, now, key, list.notification(), b"", out));
        if at.updated.is_empty() && !at.are_all_updated {
            continue;
        }
        let subscribed = engine.legacy.sessions.get(key).map(|session| session.subscriptions().to_vec()).unwrap_or_default();
        for uri in subscribed {
            let uri = String::from_utf8_lossy(&uri);
            if at.are_all_updated || at.updated.contains(&*uri) {
                push_updated(engine, now, key, &uri, out);
            }
        }
    }
}

/// Tells the sessions that have asked for this level what an upstream that they are shown has logged about itself.
pub(super) fn tell_logged(engine: &mut Engine, now: Now, upstream: u32, level: Level, params: &[u8], out: &mut Out) {
    let views = engine.routes.views().iter().filter(|view| view.has_upstream(upstream));
    let shown: HashSet<u64> = views.map(|view| view.endpoint.id.number).collect();
    let listening: Vec<_> = engine.legacy.sessions.listening().filter(|(_, endpoint)| shown.contains(endpoint)).collect();
    for (key, _) in listening {
        let session = engine.legacy.sessions.get(key);
        if session.is_some_and(|session| session.ready && session.level.is_some_and(|wanted| level >= wanted)) {
            push(engine, now, key, "notifications/message", params, out);
        }
    }
}

fn push_updated(engine: &mut Engine, now: Now, key: SessionKey, uri: &str, out: &mut Out) {
    let mut params = br#"{"uri":"#.to_vec();
    json::write_str(&mut params, uri);
    params.push(b'}');
    push(engine, now, key, "notifications/resources/updated", &params, out);
}

fn push(engine: &mut Engine, now: Now, key: SessionKey, method: &str, params: &[u8], out: &mut Out) {
    let mut message = std::mem::take(&mut engine.scratch.message);
    message.clear();
    jsonrpc::notification(&mut message, method, params);
    emit(engine, now, key, StreamNo::STANDALONE, &message, out);
    engine.scratch.message = message;
}
