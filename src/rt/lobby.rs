//! Connections for which there is no permit: they wait, unread, for one that is given back, for a bounded time, and then read why not.

use std::collections::VecDeque;

use super::conn::{Conn, Fresh};
use super::core::Core;
use super::wheel::{tick_after, ticks};
use crate::base::fault;
use crate::base::limits::ACCEPT_WAIT_MS_MAX;
use crate::base::metrics::{Counter, Gauge};
use crate::engine::Role;

/// One core's waiting connections.
#[derive(Default)]
pub(super) struct Lobby {
    /// Each with the tick until which it waits.
    waiting: VecDeque<(Fresh, u32)>,
    /// A permit was given back on this core.
    is_due: bool,
}

impl Lobby {
    /// Whether somebody may be let in.
    pub(super) const fn has_work(&self) -> bool {
        self.is_due
    }
}

impl Core {
    /// A new connection of the public listener: it is let in, waits, or is refused.
    pub(super) fn receive_guest(&mut self, fresh: Fresh) {
        if self.node.arrivals.as_ref().is_some_and(|arrivals| !arrivals.take(self.now.mono)) {
            return self.refuse(fresh, fault::Kind::AcceptRate);
        }
        // Who waits already comes first.
        if self.lobby.waiting.is_empty() && self.node.conns.take() {
            self.place(fresh);
        } else if self.node.queued.take() {
            let wait = ticks(std::time::Duration::from_millis(ACCEPT_WAIT_MS_MAX));
            self.lobby.waiting.push_back((fresh, tick_after(self.tick, wait)));
            self.gauge_lobby();
        } else {
            self.refuse(fresh, fault::Kind::ConnectionLimit);
        }
    }

    /// Lets in whom there are permits for, and refuses who has waited long enough. Called once a turn.
    pub(super) fn tend_lobby(&mut self) {
        self.lobby.is_due = false;
        if self.lobby.waiting.is_empty() {
            return;
        }
        while !self.lobby.waiting.is_empty() && self.node.conns.take() {
            let Some((fresh, _)) = self.lobby.waiting.pop_front() else { break };
            self.node.queued.give();
            self.place(fresh);
        }
        while self.lobby.waiting.front().is_some_and(|(_, until)| *until <= self.tick) {
            let Some((fresh, _)) = self.lobby.waiting.pop_front() else { break };
            self.node.queued.give();
            self.refuse(fresh, fault::Kind::ConnectionLimit);
        }
        self.gauge_lobby();
    }

    /// Gives a permit back. Whoever waits for one, here or on another core, is looked after.
    pub(super) fn give_permit(&mut self) {
        self.node.conns.give();
        if !self.lobby.waiting.is_empty() {
            self.lobby.is_due = true;
        } else if self.node.queued.taken() > 0 {
            self.node.wakes().iter().for_each(super::wake::Wake::poke);
        }
    }

    fn gauge_lobby(&self) {
        self.metrics.set(Gauge::ConnsWaiting, self.lobby.waiting.len() as u64);
    }

    /// No permit: a whole answer, then the door. No state of a request is made.
    fn refuse(&mut self, fresh: Fresh, kind: fault::Kind) {
        self.metrics.count(Counter::ConnsRefused);
        self.node.add_to_core(self.id.index());
        let index = self.conns.insert(Conn::new(fresh.socket, fresh.peer, Role::Public, false));
        self.reject(index, kind);
    }
}
