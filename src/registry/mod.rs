//! The registry: which servers a client sees at an endpoint, sharded over the cores.
//!
//! A name hashes to a shard, the owner table names the shard's core, and only that core writes the shard. Every core keeps a
//! bounded near cache of what it asked for; what is not in it costs one hop to the owner. A core that owns the shard looks
//! into it directly. Nothing here waits or locks: a lookup that must ask says so, and the one who asked is named again when
//! the reply has come.
//!
//! Invariants:
//! - an entry is in exactly one shard, and that shard is at exactly one core;
//! - the near cache never holds a name whose shard is at home on the same core;
//! - every Ask has a waiter in `waiting`, and its Reply names that waiter once.

mod binding;
mod near;
mod place;
mod shard;

pub use binding::{Binding, Endpoint, ServerId};
pub use place::{OwnerTable, Placement};

use crate::base::ids::{ConnId, CoreId};
use crate::base::limits;
use crate::base::metrics::{CoreMetrics, Counter};
use hashbrown::HashMap;
use near::Near;
use shard::Shard;
use std::rc::Rc;

/// What the registry is told at start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Number of shards, 1 to [`limits::SHARDS_MAX`].
    pub shards: u16,
    /// Names each core's near cache holds.
    pub near_names_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { shards: limits::SHARDS_DEFAULT, near_names_max: limits::NEAR_NAMES_DEFAULT }
    }
}

/// Core-to-core frames of the registry.
#[derive(Debug)]
pub enum Frame {
    /// Ask: what is bound at `path`?
    Lookup {
        /// Comes back with the reply.
        ticket: u32,
        /// The endpoint's path.
        path: Box<str>,
    },
    /// Reply to [`Frame::Lookup`].
    Found {
        /// The ticket of the Ask.
        ticket: u32,
        /// The path asked for.
        path: Box<str>,
        /// What is bound there; `None` when nothing is.
        binding: Option<Binding>,
    },
}

/// Answer to [`Registry::route`].
#[derive(Debug)]
pub enum Route {
    /// Known on this core.
    Here(Rc<Binding>),
    /// The owner must be asked: send the frame on the Ask lane; the waiter is named again by [`Registry::on_frame`].
    Ask {
        /// The shard's core.
        to: CoreId,
        /// What to send.
        frame: Frame,
    },
    /// Nothing is bound there.
    Absent,
    /// Too many lookups wait for their reply; try again later.
    Full,
}

/// What follows from a frame.
#[derive(Debug)]
pub enum Next {
    /// Send this on the Reply lane to the core that asked.
    Reply(Frame),
    /// The lookup of this waiter is decided: route it again.
    Resume(ConnId),
    /// Nothing: the reply came for one who waits no longer.
    Nothing,
}

/// One core's part of the registry.
#[derive(Debug)]
pub struct Registry {
    core: CoreId,
    placement: Placement,
    /// By shard number; `None` where another core is the owner.
    shards: Vec<Option<Shard>>,
    near: Near<Rc<Binding>>,
    /// Names that the owner said are not bound. Apart from `near`, so that made-up paths evict only each other.
    absent: Near<()>,
    waiting: HashMap<u32, ConnId>,
    next_ticket: u32,
}

impl Registry {
    /// Builds core `core`'s part and registers those of `endpoints` whose shards are at home there.
    #[must_use]
    pub fn new(config: &Config, core: CoreId, cores: u16, endpoints: &[Endpoint]) -> Self {
        let placement = Placement::new(config.shards, cores);
        let shards = (0..config.shards)
            .map(|number| (placement.owners().owner(crate::base::ids::ShardId(number)) == core).then(Shard::default))
            .collect();
        let mut registry = Self {
            core,
            placement,
            shards,
            near: Near::new(config.near_names_max),
            absent: Near::new(limits::ABSENT_NAMES_MAX),
            waiting: HashMap::new(),
            next_ticket: 0,
        };
        for endpoint in endpoints {
            registry.register(endpoint);
        }
        registry
    }

    /// Where names live.
    #[must_use]
    pub const fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Registers an endpoint if its shard is at home here. Returns whether it is.
    pub fn register(&mut self, endpoint: &Endpoint) -> bool {
        let hash = self.placement.hash(&endpoint.path);
        let shard = self.placement.shard(hash);
        match &mut self.shards[shard.0 as usize] {
            Some(owned) => {
                owned.bind(&endpoint.path, &endpoint.servers);
                true
            }
            None => false,
        }
    }

    /// Whether the shard of `path` is at home on this core.
    #[must_use]
    pub fn is_at_home(&self, path: &str) -> bool {
        let shard = self.placement.shard(self.placement.hash(path));
        self.shards.get(shard.0 as usize).is_some_and(Option::is_some)
    }

    /// Looks up what is bound at `path` for `waiter`.
    pub fn route(&mut self, path: &str, waiter: ConnId, metrics: &CoreMetrics) -> Route {
        let hash = self.placement.hash(path);
        let shard = self.placement.shard(hash);
        if let Some(owned) = &self.shards[shard.0 as usize] {
            return owned.find(path).map_or(Route::Absent, |binding| Route::Here(Rc::clone(binding)));
        }
        if let Some(binding) = self.near.get(hash, path) {
            metrics.count(Counter::NearHits);
            return Route::Here(Rc::clone(binding));
        }
        if self.absent.get(hash, path).is_some() {
            metrics.count(Counter::NearHits);
            return Route::Absent;
        }
        metrics.count(Counter::NearMisses);
        self.ask(self.placement.owners().owner(shard), path, waiter)
    }

