//! Which requests come too late, when a core cannot keep up: those that have waited longer than the target, once every request has for an
//! interval (the rule of CoDel, RFC 8289, applied to the time since a request was received). Those that came last have waited for the
//! others of their turn: so the newest go first, and what is served is served in time.

use std::time::Duration;

use crate::base::limits::LATE_INTERVAL_MS;
use crate::base::time::Nanos;

/// One core's judgement.
#[derive(Debug)]
pub struct Late {
    target: Duration,
    /// When a request was last served in time.
    in_time_at: Nanos,
    /// When one last was not.
    late_at: Nanos,
    is_shedding: bool,
}

impl Late {
    /// Requests are to be served this long after they were received.
    #[must_use]
    pub const fn new(target: Duration) -> Self {
        Self { target, in_time_at: Nanos(0), late_at: Nanos(0), is_shedding: false }
    }

    /// Judges a request that was received at `received` and could be served now. True: it is to be refused.
    pub fn is_late(&mut self, now: Nanos, received: Nanos) -> bool {
        let interval = Duration::from_millis(LATE_INTERVAL_MS);
        if now.since(received) < self.target {
            self.in_time_at = now;
            self.is_shedding &= now.since(self.late_at) < interval;
            return false;
        }
        // A pause says nothing about whoever comes after it.
        if now.since(self.in_time_at.max(self.late_at)) >= interval && !self.is_shedding {
            self.in_time_at = now;
        }
        self.late_at = now;
        self.is_shedding |= now.since(self.in_time_at) >= interval;
        self.is_shedding
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_short_delay_is_let_pass_and_a_standing_one_is_not() {
        let mut late = Late::new(Duration::from_millis(5));
        let at = |ms: u64| Nanos(1_000 * MS + ms * MS);
        assert!((0..99).all(|ms| !late.is_late(at(ms), at(ms).since_start(6))), "less than an interval");
        assert!(!late.is_late(at(99), at(98)), "one in time");
        assert!((100..199).all(|ms| !late.is_late(at(ms), at(ms).since_start(6))));
        assert!(late.is_late(at(200), at(190)));
        assert!(!late.is_late(at(201), at(200)), "who is in time is served");
        assert!(late.is_late(at(202), at(190)), "and the others are not");
        assert!((203..303).all(|ms| !late.is_late(at(ms), at(ms))));
        assert!(!late.is_late(at(304), at(290)), "it was over");
    }

    #[test]
    fn a_pause_begins_anew() {
        let mut late = Late::new(Duration::from_millis(5));
        assert!((1..20).all(|second| !late.is_late(Nanos(second * 1_000 * MS), Nanos(second * 1_000 * MS - 10 * MS))));
    }

    trait Before {
        fn since_start(self, ms: u64) -> Nanos;
    }

    impl Before for Nanos {
        /// So many milliseconds earlier.
        fn since_start(self, ms: u64) -> Nanos {
            Nanos(self.0 - ms * MS)
        }
    }

    #[test]
    fn what_is_served_of_too_much_is_served_in_time() {
        // Each millisecond brings ten requests of 0.2 ms each: twice what can be served. A refusal takes 0.01 ms.
        let mut late = Late::new(Duration::from_millis(5));
        let (mut clock, mut next, mut worst, mut served) = (0_u64, 0_u64, 0_u64, 0_u64);
        while next < 100_000 {
            let received = next * MS / 10;
            next += 1;
            clock = clock.max(received);
            if late.is_late(Nanos(clock), Nanos(received)) {
                clock += MS / 100;
                continue;
            }
            clock += MS / 5;
            served += 1;
            if received > 1000 * MS {
                worst = worst.max(clock - received);
            }
        }
        assert!(worst < 7 * MS, "{worst}");
        assert!(served * MS / 5 > 8_500 * MS, "the core is busy with what it serves: {served}");
    }
}
