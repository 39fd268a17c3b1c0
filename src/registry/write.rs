//! The owner's side of a change: what is asked for, the two phases, and what follows.

use std::sync::Arc;
use std::time::Duration;

use super::change::{Change, Changed, Kind, Record, Refusal};
use super::cores::Cores;
use super::entry::{Endpoint, Server, ServerId};
use super::frame::{Answer, Effect, Effects, Frame, Name, Waiter};
use super::kinds::{Entry, Next};
use super::table::Slot;
use super::tickets::place_of;
use super::{Registry, send};
use crate::base::ids::{CoreId, ShardId};
use crate::base::limits;
use crate::base::stored::Stored;
use crate::base::time::{Nanos, Now};

/// Bits of an id's number that say which core gave it out.
const CORE_BITS: u32 = 8;

const _: () = assert!(limits::CORES_MAX <= 1 << CORE_BITS, "each core has numbers of its own");

/// Who asked for a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asker {
    Here(Waiter),
    There { core: CoreId, ticket: u64 },
}

/// Where an entry is.
#[derive(Clone, Copy, Debug)]
pub(super) struct At {
    pub hash: u64,
    pub shard: ShardId,
}

/// A change between its two phases.
#[derive(Debug)]
pub(super) struct Pending {
    at: At,
    name: Name,
    /// The entry as it will be; none when it is to go.
    next: Answer,
    changed: Changed,
    asker: Asker,
    /// Cores that have not let go yet.
    holding: u16,
    /// Who held the entry when the change began. Who looked at it since is in its slot.
    held: Cores,
    is_creation: bool,
    /// It is with the durable store, which has the last word.
    is_persisting: bool,
    /// When it is given up; once it is persisting: when the store counts as standing still.
    deadline: Nanos,
    /// Changes of the same entry that wait for this one.
    queue: Vec<Queued>,
}

impl Pending {
    /// When something is to be done about it, should nothing come before. [`Nanos::NEVER`]: it is with the store, which stands still.
    fn due(&self, now: Nanos) -> Nanos {
        let own = if self.is_persisting && self.deadline <= now { Nanos::NEVER } else { self.deadline };
        self.queue.iter().map(|queued| queued.until).fold(own, Nanos::min)
    }
}

/// A change that waits for another one of its entry.
#[derive(Debug)]
struct Queued {
    change: Change,
    asker: Asker,
    /// When it is refused.
    until: Nanos,
}

impl Registry {
    /// Tells who asked how it went.
    pub(super) fn answer(asker: Asker, result: Result<Changed, Refusal>, out: &mut Effects) {
        match asker {
            Asker::Here(waiter) => out.push(Effect::Done { waiter, result }),
            Asker::There { core, ticket } => send(out, core, Frame::Done { ticket, result }),
        }
    }

    /// A change of an entry that is at home here.
    pub(super) fn make(&mut self, now: Now, change: Change, at: At, asker: Asker, out: &mut Effects) {
        let until = now.mono.after(Duration::from_millis(limits::CHANGE_QUEUED_MS_MAX));
        self.take_up(now, Queued { change, asker, until }, at, out);
    }

    /// The same for one that may have waited already.
    fn take_up(&mut self, now: Now, queued: Queued, at: At, out: &mut Effects) {
        match queued.change.kind() {
            Kind::Server => self.make_of::<Server>(now, queued, at, out),
            Kind::Endpoint => self.make_of::<Endpoint>(now, queued, at, out),
        }
    }

