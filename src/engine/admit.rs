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

/// What the guard has to judge of a body: how many messages it is, the id to answer to, and the name of a tool that is called. None: answers
/// to what this server asked belong to work that was admitted.
fn judged<'a>(parsed: &Result<Body<'a>, Refusal<'a>>) -> Option<(u32, Option<Id<'a>>, Option<&'a [u8]>)> {
    match parsed {
        Ok(Body::One(Message::Request(request))) => {
            let is_call = request.method == Method::ToolsCall.name();
            Some((1, Some(request.id), request.params.name.filter(|_| is_call)))
        }
        Ok(Body::One(Message::Notification(_))) => Some((1, None, None)),
        Ok(Body::One(Message::Response(_))) => None,
        Ok(Body::Batch(batch)) => Some((u32::try_from(batch.len()).unwrap_or(u32::MAX), None, None)),
        Err(refusal) => Some((1, refusal.id, None)),
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
        let (messages, id, tool) = judged(parsed)?;
        self.judge(now, post, messages, id, tool, memo, reply)
    }

    /// Judges a request without a message, such as one that opens a stream. None: it is served.
    #[inline]
    pub(super) fn judge_bare(&mut self, now: Now, post: &Post<'_>, memo: &mut ConnMemo, reply: &mut Vec<u8>) -> Option<Verdict> {
        if !self.guard.is_on() {
            return None;
        }
        self.judge(now, post, 1, None, None, memo, reply)
    }

    #[expect(clippy::too_many_arguments, reason = "one request in all its parts")]
    fn judge(
        &mut self,
        now: Now,
        post: &Post<'_>,
        messages: u32,
        id: Option<Id<'_>>,
        tool: Option<&[u8]>,
        memo: &mut ConnMemo,
        reply: &mut Vec<u8>,
    ) -> Option<Verdict> {
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

    /// Whether one more message may be in work.
    pub(super) fn has_room(&mut self) -> bool {
        let held = self.calls.len();
        held < CALLS_PER_CORE_MAX && self.guard.pending.has_room(held, &self.shared.pending)
    }

    pub(super) fn tick_guard(&mut self, now: Now) {
        self.guard.pending.settle(self.calls.len(), &self.shared.pending);
        if self.guard.is_on() && now.mono >= self.guard.next_due() {
            let shared = self.shared;
            self.guard.on_tick(now.mono, || counts(shared));
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
        let before = self.guard.phase();
        self.guard.on_frame(now.mono, from, frame);
        if self.guard.phase() != before {
            tracing::warn!(core = self.core.0, phase = ?self.guard.phase(), "the node's breaker has another phase");
        }
    }
}

/// What all cores have counted since the start.
fn counts(shared: &Shared) -> Counts {
    let mut counts = Counts::default();
    for metrics in shared.metrics() {
        let faults =
            |wanted: fn(Kind) -> bool| Kind::ALL.iter().filter(|kind| wanted(**kind)).map(|kind| metrics.faults(*kind)).sum::<u64>();
        counts.messages += metrics.counter(Counter::Messages).saturating_sub(faults(Kind::is_shed));
        counts.errors += faults(Kind::is_error) + metrics.counter(Counter::InternalErrors);
    }
    counts
}
