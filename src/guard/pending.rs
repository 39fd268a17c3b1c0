//! Messages in work: how many the node has, and each principal.

use std::cell::RefCell;
use std::hash::BuildHasher;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use hashbrown::{DefaultHashBuilder, HashMap};

/// The cores lease room for so many messages at a time, where there is plenty.
const CHUNK: usize = 64;

type Counts = Rc<RefCell<HashMap<u64, u32>>>;

/// One core's part of what the node may have in work. The cores share one count, which changes for a chunk of messages at a time.
#[derive(Debug)]
pub struct Pending {
    max: usize,
    chunk: usize,
    leased: usize,
    principal_max: Option<u32>,
    hasher: DefaultHashBuilder,
    /// Messages in work of each principal that has any.
    counts: Counts,
    /// The principal of the message that is being judged.
    current: u64,
}

impl Pending {
    pub(super) fn new(max: usize, principal_max: Option<u32>, cores: u16) -> Self {
        let chunk = if max >= 8 * CHUNK * usize::from(cores) { CHUNK } else { 1 };
        Self { max, chunk, leased: 0, principal_max, hasher: DefaultHashBuilder::default(), counts: Counts::default(), current: 0 }
    }

    /// Whether this core, which has `held` messages in work, may have one more. `taken` is what all cores have leased.
    pub fn has_room(&mut self, held: usize, taken: &AtomicUsize) -> bool {
        if held < self.leased {
            return true;
        }
        let more = |taken: usize| Some(taken + self.chunk).filter(|taken| *taken <= self.max);
        let is_leased = taken.fetch_update(Relaxed, Relaxed, more).is_ok();
        self.leased += if is_leased { self.chunk } else { 0 };
        is_leased
    }

    /// Gives back what was leased and is not needed.
    pub fn settle(&mut self, held: usize, taken: &AtomicUsize) {
        let spare = self.leased.saturating_sub(held + self.chunk) / self.chunk * self.chunk;
        if spare > 0 {
            self.leased -= spare;
            taken.fetch_sub(spare, Relaxed);
        }
    }

    /// Whether this principal has as many messages in work on this core as one may. It is whom the next permits are for.
    pub(super) fn is_full(&mut self, principal: &[u8]) -> bool {
        let Some(max) = self.principal_max else { return false };
        self.current = self.hasher.hash_one(principal);
        self.counts.borrow().get(&self.current).is_some_and(|count| *count >= max)
    }

    /// Counts a message in work for the principal that was judged last, until the permit is dropped.
    #[must_use]
    pub fn permit(&self) -> Option<Permit> {
        self.principal_max?;
        *self.counts.borrow_mut().entry(self.current).or_insert(0) += 1;
        Some(Permit { counts: Rc::clone(&self.counts), principal: self.current })
    }
}

/// A message in work of a principal.
#[derive(Debug)]
pub struct Permit {
    counts: Counts,
    principal: u64,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = self.counts.borrow_mut();
        if let Some(count) = counts.get_mut(&self.principal) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.principal);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cores_together_have_no_more_than_the_node_may() {
        for (max, cores) in [(10, 3), (50_000, 2)] {
            let taken = AtomicUsize::new(0);
            let mut all: Vec<_> = (0..cores).map(|_| (Pending::new(max, None, cores), 0)).collect();
            let mut total = 0;
            while let Some((_, held)) = all.iter_mut().find_map(|(pending, held)| pending.has_room(*held, &taken).then_some((0, held))) {
                *held += 1;
                total += 1;
            }
            assert!(total <= max && total + CHUNK > max, "{total} of {max}");
            for (pending, held) in &mut all {
                *held = 0;
                pending.settle(0, &taken);
            }
            assert!(taken.load(Relaxed) <= CHUNK * usize::from(cores), "what is not needed is given back");
            assert!(all[0].0.has_room(0, &taken));
        }
    }

    #[test]
    fn permits_come_back_when_they_are_dropped() {
        let mut pending = Pending::new(100, Some(2), 1);
        assert!(!pending.is_full(b"a"));
        let permits = [pending.permit(), pending.permit()];
        assert!(pending.is_full(b"a") && !pending.is_full(b"b"));
        drop(permits);
        assert!(!pending.is_full(b"a"));
        assert!(pending.counts.borrow().is_empty(), "who has none is forgotten");
    }
}
