//! A table whose ids tell the tenants of one slot apart.

/// Values by slot; a slot counts its tenants.
#[derive(Debug)]
pub(super) struct Slots<T> {
    slots: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

/// Names a value: its slot, and which tenant of the slot it is.
pub(super) type Key = (u32, u32);

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    /// How many values there are.
    pub const fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub fn insert(&mut self, value: T) -> Key {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let slot = &mut self.slots[index as usize];
        slot.1 = Some(value);
        (index, slot.0)
    }

    pub fn get(&self, (index, generation): Key) -> Option<&T> {
        let (tenant, value) = self.slots.get(index as usize)?;
        if *tenant == generation { value.as_ref() } else { None }
    }

    pub fn get_mut(&mut self, (index, generation): Key) -> Option<&mut T> {
        let (tenant, value) = self.slots.get_mut(index as usize)?;
        if *tenant == generation { value.as_mut() } else { None }
    }

    pub fn remove(&mut self, (index, generation): Key) -> Option<T> {
        let (tenant, value) = self.slots.get_mut(index as usize)?;
        if *tenant != generation {
            return None;
        }
        let value = value.take()?;
        *tenant = tenant.wrapping_add(1);
        self.free.push(index);
        Some(value)
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut T)> {
        (0..).zip(&mut self.slots).filter_map(|(index, (tenant, value))| value.as_mut().map(|value| ((index, *tenant), value)))
    }

    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        (0..).zip(&self.slots).filter_map(|(index, (tenant, value))| value.as_ref().map(|value| ((index, *tenant), value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_key_names_nothing() {
        let mut slots = Slots::default();
        let first = slots.insert('a');
        assert_eq!(slots.remove(first), Some('a'));
        let second = slots.insert('b');
        assert_eq!(second.0, first.0, "the slot is used again");
        assert!(slots.get(first).is_none() && slots.get_mut(first).is_none() && slots.remove(first).is_none());
        assert_eq!((slots.get(second), slots.len()), (Some(&'b'), 1));
        assert_eq!(slots.iter().collect::<Vec<_>>(), [(second, &'b')]);
    }
}
