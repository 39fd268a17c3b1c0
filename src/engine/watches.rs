//! Resources of servers behind that clients of this core want to hear of, and where each of them leads. Whoever has the scout of an upstream is told
//! once per resource and core; it says when one changed, and clients hear of it by the name that they know it by.
//!
//! Where a resource leads is found out when the first client of an endpoint subscribes to it, and again whenever this core has made another view of
//! that endpoint. Subscribing never waits for the upstream: what it is asked for, and when, says `crate::gateway`.

use std::rc::Rc;

use hashbrown::{HashMap, HashSet};

use super::out::Out;
use super::view::{Reach, View};
use super::{Engine, hop, legacy_stream};
use crate::base::ids::CoreId;
use crate::base::limits::{UPSTREAM_WATCHED_MAX, UPSTREAM_WATCHED_PER_CORE_MIN};
use crate::base::time::Now;
use crate::wire::mcp::Level;

/// An upstream, and what it calls a resource.
type Own = (u32, Box<str>);
/// The number of an endpoint, and what its clients call a resource.
type Place = (u64, Box<str>);

/// One resource as clients of one endpoint know it.
#[derive(Debug, Default)]
struct Watch {
    /// How many streams and sessions want to hear of it.
    clients: usize,
    leads: Option<Own>,
}

/// Those of one core. See the [module](self).
#[derive(Debug)]
pub(super) struct Watches {
    cores: u16,
    /// Most resources of one upstream that this core has it asked for.
    share: usize,
    /// By endpoint.
    places: HashMap<u64, HashMap<Box<str>, Watch>>,
    /// Where what an upstream calls a resource is wanted.
    wanted: HashMap<Own, Vec<Place>>,
    /// Of each upstream, how many are.
    counts: HashMap<u32, usize>,
    /// Streams that came and went: the endpoint, the resource, and whether it came.
    moved: Vec<(u64, Box<str>, bool)>,
    /// What changed and was not told yet, by endpoint.
    updated: HashMap<u64, HashSet<String>>,
    /// Views that were made when it was found out last where all of this leads.
    epoch: u64,
}

impl Watches {
    pub fn new(cores: u16) -> Self {
        Self {
            cores,
            share: (UPSTREAM_WATCHED_MAX / usize::from(cores.max(1))).max(UPSTREAM_WATCHED_PER_CORE_MIN),
            places: HashMap::new(),
            wanted: HashMap::new(),
            counts: HashMap::new(),
            moved: Vec::new(),
            updated: HashMap::new(),
            epoch: 0,
        }
    }

    /// Whether clients of this core may have this resource of an upstream watched, too.
    pub fn has_room(&self, upstream: u32, uri: &str) -> bool {
        self.counts.get(&upstream).is_none_or(|count| *count < self.share) || self.wanted.contains_key(&(upstream, uri.into()))
    }

    /// A stream that wants to hear of the resource was opened, or is over.
    pub fn moved(&mut self, endpoint: u64, uri: Box<str>, came: bool) {
        self.moved.push((endpoint, uri, came));
    }

    /// Numbers of the endpoints of which anything is watched.
    pub fn endpoints(&self) -> impl Iterator<Item = u64> {
        self.places.keys().copied()
    }

    /// An upstream says that a resource changed.
    pub fn updated(&mut self, upstream: u32, uri: &str) {
        for (endpoint, exposed) in self.wanted.get(&(upstream, uri.into())).into_iter().flatten() {
            self.updated.entry(*endpoint).or_default().insert(exposed.to_string());
        }
    }

    /// Whether there is anything to be told.
    pub fn has_updated(&self) -> bool {
        !self.updated.is_empty()
    }

    /// What is to be told, by endpoint.
    pub fn take_updated(&mut self) -> HashMap<u64, HashSet<String>> {
        std::mem::take(&mut self.updated)
    }

    /// One more client, or one less. Gives what became, or is no longer, of interest to an upstream.
    fn count(&mut self, endpoint: u64, uri: &str, came: bool, view: Option<&Rc<View>>) -> Option<(Own, bool)> {
        if came {
            let watch = self.places.entry(endpoint).or_default().entry(uri.into()).or_default();
            watch.clients += 1;
            if watch.clients > 1 {
                return None;
            }
            let leads = view.and_then(|view| leads(view, uri));
            watch.leads.clone_from(&leads);
            return leads.and_then(|own| self.attach(own, (endpoint, uri.into())));
        }
        let watches = self.places.get_mut(&endpoint)?;
        let watch = watches.get_mut(uri)?;
        watch.clients -= 1;
        if watch.clients > 0 {
            return None;
        }
        let leads = watches.remove(uri)?.leads;
        if watches.is_empty() {
            self.places.remove(&endpoint);
        }
        leads.and_then(|own| self.detach(own, &(endpoint, uri.into())))
    }

    fn attach(&mut self, own: Own, place: Place) -> Option<(Own, bool)> {
        let places = self.wanted.entry(own.clone()).or_default();
        places.push(place);
        if places.len() > 1 {
            return None;
        }
        *self.counts.entry(own.0).or_default() += 1;
        Some((own, true))
    }

