//! Registries of several cores joined by bounded lanes, in one thread and under virtual time.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::time::Duration;

use crate::base::ids::{CoreId, Lane, NodeId};
use crate::base::metrics::CoreMetrics;
use crate::base::time::{Nanos, Now};
use crate::registry::{
    Catalog, Change, Changed, Config, Effect, Effects, Frame, Lookup, Page, Query, Refusal, Registry, ServerSpec, Source, State, Waiter,
};

/// What a registry wanted done besides sending.
#[derive(Debug)]
pub struct Told {
    pub core: usize,
    pub effect: Effect,
}

pub struct Cluster {
    pub registries: Vec<Registry>,
    pub metrics: CoreMetrics,
    pub now: Now,
    /// By core from, core to, and lane.
    pub lanes: Vec<VecDeque<Frame>>,
    pub lane_frames_max: usize,
    pub told: VecDeque<Told>,
    pub frames_sent: usize,
}

pub fn spec(name: &str) -> ServerSpec {
    ServerSpec {
        name: name.into(),
        title: "A title".into(),
        description: "What it is for".into(),
        software_version: "1.0".into(),
        source: Source::Upstream("http://localhost:1/".into()),
        state: State::Online,
        is_configured: false,
        front: None,
        fronted: None,
        catalog: Catalog::default(),
    }
}

pub fn register(name: &str) -> Change {
    Change::Register(Box::new(spec(name)))
}

pub fn unregister(name: &str) -> Change {
    Change::Unregister { name: name.into(), if_version: None }
}

pub fn update(name: &str, if_version: Option<u64>) -> Change {
    Change::Update { spec: Box::new(spec(name)), if_version: if_version.and_then(NonZeroU64::new) }
}

pub const WAITER: Waiter = Waiter(7);

impl Cluster {
    pub fn new(cores: u16, config: &Config) -> Self {
        Self {
            registries: (0..cores).map(|core| Registry::new(config, CoreId(core), cores, NodeId(1))).collect(),
            metrics: CoreMetrics::default(),
            now: Now { mono: Nanos(1), wall_ms: 1_800_000_000_000 },
            lanes: (0..cores as usize * cores as usize * 2).map(|_| VecDeque::new()).collect(),
            lane_frames_max: usize::MAX,
            told: VecDeque::new(),
            frames_sent: 0,
        }
    }

    pub fn cores(&self) -> usize {
        self.registries.len()
    }

    /// The place of a lane. Its pair is (place / 2 / cores, place / 2 % cores).
    pub fn lane(&self, from: usize, to: usize, lane: Lane) -> usize {
        (from * self.cores() + to) * 2 + usize::from(lane == Lane::Reply)
    }

    /// Calls a registry and carries out what it wants.
    pub fn with(&mut self, core: usize, call: impl FnOnce(&mut Registry, Now, &CoreMetrics, &mut Effects)) {
        let mut out = Effects::new();
        call(&mut self.registries[core], self.now, &self.metrics, &mut out);
        self.carry_out(core, out);
    }

    fn carry_out(&mut self, core: usize, out: Effects) {
        for effect in out {
            let Effect::Send { to, lane, frame } = effect else {
                self.told.push_back(Told { core, effect });
                continue;
            };
            assert!(to.index() != core && lane == frame.lane());
            self.frames_sent += 1;
            let place = self.lane(core, to.index(), lane);
            if self.lanes[place].len() < self.lane_frames_max {
                self.lanes[place].push_back(frame);
            } else {
                let mut out = Effects::new();
                self.registries[core].on_unsent(to, frame, &mut out);
                self.carry_out(core, out);
            }
        }
    }

    /// Takes one frame out of a lane and hands it over. False: there is none.
    pub fn deliver(&mut self, place: usize) -> bool {
        let Some(frame) = self.lanes[place].pop_front() else { return false };
        let (from, to) = (place / 2 / self.cores(), place / 2 % self.cores());
        self.with(to, |registry, now, _, out| registry.on_frame(now, CoreId(from as u16), frame, out));
        true
    }

    /// Delivers what there is until there is nothing.
    pub fn settle(&mut self) {
        while (0..self.lanes.len()).any(|place| self.deliver(place)) {}
    }

    pub fn pass(&mut self, duration: Duration) {
        self.now.mono = self.now.mono.after(duration);
        self.now.wall_ms += duration.as_millis() as u64;
        for core in 0..self.cores() {
            self.with(core, |registry, now, metrics, out| registry.on_tick(now, metrics, out));
        }
    }

    /// A lookup of a server, with all that must be carried for it. Id and version; none when it is absent.
    pub fn find(&mut self, core: usize, name: &str) -> Option<(u64, u64)> {
        for _ in 0..3 {
            let ask = match self.registries[core].server(self.now, name, WAITER, &self.metrics) {
                Lookup::Here(server) | Lookup::Once(server) => return Some((server.id.number, server.version)),
                Lookup::Absent | Lookup::AbsentOnce => return None,
                Lookup::Full => panic!("nothing else waits"),
                Lookup::Ask { to, frame } => Effect::Send { to, lane: frame.lane(), frame },
            };
            self.carry_out(core, vec![ask]);
            self.settle();
            self.told.retain(|told| !matches!(told.effect, Effect::Resume { waiter: WAITER }));
        }
        panic!("a lookup must be decided by one hop");
    }

    pub fn start_change(&mut self, core: usize, change: Change, waiter: Waiter) {
        self.with(core, |registry, now, _, out| registry.change(now, change, waiter, out));
    }

    /// How a change went, if it is over.
    pub fn done(&mut self, waiter: Waiter) -> Option<Result<Changed, Refusal>> {
        let at = self.told.iter().position(|told| matches!(told.effect, Effect::Done { waiter: who, .. } if who == waiter))?;
        match self.told.remove(at)?.effect {
            Effect::Done { result, .. } => Some(result),
            _ => None,
        }
    }

    /// A change with all that must be carried for it.
    pub fn change(&mut self, core: usize, change: Change) -> Result<Changed, Refusal> {
        self.start_change(core, change, WAITER);
        self.settle();
        self.done(WAITER).expect("it is over")
    }

    pub fn list(&mut self, core: usize, query: Query) -> Result<Page, Refusal> {
        self.with(core, |registry, now, _, out| registry.list(now, query, WAITER, out));
        for _ in 0..10_000 {
            self.settle();
            let is_listed = |told: &Told| matches!(told.effect, Effect::Listed { .. });
            if let Some(at) = self.told.iter().position(is_listed)
                && let Some(Told { effect: Effect::Listed { result, .. }, .. }) = self.told.remove(at)
            {
                return result;
            }
            self.pass(Duration::from_micros(100));
        }
        panic!("a list comes to an end");
    }

    /// The core that owns a name.
    pub fn owner(&self, name: &str) -> usize {
        let placement = self.registries[0].placement();
        placement.owners().owner(placement.shard(placement.hash(name))).index()
    }

    /// Names of servers that a core told of: `true` for changes, `false` for invalidations.
    pub fn take_notices(&mut self) -> Vec<(usize, bool, String)> {
        let notice = |told: Told| match told.effect {
            Effect::Changed { name } => Some((told.core, true, name.to_string())),
            Effect::Invalidated { name } => Some((told.core, false, name.to_string())),
            Effect::AllChanged => Some((told.core, true, "*".to_owned())),
            _ => None,
        };
        self.told.drain(..).filter_map(notice).collect()
    }
}
