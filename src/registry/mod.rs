//! The registry: servers by name and endpoints by path, sharded over the cores, exact on every one of them.
//!
//! A name hashes to a shard, the owner table names the shard's core, and only that core writes the shard. A core looks into its own shards
//! directly. What it asked other cores for it keeps in a bounded near cache, absent names too; what is not there costs one hop. Nothing
//! here waits or locks: a lookup that must ask says so, and who asked is named again when the reply has come.
//!
//! # Changes
//!
//! A change goes to the owner. When no other core can hold the entry it is made at once. Else it has two phases. The owner marks the entry
//! as changing, counts the shard's change number up and asks every core that may hold it to let go. Meanwhile lookups go on and give the
//! old value; who asks from another core is told not to keep it, and is remembered. When all have let go, the entry is changed, the asker
//! is answered, and all who held it or looked at it are told. If a question cannot be sent, or is not answered in time, nothing is changed and
//! the asker is told to try again.
//!
//! So a lookup that begins after a change was acknowledged never gives the old value, on any core. Replies may overtake questions and the
//! other way round: a value that was looked up before an invalidation may arrive after it. Therefore every value carries the shard's
//! change number, and a core keeps none that is older than the last invalidation it saw of that shard.
//!
//! One change of an entry is made at a time; up to [`limits::CHANGES_QUEUED_MAX`] wait behind it and are made in the order they came, and
//! what comes then is refused as overloaded.
//!
//! With a durable store a change is handed to it between the phases. From then on the store alone decides: the change is never given up, since
//! nobody could say that it was not made. A store that has one in hand for longer than [`limits::STORE_MS_MAX`] gets no more until it moves.
//!
//! # Invariants
//!
//! - an entry is in exactly one shard, and that shard is at exactly one core;
//! - the near cache never holds a name whose shard is at home on the same core;
//! - a core that holds an entry, or something made of it, is among the holders that the owner knows, or the owner awaits its letting go;
//! - every question has a ticket, and its reply names who waits exactly once;
//! - no name has the same version twice, and no id is given out twice;
//! - each core takes on no more entries than its part of what the node may have.

mod change;
mod cores;
mod entry;
mod frame;
mod hear;
mod kinds;
mod list;
mod near;
mod place;
mod shard;
mod stats;
mod table;
mod tag;
#[cfg(test)]
mod tests;
mod tickets;
mod write;

use std::sync::Arc;
use std::time::Duration;

use compact_str::CompactString;
use hashbrown::HashMap;

use crate::base::ids::{CoreId, NodeId, ShardId};
use crate::base::limits;
use crate::base::metrics::{CoreMetrics, Counter};
use crate::base::time::{Nanos, Now};
use hear::Notices;
use kinds::Entry;
use near::Near;
use shard::Shard;
use tickets::Tickets;
use write::{Asker, At, Pending};

pub use change::{Change, Changed, Configured, Kind, Record, Refusal, problem_with_name, problem_with_path};
pub use entry::{Catalog, Endpoint, Fronted, Item, Server, ServerId, ServerSpec, Source, State};
pub use frame::{Answer, Effect, Effects, Frame, Name, Waiter};
pub use list::{Filter, Page, Part, Query};
pub use place::{OwnerTable, Placement};
pub use stats::{Level, ShardStats};

/// What the registry is told at start; the same on every core.
#[derive(Clone, Debug)]
pub struct Config {
    /// Number of shards, 1 to [`limits::SHARDS_MAX`].
    pub shards: u16,
    /// Names of each kind that a core's near cache holds.
    pub near_names_max: usize,
    /// Most servers of the node. Each core takes on its part of them: as large a part as it owns of the shards. What is there at start is
    /// taken in all the same.
    pub servers_max: usize,
    /// Most endpoints of the node, shared out in the same way.
    pub endpoints_max: usize,
    /// Time that those who hold an entry have to let go of it.
    pub change_timeout: Duration,
    /// Whether a change is made only after [`Effect::Persist`] was carried out.
    pub is_durable: bool,
    /// Reads the clock that [`Now::mono`] comes from, to take the time that handling takes. None: it is taken as nothing.
    pub clock: Option<fn() -> Nanos>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            shards: limits::SHARDS_DEFAULT,
            near_names_max: limits::NEAR_NAMES_DEFAULT,
            servers_max: limits::SERVERS_DEFAULT,
            endpoints_max: limits::ENDPOINTS_DEFAULT,
            change_timeout: Duration::from_millis(limits::CHANGE_MS_DEFAULT),
            is_durable: false,
            clock: None,
        }
    }
}

