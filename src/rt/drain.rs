//! The end of a process: nothing that a client began is dropped.
//!
//! First new handshakes stop, then those under way are accepted, then the backlog is emptied and the listener closed. Requests that come
//! meanwhile are answered, with `Connection: close`. Connections without a request are closed in an orderly way after a moment in which a
//! request that is on its way can still arrive.

use std::time::Duration;

use super::core::Core;
use super::listen;
use super::permit::Stage;
use super::ring::Op;
use crate::base::time::Nanos;
use crate::engine::Role;

/// Handshakes that are under way may complete for this long.
const HANDSHAKE_GRACE: Duration = Duration::from_millis(100);
/// Connections without a request are left open for this long.
const IDLE_GRACE: Duration = Duration::from_millis(300);

/// Where a drain stands.
pub(crate) struct Drain {
    accept_until: Nanos,
    idle_until: Nanos,
    until: Nanos,
}

impl Core {
    pub(super) fn begin_drain(&mut self) {
        if self.drain.is_some() {
            return;
        }
        let now = self.now.mono;
        self.drain = Some(Drain {
            accept_until: now.after(HANDSHAKE_GRACE),
            idle_until: now.after(IDLE_GRACE),
            until: now.after(self.config.drain_timeout),
        });
        for listener in self.doors.iter().filter_map(|door| door.listener.as_ref()).filter(|listener| listener.role == Role::Public) {
            if let Err(error) = listen::shut_to_new(listener) {
                tracing::warn!(core = self.id.0, %error, "new handshakes could not be kept out while draining");
            }
        }
        self.engine.on_drain(self.now, &mut self.out);
        self.apply();
    }

    /// What a tick does for a drain.
    pub(super) fn go_on_draining(&mut self) {
        let Some(drain) = &self.drain else { return };
        let now = self.now.mono;
        let (close_doors, close_idle, over) = (now >= drain.accept_until, now >= drain.idle_until, now >= drain.until);
        if close_doors {
            for at in 0..self.doors.len() {
                if self.doors[at].listener.as_ref().is_some_and(|listener| listener.role == Role::Public) {
                    self.shut_door(at);
                }
            }
        }
        if close_idle {
            for index in 0..self.conns.slots() {
                if self.conns.get(index).is_some_and(|conn| conn.role == Role::Public && conn.is_idle()) {
                    self.begin_closing(index);
                }
            }
        }
        if over {
            self.node.advance(Stage::Stopping);
        } else {
            self.node.end_if_drained();
        }
    }

    /// Takes the accept back; the listener closes when the kernel has given it back.
    fn shut_door(&mut self, at: usize) {
        let door = &mut self.doors[at];
        if std::mem::replace(&mut door.closing, true) {
            return;
        }
        if door.accepting {
            self.ring.cancel(Op::Accept, at as u32);
        } else {
            self.close_door(at);
        }
    }

    /// Takes everything that waits in the backlog and closes the listener.
    pub(super) fn close_door(&mut self, at: usize) {
        let Some(listener) = self.doors[at].listener.take() else { return };
        while let Some(fd) = listen::accept_now(&listener) {
            self.welcome(fd, listener.role);
        }
        let role = listener.role;
        drop(listener);
        if role == Role::Public {
            self.node.listener_closed();
        }
    }

    /// Closes every listener, whatever waits there.
    pub(super) fn close_doors_now(&mut self) {
        for at in 0..self.doors.len() {
            let door = &mut self.doors[at];
            door.closing = true;
            if door.accepting {
                self.ring.cancel(Op::Accept, at as u32);
            }
            if door.listener.take().is_some_and(|listener| listener.role == Role::Public) {
                self.node.listener_closed();
            }
        }
    }
}
