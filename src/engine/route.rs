//! Where a path leads: the one place where the engine asks the registry for what clients see.
//!
//! A request needs the view of its endpoint. When there is none that is good, one is built: of the endpoint's entry and those of its servers,
//! all of which may be at home on other cores. What is missing is asked for together, and every request that needs the same view meanwhile
//! waits for the same build. A build in whose time one of its entries was about to change is good for those who wait for it, and is not kept.

use std::rc::Rc;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use super::Engine;
use super::config::{EngineConfig, Separator};
use super::hosted::{self, Hosted};
use super::out::{Effect, Frame, Lane, Lists, Out};
use super::view::View;
use super::views::Views;
use crate::base::fault::Kind;
use crate::base::ids::{ConnId, CoreId, NodeId, ShardId};
use crate::base::limits::{SERVERS_PER_ENDPOINT_MAX, VIEWS_PER_CORE_MAX};
use crate::base::metrics::{CoreMetrics, Counter};
use crate::base::time::{Nanos, Now};
use crate::registry::{self, Effects, Endpoint, Frame as RegistryFrame, Kind as EntryKind, Lookup, Registry, Server, Waiter};

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

/// An entry that a view is to be made of.
#[derive(Debug)]
enum Part {
    Missing,
    Asked,
    Known(Option<Arc<Server>>),
}

/// A view in the making.
#[derive(Debug)]
struct Build {
    path: Box<str>,
    endpoint: Option<Arc<Endpoint>>,
    parts: Vec<Part>,
    /// Whether nothing of it was about to change since it began.
    is_lasting: bool,
    /// Who waits for it.
    conns: Vec<ConnId>,
    /// Whether subscribers wait to be told, too.
    is_for_subscribers: bool,
}

/// What a build ended with, and who waits for that.
type Built = (Decided, Vec<ConnId>);

/// One core's view of the registry.
#[derive(Debug)]
pub(super) struct Routes {
    registry: Registry,
    separator: Separator,
    views: Views,
    /// Views made so far.
    epoch: u64,
    builds: HashMap<u32, Build>,
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
        registry.restore(record.clone());
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

const fn waiter(build: u32, part: usize) -> Waiter {
    Waiter((build as u64) << 16 | part as u64)
}

const fn build_of(waiter: Waiter) -> u32 {
    (waiter.0 >> 16) as u32
}

const _: () = assert!(SERVERS_PER_ENDPOINT_MAX < 1 << 16, "the place of a part is sixteen bits");

impl Routes {
    pub fn new(core: CoreId, cores: u16, node: NodeId, config: &EngineConfig, hosted: &[Hosted]) -> Self {
        let mut registry = Registry::new(&config.registry, core, cores, node);
        load(&mut registry, config, hosted);
        Self {
            registry,
            separator: config.name_separator,
            views: Views::default(),
            epoch: 0,
            builds: HashMap::new(),
            joinable: HashMap::new(),
            next_build: 0,
            parked: HashMap::new(),
            decided: HashMap::new(),
            owed: Effects::new(),
            last: None,
            told: Vec::new(),
        }
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
            return Found::View(view);
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
        let is_at_home = self.registry.is_at_home(view.path());
        let last = self.last.get_or_insert_with(|| Last { path: String::new(), view: Rc::clone(view), is_at_home });
        last.path.clear();
        last.path.push_str(view.path());
        (last.view, last.is_at_home) = (Rc::clone(view), is_at_home);
    }

    fn begin(&mut self, path: &str, is_for_subscribers: bool) -> u32 {
        let id = self.next_build;
        self.next_build = self.next_build.wrapping_add(1);
        let build = Build { path: path.into(), endpoint: None, parts: Vec::new(), is_lasting: true, conns: Vec::new(), is_for_subscribers };
        self.builds.insert(id, build);
        self.joinable.insert(path.into(), id);
        id
    }

