//! Tier 1, new connections per second of the whole node. Connections come on whichever core the kernel chooses, and rarely compared with
//! messages: so the cores share these counters, as they share the number of open connections.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::base::time::Nanos;

/// Length of a slot, nanoseconds.
const SLOT_NS: u64 = 4_000_000;
const SLOTS: usize = 256;
/// A use counts for so many slots after its own: a second, and one more since cores' clocks may be a turn behind.
const SLOTS_COUNTED: u64 = 251;
const SECOND_NS: u64 = 1_000_000_000;
const COUNT_BITS: u32 = 24;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
/// Highest limit.
pub const ARRIVALS_RATE_MAX: u32 = COUNT_MASK as u32;

/// A limit of uses per second that threads share: never more in any second, and evenly spread when there is too much.
#[derive(Debug)]
pub struct Arrivals {
    per_second: u32,
    /// Uses that are left.
    left: AtomicU32,
    /// For each slot of time its number and the uses in it.
    slots: Box<[AtomicU64]>,
    /// When everything that was admitted is paid for at the limit's pace.
    paid_at: AtomicU64,
    refused_at: AtomicU64,
}

const fn packed(number: u64, count: u64) -> u64 {
    (number << COUNT_BITS) | count
}

impl Arrivals {
    /// For so many a second.
    #[must_use]
    pub fn new(per_second: u32) -> Self {
        let per_second = per_second.clamp(1, ARRIVALS_RATE_MAX);
        let slots = (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
        let (paid_at, refused_at) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { per_second, left: AtomicU32::new(per_second), slots, paid_at, refused_at }
    }

    /// Takes one, if one is left.
    #[must_use]
    pub fn take(&self, now: Nanos) -> bool {
        let number = now.0 / SLOT_NS;
        self.reclaim(number);
        let has_one = self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
        if has_one && self.pace(now.0) {
            self.note(number);
            return true;
        }
        if has_one {
            self.left.fetch_add(1, Relaxed);
        }
        self.refused_at.store(now.0.max(1), Relaxed);
        false
    }

    /// Gives back what counts no more.
    fn reclaim(&self, number: u64) {
        for slot in &self.slots {
            let seen = slot.load(Relaxed);
            let (its, count) = (seen >> COUNT_BITS, seen & COUNT_MASK);
            if count > 0 && its + SLOTS_COUNTED < number && slot.compare_exchange(seen, packed(its, 0), Relaxed, Relaxed).is_ok() {
                self.left.fetch_add(count as u32, Relaxed);
            }
        }
    }

    /// Counts one in its slot.
    fn note(&self, number: u64) {
        let Some(slot) = self.slots.get((number % SLOTS as u64) as usize) else { return };
        let mut seen = slot.load(Relaxed);
        loop {
            let (its, count) = (seen >> COUNT_BITS, seen & COUNT_MASK);
            // A core whose clock is behind counts in the later slot, which holds longer.
            let (new, over) = if its >= number { (packed(its, count + 1), 0) } else { (packed(number, 1), count) };
            match slot.compare_exchange_weak(seen, new, Relaxed, Relaxed) {
                Ok(_) => {
                    self.left.fetch_add(over as u32, Relaxed);
                    return;
                }
                Err(other) => seen = other,
            }
        }
    }

    /// Whether the pace allows one: a whole second's worth at once after a pause, a fiftieth of it once something was refused.
    fn pace(&self, now: u64) -> bool {
        let each = SECOND_NS / u64::from(self.per_second);
        let refused_at = self.refused_at.load(Relaxed);
        let is_strained = refused_at > 0 && now.saturating_sub(refused_at) < SECOND_NS;
        let ahead_max = if is_strained { (SECOND_NS / 50).max(each) } else { SECOND_NS };
        let next = |paid_at: u64| {
            let paid_at = paid_at.max(now);
            (paid_at - now + each <= ahead_max.max(each)).then_some(paid_at + each)
        };
        self.paid_at.fetch_update(Relaxed, Relaxed, next).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_second_sees_more_than_the_limit_and_a_steady_excess_is_thinned_out_evenly() {
        for (limit, offered) in [(100_u64, 200_u64), (100, 5000), (1000, 3000)] {
            let arrivals = Arrivals::new(limit as u32);
            let moments: Vec<u64> =
                (0..offered * 6).map(|n| 7 * SECOND_NS + n * SECOND_NS / offered).filter(|at| arrivals.take(Nanos(*at))).collect();
            for begin in (0..500).map(|step| 7 * SECOND_NS + step * 10_000_000) {
                let count = moments.iter().filter(|at| (begin..begin + SECOND_NS).contains(*at)).count() as u64;
                assert!(count <= limit, "{limit}, {offered}: {count} from {begin}");
                assert!(begin < 9 * SECOND_NS || count * 20 >= limit * 19, "{limit}, {offered}: {count} from {begin}");
            }
        }
    }

    #[test]
    fn many_threads_together_get_the_limit() {
        let arrivals = Arrivals::new(350);
        let taken: usize = std::thread::scope(|scope| {
            let takers: Vec<_> =
                (0..4).map(|_| scope.spawn(|| (0..1000).filter(|n| arrivals.take(Nanos(SECOND_NS + n * 500_000))).count())).collect();
            takers.into_iter().map(|taker| taker.join().expect("no panic")).sum()
        });
        // A thread that was held up came with times long past, and may have been refused what is free.
        let left = (0..500).filter(|_| arrivals.take(Nanos(SECOND_NS + 500_000_000))).count();
        assert_eq!(taken + left, 350, "half a second");
        assert_eq!((0..500).filter(|_| arrivals.take(Nanos(9 * SECOND_NS))).count(), 350, "all have come back");
    }
}
