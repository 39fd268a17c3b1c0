//! Whole histories under random schedules: cores that look up and change the same few servers and endpoints, lanes that are full and overtake
//! each other, near caches that are too small, a core that stands still. Every history must be linearizable for every entry.
//!
//! A failure names its seed; `run(seed, None)` runs it again.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU64;
use std::time::Duration;

use super::cluster::{Cluster, spec};
use super::history::{Did, Entry, Operation, Seen, To, is_linearizable};
use crate::base::ids::CoreId;
use crate::base::stored::Stored;
use crate::registry::{Change, Config, Effect, Effects, Flaw, Kind, Lookup, Refusal, Waiter};

/// What is looked up and changed. A server may be called what an endpoint is called.
const ENTRIES: [(Kind, &str); 5] =
    [(Kind::Server, "a"), (Kind::Server, "/mcp/x"), (Kind::Server, "io.example/c"), (Kind::Endpoint, "/mcp/x"), (Kind::Endpoint, "/mcp")];
/// What is bound to endpoints: a bit each.
const BOUND: [&str; 3] = ["a", "b", "io.example/c"];
const CLIENTS_PER_CORE: usize = 2;
const SCHEDULES: u64 = 1000;
const STEPS: usize = 1000;
/// Operations of one entry that are begun.
const OPERATIONS_MAX: usize = 110;

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// What a client is about.
#[derive(Clone, Copy)]
struct Doing {
    /// Place of the entry.
    at: usize,
    start: u64,
    /// What it asked for; the result is still to come.
    did: Did,
}

/// The servers of this set, in the order of their bits.
fn servers(said: u8) -> Box<[Box<str>]> {
    BOUND.iter().enumerate().filter(|(bit, _)| said & 1 << bit != 0).map(|(_, name)| Box::from(*name)).collect()
}

/// The same the other way round.
fn said(servers: &[Box<str>]) -> u8 {
    let bit = |name: &str| 1 << BOUND.iter().position(|bound| *bound == name).expect("no other is ever bound");
    servers.iter().fold(0, |said, name| said | bit(name))
}

/// A change, as the registry is asked for it.
fn change(kind: Kind, name: &str, to: To, if_version: Option<u64>) -> Change {
    let (path, server) = (Box::from(name), |bit: u8| Box::from(BOUND[bit.trailing_zeros() as usize]));
    let spec = |said: u8| {
        let mut spec = spec(name);
        spec.title = said.to_string().into();
        Box::new(spec)
    };
    let if_version = if_version.and_then(NonZeroU64::new);
    match (kind, to) {
        (Kind::Server, To::Made(said)) => Change::Register(spec(said)),
        (Kind::Server, To::Said(said)) => Change::Update { spec: spec(said), if_version },
        (Kind::Server, _) => Change::Unregister { name: path, if_version },
        (Kind::Endpoint, To::Made(said)) => Change::Create { path, servers: servers(said) },
        (Kind::Endpoint, To::Said(said)) => Change::Rebind { path, servers: servers(said), if_version },
        (Kind::Endpoint, To::Bound(bit)) => Change::Bind { path, server: server(bit), if_version },
        (Kind::Endpoint, To::Unbound(bit)) => Change::Unbind { path, server: server(bit), if_version },
        (Kind::Endpoint, To::Removed) => Change::Delete { path, if_version },
    }
}

/// What came of a look.
enum Looked {
    /// Whether it may be kept.
    Seen(Seen, bool),
    Full,
    Ask(Effect),
}

/// Looks an entry up.
fn look_up(cluster: &mut Cluster, core: usize, (kind, name): (Kind, &str), waiter: Waiter) -> Looked {
    let Cluster { registries, now, metrics, .. } = cluster;
    fn looked<V>(lookup: Lookup<'_, V>, entry: impl Fn(&V) -> Entry) -> Looked {
        match lookup {
            Lookup::Here(found) => Looked::Seen(Some(entry(found)), true),
            Lookup::Once(found) => Looked::Seen(Some(entry(found)), false),
            Lookup::Absent => Looked::Seen(None, true),
            Lookup::AbsentOnce => Looked::Seen(None, false),
            Lookup::Full => Looked::Full,
            Lookup::Ask { to, frame } => Looked::Ask(Effect::Send { to, lane: frame.lane(), frame }),
        }
    }
    match kind {
        Kind::Server => looked(registries[core].server(*now, name, waiter, metrics), |server| Entry {
            id: server.id.number,
            version: server.version,
            said: server.spec.title.parse().expect("a number was said"),
        }),
        Kind::Endpoint => looked(registries[core].endpoint(*now, name, waiter, metrics), |endpoint| Entry {
            id: endpoint.id.number,
            version: endpoint.version,
            said: said(&endpoint.servers),
        }),
    }
}

