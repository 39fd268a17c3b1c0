//! What an upstream says of its own accord: that lists changed, and resources. The scout hears of it, for all cores.
//!
//! One of the modern era is asked for a stream of changes, which also names the resources that clients want to hear of. When these change, another
//! stream is opened, and the one before is closed once the new one is acknowledged: between two of them nothing is lost
//! (2026-07-28, subscriptions). One of the legacy era is asked for a stream with GET unless it is a process, and for each resource by itself,
//! in the scout's session and when the stream is open; what it was asked for before is asked for again in every other session.
//!
//! Lost is what changes while an upstream has no such stream or session: before it knows what is wanted, and from the end of one until the next is
//! there. Lists are asked for again then; of single resources nobody can say what happened to them, and nothing is said.

use std::time::Duration;

use hashbrown::{HashMap, HashSet};

use super::failure::Failure;
use super::owner::Seat;
use super::reply::Reply;
use super::scout::{CHECK_AGAIN, Errand, Finding, News, POLL, SETTLE, Scout, Stage};
use super::slots::Key;
use super::trip::{Stage as Sent, Verb, Who};
use super::write::Number;
use super::{Gateway, Owned};
use crate::base::ids::{CoreId, LinkId};
use crate::base::limits;
use crate::base::time::Nanos;
use crate::wire::json::{self, write_array, write_str};
use crate::wire::jsonrpc::{self, Body, Message, Params};
use crate::wire::mcp::{self, Era, Method};

/// A stream of changes is opened anew no more often than this because others are wanted.
const REOPENED: Duration = Duration::from_millis(250);
/// Updates of one resource within this time are told once.
const COALESCED: Duration = Duration::from_millis(50);

/// Resources of an upstream of which clients want to hear.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// By the upstream's URI, the cores where anybody wants to.
    wanted: HashMap<Box<str>, Vec<CoreId>>,
    /// What the upstream was asked for in this session of the legacy era.
    asked: HashSet<Box<str>>,
    /// That session, as they are counted.
    session: u32,
    /// Where the two may differ.
    open: HashSet<Box<str>>,
    /// Requests about that on their way.
    in_work: usize,
    /// The stream of changes names others than are wanted.
    is_changed: bool,
    /// The upstream did not want to tell of these.
    is_refused: bool,
    /// When there is something to ask for.
    asks: Nanos,
    /// What was updated and is not told yet.
    updated: Vec<Box<str>>,
    /// It is told from this moment on.
    tells: Nanos,
}

impl Watched {
    pub fn due(&self) -> Nanos {
        let asks = if self.asks == Nanos(0) { Nanos::NEVER } else { self.asks };
        if self.updated.is_empty() { asks } else { asks.min(self.tells) }
    }

    /// Whether nobody wants to hear of a resource.
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    /// What was asked for that the resource of this URI is, or is a part of (2025-11-25, resources, "Subscriptions").
    fn meant(&self, uri: &str) -> Option<&str> {
        let parts = uri.bytes().enumerate().rev().filter(|(_, byte)| *byte == b'/');
        let parts = parts.flat_map(|(at, _)| [&uri[..=at], &uri[..at]]);
        std::iter::once(uri).chain(parts).find_map(|uri| Some(&**self.wanted.get_key_value(uri)?.0))
    }

    /// Notes that one more core, or one less, wants to hear of it. Whether that makes a difference to the upstream.
    fn want(&mut self, core: CoreId, uri: &str, is_wanted: bool) -> bool {
        if is_wanted {
            if let Some(cores) = self.wanted.get_mut(uri) {
                if !cores.contains(&core) {
                    cores.push(core);
                }
                return false;
            }
            self.wanted.insert(uri.into(), vec![core]);
            self.open.insert(uri.into());
            return true;
        }
        let Some(cores) = self.wanted.get_mut(uri) else { return false };
        cores.retain(|other| *other != core);
        if !cores.is_empty() {
            return false;
        }
        self.wanted.remove(uri);
        if self.asked.contains(uri) {
            self.open.insert(uri.into());
        } else {
            self.open.remove(uri);
        }
        true
    }
}

