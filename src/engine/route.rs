//! Where a path leads: the one place where the engine asks the registry.
//!
//! A path whose shard is at home elsewhere costs one hop the first time: the request is parked until the reply has come.

use hashbrown::HashSet;

use super::config::EngineConfig;
use super::out::{Effect, Frame, Lane, Out};
use crate::base::fault::Kind;
use crate::base::ids::{ConnId, CoreId};
use crate::base::metrics::{CoreMetrics, Counter};
use crate::registry::{Frame as RegistryFrame, Next, Registry, Route};

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
    /// Those of them that are to be resumed.
    to_resume: Vec<ConnId>,
    /// The path that led somewhere last: nearly every request names the same one.
    last: Option<Last>,
    /// Replies that found no room. As many as other cores may have questions open.
    owed: Vec<(CoreId, RegistryFrame)>,
}

impl Routes {
    pub fn new(core: CoreId, cores: u16, config: &EngineConfig) -> Self {
        let registry = Registry::new(&config.registry, core, cores, &config.endpoints);
        Self { registry, last: None, turned_away: HashSet::new(), to_resume: Vec::new(), owed: Vec::new() }
    }

    /// Looks up a path for the request of this connection.
    pub fn find(&mut self, path: &str, conn: ConnId, metrics: &CoreMetrics, out: &mut Out) -> Found {
        if !self.turned_away.is_empty() && self.turned_away.remove(&conn) {
            return Found::Refused(Kind::Overloaded);
        }
        if let Some(last) = self.last.as_ref().filter(|last| last.path == path) {
            if !last.is_at_home {
                metrics.count(Counter::NearHits);
            }
            return Found::Place(last.place);
        }
        match self.registry.route(path, conn, metrics) {
            Route::Here(binding) => match binding.servers.first() {
                Some(server) => self.remember(path, Place { endpoint: name(path), server: server.number }),
                None => Found::Refused(Kind::NoSuchPath),
            },
            Route::Absent => Found::Refused(Kind::NoSuchPath),
            Route::Full => Found::Refused(Kind::Overloaded),
            Route::Ask { to, frame } => {
                out.effects.push(Effect::Send { to, lane: Lane::Ask, frame: Frame::Registry(frame) });
                Found::Asked
            }
        }
    }

    /// Keeps where the path leads, for the next request.
    fn remember(&mut self, path: &str, place: Place) -> Found {
        let last = self.last.get_or_insert_with(|| Last { path: String::new(), place, is_at_home: false });
        last.path.clear();
        last.path.push_str(path);
        (last.place, last.is_at_home) = (place, self.registry.is_at_home(path));
        Found::Place(place)
    }

    /// Another core asks or answers.
    pub fn on_frame(&mut self, from: CoreId, frame: RegistryFrame, out: &mut Out) {
        // What is known of a path may change with it.
        self.last = None;
        match self.registry.on_frame(frame) {
            Next::Reply(frame) => out.effects.push(Effect::Send { to: from, lane: Lane::Reply, frame: Frame::Registry(frame) }),
            Next::Resume(conn) => out.effects.push(Effect::Resume { conn }),
            Next::Nothing => {}
        }
    }

    /// A frame found no room: who asked is turned away, a reply is sent later.
    pub fn on_unsent(&mut self, to: CoreId, lane: Lane, frame: RegistryFrame) {
        if lane == Lane::Reply {
            self.owed.push((to, frame));
        } else if let Some(conn) = self.registry.unsent(&frame) {
            self.turned_away.insert(conn);
            self.to_resume.push(conn);
        }
    }

    /// Sends what is owed, and has those answered that are turned away.
    pub fn on_tick(&mut self, out: &mut Out) {
        let owed = self.owed.drain(..);
        out.effects.extend(owed.map(|(to, frame)| Effect::Send { to, lane: Lane::Reply, frame: Frame::Registry(frame) }));
        out.effects.extend(self.to_resume.drain(..).map(|conn| Effect::Resume { conn }));
    }

    /// The connection is no more.
    pub fn forget(&mut self, conn: ConnId) {
        if !self.turned_away.is_empty() {
            self.turned_away.remove(&conn);
        }
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
