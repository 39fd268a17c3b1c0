//! Instances of upstreams that are interactive: a process for each client, so that what it asks is asked of that client. A session of the legacy
//! era has one for as long as it lives, and a principal of the modern era one that works on one call at a time, until it was idle for a while.
//!
//! An instance is an upstream of its own, known on this core alone. The upstream that it is an instance of has a process, too: the scout's,
//! which says what there is and is never called.

use std::sync::Arc;

use hashbrown::HashMap;

use super::Gateway;
use super::failure::Failure;
use super::link::Down;
use super::owner::{IDLE, LOOK, Owner, opening};
use super::slots::Key;
use super::upstream::{Settings, Upstream};
use super::write::Forward;
use crate::base::time::Nanos;

/// Numbers from here on are those of instances.
const FIRST: u32 = 1 << 31;

/// Whose process an instance is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tenancy {
    /// What it is an instance of.
    pub upstream: u32,
    owner: Owner,
    used: Nanos,
}

impl Tenancy {
    const fn is_principals(&self) -> bool {
        matches!(self.owner, Owner::Principal(_))
    }

    /// Whether one client alone has it.
    pub const fn is_sessions(&self) -> bool {
        matches!(self.owner, Owner::Session(_))
    }
}

/// The instances of one core.
#[derive(Debug, Default)]
pub(super) struct Instances {
    by_owner: HashMap<(u32, Owner), u32>,
    /// Instances so far.
    count: u32,
    due: Nanos,
}

impl Instances {
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

    /// A number that none has had.
    const fn number(&mut self) -> u32 {
        let number = FIRST | self.count;
        self.count = self.count.wrapping_add(1);
        number
    }

    pub fn remove(&mut self, tenancy: &Tenancy) {
        self.by_owner.remove(&(tenancy.upstream, tenancy.owner));
    }
}

impl Gateway {
    /// Whether each client of this upstream has a process of its own.
    #[must_use]
    pub fn is_interactive(&self, upstream: u32) -> bool {
        self.upstreams.get(upstream).is_some_and(Upstream::is_interactive)
    }

    /// The upstream that a request to an interactive one goes to: the caller's own instance of it.
    ///
    /// # Errors
    /// There are as many instances as there may be.
    pub(super) fn instance_for(&mut self, now: Nanos, upstream: u32, ask: &Forward<'_>) -> Result<u32, Failure> {
        if ask.owner == Owner::Shared {
            return Ok(upstream);
        }
        let number = match self.instances.by_owner.get(&(upstream, ask.owner)) {
            Some(number) => *number,
            None => self.new_instance(now, upstream, ask)?,
        };
        if let Some(tenancy) = self.upstreams.get_mut(number).and_then(|instance| instance.tenancy.as_mut()) {
            tenancy.used = now;
        }
        Ok(number)
    }

    fn new_instance(&mut self, now: Nanos, upstream: u32, ask: &Forward<'_>) -> Result<u32, Failure> {
        let of_it = self.instances.by_owner.iter().filter(|((of, _), _)| *of == upstream);
        let of_it: Vec<u32> = of_it.map(|(_, number)| *number).collect();
        if of_it.len() >= self.upstreams[upstream].settings.options.processes_max {
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
        let settings = match tenancy.is_principals() {
            true => Arc::new(Settings { in_flight_max: 1, ..(*up.settings).clone() }),
            false => Arc::clone(&up.settings),
        };
        let mut instance = Upstream::new(settings, up.seed);
        instance.session.members = opening(ask);
        instance.tenancy = Some(tenancy);
        if self.instances.is_empty() {
            self.instances.due = now.after(LOOK);
        }
        let due = self.instances.due;
        self.expect(due);
        let number = self.instances.number();
        self.instances.by_owner.insert((upstream, ask.owner), number);
        self.upstreams.add_instance(number, instance);
        Ok(number)
    }

    /// A process is needed no more: it is ended, and with it what is in work there.
    pub(super) fn end_instance(&mut self, now: Nanos, number: u32) {
        let Some(tenancy) = self.upstreams.get(number).and_then(|instance| instance.tenancy) else { return };
        let failure = Failure::Down(Down::Hung);
        self.lose_pipe(now, number, &failure, true);
        let left: Vec<Key> = self.trips.iter().filter(|(_, trip)| trip.upstream == number).map(|(key, _)| key).collect();
        for key in left {
            self.fail(now, key, failure.clone());
        }
        debug_assert!(!self.trips.iter().any(|(_, trip)| trip.upstream == number), "nothing is in work there");
        self.instances.remove(&tenancy);
        self.upstreams.forget(number);
    }

    /// Ends the processes of principals that have not used them for long.
    pub(super) fn end_idle_instances(&mut self, now: Nanos) {
        if self.instances.is_empty() || now < self.instances.due {
            return;
        }
        self.instances.due = now.after(LOOK);
        let numbers: Vec<u32> = self.instances.by_owner.values().copied().collect();
        for number in numbers {
            let Some(instance) = self.upstreams.get_mut(number) else { continue };
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
