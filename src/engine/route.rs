//! Where a path leads: the one place where the engine asks the registry for what clients see.
//!
//! A request needs the view of its endpoint. When there is none that is good, one is built: of the endpoint's entry and those of its servers,
//! all of which may be at home on other cores. What is missing is asked for together, and every request that needs the same view meanwhile
//! waits for the same build. A build in whose time one of its entries was about to change is good for those who wait for it, and is not kept.
//! What is to be made of much takes several turns; a turn does so much for all builds together, and no more.

mod build;

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use super::Engine;
use super::config::{EngineConfig, Separator};
use super::hosted::{self, Hosted};
use super::out::{Effect, Frame, Lists, Out};
use super::view::{Budget, View};
use super::views::Views;
use crate::base::fault::Kind;
use crate::base::ids::{ConnId, CoreId, NodeId, ShardId};
use crate::base::limits::{VIEW_BYTES_PER_CORE_MAX, VIEW_TURN_BYTES, VIEWS_PER_CORE_MAX};
use crate::base::metrics::{CoreMetrics, Counter};
use crate::base::stored::Stored;
use crate::base::time::{Nanos, Now};
use crate::registry::{self, Effects, Frame as RegistryFrame, Kind as EntryKind, Record, Registry, Server, State};
use build::{Build, Part, build_of, part};

/// A path and where it leads.
#[derive(Debug)]
struct Last {
    path: String,
    view: Rc<View>,
    /// Whether its shard is at home on this core; else its lookups are hits of what is kept of other cores' entries.
    is_at_home: bool,
}

/// What came of a look.
#[derive(Debug)]
pub(super) enum Found {
    View(Rc<View>),
    /// Other cores were asked; the connection is resumed when the answers are there.
    Asked,
    /// It leads nowhere, or this cannot be known now.
    Refused(Kind),
}

/// What a builder is told of the world around it.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    pub now: Now,
    pub hosted: &'a [Hosted],
    pub metrics: &'a CoreMetrics,
}

/// One core's view of the registry.
#[derive(Debug)]
pub(super) struct Routes {
    registry: Registry,
    separator: Separator,
    /// What the configuration says of endpoints may change while the process runs.
    is_reloadable: bool,
    views: Views,
    /// Views made so far.
    epoch: u64,
    builds: HashMap<u32, Build>,
    /// Builds that go on in the next turn.
    unfinished: VecDeque<u32>,
    /// What this turn may still do for builds.
    budget: Budget,
    /// The build that a request for a path may join.
    joinable: HashMap<Box<str>, u32>,
    next_build: u32,
    /// Connections whose request waits for a build.
    parked: HashMap<ConnId, u32>,
    /// What they are told when their request is offered again.
    decided: HashMap<ConnId, Decided>,
    /// What the registry wanted done while nothing could be: done at the next tick.
    owed: Effects,
    /// The path that led somewhere last: nearly every request names the same one.
    last: Option<Last>,
    /// What is to be told to subscribers of endpoints, by number.
    told: Vec<(u64, Lists)>,
    /// Any endpoint may be no more, until all that changed was looked at.
    is_all_in_question: bool,
}

/// How a look was decided.
#[derive(Clone, Debug)]
enum Decided {
    View(Rc<View>),
    Refused(Kind),
}

impl From<Decided> for Found {
    fn from(decided: Decided) -> Self {
        match decided {
            Decided::View(view) if view.is_too_large => Self::Refused(Kind::CatalogTooLarge),
            Decided::View(view) => Self::View(view),
            Decided::Refused(kind) => Self::Refused(kind),
        }
    }
}

/// Waiters of builds: their number, and the place of the part; the first is the endpoint. Everyone else who asks the registry sets the
/// highest bit.
pub(super) const OTHERS: u64 = 1 << 63;