/// Answer to a lookup.
#[derive(Debug)]
pub enum Lookup<'a, V> {
    /// Known on this core. What is made of it may be kept until [`Effect::Invalidated`] or [`Effect::Changed`] names it.
    Here(&'a Arc<V>),
    /// This is the entry at this moment, but it is being changed: for this request only, nothing made of it may be kept.
    Once(&'a Arc<V>),
    /// There is none; known on this core, and may be kept like [`Self::Here`].
    Absent,
    /// There is none at this moment, for this request only.
    AbsentOnce,
    /// The owner must be asked: send the frame on the Ask lane. The waiter is named again by [`Effect::Resume`], or by [`Effect::Unasked`]
    /// when the frame was given back.
    Ask {
        /// The shard's core.
        to: CoreId,
        /// What to send.
        frame: Frame,
    },
    /// Too many questions wait for their reply; try again later.
    Full,
}

/// What one core keeps of one kind of other cores' entries.
#[derive(Debug)]
struct Foreign<V> {
    entries: Near<Arc<V>>,
    absent: Near<Box<str>>,
    /// The entry that [`Lookup::Once`] gave last.
    once: Option<Arc<V>>,
}

impl<V: Entry> Foreign<V> {
    fn new(config: &Config) -> Self {
        let (entries, absent) = (Near::new(config.near_names_max), Near::new(limits::ABSENT_NAMES_MAX));
        Self { entries, absent, once: None }
    }
}

/// A question on its way.
#[derive(Debug)]
struct Waiting {
    waiter: Waiter,
    owner: CoreId,
    /// Hash of the name that was asked for.
    hash: u64,
    /// The name that was looked up; empty for a change.
    name: CompactString,
}

/// An answer that may not be kept, until who waits for it has looked again.
#[derive(Debug)]
struct Arrival {
    answer: Answer,
    name: CompactString,
    since: Nanos,
}

/// One core's part of the registry.
#[derive(Debug)]
pub struct Registry {
    core: CoreId,
    cores: u16,
    node: NodeId,
    config: Config,
    placement: Placement,
    /// By shard number; `None` where another core is the owner.
    shards: Vec<Option<Box<Shard>>>,
    /// By kind: the entries of those shards.
    rooms: [Room; 2],
    servers: Foreign<Server>,
    endpoints: Foreign<Endpoint>,
    /// By shard number: the change number of the last invalidation seen.
    seen: Vec<u64>,
    /// Lookups and changes that other cores were asked for.
    waiting: Tickets<Waiting>,
    /// By core: how many of them it owes a reply to.
    asked: Vec<u16>,
    arrivals: HashMap<(Waiter, u64), Arrival>,
    /// Changes between their two phases.
    changing: Tickets<Pending>,
    /// Nothing is to be done about such a change earlier.
    next_due: Nanos,
    /// The durable store has had a change of this core in hand for too long.
    is_store_stuck: bool,
    /// What could not be sent is tried again no earlier.
    next_try: Nanos,
    /// How many ids were given out, or are never to be.
    numbers: u64,
    /// Replies for which there was no room yet: no more than others have questions here.
    owed: Vec<(CoreId, Frame)>,
    /// By core: what it is still to be told.
    notices: Vec<Notices>,
    /// By core: how many of its shards are alarmed, as far as is known here.
    alarmed: Vec<u16>,
    /// Cores that do not know yet how many are alarmed here.
    unaware: Vec<CoreId>,
    /// When the shards are looked at next.
    next_look: Nanos,
    lists: list::Lists,
    /// Invalidations sent so far.
    invalidations: u64,
    /// What the metrics were told last: invalidations, evictions.
    told: (u64, u64),
    /// Counts what is handled, so that every so manyth is timed.
    handled: u32,
    #[cfg(test)]
    flaw: Option<Flaw>,
}

/// How many entries of one kind this core has, those included that are only about to be, and how many it may have.
#[derive(Debug)]
struct Room {
    held: usize,
    held_max: usize,
}

impl Room {
    /// The part of `all` that falls to `core`. The parts of all cores together are `all`.
    fn new(all: usize, core: CoreId, placement: &Placement) -> Self {
        let owned = |is_counted: &dyn Fn(CoreId) -> bool| placement.owners().iter().filter(|(_, owner)| is_counted(*owner)).count();
        let shards = placement.owners().iter().count().max(1) as u128;
        let up_to = |shards_owned: usize| (all as u128 * shards_owned as u128 / shards) as usize;
        let (before, own) = (owned(&|owner| owner < core), owned(&|owner| owner == core));
        Self { held: 0, held_max: up_to(before + own) - up_to(before) }
    }

    const fn is_full(&self) -> bool {
        self.held >= self.held_max
    }
}

/// What tests leave out, to see that it is needed.
#[cfg(test)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Flaw {
    /// A change is made without waiting for those who hold the entry.
    NoWait,
    /// A value is kept whatever its change number.
    NoNumbers,
}

