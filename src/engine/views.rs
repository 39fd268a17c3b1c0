//! The views that a core has made, and what became of the entries they were made of.
//!
//! A view is used as long as none of its entries is about to change: from then on it is only kept to say later what is different, and the next
//! request has another one made. Who listens is told when the change was made; see [`super::changes`] for how often.

use std::rc::Rc;

use hashbrown::{HashMap, HashSet};

use super::out::Lists;
use super::view::View;
use crate::registry::Kind;

/// One endpoint as this core knows it.
#[derive(Debug)]
struct Seen {
    view: Rc<View>,
    /// Whether none of its entries may have changed.
    is_fresh: bool,
    /// Lists that were different from one view to the next since subscribers were told: a client may have fetched any of them meanwhile, also
    /// one that is now again what it was.
    differing: Lists,
    /// Asked for since views were let go of the last time.
    is_used: bool,
}

/// The views of one core, by path.
#[derive(Debug, Default)]
pub(super) struct Views {
    seen: HashMap<Rc<str>, Seen>,
    /// Endpoints that a server is bound to, by the server's name.
    bound: HashMap<Box<str>, Vec<Rc<str>>>,
    /// Endpoints to which a server is bound that there is not.
    lacking: HashSet<Rc<str>>,
    /// Endpoints that changed, or may have, since their subscribers were told.
    changed: HashSet<Rc<str>>,
    /// Numbers of endpoints that are no more.
    gone: Vec<u64>,
    /// Of all that the views show.
    bytes: usize,
}

impl Views {
    /// How many endpoints are known.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// The view of this endpoint, if it is good.
    pub fn fresh(&mut self, path: &str) -> Option<&Rc<View>> {
        let seen = self.seen.get_mut(path).filter(|seen| seen.is_fresh)?;
        seen.is_used = true;
        Some(&seen.view)
    }

    /// The last view of this endpoint, good or not.
    pub fn last(&self, path: &str) -> Option<&Rc<View>> {
        self.seen.get(path).map(|seen| &seen.view)
    }

    /// All of them, good or not.
    pub fn iter(&self) -> impl Iterator<Item = &Rc<View>> {
        self.seen.values().map(|seen| &seen.view)
    }

    /// Keeps a view; one that is not fresh only so that its subscribers hear of changes, and not in place of a newer one: it may have been
    /// long in the making.
    pub fn put(&mut self, view: &Rc<View>, is_fresh: bool) {
        let Some((path, seen)) = self.seen.get_key_value(view.path()) else {
            let path: Rc<str> = view.path().into();
            self.bind(&path, view);
            self.seen.insert(path, Seen { view: Rc::clone(view), is_fresh, differing: Lists::NONE, is_used: true });
            return;
        };
        let (path, old) = (Rc::clone(path), Rc::clone(&seen.view));
        // No path has the same version twice, whichever endpoint is there.
        if !is_fresh && (seen.is_fresh || old.endpoint.version > view.endpoint.version) {
            if let Some(seen) = self.seen.get_mut(&path) {
                seen.differing = seen.differing.with(view.changes_since(&old));
            }
            return;
        }
        if old.endpoint.id != view.endpoint.id {
            self.gone.push(old.endpoint.id.number);
        }
        if !Rc::ptr_eq(&old, view) {
            self.unbind(&path, &old);
            self.bind(&path, view);
        }
        let Some(seen) = self.seen.get_mut(&path) else { return };
        if !Rc::ptr_eq(&old, view) {
            seen.differing = seen.differing.with(view.changes_since(&old));
        }
        (seen.view, seen.is_fresh, seen.is_used) = (Rc::clone(view), is_fresh, true);
    }

    /// A request is answered with a view that was made for it some time ago, and may listen there from now on. When that is not what would be
    /// made now, it is to be found out what is: else this core would not hear of the next change.
    pub fn take_up(&mut self, view: &View) {
        let Some(seen) = self.seen.get(view.path()) else { return self.gone.push(view.endpoint.id.number) };
        if seen.view.endpoint.id != view.endpoint.id {
            self.gone.push(view.endpoint.id.number);
        }
        if !seen.is_fresh {
            self.put_back(view.path());
        }
    }

