//! Floor 2: what stands between this node and the upstream servers that it fronts.
//!
//! One value per core. It sees *links* ([`link`]): bounded, ordered streams of bytes that the shell makes and owns. Bytes go in, bytes and wishes
//! come out; nothing here does I/O, reads a clock or knows the registry.
//!
//! # Words
//!
//! An *upstream* is an MCP server that is fronted. A *link* is one stream of bytes to it. A *trip* is one request on its way to an upstream,
//! and what is heard of it. A *scout* finds out what an upstream speaks and has, and watches whether that changes: one core has it, for all.
//! An *owner* is whom a session with an upstream of the legacy era belongs to, or an *instance*: a process of one that is interactive.
//!
//! # A relayed request
//!
//! The client's own core sends it over a link of its own pool, so that no stream crosses cores. It takes an idle link, else makes one, else
//! waits in a bounded queue. From a modern client to a modern upstream the message is passed on byte for byte, and so is its answer; what is
//! rewritten otherwise stands in `translate`. What is said before the answer is passed on as it comes.
//!
//! # What never happens
//!
//! - A request that calls a tool is sent twice: only when not all of it was with the kernel when its link broke.
//! - An upstream holds more than [`limits`] allow: of an answer, of a stream's event, of requests that wait.
//! - The client's credentials go to an upstream: of its header fields only those of [`policy`] do.

mod accord;
mod answer;
pub mod backoff;
pub mod breaker;
pub mod config;
mod ends;
mod failure;
mod flood;
mod http;
mod instance;
mod life;
pub mod link;
mod logging;
mod mend;
mod owner;
mod pages;
mod pipe;
pub mod policy;
mod rejoin;
mod relief;
mod reply;
pub mod restart;
mod roster;
mod rounds;
mod scout;
mod session;
mod slots;
#[cfg(test)]
mod tests;
mod translate;
mod trip;
mod upstream;
mod watching;
mod write;

use std::collections::VecDeque;

use crate::base::ids::LinkId;
use crate::base::limits;
use crate::base::metrics::{CoreMetrics, Counter, Gauge};
use crate::base::time::Nanos;
use crate::wire::mcp::{Era, Version};
use breaker::Said;
use compact_str::CompactString;
use http::Link;
use instance::Instances;
use owner::{Owners, Seat};
use slots::{Key, Slots};
use trip::{Stage, Trip, Verb, Who};
use upstream::Upstreams;
use write::Number;

pub use failure::Failure;
pub use link::Effect;
pub use mend::Doubt;
pub use owner::{Digest, Owner};
pub use pages::{Found, FoundItem, Lists};
pub use restart::RestartPolicy;
pub use roster::{Followed, Member, Placed, Roster};
pub use scout::{Finding, News};
pub use trip::{Heard, TripId, What};
pub use upstream::{Dialect, Settings, Starts};
pub use write::Forward;

/// One core's side of all upstreams.
#[derive(Debug)]
pub struct Gateway {
    upstreams: Upstreams,
    /// Of the roster that is followed.
    edition: u64,
    trips: Slots<Trip>,
    links: Slots<Link>,
    owners: Owners,
    instances: Instances,
    effects: Vec<Effect>,
    bytes: Vec<u8>,
    heard: VecDeque<Heard<'static>>,
    news: Vec<News>,
    /// What the other cores are to know.
    said: Vec<(u32, Said)>,
    /// What scouts, here or elsewhere, are to know.
    doubts: Vec<(u32, Doubt)>,
    /// Ids given to requests so far.
    numbers: u64,
    /// Bytes of answers that are not complete.
    held: usize,
    /// No trip, idle link or scout is due before this moment.
    due: Nanos,
    /// Buffers for the next trips.
    spare: Vec<Vec<u8>>,
    /// For what is needed for a moment.
    space: Vec<u8>,
    is_draining: bool,
    metrics: &'static CoreMetrics,
}

/// A request of this gateway's own. `members` are those of its parameters.
struct Owned<'a> {
    upstream: u32,
    errand: scout::Errand,
    method: crate::wire::mcp::Method,
    version: Version,
    members: &'a [u8],
}

const fn link_id((index, generation): Key) -> LinkId {
    LinkId { index, generation }
}

const fn link_key(id: LinkId) -> Key {
    (id.index, id.generation)
}

impl Gateway {
    /// The side of one core. Nothing is asked for yet. The seed decides on the jitter of waits: cores should not have the same.
    #[must_use]
    pub fn new(roster: &Roster, seed: u64, metrics: &'static CoreMetrics) -> Self {
        Self {
            upstreams: Upstreams::new(roster, seed),
            edition: roster.edition(),
            trips: Slots::default(),
            links: Slots::default(),
            owners: Owners::default(),
            instances: Instances::default(),
            effects: Vec::new(),
            bytes: Vec::new(),
            heard: VecDeque::new(),
            news: Vec::new(),
            said: Vec::new(),
            doubts: Vec::new(),
            numbers: 0,
            held: 0,
            due: Nanos::NEVER,
            spare: Vec::new(),
            space: Vec::new(),
            is_draining: false,
            metrics,
        }
    }

