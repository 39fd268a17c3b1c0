//! Requests that an upstream did not take since it is not as this gateway knew it: they go again, once, as it wants them. It has executed nothing of
//! them, so that this holds for calls of tools, too.
//!
//! VERSION: it does not speak the version any more that its scout found out (-32022; 2026-07-28, versioning, "Version Negotiation"). The request
//! goes again in one that both speak, which may be of the other era; so do later ones, until the registry says what it speaks.
//!
//! HEADERS: its tool wants other arguments mirrored than the list says that its clients know (-32020; 2026-07-28, transports, "Custom Headers"). Its
//! tools are read again, once for all requests that wait for it, and the request goes with the fields that they ask for.
//!
//! In both cases its scout is told, which finds out anew what there is, for all cores and clients.

use super::failure::Failure;
use super::owner::Seat;
use super::pages::{Found, Lists, Next};
use super::reply::{Reply, versions_named};
use super::scout::{Errand, Stage as Scouting};
use super::slots::Key;
use super::trip::{Stage, Who};
use super::upstream::Upstream;
use super::write::{self, Forward};
use super::{Dialect, Gateway, Owned};
use crate::base::limits;
use crate::base::metrics::Counter;
use crate::base::time::Nanos;
use crate::wire::json;
use crate::wire::jsonrpc::{self, Body, Id, Message};
use crate::wire::mcp::{Era, Method, NameParam, Version, header_params_of};

/// What a scout found out that does not hold any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Doubt {
    /// What the upstream speaks.
    Version,
    /// What tools it has.
    Tools,
}

/// The tools of an upstream, being read again.
#[derive(Debug, Default)]
pub(super) struct Refresh {
    found: Found,
    pages: usize,
}

impl Upstream {
    /// What it speaks that speaks `version` as far as the registry knows.
    pub fn now_speaks(&mut self, version: Version) -> Version {
        match self.turned {
            Some((era, turned)) if era == version.era() => turned,
            Some(_) => {
                self.turned = None;
                version
            }
            None => version,
        }
    }

    /// It takes no request in the era that it was found to speak, but in this version.
    fn turn(&mut self, version: Version) {
        let known = self.turned.map_or_else(|| other(version.era()), |(era, _)| era);
        self.turned = (known != version.era()).then_some((known, version));
    }
}

const fn other(era: Era) -> Era {
    match era {
        Era::Legacy => Era::Modern,
        Era::Modern => Era::Legacy,
    }
}

/// The newest version that an error names and that may be spoken, another one than this if there is one.
fn choose(error: &[u8], but: Version, dialect: Dialect) -> Option<Version> {
    let may_be = |version: &Version| match dialect {
        Dialect::Auto => true,
        Dialect::Legacy => version.era() == Era::Legacy,
        Dialect::Modern => version.era() == Era::Modern,
    };
    let named = || json::elements(versions_named(error)).filter_map(Version::from_raw).filter(may_be);
    let rank = |version: &Version| Version::ALL.iter().position(|other| other == version);
    named().filter(|version| *version != but).max_by_key(rank).or_else(|| named().next())
}

impl Gateway {
    /// A request was not answered as its client can have it: it goes again if that may help, else it has failed.
    pub(super) fn fail_or_mend(&mut self, now: Nanos, key: Key, failure: Failure, message: &[u8]) {
        let is_mended = match &failure {
            Failure::Version => match jsonrpc::parse(message) {
                Ok(Body::One(Message::Response(response))) => response.error.is_some_and(|error| self.renegotiate(now, key, error)),
                _ => false,
            },
            Failure::Headers => self.refresh(now, key),
            _ => false,
        };
        if !is_mended {
            self.fail(now, key, failure);
        }
    }

    /// Scouts are to know this since it was asked last: see [`Self::doubt`].
    pub fn take_doubts(&mut self) -> Vec<(u32, Doubt)> {
        std::mem::take(&mut self.doubts)
    }

    /// A core has found out that an upstream, whose scout is here, is not as that found it.
    pub fn doubt(&mut self, now: Nanos, upstream: u32, doubt: Doubt) {
        if self.upstreams.get(upstream).is_none_or(|up| up.scout.is_none()) || self.is_draining {
            return;
        }
        match doubt {
            Doubt::Tools => self.stale(now, upstream),
            Doubt::Version => self.begin_anew(now, upstream),
        }
    }

