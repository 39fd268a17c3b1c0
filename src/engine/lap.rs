//! How long a handler's turn took, by as few readings of the clock as will do.

use std::time::Duration;

use super::config::EngineConfig;
use crate::base::time::Nanos;

/// Measures the turns of handlers, one after another.
#[derive(Debug)]
pub(super) struct Laps {
    clock: Option<fn() -> Nanos>,
    coarse: Option<fn() -> Nanos>,
    /// When the clock was last read.
    read: Nanos,
    /// What the coarse clock said last.
    step: Nanos,
}

impl Laps {
    pub fn new(config: &EngineConfig) -> Self {
        Self { clock: config.clock, coarse: config.coarse_clock, read: Nanos(0), step: Nanos(0) }
    }

    /// The engine is entered: the shell has read the clock.
    pub fn enter(&mut self, now: Nanos) {
        self.read = self.read.max(now);
    }

    /// A handler's turn is over: how long it took at most. Zero while the coarse clock stands still: then it was too short to matter.
    pub fn lap(&mut self) -> Duration {
        let Some(clock) = self.clock else { return Duration::ZERO };
        if let Some(coarse) = self.coarse {
            let step = coarse();
            if step == self.step {
                return Duration::ZERO;
            }
            self.step = step;
        }
        let read = clock();
        let took = read.since(self.read);
        self.read = read;
        took
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        static NOW_MS: Cell<u64> = const { Cell::new(0) };
        static READINGS: Cell<u32> = const { Cell::new(0) };
    }

    fn exact() -> Nanos {
        READINGS.set(READINGS.get() + 1);
        Nanos(NOW_MS.get() * 1_000_000)
    }

    fn coarse() -> Nanos {
        Nanos(NOW_MS.get() / 4)
    }

    fn turn(laps: &mut Laps, took_ms: u64) -> Duration {
        NOW_MS.set(NOW_MS.get() + took_ms);
        laps.lap()
    }

    #[test]
    fn a_long_turn_is_measured_wherever_the_coarse_clock_stands() {
        for offset_ms in 100..108 {
            NOW_MS.set(offset_ms);
            let mut laps = Laps { clock: Some(exact), coarse: Some(coarse), read: Nanos(0), step: Nanos(0) };
            laps.enter(exact());
            turn(&mut laps, 0);
            assert!(turn(&mut laps, 6) >= Duration::from_millis(6), "{offset_ms}");
        }
    }

    #[test]
    fn short_turns_read_no_clock() {
        NOW_MS.set(100);
        let mut laps = Laps { clock: Some(exact), coarse: Some(coarse), read: Nanos(0), step: Nanos(0) };
        laps.enter(exact());
        turn(&mut laps, 0);
        let readings = READINGS.get();
        for _ in 0..100 {
            assert_eq!(turn(&mut laps, 0), Duration::ZERO);
        }
        assert_eq!(READINGS.get(), readings);
    }

    #[test]
    fn without_a_coarse_clock_every_turn_is_measured() {
        NOW_MS.set(100);
        let mut laps = Laps { clock: Some(exact), coarse: None, read: Nanos(0), step: Nanos(0) };
        laps.enter(exact());
        assert_eq!(turn(&mut laps, 3), Duration::from_millis(3));
        assert_eq!(turn(&mut laps, 2), Duration::from_millis(2));
        laps.clock = None;
        assert_eq!(turn(&mut laps, 9), Duration::ZERO);
    }
}