    fn make_of<V: Entry>(&mut self, now: Now, queued: Queued, at: At, out: &mut Effects) {
        let asker = queued.asker;
        let Some(shard) = self.shards[at.shard.0 as usize].as_deref_mut() else {
            debug_assert!(false, "only the owner makes changes");
            return Self::answer(asker, Err(Refusal::Overloaded), out);
        };
        let place = V::table(shard).place(at.hash, queued.change.name());
        let slot = place.and_then(|place| V::table(shard).slot(place));
        if let Some(change) = slot.map(|slot| slot.change).filter(|change| *change != 0) {
            return self.queue(change, queued, out);
        }
        let current = slot.map(|slot| &*slot.entry);
        let next = match V::after(queued.change, current) {
            Err(refusal) => return Self::answer(asker, Err(refusal), out),
            Ok(Next::Same) => return Self::answer(asker, current.map(V::changed).ok_or(Refusal::Absent), out),
            Ok(Next::Remove) => None,
            Ok(Next::Put(mut entry)) => {
                let (id, version, created_ms) = match current {
                    Some(current) => (current.changed().id, current.changed().version + 1, current.created_ms()),
                    None if self.rooms[V::KIND as usize].is_full() => return Self::answer(asker, Err(Refusal::Full), out),
                    None => {
                        self.numbers += 1;
                        let number = self.numbers << CORE_BITS | u64::from(self.core.0);
                        (ServerId { node: self.node, number }, shard.version_removed + 1, now.wall_ms)
                    }
                };
                entry.stamp(id, version, created_ms, now.wall_ms);
                Some(Arc::new(entry))
            }
        };
        let holders = slot.map(|slot| slot.holders);
        let held = holders.unwrap_or_else(|| shard.absences(V::KIND).holders());
        if self.config.is_durable || !held.is_nobody_but(self.core) {
            return self.begin(now, at, place, next, held, asker, out);
        }
        let is_gone = next.is_none();
        let Some((changed, name)) = shard.apply(at.hash, place, next) else { return };
        let room = &mut self.rooms[V::KIND as usize];
        room.held = room.held + usize::from(place.is_none()) - usize::from(is_gone);
        Self::answer(asker, Ok(changed), out);
        out.push(Effect::Changed { name });
        if is_gone {
            self.tell_gone(V::KIND, changed.id, out);
        }
    }

    /// A change of an entry that is being changed.
    fn queue(&mut self, change: u32, queued: Queued, out: &mut Effects) {
        if self.is_store_stuck {
            return Self::answer(queued.asker, Err(Refusal::StoreStuck), out);
        }
        let queue = self.changing.at_mut(change).map(|pending| &mut pending.queue);
        match queue.filter(|queue| queue.len() < limits::CHANGES_QUEUED_MAX) {
            Some(queue) => {
                self.next_due = self.next_due.min(queued.until);
                queue.push(queued);
            }
            None => Self::answer(queued.asker, Err(Refusal::Overloaded), out),
        }
    }

    /// The first phase: marks the entry, and asks who may hold it to let go.
    #[expect(clippy::too_many_arguments, reason = "all that is known of a change")]
    fn begin<V: Entry>(
        &mut self,
        now: Now,
        at: At,
        place: Option<u32>,
        next: Option<Arc<V>>,
        held: Cores,
        asker: Asker,
        out: &mut Effects,
    ) {
        if self.is_store_stuck {
            // It could neither be made nor given up in time, and its client would wait in vain.
            return Self::answer(asker, Err(Refusal::StoreStuck), out);
        }
        let Some(shard) = self.shards[at.shard.0 as usize].as_deref_mut() else { return };
        let current = place.and_then(|place| V::table(shard).slot(place)).map(|slot| &slot.entry);
        let Some(known) = next.as_ref().or(current) else { return };
        let name = V::name_of(Arc::clone(known));
        let changed = next.as_ref().or(current).map(|entry| entry.changed());
        let (Some(changed), false) = (changed, self.changing.is_full()) else {
            return Self::answer(asker, Err(Refusal::Overloaded), out);
        };
        shard.number += 1;
        let number = shard.number;
        let deadline = now.mono.after(self.config.change_timeout);
        let holding = held.others(self.core, self.cores).count() as u16;
        let pending = Pending {
            at,
            name: name.clone(),
            next: V::answer(next.clone()),
            changed,
            asker,
            holding,
            held,
            is_creation: place.is_none(),
            is_persisting: false,
            deadline,
            queue: Vec::new(),
        };
        let is_new = place.is_none();
        let Some(ticket) = self.changing.insert(pending) else { return };
        match (place, next) {
            (Some(place), _) => {
                if let Some(slot) = V::table_mut(shard).slot_mut(place) {
                    slot.change = place_of(ticket);
                }
            }
            (None, Some(entry)) => {
                shard.absences(V::KIND).announced();
                V::table_mut(shard).insert(Slot::new(at.hash, entry, held, place_of(ticket), false));
                self.rooms[V::KIND as usize].held += 1;
            }
            (None, None) => debug_assert!(false, "what is absent is not removed"),
        }
        self.next_due = self.next_due.min(deadline);
        #[cfg(test)]
        let holding = if self.has_flaw(super::Flaw::NoWait) { 0 } else { holding };
        if holding == 0 {
            self.released(now, ticket, out);
        }
        for to in held.others(self.core, self.cores) {
            self.invalidations += 1;
            send(out, to, Frame::Invalidate { ticket, shard: at.shard, number, is_new, name: name.clone() });
        }
    }

