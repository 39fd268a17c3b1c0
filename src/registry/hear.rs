//! What other cores ask and answer, what could not be sent, and what time brings.

use std::time::Duration;

use super::change::{Kind, Refusal};
use super::cores::Cores;
use super::entry::{Endpoint, Server, ServerId};
use super::frame::{Answer, Effect, Effects, Frame, Name};
use super::kinds::Entry;
use super::stats::Level;
use super::write::{Asker, At};
use super::{Arrival, Registry, Waiting, send};
use crate::base::ids::{CoreId, ShardId};
use crate::base::limits;
use crate::base::metrics::{CoreMetrics, Counter, Gauge};
use crate::base::time::{Nanos, Now};

/// Of so many things that are handled one is timed.
const TIMED_EACH: u32 = 16;
/// How often the shards are looked at.
const LOOK_EACH: Duration = Duration::from_millis(250);
/// How often it is tried to send what found no room.
const TRY_EACH: Duration = Duration::from_millis(1);
/// How long an answer that may not be kept waits for who asked.
const ARRIVAL_MAX: Duration = Duration::from_secs(1);

/// What is still to be told to one core, since its lane was full.
#[derive(Debug, Default)]
pub(super) struct Notices {
    names: Vec<Name>,
    /// Endpoints that are no more.
    gone: Vec<ServerId>,
    /// They were too many to be kept.
    is_all: bool,
}

impl Notices {
    fn is_empty(&self) -> bool {
        !self.is_all && self.names.is_empty() && self.gone.is_empty()
    }

    /// Keeps a notice of a change until there is room for it.
    fn owe(&mut self, name: Name) {
        if self.is_all || self.names.iter().any(|known| known.kind() == name.kind() && **known == *name) {
            return;
        }
        if self.names.len() < limits::NOTICES_OWED_MAX { self.names.push(name) } else { self.be_all() }
    }

    /// The same of an endpoint that is no more.
    fn owe_gone(&mut self, endpoint: ServerId) {
        if self.is_all {
            return;
        }
        if self.gone.len() < limits::NOTICES_OWED_MAX { self.gone.push(endpoint) } else { self.be_all() }
    }

    fn be_all(&mut self) {
        *self = Self { is_all: true, ..Self::default() };
    }
}

impl Registry {
    /// Takes a frame of another core.
    pub fn on_frame(&mut self, now: Now, from: CoreId, frame: Frame, out: &mut Effects) {
        match frame {
            Frame::Find { ticket, kind, sent, hash, name } => {
                let at = At { hash, shard: self.placement.shard(hash) };
                self.timed(now, sent, at.shard, |registry| match kind {
                    Kind::Server => registry.reply::<Server>(from, ticket, at, &name, out),
                    Kind::Endpoint => registry.reply::<Endpoint>(from, ticket, at, &name, out),
                });
            }
            Frame::Found { ticket, is_lasting, number, answer } => self.found(now, ticket, is_lasting, number, answer, out),
            Frame::Change { ticket, sent, change } => {
                let asker = Asker::There { core: from, ticket };
                // Whoever asked so long ago has been told enough bad news by then, and every change that is not made helps.
                if now.mono > sent.after(self.config.change_timeout) {
                    return Self::answer(asker, Err(Refusal::Overloaded), out);
                }
                let at = self.at(change.name());
                self.timed(now, sent, at.shard, |registry| registry.make(now, change, at, asker, out));
            }
            Frame::Done { ticket, result } => {
                if let Some(Waiting { waiter, .. }) = self.redeem(ticket) {
                    out.push(Effect::Done { waiter, result });
                }
            }
            Frame::Invalidate { ticket, shard, number, is_new, name } => {
                if is_new {
                    self.forget_absences(name.kind(), shard, out);
                }
                self.invalidate(shard, number, name, out);
                send(out, from, Frame::Invalidated { ticket });
            }
            Frame::Invalidated { ticket } => self.let_go(now, ticket, out),
            Frame::Changed { name } => out.push(Effect::Changed { name }),
            Frame::Gone { endpoint } => out.push(Effect::Gone { endpoint }),
            Frame::AllChanged => out.push(Effect::AllChanged),
            Frame::List { ticket, deadline, query } => self.asked_for_list(now, from, ticket, deadline, query, out),
            Frame::Listed { ticket, part } => self.listed(ticket, part, out),
            Frame::Alarmed { shards } => {
                if let Some(alarmed) = self.alarmed.get_mut(from.index()) {
                    *alarmed = shards;
                }
            }
        }
    }

    pub(super) fn at(&self, name: &str) -> At {
        let hash = self.placement.hash(name);
        At { hash, shard: self.placement.shard(hash) }
    }

