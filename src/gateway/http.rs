//! Links that carry HTTP/1.1: which request goes over which, and what comes back.

use std::borrow::Cow;
use std::time::Duration;

use super::failure::Failure;
use super::flood::Brakes;
use super::link::{Down, LinkEvent};
use super::owner::{Seat, session_at};
use super::rejoin::Left;
use super::scout::Errand;
use super::session;
use super::slots::Key;
use super::trip::{Heard, Stage, Verb, What, Who};
use super::upstream::Session;
use super::{Effect, Gateway, link_id, link_key};
use crate::base::ids::LinkId;
use crate::base::metrics::Counter;
use crate::base::time::Nanos;
use crate::base::{limits, long};
use crate::wire::http1::{Broken, Media, Part, ResponseReader};
use crate::wire::mcp::{Era, Method};
use crate::wire::sse;

/// An idle link is closed after this long.
const IDLE_KEPT: Duration = Duration::from_secs(60);
/// A link over which an answer has come is closed when the end of the response has not come after this long.
const LINGER: Duration = Duration::from_secs(2);
/// Links without a request are looked at so often.
pub(super) const IDLE_LOOK: Duration = Duration::from_secs(2);

/// One link.
#[derive(Debug)]
pub(super) struct Link {
    upstream: u32,
    /// The request that it carries.
    pub trip: Option<Key>,
    /// Carries what is no client's request.
    is_own: bool,
    is_up: bool,
    /// All that was fed is with the kernel.
    is_drained: bool,
    pub brakes: Brakes,
    /// Answers that it carried.
    served: u32,
    /// When it became idle.
    pub since: Nanos,
    reader: ResponseReader,
    /// The head of the answer.
    pub head: Option<Head>,
    /// What came of a body that is not complete.
    pub body: Vec<u8>,
    pub events: Option<Box<sse::Parser>>,
    /// Of the bytes that the core holds: those of an event that is not complete.
    pub held: usize,
}

impl Link {
    pub const fn is_vacant(&self) -> bool {
        self.trip.is_none()
    }

    pub const fn upstream(&self) -> u32 {
        self.upstream
    }

    pub const fn leads_to(&self, upstream: u32) -> bool {
        self.upstream == upstream
    }

    /// What it carried goes elsewhere.
    pub const fn part(&mut self) {
        self.trip = None;
    }
}

/// What is kept of the head of an answer.
#[derive(Debug)]
pub(super) struct Head {
    pub status: u16,
    media: Option<Media>,
    pub session: Option<Box<[u8]>>,
}

/// One step of reading.
enum Step<'i> {
    Head,
    Data(&'i [u8]),
    End,
    More,
    Broken(Broken),
}

impl Gateway {
    /// Sends a request, or has it wait for what it needs.
    pub(super) fn dispatch(&mut self, now: Nanos, key: Key) {
        let Some(trip) = self.trips.get_mut(key) else { return };
        let up = &mut self.upstreams[trip.upstream];
        trip.stage = Stage::Waiting;
        trip.due = now.after(up.settings.first_byte_timeout);
        let due = trip.due.min(trip.ends);
        let needs_session = trip.version.era() == Era::Legacy
            && !matches!(trip.who, Who::Own(Errand::Initialize(_) | Errand::Initialized(_) | Errand::Level(_) | Errand::End));
        let (upstream, wanted) = (trip.upstream, trip.wanted);
        self.expect(due);
        if needs_session && (!self.has_session(now, upstream, key) || self.raises_level(now, upstream, key, wanted)) {
            return;
        }
        self.send(now, key);
    }

