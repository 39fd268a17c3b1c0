//! Calls of modern clients that wait, because their upstream, of the legacy era, asked something in the midst of them.
//!
//! The call is parked: its request at the upstream goes on, and the client gets a result that asks, with a sealed handle in `requestState` that
//! names the core and the call (2026-07-28, basic, "Multi Round-Trip Requests"). When the client comes back with the answer, on any core, its
//! connection moves to that core, the answer goes to the upstream, and the client waits for the call again. A handle is good for the same request of
//! the same principal alone, in this run of this process, and for as long as a `requestState` is. How many may wait is bounded, since each holds a place at its upstream; one that nobody
//! comes back to is cancelled there.

use std::collections::VecDeque;

use compact_str::CompactString;

use super::call::{Caller, Ending};
use super::exchange::Owner;
use super::ladder::Fall;
use super::modern::Post;
use super::mrtr::Binding;
use super::out::Out;
use super::relay::Lead;
use super::view::ResultType;
use super::{Engine, Verdict, server_request};
use crate::base::fault::Kind;
use crate::base::ids::{CallId, ConnId, CoreId};
use crate::base::limits::ASK_ROUNDS_MAX;
use crate::base::time::Now;
use crate::gateway::Digest;
use crate::native::host::AskMethod;
use crate::wire::json::{self, write_str};
use crate::wire::jsonrpc::{self, Id, Request};
use crate::wire::mcp::ClientCapabilities;

/// What the question is called in `inputRequests`: there is one at a time.
const KEY: &str = "question";
/// Bytes of the process's own mark in a handle.
const MARK_BYTES: usize = 8;

/// What is to be known of a call to ask its client.
#[derive(Debug)]
pub(super) struct Askable {
    binding: Binding,
    pub principal: Digest,
    capabilities: ClientCapabilities,
    /// What the client was asked.
    open: Option<Question>,
    /// What it is to be asked then.
    more: VecDeque<Question>,
}

/// One question of an upstream.
#[derive(Debug)]
pub(super) struct Question {
    pub id: Box<str>,
    pub method: AskMethod,
    pub params: Box<[u8]>,
}

impl Askable {
    /// Of a request whose client can be asked for anything at all.
    pub fn new(post: &Post<'_>, request: &Request<'_>, capabilities: ClientCapabilities) -> Option<Box<Self>> {
        let can_be_asked = capabilities.sampling() || capabilities.roots() || capabilities.elicitation_form();
        let binding = can_be_asked.then(|| Binding::new(post.view.path(), &post.principal, request))?;
        let principal = Digest::new(post.principal.as_bytes());
        Some(Box::new(Self { binding, principal, capabilities, open: None, more: VecDeque::new() }))
    }
}

/// What a handle says.
struct Handle {
    core: CoreId,
    call: CallId,
}

impl Handle {
    fn write(&self, mark: &[u8]) -> Vec<u8> {
        [mark, &self.core.0.to_le_bytes(), &self.call.pack().to_le_bytes()].concat()
    }

    /// None when it is none of this run of this process.
    fn read(mark: &[u8], bytes: &[u8]) -> Option<Self> {
        let (core, call) = bytes.strip_prefix(mark)?.split_first_chunk::<2>()?;
        let call = u64::from_le_bytes(call.try_into().ok()?);
        Some(Self { core: CoreId(u16::from_le_bytes(*core)), call: CallId::unpack(call) })
    }
}

fn invalid() -> Fall {
    Fall::new(Kind::InvalidParams, "Invalid params: requestState is not valid for this request, or has expired")
}

/// A client comes back to a call that is parked.
#[expect(clippy::too_many_arguments, reason = "one request in all its parts")]
pub(super) fn on_retry(
    engine: &mut Engine,
    now: Now,
    post: &Post<'_>,
    request: &Request<'_>,
    lead: &Lead<'_>,
    state: &[u8],
    reply: &mut Vec<u8>,
    out: &mut Out,
) -> Result<Verdict, Fall> {
    let mut binding = Binding::new(post.view.path(), &post.principal, request);
    let opened = binding.open(&mut engine.sealer, now, state).ok_or_else(invalid)?;
    let handle = Handle::read(&engine.shared.boot()[..MARK_BYTES], &opened).ok_or_else(invalid)?;
    if handle.core != engine.core {
        return Ok(Verdict::Move(handle.core));
    }
    let id = handle.call;
    // An upstream that was altered since has another number, and this call goes on where it is.
    let current = engine.gateway.current(lead.fronted.number);
    let is_its =
        |call: &&mut super::calls::Call| current.is_some() && call.upstream().and_then(|number| engine.gateway.current(number)) == current;
    let call = engine.calls.get_mut(id).filter(|call| call.caller == Caller::Parked).filter(is_its);
    let call = call.ok_or_else(invalid)?;
    let Some(askable) = call.askable_mut() else { return Err(invalid()) };
    let answer = request.params.input_responses.and_then(|answers| json::get(answers, KEY)).filter(|raw| raw.starts_with(b"{"));
    let Some(answer) = answer else {
        // It is asked again (2026-07-28, basic, "Multi Round-Trip Requests": missing responses are no error).
        engine.write_question(now, id, request.id);
        return Ok(engine.answer(now, &post.terms, 200, reply));
    };
    askable.binding = binding;
    let Some(asked) = askable.open.take() else { return Err(invalid()) };
    let next = askable.more.pop_front();
    call.rpc_id = CompactString::from_utf8_lossy(request.id.raw());
    engine.calls.unpark(id, post.conn);
    engine.exchanges.open(post.conn, &post.terms, Owner::Call(id), now.mono);
    engine.readdress(id, request.id, request.params.meta.progress_token, out);
    engine.answer_upstream(now, id, &asked.id, Ok(answer), out);
    let until = now.mono.after(engine.config.request_timeout);
    engine.calls.postpone(id, until);
    if let Some(next) = next {
        engine.park(now, id, post.conn, next, out);
    }
    Ok(Verdict::Later)
}

