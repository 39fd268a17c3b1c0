//! Whole histories under random schedules: cores that look up and change the same few names, lanes that are full and overtake each other, near
//! caches that are too small, a core that stands still. Every history must be linearizable for every name.
//!
//! A failure names its seed; `run(seed, None)` runs it again.

use std::collections::HashMap;
use std::time::Duration;

use super::cluster::{Cluster, register, unregister, update};
use super::history::{Did, Operation, Seen, is_linearizable};
use crate::base::ids::CoreId;
use crate::registry::{Change, Config, Effect, Effects, Flaw, Lookup, Refusal, Waiter};

const NAMES: [&str; 3] = ["a", "b", "io.example/c"];
const CLIENTS_PER_CORE: usize = 2;
const SCHEDULES: u64 = 1000;
const STEPS: usize = 700;
/// Operations of one name that are begun.
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
    name: usize,
    start: u64,
    /// What it asked for; the result is still to come.
    did: Did,
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
    persisting: Vec<(usize, u32)>,
}

const PENDING: Seen = Some((u64::MAX, u64::MAX));

impl Run {
    fn new(seed: u64, flaw: Option<Flaw>) -> Self {
        let mut chance = Chance(seed);
        let cores = 2 + chance.below(3) as u16;
        let config = Config {
            shards: 1 + chance.below(4) as u16,
            near_names_max: 1 + chance.below(3),
            change_timeout: Duration::from_millis(20),
            is_durable: chance.below(3) == 0,
            ..Config::default()
        };
        let mut cluster = Cluster::new(cores, &config);
        cluster.registries.iter_mut().for_each(|registry| registry.flaw = flaw);
        cluster.lane_frames_max = 2 + chance.below(6);
        let clients = vec![None; usize::from(cores) * CLIENTS_PER_CORE];
        let histories = vec![Vec::new(); NAMES.len()];
        let begun = vec![0; NAMES.len()];
        Self { chance, cluster, clients, moment: 0, histories, begun, stalled: None, views: HashMap::new(), persisting: Vec::new() }
    }