    /// Writes a request to a link: an idle one, else a new one. Without either it waits.
    pub(super) fn send(&mut self, now: Nanos, key: Key) {
        let Some(trip) = self.trips.get(key) else { return };
        // What opens a client's session is part of what that client asks for.
        let is_opening = matches!(trip.who, Who::Own(Errand::Initialize(_) | Errand::Initialized(_) | Errand::Level(_)));
        let is_own = matches!(trip.who, Who::Own(_)) && !(is_opening && trip.seat != Seat::Shared);
        let upstream = trip.upstream;
        let up = &mut self.upstreams[upstream];
        if up.pipe.is_some() {
            return self.send_piped(now, key);
        }
        let idle = loop {
            match up.idle.pop() {
                Some(link) if self.links.get(link_key(link)).is_some() => break Some(link),
                Some(_) => {}
                None => break None,
            }
        };
        let up = &mut self.upstreams[upstream];
        let link = match idle {
            Some(link) => link,
            None if is_own || up.links - up.own_links < up.settings.in_flight_max => self.dial(upstream),
            None => return up.queue.push_back(key),
        };
        self.write(now, key, link, is_own);
    }

    pub(super) fn dial(&mut self, upstream: u32) -> LinkId {
        let up = &mut self.upstreams[upstream];
        up.links += 1;
        let state = Link {
            upstream,
            trip: None,
            is_own: false,
            is_up: false,
            is_drained: true,
            brakes: Brakes::default(),
            served: 0,
            since: Nanos(0),
            reader: ResponseReader::new(),
            head: None,
            body: Vec::new(),
            events: None,
            held: 0,
        };
        let link = link_id(self.links.insert(state));
        let settings = &self.upstreams[upstream].settings;
        self.effects.push(Effect::Dial { link, dial: std::sync::Arc::clone(&settings.dial), timeout: settings.connect_timeout });
        link
    }

    /// Writes the request to this link.
    fn write(&mut self, now: Nanos, key: Key, link: LinkId, is_own: bool) {
        let (Some(trip), Some(state)) = (self.trips.get_mut(key), self.links.get_mut(link_key(link))) else { return };
        let up = &mut self.upstreams[trip.upstream];
        trip.stage = Stage::Sent(link);
        trip.due = now.after(up.settings.first_byte_timeout);
        let due = trip.due.min(trip.ends);
        (state.trip, state.is_own, state.is_drained) = (Some(key), is_own, false);
        up.own_links += usize::from(is_own);
        // A stream that goes on as long as it likes.
        if matches!(trip.who, Who::Own(Errand::Listen(_))) {
            trip.ends = Nanos::NEVER;
        }
        let start = self.bytes.len();
        let out = &mut self.bytes;
        if trip.version.era() == Era::Modern || trip.who == Who::Own(Errand::End) {
            out.extend_from_slice(&trip.head);
        } else {
            let session = session_at(up, &self.owners, trip.seat).filter(|_| !matches!(trip.who, Who::Own(Errand::Initialize(_))));
            let opened = session.map_or(0, |session| session.opened);
            let session = session.and_then(Session::open);
            trip.version = session.map_or(trip.version, |open| open.version);
            trip.session = session.filter(|open| open.id.is_some()).map_or(0, |_| opened);
            let after = trip.rejoin.as_ref().map(|rejoin| &*rejoin.after);
            let verb = if after.is_some() { Verb::Get } else { trip.verb };
            let len = (verb == Verb::Post).then_some(trip.body.len());
            session::legacy_head(out, &up.settings.starts, verb, session, after, len);
        }
        if trip.rejoin.is_none() {
            out.extend_from_slice(&trip.body);
        }
        let range = start..self.bytes.len();
        self.effects.push(Effect::Feed { link, range });
        self.expect(due);
    }

    /// Something happened to a link that is not bytes.
    pub fn on_link(&mut self, now: Nanos, link: LinkId, event: &LinkEvent<'_>) {
        let Some(state) = self.links.get_mut(link_key(link)) else { return };
        let upstream = state.upstream;
        if self.upstreams[upstream].pipe.is_some() {
            return self.on_piped(now, upstream, event);
        }
        match event {
            LinkEvent::Up => {
                state.is_up = true;
                self.answer_is_due(now, link);
            }
            LinkEvent::Drained => state.is_drained = true,
            LinkEvent::Bytes(_) => {}
            LinkEvent::End => {
                let is_complete = state.reader.on_end().is_ok() && state.head.is_some();
                let heard = if is_complete && state.trip.is_some() { self.on_body_end(now, link, None) } else { None };
                self.heard.extend(heard.map(own));
                self.lose(now, link, Failure::Closed, true);
            }
            LinkEvent::Down(down) => {
                let failure = if state.is_up && matches!(down, Down::Reset) { Failure::Closed } else { Failure::Down(down.clone()) };
                self.lose(now, link, failure, false);
            }
        }
    }

