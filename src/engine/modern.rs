//! Requests of 2026-07-28, from the ladder to the answer.

use std::borrow::Cow;

use super::call::{Begin, Begun, Call, Caller, Ending, Target, TargetKind};
use super::catalog::{ListKind, ResultType};
use super::exchange::Owner;
use super::ladder::{Fall, climb};
use super::mrtr::Binding;
use super::out::Out;
use super::principal::Principal;
use super::reply::{RpcFault, Terms};
use super::{Engine, Verdict, listen, params};
use crate::base::fault::{Kind, code};
use crate::base::ids::{CallId, ConnId};
use crate::base::time::Now;
use crate::native::host::{CallSpec, Notify};
use crate::native::outcome::{Outcome, RpcError};
use crate::wire::http1::Headers;
use crate::wire::json::{self, write_str};
use crate::wire::jsonrpc::{self, Id, Request};
use crate::wire::mcp::{Envelope, Method, Version};

/// What a POST brings besides its body.
#[derive(Debug)]
pub(super) struct Post<'a> {
    pub conn: ConnId,
    /// Index of the endpoint it was sent to.
    pub endpoint: u32,
    /// Index of the server bound to it.
    pub server: u32,
    pub principal: Principal,
    pub headers: &'a Headers<'a>,
    pub terms: Terms<'a>,
}

/// One request of the modern era. The first failure of the ladder answers it.
pub(super) fn on_request(
    engine: &mut Engine,
    now: Now,
    post: &Post<'_>,
    request: &Request<'_>,
    reply: &mut Vec<u8>,
    out: &mut Out,
) -> Verdict {
    let answered = if post.terms.json || post.terms.sse {
        climb(request, post.headers).and_then(|envelope| route(engine, now, post, request, &envelope, reply, out))
    } else {
        Err(Fall::new(Kind::NotAcceptable, Kind::NotAcceptable.message()))
    };
    answered.unwrap_or_else(|fall| engine.refuse(now, &post.terms, Some(request.id), &fall, reply))
}

/// The one match: method to what answers it.
fn route(
    engine: &mut Engine,
    now: Now,
    post: &Post<'_>,
    request: &Request<'_>,
    envelope: &Envelope<'_>,
    reply: &mut Vec<u8>,
    out: &mut Out,
) -> Result<Verdict, Fall> {
    let Some(hosted) = engine.hosted.get(post.server as usize) else {
        return Err(Fall::new(Kind::UnknownMethod, Kind::UnknownMethod.message()));
    };
    let offers = hosted.offers;
    let method = Method::parse(request.method);
    let is_offered = match method {
        Method::ToolsCall | Method::ToolsList => offers.tools,
        Method::ResourcesRead | Method::ResourcesList | Method::ResourcesTemplatesList => offers.resources,
        Method::PromptsGet | Method::PromptsList => offers.prompts,
        Method::CompletionComplete => offers.completions,
        Method::SubscriptionsListen => offers.updates || !offers.changes.is_empty(),
        Method::ServerDiscover => true,
        _ => false,
    };
    if !is_offered {
        return Err(Fall::new(Kind::UnknownMethod, format!("Method not found: {}", request.method)));
    }
    match method {
        Method::ToolsList => list(engine, now, post, request, ListKind::Tools, reply),
        Method::ResourcesList => list(engine, now, post, request, ListKind::Resources, reply),
        Method::ResourcesTemplatesList => list(engine, now, post, request, ListKind::Templates, reply),
        Method::PromptsList => list(engine, now, post, request, ListKind::Prompts, reply),
        Method::ServerDiscover => Ok(discover(engine, now, post, request, reply)),
        Method::SubscriptionsListen => listen::on_request(engine, now, post, request, out),
        _ => call(engine, now, post, request, method, envelope, reply, out),
    }
}

/// A page of a list, copied as it was encoded beforehand.
fn list(
    engine: &mut Engine,
    now: Now,
    post: &Post<'_>,
    request: &Request<'_>,
    kind: ListKind,
    reply: &mut Vec<u8>,
) -> Result<Verdict, Fall> {
    let cursor = cursor(request)?;
    let page = engine.hosted[post.server as usize].page_modern(kind, &cursor);
    let page = page.ok_or_else(|| Fall::new(Kind::InvalidParams, "Invalid params: no page has this cursor"))?;
    engine.scratch.body.clear();
    jsonrpc::result(&mut engine.scratch.body, request.id, page);
    Ok(engine.answer(now, &post.terms, 200, reply))
}

/// The page that is asked for; the first one when none is named.
pub(super) fn cursor<'a>(request: &Request<'a>) -> Result<Cow<'a, str>, Fall> {
    match request.params.cursor {
        None | Some(b"null") => Ok(Cow::Borrowed("")),
        Some(raw) => json::string(raw).ok_or_else(|| Fall::new(Kind::InvalidParams, "Invalid params: cursor must be a string")),
    }
}

