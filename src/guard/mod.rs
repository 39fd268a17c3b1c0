//! Floor 2: what is admitted, and what is refused early and cheaply so that what is admitted is served well.
//!
//! A [`Guard`] is one core's; nothing here reads a clock or does I/O. Messages pass it before any work is done for them: the node's breaker
//! ([`breaker`]), the limits of the connection, of the principal and of the tool, each for itself, and the limit of the node, whose tokens the
//! cores lend each other. What it has to say to other cores are [`Frame`]s.

pub mod arrivals;
pub mod breaker;
mod keyed;
pub mod late;
mod lend;
pub mod pending;
#[cfg(test)]
mod tests;
mod window;

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::fault::Kind;
use crate::base::ids::{ConnId, CoreId};
use crate::base::limits::{GUARD_WAITING_MAX, NODE_BREAKER_PROBES, PENDING_DEFAULT};
use crate::base::time::Nanos;
use breaker::{Breaker, Counts, Phase, Threshold};
use keyed::Keyed;
use lend::{Bank, Leaf, Tier, WAITING_MAX};
use pending::Pending;
use window::Limiter;

/// The core that has the bank and the breaker.
const HEAD: CoreId = CoreId(0);
/// How long a message waits for a token at least, if it must; and for how many tokens to be lent.
const WAIT_MIN: Duration = Duration::from_millis(4);
const WAIT_TOKENS: u64 = 4;
/// A message of a connection that had far less than its share waits so many times as long.
const POOR_WAIT: u32 = 8;
/// A connection that had its share may wait all the same if it sent nothing for so long.
const UNHURRIED: Duration = Duration::from_millis(2);
const SECOND_NS: u64 = 1_000_000_000;

/// What is limited. Nothing, unless told otherwise.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Config {
    /// Tier 2: messages per second of one connection.
    pub connection_rate: Option<u32>,
    /// Tier 3: messages per second of the node.
    pub node_rate: Option<u32>,
    /// Messages per second of one principal on one core.
    pub principal_rate: Option<u32>,
    /// Calls per second of one tool on one core.
    pub tool_rate: Option<u32>,
    /// Tier 4: when the node's breaker opens.
    pub breaker: Option<Threshold>,
    /// Messages in work of the node. None: what is usual.
    pub pending_max: Option<usize>,
    /// Messages in work of one principal on one core.
    pub principal_pending_max: Option<u32>,
    /// Whether the shell says which requests come too late.
    pub sheds_late: bool,
}

/// A message between the guards of two cores.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Frame {
    /// A core asks for tokens and gives others back.
    Ask(lend::Ask),
    /// It gets some.
    Grant(lend::Grant),
    /// The breaker's phase is another one.
    Breaker(Phase),
}

/// What a connection has used lately. Moves with it from core to core, and takes no room while nothing is limited.
#[derive(Debug, Default)]
pub struct Usage(Option<Box<Used>>);

#[derive(Debug, Default)]
struct Used {
    limiter: Option<Limiter>,
    /// The second that `current` is of.
    second: u32,
    current: u32,
    previous: u32,
    /// Its message waited for a token.
    has_waited: bool,
    /// When one was last let in or refused.
    judged_at: Nanos,
}

impl Used {
    /// Moves on to this moment. True: it is its first message of this second.
    const fn advance(&mut self, now: Nanos) -> bool {
        let second = (now.0 / SECOND_NS) as u32;
        if self.second == second {
            return false;
        }
        self.previous = if self.second + 1 == second { self.current } else { 0 };
        (self.second, self.current) = (second, 0);
        true
    }

    /// About how many messages were admitted within the last second.
    const fn recent(&self, now: Nanos) -> u32 {
        let left = SECOND_NS - now.0 % SECOND_NS;
        self.current + (self.previous as u64 * left / SECOND_NS) as u32
    }
}

/// What is to be judged.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its connection.
    pub conn: ConnId,
    /// Whose it is.
    pub principal: &'a [u8],
    /// The endpoint and the tool that it calls, if it calls one.
    pub tool: Option<(u64, &'a [u8])>,
    /// How many messages it is.
    pub messages: u32,
}

/// What becomes of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// It is served.
    Admit,
    /// It is to be offered again when [`Guard::take_resumed`] names its connection.
    Wait,
    /// It is refused.
    Refuse(Kind),
}

/// One core's guard.
#[derive(Debug)]
pub struct Guard {
    core: CoreId,
    cores: u16,
    config: Config,
    is_on: bool,
    /// Messages in work.
    pub pending: Pending,
    principals: Option<Keyed>,
    tools: Option<Keyed>,
    leaf: Option<Leaf>,
    bank: Option<Bank>,
    breaker: Option<Breaker>,
    sample_due: Nanos,
    phase: Phase,
    /// Messages that may still be taken while the breaker probes.
    probes: u32,
    /// How long a message waits for a token at most.
    wait: Duration,
    /// Connections whose message waits for a token, and until when: those that had far less than their share, and the others.
    poor: VecDeque<(ConnId, Nanos)>,
    waiting: VecDeque<(ConnId, Nanos)>,
    resumed: Vec<ConnId>,
    /// The second, and connections active in it and in the one before.
    active: (u64, u32, u32),
    frames: Vec<(CoreId, Frame)>,
    /// Cores that are to be told the breaker's phase again.
    untold: Vec<CoreId>,
}

