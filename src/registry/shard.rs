//! One shard: the names whose hash falls into it. Its owner is its only writer.

use std::sync::Arc;

use super::change::{Changed, Kind};
use super::cores::Cores;
use super::entry::{Endpoint, Server};
use super::frame::Name;
use super::kinds::Entry;
use super::stats::{Load, ShardStats};
use super::table::{Slot, Table};
use crate::base::ids::ShardId;
use crate::base::time::Nanos;

/// The entries of one shard.
#[derive(Debug, Default)]
pub(super) struct Shard {
    pub servers: Table<Server>,
    pub endpoints: Table<Endpoint>,
    /// Counts the rounds of invalidations: what was looked up before the last one must not be kept by who took part in it.
    pub number: u64,
    /// The highest version an entry had that was removed: who takes its name goes on from there, so that no name has a version twice.
    pub version_removed: u64,
    /// Cores that may remember some server name of this shard as absent.
    servers_absent: Cores,
    /// The same for endpoints.
    endpoints_absent: Cores,
    pub load: Load,
}

impl Shard {
    /// Cores that may remember some name of this shard as absent. They are not told apart by name: who can make up names could make such a
    /// table grow.
    pub(super) const fn absent_at(&mut self, kind: Kind) -> &mut Cores {
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
            None => V::table_mut(self).insert(Slot { hash, entry, holders: Cores::NONE, change: 0, is_visible: true }),
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