    /// The upstream that is registered by this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<u32> {
        self.upstreams.find(name)
    }

    /// The upstream that takes the calls of this one: itself, unless it was altered or taken out.
    #[must_use]
    pub fn current(&self, upstream: u32) -> Option<u32> {
        self.upstreams.current(upstream)
    }

    /// Whether it is a process, which one core has for all.
    #[must_use]
    pub fn is_process(&self, upstream: u32) -> bool {
        self.upstreams.get(upstream).is_some_and(|upstream| upstream.pipe.is_some())
    }

    /// How it is reached.
    #[must_use]
    pub fn settings(&self, upstream: u32) -> Option<&Settings> {
        self.upstreams.get(upstream).map(|upstream| &*upstream.settings)
    }

    /// Relays a request to an upstream that speaks `version`.
    ///
    /// # Errors
    /// It was not taken.
    pub fn relay(&mut self, now: Nanos, upstream: u32, version: Version, ask: &Forward<'_>) -> Result<TripId, Failure> {
        let upstream = self.upstreams.current(upstream).ok_or(Failure::Gone)?;
        let mut upstream = upstream;
        let mut up = &mut self.upstreams[upstream];
        let version = up.now_speaks(version);
        if up.is_interactive() {
            upstream = self.instance_for(now, upstream, ask)?;
            up = &mut self.upstreams[upstream];
        }
        let is_full = match &up.pipe {
            Some(pipe) => pipe.is_full(up.settings.in_flight_max),
            None => up.idle.is_empty() && up.links - up.own_links >= up.settings.in_flight_max,
        };
        if (is_full && up.queue.len() >= up.settings.queued_max) || up.unopened >= up.settings.in_flight_max + up.settings.queued_max {
            return Err(Failure::Busy);
        }
        if let Some(failure) = up.pipe.as_ref().and_then(|pipe| pipe.refuses(now)) {
            return Err(failure);
        }
        let mut seat = Seat::Shared;
        if version.era() == Era::Legacy {
            seat = self.seat(now, upstream, ask)?;
            up = &mut self.upstreams[upstream];
        }
        let Some(pass) = up.breaker.allows(now) else { return Err(Failure::Resting) };
        up.calls += 1;
        let is_trying = up.breaker.is_trying();
        let ends = up.deadline(now);
        // In a session or a pipe that clients share their ids and tokens may be alike.
        let is_piped = up.pipe.is_some();
        let number = (is_piped || version.era() == Era::Legacy).then(|| self.number());
        let (mut head, mut body) = (self.buffer(), self.buffer());
        write::message(&mut body, ask, version, number);
        if version.era() == Era::Modern && !is_piped {
            let starts = &self.upstreams[upstream].settings.starts;
            let written = write::modern_head(&mut head, starts, ask, version, body.len(), &mut self.space);
            if written.is_err() {
                let up = &mut self.upstreams[upstream];
                up.calls -= 1;
                let said = up.breaker.withdrawn(pass);
                self.say(now, upstream, said);
                return Err(Failure::Garbage("a header field that cannot be sent"));
            }
        }
        let text = |raw: &[u8]| CompactString::from_utf8(raw).unwrap_or_default();
        let is_renamed = ask.method.name_param() == Some(crate::wire::mcp::NameParam::Uri) && ask.name != ask.exposed;
        let trip = Trip {
            upstream,
            pass: Some(pass),
            who: Who::Call(ask.core, ask.call),
            stage: Stage::Waiting,
            verb: Verb::Post,
            version,
            client: ask.era,
            method: ask.method,
            head,
            body,
            id: text(ask.id.raw()),
            number,
            token: ask.progress_token.map(text).unwrap_or_default(),
            names: is_renamed.then(|| Box::new((ask.name.into(), ask.exposed.into()))),
            level: ask.level,
            wanted: ask.wanted,
            due: Nanos::NEVER,
            ends,
            is_retried: false,
            seat,
            session: 0,
            is_renewed: false,
            owner: ask.owner,
            speaks: ask.speaks,
            capabilities: ask.capabilities,
            agrees: ask.agrees,
            is_mended: false,
            questions: 0,
            asked: 0,
            rejoin: None,
        };
        self.say(now, upstream, is_trying.then_some(Said::Trying));
        self.metrics.count(Counter::Relayed);
        if let Seat::Own(own) = seat
            && let Some(own) = self.owners.get_mut(own)
        {
            own.calls += 1;
        }
        let key = self.trips.insert(trip);
        self.gauge();
        self.dispatch(now, key);
        Ok(TripId(key.0, key.1))
    }

    /// Nobody waits for this request any more: its link is hung up, and a legacy upstream told.
    pub fn cancel(&mut self, now: Nanos, trip: TripId) {
        let key = (trip.0, trip.1);
        let Some(trip) = self.trips.get(key) else { return };
        let (upstream, seat, number) = (trip.upstream, trip.seat, trip.number);
        let is_known = matches!(trip.stage, Stage::Sent(_) | Stage::Piped) || trip.rejoin.is_some();
        if let (true, Some(Number(number))) = (is_known, number) {
            self.tell_cancelled(now, upstream, seat, number);
        }
        self.drop_trip(now, key);
    }

    /// The client reads slower than the upstream sends, or has caught up.
    pub fn choke(&mut self, trip: TripId, is_choked: bool) {
        if let Some(link) = self.trips.get((trip.0, trip.1)).and_then(Trip::link) {
            self.brake(link, |brakes| brakes.is_choked = is_choked);
        }
    }

    /// What was heard besides what [`Self::on_bytes`] gave, oldest first.
    pub fn next_heard(&mut self) -> Option<Heard<'static>> {
        self.heard.pop_front()
    }

    /// What the scouts of this core found out.
    pub fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    /// Whether there is anything to be done by the shell, or to be told.
    #[must_use]
    pub fn has_output(&self) -> bool {
        !(self.effects.is_empty() && self.heard.is_empty() && self.news.is_empty() && self.said.is_empty() && self.doubts.is_empty())
    }

    /// What the shell is to do, in order. [`Effect::Feed`] points into the bytes that are shown with it.
    pub fn drain(&mut self, mut each: impl FnMut(Effect, &[u8])) {
        for effect in self.effects.drain(..) {
            each(effect, &self.bytes);
        }
        self.bytes.clear();
        if self.bytes.capacity() > limits::POOLED_BYTES_KEPT {
            self.bytes = Vec::new();
        }
    }

    /// When [`Self::on_tick`] is due.
    #[must_use]
    pub const fn next_due(&self) -> Nanos {
        self.due
    }

    /// Time passes.
    pub fn on_tick(&mut self, now: Nanos) {
        if now < self.due {
            return;
        }
        let late: Vec<Key> = self.trips.iter().filter(|(_, trip)| trip.due.min(trip.ends) <= now).map(|(key, _)| key).collect();
        for key in late {
            match self.trips.get(key) {
                Some(trip) if trip.stage == Stage::Apart && now < trip.ends => self.rejoin(now, key),
                _ => self.fail(now, key, Failure::TimedOut),
            }
        }
        self.end_rests(now);
        self.close_idle(now);
        self.end_idle(now);
        self.end_idle_instances(now);
        for upstream in self.upstreams.numbers() {
            self.end_closed(now, upstream);
            self.look_at_lazy(now, upstream);
            self.tick_scout(now, upstream);
            self.tell_ends(now, upstream);
        }
        self.wind_up_retired(now);
        let trips = self.trips.iter().map(|(_, trip)| trip.due.min(trip.ends));
        let scouts = self.upstreams.iter().filter_map(|upstream| upstream.scout.as_ref()).map(scout::Scout::due);
        let pipes = self.upstreams.iter().filter_map(|upstream| upstream.pipe.as_ref()).map(pipe::Pipe::due);
        let idle = self.links.iter().any(|(_, link)| link.is_vacant()).then(|| now.after(http::IDLE_LOOK));
        let rests = self.links.iter().filter_map(|(_, link)| link.brakes.due());
        let retired = self.upstreams.iter().any(|upstream| upstream.retired.is_some()).then(|| now.after(roster::LOOK));
        let owners = [self.owners.next_due(), self.instances.next_look()];
        self.due = trips.chain(scouts).chain(pipes).chain(idle).chain(rests).chain(retired).chain(owners).min().unwrap_or(Nanos::NEVER);
    }

    /// The process is to end: nobody is watched any more.
    pub fn on_drain(&mut self, now: Nanos) {
        self.is_draining = true;
        self.drop_errands(now);
        self.end_sessions();
    }

    /// The next id of a request of this core.
    const fn number(&mut self) -> Number {
        self.numbers += 1;
        Number(self.numbers)
    }

    fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    fn give_back(&mut self, mut buffer: Vec<u8>) {
        if (1..=limits::POOLED_BUFFER_BYTES_MAX).contains(&buffer.capacity()) && self.spare.len() < limits::UPSTREAM_BUFFERS_KEPT {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    fn gauge(&self) {
        self.metrics.set(Gauge::UpstreamRequests, self.trips.len() as u64);
    }

    fn expect(&mut self, due: Nanos) {
        self.due = self.due.min(due);
    }
}
