//! Where a path leads: the one place where the engine asks the registry.
//!
//! A path whose shard is at home elsewhere costs one hop the first time: the request is parked until the reply has come.

use hashbrown::{HashMap, HashSet};

use super::Engine;
use super::config::EngineConfig;
use super::out::{Effect, Frame, Lane, Out};
use crate::base::fault::Kind;
use crate::base::ids::{ConnId, CoreId, NodeId};
use crate::base::metrics::CoreMetrics;
use crate::base::time::{Nanos, Now};
use crate::registry::{self, Frame as RegistryFrame, Lookup, Registry, Waiter};

/// Where a path leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    /// Names the endpoint: the same for the same path on every core.
    pub endpoint: u32,
    /// Index of the server bound to it.
    pub server: u32,
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
    /// Native servers by name.
    natives: HashMap<Box<str>, u32>,
    /// Connections whose question found no room in its lane: turned away when their request is offered again.
    turned_away: HashSet<ConnId>,
    /// Frames that found no room.
    unsent: Vec<(CoreId, RegistryFrame)>,
}

impl Routes {
    pub fn new(core: CoreId, cores: u16, node: NodeId, config: &EngineConfig, natives: Vec<Box<str>>) -> Self {
        let mut registry = Registry::new(&config.registry, core, cores, node);
        for record in config.kept.iter() {
            registry.restore(record.clone());
        }
        let now = Now { mono: Nanos(0), wall_ms: config.started_ms };
        for (number, name) in (0..).zip(&natives) {
            registry.load_server(now, super::native_spec(name, number));
        }
        for (path, servers) in &config.endpoints {
            let servers: Vec<Box<str>> = if servers.is_empty() { natives.iter().take(1).cloned().collect() } else { servers.clone() };
            registry.load_endpoint(now, path, &servers);
        }
        let natives = natives.into_iter().zip(0..).collect();
        Self { registry, natives, turned_away: HashSet::new(), unsent: Vec::new() }
    }

    pub const fn registry(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// Looks up a path for the request of this connection.
    pub fn find(&mut self, now: Now, path: &str, conn: ConnId, metrics: &CoreMetrics, out: &mut Out) -> Found {
        if !self.turned_away.is_empty() && self.turned_away.remove(&conn) {
            return Found::Refused(Kind::Overloaded);
        }
        match self.registry.endpoint(now, path, Waiter(conn.pack()), metrics) {
            Lookup::Here(endpoint) | Lookup::Once(endpoint) => {
                match endpoint.servers.iter().find_map(|name| self.natives.get(name)) {
                    Some(&server) => Found::Place(Place { endpoint: name(path), server }),
                    None => Found::Refused(Kind::NoSuchPath),
                }
            }
            Lookup::Absent | Lookup::AbsentOnce => Found::Refused(Kind::NoSuchPath),
            Lookup::Full => Found::Refused(Kind::Overloaded),
            Lookup::Ask { to, frame } => {
                out.effects.push(Effect::Send { to, lane: Lane::Ask, frame: Frame::Registry(frame) });
                Found::Asked
            }
        }
    }

    /// A frame found no room: it is dealt with at the next tick.
    pub fn on_unsent(&mut self, to: CoreId, frame: RegistryFrame) {
        self.unsent.push((to, frame));
    }

    /// When the registry is to be called next.
    pub fn next_due(&self) -> Nanos {
        if self.unsent.is_empty() { self.registry.next_deadline() } else { Nanos(0) }
    }

    /// The connection is no more.
    pub fn forget(&mut self, conn: ConnId) {
        self.registry.forget(Waiter(conn.pack()));
        self.turned_away.remove(&conn);
    }
}

impl Engine {
    /// Carries out what the registry wants done.
    pub(super) fn carry_out_registry(&mut self, now: Now, effects: registry::Effects, out: &mut Out) {
        for effect in effects {
            let Some(effect) = self.on_admin_effect(now, effect, out) else { continue };
            match effect {
                registry::Effect::Send { to, lane, frame } => out.effects.push(Effect::Send { to, lane, frame: Frame::Registry(frame) }),
                registry::Effect::Resume { waiter } => out.effects.push(Effect::Resume { conn: ConnId::unpack(waiter.0) }),
                registry::Effect::Unasked { waiter } => {
                    let conn = ConnId::unpack(waiter.0);
                    self.routes.turned_away.insert(conn);
                    out.effects.push(Effect::Resume { conn });
                }
                registry::Effect::Changed { kind, name } => self.on_admin_changed(now, kind, &name, out),
                registry::Effect::Persist { ticket, record } => out.effects.push(Effect::Persist { ticket, record }),
                registry::Effect::Done { .. }
                | registry::Effect::Listed { .. }
                | registry::Effect::Invalidated { .. }
                | registry::Effect::AllChanged => {}
            }
        }
    }

    /// Another core asks or answers.
    pub(super) fn on_registry_frame(&mut self, now: Now, from: CoreId, frame: RegistryFrame, out: &mut Out) {
        let mut effects = registry::Effects::new();
        self.routes.registry.on_frame(now, from, frame, &mut effects);
        self.carry_out_registry(now, effects, out);
    }

    /// The durable store has written a change, or could not.
    pub(super) fn on_persisted(&mut self, now: Now, ticket: u32, is_written: bool, out: &mut Out) {
        let mut effects = registry::Effects::new();
        self.routes.registry.on_persisted(now, ticket, is_written, &mut effects);
        self.carry_out_registry(now, effects, out);
    }

    /// Time passes for the registry.
    pub(super) fn tick_registry(&mut self, now: Now, out: &mut Out) {
        let mut effects = registry::Effects::new();
        for (to, frame) in std::mem::take(&mut self.routes.unsent) {
            self.routes.registry.on_unsent(now, to, frame, &mut effects);
        }
        self.routes.registry.on_tick(now, self.metrics, &mut effects);
        self.carry_out_registry(now, effects, out);
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
