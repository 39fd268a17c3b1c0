//! When an upstream is left alone: a circuit breaker of one core for one upstream.
//!
//! It counts what the caller says is the upstream's failure: that it could not be reached, broke off, or answered 5xx. A tool's `isError` and an
//! error of JSON-RPC are answers, and count as such. Too many failures open it: nothing is asked of the upstream for a while, longer each time.
//! Then single requests try it, and when they go well it is closed again.

use std::time::Duration;

use super::backoff::Backoff;
use crate::base::limits::{
    BREAKER_FAILURES_MAX, BREAKER_OPEN_MS_FIRST, BREAKER_OPEN_MS_MAX, BREAKER_PROBE_MS_MAX, BREAKER_PROBES, BREAKER_RECENT_FAILURES_MAX,
    BREAKER_RECENT_MS_MAX,
};
use crate::base::time::Nanos;

/// Leave to ask the upstream something. How that went is told with it, so that what was asked before the breaker opened says nothing of the time
/// after.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pass(u32);

/// What the breakers of other cores for the same upstream are told: a node finds out once that an upstream fails, and tries once at a time
/// whether it is well again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Said {
    /// It opened.
    Opened,
    /// A request tries the upstream.
    Trying,
    /// That request is over, and the breaker is not closed yet.
    Tried,
    /// It closed.
    Closed,
}

/// What a breaker lets through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lets {
    /// Everything.
    All,
    /// Nothing, before this moment.
    NoneUntil(Nanos),
    /// One request at a time, to see how it goes.
    One,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Closed,
    Open {
        until: Nanos,
        /// Because another core tries, or has tried.
        is_held: bool,
    },
    HalfOpen {
        /// Probes that went well.
        good: u32,
        /// A probe is under way; when it says nothing until then there may be another.
        busy_until: Option<Nanos>,
    },
}

/// One core's breaker for one upstream.
#[derive(Debug)]
pub struct Breaker {
    state: State,
    /// Counts the changes of state: passes of another one are stale.
    epoch: u32,
    /// One bit for each of the last results, the newest lowest; 1 is a failure.
    recent: u32,
    /// When the last result came.
    last: Nanos,
    backoff: Backoff,
}

const _: () = assert!(BREAKER_RECENT_FAILURES_MAX <= u32::BITS && BREAKER_FAILURES_MAX <= BREAKER_RECENT_FAILURES_MAX, "of 32 results");