    fn tick(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    fn note(&mut self, name: usize, start: u64, did: Did) {
        let end = self.tick();
        self.histories[name].push(Operation { start, end, did });
    }

    fn begin(&mut self, client: usize) {
        let name = self.chance.below(NAMES.len());
        if self.clients[client].is_some() || self.begun[name] >= OPERATIONS_MAX {
            return;
        }
        self.begun[name] += 1;
        let core = client / CLIENTS_PER_CORE;
        let start = self.tick();
        let if_version = (self.chance.below(4) == 0).then(|| 1 + self.chance.below(4) as u64);
        let overloaded = Err(Refusal::Overloaded);
        let (did, change) = match self.chance.below(10) {
            0 => (Did::Register(overloaded), register(NAMES[name])),
            1 => (Did::Update { if_version, result: overloaded }, update(NAMES[name], if_version)),
            2 => {
                let mut change = unregister(NAMES[name]);
                if let Change::Unregister { if_version: wanted, .. } = &mut change {
                    *wanted = if_version;
                }
                (Did::Unregister { if_version, result: overloaded }, change)
            }
            3 => return self.read_view(core, name, start),
            _ => {
                self.clients[client] = Some(Doing { name, start, did: Did::Read(PENDING) });
                return self.look(client);
            }
        };
        self.clients[client] = Some(Doing { name, start, did });
        self.cluster.start_change(core, change, Waiter(client as u64));
        self.hear();
    }

    /// Reads what the core made of an entry, when it has something.
    fn read_view(&mut self, core: usize, name: usize, start: u64) {
        match self.views.get(&(core, name)) {
            Some(seen) => self.note(name, start, Did::Read(*seen)),
            None => self.begun[name] -= 1,
        }
    }

    fn look(&mut self, client: usize) {
        let (core, Some(doing)) = (client / CLIENTS_PER_CORE, self.clients[client]) else { return };
        let (seen, is_lasting) = {
            let Cluster { registries, now, metrics, .. } = &mut self.cluster;
            match registries[core].server(*now, NAMES[doing.name], Waiter(client as u64), metrics) {
                Lookup::Here(server) => (Some((server.id.number, server.version)), true),
                Lookup::Once(server) => (Some((server.id.number, server.version)), false),
                Lookup::Absent => (None, true),
                Lookup::AbsentOnce => (None, false),
                // As much as nothing: what was begun is not in the history.
                Lookup::Full => return self.clients[client] = None,
                Lookup::Ask { to, frame } => {
                    let effect = Effect::Send { to, lane: frame.lane(), frame };
                    self.cluster.with(core, |_, _, _, out: &mut Effects| out.push(effect));
                    return self.hear();
                }
            }
        };
        if is_lasting {
            self.views.insert((core, doing.name), seen);
        }
        self.clients[client] = None;
        self.note(doing.name, doing.start, Did::Read(seen));
    }

    /// Carries out what the registries want, in order.
    fn hear(&mut self) {
        while let Some(told) = self.cluster.told.pop_front() {
            match told.effect {
                Effect::Resume { waiter } => self.look(waiter.0 as usize),
                Effect::Unasked { waiter } => self.clients[waiter.0 as usize] = None,
                Effect::Done { waiter, result: got } => {
                    let Some(doing) = self.clients[waiter.0 as usize].take() else { panic!("answered twice") };
                    let did = match doing.did {
                        Did::Register(_) => Did::Register(got),
                        Did::Update { if_version, .. } => Did::Update { if_version, result: got },
                        Did::Unregister { if_version, .. } => Did::Unregister { if_version, result: got },
                        Did::Read(_) => panic!("a lookup is not done"),
                    };
                    self.note(doing.name, doing.start, did);
                }
                Effect::Invalidated { name } | Effect::Changed { name } => {
                    self.views.retain(|(core, at), _| *core != told.core || NAMES[*at] != &*name);
                }
                Effect::AbsencesInvalidated { shard, .. } => {
                    let placement = self.cluster.registries[0].placement();
                    let of_shard = |name: &str| placement.shard(placement.hash(name)) == shard;
                    self.views.retain(|(core, at), seen| *core != told.core || seen.is_some() || !of_shard(NAMES[*at]));
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
        let ((core, ticket), is_written) = (self.persisting.swap_remove(at), self.chance.below(8) > 0);
        self.cluster.with(core, |registry, now, _, out| registry.on_persisted(now, ticket, is_written, out));
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
        for (name, text) in NAMES.into_iter().enumerate() {
            for core in 0..self.cluster.cores() {
                self.begun[name] += 1;
                let start = self.tick();
                if let Some(seen) = self.views.get(&(core, name)) {
                    self.note(name, start, Did::Read(*seen));
                }
                let start = self.tick();
                let seen = self.cluster.find(core, text);
                self.note(name, start, Did::Read(seen));
            }
        }
    }
}

/// What a schedule did: changes that were made, refused as overloaded, and names kept elsewhere that were let go.
#[derive(Default, Debug)]
struct Tally {
    made: usize,
    overloaded: usize,
    invalidations: u64,
    evictions: u64,
}

/// Runs a schedule. The history that could not have been, if there is one.
fn run(seed: u64, flaw: Option<Flaw>, tally: &mut Tally) -> Result<(), String> {
    let mut run = Run::new(seed, flaw);
    (0..STEPS).for_each(|_| run.step());
    run.end();
    for registry in &run.cluster.registries {
        tally.invalidations += registry.invalidations();
        tally.evictions += registry.servers.entries.evictions();
    }
    for (name, history) in NAMES.iter().zip(&run.histories) {
        for operation in history {
            match operation.did {
                Did::Register(result) | Did::Update { result, .. } | Did::Unregister { result, .. } => {
                    tally.made += usize::from(result.is_ok());
                    tally.overloaded += usize::from(result == Err(Refusal::Overloaded));
                }
                Did::Read(_) => {}
            }
        }
        if !is_linearizable(history) {
            return Err(format!("seed {seed}, {name}: {history:?}"));
        }
    }
    for core in 0..run.cluster.cores() as u16 {
        let registry = &run.cluster.registries[usize::from(core)];
        assert!(registry.asked.iter().all(|asked| *asked == 0) && registry.owed.is_empty(), "seed {seed}: core {} owes", CoreId(core));
        assert!(registry.changing.iter().next().is_none(), "seed {seed}: a change was left behind");
    }
    Ok(())
}

#[test]
fn every_history_is_linearizable() {
    let mut tally = Tally::default();
    for seed in 0..SCHEDULES {
        if let Err(history) = run(seed, None, &mut tally) {
            panic!("{history}");
        }
    }
    let Tally { made, overloaded, invalidations, evictions } = tally;
    assert!(made > 1000 && overloaded > 100 && invalidations > 1000 && evictions > 500, "the schedules are too tame: {tally:?}");
}

#[test]
fn without_waiting_for_the_holders_a_history_is_not() {
    assert!((0..SCHEDULES).any(|seed| run(seed, Some(Flaw::NoWait), &mut Tally::default()).is_err()));
}

#[test]
fn without_change_numbers_a_history_is_not() {
    assert!((0..SCHEDULES).any(|seed| run(seed, Some(Flaw::NoNumbers), &mut Tally::default()).is_err()));
}