struct Run {
    chance: Chance,
    cluster: Cluster,
    clients: Vec<Option<Doing>>,
    /// Counts moments.
    moment: u64,
    histories: Vec<Vec<Operation>>,
    begun: Vec<usize>,
    stalled: Option<usize>,
    /// What each core made of an entry and keeps until it is told.
    views: HashMap<(usize, usize), Seen>,
    /// What is being written to the durable store: core and ticket.
    persisting: Vec<(usize, u64)>,
}

const PENDING: Seen = Some(Entry { id: u64::MAX, version: u64::MAX, said: 0 });

impl Run {
    fn new(seed: u64, flaw: Option<Flaw>) -> Self {
        let mut chance = Chance(seed);
        let cores = 2 + chance.below(3) as u16;
        let config = Config {
            shards: 1 + chance.below(4) as u16,
            near_names_max: 1 + chance.below(3),
            change_timeout: Duration::from_millis(20),
            // Sometimes there is room for fewer than there are names.
            servers_max: [2, 4, 100][chance.below(3)],
            endpoints_max: [1, 4, 100][chance.below(3)],
            is_durable: chance.below(3) == 0,
            ..Config::default()
        };
        let mut cluster = Cluster::new(cores, &config);
        cluster.registries.iter_mut().for_each(|registry| registry.flaw = flaw);
        cluster.lane_frames_max = 2 + chance.below(6);
        let clients = vec![None; usize::from(cores) * CLIENTS_PER_CORE];
        let histories = vec![Vec::new(); ENTRIES.len()];
        let begun = vec![0; ENTRIES.len()];
        Self { chance, cluster, clients, moment: 0, histories, begun, stalled: None, views: HashMap::new(), persisting: Vec::new() }
    }

