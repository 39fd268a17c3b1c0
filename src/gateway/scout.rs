//! The scout of an upstream: finds out which era it speaks, what it has, and when that changes. One core has it; what it finds goes into the
//! registry, from which every core answers.
//!
//! It asks `server/discover` first. An answer in the modern era settles it; an error that leaves the handshake open (see PROBE below) leads to
//! `initialize`. Then it drains the lists, publishes what it found, and watches: over a stream of changes when the upstream offers one,
//! by asking again now and then otherwise. When the upstream fails it begins anew, less and less often.
//!
//! PROBE: as the official clients do, 401, 403, 5xx and silence are failures, and every other answer that is not a result means the legacy era,
//! but for an error that names modern versions alone, none of which is spoken here (2026-07-28, versioning).

use std::time::Duration;

use super::backoff::Backoff;
use super::breaker::Said;
use super::failure::Failure;
use super::link::Down;
use super::logging::Logged;
use super::owner::Seat;
use super::pages::{Capabilities, Found, Lists, Next};
use super::reply::{Reply, error_code, is_modern, names_spoken, speaks_nothing_known};
use super::slots::Key;
use super::upstream::Dialect;
use super::watching::Watched;
use super::{Gateway, Owned};
use crate::base::fault::code;
use crate::base::ids::CoreId;
use crate::base::limits::{self, CHECK_MS_MAX};
use crate::base::time::Nanos;
use crate::wire::mcp::{Era, Level, Method, Version};

/// Between the first failure and the next try, at most.
pub(super) const BACKOFF_MIN: Duration = Duration::from_millis(250);
/// Between later ones, at most.
const BACKOFF_MAX: Duration = Duration::from_secs(15);
/// Failures in a row after which an upstream counts as offline.
const OFFLINE_AFTER: u32 = 2;
/// Changes that are told within this time are looked at together.
pub(super) const SETTLE: Duration = Duration::from_millis(50);
/// Lists that change and change are asked for less and less often, this often at last.
const PACE_MAX: Duration = Duration::from_secs(5);
/// Listings that follow one another within this time, or within a few times the pace, belong together.
const PACE_MEMORY: Duration = Duration::from_secs(1);
/// An upstream that tells of its changes is asked so often whether it is there.
const CHECK: Duration = Duration::from_secs(20);
/// One that does not is asked so often what it has.
pub(super) const POLL: Duration = Duration::from_secs(20);

/// What an upstream did not answer is asked for again after this long.
pub(super) const CHECK_AGAIN: Duration = Duration::from_secs(1);

/// It is given so long to answer that.
const CHECK_ANSWER: Duration = Duration::from_millis(CHECK_MS_MAX);
/// A lazy upstream that is no process is asked so often what it has.
const LAZY_POLL: Duration = Duration::from_secs(300);
/// A process is given so long to say which era it is.
const PROBE: Duration = Duration::from_secs(5);

/// What a request of this gateway's own is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Errand {
    /// Which era is it, and what does it say of itself?
    Discover,
    /// A session is opened.
    Initialize(Seat),
    /// It is told that the session has begun.
    Initialized(Seat),
    /// It is to log from another level on.
    Level(Seat),
    /// It is told that a session has ended.
    End,
    /// A page of a list, in this of the scout's listings.
    Page(Lists, u32),
    /// A page of the tools, for requests that wait to know what header fields these want.
    Refresh,
    /// A stream of changes, as they are counted.
    Listen(u32),
    /// It is to tell of a resource's updates, or no longer.
    Watch,
    /// Is it there?
    Check,
    /// A message that is not answered.
    Tell,
}

/// What a scout found out.
#[derive(Debug)]
pub struct News {
    /// The upstream.
    pub upstream: u32,
    /// What was found.
    pub finding: Finding,
}

/// See [`News`].
#[derive(Debug)]
pub enum Finding {
    /// It answers, and has this.
    Online(Box<Found>),
    /// It does not.
    Offline(Failure),
    /// It has logged something about itself.
    Logged {
        /// The level.
        level: Level,
        /// The parameters of the notification.
        params: Box<[u8]>,
    },
    /// A resource was updated of which these cores want to hear.
    Updated {
        /// What was asked for: it, or what it is a part of.
        uri: Box<str>,
        /// Where anybody wants to hear of it.
        cores: Box<[CoreId]>,
    },
}