    /// Does what was asked of a shard at `sent`, and notes how long it waited and took.
    pub(super) fn timed(&mut self, now: Now, sent: Nanos, shard: ShardId, handle: impl FnOnce(&mut Self)) {
        self.handled = self.handled.wrapping_add(1);
        let clock = self.config.clock.filter(|_| self.handled.is_multiple_of(TIMED_EACH));
        let start = clock.map(|clock| clock());
        handle(self);
        let Some(home) = self.shards.get_mut(shard.0 as usize).and_then(Option::as_mut) else { return };
        home.load.waited(sent, now.mono);
        if let (Some(clock), Some(start)) = (clock, start) {
            home.load.handled(now.mono, clock().0.saturating_sub(start.0));
        }
    }

    /// Answers a lookup of another core, and notes that it may keep the answer, or that it looked at what is being changed.
    fn reply<V: Entry>(&mut self, from: CoreId, ticket: u64, at: At, name: &str, out: &mut Effects) {
        let Some(shard) = self.shards[at.shard.0 as usize].as_deref_mut() else {
            debug_assert!(false, "only the owner is asked");
            let answer = V::answer(None);
            return send(out, from, Frame::Found { ticket, is_lasting: false, number: 0, answer });
        };
        shard.load.reads += 1;
        let number = shard.number;
        let place = V::table(shard).place(at.hash, name);
        let (is_lasting, entry) = match place.and_then(|place| V::table_mut(shard).slot_mut(place)) {
            Some(slot) => {
                slot.holders.insert(from);
                (slot.change == 0, slot.is_visible.then(|| slot.entry.clone()))
            }
            None => {
                shard.absences(V::KIND).insert(from);
                (true, None)
            }
        };
        send(out, from, Frame::Found { ticket, is_lasting, number, answer: V::answer(entry) });
    }

    /// The answer to a lookup.
    fn found(&mut self, now: Now, ticket: u64, is_lasting: bool, number: u64, answer: Answer, out: &mut Effects) {
        let Some(Waiting { waiter, hash, name, .. }) = self.redeem(ticket) else { return };
        let at = At { hash, shard: self.placement.shard(hash) };
        let is_old = number < self.seen[at.shard.0 as usize];
        #[cfg(test)]
        let is_old = is_old && !self.has_flaw(super::Flaw::NoNumbers);
        if is_lasting && !is_old {
            match answer {
                Answer::Server(Some(entry)) => self.servers.entries.put(at.hash, &name, entry),
                Answer::Endpoint(Some(entry)) => self.endpoints.entries.put(at.hash, &name, entry),
                Answer::Server(None) => self.servers.absent.put(at.hash, &name, name.as_str().into()),
                Answer::Endpoint(None) => self.endpoints.absent.put(at.hash, &name, name.as_str().into()),
            }
        } else {
            if self.arrivals.len() >= limits::LOOKUPS_WAITING_MAX {
                // Those who did not look again ask again.
                self.arrivals.clear();
            }
            self.arrivals.insert((waiter, at.hash), Arrival { answer, name, since: now.mono });
        }
        out.push(Effect::Resume { waiter });
    }

    /// Lets go of every absent name of a shard.
    fn forget_absences(&mut self, kind: Kind, shard: ShardId, out: &mut Effects) {
        let placement = &self.placement;
        let of_shard = |hash| placement.shard(hash) == shard;
        match kind {
            Kind::Server => self.servers.absent.remove_all(of_shard),
            Kind::Endpoint => self.endpoints.absent.remove_all(of_shard),
        }
        if !self.arrivals.is_empty() {
            // Who waits for one of them may have found the same in what was kept, and left it.
            let is_meant = |hash, answer: &Answer| answer.kind() == kind && answer.is_absent() && of_shard(hash);
            self.arrivals.retain(|(_, hash), arrival| !is_meant(*hash, &arrival.answer));
        }
        out.push(Effect::AbsencesInvalidated { kind, shard });
    }

    /// Lets go of an entry.
    fn invalidate(&mut self, shard: ShardId, number: u64, name: Name, out: &mut Effects) {
        let hash = self.placement.hash(&name);
        match name.kind() {
            Kind::Server => self.servers.entries.remove(hash, &name),
            Kind::Endpoint => self.endpoints.entries.remove(hash, &name),
        }
        if !self.arrivals.is_empty() {
            self.arrivals.retain(|(_, arrived), arrival| *arrived != hash || arrival.name != *name);
        }
        if let Some(seen) = self.seen.get_mut(shard.0 as usize) {
            *seen = number.max(*seen);
        }
        out.push(Effect::Invalidated { name });
    }

