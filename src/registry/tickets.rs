//! Tickets: who waits for which reply. A bounded table; a ticket names its place and how often the place was taken before.
//!
//! A reply may come when nobody waits for it any more: its question was given up. So no ticket may name anything else as long as a frame
//! that carries it can be on its way. A place is counted in 48 bits: taken anew a million times in each second, it has the same ticket again
//! after nine years, and no frame lies in a lane for that long.

const PLACE_BITS: u32 = 16;
const PLACE_MASK: u64 = (1 << PLACE_BITS) - 1;

#[derive(Debug)]
struct Slot<T> {
    /// How often the place was taken, in the bits of a ticket that are not the place's.
    generation: u64,
    held: Option<T>,
}

/// What waits, by ticket. No ticket is 0, and no place is.
#[derive(Debug)]
pub(super) struct Tickets<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    max: usize,
}

/// The place that a ticket names. It is that of one thing only as long as that is held.
pub(super) const fn place_of(ticket: u64) -> u32 {
    (ticket & PLACE_MASK) as u32
}

impl<T> Tickets<T> {
    /// A table for at most `max`. It takes memory as it fills.
    pub(super) const fn new(max: usize) -> Self {
        assert!(max <= PLACE_MASK as usize, "a place has sixteen bits");
        Self { slots: Vec::new(), free: Vec::new(), max }
    }

    pub(super) fn is_full(&self) -> bool {
        self.free.is_empty() && self.slots.len() == self.max
    }

    /// Keeps `held` and names it; `None` when the table is full.
    pub(super) fn insert(&mut self, held: T) -> Option<u64> {
        if self.is_full() {
            return None;
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, held: None });
            self.slots.len() as u32
        });
        let slot = self.slots.get_mut((place as usize).checked_sub(1)?)?;
        slot.generation = slot.generation.wrapping_add(1 << PLACE_BITS);
        slot.held = Some(held);
        Some(slot.generation | u64::from(place))
    }

    /// All that is held.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| slot.held.as_ref())
    }

    /// Tickets of what `wanted` says yes to.
    pub(super) fn tickets(&self, wanted: impl Fn(&T) -> bool) -> Vec<u64> {
        let named = self.slots.iter().zip(1u64..).filter(|(slot, _)| slot.held.as_ref().is_some_and(&wanted));
        named.map(|(slot, place)| slot.generation | place).collect()
    }

    fn slot(&mut self, ticket: u64) -> Option<&mut Slot<T>> {
        let slot = self.slots.get_mut((place_of(ticket) as usize).checked_sub(1)?)?;
        (slot.generation == ticket & !PLACE_MASK).then_some(slot)
    }

    pub(super) fn get_mut(&mut self, ticket: u64) -> Option<&mut T> {
        self.slot(ticket)?.held.as_mut()
    }

    /// What is held at a place, for those who know that it is.
    pub(super) fn at_mut(&mut self, place: u32) -> Option<&mut T> {
        self.slots.get_mut((place as usize).checked_sub(1)?)?.held.as_mut()
    }

    pub(super) fn remove(&mut self, ticket: u64) -> Option<T> {
        let held = self.slot(ticket)?.held.take()?;
        self.free.push(place_of(ticket));
        Some(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_good_once_and_the_table_is_bounded() {
        let mut tickets = Tickets::new(2);
        let first = tickets.insert('a').expect("room");
        let second = tickets.insert('b').expect("room");
        assert!(first != 0 && first != second && tickets.is_full() && tickets.insert('c').is_none());
        assert_eq!(tickets.remove(first), Some('a'));
        assert_eq!((tickets.remove(first), tickets.iter().count()), (None, 1));
        let third = tickets.insert('d').expect("room");
        assert_ne!(third, first, "the place is the same, the ticket is not");
        assert_eq!(tickets.get_mut(first), None);
        assert_eq!(tickets.get_mut(third), Some(&mut 'd'));
        assert_eq!((tickets.remove(0), tickets.remove(u64::MAX)), (None, None));
    }

    #[test]
    fn a_ticket_that_was_given_up_names_nothing_else_however_often_its_place_is_taken() {
        let mut tickets = Tickets::new(1);
        let given_up = tickets.insert('a').expect("room");
        assert_eq!(tickets.remove(given_up), Some('a'));
        for _ in 0..200_000 {
            let next = tickets.insert('b').expect("room");
            assert_eq!(tickets.get_mut(given_up), None);
            assert_eq!(tickets.remove(given_up), None);
            assert_eq!(tickets.at_mut(place_of(next)), Some(&mut 'b'));
            assert_eq!(tickets.remove(next), Some('b'));
            assert_eq!(tickets.at_mut(place_of(next)), None);
        }
    }
}