impl Gateway {
    /// Clients of this core want to hear when a resource changes, or no longer do. To be told where the scout is.
    pub fn want_updates(&mut self, now: Nanos, upstream: u32, core: CoreId, uri: &str, is_wanted: bool) {
        let Some(scout) = self.upstreams.get_mut(upstream).and_then(|up| up.scout.as_mut()) else { return };
        if is_wanted && scout.watched.wanted.len() >= limits::UPSTREAM_WATCHED_MAX {
            tracing::warn!(upstream, "more resources of an upstream are watched than may be; one is not");
            return;
        }
        if !scout.watched.want(core, uri, is_wanted) {
            return;
        }
        (scout.watched.is_changed, scout.watched.is_refused) = (true, false);
        let is_legacy = scout.version.era() == Era::Legacy;
        // Streams are not opened one behind the other as fast as clients come and go.
        let at = if is_legacy { now } else { now.after(SETTLE).max(scout.listened.after(REOPENED)) };
        self.settle_at(upstream, at);
        if is_legacy {
            self.settle_watched(now, upstream);
        }
    }

    fn settle_at(&mut self, upstream: u32, at: Nanos) {
        if let Some(scout) = self.scout(upstream) {
            scout.watched.asks = if scout.watched.asks == Nanos(0) { at } else { scout.watched.asks.min(at) };
            self.expect(at);
        }
    }

    /// Does what is due about single resources.
    pub(super) fn tick_watched(&mut self, now: Nanos, upstream: u32) {
        let Some(scout) = self.scout(upstream) else { return };
        let is_to_ask = scout.watched.asks != Nanos(0) && scout.watched.asks <= now;
        if is_to_ask {
            self.settle_watched(now, upstream);
        }
        self.tell_updated(now, upstream);
    }

    /// Passes on what was updated, each resource once in a while.
    fn tell_updated(&mut self, now: Nanos, upstream: u32) {
        let Some(scout) = self.scout(upstream) else { return };
        let watched = &mut scout.watched;
        if watched.updated.is_empty() {
            return;
        }
        if now < watched.tells {
            let due = watched.tells;
            return self.expect(due);
        }
        watched.tells = now.after(COALESCED);
        let mut news = Vec::with_capacity(watched.updated.len());
        for uri in watched.updated.drain(..) {
            if let Some(cores) = watched.wanted.get(&uri) {
                news.push(News { upstream, finding: Finding::Updated { uri, cores: cores.as_slice().into() } });
            }
        }
        self.news.append(&mut news);
    }

    /// Asks the upstream for what is wanted and was not asked for, if it can be asked now.
    pub(super) fn settle_watched(&mut self, now: Nanos, upstream: u32) {
        let Some(scout) = self.scout(upstream) else { return };
        scout.watched.asks = Nanos(0);
        if !matches!(scout.stage, Stage::Watching | Stage::Listing) || !scout.capabilities.resources_updates {
            return;
        }
        if scout.version.era() == Era::Legacy { self.settle_legacy(now, upstream) } else { self.settle_modern(now, upstream) }
    }

    fn settle_modern(&mut self, now: Nanos, upstream: u32) {
        let Some(scout) = self.scout(upstream) else { return };
        // While the lists are drained for the first time there is none, and it is opened behind that.
        if !scout.watched.is_changed || scout.is_silent || (scout.stage == Stage::Listing && scout.listen.is_none()) {
            return;
        }
        scout.watched.is_changed = false;
        if scout.watched.wanted.is_empty() && !scout.capabilities.tells() {
            for listen in [scout.listen.take(), scout.former.take().map(|(key, _)| key)].into_iter().flatten() {
                self.end_listen(now, listen);
            }
            return;
        }
        let (listen, listens) = (scout.listen.take(), scout.listens);
        match (listen, scout.former) {
            // It was not acknowledged: the one before stays.
            (Some(listen), Some(_)) => self.end_listen(now, listen),
            (Some(listen), None) => scout.former = Some((listen, listens)),
            (None, _) => {}
        }
        self.listen(now, upstream);
    }