impl Engine {
    /// An upstream of the legacy era asks the modern client of a call something.
    pub(super) fn park(&mut self, now: Now, id: CallId, conn: ConnId, question: Question, out: &mut Out) {
        let Some(call) = self.calls.get_mut(id) else { return };
        let trip = call.trip();
        let rpc_id = call.rpc_id.clone();
        let askable = call
            .askable_mut()
            .filter(|askable| server_request::can(askable.capabilities, question.method) && askable.binding.round() < ASK_ROUNDS_MAX);
        let (Some(askable), Some(rpc_id)) = (askable, Id::from_raw(rpc_id.as_bytes())) else {
            let error = server_request::undeclared(question.method);
            return self.answer_upstream(now, id, &question.id, Err(&error), out);
        };
        askable.open = Some(question);
        // What waits for people must leave room for what does not.
        let upstream = call.upstream().and_then(|upstream| self.gateway.settings(upstream));
        let places = upstream.map_or(1, |settings| (settings.in_flight_max / 2).max(1));
        if !self.calls.park(id, places) {
            if let Some(call) = self.calls.lift(id) {
                self.cancel_relay(now, &call, out);
                self.calls.put_back(id, call);
            }
            return self.conclude(now, id, Ending::Overloaded, &[], out);
        }
        // The connection that may have been slow is done with.
        if let Some(trip) = trip {
            self.gateway.choke(trip, false);
        }
        let until = now.mono.after(self.config.request_state_ttl);
        self.calls.postpone(id, until);
        self.write_question(now, id, rpc_id);
        let body = std::mem::take(&mut self.scratch.body);
        let date = self.date_at(now);
        self.exchanges.finish(conn, &date, 200, &body, self.is_draining, out);
        self.scratch.body = body;
    }

    /// One more question of a call that is parked.
    pub(super) fn park_more(&mut self, id: CallId, question: Question) {
        if let Some(askable) = self.calls.get_mut(id).and_then(super::calls::Call::askable_mut) {
            askable.more.push_back(question);
        }
    }

    /// Writes the result that asks the client of a parked call into the scratch.
    fn write_question(&mut self, now: Now, id: CallId, rpc_id: Id<'_>) {
        let handle = Handle { core: self.core, call: id }.write(&self.shared.boot()[..MARK_BYTES]);
        let Some(askable) = self.calls.get_mut(id).and_then(super::calls::Call::askable_mut) else { return };
        let (Some(open), binding) = (&askable.open, askable.binding.clone()) else { return };
        let mut members = std::mem::take(&mut self.scratch.members);
        members.clear();
        members.extend_from_slice(br#""inputRequests":{"#);
        write_str(&mut members, KEY);
        members.extend_from_slice(br#":{"method":"#);
        write_str(&mut members, open.method.method());
        members.extend_from_slice(br#","params":"#);
        members.extend_from_slice(&open.params);
        members.extend_from_slice(br#"}},"requestState":"#);
        self.seal_state(now, &binding, &handle, &mut members);
        let body = &mut self.scratch.body;
        body.clear();
        jsonrpc::begin_result(body, rpc_id);
        self.signature.write_result(body, &members, ResultType::InputRequired, None, None);
        jsonrpc::end(body);
        self.scratch.members = members;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_good_in_its_own_run_alone() {
        let handle = Handle { core: CoreId(3), call: CallId { index: 7, generation: 9 } };
        let bytes = handle.write(b"12345678");
        let read = Handle::read(b"12345678", &bytes).expect("a handle");
        assert_eq!((read.core, read.call), (handle.core, handle.call));
        assert!(Handle::read(b"12345679", &bytes).is_none() && Handle::read(b"12345678", &bytes[..12]).is_none());
    }
}