impl Registry {
    /// The part of `core`, one of `cores`, in the process `node`. It holds nothing yet.
    #[must_use]
    pub fn new(config: &Config, core: CoreId, cores: u16, node: NodeId) -> Self {
        let placement = Placement::new(config.shards, cores);
        let at_home = |owner| (owner == core).then(Box::default);
        Self {
            shards: placement.owners().iter().map(|(_, owner)| at_home(owner)).collect(),
            rooms: [config.servers_max, config.endpoints_max].map(|all| Room::new(all, core, &placement)),
            seen: vec![0; usize::from(config.shards)],
            asked: vec![0; usize::from(cores)],
            servers: Foreign::new(config),
            endpoints: Foreign::new(config),
            waiting: Tickets::new(limits::LOOKUPS_WAITING_MAX),
            arrivals: HashMap::new(),
            changing: Tickets::new(limits::CHANGES_WAITING_MAX),
            next_due: Nanos::NEVER,
            is_store_stuck: false,
            next_try: Nanos(0),
            numbers: 0,
            owed: Vec::new(),
            notices: (0..cores).map(|_| Notices::default()).collect(),
            alarmed: vec![0; usize::from(cores)],
            unaware: Vec::new(),
            next_look: Nanos(0),
            lists: list::Lists::default(),
            invalidations: 0,
            told: (0, 0),
            handled: 0,
            #[cfg(test)]
            flaw: None,
            config: config.clone(),
            core,
            cores,
            node,
            placement,
        }
    }

    /// Where names live.
    #[must_use]
    pub const fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Whether the shard of a name or path is at home on this core.
    #[must_use]
    pub fn is_at_home(&self, name: &str) -> bool {
        let shard = self.placement.shard(self.placement.hash(name));
        self.placement.owners().owner(shard) == self.core
    }

