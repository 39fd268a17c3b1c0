//! How long to wait before the next try: twice as long each time, up to a cap, and never all at the same moment.

use std::time::Duration;

/// Draws waits. The seed is handed in, so that a test can repeat what happened.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    tries: u32,
    /// State of a `SplitMix64` generator: all that jitter needs.
    random: u64,
}

impl Backoff {
    /// Waits of `first` at most, then twice that, and so on up to `cap`. Half of each is certain, the other half is drawn.
    #[must_use]
    pub const fn new(first: Duration, cap: Duration, seed: u64) -> Self {
        Self { first, cap, tries: 0, random: seed }
    }

    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        let longest = self.first.saturating_mul(1_u32.checked_shl(self.tries).unwrap_or(u32::MAX)).min(self.cap);
        self.tries = self.tries.saturating_add(1);
        self.jittered(longest)
    }

    /// From half of it to all of it.
    pub fn jittered(&mut self, longest: Duration) -> Duration {
        let half = longest / 2;
        half + half.mul_f64(self.fraction())
    }

    /// Begins again with the shortest wait.
    pub const fn reset(&mut self) {
        self.tries = 0;
    }

    /// From 0 to 1.
    fn fraction(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        f64::from((mixed ^ (mixed >> 31)) as u32) / f64::from(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(100);
    const CAP: Duration = Duration::from_secs(5);

    #[test]
    fn waits_double_up_to_the_cap_and_are_never_less_than_half() {
        for seed in 0..1000 {
            let mut backoff = Backoff::new(FIRST, CAP, seed);
            for tries in 0..100 {
                let longest = FIRST.saturating_mul(2_u32.saturating_pow(tries)).min(CAP);
                let wait = backoff.next_wait();
                assert!(longest / 2 <= wait && wait <= longest, "seed {seed}, try {tries}: {wait:?}");
            }
            backoff.reset();
            assert!(backoff.next_wait() <= FIRST);
        }
    }

    #[test]
    fn a_seed_repeats_and_others_differ() {
        let waits = |seed| {
            let mut backoff = Backoff::new(FIRST, CAP, seed);
            (0..8).map(|_| backoff.next_wait()).collect::<Vec<_>>()
        };
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
    }
}