fn discover(engine: &mut Engine, now: Now, post: &Post<'_>, request: &Request<'_>, reply: &mut Vec<u8>) -> Verdict {
    engine.scratch.body.clear();
    jsonrpc::result(&mut engine.scratch.body, request.id, &engine.hosted[post.server as usize].discover);
    engine.answer(now, &post.terms, 200, reply)
}

/// Calls a tool, reads a resource, gets a prompt or completes an argument.
#[expect(clippy::too_many_arguments, reason = "one request in all its parts")]
fn call(
    engine: &mut Engine,
    now: Now,
    post: &Post<'_>,
    request: &Request<'_>,
    method: Method,
    envelope: &Envelope<'_>,
    reply: &mut Vec<u8>,
    out: &mut Out,
) -> Result<Verdict, Fall> {
    let named = name(request, method)?;
    let target = target(request, method, &named);
    if let Target::Tool { name, arguments } = target {
        params::check(engine.hosted[post.server as usize].header_params(name), post.headers, arguments)?;
    }
    let mut binding = None;
    let state = match request.params.request_state {
        Some(raw) if method.may_ask() && raw != b"null" => Some(open_state(engine, now, post, request, raw, &mut binding)?),
        _ => None,
    };
    let spec = CallSpec {
        call: CallId { index: 0, generation: 0 },
        server: post.server,
        version: Version::V2026_07_28,
        progress_token: request.params.meta.progress_token,
        level: envelope.level,
        capabilities: envelope.capabilities,
        client_info: envelope.client_info,
        meta: request.params.meta.raw,
        principal: post.principal.as_bytes(),
        input_responses: request.params.input_responses,
        state: state.as_deref(),
    };
    let mut begin = Begin { spec, target, rpc_id: request.id.raw(), caller: Caller::Modern(post.conn) };
    // Not computed for a call that is over at once.
    let binding = || method.may_ask().then(|| binding.unwrap_or_else(|| Binding::new(post.endpoint, &post.principal, request)));
    Ok(match engine.begin(now, &mut begin, binding, out) {
        Begun::Done(ending) => over(engine, now, post, request, &target, &ending, reply, out),
        Begun::Waiting(call) => {
            engine.exchanges.open(post.conn, &post.terms, Owner::Call(call), now.mono);
            engine.carry_out(now, out);
            Verdict::Later
        }
    })
}

/// What the request names, as text.
pub(super) fn name<'a>(request: &Request<'a>, method: Method) -> Result<Cow<'a, str>, Fall> {
    let (raw, why) = match method {
        Method::ResourcesRead => (request.params.uri, "Invalid params: uri must be a string"),
        Method::CompletionComplete => return Ok(Cow::Borrowed("")),
        _ => (request.params.name, "Invalid params: name must be a string"),
    };
    raw.and_then(json::string).ok_or_else(|| Fall::new(Kind::InvalidParams, why))
}

pub(super) fn target<'a>(request: &Request<'a>, method: Method, name: &'a str) -> Target<'a> {
    let arguments = request.params.arguments.filter(|raw| *raw != b"null");
    match method {
        Method::ResourcesRead => Target::Resource { uri: name },
        Method::PromptsGet => Target::Prompt { name, arguments },
        Method::CompletionComplete => Target::Completion { params: request.params.raw.unwrap_or(b"{}") },
        _ => Target::Tool { name, arguments },
    }
}

/// Opens the `requestState` that a retry brings back.
fn open_state(
    engine: &mut Engine,
    now: Now,
    post: &Post<'_>,
    request: &Request<'_>,
    raw: &[u8],
    binding: &mut Option<Binding>,
) -> Result<Vec<u8>, Fall> {
    let bound = binding.insert(Binding::new(post.endpoint, &post.principal, request));
    bound
        .open(&mut engine.sealer, now, raw)
        .ok_or_else(|| Fall::new(Kind::InvalidParams, "Invalid params: requestState is not valid for this request, or has expired"))
}

/// Answers a call that was over at once: into the connection's buffer, unless there is something to say before.
#[expect(clippy::too_many_arguments, reason = "one request in all its parts")]
fn over(
    engine: &mut Engine,
    now: Now,
    post: &Post<'_>,
    request: &Request<'_>,
    target: &Target<'_>,
    ending: &Ending,
    reply: &mut Vec<u8>,
    out: &mut Out,
) -> Verdict {
    if matches!(ending, Ending::Outcome(Outcome::MissingCapability(_))) {
        engine.drop_notices();
    }
    let members = std::mem::take(&mut engine.scratch.members);
    let status = write_ending(engine, post.server, request.id, target.kind(), target.name(), ending, &members);
    engine.scratch.members = members;
    if !engine.has_wishes() {
        return engine.answer(now, &post.terms, status, reply);
    }
    let body = std::mem::take(&mut engine.scratch.body);
    engine.exchanges.open(post.conn, &post.terms, Owner::Call(CallId { index: u32::MAX, generation: 0 }), now.mono);
    engine.carry_out(now, out);
    let date = engine.date_at(now);
    engine.exchanges.finish(post.conn, &date, status, &body, engine.is_draining, out);
    engine.scratch.body = body;
    Verdict::Later
}

