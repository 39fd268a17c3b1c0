//! Requests of 2026-07-28, from the ladder to the answer.

use std::borrow::Cow;
use std::rc::Rc;

use super::call::{Begin, Begun, Caller, Ending, Target, TargetKind};
use super::calls::Call;
use super::exchange::Owner;
use super::ladder::{Fall, climb};
use super::mrtr::Binding;
use super::out::Out;
use super::principal::Principal;
use super::relay::{self, Lead};
use super::reply::{RpcFault, Terms};
use super::view::{ListKind, Reach, ResultType, Signer, View};
use super::{Engine, Verdict, listen, params, park};
use crate::base::fault::{Kind, code};
use crate::base::ids::{CallId, ConnId};
use crate::base::time::Now;
use crate::native::host::{CallSpec, Notify};
use crate::native::outcome::{Outcome, RpcError};
use crate::registry::Fronted;
use crate::wire::http1::Headers;
use crate::wire::json::{self, write_str};
use crate::wire::jsonrpc::{self, Id, Request};
use crate::wire::mcp::{Envelope, Era, Method, Version};

/// What a POST brings besides its body.
#[derive(Debug)]
pub(super) struct Post<'a> {
    pub conn: ConnId,
    /// What clients see at the endpoint it was sent to.
    pub view: Rc<View>,
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
    let offers = post.view.offers;
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
    let page = post.view.page_modern(kind, &cursor);
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
    jsonrpc::result(&mut engine.scratch.body, request.id, &post.view.discover);
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
    let params = params_of(request, method, &post.view);
    let (server, target) = match locate(request, method, &named, &post.view, params.as_ref()) {
        Ok(Located::Native(server, target)) => (server, target),
        Ok(Located::Upstream(fronted, own)) => {
            let lead = Lead::new(request, fronted, own, &named, relay::completion_params(params.as_ref()), &post.view);
            if method == Method::ToolsCall && !engine.sees_headers(fronted) {
                params::check(post.view.header_params(&lead), post.headers, request.params.arguments.filter(|raw| *raw != b"null"))?;
            }
            let state = request.params.request_state.filter(|raw| fronted.version.era() == Era::Legacy && *raw != b"null");
            if let Some(state) = state {
                return park::on_retry(engine, now, post, request, &lead, state, reply, out);
            }
            return Ok(relay::on_modern(engine, now, post, request, method, envelope, &lead, reply, out));
        }
        Err(ending) => return Ok(unreached(engine, now, post, request, kind_of(method), &named, &ending, reply)),
    };
    if let Target::Tool { name, arguments } = target {
        params::check(engine.hosted[server as usize].header_params(name), post.headers, arguments)?;
    }
    let mut binding = None;
    let state = match request.params.request_state {
        Some(raw) if method.may_ask() && raw != b"null" => Some(open_state(engine, now, post, request, raw, &mut binding)?),
        _ => None,
    };
    let spec = CallSpec {
        call: CallId { index: 0, generation: 0 },
        server,
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
    let (caller, signer) = (Caller::Modern(post.conn), post.view.signer);
    let mut begin = Begin { spec, target, name: &named, signer, rpc_id: request.id.raw(), caller };
    // Not computed for a call that is over at once.
    let binding = || method.may_ask().then(|| binding.unwrap_or_else(|| Binding::new(post.view.path(), &post.principal, request)));
    Ok(match engine.begin(now, &mut begin, binding, out) {
        Begun::Done(ending) => over(engine, now, post, request, &begin, &ending, reply, out),
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

pub(super) fn kind_of(method: Method) -> TargetKind {
    match method {
        Method::ResourcesRead => TargetKind::Resource,
        Method::PromptsGet => TargetKind::Prompt,
        Method::CompletionComplete => TargetKind::Completion,
        _ => TargetKind::Tool,
    }
}

/// The parameters of a completion as the server that completes knows them, and where it is; none of another method.
pub(super) fn params_of<'a>(request: &Request<'a>, method: Method, view: &'a View) -> Option<(Reach<'a>, Cow<'a, [u8]>)> {
    (method == Method::CompletionComplete).then(|| view.completion(request.params.raw.unwrap_or(b"{}")))
}

/// Where a call goes.
pub(super) enum Located<'a> {
    /// To the native server with this number.
    Native(u32, Target<'a>),
    /// To an upstream, which calls it by this name.
    Upstream(Fronted, &'a str),
}

/// The server that has what the request names, and what that is called there. Else how the request ends.
pub(super) fn locate<'a>(
    request: &Request<'a>,
    method: Method,
    name: &'a str,
    view: &'a View,
    params: Option<&'a (Reach<'a>, Cow<'a, [u8]>)>,
) -> Result<Located<'a>, Ending> {
    let reach = match (method, params) {
        (_, Some((reach, _))) => *reach,
        (Method::ResourcesRead, _) => view.resource(name),
        (Method::PromptsGet, _) => view.prompt(name),
        _ => view.tool(name),
    };
    let (server, name) = match reach {
        Reach::Native { server, name } => (server, name),
        Reach::Upstream { fronted, name } => return Ok(Located::Upstream(fronted, name)),
        Reach::Away(server) => return Err(Ending::Away(server.into())),
        Reach::Nothing => return Err(Ending::NotFound),
    };
    let arguments = request.params.arguments.filter(|raw| *raw != b"null");
    let target = match (method, params) {
        (_, Some((_, params))) => Target::Completion { params },
        (Method::ResourcesRead, _) => Target::Resource { uri: name },
        (Method::PromptsGet, _) => Target::Prompt { name, arguments },
        _ => Target::Tool { name, arguments },
    };
    Ok(Located::Native(server, target))
}

/// Answers a request for what no server here has, or one that cannot be called.
#[expect(clippy::too_many_arguments, reason = "one request in all its parts")]
fn unreached(
    engine: &mut Engine,
    now: Now,
    post: &Post<'_>,
    request: &Request<'_>,
    kind: TargetKind,
    name: &str,
    ending: &Ending,
    reply: &mut Vec<u8>,
) -> Verdict {
    let status = write_ending(engine, 0, post.view.signer, request.id, kind, name, ending, &[]);
    engine.answer(now, &post.terms, status, reply)
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
    let bound = binding.insert(Binding::new(post.view.path(), &post.principal, request));
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
    begin: &Begin<'_>,
    ending: &Ending,
    reply: &mut Vec<u8>,
    out: &mut Out,
) -> Verdict {
    if matches!(ending, Ending::Outcome(Outcome::MissingCapability(_))) {
        engine.drop_notices();
    }
    let mut members = std::mem::take(&mut engine.scratch.members);
    begin.expose(&mut members);
    let (server, kind) = (begin.spec.server, begin.target.kind());
    let status = write_ending(engine, server, begin.signer, request.id, kind, begin.name, ending, &members);
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
    let Some(id) = Id::from_raw(call.rpc_id.as_bytes()) else { return };
    let members = call.expose(members);
    let status = write_ending(engine, call.server, call.signer, id, call.kind, &call.name, ending, &members);
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
#[expect(clippy::too_many_arguments, reason = "one answer in all its parts")]
fn write_ending(
    engine: &mut Engine,
    server: u32,
    signer: Signer,
    id: Id<'_>,
    kind: TargetKind,
    name: &str,
    ending: &Ending,
    members: &[u8],
) -> u16 {
    let signature = match signer {
        Signer::Native(server) => engine.hosted.get(server as usize).map_or(&engine.signature, |hosted| &hosted.signature),
        Signer::Node => &engine.signature,
    };
    let body = &mut engine.scratch.body;
    body.clear();
    let fault = match ending {
        Ending::Outcome(Outcome::Result { cache, meta, .. }) => {
            // Of what can be called, the contents of resources alone may be kept.
            let of_server = || engine.hosted.get(server as usize).map(|hosted| hosted.server.read_cache()).unwrap_or_default();
            let cache = (kind == TargetKind::Resource).then(|| cache.unwrap_or_else(of_server));
            jsonrpc::begin_result(body, id);
            signature.write_result(body, members, ResultType::Complete, cache, meta.as_deref());
            jsonrpc::end(body);
            return 200;
        }
        Ending::InputRequired => {
            jsonrpc::begin_result(body, id);
            signature.write_result(body, members, ResultType::InputRequired, None, None);
            jsonrpc::end(body);
            return 200;
        }
        Ending::Outcome(Outcome::Error(error)) => return write_error(body, id, error),
        Ending::NotFound => return write_not_found(body, id, kind, name),
        Ending::Away(server) => {
            engine.metrics.fault(Kind::NotConnected);
            RpcFault { id: Some(id), message: Some(&not_connected(server)), data: None }.write(body, Kind::NotConnected);
            return Kind::NotConnected.status();
        }
        Ending::Failed { upstream, failure } => {
            let (kind, message) =
                (failure.kind(), relay::failed(engine.gateway.settings(*upstream).map_or("", |settings| &settings.name), failure));
            engine.metrics.fault(kind);
            RpcFault { id: Some(id), message: Some(&message), data: None }.write(body, kind);
            return kind.status();
        }
        Ending::Outcome(Outcome::MissingCapability(required)) => {
            let data = [br#"{"requiredCapabilities":"#, &**required, b"}"].concat();
            RpcFault { id: Some(id), message: None, data: Some(&data) }.write(body, Kind::MissingCapability);
            engine.metrics.fault(Kind::MissingCapability);
            return Kind::MissingCapability.status();
        }
        Ending::Outcome(Outcome::Panicked) => Kind::Internal,
        Ending::TimedOut => Kind::Timeout,
        Ending::Overloaded => Kind::Pending,
    };
    RpcFault { id: Some(id), message: None, data: None }.write(body, fault);
    engine.metrics.fault(fault);
    fault.status()
}

/// A server is listed, and cannot be called.
pub(super) fn not_connected(server: &str) -> String {
    format!("The server {server} is not connected")
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
