//! What the kernel reports about connections, and what is asked of it for them.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::conn::{Awaits, Conn, Fresh, NEVER, Phase};
use super::core::Core;
use super::listen;
use super::ring::{Completion, Op};
use super::wheel::tick_after;
use crate::base::limits::{INPUT_AHEAD_BYTES_MAX, PENDING_PER_CONN_MAX};
use crate::base::metrics::Counter;
use crate::engine::Role;

impl Core {
    /// Accepts on every listener that should and does not.
    pub(super) fn open_doors(&mut self) {
        if self.node.is_starved() {
            return self.pause_doors();
        }
        for (index, door) in self.doors.iter_mut().enumerate() {
            if let Some(listener) = &door.listener
                && !door.accepting
                && !door.closing
            {
                door.accepting = true;
                self.ring.accept(listener.socket.as_raw_fd(), index as u32, self.filling);
            }
        }
    }

    /// Takes the accepts back: the backlog is the queue.
    fn pause_doors(&mut self) {
        for (index, door) in self.doors.iter().enumerate() {
            if door.accepting && !door.closing {
                self.ring.cancel(Op::Accept, index as u32);
            }
        }
    }

    fn starve(&mut self) {
        self.metrics.count(Counter::AcceptPauses);
        self.node.starve();
        self.pause_doors();
    }

    pub(super) fn on_accepted(&mut self, completion: &Completion) {
        let at = completion.index() as usize;
        let Some(door) = self.doors.get_mut(at) else { return };
        door.accepting = !completion.is_last();
        let role = door.listener.as_ref().map_or(Role::Public, |listener| listener.role);
        match completion.result {
            fd if fd >= 0 => {
                let filling = self.node.is_filling(fd);
                if filling && !std::mem::replace(&mut self.filling, filling) {
                    // From now on one at a time.
                    self.pause_doors();
                }
                self.filling = filling;
                self.welcome(fd, role);
            }
            error if [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM].contains(&-error) => self.starve(),
            _ => (),
        }
        let Some(door) = self.doors.get_mut(at) else { return };
        if door.closing && !door.accepting {
            self.close_door(at);
        } else if !self.node.is_paused() {
            self.open_doors();
        }
    }