    /// Looks up a server by name. `waiter` names who looks, should the owner have to be asked.
    #[inline]
    pub fn server(&mut self, now: Now, name: &str, waiter: Waiter, metrics: &CoreMetrics) -> Lookup<'_, Server> {
        self.find(now, name, waiter, metrics)
    }

    /// Looks up an endpoint by path.
    #[inline]
    pub fn endpoint(&mut self, now: Now, path: &str, waiter: Waiter, metrics: &CoreMetrics) -> Lookup<'_, Endpoint> {
        self.find(now, path, waiter, metrics)
    }

    #[inline]
    fn find<V: Entry>(&mut self, now: Now, name: &str, waiter: Waiter, metrics: &CoreMetrics) -> Lookup<'_, V> {
        let hash = self.placement.hash(name);
        let shard = self.placement.shard(hash);
        if self.shards[shard.0 as usize].is_some() {
            let Some(home) = &mut self.shards[shard.0 as usize] else { return Lookup::Absent };
            home.load.reads += 1;
            return V::table(home).find(hash, name).map_or(Lookup::Absent, |slot| Lookup::Here(&slot.entry));
        }
        if let Some(at) = V::foreign(self).entries.place(hash, name) {
            metrics.count(Counter::NearHits);
            return Lookup::Here(V::foreign(self).entries.at(at));
        }
        self.find_far(now, hash, shard, name, waiter, metrics)
    }

    /// What is neither at home nor near.
    fn find_far<V: Entry>(
        &mut self,
        now: Now,
        hash: u64,
        shard: ShardId,
        name: &str,
        waiter: Waiter,
        metrics: &CoreMetrics,
    ) -> Lookup<'_, V> {
        if V::foreign(self).absent.place(hash, name).is_some() {
            metrics.count(Counter::NearHits);
            return Lookup::Absent;
        }
        if !self.arrivals.is_empty()
            && self.arrivals.get(&(waiter, hash)).is_some_and(|arrival| arrival.name == name && arrival.answer.kind() == V::KIND)
            && let Some(arrival) = self.arrivals.remove(&(waiter, hash))
        {
            let foreign = V::foreign(self);
            foreign.once = V::from_answer(arrival.answer);
            return foreign.once.as_ref().map_or(Lookup::AbsentOnce, Lookup::Once);
        }
        metrics.count(Counter::NearMisses);
        let to = self.placement.owners().owner(shard);
        let name = CompactString::new(name);
        match self.ticket(to, waiter, hash, name.clone()) {
            Some(ticket) => Lookup::Ask { to, frame: Frame::Find { ticket, kind: V::KIND, sent: now.mono, hash, name } },
            None => Lookup::Full,
        }
    }

    /// A ticket for a question to `owner`.
    fn ticket(&mut self, owner: CoreId, waiter: Waiter, hash: u64, name: CompactString) -> Option<u64> {
        debug_assert_ne!(owner, self.core, "what is at home is looked up directly");
        let asked = &mut self.asked[owner.index()];
        if usize::from(*asked) >= limits::lookups_per_owner(usize::from(self.cores)) {
            return None;
        }
        let ticket = self.waiting.insert(Waiting { waiter, owner, hash, name })?;
        *asked += 1;
        Some(ticket)
    }

    /// The question of this ticket is answered, or was not asked.
    fn redeem(&mut self, ticket: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(ticket)?;
        self.asked[waiting.owner.index()] -= 1;
        Some(waiting)
    }

    /// Forgets what is kept for a waiter that will not look again.
    pub fn forget(&mut self, waiter: Waiter) {
        if !self.arrivals.is_empty() {
            self.arrivals.retain(|(who, _), _| *who != waiter);
        }
    }

    /// Makes a change, or asks the owner to make it. How it went comes as [`Effect::Done`] with this waiter, at once when that is possible.
    pub fn change(&mut self, now: Now, change: Change, waiter: Waiter, out: &mut Effects) {
        let hash = self.placement.hash(change.name());
        let shard = self.placement.shard(hash);
        let owner = self.placement.owners().owner(shard);
        let refusal = change.problem().or_else(|| (change.is_registration() && self.is_alarmed()).then_some(Refusal::Overloaded));
        if let Some(refusal) = refusal {
            out.push(Effect::Done { waiter, result: Err(refusal) });
        } else if owner == self.core {
            self.timed(now, now.mono, shard, |registry| registry.make(now, change, At { hash, shard }, Asker::Here(waiter), out));
        } else {
            match self.ticket(owner, waiter, hash, CompactString::default()) {
                Some(ticket) => send(out, owner, Frame::Change { ticket, sent: now.mono, change }),
                None => out.push(Effect::Done { waiter, result: Err(Refusal::Overloaded) }),
            }
        }
    }

    /// Adds a server when its shard is at home here: what the configuration names, at start. Whether it did: what was kept of that name stays,
    /// unless this one is native or configured, and that one is not. Nobody is told, so it must be done before the first lookup.
    pub fn load_server(&mut self, now: Now, spec: ServerSpec) -> bool {
        let entry = Server { id: ServerId { node: self.node, number: 0 }, version: 0, created_ms: 0, updated_ms: 0, spec };
        self.load(now, entry)
    }

    /// Adds an endpoint when its shard is at home here, like [`Self::load_server`].
    pub fn load_endpoint(&mut self, now: Now, path: &str, servers: &[Box<str>]) -> bool {
        let id = ServerId { node: self.node, number: 0 };
        let servers = servers.into();
        self.load(now, Endpoint { path: path.into(), id, version: 0, servers, created_ms: 0, updated_ms: 0, is_configured: true })
    }

    /// Takes over what a durable store kept, as it is, when its shard is at home here. Whether it is. In place of what was there: what the
    /// configuration says is to be loaded afterwards. Must be done on every core, with every record, before the first lookup.
    pub fn restore(&mut self, record: Record) -> bool {
        match record {
            Record::Server(server) => self.put_back(server),
            Record::Endpoint(endpoint) => self.put_back(endpoint),
            Record::Removed { id, version, .. } => {
                self.raise(id, version);
                false
            }
        }
    }

    /// Figures of the shards at home here.
    pub fn shards(&mut self, now: Now) -> Vec<ShardStats> {
        let homes = self.placement.owners().iter().zip(&mut self.shards).filter_map(|((shard, _), home)| Some((shard, home.as_mut()?)));
        homes.map(|(shard, home)| home.stats(shard, now.mono)).collect()
    }

    /// Whether over half of all shards are alarmed, as far as the cores have told: then registrations are refused.
    #[must_use]
    pub fn is_alarmed(&self) -> bool {
        let alarmed: usize = self.alarmed.iter().map(|count| usize::from(*count)).sum();
        alarmed * 2 > usize::from(self.config.shards)
    }

    /// Invalidations sent to other cores so far.
    #[must_use]
    pub const fn invalidations(&self) -> u64 {
        self.invalidations
    }

    #[cfg(test)]
    fn has_flaw(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }
}

fn send(out: &mut Effects, to: CoreId, frame: Frame) {
    out.push(Effect::Send { to, lane: frame.lane(), frame });
}