/// What is there from the start: what was kept, the native servers, and the endpoints of the configuration.
fn load(registry: &mut Registry, config: &EngineConfig, hosted: &[Hosted]) {
    let start = Now { mono: Nanos(0), wall_ms: config.started_ms };
    for record in config.kept.iter() {
        registry.restore(match record {
            // Whether it is there is found out anew.
            Record::Server(server) if server.spec.front.is_some() => {
                let mut server = Server::clone(server);
                server.spec.state = State::Offline;
                Record::Server(Arc::new(server))
            }
            record => record.clone(),
        });
    }
    let natives = hosted::specs(hosted);
    for endpoint in &config.endpoints {
        let name = |number: &u32| natives.get(*number as usize).map(|spec| spec.name.clone());
        let servers: Vec<Box<str>> = endpoint.servers.iter().filter_map(name).chain(endpoint.upstreams.iter().cloned()).collect();
        registry.load_endpoint(start, &endpoint.path, &servers);
    }
    for spec in natives.into_iter().chain(config.upstreams.iter().map(hosted::fronted)) {
        registry.load_server(start, spec);
    }
}

impl Routes {
    pub fn new(core: CoreId, cores: u16, node: NodeId, config: &EngineConfig, hosted: &[Hosted]) -> Self {
        let mut registry = Registry::new(&config.registry, core, cores, node);
        load(&mut registry, config, hosted);
        Self {
            registry,
            separator: config.name_separator,
            is_reloadable: config.reader.is_some(),
            views: Views::default(),
            epoch: 0,
            builds: HashMap::new(),
            unfinished: VecDeque::new(),
            budget: Budget::new(VIEW_TURN_BYTES),
            joinable: HashMap::new(),
            next_build: 0,
            parked: HashMap::new(),
            decided: HashMap::new(),
            owed: Effects::new(),
            last: None,
            told: Vec::new(),
            is_all_in_question: false,
        }
    }

    /// How many views were made.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The views that this core knows.
    pub const fn views(&self) -> &Views {
        &self.views
    }

    /// Looks up a path for the request of this connection.
    pub fn find(&mut self, path: &str, conn: ConnId, around: Around<'_>, out: &mut Out) -> Found {
        if !self.decided.is_empty()
            && let Some(decided) = self.decided.remove(&conn)
        {
            if let Decided::View(view) = &decided {
                self.views.take_up(view);
            }
            return decided.into();
        }
        if let Some(last) = self.last.as_ref().filter(|last| last.path == path) {
            if !last.is_at_home {
                around.metrics.count(Counter::NearHits);
            }
            return Found::View(Rc::clone(&last.view));
        }
        if let Some(view) = self.views.fresh(path) {
            let view = Rc::clone(view);
            self.remember(&view);
            return Decided::View(view).into();
        }
        let id = match self.joinable.get(path) {
            Some(&id) => id,
            None => {
                let id = self.begin(path, false);
                match self.step(id, around, out) {
                    Some((decided, _)) => return decided.into(),
                    None => id,
                }
            }
        };
        if let Some(build) = self.builds.get_mut(&id) {
            build.conns.push(conn);
        }
        self.parked.insert(conn, id);
        Found::Asked
    }

    /// Keeps where the path leads, for the next request.
    fn remember(&mut self, view: &Rc<View>) {
        if view.is_too_large {
            return;
        }
        let is_at_home = self.registry.is_at_home(view.path());
        let last = self.last.get_or_insert_with(|| Last { path: String::new(), view: Rc::clone(view), is_at_home });
        last.path.clear();
        last.path.push_str(view.path());
        (last.view, last.is_at_home) = (Rc::clone(view), is_at_home);
    }

    /// An entry is about to change, or has changed.
    fn spoil(&mut self, kind: EntryKind, name: &str) {
        if self.views.spoil(kind, name) {
            self.last = None;
        }
        part(&mut self.builds, &mut self.joinable, |build| match kind {
            EntryKind::Endpoint => *build.path == *name,
            EntryKind::Server => build.endpoint.as_ref().is_some_and(|endpoint| endpoint.servers.iter().any(|bound| **bound == *name)),
        });
    }