    /// From now on the upstream has time to answer.
    fn answer_is_due(&mut self, now: Nanos, link: LinkId) {
        let Some(state) = self.links.get(link_key(link)) else { return };
        let timeout = self.upstreams[state.upstream].settings.first_byte_timeout;
        if let Some(trip) = state.trip.and_then(|key| self.trips.get_mut(key)) {
            trip.due = now.after(timeout);
        }
    }

    /// Takes what came over a link. A whole answer that came in one piece is given at once; everything else that was heard waits for
    /// [`Gateway::next_heard`].
    pub fn on_bytes<'i>(&mut self, now: Nanos, link: LinkId, input: &'i [u8]) -> Option<Heard<'i>> {
        let upstream = self.links.get(link_key(link))?.upstream;
        if self.upstreams[upstream].pipe.is_some() {
            self.on_lines(now, upstream, link, input);
            return None;
        }
        let mut rest = input;
        let mut whole: Option<&'i [u8]> = None;
        let mut heard = None;
        loop {
            let Some(state) = self.links.get_mut(link_key(link)) else { return heard };
            if state.trip.is_none() && state.head.is_none() && !rest.is_empty() {
                // Nothing was asked for.
                self.hang(now, link);
                return heard;
            }
            let step = match state.reader.next(&mut rest) {
                Ok(Some(Part::Head(head))) => {
                    let session = head.session_id().map(Into::into);
                    state.head = Some(Head { status: head.status, media: head.media, session });
                    Step::Head
                }
                Ok(Some(Part::Data(data))) => Step::Data(data),
                Ok(Some(Part::End)) => Step::End,
                Ok(None) => Step::More,
                Err(broken) => Step::Broken(broken),
            };
            match step {
                Step::Head => self.on_head(now, link),
                Step::Data(data) => {
                    let is_stream = self.links.get(link_key(link)).is_some_and(|state| state.events.is_some());
                    if is_stream {
                        self.on_events(now, link, data);
                    } else if whole.is_none() && self.links.get(link_key(link)).is_some_and(|state| state.body.is_empty()) {
                        whole = Some(data);
                    } else {
                        let first = whole.take().unwrap_or_default();
                        self.keep(now, link, first);
                        self.keep(now, link, data);
                    }
                }
                Step::End => {
                    heard = self.on_body_end(now, link, whole.take());
                    if !rest.is_empty() {
                        // What follows was not asked for, and must not be taken for the answer to what would be sent next.
                        self.lose(now, link, Failure::Closed, true);
                        return heard;
                    }
                    self.release(now, link);
                }
                Step::More => {
                    if let Some(first) = whole.take() {
                        self.keep(now, link, first);
                    }
                    self.go_on(now, link);
                    return heard;
                }
                Step::Broken(broken) => {
                    self.lose(now, link, Failure::Http(broken), true);
                    return heard;
                }
            }
        }
    }

    /// The head of an answer has come.
    fn on_head(&mut self, now: Nanos, link: LinkId) {
        let Some(state) = self.links.get_mut(link_key(link)) else { return };
        let is_too_large = state.reader.body_left().is_some_and(|left| left > limits::UPSTREAM_ANSWER_BYTES_MAX);
        if let Some(head) = &state.head
            && head.media == Some(Media::EventStream)
            && head.status == 200
        {
            state.events = Some(Box::new(sse::Parser::new(limits::UPSTREAM_ANSWER_BYTES_MAX)));
            let upstream = state.upstream;
            // Of one that is taken up nothing was missed.
            let trip = state.trip.and_then(|key| self.trips.get(key)).filter(|trip| trip.rejoin.is_none());
            if let Some(Who::Own(Errand::Listen(_))) = trip.map(|trip| trip.who) {
                self.on_listening(now, upstream);
            }
        } else if is_too_large {
            // It says so itself: nothing of it is read.
            self.lose(now, link, Failure::TooLarge, true);
        }
    }

    /// Keeps a piece of a body that is not complete.
    fn keep(&mut self, now: Nanos, link: LinkId, piece: &[u8]) {
        let Some(state) = self.links.get_mut(link_key(link)) else { return };
        let is_too_large =
            state.body.len() + piece.len() > limits::UPSTREAM_ANSWER_BYTES_MAX || self.held + piece.len() > limits::UPSTREAM_HELD_BYTES_MAX;
        if is_too_large {
            return self.lose(now, link, Failure::TooLarge, true);
        }
        if state.body.capacity() == 0
            && let Some(spare) = self.spare.pop()
        {
            state.body = spare;
        }
        self.held += piece.len();
        long::extend(&mut state.body, piece, limits::UPSTREAM_ANSWER_BYTES_MAX);
    }

    /// More is to come: the upstream is at work.
    fn go_on(&mut self, now: Nanos, link: LinkId) {
        let Some(state) = self.links.get(link_key(link)) else { return };
        let timeout = self.upstreams[state.upstream].settings.idle_timeout;
        if let (Some(key), true) = (state.trip, state.head.is_some())
            && let Some(trip) = self.trips.get_mut(key)
        {
            // Whoever listens may hear nothing for long; it is asked now and then instead.
            // So does who waits for its client to answer.
            let is_patient = matches!(trip.who, Who::Own(Errand::Listen(_))) || trip.questions > 0;
            trip.due = if is_patient { Nanos::NEVER } else { now.after(timeout) };
            let due = trip.due.min(trip.ends);
            self.expect(due);
        }
    }

    /// A link is gone, or, when it `is_there`, is to be closed. What it carried is sent again if that is safe, else it has failed.
    pub(super) fn lose(&mut self, now: Nanos, link: LinkId, failure: Failure, is_there: bool) {
        let Some(state) = self.links.get(link_key(link)) else { return };
        let (trip, has_head) = (state.trip, state.head.is_some());
        let is_reused = state.served > 0;
        let is_unsent = state.is_up && !state.is_drained;
        let left = state.events.as_deref().map(Left::of);
        let mut failure = failure;
        if failure == Failure::TooLarge {
            let (upstream, bytes) = (state.upstream, state.body.len() + state.held);
            // What it says with it counts for more than how much it says.
            if let Some(head) = state.head.as_ref().filter(|head| !(200..300).contains(&head.status)) {
                failure = Failure::Status(head.status);
            }
            self.on_chatter(now, upstream, link, bytes as u64 + limits::CHATTER_MESSAGE_BYTES);
        }
        self.remove_link(now, link, is_there);
        let Some(key) = trip else { return };
        let Some(trip) = self.trips.get_mut(key) else { return };
        let up = &self.upstreams[trip.upstream];
        let is_broken = matches!(failure, Failure::Closed | Failure::Down(Down::Reset));
        let may_again = !trip.is_retried && !has_head && is_broken && is_reused;
        if may_again && (is_unsent || (trip.is_safe() && up.settings.retries)) {
            trip.is_retried = true;
            self.metrics.count(Counter::UpstreamRetries);
            return self.dispatch(now, key);
        }
        let is_over = is_broken || matches!(failure, Failure::Down(_));
        if is_over && self.leave(now, key, left.unwrap_or_default()) {
            return;
        }
        self.fail(now, key, failure);
    }

    /// Hangs up.
    pub(super) fn hang(&mut self, now: Nanos, link: LinkId) {
        self.remove_link(now, link, true);
    }

    fn remove_link(&mut self, now: Nanos, link: LinkId, is_there: bool) {
        let Some(state) = self.links.remove(link_key(link)) else { return };
        debug_assert!(self.upstreams[state.upstream].pipe.is_none(), "a process is ended elsewhere");
        self.held -= state.body.len() + state.held;
        self.give_back(state.body);
        let up = &mut self.upstreams[state.upstream];
        up.links -= 1;
        up.own_links -= usize::from(state.is_own);
        up.idle.retain(|idle| *idle != link);
        if is_there {
            self.effects.push(Effect::Hang { link });
        }
        self.pump(now, state.upstream);
    }

    /// There is room for one that waits.
    pub(super) fn pump(&mut self, now: Nanos, upstream: u32) {
        let up = &mut self.upstreams[upstream];
        while up.links - up.own_links < up.settings.in_flight_max || !up.idle.is_empty() {
            let Some(key) = up.queue.pop_front() else { return };
            // It may have been called off.
            if self.trips.get(key).is_some_and(|trip| trip.stage == Stage::Waiting) {
                return self.send(now, key);
            }
        }
    }

    /// An answer is complete: the link takes the next request, or ends.
    pub(super) fn release(&mut self, now: Nanos, link: LinkId) {
        let Some(state) = self.links.get_mut(link_key(link)).filter(|state| state.head.is_some()) else { return };
        (state.head, state.events) = (None, None);
        self.held -= std::mem::take(&mut state.held);
        state.served = state.served.saturating_add(1);
        let (upstream, was_own) = (state.upstream, std::mem::take(&mut state.is_own));
        // At the end many sessions may have to be ended.
        let is_needed = !self.is_draining || !self.upstreams[state.upstream].ends.is_empty();
        let is_good = state.reader.keeps_alive() && state.trip.is_none() && is_needed;
        let is_throttled = std::mem::take(&mut state.brakes).are_on();
        state.since = now;
        let up = &mut self.upstreams[upstream];
        up.own_links -= usize::from(was_own);
        if !is_good
            || (up.idle.len() >= up.settings.idle_links_max && up.queue.is_empty())
            || up.links - up.own_links > up.settings.in_flight_max
        {
            return self.hang(now, link);
        }
        if is_throttled {
            self.effects.push(Effect::Throttle { link, is_paused: false });
        }
        up.idle.push(link);
        self.expect(now.after(IDLE_LOOK));
        self.pump(now, upstream);
    }

    /// Closes links that were idle for long.
    pub(super) fn close_idle(&mut self, now: Nanos) {
        let is_old = |link: &Link| {
            let kept = if link.head.is_some() { LINGER } else { IDLE_KEPT };
            link.trip.is_none() && now.since(link.since) >= kept && self.upstreams[link.upstream].pipe.is_none()
        };
        let old: Vec<LinkId> = self.links.iter().filter(|(_, link)| is_old(link)).map(|(key, _)| link_id(key)).collect();
        for link in old {
            self.hang(now, link);
        }
    }
}

/// The same, on its own.
fn own(heard: Heard<'_>) -> Heard<'static> {
    let what = match heard.what {
        What::Notice(message) => What::Notice(Cow::Owned(message.into_owned())),
        What::Answer { status, message } => What::Answer { status, message: Cow::Owned(message.into_owned()) },
        What::Asks(message) => What::Asks(Cow::Owned(message.into_owned())),
        What::Question { id, method, params } => What::Question { id, method, params },
        What::Apart { retry_ms } => What::Apart { retry_ms },
        What::Failed(failure) => What::Failed(failure),
    };
    Heard { core: heard.core, call: heard.call, what }
}

/// Of a method that answers a question of an upstream: what it is answered.
pub(super) fn answer_to(method: Method, id: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    out.extend_from_slice(id);
    out.extend_from_slice(match method {
        Method::Ping => br#","result":{}}"#,
        _ => br#","error":{"code":-32601,"message":"This gateway asks its clients nothing on behalf of servers"}}"#,
    });
}