    fn tick(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    fn note(&mut self, at: usize, start: u64, did: Did) {
        let end = self.tick();
        self.histories[at].push(Operation { start, end, did });
    }

    fn begin(&mut self, client: usize) {
        let at = self.chance.below(ENTRIES.len());
        if self.clients[client].is_some() || self.begun[at] >= OPERATIONS_MAX {
            return;
        }
        self.begun[at] += 1;
        let core = client / CLIENTS_PER_CORE;
        let start = self.tick();
        let (kind, name) = ENTRIES[at];
        let (said, bit) = (self.chance.below(1 << BOUND.len()) as u8, 1 << self.chance.below(BOUND.len()));
        let to = match (self.chance.below(10), kind) {
            (0, _) => To::Made(said),
            (1, Kind::Endpoint) => [To::Said(said), To::Said(said), To::Bound(bit), To::Unbound(bit)][self.chance.below(4)],
            (1, Kind::Server) => To::Said(said),
            (2, _) => To::Removed,
            (3, _) => return self.read_view(core, at, start),
            _ => {
                self.clients[client] = Some(Doing { at, start, did: Did::Read(PENDING) });
                return self.look(client);
            }
        };
        let names_version = !matches!(to, To::Made(_)) && self.chance.below(4) == 0;
        let if_version = names_version.then(|| 1 + self.chance.below(4) as u64);
        let did = Did::Change { to, if_version, result: Err(Refusal::Overloaded) };
        self.clients[client] = Some(Doing { at, start, did });
        self.cluster.start_change(core, change(kind, name, to, if_version), Waiter(client as u64));
        self.hear();
    }

    /// Reads what the core made of an entry, when it has something.
    fn read_view(&mut self, core: usize, at: usize, start: u64) {
        match self.views.get(&(core, at)) {
            Some(seen) => self.note(at, start, Did::Read(*seen)),
            None => self.begun[at] -= 1,
        }
    }

    fn look(&mut self, client: usize) {
        let (core, Some(doing)) = (client / CLIENTS_PER_CORE, self.clients[client]) else { return };
        match look_up(&mut self.cluster, core, ENTRIES[doing.at], Waiter(client as u64)) {
            Looked::Seen(seen, is_lasting) => {
                if is_lasting {
                    self.views.insert((core, doing.at), seen);
                }
                self.clients[client] = None;
                self.note(doing.at, doing.start, Did::Read(seen));
            }
            // As much as nothing: what was begun is not in the history.
            Looked::Full => self.clients[client] = None,
            Looked::Ask(effect) => {
                self.cluster.with(core, |_, _, _, out: &mut Effects| out.push(effect));
                self.hear();
            }
        }
    }

    /// Carries out what the registries want, in order.
    fn hear(&mut self) {
        while let Some(told) = self.cluster.told.pop_front() {
            match told.effect {
                Effect::Resume { waiter } => self.look(waiter.0 as usize),
                Effect::Unasked { waiter } => self.clients[waiter.0 as usize] = None,
                Effect::Done { waiter, result: got } => {
                    let Some(doing) = self.clients[waiter.0 as usize].take() else { panic!("answered twice") };
                    let Did::Change { to, if_version, .. } = doing.did else { panic!("a lookup is not done") };
                    self.note(doing.at, doing.start, Did::Change { to, if_version, result: got });
                }
                Effect::Invalidated { name } | Effect::Changed { name } => {
                    let is_it = |at: usize| ENTRIES[at] == (name.kind(), &*name);
                    self.views.retain(|(core, at), _| *core != told.core || !is_it(*at));
                }
                Effect::AbsencesInvalidated { kind, shard } => {
                    let placement = self.cluster.registries[0].placement();
                    let is_meant = |at: usize| ENTRIES[at].0 == kind && placement.shard(placement.hash(ENTRIES[at].1)) == shard;
                    self.views.retain(|(core, at), seen| *core != told.core || seen.is_some() || !is_meant(*at));
                }
                Effect::Persist { ticket, .. } => self.persisting.push((told.core, ticket)),
                Effect::Gone { .. } => {}
                Effect::AllChanged => self.views.retain(|(core, _), _| *core != told.core),
                other => panic!("{other:?}"),
            }
        }
    }

    fn persist(&mut self) {
        if self.persisting.is_empty() {
            return;
        }
        let at = self.chance.below(self.persisting.len());
        let (core, ticket) = self.persisting.swap_remove(at);
        let stored = match self.chance.below(16) {
            0 => Stored::NotWritten,
            1 => Stored::Unknown,
            _ => Stored::Written,
        };
        self.cluster.with(core, |registry, now, _, out| registry.on_persisted(now, ticket, stored, out));
    }

    fn step(&mut self) {
        match self.chance.below(100) {
            95..100 => self.persist(),
            0 => self.stalled = Some(self.chance.below(self.cluster.cores())),
            1..4 => self.stalled = None,
            4..10 => {
                self.cluster.now.mono = self.cluster.now.mono.after(Duration::from_millis(1));
                let core = self.chance.below(self.cluster.cores());
                if self.stalled != Some(core) {
                    self.cluster.with(core, |registry, now, metrics, out| registry.on_tick(now, metrics, out));
                }
            }
            10..40 => {
                let client = self.chance.below(self.clients.len());
                if self.stalled != Some(client / CLIENTS_PER_CORE) {
                    self.begin(client);
                }
            }
            _ => {
                let place = self.chance.below(self.cluster.lanes.len());
                if self.stalled != Some(place / 2 % self.cluster.cores()) {
                    self.cluster.deliver(place);
                }
            }
        }
        self.hear();
    }

    /// Lets everything end, and every core look at everything once more.
    fn end(&mut self) {
        self.stalled = None;
        for _ in 0..200 {
            self.cluster.settle();
            self.hear();
            self.persist();
            self.cluster.pass(Duration::from_millis(5));
            self.hear();
        }
        assert!(self.clients.iter().all(Option::is_none), "somebody waits for ever");
        let last = self.clients.len();
        self.clients.push(None);
        for (at, entry) in ENTRIES.into_iter().enumerate() {
            for core in 0..self.cluster.cores() {
                self.begun[at] += 1;
                let start = self.tick();
                self.read_view(core, at, start);
                // Whoever looks stands beside the clients: it is on this core.
                let (start, mut seen) = (self.tick(), None);
                while seen.is_none() {
                    match look_up(&mut self.cluster, core, entry, Waiter(last as u64)) {
                        Looked::Seen(found, _) => seen = Some(found),
                        Looked::Full => panic!("nothing else waits"),
                        Looked::Ask(effect) => {
                            self.cluster.with(core, |_, _, _, out: &mut Effects| out.push(effect));
                            self.cluster.settle();
                            self.hear();
                        }
                    }
                }
                self.note(at, start, Did::Read(seen.expect("it was found out")));
            }
        }
    }
}

/// What a schedule did: changes that were made, refused as overloaded or for want of room, made of what is bound to an endpoint, and names kept elsewhere that
/// were let go.
#[derive(Default, Debug)]
struct Tally {
    made: usize,
    overloaded: usize,
    full: usize,
    bound: usize,
    invalidations: u64,
    evictions: u64,
}

/// Runs a schedule. The entry whose history could not have been, and that history, if there is one.
fn run(seed: u64, flaw: Option<Flaw>, tally: &mut Tally) -> Result<(), (Kind, String)> {
    let mut run = Run::new(seed, flaw);
    (0..STEPS).for_each(|_| run.step());
    run.end();
    for registry in &run.cluster.registries {
        tally.invalidations += registry.invalidations();
        tally.evictions += registry.servers.entries.evictions() + registry.endpoints.entries.evictions();
    }
    for ((kind, name), history) in ENTRIES.iter().zip(&run.histories) {
        for operation in history {
            if let Did::Change { to, result, .. } = operation.did {
                tally.made += usize::from(result.is_ok());
                tally.overloaded += usize::from(result == Err(Refusal::Overloaded));
                tally.full += usize::from(result == Err(Refusal::Full));
                tally.bound += usize::from(*kind == Kind::Endpoint && result.is_ok() && !matches!(to, To::Made(_) | To::Removed));
            }
        }
        if !is_linearizable(history) {
            return Err((*kind, format!("seed {seed}, {kind:?} {name}: {history:?}")));
        }
    }
    for core in 0..run.cluster.cores() as u16 {
        let registry = &run.cluster.registries[usize::from(core)];
        assert!(registry.asked.iter().all(|asked| *asked == 0) && registry.owed.is_empty(), "seed {seed}: core {} owes", CoreId(core));
        assert!(registry.changing.iter().next().is_none(), "seed {seed}: a change was left behind");
        let held = registry.shards.iter().flatten().map(|shard| [shard.servers.len(), shard.endpoints.len()]);
        let held = held.fold([0, 0], |all, one| [all[0] + one[0], all[1] + one[1]]);
        assert_eq!(registry.rooms.each_ref().map(|room| room.held), held, "seed {seed}");
        assert!(registry.rooms.iter().all(|room| room.held <= room.held_max), "seed {seed}: more than there may be");
    }
    Ok(())
}

#[test]
fn every_history_is_linearizable() {
    let mut tally = Tally::default();
    for seed in 0..SCHEDULES {
        if let Err((_, history)) = run(seed, None, &mut tally) {
            panic!("{history}");
        }
    }
    let Tally { made, overloaded, full, bound, invalidations, evictions } = tally;
    let is_wild = made > 1000 && overloaded > 100 && full > 100 && bound > 500 && invalidations > 1000 && evictions > 500;
    assert!(is_wild, "the schedules are too tame: {tally:?}");
}

/// Whether some history of a server and some history of an endpoint could not have been.
fn is_needed(flaw: Flaw) -> bool {
    let mut wrong = HashSet::new();
    (0..SCHEDULES).any(|seed| {
        wrong.extend(run(seed, Some(flaw), &mut Tally::default()).err().map(|(kind, _)| kind));
        wrong.len() == 2
    })
}

#[test]
fn without_waiting_for_the_holders_a_history_is_not() {
    assert!(is_needed(Flaw::NoWait));
}

#[test]
fn without_change_numbers_a_history_is_not() {
    assert!(is_needed(Flaw::NoNumbers));
}
