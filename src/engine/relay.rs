//! Calls of servers that are fronted: handed to the gateway room, and what is heard of them handed to whoever waits. The same for both eras;
//! what differs is who is answered.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

use arrayvec::ArrayVec;

use super::call::{Caller, Ending};
use super::calls::{At, Call};
use super::exchange::Owner;
use super::legacy::{Asker, Carried};
use super::modern::{self, Post};
use super::out::{Effect, Out};
use super::park::Askable;
use super::reply::RpcFault;
use super::view::View;
use super::{Engine, Verdict, hop, legacy_method, legacy_stream, params};
use crate::base::fault::Kind;
use crate::base::ids::{CallId, ConnId, LinkId};
use crate::base::limits::HEADERS_MAX;
use crate::base::metrics::Counter;
use crate::base::time::Now;
use crate::gateway::link::LinkEvent;
use crate::gateway::{self, Failure, Forward, Heard, What, policy};
use crate::registry::Fronted;
use crate::wire::jsonrpc::{Id, Request};
use crate::wire::mcp::{ClientCapabilities, Envelope, Era, Level, Method, Version};

/// What the gateway room is given beyond what an upstream may take altogether: it ends a request itself.
const GRACE: Duration = Duration::from_secs(5);

/// A call that leads to an upstream.
#[derive(Clone, Copy)]
pub(super) struct Lead<'a> {
    pub fronted: Fronted,
    /// What the upstream calls it; empty for a completion.
    pub own: &'a str,
    /// What the caller calls it.
    pub exposed: &'a str,
    /// The parameters as the upstream is to have them but for the name.
    pub params: &'a [u8],
    /// The view by which resources in its result are called otherwise, if any are.
    links: Option<&'a Rc<View>>,
}

impl<'a> Lead<'a> {
    /// `params` are those of a completion, which names what it is about in another way.
    pub fn new(
        request: &Request<'a>,
        fronted: Fronted,
        own: &'a str,
        exposed: &'a str,
        params: Option<&'a [u8]>,
        view: &'a Rc<View>,
    ) -> Self {
        let links = Some(view).filter(|view| view.relinks(fronted.number));
        Self { fronted, own, exposed, params: params.or(request.params.raw).unwrap_or(b"{}"), links }
    }

    /// The slice of the parameters in whose place another name stands.
    fn renamed(&self, request: &Request<'a>, method: Method) -> Option<&'a [u8]> {
        let named = if method == Method::ResourcesRead { request.params.uri } else { request.params.name };
        named.filter(|_| self.own != self.exposed && method != Method::CompletionComplete)
    }
}

/// Who calls, as far as the upstream is told.
pub(super) struct Side<'a> {
    pub era: Era,
    pub level: Option<Level>,
    /// The level that it has asked for itself.
    pub wanted: Option<Level>,
    pub client_info: Option<&'a [u8]>,
    pub capabilities: ClientCapabilities,
    pub owner: gateway::Owner,
    pub speaks: Version,
    pub caller: Caller,
    /// See [`Forward`].
    pub agrees: bool,
    pub fields: &'a [(&'a str, &'a [u8])],
}

/// Relays a request of the modern era.
#[expect(clippy::too_many_arguments, reason = "one request in all its parts")]
pub(super) fn on_modern(
    engine: &mut Engine,
    now: Now,
    post: &Post<'_>,
    request: &Request<'_>,
    method: Method,
    envelope: &Envelope<'_>,
    lead: &Lead<'_>,
    reply: &mut Vec<u8>,
    out: &mut Out,
) -> Verdict {
    let fields: ArrayVec<_, HEADERS_MAX> = policy::passing(post.headers).take(HEADERS_MAX).collect();
    let arguments = request.params.arguments.filter(|raw| *raw != b"null");
    let caller = Caller::Modern(post.conn);
    let side = Side {
        era: Era::Modern,
        level: envelope.level,
        wanted: envelope.level,
        client_info: None,
        capabilities: envelope.capabilities,
        owner: gateway::Owner::Principal(gateway::Digest::new(post.principal.as_bytes())),
        speaks: Version::MODERN_NEWEST,
        caller,
        agrees: method != Method::ToolsCall || params::check(post.view.header_params(lead), post.headers, arguments).is_ok(),
        fields: &fields,
    };
    match engine.begin_relay(now, request, method, lead, &side, out) {
        Ok(call) => {
            if lead.fronted.version.era() == Era::Legacy
                && method.may_ask()
                && let Some(call) = engine.calls.get_mut(call)
            {
                call.set_askable(Askable::new(post, request, envelope.capabilities));
            }
            engine.exchanges.open(post.conn, &post.terms, Owner::Call(call), now.mono);
            Verdict::Later
        }
        Err(ending) => {
            let status = engine.write_unrelayed(request.id, &ending);
            engine.answer(now, &post.terms, status, reply)
        }
    }
}