impl Guard {
    /// The guard of `core` of so many cores.
    #[must_use]
    pub fn new(core: CoreId, cores: u16, config: Config) -> Self {
        let is_head = core == HEAD;
        Self {
            core,
            cores,
            is_on: Config { pending_max: None, ..config } != Config::default(),
            pending: Pending::new(config.pending_max.unwrap_or(PENDING_DEFAULT), config.principal_pending_max, cores),
            principals: config.principal_rate.map(Keyed::new),
            tools: config.tool_rate.map(Keyed::new),
            leaf: config.node_rate.map(|limit| Leaf::new(limit, cores)),
            bank: config.node_rate.filter(|_| is_head).map(|limit| Bank::new(limit, cores)),
            breaker: config.breaker.filter(|_| is_head).map(Breaker::new),
            sample_due: if is_head && config.breaker.is_some() { Nanos(0) } else { Nanos::NEVER },
            wait: config.node_rate.map_or(WAIT_MIN, |limit| Duration::from_nanos(WAIT_TOKENS * SECOND_NS / u64::from(limit)).max(WAIT_MIN)),
            config,
            phase: Phase::Closed,
            probes: 0,
            poor: VecDeque::new(),
            waiting: VecDeque::new(),
            resumed: Vec::new(),
            active: (0, 0, 0),
            frames: Vec::new(),
            untold: Vec::new(),
        }
    }

