//! How connections end: in an orderly way with lingering, by deadline, or cut.

use super::conn::{Awaits, NEVER, Phase};
use super::core::Core;
use super::listen;
use super::ring::Op;
use crate::base::fault;
use crate::base::limits::LINGER_BYTES_MAX;
use crate::base::metrics::Counter;
use crate::engine::Role;

impl Core {
    /// Nothing more is served: sends what is queued, then shuts the sending side.
    pub(super) fn begin_closing(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index) else { return };
        if matches!(conn.phase, Phase::Closing | Phase::Lingering | Phase::Dead) {
            return;
        }
        conn.phase = Phase::Closing;
        conn.awaits = Awaits::Nothing;
        conn.read_due = NEVER;
        conn.choked = false;
        conn.discard_left = LINGER_BYTES_MAX as u32;
        if let Some(bytes) = &mut conn.bytes {
            bytes.input.clear();
        }
        // Input is read, and thrown away, from now on.
        self.unlimit_input(index);
        self.receive(index);
        self.mark(index);
    }

    /// Everything is sent. A close now would reset the connection if the peer has sent more, and the peer could lose the answer: so
    /// only the sending side is shut, and the rest of the input is awaited.
    pub(super) fn finish_closing(&mut self, index: u32) {
        let draining = self.drain.is_some();
        let Some(conn) = self.conns.get(index) else { return };
        if conn.ended {
            return self.kill(index);
        }
        if !draining {
            if !self.node.lingering.take() {
                self.metrics.count(Counter::PlainCloses);
                return self.kill(index);
            }
            conn.lingers = true;
        }
        conn.phase = Phase::Lingering;
        // SAFETY: plain system call on a descriptor that the connection owns.
        unsafe { libc::shutdown(conn.fd(), libc::SHUT_WR) };
        self.pool.put(conn.bytes.take());
        let starved = conn.full;
        self.await_until(index, Awaits::End, self.timeouts.linger);
        if starved {
            // More than may be discarded has come already.
            self.kill(index);
        }
    }

    /// A deadline has passed.
    pub(super) fn on_due(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index) else { return };
        if conn.write_due <= self.tick {
            self.cut_slow_reader(index);
        } else if conn.read_due <= self.tick {
            match conn.awaits {
                Awaits::Request => {
                    self.metrics.count(Counter::IdleClosed);
                    self.begin_closing(index);
                }
                Awaits::Head | Awaits::Body => self.reject(index, fault::Kind::SlowRequest),
                Awaits::End => self.kill(index),
                Awaits::Nothing => conn.read_due = NEVER,
            }
        }
        self.wheel.watch(&mut self.conns, index);
    }

    /// The peer does not take what it is sent.
    pub(super) fn cut_slow_reader(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index) else { return };
        if conn.phase != Phase::Dead {
            self.metrics.count(Counter::SlowReaders);
            conn.abort = true;
            self.kill(index);
        }
    }

    /// Ends the connection whatever is under way. A request that is in work is cancelled.
    pub(super) fn kill(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index) else { return };
        if conn.phase == Phase::Dead {
            return;
        }
        let had_request = conn.has_request();
        let id = conn.id(index);
        conn.phase = Phase::Dead;
        if conn.abort {
            listen::set_reset(conn.fd());
        }
        for (held, op) in [(conn.receiving, Op::Recv), (conn.sending, Op::Send), (conn.watching, Op::Watch)] {
            if held {
                self.ring.cancel(op, index);
            }
        }
        if had_request {
            self.engine.on_gone(self.now, id, &mut self.out);
        }
        self.release(index);
    }

    /// Gives back what a dead connection held, once the kernel has let go of it.
    pub(super) fn release(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index) else { return };
        if conn.phase != Phase::Dead || conn.is_held() {
            return;
        }
        self.wheel.forget(&mut self.conns, index);
        let Some(mut conn) = self.conns.remove(index) else { return };
        self.pool.put(conn.bytes.take());
        let (role, permit, lingers) = (conn.role, conn.permit, conn.lingers);
        // The descriptor first: whoever takes the permit finds one free.
        drop(conn);
        self.metrics.count(Counter::ConnsClosed);
        if lingers {
            self.node.lingering.give();
        }
        match role {
            Role::Admin => self.node.admin.give(),
            Role::Public => {
                if permit {
                    self.give_permit();
                }
                self.node.take_from_core(self.id.index());
                self.node.socket_closed();
            }
        }
    }
}
