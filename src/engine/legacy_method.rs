//! Requests of the legacy era, method by method, and how their results are written.

use std::borrow::Cow;

use super::call::{Begin, Begun, Caller, Ending, TargetKind};
use super::calls::Call;
use super::ladder::Fall;
use super::legacy::Asker;
use super::modern::{self, Located, Post};
use super::out::Out;
use super::pending::{Pending, PendingId};
use super::relay::{self, Lead, Side};
use super::session_state::{NotBegun, Session};
use super::view::ListKind;
use super::{Engine, legacy_stream, server_request};
use crate::base::fault::{Kind, code};
use crate::base::ids::{CallId, SessionKey};
use crate::base::time::Now;
use crate::gateway::Owner;
use crate::native::host::CallSpec;
use crate::native::outcome::{Outcome, RpcError};
use crate::wire::json;
use crate::wire::jsonrpc::{self, Id, Request};
use crate::wire::mcp::{Era, Level, Method};

/// What became of a request.
pub(super) enum Answer {
    /// Its reply is written; the HTTP status, should it be the whole response.
    Now(u16),
    /// Its reply is owed by this response.
    Waiting(PendingId),
}

/// One request within its session. The reply, when there is one at once, is appended to `body`. `owed` is the response that it is part of
/// (a batch), or becomes the one that was made for it: a call that is over at once and wished for nothing makes none.
#[expect(clippy::too_many_arguments, reason = "one request in all its parts")]
pub(super) fn on_request(
    engine: &mut Engine,
    now: Now,
    post: &Post<'_>,
    key: SessionKey,
    request: &Request<'_>,
    owed: &mut Option<PendingId>,
    body: &mut Vec<u8>,
    out: &mut Out,
) -> Answer {
    let answered = route(engine, now, post, key, request, owed, body, out);
    answered.unwrap_or_else(|fall| {
        engine.metrics.fault(fall.kind);
        fall.as_fault(Some(request.id)).write(body, fall.kind);
        Answer::Now(fall.kind.status())
    })
}

/// The one match: method to what answers it. A method that the session's version lacks, or for which the server has nothing, is unknown.
#[expect(clippy::too_many_arguments, reason = "one request in all its parts")]
fn route(
    engine: &mut Engine,
    now: Now,
    post: &Post<'_>,
    key: SessionKey,
    request: &Request<'_>,
    owed: &mut Option<PendingId>,
    body: &mut Vec<u8>,
    out: &mut Out,
) -> Result<Answer, Fall> {
    let method = Method::parse(request.method);
    let Some(session) = engine.legacy.sessions.get(key) else {
        return Err(Fall::new(Kind::SessionNotFound, Kind::SessionNotFound.message()));
    };
    let offers = post.view.offers;
    if !method.exists_in(session.version) {
        return Err(unknown(request));
    }
    match method {
        Method::Ping => Ok(empty(request, body)),
        Method::ToolsCall if offers.tools => call(engine, now, post, key, request, method, owed, body, out),
        Method::ResourcesRead if offers.resources => call(engine, now, post, key, request, method, owed, body, out),
        Method::PromptsGet if offers.prompts => call(engine, now, post, key, request, method, owed, body, out),
        Method::CompletionComplete if offers.completions => call(engine, now, post, key, request, method, owed, body, out),
        Method::ToolsList => list(post, request, ListKind::Tools, body),
        Method::ResourcesList => list(post, request, ListKind::Resources, body),
        Method::ResourcesTemplatesList => list(post, request, ListKind::Templates, body),
        Method::PromptsList => list(post, request, ListKind::Prompts, body),
        Method::ResourcesSubscribe if offers.updates => subscribe(engine, post, key, request, body),
        Method::ResourcesUnsubscribe if offers.updates => unsubscribe(engine, key, request, body),
        Method::LoggingSetLevel => set_level(engine, key, request, body),
        Method::Initialize => Err(Fall::new(Kind::InvalidRequest, "Invalid request: this session is initialized already")),
        _ => Err(unknown(request)),
    }
}

fn unknown(request: &Request<'_>) -> Fall {
    Fall::new(Kind::UnknownMethodLegacy, format!("Method not found: {}", request.method))
}

fn empty(request: &Request<'_>, body: &mut Vec<u8>) -> Answer {
    jsonrpc::result(body, request.id, b"{}");
    Answer::Now(200)
}