    /// Whether anything is limited at all.
    #[inline]
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.is_on
    }

    /// What is in force.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// What the breaker lets every core do.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Judges messages before anything is done for them.
    pub fn judge(&mut self, now: Nanos, asked: &Asked<'_>, usage: &mut Usage) -> Decision {
        let usage = usage.0.get_or_insert_default();
        let has_waited = std::mem::take(&mut usage.has_waited);
        if !has_waited && let Some(kind) = self.check(now, asked, usage) {
            return Decision::Refuse(kind);
        }
        if self.pending.is_full(asked.principal) {
            return Decision::Refuse(Kind::PrincipalPending);
        }
        let decision = self.node(now, asked, usage, has_waited);
        if decision != Decision::Wait {
            usage.judged_at = now;
        }
        if decision == Decision::Admit {
            usage.current = usage.current.saturating_add(asked.messages);
            if self.phase == Phase::Probing {
                self.probes = self.probes.saturating_sub(asked.messages);
            }
        }
        decision
    }

    /// All tiers but the node's rate.
    fn check(&mut self, now: Nanos, asked: &Asked<'_>, usage: &mut Used) -> Option<Kind> {
        if self.phase == Phase::Open || (self.phase == Phase::Probing && self.probes == 0) {
            return Some(Kind::BreakerOpen);
        }
        if let Some(limit) = self.config.connection_rate {
            let limiter = usage.limiter.get_or_insert_with(|| Limiter::new(limit));
            if !limiter.take(now, asked.messages) {
                return Some(Kind::ConnectionRate);
            }
        }
        if let Some(principals) = &mut self.principals
            && !principals.take(now, asked.principal, asked.messages)
        {
            return Some(Kind::PrincipalRate);
        }
        if let (Some(tools), Some(tool)) = (&mut self.tools, asked.tool)
            && !tools.take(now, tool, asked.messages)
        {
            return Some(Kind::ToolRate);
        }
        None
    }

    fn node(&mut self, now: Nanos, asked: &Asked<'_>, usage: &mut Used, has_waited: bool) -> Decision {
        let Some(leaf) = &mut self.leaf else { return Decision::Admit };
        let second = now.0 / SECOND_NS;
        if self.active.0 != second {
            self.active = (second, 0, if self.active.0 + 1 == second { self.active.1 } else { 0 });
        }
        if usage.advance(now) {
            self.active.1 += 1;
        }
        let is_poor = usage.recent(now) < leaf.share.div_ceil(2);
        let may_wait = !has_waited && self.poor.len() + self.waiting.len() < GUARD_WAITING_MAX;
        // A connection that floods is refused, not slowed down.
        let may_queue = self.waiting.len() < WAITING_MAX && now.since(usage.judged_at) >= UNHURRIED;
        let mut tier = leaf.admit(now, asked.messages, is_poor, has_waited, may_queue);
        if now >= leaf.next_due() {
            self.run(now);
            // Where the bank is, it has answered.
            if let (Some(leaf), Tier::Wait, Some(_)) = (&mut self.leaf, tier, &self.bank) {
                tier = leaf.admit(now, asked.messages, is_poor, has_waited, may_queue);
            }
        }
        match tier {
            Tier::Admitted => Decision::Admit,
            Tier::Wait if may_wait => {
                usage.has_waited = true;
                if is_poor {
                    self.poor.push_back((asked.conn, now.after(self.wait * POOR_WAIT)));
                } else {
                    self.waiting.push_back((asked.conn, now.after(self.wait)));
                }
                Decision::Wait
            }
            Tier::Wait | Tier::Refused => Decision::Refuse(Kind::NodeRate),
        }
    }

    /// When [`Self::on_tick`] is due.
    #[must_use]
    pub fn next_due(&self) -> Nanos {
        let until = |waiting: &VecDeque<(ConnId, Nanos)>| waiting.front().map_or(Nanos::NEVER, |(_, until)| *until);
        let waiting = until(&self.waiting).min(until(&self.poor));
        let leaf = self.leaf.as_ref().map_or(Nanos::NEVER, Leaf::next_due);
        let bank = self.bank.as_ref().map_or(Nanos::NEVER, Bank::next_due);
        leaf.min(bank).min(waiting).min(self.sample_due)
    }

    /// Time passes. `counts` says what all cores have counted.
    pub fn on_tick(&mut self, now: Nanos, counts: impl FnOnce() -> Counts) {
        self.run(now);
        for waiting in [&mut self.poor, &mut self.waiting] {
            while waiting.front().is_some_and(|(_, until)| *until <= now) {
                self.resumed.extend(waiting.pop_front().map(|(conn, _)| conn));
            }
        }
        if now < self.sample_due {
            return;
        }
        self.sample_due = now.after(breaker::SAMPLE_EACH);
        for core in std::mem::take(&mut self.untold) {
            self.frames.push((core, Frame::Breaker(self.phase)));
        }
        if let Some(phase) = self.breaker.as_mut().and_then(|breaker| breaker.on_sample(now, counts())) {
            self.set_phase(phase);
            self.frames.extend((0..self.cores).map(CoreId).filter(|core| *core != HEAD).map(|core| (core, Frame::Breaker(phase))));
        }
    }

    /// Reports to the bank, and lends when this core has it.
    fn run(&mut self, now: Nanos) {
        let conns = self.active.1.max(self.active.2).max(1);
        let waiting = (self.poor.len() + self.waiting.len()) as u32;
        if let Some(ask) = self.leaf.as_mut().and_then(|leaf| leaf.report(now, waiting, conns)) {
            self.send(now, HEAD, Frame::Ask(ask));
        }
        if let Some(bank) = self.bank.as_mut().filter(|bank| now >= bank.next_due()) {
            let mut grants = Vec::new();
            bank.on_tick(now, &mut |core, grant| grants.push((CoreId(core as u16), grant)));
            grants.into_iter().for_each(|(core, grant)| self.send(now, core, Frame::Grant(grant)));
        }
    }

    fn send(&mut self, now: Nanos, to: CoreId, frame: Frame) {
        if to == self.core { self.on_frame(now, self.core, frame) } else { self.frames.push((to, frame)) }
    }

    /// Takes a frame of another core's guard.
    pub fn on_frame(&mut self, now: Nanos, from: CoreId, frame: Frame) {
        match frame {
            Frame::Ask(ask) => {
                let Some(bank) = &mut self.bank else { return };
                let mut grants = Vec::new();
                bank.on_ask(now, from.index(), ask, &mut |core, grant| grants.push((CoreId(core as u16), grant)));
                grants.into_iter().for_each(|(core, grant)| self.send(now, core, Frame::Grant(grant)));
            }
            Frame::Grant(grant) => {
                let Some(leaf) = &mut self.leaf else { return };
                leaf.hear(now, grant);
                while leaf.unused(now) > 0
                    && let Some((conn, _)) = self.poor.pop_front().or_else(|| self.waiting.pop_front())
                {
                    leaf.reserve(now);
                    self.resumed.push(conn);
                }
            }
            Frame::Breaker(phase) => self.set_phase(phase),
        }
    }

    fn set_phase(&mut self, phase: Phase) {
        self.phase = phase;
        // Some more than are needed, since not every core has any to take.
        self.probes = NODE_BREAKER_PROBES;
    }

    /// Takes back a frame for which the lane had no room.
    pub fn on_unsent(&mut self, now: Nanos, to: CoreId, frame: Frame) {
        match (frame, &mut self.leaf, &mut self.bank) {
            (Frame::Ask(ask), Some(leaf), _) => leaf.unsent(now, ask),
            (Frame::Grant(grant), _, Some(bank)) => bank.unsent(now, to.index(), grant),
            (Frame::Breaker(_), ..) => self.untold.push(to),
            _ => {}
        }
    }

    /// Whether there is something to send or to resume.
    #[must_use]
    pub fn has_output(&self) -> bool {
        !self.frames.is_empty() || !self.resumed.is_empty()
    }

    /// Frames for other cores.
    pub fn take_frames(&mut self) -> std::vec::Drain<'_, (CoreId, Frame)> {
        self.frames.drain(..)
    }

    /// Connections whose requests are to be offered again.
    pub fn take_resumed(&mut self) -> std::vec::Drain<'_, ConnId> {
        self.resumed.drain(..)
    }
}