    /// A connection has come.
    pub(super) fn welcome(&mut self, fd: i32, role: Role) {
        self.metrics.count(Counter::ConnsAccepted);
        if self.node.is_near_limit(fd) && !self.node.is_paused() {
            self.starve();
        }
        // SAFETY: the descriptor was just accepted and nobody else owns it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        if self.stopped {
            return;
        }
        let fresh = Fresh { peer: listen::peer_of(fd), socket };
        match role {
            Role::Admin if self.node.admin.take() => self.settle_in(fresh, Role::Admin),
            Role::Admin => self.metrics.count(Counter::ConnsRefused),
            Role::Public => {
                self.node.socket_opened();
                self.receive_guest(fresh);
            }
        }
    }

    /// Takes a connection of the public listener that has its permit and is counted as this core's.
    pub(super) fn install(&mut self, fresh: Fresh) {
        self.settle_in(fresh, Role::Public);
    }

    fn settle_in(&mut self, fresh: Fresh, role: Role) {
        let index = self.conns.insert(Conn::new(fresh.socket, fresh.peer, role, true));
        self.await_request(index);
        self.receive(index);
    }

    /// Puts a receive into the ring if the connection should be read and is not.
    pub(super) fn receive(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index) else { return };
        let wanted = !conn.ended && !conn.full && !matches!(conn.phase, Phase::Dead | Phase::Leaving);
        if wanted && !conn.receiving {
            conn.receiving = true;
            self.ring.recv(conn.fd(), index);
        }
    }

    pub(super) fn on_received(&mut self, completion: &Completion) {
        let index = completion.index();
        let lease = self.ring.lease(completion);
        if let Some(conn) = self.conns.get(index) {
            if completion.is_last() {
                conn.receiving = false;
            }
            match completion.result {
                0 => self.on_end(index),
                count if count > 0 => {
                    self.metrics.add(Counter::BytesIn, u64::from(count.cast_unsigned()));
                    if let Some(lease) = &lease {
                        // SAFETY: the ring is this core's and alive.
                        self.take_bytes(index, unsafe { lease.bytes() });
                    }
                }
                error => self.on_receive_error(index, -error),
            }
            self.after_operation(index);
            self.receive(index);
        }
        if let Some(lease) = lease {
            self.ring.give_back(lease);
        }
    }

    fn on_receive_error(&mut self, index: u32, error: i32) {
        match error {
            libc::ENOBUFS => self.ring.starve(),
            libc::ECANCELED | libc::EINTR | libc::EAGAIN => (),
            _ => self.kill(index),
        }
    }

    /// An operation of the connection is over: what waited for that goes on.
    pub(super) fn after_operation(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index) else { return };
        match conn.phase {
            Phase::Dead => self.release(index),
            Phase::Leaving => self.leave(index),
            _ => (),
        }
    }

    /// The peer has sent all it will.
    fn on_end(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index) else { return };
        conn.ended = true;
        match conn.phase {
            Phase::Open if !conn.choked => self.begin_closing(index),
            Phase::Busy | Phase::Parked => {
                self.tell_end(index);
                self.watch(index);
            }
            Phase::Lingering => self.kill(index),
            Phase::Open | Phase::Leaving | Phase::Closing | Phase::Dead => (),
        }
    }

    /// Tells the engine, once per request, that the peer will send no more.
    pub(super) fn tell_end(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index) else { return };
        if conn.has_request() && !std::mem::replace(&mut conn.end_told, true) {
            let id = conn.id(index);
            self.engine.on_half_close(self.now, id, &mut self.out);
        }
    }

    /// Watches a connection that is not read, so that its end is noticed.
    pub(super) fn watch(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index) else { return };
        if !conn.watching {
            conn.watching = true;
            let events = if conn.ended || conn.end_told { 0 } else { libc::POLLRDHUP };
            self.ring.watch(conn.fd(), events, Op::Watch, index);
        }
    }

    pub(super) fn on_watched(&mut self, completion: &Completion) {
        let index = completion.index();
        let Some(conn) = self.conns.get(index) else { return };
        conn.watching = false;
        let events = completion.result;
        let gone = events >= 0 && events & i32::from(libc::POLLERR | libc::POLLHUP) != 0;
        match conn.phase {
            Phase::Dead | Phase::Leaving => self.after_operation(index),
            _ if gone => self.kill(index),
            Phase::Busy | Phase::Parked if events >= 0 => {
                self.tell_end(index);
                self.watch(index);
            }
            _ if conn.full => self.watch_once_more(index, events),
            _ => (),
        }
    }

    /// A choked connection whose peer has finished: only a reset would be news.
    fn watch_once_more(&mut self, index: u32, events: i32) {
        let Some(conn) = self.conns.get(index) else { return };
        conn.end_told |= events >= 0;
        self.watch(index);
    }

    /// Stops reading a connection that has sent enough for the time being.
    pub(super) fn limit_input(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index) else { return };
        if !(conn.choked || conn.has_request()) {
            return;
        }
        let Some(bytes) = conn.bytes.as_deref_mut() else { return };
        let waiting = self.pool.count_ahead(bytes, &self.config.http);
        if waiting > PENDING_PER_CONN_MAX {
            // It was told by its window to wait, and what the kernel had by then is beyond all measure.
            self.metrics.count(Counter::FloodersCut);
            conn.abort = true;
            return self.kill(index);
        }
        // While very many wait on this core, nobody is read who has one waiting.
        let most = if self.pool.waiting() >= self.config.pending_core_max { 1 } else { self.config.pending_conn_max };
        if !conn.full && (waiting >= most || conn.stored() >= INPUT_AHEAD_BYTES_MAX) {
            conn.full = true;
            if conn.receiving {
                self.ring.cancel(Op::Recv, index);
            }
            self.watch(index);
        }
    }

    /// Reads on.
    pub(super) fn unlimit_input(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index) else { return };
        if std::mem::take(&mut conn.full) {
            if conn.watching {
                self.ring.cancel(Op::Watch, index);
            }
            self.receive(index);
        }
    }

    /// Notes that the connection has something to send, or is to close.
    pub(super) fn mark(&mut self, index: u32) {
        if let Some(conn) = self.conns.get(index)
            && !std::mem::replace(&mut conn.dirty, true)
        {
            self.dirty.push(index);
        }
    }

    /// One send for each connection that has something new.
    pub(super) fn send_dirty(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for index in dirty.drain(..) {
            if let Some(conn) = self.conns.get(index)
                && std::mem::take(&mut conn.dirty)
            {
                self.send(index);
            }
        }
        std::mem::swap(&mut self.dirty, &mut dirty);
        // Closing a connection can mark none, so that nothing was pushed meanwhile.
        debug_assert!(dirty.is_empty());
    }

    fn send(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index) else { return };
        if conn.sending || matches!(conn.phase, Phase::Dead | Phase::Leaving | Phase::Lingering) {
            return;
        }
        let closing = conn.phase == Phase::Closing;
        let fd = conn.fd();
        let Some(bytes) = conn.bytes.as_deref_mut().filter(|bytes| !bytes.output.is_empty()) else {
            if closing {
                self.finish_closing(index);
            }
            return;
        };
        std::mem::swap(&mut bytes.output, &mut bytes.flight);
        bytes.sent = 0;
        // SAFETY: the flight is left alone until the completion (`sending`), and a connection is released only after it.
        unsafe { self.ring.send(fd, &bytes.flight, index) };
        conn.sending = true;
        conn.write_due = tick_after(self.tick, self.timeouts.write);
        self.wheel.watch(&mut self.conns, index);
    }

    pub(super) fn on_sent(&mut self, completion: &Completion) {
        let index = completion.index();
        let Some(conn) = self.conns.get(index) else { return };
        conn.sending = false;
        conn.write_due = NEVER;
        if matches!(conn.phase, Phase::Dead) {
            return self.release(index);
        }
        let Ok(count) = usize::try_from(completion.result) else {
            return match -completion.result {
                libc::EINTR | libc::EAGAIN => self.send_rest(index),
                _ => self.kill(index),
            };
        };
        self.metrics.add(Counter::BytesOut, count as u64);
        let Some(bytes) = conn.bytes.as_deref_mut() else { return };
        bytes.sent += count;
        if bytes.sent < bytes.flight.len() {
            self.send_rest(index);
            return self.tell_choked(index);
        }
        bytes.flight.clear();
        bytes.sent = 0;
        self.tell_choked(index);
        self.all_sent(index);
    }

    fn send_rest(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index) else { return };
        let fd = conn.fd();
        let Some(bytes) = conn.bytes.as_deref_mut() else { return };
        // SAFETY: as in `send`.
        unsafe { self.ring.send(fd, &bytes.flight[bytes.sent..], index) };
        conn.sending = true;
        conn.write_due = tick_after(self.tick, self.timeouts.write);
        self.wheel.watch(&mut self.conns, index);
    }

    /// What was in flight has arrived at the kernel.
    fn all_sent(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index) else { return };
        if conn.phase == Phase::Leaving {
            return self.leave(index);
        }
        let more = conn.bytes.as_ref().is_some_and(|bytes| !bytes.output.is_empty());
        if more || conn.phase == Phase::Closing {
            self.mark(index);
        } else if std::mem::take(&mut conn.choked) {
            self.resumed.push_back(index);
        } else {
            self.pool.reclaim(conn);
        }
    }

    /// Sets the deadline for the first byte of a request.
    pub(super) fn await_request(&mut self, index: u32) {
        self.await_until(index, Awaits::Request, self.timeouts.idle);
    }

    pub(super) fn await_until(&mut self, index: u32, awaits: Awaits, ticks: u32) {
        let Some(conn) = self.conns.get(index) else { return };
        conn.awaits = awaits;
        conn.read_due = tick_after(self.tick, ticks);
        self.wheel.watch(&mut self.conns, index);
    }
}