    /// A core let go of an entry.
    pub(super) fn let_go(&mut self, now: Now, ticket: u64, out: &mut Effects) {
        let Some(pending) = self.changing.get_mut(ticket) else { return };
        pending.holding = pending.holding.saturating_sub(1);
        if pending.holding == 0 && !pending.is_persisting {
            self.released(now, ticket, out);
        }
    }

    /// Nobody holds the entry: it is written down, or changed at once.
    fn released(&mut self, now: Now, ticket: u64, out: &mut Effects) {
        if !self.config.is_durable {
            return self.finish(now, ticket, out);
        }
        let Some(pending) = self.changing.get_mut(ticket) else { return };
        let is_configured = match &pending.next {
            Answer::Server(entry) => entry.as_ref().is_some_and(|entry| entry.spec.is_configured),
            Answer::Endpoint(entry) => entry.as_ref().is_some_and(|entry| entry.is_configured),
        };
        if is_configured {
            // It is in the configuration; what was found out of it is found out anew.
            return self.finish(now, ticket, out);
        }
        pending.is_persisting = true;
        pending.deadline = now.mono.after(Duration::from_millis(limits::STORE_MS_MAX));
        self.next_due = self.next_due.min(pending.deadline);
        let record = match &pending.next {
            Answer::Server(Some(entry)) => Server::record(entry),
            Answer::Endpoint(Some(entry)) => Endpoint::record(entry),
            Answer::Server(None) | Answer::Endpoint(None) => {
                let Changed { id, version, .. } = pending.changed;
                Record::Removed { kind: pending.name.kind(), name: (*pending.name).into(), id, version }
            }
        };
        out.push(Effect::Persist { ticket, record });
    }

    /// How it went to write the record of [`Effect::Persist`].
    pub fn on_persisted(&mut self, now: Now, ticket: u64, stored: Stored, out: &mut Effects) {
        if !self.changing.get_mut(ticket).is_some_and(|pending| pending.is_persisting) {
            return;
        }
        let is_overdue = |pending: &Pending| pending.is_persisting && pending.deadline <= now.mono;
        // What was queued before the store stood still may go on as soon as it moves.
        self.is_store_stuck = self.is_store_stuck && self.changing.tickets(is_overdue).iter().any(|other| *other != ticket);
        match stored {
            Stored::Written => self.finish(now, ticket, out),
            Stored::NotWritten => self.abort(ticket, Refusal::NotStored, out),
            Stored::Unknown => self.abort(ticket, Refusal::Unknown, out),
        }
    }

    /// The second phase: changes the entry, answers who asked, and tells who held it or looked at it.
    fn finish(&mut self, now: Now, ticket: u64, out: &mut Effects) {
        let Some(mut pending) = self.changing.remove(ticket) else { return };
        let is_gone = pending.next.is_absent();
        let applied = match std::mem::replace(&mut pending.next, Answer::Server(None)) {
            Answer::Server(next) if pending.name.kind() == Kind::Server => self.put::<Server>(&pending, next),
            Answer::Endpoint(next) => self.put::<Endpoint>(&pending, next),
            Answer::Server(_) => None,
        };
        let Some((changed, name, told)) = applied else { return };
        Self::answer(pending.asker, Ok(changed), out);
        for to in told.others(self.core, self.cores) {
            send(out, to, Frame::Changed { name: name.clone() });
        }
        out.push(Effect::Changed { name });
        if is_gone {
            self.tell_gone(pending.name.kind(), changed.id, out);
        }
        for queued in pending.queue {
            if queued.until <= now.mono {
                Self::answer(queued.asker, Err(Refusal::Overloaded), out);
            } else {
                self.take_up(now, queued, pending.at, out);
            }
        }
    }

    /// An entry was removed. Of an endpoint every core hears: one that holds nothing of it may still have sessions there.
    fn tell_gone(&self, kind: Kind, id: ServerId, out: &mut Effects) {
        if kind == Kind::Server {
            return;
        }
        for to in (0..self.cores).map(CoreId).filter(|core| *core != self.core) {
            send(out, to, Frame::Gone { endpoint: id });
        }
        out.push(Effect::Gone { endpoint: id });
    }

    fn put<V: Entry>(&mut self, pending: &Pending, next: Option<Arc<V>>) -> Option<(Changed, Name, Cores)> {
        let shard = self.shards[pending.at.shard.0 as usize].as_deref_mut()?;
        let place = V::table(shard).place(pending.at.hash, &pending.name)?;
        let looked = V::table(shard).slot(place)?.holders;
        self.rooms[V::KIND as usize].held -= usize::from(next.is_none());
        let (changed, name) = shard.apply(pending.at.hash, Some(place), next)?;
        if pending.is_creation {
            shard.absences(V::KIND).settled(true);
        }
        Some((changed, name, pending.held.with(looked)))
    }

