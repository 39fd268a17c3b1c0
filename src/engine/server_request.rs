//! Requests from the server to the client, legacy era: sampling, elicitation and roots go out on the stream of the call that asks
//! (2025-11-25, client features), and the client posts its responses.

use super::Engine;
use super::call::Caller;
use super::legacy::Asker;
use super::legacy_stream;
use super::out::Out;
use super::session_state::{Ask, AskToken};
use crate::base::fault::code;
use crate::base::ids::{CallId, SessionKey};
use crate::base::time::Now;
use crate::native::host::AskMethod;
use crate::native::questions::NoResult;
use crate::wire::jsonrpc::{self, Id, Response};
use crate::wire::mcp::ClientCapabilities;

/// Sends the question on the call's stream. The handler is told at once when that cannot be done.
#[allow(clippy::too_many_arguments, reason = "a wish, taken apart")]
pub(super) fn ask(engine: &mut Engine, now: Now, asker: Asker, call: CallId, key: &str, method: AskMethod, params: &[u8], out: &mut Out) {
    if let Err(why) = send(engine, now, asker, call, key, method, params, out) {
        answer(engine, now, call, key, Err(why), out);
    }
}

#[allow(clippy::too_many_arguments, reason = "a wish, taken apart")]
fn send(
    engine: &mut Engine,
    now: Now,
    asker: Asker,
    call: CallId,
    key: &str,
    method: AskMethod,
    params: &[u8],
    out: &mut Out,
) -> Result<(), NoResult> {
    let pending = engine.legacy.pendings.get_mut(asker.0).ok_or(NoResult::Lost)?;
    let session = engine.legacy.sessions.get(pending.session).ok_or(NoResult::Lost)?;
    if !can(session.capabilities, method) {
        return Err(NoResult::Error(undeclared(method)));
    }
    let (session_key, _) = legacy_stream::commit(engine, now, asker.0, out).ok_or(NoResult::Lost)?;
    let session = engine.legacy.sessions.get_mut(session_key).ok_or(NoResult::Lost)?;
    let token = engine.legacy.tokens.draw();
    if !session.ask(token, Ask { call, key: key.into() }) {
        return Err(NoResult::Lost);
    }
    let mut id = Vec::new();
    token.write(&mut id);
    let mut message = std::mem::take(&mut engine.scratch.message);
    message.clear();
    jsonrpc::request(&mut message, Id::String(&id), method.method(), params);
    legacy_stream::tell(engine, now, asker.0, &message, out);
    engine.scratch.message = message;
    // A person may be asked: the request's own deadline would be too short.
    let until = now.mono.after(engine.config.request_state_ttl);
    engine.calls.postpone(call, until);
    Ok(())
}

/// Whether the client declared what the question needs.
pub(super) const fn can(capabilities: ClientCapabilities, method: AskMethod) -> bool {
    match method {
        AskMethod::Elicit => capabilities.elicitation_form() || capabilities.elicitation_url(),
        AskMethod::Sample => capabilities.sampling(),
        AskMethod::Roots => capabilities.roots(),
    }
}

/// The error that a client without the method would answer.
pub(super) fn undeclared(method: AskMethod) -> Vec<u8> {
    format!(r#"{{"code":{},"message":"The client did not declare the capability that {} needs"}}"#, code::METHOD_NOT_FOUND, method.method())
        .into_bytes()
}

/// A posted response. One that answers nothing that was asked in this session is dropped.
pub(super) fn on_response(engine: &mut Engine, now: Now, key: SessionKey, response: &Response<'_>, out: &mut Out) {
    let Some(id) = response.id else { return };
    let Some(session) = engine.legacy.sessions.get_mut(key) else { return };
    let Some(ask) = session.answered(id.raw()) else { return };
    if !session.asks(ask.call) {
        let until = now.mono.after(engine.config.request_timeout);
        engine.calls.postpone(ask.call, until);
    }
    let reply = match (response.result, response.error) {
        (Some(result), _) => Ok(result),
        (None, Some(error)) => Err(NoResult::Error(error.to_vec())),
        (None, None) => Err(NoResult::Lost),
    };
    answer(engine, now, ask.call, &ask.key, reply, out);
}

/// Hands the reply to the handler, or the upstream, that waits for it.
fn answer(engine: &mut Engine, now: Now, call: CallId, key: &str, reply: Result<&[u8], NoResult>, out: &mut Out) {
    let work = engine.calls.get(call).filter(|work| matches!(work.caller, Caller::Legacy(_)));
    match work.map(|work| work.context().cloned()) {
        Some(Some(context)) => context.answer(key, reply),
        Some(None) => engine.on_upstream_answer(now, call, key, reply, out),
        None => {}
    }
}

/// Tells the client that questions of a call that has ended need no answer any more.
pub(super) fn withdraw(engine: &mut Engine, now: Now, asker: Asker, questions: &[AskToken], out: &mut Out) {
    for token in questions {
        let mut params = br#"{"requestId":"#.to_vec();
        token.write(&mut params);
        params.extend_from_slice(br#","reason":"The request that needed it has ended"}"#);
        legacy_stream::notify(engine, now, asker, "notifications/cancelled", &params, out);
    }
}
