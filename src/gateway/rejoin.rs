//! Streams that an upstream of the legacy era ends before the answer has come: it may do so once it has sent an event with an id, and goes on
//! with the rest when it is asked to, with a GET that names the event (2025-11-25, transports, "Resumability and Redelivery").
//!
//! What was asked is never sent again for that: the upstream is at work on it.

use std::time::Duration;

use super::failure::Failure;
use super::owner::session_at;
use super::scout::Errand;
use super::slots::Key;
use super::trip::{Heard, Stage, Verb, What, Who};
use super::{Gateway, link_key};
use crate::base::ids::LinkId;
use crate::base::limits;
use crate::base::metrics::Counter;
use crate::base::time::Nanos;
use crate::wire::http1::check_field;
use crate::wire::mcp::Era;
use crate::wire::sse;

/// How long to wait when the upstream did not say.
const WAIT: Duration = Duration::from_secs(1);
/// The shortest wait, whatever it said.
const WAIT_MIN: Duration = Duration::from_millis(100);

/// The field that names the last event (2025-11-25, transports).
pub(super) const LAST_EVENT_ID: &str = "Last-Event-ID";

/// Where a stream was left.
#[derive(Debug)]
pub(super) struct Rejoin {
    /// The id of the last event that had one.
    pub after: Box<[u8]>,
    wait: Duration,
    /// Tries since it was heard of that event.
    tries: u32,
}

/// What a stream has said of how to go on with it.
#[derive(Debug, Default)]
pub(super) struct Left {
    id: Box<[u8]>,
    retry_ms: Option<u64>,
}

impl Left {
    pub fn of(events: &sse::Parser) -> Self {
        Self { id: events.last_id().into(), retry_ms: events.retry_ms() }
    }
}

impl Gateway {
    /// The stream of a request is over, or the link that carried it, which it has parted from, and its answer has not come. False when it cannot
    /// be taken up again, and nothing was done.
    pub(super) fn leave(&mut self, now: Nanos, key: Key, left: Left) -> bool {
        let Some(trip) = self.trips.get_mut(key) else { return false };
        let is_greeting = matches!(trip.who, Who::Own(Errand::Initialize(_) | Errand::Initialized(_) | Errand::End));
        if trip.version.era() == Era::Modern || is_greeting {
            return false;
        }
        let is_news = !left.id.is_empty() && trip.rejoin.as_ref().is_none_or(|before| before.after != left.id);
        let said = left.retry_ms.map(|ms| Duration::from_millis(ms).max(WAIT_MIN));
        let rejoin = if is_news {
            if left.id.len() > limits::UPSTREAM_EVENT_ID_BYTES_MAX || check_field(LAST_EVENT_ID, &left.id).is_err() {
                return false;
            }
            let wait = said.or(trip.rejoin.as_ref().map(|before| before.wait)).unwrap_or(WAIT);
            trip.rejoin.insert(Box::new(Rejoin { after: left.id, wait, tries: 0 }))
        } else {
            let Some(before) = &mut trip.rejoin else { return false };
            before.wait = said.unwrap_or(before.wait);
            before
        };
        let (at, wait) = (now.after(rejoin.wait), rejoin.wait);
        if rejoin.tries >= limits::UPSTREAM_REJOINS_MAX || at >= trip.ends {
            return false;
        }
        rejoin.tries += 1;
        (trip.stage, trip.due) = (Stage::Apart, at);
        // What goes wrong from here on is about another request.
        let who = trip.who;
        self.metrics.count(Counter::UpstreamRejoins);
        self.expect(at);
        if let Who::Call(core, call) = who {
            self.heard.push_back(Heard { core, call, what: What::Apart { retry_ms: wait.as_millis() as u64 } });
        }
        true
    }

    /// It is time to take the stream up.
    pub(super) fn rejoin(&mut self, now: Nanos, key: Key) {
        let Some(trip) = self.trips.get_mut(key) else { return };
        let up = &self.upstreams[trip.upstream];
        // Events belong to their session.
        let own = session_at(up, &self.owners, trip.seat);
        let is_lost = trip.session != 0 && own.is_none_or(|own| own.open().is_none() || own.opened != trip.session);
        if is_lost {
            return self.fail(now, key, Failure::Closed);
        }
        trip.stage = Stage::Waiting;
        trip.due = now.after(up.settings.first_byte_timeout);
        let due = trip.due.min(trip.ends);
        self.expect(due);
        self.send(now, key);
    }

    /// Whether the upstream was asked for the rest of a stream and answered otherwise than with one; it is dealt with then.
    pub(super) fn is_rejoin_refused(&mut self, now: Nanos, key: Key, link: LinkId, status: u16) -> bool {
        let Some(trip) = self.trips.get_mut(key).filter(|trip| trip.rejoin.is_some()) else { return false };
        if (200..300).contains(&status) {
            return false;
        }
        if let Some(state) = self.links.get_mut(link_key(link)) {
            state.part();
        }
        let may_again = status >= 500 || status == 429;
        let may_anew = trip.is_safe() && trip.verb == Verb::Post && !trip.is_retried && self.upstreams[trip.upstream].settings.retries;
        if may_again && self.leave(now, key, Left::default()) {
            return true;
        }
        let Some(trip) = self.trips.get_mut(key) else { return true };
        if may_anew {
            // What changes nothing is asked again.
            (trip.rejoin, trip.is_retried) = (None, true);
            self.metrics.count(Counter::UpstreamRetries);
            self.dispatch(now, key);
        } else {
            trip.stage = Stage::Apart;
            self.fail(now, key, Failure::Closed);
        }
        true
    }
}