    /// Gives a change up. The entry is what it was; who let go of it may ask again.
    pub(super) fn abort(&mut self, ticket: u64, refusal: Refusal, out: &mut Effects) {
        let Some(pending) = self.changing.remove(ticket) else { return };
        match pending.name.kind() {
            Kind::Server => self.unmark::<Server>(&pending),
            Kind::Endpoint => self.unmark::<Endpoint>(&pending),
        }
        Self::answer(pending.asker, Err(refusal), out);
        // Nothing of these was handed to the store.
        let refusal = if refusal == Refusal::Unknown { Refusal::NotStored } else { refusal };
        for queued in pending.queue {
            Self::answer(queued.asker, Err(refusal), out);
        }
    }

    fn unmark<V: Entry>(&mut self, pending: &Pending) {
        let Some(shard) = self.shards[pending.at.shard.0 as usize].as_deref_mut() else { return };
        let Some(place) = V::table(shard).place(pending.at.hash, &pending.name) else { return };
        if !pending.is_creation {
            if let Some(slot) = V::table_mut(shard).slot_mut(place) {
                slot.change = 0;
            }
            return;
        }
        if let Some(slot) = V::table_mut(shard).remove(place) {
            self.rooms[V::KIND as usize].held -= 1;
            let absences = shard.absences(V::KIND);
            slot.holders.others(self.core, self.cores).for_each(|core| absences.insert(core));
            absences.settled(false);
        }
    }

    /// Gives up the changes whose time is over.
    pub(super) fn expire_changes(&mut self, now: Now, out: &mut Effects) {
        if now.mono < self.next_due {
            return;
        }
        for ticket in self.changing.tickets(|pending| pending.due(now.mono) <= now.mono || pending.deadline <= now.mono) {
            let Some(pending) = self.changing.get_mut(ticket) else { continue };
            let is_over = pending.deadline <= now.mono;
            if is_over && !pending.is_persisting {
                self.abort(ticket, Refusal::Overloaded, out);
                continue;
            }
            // What the store has in hand is not given up: nobody could say whether it was made. What waits behind it can be.
            self.is_store_stuck |= is_over;
            let refusal = if is_over { Refusal::StoreStuck } else { Refusal::Overloaded };
            for queued in pending.queue.extract_if(.., |queued| is_over || queued.until <= now.mono) {
                Self::answer(queued.asker, Err(refusal), out);
            }
        }
        self.next_due = self.changing.iter().map(|pending| pending.due(now.mono)).min().unwrap_or(Nanos::NEVER);
    }

    /// Puts in an entry of the configuration, unless one is there that may stay.
    pub(super) fn load<V: Entry>(&mut self, now: Now, mut entry: V) -> bool {
        let hash = self.placement.hash(entry.name());
        let Some(shard) = self.shards[self.placement.shard(hash).0 as usize].as_deref_mut() else { return false };
        let place = V::table(shard).place(hash, entry.name());
        let there = place.and_then(|place| V::table(shard).slot(place)).map(|slot| &*slot.entry);
        if there.is_some_and(|there| !entry.takes_the_place_of(there)) {
            return false;
        }
        let version = there.map_or(0, |there| there.changed().version).max(shard.version_removed) + 1;
        self.numbers += 1;
        let id = ServerId { node: self.node, number: self.numbers << CORE_BITS | u64::from(self.core.0) };
        entry.stamp(id, version, now.wall_ms, now.wall_ms);
        self.rooms[V::KIND as usize].held += usize::from(place.is_none());
        shard.apply(hash, place, Some(Arc::new(entry))).is_some()
    }

    /// Puts in an entry as it was kept.
    pub(super) fn put_back<V: Entry>(&mut self, entry: Arc<V>) -> bool {
        self.raise(entry.changed().id, 0);
        let hash = self.placement.hash(entry.name());
        let Some(shard) = self.shards[self.placement.shard(hash).0 as usize].as_deref_mut() else { return false };
        let place = V::table(shard).place(hash, entry.name());
        self.rooms[V::KIND as usize].held += usize::from(place.is_none());
        shard.apply(hash, place, Some(entry)).is_some()
    }

    /// Makes sure that this core gives out no id up to this one, and no new entry a version up to this one.
    pub fn raise(&mut self, id: ServerId, version: u64) {
        self.numbers = self.numbers.max(id.number >> CORE_BITS);
        for shard in self.shards.iter_mut().flatten() {
            shard.version_removed = shard.version_removed.max(version);
        }
    }
}