/// What a scout is at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// Waits until it is time to begin.
    Waiting,
    /// Asks which era it is, or for a session.
    Greeting,
    /// Drains a list.
    Listing,
    /// Watches.
    Watching,
    /// Knows what a lazy process has, and waits until it is needed.
    Sleeping,
}

/// The scout of one upstream.
#[derive(Debug)]
pub(super) struct Scout {
    pub stage: Stage,
    /// When something is to be done.
    pub due: Nanos,
    /// When it last asked something.
    pub asked: Nanos,
    /// What it knew before the process was started again holds, unless it turns out not to.
    pub is_woken: bool,
    /// It is to be asked whether it is there, whatever else there is to ask.
    pub is_doubted: bool,
    pub version: Version,
    pub capabilities: Capabilities,
    pub found: Found,
    /// What the result of the greeting said.
    pub greeting: Found,
    pub pages: usize,
    /// Failures in a row.
    pub failures: u32,
    pub backoff: Backoff,
    /// The stream of changes.
    pub listen: Option<Key>,
    /// Counts those.
    pub listens: u32,
    /// It is open.
    pub is_listening: bool,
    /// The stream that the present one is to take the place of, once the upstream has acknowledged it.
    pub former: Option<(Key, u32)>,
    /// Resources of which clients want to hear.
    pub watched: Watched,
    /// What it logged lately.
    pub logged: Logged,
    /// Counts listings.
    pub listing: u32,
    /// When the last one began.
    pub listed: Nanos,
    /// How long after it the next one may begin.
    pub pace: Duration,
    /// It was asked for its era again, since it named versions.
    pub is_asked_again: bool,
    /// It does not tell of changes, whatever it said.
    pub is_silent: bool,
    /// Lists changed since they were asked for.
    pub is_stale: bool,
    /// Changes that it was told of although it knew that there are some.
    pub needless: u32,
    /// How often it has said so, of tools, prompts and resources.
    pub changes: [u32; 3],
    /// It tells of changes without being asked.
    pub is_told: bool,
    /// A session was opened in the place of one that was lost, and nothing was found out in it yet.
    pub is_renewed: bool,
    /// When the stream of changes was opened.
    pub listened: Nanos,
    /// How long to wait before a stream of changes that ended is opened again.
    pub reopening: Backoff,
    pub is_online: bool,
}

impl Scout {
    fn new(now: Nanos, seed: u64) -> Self {
        Self {
            stage: Stage::Waiting,
            due: now,
            asked: now,
            is_woken: false,
            is_doubted: false,
            version: Version::MODERN_NEWEST,
            capabilities: Capabilities::default(),
            found: Found::default(),
            greeting: Found::default(),
            pages: 0,
            failures: 0,
            backoff: Backoff::new(BACKOFF_MIN, BACKOFF_MAX, seed),
            listen: None,
            listens: 0,
            is_listening: false,
            former: None,
            watched: Watched::default(),
            logged: Logged::default(),
            listing: 0,
            listed: Nanos(0),
            pace: SETTLE,
            is_asked_again: false,
            is_silent: false,
            is_stale: false,
            needless: 0,
            changes: [0; 3],
            is_told: false,
            is_renewed: false,
            listened: Nanos(0),
            reopening: Backoff::new(BACKOFF_MIN, POLL, seed),
            is_online: false,
        }
    }

    pub fn due(&self) -> Nanos {
        self.due.min(self.watched.due())
    }

    /// Whether it is told when a list changes.
    pub const fn hears_of_lists(&self) -> bool {
        self.is_told || (self.listen.is_some() && self.capabilities.tells())
    }

    /// When the lists may be asked for again.
    pub fn next_listing(&self, now: Nanos) -> Nanos {
        now.after(SETTLE).max(self.listed.after(self.pace))
    }

    /// When it is to ask something again, when its lists were looked at then.
    fn next_look(&self, now: Nanos, listed: Nanos, is_lazy: bool) -> Nanos {
        match (self.is_stale, is_lazy, self.hears_of_lists()) {
            (true, ..) => self.next_listing(now),
            (false, true, _) => listed.after(LAZY_POLL).max(now),
            (false, false, true) => now.after(CHECK),
            (false, false, false) => listed.after(POLL).max(now),
        }
    }