    /// There may be servers in this shard that were not there before.
    fn spoil_absent(&mut self, shard: ShardId) {
        let placement = self.registry.placement();
        let is_meant = |name: &str| placement.shard(placement.hash(name)) == shard;
        if self.views.spoil_absent(is_meant) {
            self.last = None;
        }
        part(&mut self.builds, &mut self.joinable, |build| {
            let names = build.endpoint.iter().flat_map(|endpoint| &endpoint.servers);
            build.parts.iter().zip(names).any(|(part, name)| matches!(part, Part::Known(None)) && is_meant(name))
        });
    }

    fn spoil_all(&mut self) {
        self.last = None;
        self.is_all_in_question = true;
        self.views.spoil_all();
        part(&mut self.builds, &mut self.joinable, |_| true);
    }

    /// Takes what the registry says of builds and of entries; gives back what is somebody else's.
    fn take(&mut self, effect: registry::Effect, around: Around<'_>, out: &mut Out) -> Option<registry::Effect> {
        match effect {
            registry::Effect::Resume { waiter } if waiter.0 & OTHERS == 0 => self.advance(waiter, around, out),
            registry::Effect::Unasked { waiter } if waiter.0 & OTHERS == 0 => {
                let id = build_of(waiter);
                if let Some(built) = self.refuse(id, Kind::Overloaded, false) {
                    self.settle(id, built, out);
                }
            }
            registry::Effect::Invalidated { name } | registry::Effect::Changed { name } => self.spoil(name.kind(), &name),
            registry::Effect::AbsencesInvalidated { kind: EntryKind::Server, shard } => self.spoil_absent(shard),
            // No view is made of an endpoint that there is not.
            registry::Effect::AbsencesInvalidated { kind: EntryKind::Endpoint, .. } => {}
            registry::Effect::Gone { endpoint } => self.views.gone(endpoint.number),
            registry::Effect::AllChanged => self.spoil_all(),
            other => return Some(other),
        }
        None
    }