/// A call ended later.
pub(super) fn on_ended(engine: &mut Engine, now: Now, conn: ConnId, call: &Call, ending: &Ending, members: &[u8], out: &mut Out) {
    let Some(id) = Id::from_raw(&call.rpc_id) else { return };
    let status = write_ending(engine, call.server, id, call.kind, &call.name, ending, members);
    let body = std::mem::take(&mut engine.scratch.body);
    let date = engine.date_at(now);
    engine.exchanges.finish(conn, &date, status, &body, engine.is_draining, out);
    engine.scratch.body = body;
}

/// Something to be told before the result, on the response's own stream.
pub(super) fn tell(engine: &mut Engine, now: Now, conn: ConnId, method: Notify, params: &[u8], out: &mut Out) {
    let mut message = std::mem::take(&mut engine.scratch.body);
    message.clear();
    jsonrpc::notification(&mut message, method.method(), params);
    let date = engine.date_at(now);
    engine.exchanges.tell(conn, &date, &message, now.mono, out);
    engine.scratch.body = message;
}

/// Writes the response message into the engine's scratch. Returns the HTTP status, should it not be a stream already.
fn write_ending(engine: &mut Engine, server: u32, id: Id<'_>, kind: TargetKind, name: &str, ending: &Ending, members: &[u8]) -> u16 {
    let body = &mut engine.scratch.body;
    body.clear();
    let hosted = &engine.hosted[server as usize];
    let fault = match ending {
        Ending::Outcome(Outcome::Result { cache, meta, .. }) => {
            // Of what can be called, the contents of resources alone may be kept.
            let cache = (kind == TargetKind::Resource).then(|| cache.unwrap_or_else(|| hosted.server.read_cache()));
            jsonrpc::begin_result(body, id);
            hosted.write_result(body, members, ResultType::Complete, cache, meta.as_deref());
            jsonrpc::end(body);
            return 200;
        }
        Ending::InputRequired => {
            jsonrpc::begin_result(body, id);
            hosted.write_result(body, members, ResultType::InputRequired, None, None);
            jsonrpc::end(body);
            return 200;
        }
        Ending::Outcome(Outcome::Error(error)) => return write_error(body, id, error),
        Ending::NotFound => return write_not_found(body, id, kind, name),
        Ending::Outcome(Outcome::MissingCapability(required)) => {
            let data = [br#"{"requiredCapabilities":"#, &**required, b"}"].concat();
            RpcFault { id: Some(id), message: None, data: Some(&data) }.write(body, Kind::MissingCapability);
            engine.metrics.fault(Kind::MissingCapability);
            return Kind::MissingCapability.status();
        }
        Ending::Outcome(Outcome::Panicked) => Kind::Internal,
        Ending::TimedOut => Kind::Timeout,
        Ending::Overloaded => Kind::Overloaded,
    };
    RpcFault { id: Some(id), message: None, data: None }.write(body, fault);
    engine.metrics.fault(fault);
    fault.status()
}

/// An error of the handler's own. The code of the legacy era for a resource that is not found does not exist here.
fn write_error(body: &mut Vec<u8>, id: Id<'_>, error: &RpcError) -> u16 {
    let code = if error.code == code::RESOURCE_NOT_FOUND { code::INVALID_PARAMS } else { error.code };
    jsonrpc::error(body, Some(id), code, &error.message, error.data.as_deref());
    200
}

/// An absent name and one that the caller may not see get the same answer.
fn write_not_found(body: &mut Vec<u8>, id: Id<'_>, kind: TargetKind, name: &str) -> u16 {
    let (message, data) = match kind {
        TargetKind::Resource => {
            let mut data = br#"{"uri":"#.to_vec();
            write_str(&mut data, name);
            data.push(b'}');
            (format!("Resource not found: {name}"), Some(data))
        }
        TargetKind::Prompt => (format!("Prompt not found: {name}"), None),
        TargetKind::Completion => ("Nothing to complete: ref names no prompt and no resource template".to_owned(), None),
        TargetKind::Tool => (format!("Tool not found: {name}"), None),
    };
    jsonrpc::error(body, Some(id), code::INVALID_PARAMS, &message, data.as_deref());
    200
}