    /// Whether everything that it knows of is known as it is now, and nobody wants to hear when it changes.
    pub fn is_content(&self) -> bool {
        self.stage == Stage::Watching && !self.is_stale && self.watched.is_empty()
    }

    /// The upstream has said of itself what it can do.
    pub fn greeted(&mut self, result: &[u8]) {
        self.capabilities = Capabilities::of(result);
        self.greeting = Found::default();
        self.greeting.greet(result);
    }
}

impl Gateway {
    /// This core watches over the upstream from now on.
    pub fn watch(&mut self, now: Nanos, upstream: u32) {
        if let Some(up) = self.upstreams.get_mut(upstream) {
            up.scout = Some(Scout::new(now, up.seed));
            self.expect(now);
        }
    }

    pub(super) fn scout(&mut self, upstream: u32) -> Option<&mut Scout> {
        self.upstreams[upstream].scout.as_mut()
    }

    /// Does what is due.
    pub(super) fn tick_scout(&mut self, now: Nanos, upstream: u32) {
        let is_draining = self.is_draining;
        let Some(scout) = self.scout(upstream) else { return };
        if is_draining {
            scout.due = Nanos::NEVER;
            return;
        }
        if scout.watched.due() <= now {
            self.tick_watched(now, upstream);
        }
        let Some(scout) = self.scout(upstream) else { return };
        if now < scout.due {
            return;
        }
        scout.due = Nanos::NEVER;
        let is_doubted = std::mem::take(&mut scout.is_doubted);
        let (version, is_legacy) = (scout.version, scout.version.era() == Era::Legacy);
        match scout.stage {
            Stage::Waiting => self.begin(now, upstream),
            Stage::Watching if !is_doubted && (scout.is_stale || !scout.hears_of_lists()) => self.list(now, upstream),
            Stage::Watching => {
                let method = if is_legacy { Method::Ping } else { Method::ServerDiscover };
                let key = self.ask(now, Owned { upstream, errand: Errand::Check, method, version, members: b"" });
                self.end_by(key, now.after(CHECK_ANSWER));
            }
            Stage::Greeting | Stage::Listing | Stage::Sleeping => {}
        }
    }

    /// From the beginning.
    fn begin(&mut self, now: Nanos, upstream: u32) {
        let dialect = self.upstreams[upstream].settings.dialect;
        let Some(scout) = self.scout(upstream) else { return };
        (scout.stage, scout.is_silent, scout.is_stale, scout.is_asked_again) = (Stage::Greeting, false, false, false);
        let knows_legacy = std::mem::take(&mut scout.is_woken) && scout.version.era() == Era::Legacy;
        if dialect == Dialect::Legacy || knows_legacy {
            return self.greet_legacy(now, upstream);
        }
        (scout.version, scout.is_told) = (Version::MODERN_NEWEST, false);
        self.discover(now, upstream);
    }

    fn discover(&mut self, now: Nanos, upstream: u32) {
        let version = Version::MODERN_NEWEST;
        let key = self.ask(now, Owned { upstream, errand: Errand::Discover, method: Method::ServerDiscover, version, members: b"" });
        // A process that speaks the handshake alone may not answer at all.
        if self.is_process(upstream) {
            self.end_by(key, now.after(PROBE));
        }
    }

    /// Gives a request no longer than that.
    fn end_by(&mut self, key: Key, ends: Nanos) {
        if let Some(trip) = self.trips.get_mut(key) {
            trip.ends = trip.ends.min(ends);
            let due = trip.ends;
            self.expect(due);
        }
    }

    fn greet_legacy(&mut self, now: Nanos, upstream: u32) {
        if let Some(scout) = self.scout(upstream) {
            scout.version = Version::LEGACY_NEWEST;
        }
        if self.is_process(upstream) && self.upstreams[upstream].session.open().is_some() {
            // A client's request has greeted it already: a process is greeted once in its life (2025-11-25, lifecycle, "Initialization").
            return self.on_session(now, upstream);
        }
        self.retire_shared(upstream);
        self.open_session(now, upstream);
    }