    /// The registry, to be looked at and changed. The waiters of whoever does set [`OTHERS`].
    pub const fn registry(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// A frame found no room. What follows is done at the next tick.
    pub fn on_unsent(&mut self, to: CoreId, frame: RegistryFrame) {
        self.registry.on_unsent(to, frame, &mut self.owed);
    }

    /// When the registry has something to do. What is owed is due at once: somebody waits for it.
    pub fn next_due(&self) -> Nanos {
        if self.owed.is_empty() { self.registry.next_deadline() } else { Nanos(0) }
    }

    /// The connection is no more.
    pub fn forget(&mut self, conn: ConnId) {
        if !self.parked.is_empty() {
            self.parked.remove(&conn);
        }
        if !self.decided.is_empty() {
            self.decided.remove(&conn);
        }
    }

    /// Whether endpoints may be no more without having been named.
    pub const fn is_all_in_question(&self) -> bool {
        self.is_all_in_question
    }

    /// Whether anything changed that subscribers of endpoints may have to be told of.
    pub fn has_changes(&self) -> bool {
        self.views.has_changes()
    }

    /// Finds out what changed at the endpoints with these numbers. What can be known now, or was found out since, is among what
    /// [`Self::take_told`] gives.
    pub fn look_at_changes(&mut self, subscribed: &HashSet<u64>, around: Around<'_>, out: &mut Out) {
        for path in self.views.take_changed(subscribed) {
            let is_new = !self.joinable.contains_key(&*path);
            let id = if is_new { self.begin(&path, true) } else { self.joinable[&*path] };
            if let Some(build) = self.builds.get_mut(&id) {
                build.is_for_subscribers = true;
            }
            if is_new && let Some(built) = self.step(id, around, out) {
                self.settle(id, built, out);
            }
        }
        self.is_all_in_question &= self.views.has_changes();
    }

    /// Whether there is something that [`Self::take_told`] gives.
    pub const fn has_told(&self) -> bool {
        !self.told.is_empty()
    }

    /// Whether there is something that [`Self::take_gone`] gives.
    pub const fn has_gone(&self) -> bool {
        self.views.has_gone()
    }

    /// What subscribers are to be told: the endpoint's number, and the lists that differ.
    pub fn take_told(&mut self) -> Vec<(u64, Lists)> {
        std::mem::take(&mut self.told)
    }

    /// Numbers of endpoints that are no more.
    pub fn take_gone(&mut self) -> Vec<u64> {
        self.views.take_gone()
    }

    /// Lets go of views that nobody needs.
    pub fn evict(&mut self, subscribed: impl FnOnce() -> HashSet<u64>) {
        if self.views.exceed(VIEWS_PER_CORE_MAX, VIEW_BYTES_PER_CORE_MAX) {
            self.last = None;
            self.views.evict(VIEWS_PER_CORE_MAX, VIEW_BYTES_PER_CORE_MAX, subscribed);
        }
    }
}

impl Engine {
    /// Carries out what the registry wants done.
    pub(super) fn carry_out_registry(&mut self, effects: Effects, now: Now, out: &mut Out) {
        for effect in effects {
            if let registry::Effect::Changed { name } = &effect {
                self.on_admin_changed(now, name.kind(), name, out);
            }
            let around = Around { now, hosted: &self.hosted, metrics: self.metrics };
            let Some(effect) = self.routes.take(effect, around, out) else { continue };
            let Some(effect) = self.on_published(now, effect, out) else { continue };
            let Some(effect) = self.on_step(now, effect, out) else { continue };
            let Some(effect) = self.on_admin_effect(now, effect, out) else { continue };
            match effect {
                registry::Effect::Send { to, lane, frame } => out.effects.push(Effect::Send { to, lane, frame: Frame::Registry(frame) }),
                registry::Effect::Persist { ticket, record } => out.effects.push(Effect::Persist { ticket, record }),
                other => tracing::trace!(?other, "answered to nobody"),
            }
        }
    }

    /// Goes on with views that take more than one turn to make.
    pub(super) fn go_on_with_views(&mut self, now: Now, out: &mut Out) {
        if self.routes.has_unfinished() {
            let around = Around { now, hosted: &self.hosted, metrics: self.metrics };
            self.routes.go_on(around, out);
            self.evict_views();
        }
    }

    /// Another core asks, answers or tells.
    pub(super) fn on_registry_frame(&mut self, now: Now, from: CoreId, frame: RegistryFrame, out: &mut Out) {
        let mut effects = Effects::new();
        self.routes.registry.on_frame(now, from, frame, &mut effects);
        self.carry_out_registry(effects, now, out);
    }

    /// The durable store says how it went.
    pub(super) fn on_persisted(&mut self, now: Now, ticket: u64, stored: Stored, out: &mut Out) {
        let mut effects = Effects::new();
        self.routes.registry.on_persisted(now, ticket, stored, &mut effects);
        self.carry_out_registry(effects, now, out);
    }

    /// Time passes for the registry.
    pub(super) fn tick_registry(&mut self, now: Now, out: &mut Out) {
        let mut effects = std::mem::take(&mut self.routes.owed);
        self.routes.registry.on_tick(now, self.metrics, &mut effects);
        self.carry_out_registry(effects, now, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{Change, Waiter};

    impl Engine {
        /// Makes a change, for tests. Whether it was made shows in what clients see.
        pub fn change(&mut self, now: Now, change: Change, out: &mut Out) {
            let mut effects = Effects::new();
            self.routes.registry().change(now, change, Waiter(OTHERS), &mut effects);
            self.turn(now, out, |engine, out| engine.carry_out_registry(effects, now, out));
        }

        pub fn views_made(&self) -> u64 {
            self.routes.epoch
        }

        pub fn views_known(&self) -> usize {
            self.routes.views.len()
        }
    }
}