    fn ask(&mut self, to: CoreId, path: &str, waiter: ConnId) -> Route {
        debug_assert_ne!(to, self.core, "a shard at home is looked into directly");
        if self.waiting.len() >= limits::LOOKUPS_WAITING_MAX {
            return Route::Full;
        }
        let ticket = self.next_ticket;
        self.next_ticket = self.next_ticket.wrapping_add(1);
        self.waiting.insert(ticket, waiter);
        Route::Ask { to, frame: Frame::Lookup { ticket, path: path.into() } }
    }

    /// Takes back an Ask that could not be sent, so that its waiter is not kept. Returns the waiter.
    pub fn unsent(&mut self, frame: &Frame) -> Option<ConnId> {
        match frame {
            Frame::Lookup { ticket, .. } => self.waiting.remove(ticket),
            Frame::Found { .. } => None,
        }
    }

    /// Handles a frame from another core.
    pub fn on_frame(&mut self, frame: Frame) -> Next {
        match frame {
            Frame::Lookup { ticket, path } => {
                let shard = self.placement.shard(self.placement.hash(&path));
                let binding = self.shards[shard.0 as usize].as_ref().and_then(|owned| owned.find(&path)).map(|found| Binding::clone(found));
                Next::Reply(Frame::Found { ticket, path, binding })
            }
            Frame::Found { ticket, path, binding } => {
                let hash = self.placement.hash(&path);
                match binding {
                    Some(binding) => self.near.put(hash, path, Rc::new(binding)),
                    None => self.absent.put(hash, path, ()),
                }
                self.waiting.remove(&ticket).map_or(Next::Nothing, Next::Resume)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAITER: ConnId = ConnId { index: 1, generation: 2 };

    fn endpoints(count: usize) -> Vec<Endpoint> {
        (0..count).map(|n| Endpoint { path: format!("/mcp/{n}").into(), servers: vec![ServerId::native(n as u32)].into() }).collect()
    }

    fn cores(count: u16, endpoints: &[Endpoint]) -> Vec<Registry> {
        (0..count).map(|core| Registry::new(&Config::default(), CoreId(core), count, endpoints)).collect()
    }

    /// Routes on `at`, carrying frames by hand, until it is decided.
    fn route(registries: &mut [Registry], at: usize, path: &str, metrics: &CoreMetrics) -> (Option<Rc<Binding>>, usize) {
        for hops in 0..3 {
            match registries[at].route(path, WAITER, metrics) {
                Route::Here(binding) => return (Some(binding), hops),
                Route::Absent => return (None, hops),
                Route::Full => panic!("nothing else waits"),
                Route::Ask { to, frame } => {
                    let Next::Reply(reply) = registries[to.index()].on_frame(frame) else { panic!("an Ask is replied to") };
                    assert!(matches!(registries[at].on_frame(reply), Next::Resume(WAITER)));
                }
            }
        }
        panic!("a lookup must be decided by one hop");
    }

    #[test]
    fn every_core_finds_every_endpoint_with_at_most_one_hop_and_then_without() {
        let endpoints = endpoints(100);
        let mut registries = cores(3, &endpoints);
        let metrics = CoreMetrics::default();
        for at in 0..3 {
            for endpoint in &endpoints {
                let (binding, hops) = route(&mut registries, at, &endpoint.path, &metrics);
                assert_eq!(binding.expect("it is registered").servers, endpoint.servers);
                assert!(hops <= 1);
                assert_eq!(route(&mut registries, at, &endpoint.path, &metrics).1, 0, "the second time it is known");
            }
        }
        assert!(metrics.counter(Counter::NearHits) > 0 && metrics.counter(Counter::NearMisses) > 0);
    }

    #[test]
    fn an_absent_name_is_absent_on_every_core() {
        let mut registries = cores(2, &endpoints(1));
        let metrics = CoreMetrics::default();
        for at in 0..2 {
            assert!(route(&mut registries, at, "/nowhere", &metrics).0.is_none());
        }
    }

    #[test]
    fn each_endpoint_is_registered_at_exactly_one_core() {
        let endpoints = endpoints(64);
        let mut registries = cores(4, &[]);
        for endpoint in &endpoints {
            assert_eq!(registries.iter_mut().map(|r| usize::from(r.register(endpoint))).sum::<usize>(), 1);
        }
    }

    #[test]
    fn lookups_in_wait_are_bounded_and_an_unsent_one_is_forgotten() {
        let mut registries = cores(2, &[]);
        let metrics = CoreMetrics::default();
        let mut asked = Vec::new();
        for n in 0.. {
            match registries[0].route(&format!("/x/{n}"), WAITER, &metrics) {
                Route::Ask { frame, .. } => asked.push(frame),
                Route::Full => break,
                _ => {}
            }
        }
        assert_eq!(asked.len(), limits::LOOKUPS_WAITING_MAX);
        registries[0].unsent(&asked[0]);
        assert_eq!(registries[0].waiting.len(), limits::LOOKUPS_WAITING_MAX - 1);
    }
}