    /// A request of this gateway's own was answered, and is over. Breakers are for clients' requests: the scout looks however often they failed.
    pub(super) fn on_reply(&mut self, now: Nanos, upstream: u32, errand: Errand, reply: &Reply<'_>) {
        self.on_errand(now, upstream, errand, Ok(reply));
    }

    /// A request of this gateway's own failed.
    pub(super) fn on_own_failure(&mut self, now: Nanos, upstream: u32, errand: Errand, mut failure: Failure) {
        // A process that speaks the handshake alone may leave another first request unanswered.
        let is_probe = errand == Errand::Discover && self.upstreams[upstream].settings.dialect == Dialect::Auto;
        let sent = self.scout(upstream).map(|scout| scout.asked);
        if let (Failure::TimedOut, Some(sent), false) = (&failure, sent.filter(|_| self.is_process(upstream)), is_probe) {
            if !self.is_alive_unanswered(now, upstream, errand, sent) {
                failure = Failure::Silent;
            } else if errand == Errand::Check {
                return self.check_again(now, upstream);
            }
        }
        self.on_errand(now, upstream, errand, Err(failure));
    }

    fn on_errand(&mut self, now: Nanos, upstream: u32, errand: Errand, reply: Result<&Reply<'_>, Failure>) {
        match errand {
            Errand::Initialize(seat) => self.on_initialized(now, upstream, seat, reply),
            Errand::Initialized(seat) => {
                let told = reply.and_then(|reply| if reply.status < 500 { Ok(()) } else { Err(Failure::Status(reply.status)) });
                self.on_session_begun(now, upstream, seat, told);
            }
            // What came of it, requests wait for it no longer.
            Errand::Level(seat) => self.on_level_set(now, upstream, seat),
            Errand::End => self.tell_ends(now, upstream),
            Errand::Discover => self.on_discovered(now, upstream, reply),
            Errand::Page(list, listing) if self.scout(upstream).is_some_and(|scout| scout.listing == listing) => {
                self.on_page(now, upstream, list, reply);
            }
            // Another listing has begun meanwhile.
            Errand::Page(..) => {}
            Errand::Refresh => self.on_refreshed(now, upstream, reply),
            Errand::Listen(number) => self.on_listen_over(now, upstream, number, reply),
            Errand::Watch => self.on_watch_answered(now, upstream, reply),
            Errand::Check => self.on_checked(now, upstream, reply),
            Errand::Tell => {}
        }
    }

    /// See PROBE in the [module](self).
    fn on_discovered(&mut self, now: Nanos, upstream: u32, reply: Result<&Reply<'_>, Failure>) {
        let is_auto = self.upstreams[upstream].settings.dialect == Dialect::Auto;
        let outcome = reply.and_then(|reply| match reply.outcome() {
            Err(Failure::Status(status @ (401 | 403 | 500..))) => Err(Failure::Status(status)),
            Err(_) if reply.status >= 500 || matches!(reply.status, 401 | 403) => Err(Failure::Status(reply.status)),
            outcome => Ok(outcome),
        });
        let names_another = matches!(&outcome, Ok(Ok(Err(error))) if names_spoken(error));
        if names_another && self.scout(upstream).is_some_and(|scout| !std::mem::replace(&mut scout.is_asked_again, true)) {
            // Its client is to choose among the versions that it names (2026-07-28, versioning, "Version Negotiation").
            return self.discover(now, upstream);
        }
        let may_be_silent = is_auto && self.is_process(upstream);
        let result = match outcome {
            Err(Failure::TimedOut) if may_be_silent => return self.greet_legacy(now, upstream),
            Err(failure) => return self.on_scout_failure(now, upstream, &failure),
            Ok(Ok(Ok(result))) if is_modern(result) => result,
            Ok(Ok(Err(error))) if !is_auto || speaks_nothing_known(error) => {
                return self.on_scout_failure(now, upstream, &Failure::Garbage("it speaks no version that is spoken here"));
            }
            Ok(_) if !is_auto => return self.on_scout_failure(now, upstream, &Failure::Garbage("no answer to server/discover")),
            Ok(_) => return self.greet_legacy(now, upstream),
        };
        let Some(scout) = self.scout(upstream) else { return };
        scout.greeted(result);
        self.list(now, upstream);
    }