    /// Takes back a frame for which its lane had no room.
    pub fn on_unsent(&mut self, to: CoreId, frame: Frame, out: &mut Effects) {
        match frame {
            Frame::Find { ticket, .. } => {
                if let Some(Waiting { waiter, .. }) = self.redeem(ticket) {
                    out.push(Effect::Unasked { waiter });
                }
            }
            Frame::Change { ticket, .. } => {
                if let Some(Waiting { waiter, .. }) = self.redeem(ticket) {
                    out.push(Effect::Done { waiter, result: Err(Refusal::Overloaded) });
                }
            }
            Frame::Invalidate { ticket, .. } => self.abort(ticket, Refusal::Overloaded, out),
            Frame::List { ticket, .. } => self.listed(ticket, None, out),
            Frame::Changed { name } => self.notices[to.index()].owe(name),
            Frame::Gone { endpoint } => self.notices[to.index()].owe_gone(endpoint),
            Frame::AllChanged => self.notices[to.index()].be_all(),
            Frame::Alarmed { .. } => self.unaware.push(to),
            frame @ (Frame::Found { .. } | Frame::Done { .. } | Frame::Invalidated { .. } | Frame::Listed { .. }) => {
                self.owed.push((to, frame));
            }
        }
    }

    /// Time passes: called at least every 100 ms, and at [`Self::next_deadline`].
    pub fn on_tick(&mut self, now: Now, metrics: &CoreMetrics, out: &mut Effects) {
        self.next_try = now.mono.after(TRY_EACH);
        out.extend(self.owed.drain(..).map(|(to, frame)| Effect::Send { to, lane: frame.lane(), frame }));
        for (to, notices) in (0..).map(CoreId).zip(&mut self.notices) {
            if std::mem::take(&mut notices.is_all) {
                send(out, to, Frame::AllChanged);
            }
            notices.names.drain(..).for_each(|name| send(out, to, Frame::Changed { name }));
            notices.gone.drain(..).for_each(|endpoint| send(out, to, Frame::Gone { endpoint }));
        }
        self.expire_changes(now, out);
        self.arrivals.retain(|_, arrival| now.mono.since(arrival.since) < ARRIVAL_MAX);
        self.go_on_with_lists(now, out);
        if now.mono >= self.next_look {
            self.next_look = now.mono.after(LOOK_EACH);
            self.look_at_shards(now);
            self.publish(metrics);
        }
        let shards = self.alarmed[self.core.index()];
        self.unaware.drain(..).for_each(|to| send(out, to, Frame::Alarmed { shards }));
    }

    /// Counts the shards that are alarmed; when their number is another than before, the other cores are to be told.
    fn look_at_shards(&mut self, now: Now) {
        let levels = self.shards.iter_mut().flatten().map(|shard| shard.load.level(now.mono));
        let alarmed = levels.filter(|level| *level == Level::Alarm).count() as u16;
        if std::mem::replace(&mut self.alarmed[self.core.index()], alarmed) != alarmed {
            let mut all = Cores::NONE;
            (0..self.cores).for_each(|core| all.insert(CoreId(core)));
            self.unaware = all.others(self.core, self.cores).collect();
        }
    }

    fn publish(&mut self, metrics: &CoreMetrics) {
        let [servers, endpoints] = [
            (self.servers.entries.len() + self.servers.absent.len(), self.servers.entries.evictions() + self.servers.absent.evictions()),
            (
                self.endpoints.entries.len() + self.endpoints.absent.len(),
                self.endpoints.entries.evictions() + self.endpoints.absent.evictions(),
            ),
        ];
        metrics.set(Gauge::NearNames, (servers.0 + endpoints.0) as u64);
        let (invalidations, evictions) = (self.invalidations, servers.1 + endpoints.1);
        metrics.add(Counter::Invalidations, invalidations - self.told.0);
        metrics.add(Counter::NearEvictions, evictions - self.told.1);
        self.told = (invalidations, evictions);
        let homes = || self.shards.iter().flatten();
        metrics.set(Gauge::Servers, homes().map(|shard| shard.servers.len() as u64).sum());
        metrics.set(Gauge::Endpoints, homes().map(|shard| shard.endpoints.len() as u64).sum());
        metrics.set(Gauge::ShardsAlarmed, u64::from(self.alarmed[self.core.index()]));
    }

    /// When [`Self::on_tick`] is due next; [`Nanos::NEVER`] when nothing waits for time.
    #[must_use]
    pub fn next_deadline(&self) -> Nanos {
        let has_owed = !self.owed.is_empty() || self.notices.iter().any(|notices| !notices.is_empty());
        let next_try = if has_owed { self.next_try } else { Nanos::NEVER };
        self.next_due.min(next_try).min(self.lists.next_due())
    }
}
