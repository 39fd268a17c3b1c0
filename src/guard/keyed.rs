//! Limits of things that clients name, such as principals and tools: a table of fixed size, in which the least recently seen gives way.

use std::hash::{BuildHasher, Hash};

use hashbrown::DefaultHashBuilder;

use super::window::Limiter;
use crate::base::limits::RATED_NAMES_MAX;
use crate::base::time::Nanos;

/// Places in which one name may stand.
const WAYS: usize = 4;

#[derive(Debug)]
struct Entry {
    hash: u64,
    seen: Nanos,
    limiter: Limiter,
}

/// A limit per second of each name on one core.
#[derive(Debug)]
pub(super) struct Keyed {
    per_second: u32,
    hasher: DefaultHashBuilder,
    sets: Box<[[Option<Box<Entry>>; WAYS]]>,
}

impl Keyed {
    pub fn new(per_second: u32) -> Self {
        let sets = (0..RATED_NAMES_MAX / WAYS).map(|_| [const { None }; WAYS]).collect();
        Self { per_second, hasher: DefaultHashBuilder::default(), sets }
    }

    /// Takes so many uses of this name, or none. A name that gave way to others begins anew.
    pub fn take(&mut self, now: Nanos, name: impl Hash, uses: u32) -> bool {
        let hash = self.hasher.hash_one(name);
        let at = (hash % self.sets.len() as u64) as usize;
        let set = &mut self.sets[at];
        let known = set.iter().position(|entry| entry.as_ref().is_some_and(|entry| entry.hash == hash));
        let place = known.unwrap_or_else(|| {
            let seen = |entry: &Option<Box<Entry>>| entry.as_ref().map_or(Nanos(0), |entry| entry.seen);
            (0..WAYS).min_by_key(|way| seen(&set[*way])).unwrap_or(0)
        });
        if known.is_none() {
            set[place] = Some(Box::new(Entry { hash, seen: now, limiter: Limiter::new(self.per_second) }));
        }
        let Some(entry) = &mut set[place] else { return true };
        entry.seen = now;
        entry.limiter.take(now, uses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_limited_each_for_itself() {
        let mut keyed = Keyed::new(3);
        for name in ["a", "b"] {
            assert!((0..3).all(|_| keyed.take(Nanos(1), name, 1)) && !keyed.take(Nanos(1), name, 1), "{name}");
        }
    }

    #[test]
    fn a_flood_of_names_takes_no_more_room() {
        let mut keyed = Keyed::new(3);
        assert!((0..100_000_u64).all(|name| keyed.take(Nanos(name), name, 1)));
        assert_eq!(keyed.sets.len() * WAYS, RATED_NAMES_MAX);
    }
}
