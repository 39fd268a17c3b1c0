//! Upstreams that say more than anybody can look at: they are read no faster than what they say is of use, so that they do not take the time of
//! their core from the others.
//!
//! What answers a request is read as fast as it comes. All else that an upstream says on one core is its *chatter*: notifications, questions,
//! comments, lines that are no message, answers that turned out to be too large. It fills a bucket that leaks, faster when the upstream has more
//! requests in work. Once that is full, the link over which more comes is not read for as long as it takes the excess to leak, and each further
//! answer that is too large is held against the upstream as a failure.
//!
//! A stream of changes that goes on telling of changes is besides not read until those that it told of were looked at.

use std::time::Duration;

use super::trip::Trip;
use super::{Effect, Gateway, link_key};
use crate::base::ids::LinkId;
use crate::base::limits::{
    CHATTER_BYTES_MAX, CHATTER_BYTES_PER_SECOND, CHATTER_BYTES_PER_SECOND_AND_CALL, CHATTER_EXCESS_BYTES_MAX, CHATTER_REST_MS_MAX,
    CHATTER_REST_MS_MIN, NEEDLESS_CHANGES_MAX,
};
use crate::base::time::Nanos;

const SECOND_NS: u64 = 1_000_000_000;

/// What an upstream said lately that answers nothing.
#[derive(Debug, Default)]
pub(super) struct Chatter {
    bytes: u64,
    /// As of this moment.
    at: Nanos,
}

impl Chatter {
    /// It said so much more while so many requests were in work. For how long it is not to be read, if it said too much.
    pub fn add(&mut self, now: Nanos, calls: usize, bytes: u64) -> Option<Duration> {
        let rate = CHATTER_BYTES_PER_SECOND.saturating_add(CHATTER_BYTES_PER_SECOND_AND_CALL.saturating_mul(calls as u64));
        let ns = u64::try_from(now.since(self.at).as_nanos()).unwrap_or(u64::MAX);
        let leaked = u128::from(ns) * u128::from(rate) / u128::from(SECOND_NS);
        self.bytes = self.bytes.saturating_sub(u64::try_from(leaked).unwrap_or(u64::MAX));
        self.at = now;
        self.bytes = self.bytes.saturating_add(bytes).min(CHATTER_BYTES_MAX + CHATTER_EXCESS_BYTES_MAX);
        let excess = self.bytes.saturating_sub(CHATTER_BYTES_MAX);
        let rest = Duration::from_nanos(excess * SECOND_NS / rate);
        (excess > 0).then(|| rest.clamp(Duration::from_millis(CHATTER_REST_MS_MIN), Duration::from_millis(CHATTER_REST_MS_MAX)))
    }

    /// Whether it had said too much when it was heard last.
    pub const fn is_too_much(&self) -> bool {
        self.bytes > CHATTER_BYTES_MAX
    }
}

const _: () = assert!(CHATTER_EXCESS_BYTES_MAX < u64::MAX / SECOND_NS, "a rest can be reckoned");

/// Why a link is not read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Brakes {
    /// The client reads slower than the upstream sends.
    pub is_choked: bool,
    /// It tells of changes that are known.
    is_needless: bool,
    /// Its upstream has said too much, and is heard again at this moment.
    rests_until: Option<Nanos>,
}

impl Brakes {
    /// Whether there is any reason.
    pub const fn are_on(&self) -> bool {
        self.is_choked || self.is_needless || self.rests_until.is_some()
    }

    /// When that is over which passes with time.
    pub const fn due(&self) -> Option<Nanos> {
        self.rests_until
    }
}

impl Gateway {
    /// Stops reading a stream of changes that goes on telling of changes although it is known that there are some.
    pub(super) fn slow_down(&mut self, upstream: u32, link: LinkId) {
        let is_flood = self.scout(upstream).is_some_and(|scout| scout.needless >= NEEDLESS_CHANGES_MAX);
        self.brake(link, |brakes| brakes.is_needless = is_flood);
    }

    /// Reads it again.
    pub(super) fn read_on(&mut self, upstream: u32) {
        let listen = self.upstreams[upstream].scout.as_ref().and_then(|scout| scout.listen);
        if let Some(link) = listen.and_then(|key| self.trips.get(key)).and_then(Trip::link) {
            self.brake(link, |brakes| brakes.is_needless = false);
        }
    }

    /// An upstream has said so many bytes over this link that answer nothing.
    pub(super) fn on_chatter(&mut self, now: Nanos, upstream: u32, link: LinkId, bytes: u64) {
        let up = &mut self.upstreams[upstream];
        if let Some(rest) = up.chatter.add(now, up.calls, bytes) {
            let until = now.after(rest);
            self.brake(link, |brakes| brakes.rests_until = Some(until));
            self.expect(until);
        }
    }

    /// Goes on reading links that have rested.
    pub(super) fn end_rests(&mut self, now: Nanos) {
        let is_over = |brakes: &Brakes| brakes.rests_until.is_some_and(|until| until <= now);
        let rested: Vec<LinkId> = self.links.iter().filter(|(_, link)| is_over(&link.brakes)).map(|(key, _)| super::link_id(key)).collect();
        for link in rested {
            self.brake(link, |brakes| brakes.rests_until = None);
        }
    }

    /// Puts a brake on or takes one off.
    pub(super) fn brake(&mut self, link: LinkId, change: impl FnOnce(&mut Brakes)) {
        let Some(state) = self.links.get_mut(link_key(link)) else { return };
        let were_on = state.brakes.are_on();
        change(&mut state.brakes);
        let is_paused = state.brakes.are_on();
        if were_on != is_paused {
            self.effects.push(Effect::Throttle { link, is_paused });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_beyond_a_burst_is_heard_at_a_steady_rate() {
        for calls in [0, 40] {
            let (mut chatter, mut now, mut heard) = (Chatter::default(), Nanos(1), 0_u64);
            let begin = now;
            while now.since(begin) < Duration::from_secs(10) {
                heard += 64 * 1024;
                now = now.after(chatter.add(now, calls, 64 * 1024).unwrap_or_default());
            }
            let rate = CHATTER_BYTES_PER_SECOND + CHATTER_BYTES_PER_SECOND_AND_CALL * calls as u64;
            let fair = CHATTER_BYTES_MAX + 10 * rate;
            assert!((fair - fair / 10..fair + fair / 10).contains(&heard), "{heard} of {fair}");
            assert!(chatter.is_too_much());
            assert_eq!(chatter.add(now.after(Duration::from_secs(60)), calls, 1), None, "it is forgotten");
            assert!(!chatter.is_too_much());
        }
    }

    #[test]
    fn what_is_over_has_an_end() {
        let mut chatter = Chatter::default();
        for _ in 0..1000 {
            let rest = chatter.add(Nanos(1), 0, u64::from(u32::MAX)).expect("too much");
            assert_eq!(rest, Duration::from_millis(CHATTER_REST_MS_MAX));
        }
        let later = Nanos(1).after(Duration::from_secs((CHATTER_EXCESS_BYTES_MAX + CHATTER_BYTES_MAX) / CHATTER_BYTES_PER_SECOND));
        assert_eq!(chatter.add(later, 0, CHATTER_BYTES_MAX), None);
    }
}
