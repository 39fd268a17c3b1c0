//! Instances of upstreams that are interactive: a process for each client, so that what it asks is asked of that client. A session of the legacy
//! era has one for as long as it lives, and a principal of the modern era one that works on one call at a time, until it was idle for a while.
//!
//! An instance is an upstream of its own, known on this core alone. The upstream that it is an instance of has a process, too: the scout's,
//! which says what there is and is never called.

use hashbrown::HashMap;

use super::Gateway;
use super::failure::Failure;
use super::link::Down;
use super::owner::{IDLE, LOOK, Owner, opening};
use super::slots::Key;
use super::upstream::Upstream;
use super::write::Forward;
use crate::base::time::Nanos;

/// Numbers from here on are those of instances.
const FIRST: u32 = 1 << 16;

/// Whose process an instance is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tenancy {
    /// What it is an instance of.
    upstream: u32,
    owner: Owner,
    used: Nanos,
}

impl Tenancy {
    const fn is_principals(&self) -> bool {
        matches!(self.owner, Owner::Principal(_))
    }
}

/// The instances of one core.
#[derive(Debug, Default)]
pub(super) struct Instances {
    slots: Vec<Option<Box<Upstream>>>,
    free: Vec<u32>,
    by_owner: HashMap<(u32, Owner), u32>,
    due: Nanos,
}

impl Instances {
    pub fn get(&self, number: u32) -> Option<&Upstream> {
        self.slots.get(number.checked_sub(FIRST)? as usize)?.as_deref()
    }

    pub fn get_mut(&mut self, number: u32) -> Option<&mut Upstream> {
        self.slots.get_mut(number.checked_sub(FIRST)? as usize)?.as_deref_mut()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Upstream> {
        self.slots.iter().filter_map(Option::as_deref)
    }

    pub fn numbers(&self) -> impl Iterator<Item = u32> + use<> {
        let there = (FIRST..).zip(&self.slots).filter(|(_, slot)| slot.is_some()).map(|(number, _)| number);
        there.collect::<Vec<u32>>().into_iter()
    }

    pub fn is_empty(&self) -> bool {
        self.by_owner.is_empty()
    }

    /// Those of this owner.
    pub fn of(&self, owner: Owner) -> Vec<u32> {
        self.by_owner.iter().filter(|((_, own), _)| *own == owner).map(|(_, number)| *number).collect()
    }

    /// When idle ones are looked for.
    pub fn next_look(&self) -> Nanos {
        if self.is_empty() { Nanos::NEVER } else { self.due }
    }

    fn insert(&mut self, tenancy: Tenancy, instance: Upstream) -> u32 {
        let place = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        self.slots[place as usize] = Some(Box::new(instance));
        self.by_owner.insert((tenancy.upstream, tenancy.owner), FIRST + place);
        FIRST + place
    }

    fn remove(&mut self, number: u32) {
        let Some(tenancy) = self.get(number).and_then(|instance| instance.tenancy) else { return };
        self.by_owner.remove(&(tenancy.upstream, tenancy.owner));
        self.slots[(number - FIRST) as usize] = None;
        self.free.push(number - FIRST);
    }
}

impl Gateway {
    /// Whether each client of this upstream has a process of its own.
    #[must_use]
    pub fn is_interactive(&self, upstream: u32) -> bool {
        self.upstreams.get(upstream).is_some_and(|up| up.pipe.is_some() && up.settings.options.is_interactive)
    }

    /// The upstream that a request goes to: this one, or the caller's own instance of it.
    ///
    /// # Errors
    /// There are as many instances as there may be.
    pub(super) fn instance_for(&mut self, now: Nanos, upstream: u32, ask: &Forward<'_>) -> Result<u32, Failure> {
        let Some(up) = self.upstreams.get(upstream) else { return Err(Failure::Resting) };
        if up.pipe.is_none() || !up.settings.options.is_interactive || ask.owner == Owner::Shared {
            return Ok(upstream);
        }
        let number = match self.upstreams.instances.by_owner.get(&(upstream, ask.owner)) {
            Some(number) => *number,
            None => self.new_instance(now, upstream, ask)?,
        };
        if let Some(instance) = self.upstreams.get_mut(number) {
            instance.session.wanted = ask.set_level;
            if let Some(tenancy) = &mut instance.tenancy {
                tenancy.used = now;
            }
        }
        Ok(number)
    }

    fn new_instance(&mut self, now: Nanos, upstream: u32, ask: &Forward<'_>) -> Result<u32, Failure> {
        let up = &self.upstreams[upstream];
        let of_it = self.upstreams.instances.by_owner.iter().filter(|((of, _), _)| *of == upstream);
        let of_it: Vec<u32> = of_it.map(|(_, number)| *number).collect();
        if of_it.len() >= up.settings.options.processes_max {
            let used = |number: u32| {
                let instance = self.upstreams.get(number).filter(|instance| instance.calls == 0)?;
                instance.tenancy.filter(Tenancy::is_principals).map(|tenancy| tenancy.used)
            };
            let oldest = of_it.into_iter().filter_map(|number| Some((used(number)?, number))).min();
            let Some((_, oldest)) = oldest else { return Err(Failure::Processes) };
            self.end_instance(now, oldest);
        }
        let tenancy = Tenancy { upstream, owner: ask.owner, used: now };
        let up = &self.upstreams[upstream];
        let mut instance = Upstream::new(up.settings.clone(), up.seed);
        if tenancy.is_principals() {
            instance.settings.in_flight_max = 1;
        }
        instance.session.members = opening(ask);
        instance.tenancy = Some(tenancy);
        if self.upstreams.instances.is_empty() {
            self.upstreams.instances.due = now.after(LOOK);
        }
        let due = self.upstreams.instances.due;
        self.expect(due);
        Ok(self.upstreams.instances.insert(tenancy, instance))
    }

    /// A process is needed no more: it is ended, and with it what is in work there.
    pub(super) fn end_instance(&mut self, now: Nanos, number: u32) {
        let failure = Failure::Down(Down::Hung);
        self.lose_pipe(now, number, &failure, true);
        let left: Vec<Key> = self.trips.iter().filter(|(_, trip)| trip.upstream == number).map(|(key, _)| key).collect();
        for key in left {
            self.fail(now, key, failure.clone());
        }
        debug_assert!(!self.trips.iter().any(|(_, trip)| trip.upstream == number), "nothing is in work there");
        self.upstreams.instances.remove(number);
    }

    /// Ends the processes of principals that have not used them for long.
    pub(super) fn end_idle_instances(&mut self, now: Nanos) {
        if self.upstreams.instances.is_empty() || now < self.upstreams.instances.due {
            return;
        }
        self.upstreams.instances.due = now.after(LOOK);
        for number in self.upstreams.instances.numbers() {
            let Some(instance) = self.upstreams.instances.get_mut(number) else { continue };
            let is_in_use = instance.calls > 0;
            let Some(tenancy) = instance.tenancy.as_mut().filter(|tenancy| tenancy.is_principals()) else { continue };
            if is_in_use {
                tenancy.used = now;
            } else if now.since(tenancy.used) >= IDLE {
                self.end_instance(now, number);
            }
        }
    }
}