/// What a caller reads of a request that its server did not answer.
pub(super) fn failed(server: &str, failure: &Failure) -> String {
    format!("The server {server} {failure}")
}

impl Engine {
    /// Starts a call of an upstream.
    ///
    /// # Errors
    /// How it ended at once.
    pub(super) fn begin_relay(
        &mut self,
        now: Now,
        request: &Request<'_>,
        method: Method,
        lead: &Lead<'_>,
        side: &Side<'_>,
        out: &mut Out,
    ) -> Result<CallId, Ending> {
        if !self.has_room() {
            return Err(Ending::Overloaded);
        }
        let id = self.calls.next_id();
        let forward = Forward {
            core: self.core,
            call: id,
            era: side.era,
            method,
            id: request.id,
            params: lead.params,
            renamed: lead.renamed(request, method),
            name: lead.own,
            exposed: lead.exposed,
            progress_token: request.params.meta.progress_token,
            level: side.level,
            wanted: side.wanted,
            client_info: side.client_info,
            capabilities: side.capabilities,
            owner: side.owner,
            speaks: side.speaks,
            agrees: side.agrees,
            fields: side.fields,
        };
        let Some(upstream) = self.gateway.current(lead.fronted.number) else {
            return Err(Ending::Failed { upstream: lead.fronted.number, failure: Failure::Gone });
        };
        let version = lead.fronted.version;
        let total = self.gateway.settings(upstream).map_or(Duration::ZERO, |settings| settings.total_timeout);
        let at = match self.process_core(upstream, side.owner) {
            Some(core) => {
                Self::send_hop(
                    core,
                    Box::new(hop::Frame::Ask(hop::Request::new(self.gateway.edition(), upstream, version, &forward))),
                    out,
                );
                Ok(At::Core(core))
            }
            None => self.gateway.relay(now.mono, upstream, version, &forward).map(At::Here),
        };
        let at = at.map_err(|failure| Ending::Failed { upstream, failure })?;
        let deadline = now.mono.after(total + GRACE);
        let kind = modern::kind_of(method);
        let permit = self.guard.pending.permit();
        let call = Call::relayed(id, side.caller, kind, lead.exposed, request.id.raw(), upstream, at, deadline);
        self.calls.insert(id, Call { permit, ..call });
        if let (Some(view), Some(call)) = (lead.links, self.calls.get_mut(id)) {
            call.set_links(Rc::clone(view));
        }
        self.gauge_calls();
        Ok(id)
    }

    /// Writes the answer to a request that was not relayed into the scratch; gives the HTTP status.
    fn write_unrelayed(&mut self, id: Id<'_>, ending: &Ending) -> u16 {
        let (kind, message) = match ending {
            Ending::Failed { upstream, failure } => (failure.kind(), self.failure_text(*upstream, failure)),
            _ => (Kind::Pending, Kind::Pending.message().to_owned()),
        };
        self.metrics.fault(kind);
        self.scratch.body.clear();
        RpcFault { id: Some(id), message: Some(&message), data: None }.write(&mut self.scratch.body, kind);
        kind.status()
    }

    /// Whether an upstream judges the header fields that clients of the modern era send: one that is a process gets none, and one of the
    /// legacy era knows none of them.
    pub(super) fn sees_headers(&self, fronted: Fronted) -> bool {
        let is_process = self.gateway.current(fronted.number).is_some_and(|upstream| self.gateway.is_process(upstream));
        fronted.version.era() == Era::Modern && !is_process
    }

    /// What is said of a failure of an upstream: it is named.
    pub(super) fn failure_text(&self, upstream: u32, failure: &Failure) -> String {
        failed(self.gateway.settings(upstream).map_or("", |settings| &settings.name), failure)
    }

    /// Something was heard of a call.
    pub(super) fn on_heard(&mut self, now: Now, heard: Heard<'_>, out: &mut Out) {
        if heard.core != self.core {
            return self.tell_hop(heard, out);
        }
        let Some(call) = self.calls.get(heard.call) else { return };
        let caller = call.caller;
        let message = match heard.what {
            What::Notice(message) => {
                match caller {
                    Caller::Modern(conn) => {
                        let date = self.date_at(now);
                        self.exchanges.tell(conn, &date, &message, now.mono, out);
                    }
                    Caller::Legacy(asker) => legacy_stream::tell(self, now, asker.0, &message, out),
                    Caller::Nobody | Caller::Parked => {}
                }
                message
            }
            What::Answer { status, message } => {
                self.on_answered(now, heard.call, status, &message, out);
                message
            }
            What::Asks(response) => {
                self.bridge(now, heard.call, &response, out);
                response
            }
            What::Apart { retry_ms } => {
                if let Caller::Legacy(asker) = caller {
                    legacy_stream::close(self, now, asker, retry_ms, out);
                }
                return;
            }
            What::Question { id, method, params } => return self.on_question(now, heard.call, &id, &method, &params, out),
            What::Failed(failure) => {
                let Some(upstream) = call.upstream() else { return };
                return self.conclude(now, heard.call, Ending::Failed { upstream, failure }, &[], out);
            }
        };
        self.gateway.recycle(message);
    }