    /// There is a session.
    pub(super) fn on_session(&mut self, now: Nanos, upstream: u32) {
        if self.is_draining {
            return;
        }
        if self.scout(upstream).is_some_and(|scout| scout.stage == Stage::Greeting) {
            return self.list(now, upstream);
        }
        self.watch_anew(now, upstream);
    }

    /// Drains the lists from the beginning.
    fn list(&mut self, now: Nanos, upstream: u32) {
        let version = self.upstreams[upstream].session.open().map(|open| open.version);
        let Some(scout) = self.scout(upstream) else { return };
        if scout.version.era() == Era::Legacy {
            scout.version = version.unwrap_or(scout.version);
        }
        let is_soon = now.since(scout.listed) < PACE_MEMORY.max(scout.pace * 4);
        scout.pace = if is_soon { (scout.pace * 2).min(PACE_MAX) } else { SETTLE };
        (scout.listed, scout.listing) = (now, scout.listing.wrapping_add(1));
        (scout.stage, scout.is_stale, scout.needless, scout.pages) = (Stage::Listing, false, 0, 0);
        scout.found = scout.greeting.clone();
        scout.found.version = Some(scout.version);
        scout.found.completes = scout.capabilities.completions;
        scout.found.subscribes = scout.capabilities.resources_updates;
        self.read_on(upstream);
        self.next_list(now, upstream, Some(Lists::Tools));
    }

    /// Asks for the first page of this list, or the next that there is.
    fn next_list(&mut self, now: Nanos, upstream: u32, from: Option<Lists>) {
        let Some(scout) = self.scout(upstream) else { return };
        let (version, capabilities, listing) = (scout.version, scout.capabilities, scout.listing);
        let list = std::iter::successors(from, |list| list.next()).find(|list| capabilities.has(*list));
        match list {
            Some(list) => {
                self.ask(now, Owned { upstream, errand: Errand::Page(list, listing), method: list.method(), version, members: b"" });
            }
            None => self.publish(now, upstream),
        }
    }

