//! Identities. Each is a small value; one that can outlive its slot carries a generation, so that a stale one is recognised.

use std::fmt;

/// One process. Carried by every id that leaves the process, so that a cluster can route by it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, PartialOrd, Ord)]
pub struct NodeId(pub u16);

/// One pinned executor and all that it owns. Cores are numbered from 0 without gaps.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, PartialOrd, Ord)]
pub struct CoreId(pub u16);

impl CoreId {
    /// The core's number as an index into per-core tables.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for CoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One slice of the registry, owned by one core.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, PartialOrd, Ord)]
pub struct ShardId(pub u16);

/// Which of the two queues between a pair of cores carries a frame. Replies are taken before asks, so that two cores that ask each other
/// cannot starve each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lane {
    /// Questions and one-way messages.
    Ask,
    /// Answers to questions.
    Reply,
}

/// Names a slot of a table together with the generation of what lives in it.
macro_rules! slot_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
        pub struct $name {
            /// Index of the slot.
            pub index: u32,
            /// Counts the tenants of the slot; an id with another generation is stale.
            pub generation: u32,
        }

        impl $name {
            /// Packs the id into one integer, generation in the upper half.
            #[must_use]
            pub const fn pack(self) -> u64 {
                ((self.generation as u64) << 32) | self.index as u64
            }

            /// The reverse of [`Self::pack`].
            #[must_use]
            pub const fn unpack(packed: u64) -> Self {
                Self { index: packed as u32, generation: (packed >> 32) as u32 }
            }
        }
    };
}

slot_id! {
    /// One TCP connection of one core.
    ConnId
}
slot_id! {
    /// One request in work that did not complete at once, on one core.
    CallId
}
slot_id! {
    /// One link to an upstream, of one core: a connection that it dialled or a child process.
    LinkId
}
slot_id! {
    /// One legacy session, on its home core.
    SessionKey
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_is_reversible() {
        let id = ConnId { index: 7, generation: u32::MAX };
        assert_eq!(ConnId::unpack(id.pack()), id);
    }
}