/// A page of a list, copied as it was encoded beforehand.
fn list(post: &Post<'_>, request: &Request<'_>, kind: ListKind, body: &mut Vec<u8>) -> Result<Answer, Fall> {
    if !post.view.offers.has_list(kind) {
        return Err(unknown(request));
    }
    let cursor = modern::cursor(request)?;
    let page = post.view.page_legacy(kind, &cursor);
    let page = page.ok_or_else(|| Fall::new(Kind::InvalidParams, "Invalid params: no page has this cursor"))?;
    jsonrpc::result(body, request.id, page);
    Ok(Answer::Now(200))
}

fn uri<'a>(request: &Request<'a>) -> Result<Cow<'a, str>, Fall> {
    let uri = request.params.uri.and_then(json::string);
    uri.ok_or_else(|| Fall::new(Kind::InvalidParams, "Invalid params: uri must be a string"))
}

fn subscribe(engine: &mut Engine, post: &Post<'_>, key: SessionKey, request: &Request<'_>, body: &mut Vec<u8>) -> Result<Answer, Fall> {
    let uri = uri(request)?;
    if !engine.tells_of(&post.view, &uri) {
        return Err(Fall::new(Kind::InvalidParams, "Invalid params: the server of this resource does not tell when it changes"));
    }
    let subscribed = engine.legacy.sessions.subscribe(key, uri.as_bytes());
    subscribed.map_err(|_| Fall::new(Kind::InvalidParams, "Invalid params: this session has too many subscriptions"))?;
    Ok(empty(request, body))
}

fn unsubscribe(engine: &mut Engine, key: SessionKey, request: &Request<'_>, body: &mut Vec<u8>) -> Result<Answer, Fall> {
    engine.legacy.sessions.unsubscribe(key, uri(request)?.as_bytes());
    Ok(empty(request, body))
}

fn set_level(engine: &mut Engine, key: SessionKey, request: &Request<'_>, body: &mut Vec<u8>) -> Result<Answer, Fall> {
    let level = request.params.get("level").and_then(Level::from_raw);
    let level = level.ok_or_else(|| Fall::new(Kind::InvalidParams, "Invalid params: level is not a log level"))?;
    if let Some(session) = engine.legacy.sessions.get_mut(key) {
        session.level = Some(level);
    }
    Ok(empty(request, body))
}

/// Calls a tool, reads a resource, gets a prompt or completes an argument.
#[expect(clippy::too_many_arguments, reason = "one request in all its parts")]
fn call(
    engine: &mut Engine,
    now: Now,
    post: &Post<'_>,
    key: SessionKey,
    request: &Request<'_>,
    method: Method,
    owed: &mut Option<PendingId>,
    body: &mut Vec<u8>,
    out: &mut Out,
) -> Result<Answer, Fall> {
    let named = modern::name(request, method)?;
    let params = modern::params_of(request, method, &post.view);
    let (server, target) = match modern::locate(request, method, &named, &post.view, params.as_ref()) {
        Ok(Located::Native(server, target)) => (server, target),
        Ok(Located::Upstream(fronted, own)) => {
            let lead = Lead::new(request, fronted, own, &named, relay::completion_params(params.as_ref()), &post.view);
            return forward(engine, now, post, key, request, method, &lead, owed, body, out);
        }
        Err(ending) => {
            let status = write_ending(engine, request.id, modern::kind_of(method), &named, &ending, &[], body);
            return Ok(Answer::Now(status));
        }
    };
    let in_work = in_work_key(request.id);
    let Some(session) = engine.legacy.sessions.get(key) else { return Err(unknown(request)) };
    may_begin(session, &in_work)?;
    let client_info = session.client_info();
    let spec = CallSpec {
        call: CallId { index: 0, generation: 0 },
        server,
        version: session.version,
        progress_token: request.params.meta.progress_token,
        // Until a client sets a level it hears everything.
        level: Some(session.level.unwrap_or(Level::Debug)),
        capabilities: session.capabilities,
        client_info: client_info.as_deref(),
        meta: request.params.meta.raw,
        principal: post.principal.as_bytes(),
        input_responses: None,
        state: None,
    };
    let id = owed.unwrap_or_else(|| engine.legacy.pendings.next_id());
    let (caller, signer) = (Caller::Legacy(Asker(id)), post.view.signer);
    let mut begin = Begin { spec, target, name: &named, signer, rpc_id: request.id.raw(), caller };
    let begun = engine.begin(now, &mut begin, || None, out);
    if owed.is_none() && (matches!(begun, Begun::Waiting(_)) || engine.has_wishes()) {
        let pending = Pending { session: key, conn: Some(post.conn), stream: None, gather: None, waiting: 1 };
        *owed = Some(engine.legacy.pendings.insert(pending));
        debug_assert_eq!(*owed, Some(id), "nothing else owes a response while a call is started");
    }
    match begun {
        Begun::Done(ending) => {
            let mut members = std::mem::take(&mut engine.scratch.members);
            begin.expose(&mut members);
            let status = write_ending(engine, request.id, target.kind(), &named, &ending, &members, body);
            engine.scratch.members = members;
            Ok(Answer::Now(status))
        }
        Begun::Waiting(call) => {
            if let Some(session) = engine.legacy.sessions.get_mut(key) {
                session.begin(&in_work, call);
            }
            Ok(Answer::Waiting(id))
        }
    }
}