    /// The scout finds out again what the upstream speaks, and then all else: not more often than it lists what changes and changes.
    fn begin_anew(&mut self, now: Nanos, upstream: u32) {
        let Some(scout) = self.scout(upstream).filter(|scout| matches!(scout.stage, Scouting::Watching | Scouting::Listing)) else {
            return;
        };
        (scout.stage, scout.is_woken, scout.is_listening) = (Scouting::Waiting, false, false);
        // The pages that are on their way are of no use.
        scout.listing = scout.listing.wrapping_add(1);
        scout.due = scout.next_listing(now);
        let (due, listens) = (scout.due, [scout.listen.take(), scout.former.take().map(|(key, _)| key)]);
        self.expect(due);
        for listen in listens.into_iter().flatten() {
            self.drop_trip(now, listen);
        }
    }

    /// See VERSION in the [module](self). Whether the request goes again.
    pub(super) fn renegotiate(&mut self, now: Nanos, key: Key, error: &[u8]) -> bool {
        let Some(trip) = self.trips.get(key) else { return false };
        let (upstream, known) = (trip.upstream, trip.version);
        let Some(version) = choose(error, known, self.upstreams[upstream].settings.dialect) else { return false };
        let is_turned = known.era() != version.era();
        let params = json::get(&trip.body, "params").unwrap_or(b"{}");
        // What was answered to the other era's questions would be lost, and what had been done for them may be done twice.
        let is_later_round = ["inputResponses", "requestState"].into_iter().any(|name| json::get(params, name).is_some());
        // Which version of its era a session is in was asked for when it was opened, and refused.
        let is_refused = trip.stage == Stage::Unopened && !is_turned;
        if trip.is_mended || !matches!(trip.who, Who::Call(..)) || (is_turned && is_later_round) || is_refused {
            return false;
        }
        let rewritten = if is_turned { self.turn(now, key, version) } else { Ok(()) };
        if rewritten.is_err() {
            return false;
        }
        let shared = self.shared_by(upstream);
        if is_turned {
            self.upstreams[shared].turn(version);
        }
        self.doubts.push((shared, Doubt::Version));
        self.part_for_another(key);
        if version.era() == Era::Legacy && !is_turned {
            // Another version of that era is agreed on in another session.
            let seat = self.trips.get(key).map_or(Seat::Shared, |trip| trip.seat);
            self.forget_session(upstream, seat);
        }
        self.metrics.count(Counter::UpstreamRetries);
        self.dispatch(now, key);
        true
    }

    /// The upstream that all know: of a process of one client that which it is of.
    fn shared_by(&self, upstream: u32) -> u32 {
        self.upstreams[upstream].tenancy.map_or(upstream, |tenancy| tenancy.upstream)
    }

    /// The request is to go another way. It may have waited for a session.
    fn part_for_another(&mut self, key: Key) {
        self.part(key);
        if let Some(trip) = self.trips.get_mut(key) {
            trip.is_mended = true;
        }
    }

    /// Writes a request anew, in a version of the other era.
    fn turn(&mut self, now: Nanos, key: Key, version: Version) -> Result<(), Failure> {
        let number = self.number();
        let (mut head, mut body) = (Vec::new(), Vec::new());
        let Some(trip) = self.trips.get(key) else { return Err(Failure::Gone) };
        let Who::Call(core, call) = trip.who else { return Err(Failure::Gone) };
        let (upstream, old_seat, old_stage) = (trip.upstream, trip.seat, trip.stage);
        let (old_body, token) = (trip.body.clone(), trip.token.clone());
        let (method, old_era, level, wanted) = (trip.method, trip.version.era(), trip.level, trip.wanted);
        let (owner, speaks, capabilities) = (trip.owner, trip.speaks, trip.capabilities);
        let params = json::get(&old_body, "params").unwrap_or(b"{}");
        let meta = json::get(params, "_meta").unwrap_or_default();
        // A session says who its client is when it is opened, a modern request by itself.
        let opening = self.session(upstream, old_seat).map(|session| [b"{", &*session.members, b"}"].concat()).unwrap_or_default();
        let client_info = match old_era {
            Era::Modern => json::get(meta, crate::wire::mcp::meta_key::CLIENT_INFO),
            Era::Legacy => json::get(&opening, "clientInfo"),
        };
        let name = method.name_param().and_then(|member| match member {
            NameParam::Name => json::get(params, "name"),
            NameParam::Uri => json::get(params, "uri"),
            _ => None,
        });
        let name = name.and_then(json::string).unwrap_or_default();
        let forward = Forward {
            core,
            call,
            // What is there is of no modern client.
            era: Era::Legacy,
            method,
            id: Id::Number(b"0"),
            params,
            renamed: None,
            name: &name,
            exposed: &name,
            progress_token: Some(token.as_bytes()).filter(|token| !token.is_empty()),
            level,
            wanted,
            client_info,
            owner,
            speaks,
            capabilities,
            agrees: true,
            fields: &[],
        };
        write::message(&mut body, &forward, version, Some(number));
        if version.era() == Era::Modern && self.upstreams[upstream].pipe.is_none() {
            let starts = &self.upstreams[upstream].settings.starts;
            let written = write::modern_head(&mut head, starts, &forward, version, body.len(), &mut self.space);
            written.map_err(|_| Failure::Garbage("a header field that cannot be sent"))?;
        }
        let seat = match version.era() {
            Era::Legacy => self.seat(now, upstream, &forward)?,
            Era::Modern => Seat::Shared,
        };
        // Until now nothing is changed.
        if old_stage == Stage::Unopened {
            self.upstreams[upstream].unopened -= 1;
        }
        self.part(key);
        if let Some(trip) = self.trips.get_mut(key) {
            (trip.head, trip.body, trip.seat, trip.session) = (head, body, seat, 0);
            (trip.version, trip.number, trip.is_renewed) = (version, Some(number), false);
        }
        if let Seat::Own(own) = seat
            && let Some(own) = self.owners.get_mut(own)
        {
            own.calls += 1;
        }
        self.call_over(upstream, old_seat);
        Ok(())
    }

