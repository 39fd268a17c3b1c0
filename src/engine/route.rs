//! Where a path leads: the one place where the engine asks the registry.
//!
//! A path whose shard is at home elsewhere costs one hop the first time: the request is parked until the reply has come.

use hashbrown::HashSet;

use super::config::EngineConfig;
use super::out::{Effect, Frame, Out};
use crate::base::fault::Kind;
use crate::base::ids::{ConnId, CoreId, NodeId};
use crate::base::metrics::{CoreMetrics, Counter};
use crate::base::time::{Nanos, Now};
use crate::registry::{
    Catalog, Effect as RegistryEffect, Effects, Frame as RegistryFrame, Lookup, Registry, ServerSpec, Source, State, Waiter,
};

/// Where a path leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    /// Names the endpoint: the same for the same path on every core.
    pub endpoint: u32,
    /// Index of the server bound to it.
    pub server: u32,
}

/// A path and where it leads.
#[derive(Debug)]
struct Last {
    path: String,
    place: Place,
    /// Whether its shard is at home on this core; else its lookups are hits of the near cache.
    is_at_home: bool,
}

/// What came of a look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    Place(Place),
    /// The owner was asked; the connection is resumed when the answer is there.
    Asked,
    /// It leads nowhere, or this cannot be known now.
    Refused(Kind),
}

/// One core's view of the registry.
#[derive(Debug)]
pub(super) struct Routes {
    registry: Registry,
    /// Connections whose question found no room in its lane: turned away when their request is offered again.
    turned_away: HashSet<ConnId>,
    /// The path that led somewhere last: nearly every request names the same one.
    last: Option<Last>,
    /// What the registry wants done, until there is an [`Out`] for it.
    effects: Effects,
}

impl Routes {
    pub fn new(core: CoreId, cores: u16, config: &EngineConfig, node: NodeId, natives: usize) -> Self {
        let mut registry = Registry::new(&config.registry, core, cores, node);
        let start = Now { mono: Nanos(0), wall_ms: 0 };
        (0..natives as u32).for_each(|index| _ = registry.load_server(start, native(index)));
        for endpoint in &config.endpoints {
            let servers: Vec<Box<str>> = endpoint.servers.iter().map(|index| native(*index).name).collect();
            registry.load_endpoint(start, &endpoint.path, &servers);
        }
        Self { registry, last: None, turned_away: HashSet::new(), effects: Effects::new() }
    }

    /// Looks up a path for the request of this connection.
    pub fn find(&mut self, now: Now, path: &str, conn: ConnId, metrics: &CoreMetrics, out: &mut Out) -> Found {
        if !self.turned_away.is_empty() && self.turned_away.remove(&conn) {
            return Found::Refused(Kind::Overloaded);
        }
        if let Some(last) = self.last.as_ref().filter(|last| last.path == path) {
            if !last.is_at_home {
                metrics.count(Counter::NearHits);
            }
            return Found::Place(last.place);
        }
        let waiter = Waiter(conn.pack());
        let (server, is_lasting) = match self.registry.endpoint(now, path, waiter, metrics) {
            Lookup::Here(endpoint) => (endpoint.servers.first().cloned(), true),
            Lookup::Once(endpoint) => (endpoint.servers.first().cloned(), false),
            Lookup::Absent | Lookup::AbsentOnce => (None, false),
            Lookup::Ask { to, frame } => return ask(to, frame, out),
            Lookup::Full => return Found::Refused(Kind::Overloaded),
        };
        let Some(server) = server else { return Found::Refused(Kind::NoSuchPath) };
        let (server, is_lasting) = match self.registry.server(now, &server, waiter, metrics) {
            Lookup::Here(server) => (server, is_lasting),
            Lookup::Once(server) => (server, false),
            Lookup::Absent | Lookup::AbsentOnce => return Found::Refused(Kind::NoSuchPath),
            Lookup::Ask { to, frame } => return ask(to, frame, out),
            Lookup::Full => return Found::Refused(Kind::Overloaded),
        };
        let Source::Native(server) = server.spec.source else { return Found::Refused(Kind::NoSuchPath) };
        let place = Place { endpoint: name(path), server };
        if is_lasting {
            let last = self.last.get_or_insert_with(|| Last { path: String::new(), place, is_at_home: false });
            last.path.clear();
            last.path.push_str(path);
            (last.place, last.is_at_home) = (place, self.registry.is_at_home(path));
        }
        Found::Place(place)
    }

    /// Another core asks or answers.
    pub fn on_frame(&mut self, now: Now, from: CoreId, frame: RegistryFrame, out: &mut Out) {
        self.registry.on_frame(now, from, frame, &mut self.effects);
        self.carry_out(out);
    }

    /// A frame found no room: who asked is turned away, a reply is sent later.
    pub fn on_unsent(&mut self, to: CoreId, frame: RegistryFrame) {
        self.registry.on_unsent(to, frame, &mut self.effects);
    }

    /// Sends what is owed, and has those answered that are turned away.
    pub fn on_tick(&mut self, now: Now, metrics: &CoreMetrics, out: &mut Out) {
        self.registry.on_tick(now, metrics, &mut self.effects);
        self.carry_out(out);
    }

    /// When [`Self::on_tick`] is due next.
    pub fn next_due(&self) -> Nanos {
        self.registry.next_deadline()
    }

    fn carry_out(&mut self, out: &mut Out) {
        for effect in self.effects.drain(..) {
            match effect {
                RegistryEffect::Send { to, lane, frame } => out.effects.push(Effect::Send { to, lane, frame: Frame::Registry(frame) }),
                RegistryEffect::Resume { waiter } => out.effects.push(Effect::Resume { conn: ConnId::unpack(waiter.0) }),
                RegistryEffect::Unasked { waiter } => {
                    let conn = ConnId::unpack(waiter.0);
                    self.turned_away.insert(conn);
                    out.effects.push(Effect::Resume { conn });
                }
                RegistryEffect::Invalidated { .. } | RegistryEffect::Changed { .. } | RegistryEffect::AllChanged => self.last = None,
                // What was absent is not remembered here.
                RegistryEffect::AbsencesInvalidated { .. } => {}
                RegistryEffect::Done { .. } | RegistryEffect::Listed { .. } | RegistryEffect::Persist { .. } => {
                    debug_assert!(false, "nothing is changed or listed yet");
                }
            }
        }
    }

    /// The connection is no more.
    pub fn forget(&mut self, conn: ConnId) {
        if !self.turned_away.is_empty() {
            self.turned_away.remove(&conn);
        }
        self.registry.forget(Waiter(conn.pack()));
    }
}

fn ask(to: CoreId, frame: RegistryFrame, out: &mut Out) -> Found {
    out.effects.push(Effect::Send { to, lane: frame.lane(), frame: Frame::Registry(frame) });
    Found::Asked
}

/// The entry of a native server.
fn native(index: u32) -> ServerSpec {
    ServerSpec {
        name: format!("native-{index}").into(),
        title: Box::default(),
        description: Box::default(),
        software_version: Box::default(),
        source: Source::Native(index),
        state: State::Online,
        catalog: Catalog::default(),
    }
}

/// A number for a path (FNV-1a): endpoints come from the configuration, so nobody can look for two alike.
fn name(path: &str) -> u32 {
    path.bytes().fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_names_of_their_own() {
        assert_eq!(name("/mcp"), name("/mcp"));
        assert_ne!(name("/mcp"), name("/mcq"));
        assert_eq!(name(""), 0x811C_9DC5);
        assert_eq!(name("a"), 0xE40C_292C, "a published FNV-1a value");
    }
}
