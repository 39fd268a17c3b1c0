//! One shard: the names whose hash falls into it. Its owner is its only writer.

use std::sync::Arc;

use super::change::{Changed, Kind};
use super::cores::Cores;
use super::entry::{Endpoint, Server};
use super::frame::Name;
use super::kinds::Entry;
use super::stats::{Load, ShardStats};
use super::table::{Slot, Table};
use crate::base::ids::{CoreId, ShardId};
use crate::base::time::Nanos;

/// Cores that may remember some name of a shard as absent. They are not told apart by name: who can make up names could make such a table
/// grow.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Absences {
    holders: Cores,
    /// Those of them that asked since the first of the entries that are about to be was announced.
    since: Cores,
    /// Entries that are about to be.
    coming: u16,
}

impl Absences {
    pub(super) const fn holders(&self) -> Cores {
        self.holders
    }

    /// A core was told that a name is absent.
    pub(super) const fn insert(&mut self, core: CoreId) {
        self.holders.insert(core);
        self.since.insert(core);
    }

    /// An entry is announced to all holders. Each lets go of every absence, but it is not known when: until then it is a holder to whom
    /// further entries are announced too.
    pub(super) const fn announced(&mut self) {
        if self.coming == 0 {
            self.since = Cores::NONE;
        }
        self.coming += 1;
    }

    /// An announced entry is there, all holders having let go; or it is not to be after all.
    pub(super) const fn settled(&mut self, is_there: bool) {
        self.coming -= 1;
        if self.coming == 0 && is_there {
            self.holders = self.since;
        }
    }
}

/// The entries of one shard.
#[derive(Debug, Default)]
pub(super) struct Shard {
    pub servers: Table<Server>,
    pub endpoints: Table<Endpoint>,
    /// Counts the rounds of invalidations: what was looked up before the last one must not be kept by who took part in it.
    pub number: u64,
    /// The highest version an entry had that was removed: who takes its name goes on from there, so that no name has a version twice.
    pub version_removed: u64,
    servers_absent: Absences,
    endpoints_absent: Absences,
    pub load: Load,
}

impl Shard {
    /// Who may remember names of this shard as absent.
    pub(super) const fn absences(&mut self, kind: Kind) -> &mut Absences {
        match kind {
            Kind::Server => &mut self.servers_absent,
            Kind::Endpoint => &mut self.endpoints_absent,
        }
    }

    /// Puts an entry where one is or where none is, or takes one away. What it is now, or was; none when there is nothing to take away.
    pub(super) fn apply<V: Entry>(&mut self, hash: u64, place: Option<u32>, next: Option<Arc<V>>) -> Option<(Changed, Name)> {
        self.load.writes += 1;
        let Some(entry) = next else {
            let gone = V::table_mut(self).remove(place?)?.entry;
            let changed = gone.changed();
            self.version_removed = self.version_removed.max(changed.version);
            return Some((changed, V::name_of(gone)));
        };
        let (changed, name) = (entry.changed(), V::name_of(Arc::clone(&entry)));
        match place.and_then(|place| V::table_mut(self).slot_mut(place)) {
            Some(slot) => (slot.entry, slot.holders, slot.change, slot.is_visible) = (entry, Cores::NONE, 0, true),
            None => V::table_mut(self).insert(Slot::new(hash, entry, Cores::NONE, 0, true)),
        }
        Some((changed, name))
    }

    /// Its figures.
    pub(super) fn stats(&mut self, shard: ShardId, now: Nanos) -> ShardStats {
        let (wait_ns, handling_ns) = self.load.averages(now);
        ShardStats {
            shard,
            servers: self.servers.len(),
            endpoints: self.endpoints.len(),
            reads: self.load.reads,
            writes: self.load.writes,
            wait_ns,
            handling_ns,
            level: self.load.level(now),
        }
    }
}