/// Whether the session may have one more request in work.
fn may_begin(session: &Session, in_work: &[u8]) -> Result<(), Fall> {
    session.may_begin(in_work).map_err(|why| match why {
        NotBegun::Duplicate => Fall::new(Kind::InvalidRequest, "Invalid request: a request with this id is in work"),
        NotBegun::Full => Fall::new(Kind::Overloaded, "This session has too many requests in work; send more when some have ended"),
    })
}

/// Relays a call to an upstream.
#[expect(clippy::too_many_arguments, reason = "one request in all its parts")]
fn forward(
    engine: &mut Engine,
    now: Now,
    post: &Post<'_>,
    key: SessionKey,
    request: &Request<'_>,
    method: Method,
    lead: &Lead<'_>,
    owed: &mut Option<PendingId>,
    body: &mut Vec<u8>,
    out: &mut Out,
) -> Result<Answer, Fall> {
    let in_work = in_work_key(request.id);
    let Some(session) = engine.legacy.sessions.get(key) else { return Err(unknown(request)) };
    may_begin(session, &in_work)?;
    // Until a client sets a level it hears everything.
    let (wanted, speaks) = (session.level, session.version);
    let (level, client_info, capabilities) = (wanted.unwrap_or(Level::Debug), session.client_info(), session.capabilities);
    let id = owed.unwrap_or_else(|| engine.legacy.pendings.next_id());
    let caller = Caller::Legacy(Asker(id));
    let fields = post.view.mirrored(lead, request.params.arguments);
    let fields: Vec<_> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
    let side = Side {
        era: Era::Legacy,
        level: Some(level),
        wanted,
        client_info: client_info.as_deref(),
        capabilities,
        owner: Owner::Session(key),
        speaks,
        caller,
        agrees: true,
        fields: &fields,
    };
    match engine.begin_relay(now, request, method, lead, &side, out) {
        Ok(call) => {
            if owed.is_none() {
                let pending = Pending { session: key, conn: Some(post.conn), stream: None, gather: None, waiting: 1 };
                *owed = Some(engine.legacy.pendings.insert(pending));
                debug_assert_eq!(*owed, Some(id), "nothing else owes a response while a call is started");
            }
            if let Some(session) = engine.legacy.sessions.get_mut(key) {
                session.begin(&in_work, call);
            }
            Ok(Answer::Waiting(id))
        }
        Err(ending) => Ok(Answer::Now(write_ending(engine, request.id, modern::kind_of(method), lead.exposed, &ending, &[], body))),
    }
}