    fn settle_legacy(&mut self, now: Nanos, upstream: u32) {
        let is_process = self.is_process(upstream);
        let up = &mut self.upstreams[upstream];
        let sessions = up.session.opened;
        let Some(scout) = &mut up.scout else { return };
        if up.session.open().is_none() || !up.session.greeting.is_empty() {
            return;
        }
        let watched = &mut scout.watched;
        if watched.session != sessions {
            watched.session = sessions;
            watched.asked.clear();
            watched.open = watched.wanted.keys().cloned().collect();
        }
        if watched.open.is_empty() {
            return;
        }
        if !is_process && !scout.is_silent && !scout.is_listening {
            if scout.listen.is_none() {
                self.listen(now, upstream);
            }
            let Some(scout) = self.scout(upstream) else { return };
            // Some say nothing before there is something to say.
            let latest = scout.listened.after(CHECK_AGAIN);
            if now < latest {
                return self.settle_at(upstream, latest);
            }
        }
        loop {
            let Some(scout) = self.scout(upstream) else { return };
            let (version, watched) = (scout.version, &mut scout.watched);
            if watched.in_work >= limits::UPSTREAM_WATCH_REQUESTS_MAX {
                return;
            }
            let Some(uri) = watched.open.iter().next().cloned() else { return };
            watched.open.remove(&uri);
            let method = match (watched.wanted.contains_key(&uri), watched.asked.contains(&uri)) {
                (true, false) => Method::ResourcesSubscribe,
                (false, true) => Method::ResourcesUnsubscribe,
                _ => continue,
            };
            watched.in_work += 1;
            if method == Method::ResourcesSubscribe {
                watched.asked.insert(uri.clone());
            } else {
                watched.asked.remove(&uri);
            }
            let mut members = br#""uri":"#.to_vec();
            write_str(&mut members, &uri);
            self.ask(now, Owned { upstream, errand: Errand::Watch, method, version, members: &members });
        }
    }

    /// The upstream was asked to tell of a resource, or no longer to.
    pub(super) fn on_watch_answered(&mut self, now: Nanos, upstream: u32, reply: Result<&Reply<'_>, Failure>) {
        let Some(scout) = self.scout(upstream) else { return };
        scout.watched.in_work = scout.watched.in_work.saturating_sub(1);
        match reply {
            Ok(reply) if reply.status == 404 && scout.version.era() == Era::Legacy => {
                if scout.stage == Stage::Watching {
                    self.greet_again(now, upstream);
                }
            }
            Ok(reply) if reply.status < 500 => {
                if reply.result().is_err() {
                    tracing::debug!(upstream, "an upstream does not tell of a resource");
                }
                self.settle_watched(now, upstream);
            }
            // What became of it nobody knows: all is asked for again.
            Ok(_) | Err(_) => {
                scout.watched.session = 0;
                self.settle_at(upstream, now.after(CHECK_AGAIN));
            }
        }
    }

    /// There is another session than before, which was not opened for the scout: what was asked for in the one before is asked for in it.
    pub(super) fn watch_anew(&mut self, now: Nanos, upstream: u32) {
        if self.scout(upstream).is_none_or(|scout| scout.stage != Stage::Watching) {
            return;
        }
        if self.leave_old_session(now, upstream) {
            self.listen(now, upstream);
        }
        self.settle_watched(now, upstream);
    }

    /// Closes the stream of changes of a session that is no more; whether there was one.
    pub(super) fn leave_old_session(&mut self, now: Nanos, upstream: u32) -> bool {
        let sessions = self.upstreams[upstream].session.opened;
        let Some(listen) = self.scout(upstream).and_then(|scout| scout.listen) else { return false };
        if self.trips.get(listen).is_none_or(|trip| trip.session == 0 || trip.session == sessions) {
            return false;
        }
        self.drop_trip(now, listen);
        if let Some(scout) = self.scout(upstream) {
            (scout.listen, scout.is_listening) = (None, false);
        }
        true
    }

    /// Opens a stream of changes.
    pub(super) fn listen(&mut self, now: Nanos, upstream: u32) {
        let Some(scout) = self.scout(upstream) else { return };
        scout.listens = scout.listens.wrapping_add(1);
        let (version, errand) = (scout.version, Errand::Listen(scout.listens));
        let key = if version.era() == Era::Legacy {
            let key = self.own_trip(now, upstream, Seat::Shared, errand, Verb::Get, Method::Unknown, version);
            self.dispatch(now, key);
            key
        } else {
            let members = scout.filter();
            self.ask(now, Owned { upstream, errand, method: Method::SubscriptionsListen, version, members: &members })
        };
        if let Some(scout) = self.scout(upstream) {
            (scout.listen, scout.listened, scout.is_listening) = (Some(key), now, false);
            scout.watched.is_changed = false;
        }
    }

    /// Closes a stream of changes.
    fn end_listen(&mut self, now: Nanos, key: Key) {
        let Some(trip) = self.trips.get(key) else { return };
        if let (Sent::Piped, Some(Number(number))) = (trip.stage, trip.number) {
            self.tell_cancelled(now, trip.upstream, Seat::Shared, number);
        }
        self.drop_trip(now, key);
    }

