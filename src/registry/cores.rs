//! A set of cores in one word.

use crate::base::ids::CoreId;

/// The last bit stands for every core from this one on.
const LAST: u16 = 63;

/// A set of cores. From the 64th core on they are told apart no more: the set may hold more than was put into it, never less, which is
/// what is wanted of those who are to be told something.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Cores(u64);

impl Cores {
    pub(super) const NONE: Self = Self(0);

    const fn bit(core: CoreId) -> u64 {
        1 << if core.0 < LAST { core.0 } else { LAST }
    }

    pub(super) const fn insert(&mut self, core: CoreId) {
        self.0 |= Self::bit(core);
    }

    pub(super) const fn contains(self, core: CoreId) -> bool {
        self.0 & Self::bit(core) != 0
    }

    /// Whether it holds no core but, perhaps, this one.
    pub(super) const fn is_nobody_but(self, me: CoreId) -> bool {
        // From the last bit on a core may stand for others.
        self.0 == 0 || (me.0 < LAST && self.0 == Self::bit(me))
    }

    pub(super) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those of the `count` cores that are in the set, `me` excepted.
    pub(super) fn others(self, me: CoreId, count: u16) -> impl Iterator<Item = CoreId> {
        (0..count).map(CoreId).filter(move |core| *core != me && self.contains(*core))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_sixty_three_it_holds_more_rather_than_less() {
        let mut cores = Cores::NONE;
        assert!(cores.is_nobody_but(CoreId(0)));
        cores.insert(CoreId(3));
        cores.insert(CoreId(7));
        assert_eq!(cores.others(CoreId(7), 64).collect::<Vec<_>>(), [CoreId(3)]);
        cores.insert(CoreId(200));
        assert!(cores.contains(CoreId(63)) && cores.contains(CoreId(255)) && !cores.contains(CoreId(62)));
        assert_eq!(cores.others(CoreId(0), 66).map(|core| core.0).collect::<Vec<_>>(), [3, 7, 63, 64, 65]);
    }
}