/// A request id as the key of a request in work: the same for every way to escape the same string.
pub(super) fn in_work_key(id: Id<'_>) -> Cow<'_, [u8]> {
    let raw = id.raw();
    match json::string(raw).filter(|_| raw.contains(&b'\\')) {
        Some(text) => {
            let mut plain = Vec::new();
            json::write_str(&mut plain, &text);
            Cow::Owned(plain)
        }
        None => Cow::Borrowed(raw),
    }
}

/// A call ended later: its questions are withdrawn and its reply is sent.
pub(super) fn on_ended(engine: &mut Engine, now: Now, asker: Asker, call: &Call, ending: &Ending, members: &[u8], out: &mut Out) {
    let Some(id) = Id::from_raw(call.rpc_id.as_bytes()) else { return };
    let Some(key) = end(engine, now, asker, call, id, out) else { return };
    let mut body = std::mem::take(&mut engine.scratch.body);
    body.clear();
    let status = write_ending(engine, id, call.kind, &call.name, ending, &call.expose(members), &mut body);
    legacy_stream::reply(engine, now, asker.0, status, &body, out);
    engine.scratch.body = body;
    engine.legacy.sessions.touch(key, now.mono);
}

/// A call ended: it is no longer in work, and its questions are withdrawn. Gives its session.
fn end(engine: &mut Engine, now: Now, asker: Asker, call: &Call, id: Id<'_>, out: &mut Out) -> Option<SessionKey> {
    let key = engine.legacy.pendings.get_mut(asker.0)?.session;
    let session = engine.legacy.sessions.get_mut(key);
    let questions = session.map(|session| session.finish(&in_work_key(id), call.id)).unwrap_or_default();
    server_request::withdraw(engine, now, asker, &questions, out);
    Some(key)
}

/// An upstream has answered: its reply is sent.
pub(super) fn answer(engine: &mut Engine, now: Now, asker: Asker, call: &Call, status: u16, message: &[u8], out: &mut Out) {
    let Some(id) = Id::from_raw(call.rpc_id.as_bytes()) else { return };
    let Some(key) = end(engine, now, asker, call, id, out) else { return };
    legacy_stream::reply(engine, now, asker.0, status, message, out);
    engine.legacy.sessions.touch(key, now.mono);
}

/// Appends the response message. Returns the HTTP status, should it not be a stream already.
fn write_ending(engine: &Engine, id: Id<'_>, kind: TargetKind, name: &str, ending: &Ending, members: &[u8], body: &mut Vec<u8>) -> u16 {
    let fault = match ending {
        Ending::Outcome(Outcome::Result { meta, .. }) => {
            jsonrpc::begin_result(body, id);
            body.push(b'{');
            body.extend_from_slice(members);
            if let Some(meta) = meta {
                body.extend_from_slice(if members.is_empty() { br#""_meta":"# } else { br#","_meta":"# });
                body.extend_from_slice(meta);
            }
            body.push(b'}');
            jsonrpc::end(body);
            return 200;
        }
        Ending::Outcome(Outcome::Error(error)) => return write_error(body, id, error),
        Ending::NotFound => return write_not_found(body, id, kind, name),
        Ending::Away(server) => {
            let fault = Kind::NotConnected;
            engine.metrics.fault(fault);
            jsonrpc::error(body, Some(id), fault.code(), &modern::not_connected(server), None);
            return fault.status();
        }
        Ending::Failed { upstream, failure } => {
            let kind = failure.kind();
            engine.metrics.fault(kind);
            jsonrpc::error(body, Some(id), kind.code(), &engine.failure_text(*upstream, failure), None);
            return kind.status();
        }
        Ending::Outcome(Outcome::MissingCapability(required)) => return write_missing(body, id, required),
        // The legacy era asks while the call waits; a result that asks is not its.
        Ending::Outcome(Outcome::Panicked) | Ending::InputRequired => Kind::Internal,
        Ending::TimedOut => Kind::Timeout,
        Ending::Overloaded => Kind::Pending,
    };
    jsonrpc::error(body, Some(id), fault.code(), fault.message(), None);
    engine.metrics.fault(fault);
    fault.status()
}

fn write_error(body: &mut Vec<u8>, id: Id<'_>, error: &RpcError) -> u16 {
    jsonrpc::error(body, Some(id), error.code, &error.message, error.data.as_deref());
    200
}

/// An absent name and one that the caller may not see get the same answer.
fn write_not_found(body: &mut Vec<u8>, id: Id<'_>, kind: TargetKind, name: &str) -> u16 {
    let (code, message) = match kind {
        TargetKind::Resource => (code::RESOURCE_NOT_FOUND, format!("Resource not found: {name}")),
        TargetKind::Prompt => (code::INVALID_PARAMS, format!("Prompt not found: {name}")),
        TargetKind::Completion => (code::INVALID_PARAMS, "Nothing to complete: ref names no prompt and no resource template".to_owned()),
        TargetKind::Tool => (code::INVALID_PARAMS, format!("Tool not found: {name}")),
    };
    let mut data = Vec::new();
    if kind == TargetKind::Resource {
        data.extend_from_slice(br#"{"uri":"#);
        json::write_str(&mut data, name);
        data.push(b'}');
    }
    jsonrpc::error(body, Some(id), code, &message, (!data.is_empty()).then_some(&data));
    200
}

/// This era has no code for a capability that the client did not declare; the data say which.
fn write_missing(body: &mut Vec<u8>, id: Id<'_>, required: &[u8]) -> u16 {
    let data = [br#"{"requiredCapabilities":"#, required, b"}"].concat();
    jsonrpc::error(body, Some(id), code::INVALID_REQUEST, Kind::MissingCapability.message(), Some(&data));
    200
}
