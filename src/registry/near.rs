//! The near cache: what this core asked other cores for. Bounded; the clock algorithm decides who goes.

use hashbrown::HashTable;

use super::kinds::Named;
use super::tag::Tag;

/// One value: as long as a line of the processor's cache.
#[derive(Debug)]
#[repr(align(64))]
struct Slot<V> {
    hash: u64,
    value: V,
    /// Asked for since the hand last passed.
    referenced: bool,
    tag: Tag<38>,
}

/// A bounded set of values that have names.
#[derive(Debug)]
pub(super) struct Near<V> {
    slots: Vec<Slot<V>>,
    index: HashTable<u32>,
    names_max: usize,
    hand: usize,
    evictions: u64,
}

impl<V: Named> Near<V> {
    /// A cache for at most `names_max` names (at least one). It takes memory as it fills.
    pub(super) fn new(names_max: usize) -> Self {
        Self { slots: Vec::new(), index: HashTable::new(), names_max: names_max.max(1), hand: 0, evictions: 0 }
    }

    /// The place of `name`, whose hash is `hash`; it counts as asked for.
    #[inline]
    pub(super) fn place(&mut self, hash: u64, name: &str) -> Option<u32> {
        let is_it = |&at: &u32| {
            let slot = &self.slots[at as usize];
            slot.hash == hash && slot.tag.is(name, || slot.value.name())
        };
        let at = *self.index.find(hash, is_it)?;
        let slot = &mut self.slots[at as usize];
        if !slot.referenced {
            slot.referenced = true;
        }
        Some(at)
    }

    /// The value at a place that was just found.
    #[inline]
    pub(super) fn at(&self, place: u32) -> &V {
        &self.slots[place as usize].value
    }

    /// Keeps a value, in place of an older one of that name or, when full, of one not asked for lately. Its name is told apart, since what
    /// comes from another core is in that core's cache.
    pub(super) fn put(&mut self, hash: u64, name: &str, value: V) {
        debug_assert_eq!(name, value.name());
        if let Some(at) = self.place(hash, name) {
            self.slots[at as usize].value = value;
            return;
        }
        let tag = Tag::new(name);
        let slot = Slot { hash, value, referenced: false, tag };
        let at = if self.slots.len() < self.names_max {
            self.slots.push(slot);
            self.slots.len() - 1
        } else {
            let at = self.evict();
            self.slots[at] = slot;
            at
        };
        self.index.insert_unique(hash, at as u32, |&at| self.slots[at as usize].hash);
    }

    /// Frees the first slot from the hand on that was not asked for since the hand last passed, and returns its place.
    fn evict(&mut self) -> usize {
        self.evictions += 1;
        loop {
            let at = self.hand % self.slots.len();
            self.hand = at + 1;
            if std::mem::take(&mut self.slots[at].referenced) {
                continue;
            }
            self.unlink(at);
            return at;
        }
    }

    fn unlink(&mut self, at: usize) {
        if let Ok(entry) = self.index.find_entry(self.slots[at].hash, |&found| found as usize == at) {
            entry.remove();
        }
    }

    fn remove_at(&mut self, at: usize) {
        self.unlink(at);
        let last = self.slots.len() - 1;
        if at != last
            && let Some(moved) = self.index.find_mut(self.slots[last].hash, |&found| found as usize == last)
        {
            *moved = at as u32;
        }
        self.slots.swap_remove(at);
    }

    /// Forgets a name.
    pub(super) fn remove(&mut self, hash: u64, name: &str) {
        if let Some(at) = self.place(hash, name) {
            self.remove_at(at as usize);
        }
    }

    /// Forgets every name whose hash says so.
    pub(super) fn remove_all(&mut self, goes: impl Fn(u64) -> bool) {
        for at in (0..self.slots.len()).rev() {
            if goes(self.slots[at].hash) {
                self.remove_at(at);
            }
        }
    }

    /// How many names are kept.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// How many names had to go for others so far.
    pub(super) const fn evictions(&self) -> u64 {
        self.evictions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Named for (&'static str, u32) {
        fn name(&self) -> &str {
            self.0
        }
    }

    impl Named for (String, usize) {
        fn name(&self) -> &str {
            &self.0
        }
    }

    fn hash(name: &str) -> u64 {
        // Poor on purpose: names must be told apart when their hashes are equal.
        name.len() as u64
    }

    #[test]
    fn a_name_asked_for_outlives_one_that_was_not() {
        let mut near = Near::new(2);
        near.put(1, "a", ("a", 1));
        near.put(1, "b", ("b", 2));
        assert!(near.place(1, "a").is_some());
        near.put(1, "c", ("c", 3));
        assert!(near.place(1, "a").is_some());
        assert_eq!(near.place(1, "b"), None, "b made room");
        assert!(near.place(1, "c").is_some());
    }

    #[test]
    fn a_new_value_replaces_the_old_one() {
        let mut near = Near::new(2);
        near.put(1, "a", ("a", 1));
        near.put(1, "a", ("a", 9));
        let at = near.place(1, "a").expect("kept");
        assert_eq!((near.at(at).1, near.len()), (9, 1));
    }

    #[test]
    fn it_never_holds_more_than_it_may() {
        let mut near = Near::new(10);
        for n in 0..1000 {
            let name = format!("name {n}");
            near.put(hash(&name), &name, (name.clone(), n));
            let at = near.place(hash(&name), &name).expect("just put");
            assert_eq!(near.at(at).1, n);
            assert!(near.len() <= 10 && near.index.len() == near.len());
        }
        assert_eq!(near.evictions(), 990);
    }

    #[test]
    fn what_is_forgotten_makes_room_and_moves_nothing_else() {
        let mut near = Near::new(100);
        let names: Vec<String> = (0..100).map(|n| "x".repeat(n)).collect();
        for (n, name) in names.iter().enumerate() {
            near.put(hash(name), name, (name.clone(), n));
        }
        near.remove(hash(&names[7]), &names[7]);
        near.remove(1000, "never there");
        near.remove_all(|hash| hash % 3 == 0);
        for (n, name) in names.iter().enumerate() {
            let found = near.place(hash(name), name).map(|at| near.at(at).1);
            assert_eq!(found, (n != 7 && n % 3 != 0).then_some(n));
        }
        assert_eq!(near.len(), near.index.len());
    }
}