    /// The endpoint is no more.
    pub fn remove(&mut self, path: &str) {
        if let Some(seen) = self.seen.remove(path) {
            self.unbind(path, &seen.view);
            self.changed.remove(path);
            self.gone.push(seen.view.endpoint.id.number);
        }
    }

    fn bind(&mut self, path: &Rc<str>, view: &View) {
        self.bytes += view.bytes;
        if view.absent().next().is_some() {
            self.lacking.insert(Rc::clone(path));
        }
        for name in &view.endpoint.servers {
            self.bound.entry(name.clone()).or_default().push(Rc::clone(path));
        }
    }

    fn unbind(&mut self, path: &str, view: &View) {
        self.bytes -= view.bytes;
        self.lacking.remove(path);
        for name in &view.endpoint.servers {
            if let Some(paths) = self.bound.get_mut(name) {
                paths.retain(|bound| **bound != *path);
                if paths.is_empty() {
                    self.bound.remove(name);
                }
            }
        }
    }

    /// An entry is about to change, or has changed: no view that was made of it is good any more, and whoever listens to one is to be told what
    /// is different, if anything. Whether there was such a view.
    ///
    /// What is about to change is looked at for listeners as well: should it stay as it is, this core would not be told of the next change.
    pub fn spoil(&mut self, kind: Kind, name: &str) -> bool {
        match kind {
            Kind::Endpoint => self.seen.get_key_value(name).map(|(path, _)| Rc::clone(path)).is_some_and(|path| self.spoil_one(path)),
            Kind::Server => {
                let paths = self.bound.get(name).cloned().unwrap_or_default();
                self.spoil_each(paths)
            }
        }
    }

    /// There may be servers that were not there before: those whose names are meant.
    pub fn spoil_absent(&mut self, is_meant: impl Fn(&str) -> bool) -> bool {
        let has_such = |path: &&Rc<str>| self.seen.get(*path).is_some_and(|seen| seen.view.absent().any(&is_meant));
        let paths: Vec<_> = self.lacking.iter().filter(has_such).cloned().collect();
        self.spoil_each(paths)
    }

    fn spoil_each(&mut self, paths: Vec<Rc<str>>) -> bool {
        let mut any = false;
        for path in paths {
            any |= self.spoil_one(path);
        }
        any
    }

    fn spoil_one(&mut self, path: Rc<str>) -> bool {
        let Some(seen) = self.seen.get_mut(&path) else { return false };
        seen.is_fresh = false;
        self.changed.insert(path);
        true
    }

    /// Any entry may have changed.
    pub fn spoil_all(&mut self) {
        self.seen.values_mut().for_each(|seen| seen.is_fresh = false);
        self.changed.extend(self.seen.keys().cloned());
    }

    /// Whether subscribers are to be told of anything.
    pub fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// The endpoints that changed and have subscribers; the others need not be looked at.
    pub fn take_changed(&mut self, subscribed: &HashSet<u64>) -> Vec<Rc<str>> {
        let (seen, changed) = (&mut self.seen, std::mem::take(&mut self.changed));
        let is_wanted = |path: &Rc<str>| {
            let Some(seen) = seen.get_mut(path) else { return false };
            let is_wanted = subscribed.contains(&seen.view.endpoint.id.number);
            if !is_wanted {
                seen.differing = Lists::NONE;
            }
            is_wanted
        };
        changed.into_iter().filter(is_wanted).collect()
    }

    /// What could not be found out yet is still to be told.
    pub fn put_back(&mut self, path: &str) {
        if let Some((path, _)) = self.seen.get_key_value(path) {
            self.changed.insert(Rc::clone(path));
        }
    }

    /// Subscribers are told now: the endpoint's number, and which lists were different since they were told last.
    pub fn tell(&mut self, path: &str) -> Option<(u64, Lists)> {
        let seen = self.seen.get_mut(path)?;
        Some((seen.view.endpoint.id.number, std::mem::take(&mut seen.differing)))
    }

    /// The endpoint of this number is no more, whether or not there is a view of it.
    pub fn gone(&mut self, endpoint: u64) {
        self.gone.push(endpoint);
    }

    /// Whether endpoints are no more.
    pub const fn has_gone(&self) -> bool {
        !self.gone.is_empty()
    }

