//! Sessions of endpoints that are no more: found and ended a bounded number at a time, however many there are.

use hashbrown::HashSet;

use super::{ENDED_PER_TURN_MAX, Sessions};
use crate::base::ids::SessionKey;
use crate::base::limits::SESSIONS_LOOKED_AT_PER_TURN_MAX;
use crate::engine::session_state::Ended;

/// A walk over the slots in search of sessions to end.
#[derive(Debug, Default)]
pub(super) struct Closing {
    /// Endpoints that are no more and have sessions here.
    endpoints: HashSet<u64>,
    /// The slot that is looked at next.
    place: usize,
    /// Slots still to be looked at until every one was since the last of the endpoints was added.
    left: usize,
}

impl Closing {
    pub fn is_idle(&self) -> bool {
        self.endpoints.is_empty()
    }
}

impl Sessions {
    /// Whether any session of this endpoint is open.
    pub(in crate::engine) fn has_any_at(&self, endpoint: u64) -> bool {
        self.at.contains_key(&endpoint)
    }

    /// Numbers of the endpoints that have sessions.
    pub(in crate::engine) fn endpoints(&self) -> impl Iterator<Item = u64> {
        self.at.keys().copied()
    }

    /// The endpoints with these numbers are no more: [`Self::go_on_closing`] ends their sessions.
    pub(in crate::engine) fn close_all_at(&mut self, endpoints: &[u64]) {
        for &endpoint in endpoints {
            if self.has_any_at(endpoint) && self.closing.endpoints.insert(endpoint) {
                self.closing.left = self.slots.len();
            }
        }
    }

    /// Ends sessions of endpoints that are no more: a few hundred per call at most, out of a few thousand that are looked at.
    pub(in crate::engine) fn go_on_closing(&mut self, mut ended: impl FnMut(SessionKey, Ended)) {
        let mut may_end = ENDED_PER_TURN_MAX;
        for _ in 0..SESSIONS_LOOKED_AT_PER_TURN_MAX {
            if self.closing.is_idle() || may_end == 0 {
                return;
            }
            if self.closing.left == 0 {
                // Every slot was looked at: what is left of them was opened by requests that came too late, and is told of again.
                self.closing.endpoints.clear();
                return;
            }
            let place = self.closing.place % self.slots.len();
            (self.closing.place, self.closing.left) = (place + 1, self.closing.left - 1);
            let slot = &self.slots[place];
            let Some(session) = slot.session.as_ref().filter(|session| self.closing.endpoints.contains(&session.endpoint)) else {
                continue;
            };
            let (endpoint, key) = (session.endpoint, SessionKey { index: place as u32, generation: slot.generation });
            if let Some(end) = self.end(key) {
                ended(key, end);
                may_end -= 1;
            }
            if !self.has_any_at(endpoint) {
                self.closing.endpoints.remove(&endpoint);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Nanos;
    use crate::engine::session::tests::{many, opening_at};

    #[test]
    fn the_sessions_of_an_endpoint_that_is_no_more_end_a_few_at_a_time_and_no_others_do() {
        let mut sessions = many(20_000);
        let keys: Vec<_> = (0..20_000).map(|n| sessions.open(Nanos(0), &opening_at(n % 3)).expect("there is room")).collect();
        sessions.close_all_at(&[1, 99]);
        let (mut turns, mut ended) = (0, 0);
        while sessions.next_deadline() == Nanos(0) {
            let before = ended;
            sessions.go_on_closing(|_, _| ended += 1);
            assert!(ended - before <= ENDED_PER_TURN_MAX);
            turns += 1;
            // Another endpoint ends while the walk is on its way; some slots of it were passed already.
            if turns == 10 {
                sessions.close_all_at(&[2]);
            }
        }
        assert!(turns > 20_000 * 2 / 3 / ENDED_PER_TURN_MAX);
        for (n, key) in keys.into_iter().enumerate() {
            assert_eq!(sessions.get(key).is_some(), n % 3 == 0, "{n}");
        }
        assert_eq!(sessions.endpoints().collect::<Vec<_>>(), [0]);
        sessions.close_all_at(&[1]);
        assert_ne!(sessions.next_deadline(), Nanos(0), "nobody is there");
    }

    #[test]
    fn few_sessions_among_many_are_found_by_looking_at_a_bounded_number() {
        let mut sessions = many(20_000);
        for n in 0..20_000 {
            sessions.open(Nanos(0), &opening_at(u64::from(n >= 19_990))).expect("there is room");
        }
        sessions.close_all_at(&[1]);
        let (mut turns, mut ended) = (0, 0);
        while sessions.next_deadline() == Nanos(0) {
            sessions.go_on_closing(|_, _| ended += 1);
            turns += 1;
        }
        assert_eq!((ended, turns), (10, 20_000 / SESSIONS_LOOKED_AT_PER_TURN_MAX + 1));
    }
}