    /// See HEADERS in the [module](self). Whether the request waits for that.
    fn refresh(&mut self, now: Nanos, key: Key) -> bool {
        let Some(trip) = self.trips.get(key) else { return false };
        let upstream = trip.upstream;
        let may_be = trip.method == Method::ToolsCall && !trip.head.is_empty() && matches!(trip.who, Who::Call(..)) && !trip.is_mended;
        if !may_be || trip.version.era() == Era::Legacy {
            return false;
        }
        let version = trip.version;
        self.part_for_another(key);
        if let Some(trip) = self.trips.get_mut(key) {
            (trip.stage, trip.due) = (Stage::Refreshing, trip.ends);
        }
        self.doubts.push((upstream, Doubt::Tools));
        if self.upstreams[upstream].refresh.is_none() {
            self.upstreams[upstream].refresh = Some(Box::default());
            self.ask(now, Owned { upstream, errand: Errand::Refresh, method: Method::ToolsList, version, members: b"" });
        }
        true
    }

    /// A page of the tools has come, or has not.
    pub(super) fn on_refreshed(&mut self, now: Nanos, upstream: u32, reply: Result<&Reply<'_>, Failure>) {
        let Some(refresh) = &mut self.upstreams[upstream].refresh else { return };
        let page = reply.and_then(|reply| reply.result());
        let next = match page {
            Ok(page) => {
                refresh.pages += 1;
                Ok(refresh.found.add(Lists::Tools, page))
            }
            Err(failure) => Err(failure),
        };
        if let Ok(Next::Page(cursor)) = &next
            && refresh.pages < limits::UPSTREAM_PAGES_MAX
        {
            let members = [br#""cursor":"#, &**cursor].concat();
            let version = Version::MODERN_NEWEST;
            self.ask(now, Owned { upstream, errand: Errand::Refresh, method: Method::ToolsList, version, members: &members });
            return;
        }
        let found = self.upstreams[upstream].refresh.take().map(|refresh| refresh.found).unwrap_or_default();
        let waiting: Vec<Key> = self
            .trips
            .iter()
            .filter(|(_, trip)| trip.upstream == upstream && trip.stage == Stage::Refreshing)
            .map(|(key, _)| key)
            .collect();
        for key in waiting {
            match &next {
                Ok(_) if self.mirror(key, &found) => {
                    self.metrics.count(Counter::UpstreamRetries);
                    self.dispatch(now, key);
                }
                Ok(_) => self.fail(now, key, Failure::Headers),
                Err(failure) => self.fail(now, key, failure.clone()),
            }
        }
    }

    /// Has the request mirror what its tool wants. Whether that makes a difference.
    fn mirror(&mut self, key: Key, found: &Found) -> bool {
        let Some(trip) = self.trips.get_mut(key) else { return false };
        let params = json::get(&trip.body, "params").unwrap_or_default();
        let Some(name) = json::get(params, "name").and_then(json::string) else { return false };
        let Some(tool) = found.items[Lists::Tools as usize].iter().find(|tool| *tool.name == *name) else { return false };
        let arguments = json::get(params, "arguments").unwrap_or_default();
        let before = trip.head.clone();
        write::mirror_anew(&mut trip.head, &header_params_of(&tool.json), arguments);
        trip.head != before
    }
}
