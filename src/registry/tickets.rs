//! Tickets: who waits for which reply. A bounded table; a ticket names its place and how often the place was taken before.

const PLACE_BITS: u32 = 16;
const PLACE_MASK: u32 = (1 << PLACE_BITS) - 1;

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    held: Option<T>,
}

/// What waits, by ticket. No ticket is 0.
#[derive(Debug)]
pub(super) struct Tickets<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    max: usize,
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
    pub(super) fn insert(&mut self, held: T) -> Option<u32> {
        if self.is_full() {
            return None;
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, held: None });
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[place as usize];
        slot.generation = (slot.generation + 1) & PLACE_MASK;
        slot.held = Some(held);
        Some(slot.generation << PLACE_BITS | (place + 1))
    }

    /// All that is held.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| slot.held.as_ref())
    }

    /// Tickets of what `wanted` says yes to.
    pub(super) fn tickets(&self, wanted: impl Fn(&T) -> bool) -> Vec<u32> {
        let named = self.slots.iter().zip(1u32..).filter(|(slot, _)| slot.held.as_ref().is_some_and(&wanted));
        named.map(|(slot, place)| slot.generation << PLACE_BITS | place).collect()
    }

    fn slot(&mut self, ticket: u32) -> Option<&mut Slot<T>> {
        let slot = self.slots.get_mut(((ticket & PLACE_MASK) as usize).checked_sub(1)?)?;
        (slot.generation == ticket >> PLACE_BITS).then_some(slot)
    }

    pub(super) fn get_mut(&mut self, ticket: u32) -> Option<&mut T> {
        self.slot(ticket)?.held.as_mut()
    }

    pub(super) fn remove(&mut self, ticket: u32) -> Option<T> {
        let held = self.slot(ticket)?.held.take()?;
        self.free.push((ticket & PLACE_MASK) - 1);
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
        assert_eq!((tickets.remove(0), tickets.remove(u32::MAX)), (None, None));
    }
}
