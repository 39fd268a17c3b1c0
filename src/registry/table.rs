//! The entries of one kind in one shard. Places are kept while entries come and go, so that a walk can stop and go on.

use std::sync::Arc;

use hashbrown::HashTable;

use super::cores::Cores;
use super::entry::Server;
use super::kinds::Entry;
use super::tag::Tag;

/// One entry and who knows of it: as long as a line of the processor's cache.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Slot<V> {
    pub hash: u64,
    pub entry: Arc<V>,
    /// Cores that may hold the entry, or something made of it.
    pub holders: Cores,
    /// Place of the change that is being made of it; 0 when none is.
    pub change: u32,
    /// False while the entry is only about to be: lookups do not find it.
    pub is_visible: bool,
    tag: Tag<34>,
}

const _: () = assert!(size_of::<Option<Slot<Server>>>() == 64, "a slot is one line of the cache");

impl<V: Entry> Slot<V> {
    pub(super) fn new(hash: u64, entry: Arc<V>, holders: Cores, change: u32, is_visible: bool) -> Self {
        let tag = Tag::new(entry.name());
        Self { hash, entry, holders, change, is_visible, tag }
    }

    #[inline]
    fn is(&self, hash: u64, name: &str) -> bool {
        self.hash == hash && self.tag.is(name, || self.entry.name())
    }
}

/// Entries by name.
#[derive(Debug)]
pub(super) struct Table<V> {
    slots: Vec<Option<Slot<V>>>,
    free: Vec<u32>,
    index: HashTable<u32>,
}

impl<V> Default for Table<V> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), index: HashTable::new() }
    }
}

impl<V: Entry> Table<V> {
    /// The place of `name`, whose hash is `hash`.
    #[inline]
    pub(super) fn place(&self, hash: u64, name: &str) -> Option<u32> {
        let is_it = |&at: &u32| self.slots[at as usize].as_ref().is_some_and(|slot| slot.is(hash, name));
        self.index.find(hash, is_it).copied()
    }

    /// What lookups find.
    #[inline]
    pub(super) fn find(&self, hash: u64, name: &str) -> Option<&Slot<V>> {
        let slot = self.slots[self.place(hash, name)? as usize].as_ref()?;
        slot.is_visible.then_some(slot)
    }

    /// The slot at a place, be it visible or not.
    pub(super) fn slot(&self, place: u32) -> Option<&Slot<V>> {
        self.slots.get(place as usize)?.as_ref()
    }

    /// The same, to change it.
    pub(super) fn slot_mut(&mut self, place: u32) -> Option<&mut Slot<V>> {
        self.slots.get_mut(place as usize)?.as_mut()
    }

    /// Adds an entry whose name is not in the table.
    pub(super) fn insert(&mut self, slot: Slot<V>) {
        debug_assert!(self.place(slot.hash, slot.entry.name()).is_none(), "a name has one entry");
        let hash = slot.hash;
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        self.slots[at as usize] = Some(slot);
        self.index.insert_unique(hash, at, |&at| self.slots[at as usize].as_ref().map_or(0, |slot| slot.hash));
    }

    /// Takes out what is at a place.
    pub(super) fn remove(&mut self, place: u32) -> Option<Slot<V>> {
        let slot = self.slots.get_mut(place as usize)?.take()?;
        if let Ok(entry) = self.index.find_entry(slot.hash, |&at| at == place) {
            entry.remove();
        }
        self.free.push(place);
        Some(slot)
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Places there are, taken or free: the end of a walk by [`Self::at`].
    pub(super) fn places(&self) -> usize {
        self.slots.len()
    }

    /// The visible entry at a place.
    pub(super) fn at(&self, place: usize) -> Option<&Arc<V>> {
        self.slots.get(place)?.as_ref().filter(|slot| slot.is_visible).map(|slot| &slot.entry)
    }
}