impl Breaker {
    /// A closed one. The seed decides on the jitter of its waits: cores should not have the same.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        let (first, cap) = (Duration::from_millis(BREAKER_OPEN_MS_FIRST), Duration::from_millis(BREAKER_OPEN_MS_MAX));
        Self { state: State::Closed, epoch: 0, recent: 0, last: Nanos(0), backoff: Backoff::new(first, cap, seed) }
    }

    /// Leave to ask the upstream something, if there is any now.
    pub fn allows(&mut self, now: Nanos) -> Option<Pass> {
        let busy_until = Some(now.after(Duration::from_millis(BREAKER_PROBE_MS_MAX)));
        match &mut self.state {
            State::Closed => {}
            State::Open { until, .. } if now < *until => return None,
            State::Open { .. } => self.become_state(State::HalfOpen { good: 0, busy_until }),
            State::HalfOpen { busy_until: Some(busy_until), .. } if now < *busy_until => return None,
            State::HalfOpen { busy_until: place, .. } => *place = busy_until,
        }
        Some(Pass(self.epoch))
    }

    /// Whether what it allows tries the upstream.
    #[must_use]
    pub const fn is_trying(&self) -> bool {
        matches!(self.state, State::HalfOpen { .. })
    }

    /// What was asked was answered: whatever the answer, it is one. What the other cores are to know of it, if anything.
    pub fn succeeded(&mut self, now: Nanos, pass: Pass) -> Option<Said> {
        if pass.0 != self.epoch {
            return None;
        }
        match &mut self.state {
            State::Closed => self.note(now, false),
            State::Open { .. } => {}
            State::HalfOpen { good, busy_until } => {
                (*good, *busy_until) = (*good + 1, None);
                if *good < BREAKER_PROBES {
                    return Some(Said::Tried);
                }
                self.backoff.reset();
                self.become_state(State::Closed);
                return Some(Said::Closed);
            }
        }
        None
    }

    /// The upstream failed. Whether that opened the breaker.
    pub fn failed(&mut self, now: Nanos, pass: Pass) -> bool {
        if pass.0 != self.epoch {
            return false;
        }
        let opens = match self.state {
            State::Closed => {
                self.note(now, true);
                self.recent.trailing_ones() >= BREAKER_FAILURES_MAX || self.recent.count_ones() >= BREAKER_RECENT_FAILURES_MAX
            }
            State::Open { .. } => false,
            State::HalfOpen { .. } => true,
        };
        if opens {
            self.trip(now);
        }
        opens
    }

    /// What was asked came to no result that says anything of the upstream: it was called off, for instance. What the other cores are to know
    /// of it, if anything.
    pub fn withdrawn(&mut self, pass: Pass) -> Option<Said> {
        let State::HalfOpen { busy_until, .. } = &mut self.state else { return None };
        let is_current = pass.0 == self.epoch;
        if is_current {
            *busy_until = None;
        }
        is_current.then_some(Said::Tried)
    }

    /// Another core's said something of the same upstream. What is on its way between cores is not known yet: at worst each core tries once.
    pub fn hear(&mut self, now: Nanos, said: Said) {
        match (said, &mut self.state) {
            (Said::Closed, _) => _ = self.close(),
            // It is open as well: all of them opened for the same reason.
            (Said::Opened, State::Open { until, is_held: false }) if now < *until => {}
            (Said::Opened, _) => self.trip(now),
            (Said::Trying, State::Open { until, is_held }) => {
                *is_held = true;
                *until = (*until).max(now.after(Duration::from_millis(BREAKER_PROBE_MS_MAX)));
            }
            (Said::Trying, State::HalfOpen { busy_until, .. }) => {
                *busy_until = (*busy_until).max(Some(now.after(Duration::from_millis(BREAKER_PROBE_MS_MAX))));
            }
            (Said::Tried, State::Open { until, is_held: true }) => *until = now,
            (Said::Tried, State::HalfOpen { busy_until, .. }) => *busy_until = None,
            (Said::Tried, State::Open { .. }) | (Said::Trying | Said::Tried, State::Closed) => {}
        }
    }

    /// Opens it, for longer than the last time unless it was closed since.
    fn trip(&mut self, now: Nanos) {
        let until = now.after(self.backoff.next_wait());
        self.become_state(State::Open { until, is_held: false });
    }

    /// Closes it: the upstream was seen to be well. Whether it was not closed.
    pub fn close(&mut self) -> bool {
        self.backoff.reset();
        let was_closed = self.state == State::Closed;
        if !was_closed {
            self.become_state(State::Closed);
        }
        !was_closed
    }

    /// What it lets through. When the time of leaving the upstream alone is over, one request.
    #[must_use]
    pub const fn lets(&self, now: Nanos) -> Lets {
        match self.state {
            State::Closed => Lets::All,
            State::Open { until, .. } if now.0 < until.0 => Lets::NoneUntil(until),
            State::Open { .. } | State::HalfOpen { .. } => Lets::One,
        }
    }

    fn become_state(&mut self, state: State) {
        self.state = state;
        self.epoch = self.epoch.wrapping_add(1);
        self.recent = 0;
    }

    /// Results of long ago say nothing of now.
    fn note(&mut self, now: Nanos, is_failure: bool) {
        if now.since(self.last) > Duration::from_millis(BREAKER_RECENT_MS_MAX) {
            self.recent = 0;
        }
        self.last = now;
        self.recent = self.recent << 1 | u32::from(is_failure);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const OPEN_MAX: u64 = BREAKER_OPEN_MS_MAX * MS;

    fn at_ms(ms: u64) -> Nanos {
        Nanos(ms * MS)
    }

    /// One that just opened, and when it lets something through again.
    fn opened(now: Nanos) -> (Breaker, Nanos) {
        let mut breaker = Breaker::new(1);
        for _ in 0..BREAKER_FAILURES_MAX {
            let pass = breaker.allows(now).expect("it is closed");
            breaker.failed(now, pass);
        }
        let Lets::NoneUntil(until) = breaker.lets(now) else { panic!("{breaker:?}") };
        (breaker, until)
    }

    #[test]
    fn failures_in_a_row_open_it_and_good_probes_close_it() {
        let (mut breaker, until) = opened(at_ms(5));
        let first = Duration::from_millis(BREAKER_OPEN_MS_FIRST);
        assert!((first / 2..=first).contains(&until.since(at_ms(5))));
        assert_eq!(breaker.allows(Nanos(until.0 - 1)), None);
        for _ in 0..BREAKER_PROBES {
            assert_eq!(breaker.lets(until), Lets::One);
            let probe = breaker.allows(until).expect("one at a time");
            assert_eq!(breaker.allows(until), None, "and no other meanwhile");
            breaker.succeeded(until, probe);
        }
        assert_eq!(breaker.lets(until), Lets::All);
        let pass = breaker.allows(until).expect("it is closed");
        assert!(!breaker.failed(until, pass), "one failure is none");
    }

    #[test]
    fn a_bad_probe_opens_it_for_longer() {
        let (mut breaker, mut until) = opened(at_ms(5));
        let mut longest = Duration::from_millis(BREAKER_OPEN_MS_FIRST);
        for _ in 0..20 {
            let probe = breaker.allows(until).expect("a probe");
            assert!(breaker.failed(until, probe));
            let Lets::NoneUntil(next) = breaker.lets(until) else { panic!("{breaker:?}") };
            longest = (longest * 2).min(Duration::from_millis(BREAKER_OPEN_MS_MAX));
            assert!((longest / 2..=longest).contains(&next.since(until)));
            until = next;
        }
    }

    #[test]
    fn answers_in_between_keep_it_closed_unless_half_of_all_fail() {
        let mut breaker = Breaker::new(1);
        for _ in 0..100 {
            for is_failure in [true, false, false] {
                let pass = breaker.allows(at_ms(1)).expect("it is closed");
                if is_failure { assert!(!breaker.failed(at_ms(1), pass)) } else { assert_eq!(breaker.succeeded(at_ms(1), pass), None) }
            }
        }
        let mut results = 0;
        while breaker.lets(at_ms(1)) == Lets::All {
            let pass = breaker.allows(at_ms(1)).expect("it is closed");
            results += 1;
            if results % 2 == 0 {
                breaker.failed(at_ms(1), pass);
            } else {
                breaker.succeeded(at_ms(1), pass);
            }
            assert!(results < 100, "half of all failed");
        }
    }

    #[test]
    fn failures_of_long_ago_do_not_count() {
        let mut breaker = Breaker::new(1);
        for hour in 0..100 {
            let now = at_ms(hour * 3_600_000);
            let pass = breaker.allows(now).expect("it is closed");
            assert!(!breaker.failed(now, pass));
        }
    }

    #[test]
    fn what_was_asked_before_says_nothing_of_now() {
        let mut breaker = Breaker::new(1);
        let early: Vec<_> = (0..10).map(|_| breaker.allows(at_ms(1)).expect("it is closed")).collect();
        early.iter().take(5).for_each(|pass| _ = breaker.failed(at_ms(1), *pass));
        let Lets::NoneUntil(until) = breaker.lets(at_ms(1)) else { panic!("{breaker:?}") };
        let probe = breaker.allows(until).expect("a probe");
        assert!(!breaker.failed(until, early[5]), "it was asked when the upstream was down");
        breaker.succeeded(until, early[6]);
        breaker.withdrawn(early[7]);
        assert_eq!(breaker.allows(until), None, "the probe is still under way");
        breaker.withdrawn(probe);
        let probe = breaker.allows(until).expect("that one was called off");
        let later = until.after(Duration::from_millis(BREAKER_PROBE_MS_MAX));
        assert_eq!(breaker.allows(Nanos(later.0 - 1)), None);
        assert_eq!(breaker.allows(later), Some(probe), "one that says nothing does not block for ever");
    }

    #[test]
    fn another_cores_trip_is_heard_once() {
        let mut breaker = Breaker::new(1);
        breaker.hear(at_ms(1), Said::Opened);
        let lets = breaker.lets(at_ms(1));
        breaker.hear(at_ms(2), Said::Opened);
        assert!(matches!(lets, Lets::NoneUntil(_)));
        assert_eq!(breaker.lets(at_ms(2)), lets);
        breaker.hear(at_ms(3), Said::Closed);
        assert_eq!(breaker.lets(at_ms(3)), Lets::All);
        // While another core tries, this one does not; but not for ever, and not once that is over.
        let (mut breaker, until) = opened(at_ms(5));
        breaker.hear(until, Said::Trying);
        let later = until.after(Duration::from_millis(BREAKER_PROBE_MS_MAX));
        assert_eq!((breaker.lets(until), breaker.lets(later)), (Lets::NoneUntil(later), Lets::One));
        breaker.hear(until, Said::Tried);
        assert_eq!(breaker.lets(until), Lets::One);
        let mut breaker = Breaker::new(1);
        for said in [Said::Trying, Said::Tried] {
            breaker.hear(at_ms(4), said);
            assert_eq!(breaker.lets(at_ms(4)), Lets::All, "what is old says nothing");
        }
    }

    #[test]
    fn it_is_closed_by_who_knows_better() {
        let (mut breaker, _) = opened(at_ms(1));
        breaker.close();
        assert_eq!(breaker.lets(at_ms(1)), Lets::All);
        let pass = breaker.allows(at_ms(1)).expect("it is closed");
        breaker.close();
        assert!(!breaker.failed(at_ms(1), pass));
        assert_eq!(breaker.recent, 1, "one that is closed goes on counting");
    }

    /// Draws what happens, and checks every step against the rules: `RINGHUB_TEST_SEED` repeats a run.
    #[test]
    fn whatever_happens_it_keeps_to_its_rules() {
        let seed = std::env::var("RINGHUB_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(|| {
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64)
        });
        println!("RINGHUB_TEST_SEED={seed}");
        let mut random = seed;
        let mut below = move |end: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % end
        };
        let (mut seen_open, mut seen_closed_again) = (0, 0);
        for _ in 0..200 {
            let mut breaker = Breaker::new(seed);
            let (mut now, mut passes, mut failures_in_a_row) = (Nanos(0), Vec::<(Pass, u32)>::new(), 0);
            let failing = below(101);
            for _ in 0..500 {
                let before = breaker.lets(now);
                now = Nanos(now.0 + below(2) * below(OPEN_MAX / 4));
                let due = breaker.lets(now);
                let is_legal = match (before, due) {
                    (Lets::NoneUntil(until), Lets::One) => now >= until,
                    (before, due) => before == due,
                };
                assert!(is_legal, "time alone: {before:?} to {due:?}");
                let epoch = breaker.epoch;
                match below(3) {
                    0 => match (breaker.allows(now), due) {
                        (Some(pass), Lets::All | Lets::One) => passes.push((pass, breaker.epoch)),
                        (None, Lets::NoneUntil(_)) => {}
                        (None, Lets::One) => assert!(passes.iter().any(|(_, of)| *of == breaker.epoch), "a probe is under way"),
                        other => panic!("{other:?}"),
                    },
                    1 if !passes.is_empty() => {
                        let (pass, of) = passes.swap_remove(below(passes.len() as u64) as usize);
                        let is_current = of == epoch;
                        if below(100) < failing {
                            let opened = breaker.failed(now, pass);
                            let after = breaker.lets(now);
                            assert!(!opened || (is_current && due != after && matches!(after, Lets::NoneUntil(_))));
                            assert!(opened || due == after, "a failure changes nothing unless it opens it");
                            assert!(!(is_current && due == Lets::One) || opened, "a probe that fails opens it");
                            if let (true, Lets::NoneUntil(until)) = (opened, after) {
                                assert!(
                                    until.since(now) >= Duration::from_millis(BREAKER_OPEN_MS_FIRST / 2) && until.0 - now.0 <= OPEN_MAX
                                );
                                seen_open += 1;
                            }
                            if is_current && due == Lets::All {
                                failures_in_a_row += 1;
                                assert!(opened || failures_in_a_row < BREAKER_FAILURES_MAX, "{failures_in_a_row} in a row");
                            }
                        } else {
                            breaker.succeeded(now, pass);
                            let after = breaker.lets(now);
                            assert!(due == after || (is_current && due == Lets::One && after == Lets::All), "{due:?} to {after:?}");
                            seen_closed_again += u32::from(due != after);
                            failures_in_a_row = if is_current { 0 } else { failures_in_a_row };
                        }
                    }
                    2 if below(4) == 0 => {
                        if let Some((pass, _)) = passes.pop() {
                            breaker.withdrawn(pass);
                        }
                        assert_eq!(breaker.lets(now), due);
                    }
                    _ => {}
                }
                if breaker.epoch != epoch {
                    failures_in_a_row = 0;
                }
            }
            // Whatever it went through: when the upstream is well, it is soon closed.
            for _ in 0..=BREAKER_PROBES {
                now = now.after(Duration::from_millis(BREAKER_OPEN_MS_MAX.max(BREAKER_PROBE_MS_MAX)));
                let pass = breaker.allows(now).expect("so much time has passed");
                breaker.succeeded(now, pass);
            }
            assert_eq!(breaker.lets(now), Lets::All);
        }
        assert!(seen_open > 100 && seen_closed_again > 20, "too little happened: {seen_open}, {seen_closed_again}");
    }
}