    /// The endpoints that are no more.
    pub fn take_gone(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.gone)
    }

    /// Whether there are more than so many, or they show more than so many bytes.
    pub fn exceed(&self, views_max: usize, bytes_max: usize) -> bool {
        self.seen.len() > views_max || self.bytes > bytes_max
    }

    /// When there are too many, or they show too much, lets go of views that nobody asked for lately and nobody listens to: of half of so
    /// many, or of as much as is too much.
    pub fn evict(&mut self, views_max: usize, bytes_max: usize, subscribed: impl FnOnce() -> HashSet<u64>) {
        if !self.exceed(views_max, bytes_max) {
            return;
        }
        let subscribed = subscribed();
        let is_kept = |seen: &Seen| subscribed.contains(&seen.view.endpoint.id.number);
        let mut unused: Vec<_> =
            self.seen.iter().filter(|(_, seen)| !is_kept(seen)).map(|(path, seen)| (seen.is_used, Rc::clone(path))).collect();
        unused.sort_unstable();
        let views_max = if self.seen.len() > views_max { views_max / 2 } else { views_max };
        for (_, path) in unused {
            if !self.exceed(views_max, bytes_max) {
                break;
            }
            if let Some(seen) = self.seen.remove(&path) {
                self.unbind(&path, &seen.view);
                self.changed.remove(&path);
            }
        }
        self.seen.values_mut().for_each(|seen| seen.is_used = false);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::ids::NodeId;
    use crate::engine::config::Separator;
    use crate::registry::{Endpoint, ServerId};

    fn view(number: u64, version: u64, servers: &[&str]) -> Rc<View> {
        view_at("/mcp/x", number, version, servers)
    }

    fn view_at(path: &str, number: u64, version: u64, servers: &[&str]) -> Rc<View> {
        let servers: Box<[Box<str>]> = servers.iter().map(|name| (*name).into()).collect();
        let (id, absent) = (ServerId { node: NodeId(0), number }, vec![None; servers.len()]);
        let endpoint = Endpoint { path: path.into(), id, version, servers, created_ms: 0, updated_ms: 0, is_configured: false };
        Rc::new(View::new(Arc::new(endpoint), absent, &[], Separator::Dot, version))
    }

    #[test]
    fn a_view_that_was_long_in_the_making_takes_the_place_of_none_that_is_newer() {
        let mut views = Views::default();
        let (old, new) = (view(1, 1, &["a"]), view(2, 3, &[]));
        views.put(&new, true);
        views.put(&old, false);
        assert!(views.fresh("/mcp/x").is_some_and(|view| Rc::ptr_eq(view, &new)));
        assert!(!views.has_gone(), "the endpoint that is there is not over");
        assert!(views.spoil(Kind::Endpoint, "/mcp/x"));
        views.put(&old, false);
        assert!(views.last("/mcp/x").is_some_and(|view| Rc::ptr_eq(view, &new)) && !views.has_gone());
        let newer = view(4, 5, &[]);
        views.put(&newer, false);
        assert_eq!(views.take_gone(), [2]);
        assert!(views.last("/mcp/x").is_some_and(|view| Rc::ptr_eq(view, &newer)) && views.fresh("/mcp/x").is_none());
    }

    #[test]
    fn views_that_show_too_much_are_let_go_of_and_what_is_listened_to_stays() {
        let mut views = Views::default();
        for number in 1..=9 {
            let mut view = Rc::into_inner(view_at(&format!("/mcp/x{number}"), number, 1, &[])).expect("nobody else has it");
            view.bytes = 100;
            views.put(&Rc::new(view), true);
        }
        views.evict(100, 900, || panic!("there is room"));
        views.evict(100, 899, HashSet::new);
        assert_eq!((views.len(), views.bytes), (8, 800), "no more than needs be");
        assert!(views.fresh("/mcp/x9").is_some() || views.fresh("/mcp/x8").is_some());
        let subscribed: HashSet<u64> = (1..=9).filter(|number| *number != 5).collect();
        views.evict(100, 0, || subscribed);
        assert!(views.last("/mcp/x5").is_none() && views.len() >= 7);
        views.evict(100, 0, HashSet::new);
        assert_eq!((views.len(), views.bytes), (0, 0));
    }
}
