//! Before anything is done for a message: whether the guard lets it in, and what it is told when not.

use std::io::Write as _;

use super::modern::Post;
use super::out::{Effect, Frame, Lane, Out};
use super::reply::{self, RpcFault};
use super::{ConnMemo, Engine, Shared, Verdict};
use crate::base::fault::Kind;
use crate::base::ids::CoreId;
use crate::base::limits::CALLS_PER_CORE_MAX;
use crate::base::metrics::Counter;
use crate::base::time::Now;
use crate::guard::breaker::Counts;
use crate::guard::{self, Asked, Decision};
use crate::wire::jsonrpc::{Body, Id, Message, Refusal};
use crate::wire::mcp::Method;

/// What the guard has to judge of a body.
#[derive(Clone, Copy)]
struct Judged<'a> {
    messages: u32,
    /// The id to answer to.
    id: Option<Id<'a>>,
    /// The name, raw, of a tool that is called.
    tool: Option<&'a [u8]>,
}

/// None: answers to what this server asked belong to work that was admitted.
fn judged<'a>(parsed: &Result<Body<'a>, Refusal<'a>>) -> Option<Judged<'a>> {
    let bare = Judged { messages: 1, id: None, tool: None };
    match parsed {
        Ok(Body::One(Message::Request(request))) => {
            let is_call = request.method == Method::ToolsCall.name();
            Some(Judged { id: Some(request.id), tool: request.params.name.filter(|_| is_call), ..bare })
        }
        Ok(Body::One(Message::Notification(_))) => Some(bare),
        Ok(Body::One(Message::Response(_))) => None,
        Ok(Body::Batch(batch)) => Some(Judged { messages: u32::try_from(batch.len()).unwrap_or(u32::MAX), ..bare }),
        Err(refusal) => Some(Judged { id: refusal.id, ..bare }),
    }
}

impl Engine {
    /// Judges the body of a POST. None: it is served.
    #[inline]
    pub(super) fn judge_post(
        &mut self,
        now: Now,
        post: &Post<'_>,
        parsed: &Result<Body<'_>, Refusal<'_>>,
        memo: &mut ConnMemo,
        reply: &mut Vec<u8>,
    ) -> Option<Verdict> {
        if !self.guard.is_on() {
            return None;
        }
        let judged = judged(parsed)?;
        self.judge(now, post, judged, memo, reply)
    }

    /// Judges a request without a message, such as one that opens a stream. None: it is served.
    #[inline]
    pub(super) fn judge_bare(&mut self, now: Now, post: &Post<'_>, memo: &mut ConnMemo, reply: &mut Vec<u8>) -> Option<Verdict> {
        if !self.guard.is_on() {
            return None;
        }
        self.judge(now, post, Judged { messages: 1, id: None, tool: None }, memo, reply)
    }

    fn judge(&mut self, now: Now, post: &Post<'_>, judged: Judged<'_>, memo: &mut ConnMemo, reply: &mut Vec<u8>) -> Option<Verdict> {
        let Judged { messages, id, tool } = judged;
        if self.is_late {
            return Some(self.shed(now, post, Kind::Late, id, reply));
        }
        let tool = tool.map(|name| (post.view.endpoint.id.number, name));
        let asked = Asked { conn: post.conn, principal: post.principal.as_bytes(), tool, messages };
        match self.guard.judge(now.mono, &asked, &mut memo.usage) {
            Decision::Admit => None,
            Decision::Wait => Some(Verdict::Park),
            Decision::Refuse(kind) => Some(self.shed(now, post, kind, id, reply)),
        }
    }

    /// Refuses a message as cheaply as possible; the connection stays.
    fn shed(&mut self, now: Now, post: &Post<'_>, kind: Kind, id: Option<Id<'_>>, reply: &mut Vec<u8>) -> Verdict {
        self.metrics.fault(kind);
        let config = self.guard.config();
        let (tier, limit) = match kind {
            Kind::ConnectionRate => (Some(2), config.connection_rate),
            Kind::NodeRate => (Some(3), config.node_rate),
            Kind::BreakerOpen => (Some(4), None),
            Kind::PrincipalRate => (None, config.principal_rate),
            Kind::ToolRate => (None, config.tool_rate),
            _ => (None, None),
        };
        let mut data = std::mem::take(&mut self.scratch.message);
        data.clear();
        // Writing to a vector does not fail.
        let _ = write!(data, r#"{{"refused":"{}""#, kind.label());
        if let Some(tier) = tier {
            let _ = write!(data, r#","tier":{tier}"#);
        }
        if let Some(limit) = limit {
            let _ = write!(data, r#","limitPerSecond":{limit}"#);
        }
        data.extend_from_slice(br#","retryAfterMs":1000}"#);
        let date = self.date_at(now);
        let error = RpcFault { id, message: None, data: Some(&data) };
        reply::fault(reply, &mut self.scratch.body, &post.terms, &date, kind, &[], &error);
        self.scratch.message = data;
        Verdict::Answered { close: post.terms.close }
    }

    /// Says whether the next request has waited so long that it is refused.
    pub const fn set_late(&mut self, is_late: bool) {
        self.is_late = is_late;
    }

    /// Bytes that wait here for the rest of an upstream's answer, or for a client that has lost its stream.
    pub const fn held_bytes(&mut self) -> usize {
        self.gateway.held_bytes() + self.legacy.sessions.log().bytes()
    }

    /// Bytes of the largest answer of an upstream that is not complete.
    #[must_use]
    pub fn largest_held(&self) -> usize {
        self.gateway.largest_held()
    }

    /// Gives that answer up: there is no memory for it.
    pub fn relieve(&mut self, now: Now, out: &mut Out) {
        self.turn(now, out, |engine, _| engine.gateway.relieve(now.mono));
    }

    /// Whether one more message may be in work.
    pub(super) fn has_room(&mut self) -> bool {
        let held = self.calls.len();
        held < CALLS_PER_CORE_MAX && self.guard.pending.has_room(held, &self.shared.pending)
    }

    pub(super) fn tick_guard(&mut self, now: Now) {
        self.guard.pending.settle(self.calls.len(), &self.shared.pending);
        if self.guard.is_on() && now.mono >= self.guard.next_due() {
            let (shared, before) = (self.shared, self.guard.phase());
            self.guard.on_tick(now.mono, || counts(shared));
            if self.guard.phase() != before {
                tracing::warn!(from = ?before, to = ?self.guard.phase(), "the node's breaker (tier 4)");
            }
        }
    }

    /// Sends what the guard has to say, and lets requests go on that waited for it.
    pub(super) fn carry_out_guard(&mut self, out: &mut Out) {
        for (to, frame) in self.guard.take_frames() {
            out.effects.push(Effect::Send { to, lane: Lane::Ask, frame: Frame::Guard(frame) });
        }
        out.effects.extend(self.guard.take_resumed().map(|conn| Effect::Resume { conn }));
    }

    pub(super) fn on_guard_frame(&mut self, now: Now, from: CoreId, frame: guard::Frame) {
        self.guard.on_frame(now.mono, from, frame);
    }
}

/// What all cores have counted since the start.
fn counts(shared: &Shared) -> Counts {
    let mut counts = Counts::default();
    for metrics in shared.metrics() {
        let faults = Kind::ALL.iter().filter(|kind| kind.is_error()).map(|kind| metrics.faults(*kind)).sum::<u64>();
        // Messages that were refused are not among those taken.
        counts.messages += metrics.counter(Counter::Messages);
        counts.errors += faults + metrics.counter(Counter::InternalErrors) + metrics.counter(Counter::AnswersCut);
    }
    counts
}
