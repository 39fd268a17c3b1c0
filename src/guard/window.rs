//! What was used within the last second, by slots of time: exact, of fixed size, and never a moment too early.

use crate::base::time::Nanos;

/// Uses of the last second. A use counts from its moment until at least one second after the end of its slot, so that no second, wherever
/// it begins, sees more uses than were allowed at once; it counts for two slots longer at most.
#[derive(Clone, Debug)]
pub(super) struct Window<const SLOTS: usize> {
    counts: [u32; SLOTS],
    slot_ns: u64,
    /// Number of the newest slot since the origin of time.
    newest: u64,
    used: u32,
}

impl<const SLOTS: usize> Window<SLOTS> {
    /// One that has seen nothing. One slot less than there are is a second at least.
    pub fn new(slot_ns: u64) -> Self {
        debug_assert!(SLOTS as u64 > 1 && (SLOTS as u64 - 1) * slot_ns >= 1_000_000_000);
        Self { counts: [0; SLOTS], slot_ns, newest: 0, used: 0 }
    }

    /// Uses that count.
    pub const fn used(&self) -> u32 {
        self.used
    }

    /// Moves on to this moment. Says how many uses count no more. Time that goes back is the newest slot's.
    pub fn advance(&mut self, now: Nanos) -> u32 {
        let slot = now.0 / self.slot_ns;
        if slot <= self.newest {
            return 0;
        }
        let mut over = 0;
        if slot - self.newest >= SLOTS as u64 {
            over = self.used;
            self.counts = [0; SLOTS];
        } else {
            for number in self.newest + 1..=slot {
                over += std::mem::take(&mut self.counts[(number % SLOTS as u64) as usize]);
            }
        }
        self.newest = slot;
        self.used -= over;
        over
    }

    /// Counts so many uses at the moment of the last [`Self::advance`].
    pub fn add(&mut self, uses: u32) {
        self.counts[(self.newest % SLOTS as u64) as usize] += uses;
        self.used += uses;
    }
}

/// Spreads uses evenly: a bucket of tokens that fills at a rate. Unused tokens are saved up to a second's worth, until one is refused: from
/// then on, and until a second has passed without, a fiftieth of that. So a burst after a pause is taken whole, and what goes on too fast
/// is thinned out evenly rather than in gusts.
#[derive(Clone, Debug)]
pub(super) struct Pacer {
    per_second: u32,
    /// In billionths of a token; below zero after a use that was larger than what there was.
    level: i64,
    at: Nanos,
    refused_at: Option<Nanos>,
}

const TOKEN: i64 = 1_000_000_000;
const SECOND_NS: u64 = 1_000_000_000;

impl Pacer {
    pub const fn new(per_second: u32) -> Self {
        Self { per_second, level: per_second as i64 * TOKEN, at: Nanos(0), refused_at: None }
    }

    /// Whole tokens that are there.
    pub fn level(&mut self, now: Nanos) -> u32 {
        let passed = now.0.saturating_sub(self.at.0).min(2 * SECOND_NS);
        self.at = Nanos(self.at.0.max(now.0));
        let is_strained = self.refused_at.is_some_and(|at| now.0.saturating_sub(at.0) < SECOND_NS);
        let most = if is_strained { (self.per_second / 50).max(1) } else { self.per_second };
        self.level = (self.level + passed as i64 * i64::from(self.per_second)).min(i64::from(most) * TOKEN);
        u32::try_from(self.level / TOKEN).unwrap_or(0)
    }

    pub fn take(&mut self, tokens: u32) {
        self.level -= i64::from(tokens) * TOKEN;
    }

    /// Takes back what was not used.
    pub fn give(&mut self, tokens: u32) {
        self.level += i64::from(tokens) * TOKEN;
    }

    /// One had to be refused.
    pub const fn refused(&mut self, now: Nanos) {
        self.refused_at = Some(now);
    }
}

/// Slots of a [`Limiter`]: 32 and one make a second.
const SLOTS: usize = 33;

/// A limit of uses per second of one thing on one core: never more in any second, evenly spread when there is too much.
#[derive(Clone, Debug)]
pub(super) struct Limiter {
    window: Window<SLOTS>,
    pacer: Pacer,
}

impl Limiter {
    pub fn new(per_second: u32) -> Self {
        Self { window: Window::new(SECOND_NS / (SLOTS as u64 - 1)), pacer: Pacer::new(per_second) }
    }

    /// Takes so many, or none. More than a whole second's worth counts as that.
    pub fn take(&mut self, now: Nanos, uses: u32) -> bool {
        self.window.advance(now);
        let limit = self.pacer.per_second;
        let uses = uses.min(limit);
        if self.window.used() + uses > limit || self.pacer.level(now) == 0 {
            self.pacer.refused(now);
            return false;
        }
        self.window.add(uses);
        self.pacer.take(uses);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Moments at which an offer of `offered` a second was admitted, over so many seconds.
    fn admitted(limit: u32, offered: u64, seconds: u64, start: u64) -> Vec<u64> {
        let mut limiter = Limiter::new(limit);
        (0..offered * seconds).map(|n| start + n * SECOND_NS / offered).filter(|at| limiter.take(Nanos(*at), 1)).collect()
    }

    #[test]
    fn no_second_sees_more_than_the_limit_and_a_steady_excess_is_thinned_out_evenly() {
        for (limit, offered) in [(100, 200), (500, 1000), (500, 25_000), (1000, 150_000), (1, 50)] {
            let moments = admitted(limit, offered, 6, 12_345);
            for begin in (0..5000).step_by(10).map(|ms| 12_345 + ms * MS) {
                let count = moments.iter().filter(|at| (begin..begin + SECOND_NS).contains(at)).count() as u32;
                assert!(count <= limit, "{limit}, {offered}: {count} from {begin}");
                assert!(begin < 2 * SECOND_NS || count * 20 >= limit * 19 || limit == 1, "{limit}, {offered}: {count} from {begin}");
            }
        }
    }

    #[test]
    fn a_burst_after_a_pause_is_taken_whole_and_what_fits_the_limit_is_never_refused() {
        let mut limiter = Limiter::new(500);
        assert!((0..500).all(|_| limiter.take(Nanos(5), 1)) && !limiter.take(Nanos(6), 1));
        assert!((0..500).all(|_| limiter.take(Nanos(5 * SECOND_NS), 1)), "a pause makes up for it");
        assert_eq!(admitted(500, 480, 10, 3 * MS).len(), 4800);
    }

    #[test]
    fn a_batch_is_taken_whole_or_not_at_all() {
        let mut limiter = Limiter::new(100);
        assert!(limiter.take(Nanos(0), 60) && !limiter.take(Nanos(1), 60) && limiter.take(Nanos(2), 40));
        let mut limiter = Limiter::new(10);
        assert!(limiter.take(Nanos(0), 50), "else it never could be");
        assert!(!limiter.take(Nanos(SECOND_NS - 1), 1));
    }

    #[test]
    fn time_that_goes_back_or_leaps_is_no_harm() {
        let mut limiter = Limiter::new(2);
        assert!(limiter.take(Nanos(10 * SECOND_NS), 2));
        assert!(!limiter.take(Nanos(0), 1));
        assert!(limiter.take(Nanos(u64::MAX - 1), 1));
    }
}
