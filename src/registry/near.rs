//! The near cache: what this core asked other cores for. Bounded; the clock algorithm decides who goes.

use hashbrown::HashTable;

#[derive(Debug)]
struct Slot<V> {
    hash: u64,
    name: Box<str>,
    value: V,
    /// Asked for since the hand last passed.
    referenced: bool,
}

/// A bounded map from names to values.
#[derive(Debug)]
pub(super) struct Near<V> {
    slots: Vec<Slot<V>>,
    index: HashTable<u32>,
    names_max: usize,
    hand: usize,
}

impl<V> Near<V> {
    /// A cache for at most `names_max` names (at least one). It takes memory as it fills.
    pub(super) fn new(names_max: usize) -> Self {
        Self { slots: Vec::new(), index: HashTable::new(), names_max: names_max.max(1), hand: 0 }
    }

    /// The value kept for `name`, whose hash is `hash`.
    pub(super) fn get(&mut self, hash: u64, name: &str) -> Option<&V> {
        let at = *self.index.find(hash, |&at| &*self.slots[at as usize].name == name)?;
        let slot = &mut self.slots[at as usize];
        slot.referenced = true;
        Some(&slot.value)
    }

    /// Keeps `value` for `name`, in place of an older value or, when full, of a name not asked for lately.
    pub(super) fn put(&mut self, hash: u64, name: Box<str>, value: V) {
        if let Some(&at) = self.index.find(hash, |&at| self.slots[at as usize].name == name) {
            self.slots[at as usize].value = value;
            return;
        }
        let slot = Slot { hash, name, value, referenced: false };
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
        loop {
            let at = self.hand;
            self.hand = (self.hand + 1) % self.slots.len();
            if std::mem::take(&mut self.slots[at].referenced) {
                continue;
            }
            if let Ok(entry) = self.index.find_entry(self.slots[at].hash, |&found| found as usize == at) {
                entry.remove();
            }
            return at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(name: &str) -> u64 {
        // Poor on purpose: names must be told apart when their hashes are equal.
        name.len() as u64
    }

    fn put(near: &mut Near<u32>, name: &str, value: u32) {
        near.put(hash(name), name.into(), value);
    }

    #[test]
    fn a_name_asked_for_outlives_one_that_was_not() {
        let mut near = Near::new(2);
        put(&mut near, "a", 1);
        put(&mut near, "b", 2);
        assert_eq!(near.get(hash("a"), "a"), Some(&1));
        put(&mut near, "c", 3);
        assert_eq!(near.get(hash("a"), "a"), Some(&1));
        assert_eq!(near.get(hash("b"), "b"), None, "b made room");
        assert_eq!(near.get(hash("c"), "c"), Some(&3));
    }

    #[test]
    fn a_new_value_replaces_the_old_one() {
        let mut near = Near::new(2);
        put(&mut near, "a", 1);
        put(&mut near, "a", 9);
        assert_eq!(near.get(hash("a"), "a"), Some(&9));
        assert_eq!(near.slots.len(), 1);
    }

    #[test]
    fn it_never_holds_more_than_it_may() {
        let mut near = Near::new(10);
        for n in 0..1000 {
            put(&mut near, &format!("name {n}"), n);
            assert_eq!(near.get(hash(&format!("name {n}")), &format!("name {n}")), Some(&n));
            assert!(near.slots.len() <= 10 && near.index.len() == near.slots.len());
        }
    }
}