    /// The upstream has answered.
    fn on_answered(&mut self, now: Now, id: CallId, status: u16, message: &[u8], out: &mut Out) {
        let Some(call) = self.calls.remove(id) else { return };
        self.gauge_calls();
        if call.kind == super::call::TargetKind::Tool {
            self.metrics.count(Counter::ToolCalls);
        }
        let relinked = call.relink(message);
        let message = relinked.as_deref().unwrap_or(message);
        match call.caller {
            Caller::Modern(conn) => {
                let date = self.date_at(now);
                self.exchanges.finish(conn, &date, status, message, self.is_draining, out);
            }
            Caller::Legacy(asker) => legacy_method::answer(self, now, asker, &call, status, message, out),
            Caller::Nobody | Caller::Parked => {}
        }
    }

    /// Something happened to a link that [`Effect::Dial`](gateway::Effect::Dial) asked for. One that nobody knows is ignored.
    pub fn on_link(&mut self, now: Now, link: LinkId, event: LinkEvent<'_>, out: &mut Out) {
        self.turn(now, out, |engine, out| match event {
            LinkEvent::Bytes(bytes) => {
                if let Some(heard) = engine.gateway.on_bytes(now.mono, link, bytes) {
                    engine.on_heard(now, heard, out);
                }
            }
            event => engine.gateway.on_link(now.mono, link, &event),
        });
    }

    /// What waits to be sent to a client has become more than [`OUTBOUND_PAUSE_BYTES`](crate::base::limits::OUTBOUND_PAUSE_BYTES), or
    /// again no more than [`OUTBOUND_RESUME_BYTES`](crate::base::limits::OUTBOUND_RESUME_BYTES): the link that feeds the connection is not read
    /// meanwhile. Told in turns and only while a response is pending; each response begins as not choked.
    pub fn on_choked(&mut self, now: Now, conn: ConnId, is_choked: bool, out: &mut Out) {
        let Some(owner) = self.exchanges.choke(conn, is_choked) else { return };
        self.turn(now, out, |engine, _| engine.choke_relays(owner, is_choked));
    }

    /// Stops reading what feeds a response, or goes on.
    pub(super) fn choke_relays(&mut self, owner: Owner, is_choked: bool) {
        let calls = match owner {
            Owner::Call(call) => vec![call],
            Owner::Legacy(Carried::Post(pending)) => self.calls.of(Caller::Legacy(Asker(pending))),
            Owner::Legacy(Carried::Get(..)) | Owner::Listen => return,
        };
        for trip in calls.iter().filter_map(|call| self.calls.get(*call)?.trip()) {
            self.gateway.choke(trip, is_choked);
        }
    }

    /// Carries out what the gateway room wants done, and passes on what it has heard.
    pub(super) fn carry_out_gateway(&mut self, now: Now, out: &mut Out) {
        while self.gateway.has_output() {
            self.gateway.drain(|effect, bytes| match effect {
                gateway::Effect::Feed { link, range } => out.feed(link, |out| out.extend_from_slice(&bytes[range])),
                effect => out.effects.push(Effect::Link(effect)),
            });
            while let Some(heard) = self.gateway.next_heard() {
                self.on_heard(now, heard, out);
            }
            for news in self.gateway.take_news() {
                self.publish(now, news, out);
            }
            for (upstream, doubt) in self.gateway.take_doubts() {
                self.tell_doubt(now, upstream, doubt, out);
            }
            for (upstream, said) in self.gateway.take_said() {
                self.tell_breaker(upstream, said, out);
            }
        }
    }

    /// Nobody waits for a relayed call any more.
    pub(super) fn cancel_relay(&mut self, now: Now, call: &Call, out: &mut Out) {
        if let Some(trip) = call.trip() {
            self.gateway.cancel(now.mono, trip);
        }
        if let Some(core) = call.elsewhere() {
            Self::send_hop(core, Box::new(hop::Frame::Cancel(call.id)), out);
        }
    }
}

/// The parameters of a completion; of another method none.
pub(super) fn completion_params<'a, R>(params: Option<&'a (R, Cow<'_, [u8]>)>) -> Option<&'a [u8]> {
    params.map(|(_, params)| &**params)
}