    /// A stream of changes is open. What changed before it was is found out.
    pub(super) fn on_listening(&mut self, now: Nanos, upstream: u32) {
        let Some(scout) = self.scout(upstream) else { return };
        scout.is_listening = true;
        if scout.former.is_none() && scout.capabilities.tells() {
            self.stale(now, upstream);
        }
        self.settle_watched(now, upstream);
    }

    /// It says what it will tell: the stream before is not needed any more.
    fn on_acknowledged(&mut self, now: Nanos, upstream: u32, key: Key) {
        let Some(scout) = self.scout(upstream) else { return };
        if scout.listen == Some(key)
            && let Some((former, _)) = scout.former.take()
        {
            self.end_listen(now, former);
        }
    }

    pub(super) fn stale(&mut self, now: Nanos, upstream: u32) {
        let Some(scout) = self.scout(upstream) else { return };
        scout.needless += u32::from(std::mem::replace(&mut scout.is_stale, true));
        if scout.stage == Stage::Watching {
            scout.due = scout.due.min(scout.next_listing(now));
            let due = scout.due;
            self.expect(due);
        }
    }

    /// The upstream has said something of its own accord: that a list or a resource changed, if it is of interest. Clients are told so, too, also
    /// when the list looks as before.
    pub(super) fn on_change(&mut self, now: Nanos, upstream: u32, notice: mcp::Notification, params: &Params<'_>) {
        let list = match notice {
            mcp::Notification::ToolsListChanged => 0,
            mcp::Notification::PromptsListChanged => 1,
            mcp::Notification::ResourcesListChanged => 2,
            mcp::Notification::ResourcesUpdated => return self.on_updated(now, upstream, params),
            _ => return,
        };
        if let Some(scout) = self.scout(upstream) {
            scout.changes[list] = scout.changes[list].wrapping_add(1);
        }
        self.stale(now, upstream);
    }

    fn on_updated(&mut self, now: Nanos, upstream: u32, params: &Params<'_>) {
        let (Some(scout), Some(uri)) = (self.scout(upstream), params.uri.and_then(json::string)) else { return };
        let Some(uri) = scout.watched.meant(&uri).map(Box::from) else { return };
        if !scout.watched.updated.contains(&uri) {
            scout.watched.updated.push(uri);
        }
        self.tell_updated(now, upstream);
    }

    /// Something was said on a stream that answers a request of this gateway's own.
    pub(super) fn on_own_event(&mut self, now: Nanos, key: Key, errand: Errand, link: LinkId, message: &[u8]) {
        let Some(upstream) = self.trips.get(key).map(|trip| trip.upstream) else { return };
        match jsonrpc::parse(message) {
            Ok(Body::One(Message::Response(_))) => {
                let reply = Reply { status: 200, session: self.session_of(link), body: message };
                self.end_trip(now, key);
                self.on_reply(now, upstream, errand, &reply);
            }
            Ok(Body::One(Message::Request(request))) => {
                let (id, method) = (request.id.raw().to_vec(), Method::parse(request.method));
                if self.trips.get(key).is_some_and(|trip| trip.version.era() == Era::Legacy) {
                    self.answer_question(now, upstream, Seat::Shared, &id, method);
                }
            }
            Ok(Body::One(Message::Notification(notice))) if mcp::Notification::parse(notice.method) == mcp::Notification::Message => {
                self.on_stray_log(now, upstream, &notice, message);
            }
            Ok(Body::One(Message::Notification(notice))) => {
                self.on_told(now, upstream, key, mcp::Notification::parse(notice.method), &notice.params);
                self.slow_down(upstream, link);
            }
            Ok(Body::Batch(_)) | Err(_) => {}
        }
    }

    /// A notification on the stream of a request of this gateway's own.
    pub(super) fn on_told(&mut self, now: Nanos, upstream: u32, key: Key, notice: mcp::Notification, params: &Params<'_>) {
        if notice == mcp::Notification::SubscriptionsAcknowledged {
            self.on_acknowledged(now, upstream, key);
        } else {
            self.on_change(now, upstream, notice, params);
        }
    }

    /// A process calls off the stream of changes that it was asked for (2026-07-28, subscriptions, "Cancellation").
    pub(super) fn on_called_off(&mut self, now: Nanos, key: Key) {
        let Some(trip) = self.trips.get(key) else { return };
        if let Who::Own(errand @ Errand::Listen(_)) = trip.who {
            let upstream = trip.upstream;
            self.end_trip(now, key);
            self.on_own_failure(now, upstream, errand, Failure::Closed);
        }
    }