    /// Takes a build as far as it goes. None: it waits for answers.
    fn step(&mut self, id: u32, around: Around<'_>, out: &mut Out) -> Option<Built> {
        let build = self.builds.get_mut(&id)?;
        let mut ask = |to, frame| out.effects.push(Effect::Send { to, lane: Lane::Ask, frame: Frame::Registry(frame) });
        if build.endpoint.is_none() {
            match self.registry.endpoint(around.now, &build.path, waiter(id, 0), around.metrics) {
                Lookup::Here(endpoint) => build.endpoint = Some(Arc::clone(endpoint)),
                Lookup::Once(endpoint) => {
                    build.endpoint = Some(Arc::clone(endpoint));
                    build.is_lasting = false;
                }
                Lookup::Absent => return self.refuse(id, Kind::NoSuchPath, true),
                Lookup::AbsentOnce => return self.refuse(id, Kind::NoSuchPath, false),
                Lookup::Full => return self.refuse(id, Kind::Overloaded, false),
                Lookup::Ask { to, frame } => {
                    ask(to, frame);
                    return None;
                }
            }
            let servers = build.endpoint.as_ref().map_or(0, |endpoint| endpoint.servers.len());
            build.parts.resize_with(servers.min(SERVERS_PER_ENDPOINT_MAX), || Part::Missing);
        }
        let endpoint = Arc::clone(build.endpoint.as_ref()?);
        for (at, (part, name)) in build.parts.iter_mut().zip(&endpoint.servers).enumerate() {
            if !matches!(part, Part::Missing) {
                continue;
            }
            *part = match self.registry.server(around.now, name, waiter(id, at + 1), around.metrics) {
                Lookup::Here(server) => Part::Known(Some(Arc::clone(server))),
                Lookup::Absent => Part::Known(None),
                Lookup::Once(server) => {
                    build.is_lasting = false;
                    Part::Known(Some(Arc::clone(server)))
                }
                Lookup::AbsentOnce => {
                    build.is_lasting = false;
                    Part::Known(None)
                }
                Lookup::Full => return self.refuse(id, Kind::Overloaded, false),
                Lookup::Ask { to, frame } => {
                    ask(to, frame);
                    Part::Asked
                }
            };
        }
        if build.parts.iter().all(|part| matches!(part, Part::Known(_))) { self.complete(id, endpoint, around.hosted) } else { None }
    }

    /// All parts are there.
    fn complete(&mut self, id: u32, endpoint: Arc<Endpoint>, hosted: &[Hosted]) -> Option<Built> {
        let build = self.end(id)?;
        let known = |part| match part {
            Part::Known(server) => server,
            Part::Missing | Part::Asked => None,
        };
        let servers: Vec<_> = build.parts.into_iter().map(known).collect();
        let last = self.views.last(&build.path).filter(|view| view.is_of(&endpoint, &servers));
        let view = match last {
            Some(view) => Rc::clone(view),
            None => {
                self.epoch += 1;
                let view = View::new(endpoint, servers, hosted, self.separator, self.epoch);
                tracing::debug!(path = view.path(), epoch = view.epoch, "a view was made");
                Rc::new(view)
            }
        };
        self.views.put(&view, build.is_lasting);
        if !build.is_lasting {
            self.views.put_back(&build.path);
        } else {
            self.remember(&view);
            if build.is_for_subscribers {
                self.told.extend(self.views.tell(&build.path).filter(|(_, lists)| !lists.is_empty()));
            }
        }
        Some((Decided::View(view), build.conns))
    }

    /// There will be no view. `is_known`: because there is no such endpoint.
    fn refuse(&mut self, id: u32, kind: Kind, is_known: bool) -> Option<Built> {
        let build = self.end(id)?;
        if is_known {
            self.views.remove(&build.path);
        } else if build.is_for_subscribers {
            self.views.put_back(&build.path);
        }
        Some((Decided::Refused(kind), build.conns))
    }

