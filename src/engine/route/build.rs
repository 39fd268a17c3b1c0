//! Views in the making: what is asked for them, who waits for them, and how far a turn may take them.

use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashMap;

use super::{Around, Decided, Routes};
use crate::base::fault::Kind;
use crate::base::ids::ConnId;
use crate::base::limits::{SERVERS_PER_ENDPOINT_MAX, VIEW_BYTES_MAX, VIEW_ITEMS_MAX, VIEW_TURN_BYTES};
use crate::engine::hosted::Hosted;
use crate::engine::out::{Effect, Frame, Lane, Out};
use crate::engine::view::{Budget, Making, Progress, View};
use crate::registry::{Endpoint, Lookup, Server, Waiter};

/// An entry that a view is to be made of.
#[derive(Debug)]
pub(super) enum Part {
    Missing,
    Asked,
    Known(Option<Arc<Server>>),
}

/// A view in the making.
#[derive(Debug)]
pub(super) struct Build {
    pub path: Box<str>,
    pub endpoint: Option<Arc<Endpoint>>,
    pub parts: Vec<Part>,
    /// What becomes of them, once they are all known.
    pub making: Option<Box<Making>>,
    /// Whether nothing of it was about to change since it began.
    pub is_lasting: bool,
    /// Who waits for it.
    pub conns: Vec<ConnId>,
    /// Whether subscribers wait to be told, too.
    pub is_for_subscribers: bool,
}

/// What a build ended with, and who waits for that.
pub(super) type Built = (Decided, Vec<ConnId>);

pub(super) const fn waiter(build: u32, part: usize) -> Waiter {
    Waiter((build as u64) << 16 | part as u64)
}

pub(super) const fn build_of(waiter: Waiter) -> u32 {
    (waiter.0 >> 16) as u32
}

const _: () = assert!(SERVERS_PER_ENDPOINT_MAX < 1 << 16, "the place of a part is sixteen bits");

impl Routes {
    pub(super) fn begin(&mut self, path: &str, is_for_subscribers: bool) -> u32 {
        let id = self.next_build;
        self.next_build = self.next_build.wrapping_add(1);
        let build = Build {
            path: path.into(),
            endpoint: None,
            parts: Vec::new(),
            making: None,
            is_lasting: true,
            conns: Vec::new(),
            is_for_subscribers,
        };
        self.builds.insert(id, build);
        self.joinable.insert(path.into(), id);
        id
    }

    /// Takes a build as far as it goes. None: it waits for answers.
    pub(super) fn step(&mut self, id: u32, around: Around<'_>, out: &mut Out) -> Option<Built> {
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
        if build.parts.iter().all(|part| matches!(part, Part::Known(_))) { self.make(id, &endpoint, around.hosted) } else { None }
    }

    /// All parts are there: makes the view, as far as this turn may. None: it goes on in the next one.
    fn make(&mut self, id: u32, endpoint: &Arc<Endpoint>, hosted: &[Hosted]) -> Option<Built> {
        let build = self.builds.get_mut(&id)?;
        if build.making.is_none() {
            let known = |part: &Part| match part {
                Part::Known(server) => server.clone(),
                Part::Missing | Part::Asked => None,
            };
            let servers: Vec<_> = build.parts.iter().map(known).collect();
            if let Some(view) = self.views.last(&build.path).filter(|view| view.is_of(endpoint, &servers)) {
                let view = Rc::clone(view);
                return self.complete(id, view);
            }
            build.making = Some(Box::new(Making::new(Arc::clone(endpoint), servers, hosted, self.separator)));
        }
        if build.making.as_mut()?.step(hosted, &mut self.budget) == Progress::More {
            self.unfinished.push_back(id);
            return None;
        }
        let making = build.making.take()?;
        self.epoch += 1;
        let view = making.finish(hosted, self.epoch, self.is_reloadable);
        tracing::debug!(path = view.path(), epoch = view.epoch, "a view was made");
        if view.is_too_large {
            let (items, bytes) = (VIEW_ITEMS_MAX, VIEW_BYTES_MAX);
            let servers = view.endpoint.servers.len();
            tracing::warn!(
                path = view.path(),
                servers,
                "the servers bound to this endpoint offer more than it can show ({items} items, {bytes} bytes): its clients are refused until \
                 some are unbound; bind them to several endpoints"
            );
        }
        self.complete(id, Rc::new(view))
    }

    /// Goes on with builds that take more than one turn, each in turn. To be called once a turn while [`Self::has_unfinished`].
    pub(super) fn go_on(&mut self, around: Around<'_>, out: &mut Out) {
        self.budget = Budget::new(VIEW_TURN_BYTES);
        for _ in 0..self.unfinished.len() {
            if self.budget.is_spent() {
                return;
            }
            let Some(id) = self.unfinished.pop_front() else { return };
            let built = if self.is_wanted(id) { self.step(id, around, out) } else { self.refuse(id, Kind::Overloaded, false) };
            if let Some(built) = built {
                self.settle(id, built, out);
            }
        }
    }

    /// Whether anybody has a use for what a build ends with.
    fn is_wanted(&self, id: u32) -> bool {
        let is_waiting = |conn: &ConnId| self.parked.get(conn) == Some(&id);
        self.builds.get(&id).is_some_and(|build| build.is_lasting || build.conns.iter().any(is_waiting))
    }

    /// Whether builds go on in the next turn.
    pub(in crate::engine) fn has_unfinished(&self) -> bool {
        !self.unfinished.is_empty()
    }

    /// The view is there.
    fn complete(&mut self, id: u32, view: Rc<View>) -> Option<Built> {
        let build = self.end(id)?;
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
    pub(super) fn refuse(&mut self, id: u32, kind: Kind, is_known: bool) -> Option<Built> {
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
    pub(super) fn settle(&mut self, id: u32, (decided, conns): Built, out: &mut Out) {
        for conn in conns {
            if self.parked.get(&conn) == Some(&id) {
                self.parked.remove(&conn);
                self.decided.insert(conn, decided.clone());
                out.effects.push(Effect::Resume { conn });
            }
        }
    }

    /// The question of this waiter is answered: look again.
    pub(super) fn advance(&mut self, asked: Waiter, around: Around<'_>, out: &mut Out) {
        let (id, part) = (build_of(asked), (asked.0 & 0xFFFF) as usize);
        let Some(build) = self.builds.get_mut(&id) else { return self.registry.forget(asked) };
        if let Some(part) = part.checked_sub(1).and_then(|part| build.parts.get_mut(part)) {
            *part = Part::Missing;
        }
        if let Some(built) = self.step(id, around, out) {
            self.settle(id, built, out);
        }
    }
}

/// These builds are good for those who wait for them, and for nobody who comes from now on.
pub(super) fn part(builds: &mut HashMap<u32, Build>, joinable: &mut HashMap<Box<str>, u32>, is_meant: impl Fn(&Build) -> bool) {
    for (id, build) in builds.iter_mut().filter(|(_, build)| is_meant(build)) {
        build.is_lasting = false;
        if joinable.get(&build.path) == Some(id) {
            joinable.remove(&build.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::OTHERS;
    use super::*;

    #[test]
    fn a_waiter_names_its_build_and_nobody_else() {
        let named = waiter(u32::MAX, SERVERS_PER_ENDPOINT_MAX);
        assert_eq!((build_of(named), named.0 & OTHERS), (u32::MAX, 0));
    }
}
