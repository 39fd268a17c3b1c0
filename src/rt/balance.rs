//! Connections that change their core: a new one that is handed to the core with fewest, and one that goes to the home of its session.

use super::conn::{Conn, Fresh, Moved, NEVER, Phase};
use super::core::Core;
use super::mesh::Parcel;
use super::ring::Op;
use crate::base::fault;
use crate::base::ids::CoreId;
use crate::base::metrics::Counter;
use crate::engine::{Frame, Lane};

/// A core may have this share more than the lightest one before its new connections go there: between many cores the kernel's own spread is
/// good enough, and a hand-over costs a wake.
const SPREAD_SHARE: usize = 16;

impl Core {
    /// Keeps a new connection or hands it to the core with fewest. Few long-lived connections use every core that way.
    pub(super) fn place(&mut self, fresh: Fresh) {
        let target = self.lightest();
        // Counted at once, so that the next one to be placed sees it.
        self.node.add_to_core(target.index());
        if target == self.id {
            return self.install(fresh);
        }
        match self.mesh.send(target, Lane::Ask, Parcel::Fresh(fresh)) {
            Ok(()) => self.metrics.count(Counter::ConnsHandedOver),
            Err(Parcel::Fresh(fresh)) => {
                self.metrics.count(Counter::LaneFull);
                self.node.take_from_core(target.index());
                self.node.add_to_core(self.id.index());
                self.install(fresh);
            }
            Err(_) => unreachable!("the lane hands back what it was given"),
        }
    }

    fn lightest(&self) -> CoreId {
        let here = self.node.on_core(self.id.index());
        if here == 0 || self.drain.is_some() {
            return self.id;
        }
        let cores = self.node.wakes().len();
        // From the neighbour on, so that equals take turns.
        let others = (1..cores).map(|step| (self.id.index() + step) % cores);
        match others.map(|core| (self.node.on_core(core), core)).min_by_key(|(count, _)| *count) {
            Some((count, core)) if here > count + count / SPREAD_SHARE => CoreId(core as u16),
            _ => self.id,
        }
    }

    pub(super) fn send_frame(&mut self, to: CoreId, lane: Lane, frame: Frame) -> Result<(), Frame> {
        match self.mesh.send(to, lane, Parcel::Frame(frame)) {
            Ok(()) => {
                self.metrics.count(Counter::FramesSent);
                Ok(())
            }
            Err(Parcel::Frame(frame)) => Err(frame),
            Err(_) => unreachable!("the lane hands back what it was given"),
        }
    }

    /// Sends a connection to another core, which is offered its first request again.
    pub(super) fn depart(&mut self, index: u32, target: CoreId) {
        if target == self.id || target.index() >= self.node.wakes().len() {
            // The engine's mistake must not cost more than this request.
            debug_assert!(false, "a move to {target}");
            return self.reject(index, fault::Kind::Internal);
        }
        let Some(conn) = self.conns.get(index) else { return };
        conn.phase = Phase::Leaving;
        conn.target = target;
        conn.write_due = if conn.sending { conn.write_due } else { NEVER };
        for (held, op) in [(conn.receiving, Op::Recv), (conn.watching, Op::Watch)] {
            if held {
                self.ring.cancel(op, index);
            }
        }
        // The input is stored once the pump returns: it leaves at the end of the turn at the earliest.
        self.leaving.push(index);
    }

    /// Ships a leaving connection once no operation of it is in the ring.
    pub(super) fn leave(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index) else { return };
        if conn.phase != Phase::Leaving || conn.is_held() {
            return;
        }
        let target = conn.target;
        if !self.mesh.has_room(target, Lane::Ask) {
            self.metrics.count(Counter::LaneFull);
            self.leaving.push(index);
            return;
        }
        self.wheel.forget(&mut self.conns, index);
        let Some(mut conn) = self.conns.remove(index) else { return };
        let mut bytes = conn.bytes.take().unwrap_or_default();
        let moved = Moved {
            socket: conn.socket,
            peer: conn.peer,
            role: conn.role,
            permit: conn.permit,
            ended: conn.ended,
            memo: conn.memo,
            input: std::mem::take(&mut bytes.input),
            output: std::mem::take(&mut bytes.output),
        };
        self.pool.put(Some(bytes));
        self.node.add_to_core(target.index());
        self.node.take_from_core(self.id.index());
        self.metrics.count(Counter::ConnsMovedHome);
        let sent = self.mesh.send(target, Lane::Ask, Parcel::Moved(Box::new(moved)));
        assert!(sent.is_ok(), "a lane with room takes one");
    }

    pub(super) fn retry_leaving(&mut self) {
        if self.leaving.is_empty() {
            return;
        }
        for index in std::mem::take(&mut self.leaving) {
            self.leave(index);
        }
    }

    /// Takes a connection from another core.
    pub(super) fn adopt(&mut self, moved: Moved) {
        let mut conn = Conn::new(moved.socket, moved.peer, moved.role, moved.permit);
        conn.ended = moved.ended;
        conn.memo = moved.memo;
        let mut bytes = self.pool.get();
        bytes.input = moved.input;
        bytes.output = moved.output;
        conn.bytes = Some(bytes);
        let index = self.conns.insert(conn);
        self.mark(index);
        self.resumed.push_back(index);
        self.receive(index);
        self.enter(index);
    }
}