    fn on_page(&mut self, now: Nanos, upstream: u32, list: Lists, reply: Result<&Reply<'_>, Failure>) {
        let reply = match reply {
            Err(failure) => return self.on_scout_failure(now, upstream, &failure),
            Ok(reply) => reply,
        };
        let is_legacy = self.scout(upstream).is_some_and(|scout| scout.version.era() == Era::Legacy);
        if is_legacy && reply.status == 404 {
            return self.greet_again(now, upstream);
        }
        let page = match reply.outcome() {
            Ok(Ok(result)) => result,
            // It says that it has resources, and may have no templates.
            Ok(Err(error)) if error_code(error) == Some(code::METHOD_NOT_FOUND) => b"{}",
            Ok(Err(_)) => return self.on_scout_failure(now, upstream, &Failure::Garbage("an error instead of a list")),
            Err(failure) => return self.on_scout_failure(now, upstream, &failure),
        };
        let Some(scout) = self.scout(upstream) else { return };
        scout.pages += 1;
        let (version, listing) = (scout.version, scout.listing);
        let next = scout.found.add(list, page);
        let is_over = scout.pages >= limits::UPSTREAM_PAGES_MAX;
        match next {
            Next::Page(cursor) if !is_over => {
                let members = [br#""cursor":"#, &*cursor].concat();
                self.ask(now, Owned { upstream, errand: Errand::Page(list, listing), method: list.method(), version, members: &members });
            }
            Next::End => self.next_list(now, upstream, list.next()),
            Next::Full | Next::Page(_) => {
                tracing::warn!(
                    upstream = &*self.upstreams[upstream].settings.name,
                    ?list,
                    "it has more than is taken; the rest is left out"
                );
                self.next_list(now, upstream, list.next());
            }
        }
    }

    /// The session is no more. An upstream that forgets every session at once fails.
    pub(super) fn greet_again(&mut self, now: Nanos, upstream: u32) {
        let Some(scout) = self.scout(upstream) else { return };
        if std::mem::replace(&mut scout.is_renewed, true) {
            return self.on_scout_failure(now, upstream, &Failure::NoSession);
        }
        scout.stage = Stage::Greeting;
        self.forget_session(upstream, Seat::Shared);
        self.greet_legacy(now, upstream);
    }

    /// All lists are there.
    fn publish(&mut self, now: Nanos, upstream: u32) {
        let (is_process, is_lazy) = (self.is_process(upstream), self.is_lazy(upstream));
        self.leave_old_session(now, upstream);
        let up = &mut self.upstreams[upstream];
        let Some(scout) = &mut up.scout else { return };
        // It is back: nobody needs to find that out by trying.
        let is_closed = scout.failures > 0 && up.breaker.close();
        (scout.stage, scout.failures, scout.is_online) = (Stage::Watching, 0, true);
        scout.is_renewed = false;
        scout.backoff.reset();
        let mut found = Box::new(std::mem::take(&mut scout.found));
        found.changes = scout.changes;
        scout.is_told = is_process && scout.version.era() == Era::Legacy && scout.capabilities.tells();
        scout.due = scout.next_look(now, now, is_lazy);
        let is_left_alone = is_lazy && scout.watched.is_empty();
        let may_listen = scout.listen.is_none() && !scout.is_told && !scout.is_silent && scout.has_to_hear() && !is_left_alone;
        let due = scout.due;
        self.news.push(News { upstream, finding: Finding::Online(found) });
        self.say(now, upstream, is_closed.then_some(Said::Closed));
        self.expect(due);
        if may_listen {
            self.listen(now, upstream);
        }
        self.settle_watched(now, upstream);
    }

    /// Whether it is left alone as long as nobody needs it. A lazy process sleeps instead.
    fn is_lazy(&self, upstream: u32) -> bool {
        self.upstreams[upstream].settings.options.is_lazy && !self.is_process(upstream)
    }

    fn on_checked(&mut self, now: Nanos, upstream: u32, reply: Result<&Reply<'_>, Failure>) {
        let is_there = reply.and_then(|reply| match reply.status {
            404 if self.scout(upstream).is_some_and(|scout| scout.version.era() == Era::Legacy) => Err(Failure::NoSession),
            status @ (401 | 403 | 500..) => Err(Failure::Status(status)),
            _ => Ok(()),
        });
        let is_lazy = self.is_lazy(upstream);
        let Some(scout) = self.scout(upstream) else { return };
        match is_there {
            Ok(()) => {
                // What it would have been asked for had it not been doubted is still asked for when it would have been.
                scout.due = scout.next_look(now, scout.listed, is_lazy);
                let due = scout.due;
                self.expect(due);
            }
            Err(Failure::NoSession) => self.greet_again(now, upstream),
            Err(failure) => self.on_scout_failure(now, upstream, &failure),
        }
    }

    /// It begins anew after a while.
    pub(super) fn on_scout_failure(&mut self, now: Nanos, upstream: u32, failure: &Failure) {
        let not_before = self.upstreams[upstream].pipe.as_ref().map_or(now, super::pipe::Pipe::rests_until);
        let Some(scout) = self.scout(upstream) else { return };
        // What is in work for it may fail as well, and tells nothing new.
        if scout.stage == Stage::Waiting {
            return;
        }
        let is_first = scout.failures == 0;
        scout.failures = scout.failures.saturating_add(1);
        scout.stage = Stage::Waiting;
        scout.is_woken = false;
        scout.due = now.after(scout.backoff.next_wait()).max(not_before);
        let (due, listens) = (scout.due, [scout.listen.take(), scout.former.take().map(|(key, _)| key)]);
        scout.is_listening = false;
        let is_over = due == Nanos::NEVER && scout.is_online;
        let is_news =
            is_over || scout.failures == OFFLINE_AFTER || (is_first && !scout.is_online && !matches!(failure, Failure::Down(Down::Hung)));
        if scout.failures >= OFFLINE_AFTER || is_over {
            scout.is_online = false;
        }
        self.expect(due);
        if is_news {
            self.news.push(News { upstream, finding: Finding::Offline(failure.clone()) });
        }
        for listen in listens.into_iter().flatten() {
            self.drop_trip(now, listen);
        }
    }
}