    /// Takes a build out of work. The answers to questions that are open lead nowhere.
    fn end(&mut self, id: u32) -> Option<Build> {
        let build = self.builds.remove(&id)?;
        if self.joinable.get(&build.path) == Some(&id) {
            self.joinable.remove(&build.path);
        }
        Some(build)
    }

    /// Has the requests answered that waited for a build.
    fn settle(&mut self, id: u32, (decided, conns): Built, out: &mut Out) {
        for conn in conns {
            if self.parked.get(&conn) == Some(&id) {
                self.parked.remove(&conn);
                self.decided.insert(conn, decided.clone());
                out.effects.push(Effect::Resume { conn });
            }
        }
    }

    /// The question of this waiter is answered: look again.
    fn advance(&mut self, asked: Waiter, around: Around<'_>, out: &mut Out) {
        let (id, part) = (build_of(asked), (asked.0 & 0xFFFF) as usize);
        let Some(build) = self.builds.get_mut(&id) else { return self.registry.forget(asked) };
        if let Some(part) = part.checked_sub(1).and_then(|part| build.parts.get_mut(part)) {
            *part = Part::Missing;
        }
        if let Some(built) = self.step(id, around, out) {
            self.settle(id, built, out);
        }
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

    /// When the registry has something to do.
    pub fn next_due(&self) -> Nanos {
        self.registry.next_deadline()
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
        let views_max = VIEWS_PER_CORE_MAX;
        if self.views.len() > views_max {
            self.last = None;
        }
        self.views.evict(views_max, subscribed);
    }
}

/// These builds are good for those who wait for them, and for nobody who comes from now on.
fn part(builds: &mut HashMap<u32, Build>, joinable: &mut HashMap<Box<str>, u32>, is_meant: impl Fn(&Build) -> bool) {
    for (id, build) in builds.iter_mut().filter(|(_, build)| is_meant(build)) {
        build.is_lasting = false;
        if joinable.get(&build.path) == Some(id) {
            joinable.remove(&build.path);
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
            let Some(effect) = self.on_admin_effect(now, effect, out) else { continue };
            match effect {
                registry::Effect::Send { to, lane, frame } => out.effects.push(Effect::Send { to, lane, frame: Frame::Registry(frame) }),
                registry::Effect::Persist { ticket, record } => out.effects.push(Effect::Persist { ticket, record }),
                other => tracing::trace!(?other, "answered to nobody"),
            }
        }
    }

    /// Another core asks, answers or tells.
    pub(super) fn on_registry_frame(&mut self, now: Now, from: CoreId, frame: RegistryFrame, out: &mut Out) {
        let mut effects = Effects::new();
        self.routes.registry.on_frame(now, from, frame, &mut effects);
        self.carry_out_registry(effects, now, out);
    }

    /// The durable store has written a change, or could not.
    pub(super) fn on_persisted(&mut self, now: Now, ticket: u32, is_written: bool, out: &mut Out) {
        let mut effects = Effects::new();
        self.routes.registry.on_persisted(now, ticket, is_written, &mut effects);
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
    use crate::registry::Change;

    impl Engine {
        /// Makes a change, for tests. Whether it was made shows in what clients see.
        pub fn change(&mut self, now: Now, change: Change, out: &mut Out) {
            let mut effects = Effects::new();
            self.routes.registry().change(now, change, Waiter(OTHERS), &mut effects);
            self.turn(now, out, |engine, out| engine.carry_out_registry(effects, now, out));
        }

        pub fn views_known(&self) -> usize {
            self.routes.views.len()
        }
    }

    #[test]
    fn a_waiter_names_its_build_and_nobody_else() {
        let named = waiter(u32::MAX, SERVERS_PER_ENDPOINT_MAX);
        assert_eq!((build_of(named), named.0 & OTHERS), (u32::MAX, 0));
    }
}
