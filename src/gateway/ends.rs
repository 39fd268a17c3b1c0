//! How upstreams are told that sessions have ended (2025-11-25, transports, "Session Management"): by DELETE, a few at a time, each once. What
//! waits for that is bounded; an upstream that cannot be told finds out by itself, as it does when a client vanishes.

use std::time::Duration;

use super::Gateway;
use super::owner::Seat;
use super::scout::Errand;
use super::session;
use super::trip::{Verb, Who};
use super::upstream::Open;
use crate::base::limits::{UPSTREAM_END_MS_MAX, UPSTREAM_ENDS_MAX, UPSTREAM_ENDS_QUEUED_MAX};
use crate::base::time::Nanos;
use crate::wire::mcp::Method;

/// How long one may take.
const PATIENCE: Duration = Duration::from_millis(UPSTREAM_END_MS_MAX);

impl Gateway {
    /// An upstream is to be told that a session has ended.
    pub(super) fn end_later(&mut self, upstream: u32, open: Open) {
        let Some(up) = self.upstreams.get_mut(upstream) else { return };
        if open.id.is_none() || up.pipe.is_some() || up.ends.len() >= UPSTREAM_ENDS_QUEUED_MAX {
            return;
        }
        up.ends.push_back(open);
        // At the next tick.
        self.expect(Nanos(0));
    }

    /// The shared session is not used any more.
    pub(super) fn end_shared(&mut self, upstream: u32) {
        if let Some(open) = self.upstreams[upstream].session.close() {
            self.end_later(upstream, open);
        }
    }

    /// Tells an upstream what it is to be told, as far as it may be told at once.
    pub(super) fn tell_ends(&mut self, now: Nanos, upstream: u32) {
        while let Some(up) = self.upstreams.get_mut(upstream).filter(|up| up.ending < UPSTREAM_ENDS_MAX) {
            let Some(open) = up.ends.pop_front() else { return up.ends.shrink_to(UPSTREAM_ENDS_MAX) };
            let key = self.own_trip(now, upstream, Seat::Shared, Errand::End, Verb::Delete, Method::Unknown, open.version);
            let starts = &self.upstreams[upstream].settings.starts;
            if let Some(trip) = self.trips.get_mut(key) {
                session::legacy_head(&mut trip.head, starts, Verb::Delete, Some(&open), None, None);
                trip.ends = trip.ends.min(now.after(PATIENCE));
            }
            self.dispatch(now, key);
        }
    }

    /// The process is to end: what is not needed to end sessions is dropped. One that is being opened is ended when it is there.
    pub(super) fn drop_errands(&mut self, now: Nanos) {
        let until = now.after(PATIENCE);
        let mut idle = Vec::new();
        for (key, trip) in self.trips.iter_mut() {
            match trip.who {
                Who::Call(..) => {}
                Who::Own(Errand::Initialize(_) | Errand::Initialized(_) | Errand::Level(_) | Errand::End | Errand::Refresh) => {
                    trip.ends = trip.ends.min(until)
                }
                Who::Own(_) => idle.push(key),
            }
        }
        for key in idle {
            self.drop_trip(now, key);
        }
        self.expect(until);
    }

    /// Whether no session is still to be ended, and none is being opened.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let is_ending = |who| matches!(who, Who::Own(Errand::Initialize(_) | Errand::Initialized(_) | Errand::Level(_) | Errand::End));
        self.upstreams.iter().all(|up| up.ends.is_empty()) && !self.trips.iter().any(|(_, trip)| is_ending(trip.who))
    }
}
