//! Which shard a name is in, and which core owns the shard.

use crate::base::ids::{CoreId, ShardId};
use siphasher::sip::SipHasher13;

/// Key of the placement hash. A constant: every node and every run must place a name alike, and keyed, so that the hash
/// is not the one that other tables use.
const KEY: (u64, u64) = (0x7269_6e67_6875_6220, 0x7368_6172_6473_2e31);

/// The owner of every shard, readable by all cores.
#[derive(Clone, Debug)]
pub struct OwnerTable(Box<[CoreId]>);

impl OwnerTable {
    /// Deals the shards out in turn.
    fn new(shards: u16, cores: u16) -> Self {
        Self((0..shards).map(|shard| CoreId(shard % cores)).collect())
    }

    /// The core that owns `shard`.
    #[must_use]
    #[inline]
    pub fn owner(&self, shard: ShardId) -> CoreId {
        self.0[shard.0 as usize]
    }

    /// Every shard with its owner.
    pub fn iter(&self) -> impl Iterator<Item = (ShardId, CoreId)> + '_ {
        self.0.iter().enumerate().map(|(shard, owner)| (ShardId(shard as u16), *owner))
    }
}

/// Names to shards to cores.
#[derive(Clone, Debug)]
pub struct Placement {
    owners: OwnerTable,
}

impl Placement {
    /// Placement of `shards` shards on `cores` cores. Both are at least 1: the configuration was validated.
    #[must_use]
    pub fn new(shards: u16, cores: u16) -> Self {
        assert!(shards >= 1 && cores >= 1, "the configuration was validated");
        Self { owners: OwnerTable::new(shards, cores) }
    }

    /// The owner table.
    #[must_use]
    pub const fn owners(&self) -> &OwnerTable {
        &self.owners
    }

    /// Hash of a name, the same on every node. One hash serves the shard and the near cache.
    #[must_use]
    #[inline]
    pub fn hash(&self, name: &str) -> u64 {
        SipHasher13::new_with_keys(KEY.0, KEY.1).hash(name.as_bytes())
    }

    /// Shard of a hash. Bits 16 to 47 are scaled to the number of shards, which costs less than a division: tables find their buckets by
    /// the bits below and tell names apart by the bits above, so that the names of one shard differ in both.
    #[must_use]
    #[inline]
    pub fn shard(&self, hash: u64) -> ShardId {
        ShardId(((((hash >> 16) & 0xFFFF_FFFF) * self.owners.0.len() as u64) >> 32) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shard_has_an_owner_and_the_cores_own_alike() {
        let placement = Placement::new(64, 3);
        let mut owned = [0; 3];
        for (_, owner) in placement.owners().iter() {
            owned[owner.index()] += 1;
        }
        assert_eq!(owned, [22, 21, 21]);
    }

    #[test]
    fn placement_is_stable() {
        let placement = Placement::new(64, 2);
        assert_eq!(placement.hash("/mcp"), Placement::new(8, 5).hash("/mcp"), "the hash knows nothing of cores");
        assert_eq!(placement.hash("/mcp"), 2_963_511_334_792_005_441, "as it was in the first release");
        assert_eq!([0, 1 << 42, 5 << 42, u64::MAX].map(|hash| placement.shard(hash).0), [0, 1, 5, 63]);
    }

    #[test]
    fn ten_thousand_names_spread_as_chance_would() {
        let placement = Placement::new(64, 1);
        let mut counts = [0u32; 64];
        for n in 1..=10_000 {
            counts[placement.shard(placement.hash(&format!("server_{n}"))).0 as usize] += 1;
        }
        // The mean is 156 and the deviation about 12: five deviations either way.
        assert!(counts.iter().all(|c| (94..=218).contains(c)), "{counts:?}");
    }
}