    fn detach(&mut self, own: Own, place: &Place) -> Option<(Own, bool)> {
        let places = self.wanted.get_mut(&own)?;
        places.retain(|other| other != place);
        if !places.is_empty() {
            return None;
        }
        self.wanted.remove(&own);
        if let Some(count) = self.counts.get_mut(&own.0) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&own.0);
            }
        }
        Some((own, false))
    }

    /// Finds out anew where what is watched at an endpoint leads.
    fn lead_anew(&mut self, view: &View, told: &mut Vec<(Own, bool)>) {
        let endpoint = view.endpoint.id.number;
        let Some(watches) = self.places.get_mut(&endpoint) else { return };
        let mut changed = Vec::new();
        for (uri, watch) in watches.iter_mut() {
            let leads = leads(view, uri);
            if leads != watch.leads {
                changed.push((uri.clone(), std::mem::replace(&mut watch.leads, leads.clone()), leads));
            }
        }
        for (uri, before, now) in changed {
            let place = (endpoint, uri);
            told.extend(before.and_then(|own| self.detach(own, &place)));
            told.extend(now.and_then(|own| self.attach(own, place)));
        }
    }

    /// For tests: nothing of anybody may be left behind.
    #[cfg(test)]
    pub fn holds_nothing(&self) -> bool {
        self.places.is_empty() && self.wanted.is_empty() && self.counts.is_empty() && self.moved.is_empty()
    }
}

/// Where a resource leads, if that is to an upstream that tells of it.
fn leads(view: &View, uri: &str) -> Option<Own> {
    match view.resource(uri) {
        Reach::Upstream { fronted, name } if fronted.subscribes => Some((fronted.number, name.into())),
        _ => None,
    }
}

impl Engine {
    /// Whether a client may hear of a resource: false when its server does not tell of any, or tells of as many as it may. What leads nowhere for
    /// now may do so later.
    pub(super) fn tells_of(&self, view: &View, uri: &str) -> bool {
        match view.resource(uri) {
            Reach::Upstream { fronted, name } => fronted.subscribes && self.watches.has_room(fronted.number, name),
            Reach::Native { server, .. } => self.hosted.get(server as usize).is_some_and(|hosted| hosted.server.capabilities().updates),
            Reach::Away(_) | Reach::Nothing => true,
        }
    }

    /// Has upstreams told what clients of this core want to hear of, as far as that has changed.
    pub(super) fn settle_watches(&mut self, now: Now, out: &mut Out) {
        let is_moved = self.legacy.sessions.has_moved() || !self.watches.moved.is_empty();
        if !is_moved && (self.watches.epoch == self.routes.epoch() || self.watches.places.is_empty()) {
            return;
        }
        let mut told = Vec::new();
        if self.watches.epoch != self.routes.epoch() {
            self.watches.epoch = self.routes.epoch();
            for view in self.routes.views().iter() {
                self.watches.lead_anew(view, &mut told);
            }
        }
        let streams = std::mem::take(&mut self.watches.moved);
        let sessions = self.legacy.sessions.take_moved().into_iter();
        let sessions = sessions.filter_map(|(endpoint, uri, came)| Some((endpoint, Box::from(std::str::from_utf8(&uri).ok()?), came)));
        for (endpoint, uri, came) in sessions.chain(streams) {
            let view = self.routes.views().iter().find(|view| view.endpoint.id.number == endpoint);
            told.extend(self.watches.count(endpoint, &uri, came, view));
        }
        for ((upstream, uri), is_wanted) in told {
            match self.scout_core(upstream) {
                Some(core) if core == self.core => self.gateway.want_updates(now.mono, upstream, core, &uri, is_wanted),
                Some(core) => self.send_in_order(core, hop::Frame::Watch { upstream, uri, is_wanted }, out),
                None => {}
            }
        }
        if self.gateway.has_output() {
            self.carry_out_gateway(now, out);
        }
    }

    /// An upstream has logged something about itself: sessions of every core may want to hear of it.
    pub(super) fn spread_log(&mut self, now: Now, upstream: u32, level: Level, params: &[u8], out: &mut Out) {
        legacy_stream::tell_logged(self, now, upstream, level, params, out);
        for core in (0..self.watches.cores).map(CoreId).filter(|core| *core != self.core) {
            Self::send_hop(core, Box::new(hop::Frame::Logged { upstream, level, params: params.into() }), out);
        }
    }

    /// A resource of an upstream changed of which clients of these cores want to hear.
    pub(super) fn spread_update(&mut self, upstream: u32, uri: &str, cores: &[CoreId], out: &mut Out) {
        for &core in cores {
            if core == self.core {
                self.watches.updated(upstream, uri);
            } else {
                self.send_in_order(core, hop::Frame::Updated { upstream, uri: uri.into() }, out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_is_told_of_the_first_and_the_last() {
        let mut watches = Watches::new(2);
        let own = |uri: &str| (3, Box::from(uri));
        let place = |endpoint: u64, uri: &str| (endpoint, Box::from(uri));
        assert_eq!(watches.attach(own("a:1"), place(1, "a:1")), Some((own("a:1"), true)));
        assert_eq!(watches.attach(own("a:1"), place(2, "s+a:1")), None);
        watches.updated(3, "a:1");
        watches.updated(3, "a:2");
        watches.updated(4, "a:1");
        let updated = watches.take_updated();
        assert!(updated[&1].contains("a:1") && updated[&2].contains("s+a:1") && updated.len() == 2, "{updated:?}");
        assert_eq!(watches.detach(own("a:1"), &place(1, "a:1")), None);
        assert_eq!(watches.detach(own("a:1"), &place(2, "s+a:1")), Some((own("a:1"), false)));
        assert!(watches.holds_nothing());
    }

    #[test]
    fn a_core_has_its_share_of_what_an_upstream_is_asked_for() {
        let mut watches = Watches::new(2);
        for number in 0..UPSTREAM_WATCHED_MAX / 2 {
            let uri: Box<str> = format!("a:{number}").into();
            assert!(watches.has_room(1, &uri));
            watches.attach((1, uri.clone()), (1, uri));
        }
        assert!(!watches.has_room(1, "a:more") && watches.has_room(1, "a:0") && watches.has_room(2, "a:more"));
    }
}