    /// A stream of changes has ended, or was refused.
    pub(super) fn on_listen_over(&mut self, now: Nanos, upstream: u32, number: u32, reply: Result<&Reply<'_>, Failure>) {
        let Some(scout) = self.scout(upstream) else { return };
        if scout.former.is_some_and(|(_, former)| former == number) {
            scout.former = None;
            return;
        }
        if number != scout.listens {
            return;
        }
        (scout.listen, scout.is_listening) = (None, false);
        let is_refused = reply.is_ok_and(|reply| reply.status >= 400 || (reply.status == 200 && !reply.is_end_of_listen()));
        let named = scout.version.era() == Era::Modern && !scout.watched.wanted.is_empty() && !scout.watched.is_refused;
        if is_refused && named {
            // It may still tell of its lists.
            tracing::warn!(upstream, "an upstream does not tell of the resources that it was asked for");
            scout.watched.is_refused = true;
            if let Some((former, number)) = scout.former.take() {
                (scout.listen, scout.listens) = (Some(former), number);
            } else if scout.capabilities.tells() {
                self.listen(now, upstream);
            }
            return;
        }
        if let Some((former, number)) = scout.former.take() {
            // The one before goes on until the next try.
            (scout.listen, scout.listens, scout.watched.is_changed) = (Some(former), number, true);
            let at = now.after(scout.reopening.next_wait());
            return self.settle_at(upstream, at);
        }
        // A stream that was opened and ended is opened again after a look at the lists; one that was refused is not asked for again.
        scout.is_silent |= is_refused;
        if scout.stage == Stage::Watching {
            // One that lasted ended by chance.
            if now.since(scout.listened) >= POLL {
                scout.reopening.reset();
            }
            scout.due = now.after(if scout.is_silent { POLL } else { scout.reopening.next_wait() });
            scout.is_stale = true;
            scout.watched.is_changed = true;
            let due = scout.due;
            self.expect(due);
        }
        self.settle_watched_silent(now, upstream);
    }

    /// An upstream that opens no stream may still tell on those of requests.
    fn settle_watched_silent(&mut self, now: Nanos, upstream: u32) {
        if self.scout(upstream).is_some_and(|scout| scout.is_silent && scout.version.era() == Era::Legacy) {
            self.settle_watched(now, upstream);
        }
    }
}

impl Scout {
    /// What a stream of changes is asked for: the member of the parameters.
    fn filter(&self) -> Vec<u8> {
        let wanted = [
            ("toolsListChanged", self.capabilities.tools_changes),
            ("promptsListChanged", self.capabilities.prompts_changes),
            ("resourcesListChanged", self.capabilities.resources_changes),
        ];
        let lists: Vec<_> = wanted.into_iter().filter(|(_, tells)| *tells).map(|(name, _)| format!(r#""{name}":true"#)).collect();
        let mut out = format!(r#""notifications":{{{}"#, lists.join(",")).into_bytes();
        if self.names_resources() {
            if !lists.is_empty() {
                out.push(b',');
            }
            out.extend_from_slice(br#""resourceSubscriptions":"#);
            write_array(&mut out, self.watched.wanted.keys(), |out, uri| write_str(out, uri));
        }
        out.push(b'}');
        out
    }

    fn names_resources(&self) -> bool {
        self.capabilities.resources_updates && !self.watched.is_refused && !self.watched.wanted.is_empty()
    }

    /// Whether there is a reason to open a stream of changes.
    pub fn has_to_hear(&self) -> bool {
        self.capabilities.tells() || (self.version.era() == Era::Modern && self.names_resources())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_what_is_watched_is_watched() {
        let mut watched = Watched::default();
        assert!(watched.want(CoreId(0), "a://b", true) && !watched.want(CoreId(1), "a://b", true));
        assert!(watched.want(CoreId(0), "a://c/", true));
        for (uri, meant) in [("a://b", "a://b"), ("a://b/c/d", "a://b"), ("a://c/x", "a://c/")] {
            assert_eq!(watched.meant(uri), Some(meant));
        }
        for uri in ["a://bc", "a://", "a://c", ""] {
            assert_eq!(watched.meant(uri), None, "{uri}");
        }
        assert!(!watched.want(CoreId(0), "a://b", false) && !watched.want(CoreId(0), "a://b", false), "another core does");
        assert!(watched.want(CoreId(1), "a://b", false));
        assert_eq!(watched.meant("a://b"), None);
    }
}
