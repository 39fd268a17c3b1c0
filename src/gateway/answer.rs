//! What an upstream has answered over HTTP: how it is read, and how a request ends.

use std::borrow::Cow;

use super::breaker::Said as Word;
use super::failure::Failure;
use super::http::Link;
use super::rejoin::Left;
use super::reply::Reply;
use super::scout::Errand;
use super::slots::Key;
use super::translate::{self, Heard as Message, Said};
use super::trip::{Heard, Stage, Trip, What, Who};
use super::{Gateway, http, link_key};
use crate::base::ids::{CallId, CoreId, LinkId};
use crate::base::limits;
use crate::base::metrics::Counter;
use crate::base::time::Nanos;
use crate::wire::jsonrpc::Request;
use crate::wire::mcp::{Era, Method, Notification};
use crate::wire::sse;

impl Gateway {
    /// The body of an answer is complete; `whole` when it came in one piece.
    pub(super) fn on_body_end<'i>(&mut self, now: Nanos, link: LinkId, whole: Option<&'i [u8]>) -> Option<Heard<'i>> {
        let state = self.links.get_mut(link_key(link))?;
        let (key, head) = (state.trip?, state.head.as_mut()?);
        let (status, session, is_stream) = (head.status, head.session.take(), state.events.is_some());
        let body = std::mem::take(&mut state.body);
        self.held -= body.len();
        let trip = self.trips.get(key)?;
        if is_stream {
            // Its answer would have ended the trip.
            let left = state.events.as_deref().map(Left::of).unwrap_or_default();
            state.part();
            self.give_back(body);
            if !self.leave(now, key, left) {
                self.fail(now, key, Failure::Closed);
            }
            return None;
        }
        let (upstream, who) = (trip.upstream, trip.who);
        if self.is_rejoin_refused(now, key, link, status) {
            self.give_back(body);
            return None;
        }
        let heard = match who {
            Who::Own(errand) => {
                let reply = Reply { status, session, body: whole.unwrap_or(&body) };
                self.end_trip(now, key);
                // What follows may go over the same link.
                self.release(now, link);
                self.on_reply(now, upstream, errand, &reply);
                None
            }
            Who::Call(..) if self.is_session_lost(key, status, whole.unwrap_or(&body)) => {
                self.renew(now, key);
                None
            }
            Who::Call(..) => {
                let message = match whole {
                    Some(whole) => Cow::Borrowed(whole),
                    None => Cow::Owned(body),
                };
                return self.on_answer(now, key, status, message);
            }
        };
        self.give_back(body);
        heard
    }

    /// An answer to a client's request, as one JSON body.
    fn on_answer<'i>(&mut self, now: Nanos, key: Key, status: u16, message: Cow<'i, [u8]>) -> Option<Heard<'i>> {
        match self.read(key, &message, status) {
            Ok(Some(((core, call), status, said, anew))) => {
                let message = if said == Said::Anew { Cow::Owned(anew) } else { message };
                let what = self.conclude(now, key, status, said, message);
                Some(Heard { core, call, what })
            }
            Ok(None) => {
                self.fail(
                    now,
                    key,
                    if (200..300).contains(&status) { Failure::Garbage("no answer to what was asked") } else { Failure::Status(status) },
                );
                None
            }
            Err(failure) => {
                let is_told = (200..300).contains(&status) || matches!(failure, Failure::Version | Failure::Headers);
                self.fail_or_mend(now, key, if is_told { failure } else { Failure::Status(status) }, &message);
                None
            }
        }
    }

    /// Reads a response as the client is to have it. `None` when it is none of this request.
    #[expect(clippy::type_complexity, reason = "an answer in its parts")]
    fn read(&mut self, key: Key, message: &[u8], _status: u16) -> Result<Option<((CoreId, CallId), u16, Said, Vec<u8>)>, Failure> {
        let Some(Trip { who: Who::Call(core, call), upstream, .. }) = self.trips.get(key) else { return Ok(None) };
        let (core, call, upstream) = (*core, *call, *upstream);
        let mut anew = self.buffer();
        let up = &self.upstreams[upstream];
        let Some(trip) = self.trips.get(key) else { return Ok(None) };
        let terms = trip.terms(&up.info);
        let read = match translate::hear(message, &terms) {
            Ok(Message::Answer(response)) => terms.answer(&response, &mut anew).map(Some),
            Ok(_) => Ok(None),
            Err(failure) => Err(failure),
        };
        match read {
            Ok(Some((status, Said::Anew))) => Ok(Some(((core, call), status, Said::Anew, anew))),
            Ok(other) => {
                self.give_back(anew);
                Ok(other.map(|(status, said)| ((core, call), status, said, Vec::new())))
            }
            Err(failure) => {
                self.give_back(anew);
                Err(failure)
            }
        }
    }

    /// A piece of a stream.
    pub(super) fn on_events(&mut self, now: Nanos, link: LinkId, piece: &[u8]) {
        let Some(upstream) = self.links.get(link_key(link)).map(Link::upstream) else { return };
        let chatter = self.take_events(now, link, piece);
        if chatter > 0 {
            self.on_chatter(now, upstream, link, chatter);
        }
    }

    /// Gives how much of it answers nothing, bytes.
    fn take_events(&mut self, now: Nanos, link: LinkId, mut piece: &[u8]) -> u64 {
        let mut chatter = 0;
        loop {
            let Some(state) = self.links.get_mut(link_key(link)) else { return chatter };
            let Some(mut parser) = state.events.take() else { return chatter };
            let (key, before) = (state.trip, state.held + piece.len());
            let mut is_answer = false;
            let step = match parser.next(&mut piece) {
                // What comes behind the answer is nobody's.
                Ok(Some(event)) if !event.data.is_empty() => {
                    if let Some(key) = key {
                        self.on_event(now, key, link, event.data);
                    }
                    is_answer = key.is_some_and(|key| self.trips.get(key).is_none());
                    chatter += if is_answer { 0 } else { limits::CHATTER_MESSAGE_BYTES };
                    Ok(true)
                }
                Ok(Some(_)) => Ok(true),
                Ok(None) => Ok(false),
                Err(sse::TooLong) => Err(Failure::TooLarge),
            };
            if let Some(state) = self.links.get_mut(link_key(link)) {
                let held = parser.held_bytes();
                self.held = self.held - state.held + held;
                (state.held, state.events) = (held, Some(parser));
                if !is_answer {
                    chatter += before.saturating_sub(held + piece.len()) as u64;
                }
            }
            let step = if self.held > limits::UPSTREAM_HELD_BYTES_MAX { Err(Failure::TooLarge) } else { step };
            match step {
                Ok(true) => {}
                Ok(false) => return chatter,
                Err(failure) => {
                    self.lose(now, link, failure, true);
                    return chatter;
                }
            }
        }
    }

    /// One message of a stream.
    fn on_event(&mut self, now: Nanos, key: Key, link: LinkId, message: &[u8]) {
        let Some(trip) = self.trips.get(key) else { return };
        let (who, upstream, version) = (trip.who, trip.upstream, trip.version);
        let (core, call) = match who {
            Who::Own(errand) => return self.on_own_event(now, key, errand, link, message),
            Who::Call(core, call) => (core, call),
        };
        let mut anew = self.buffer();
        let up = &self.upstreams[upstream];
        let Some(trip) = self.trips.get(key) else { return };
        let terms = trip.terms(&up.info);
        let heard = match translate::hear(message, &terms) {
            Ok(Message::Answer(response)) => terms.answer(&response, &mut anew).map(|(status, said)| Some((Some(status), said))),
            Ok(Message::Notice(notice)) => match terms.notice(&notice, &mut anew) {
                Some(said) => Ok(Some((None, said))),
                None => {
                    self.give_back(anew);
                    // Some say of their own accord whatever they have to say on the stream that happens to be open.
                    if version.era() == Era::Legacy {
                        self.on_change(now, upstream, Notification::parse(notice.method), &notice.params);
                    }
                    return;
                }
            },
            Ok(Message::Question(request)) => {
                self.give_back(anew);
                return self.on_question(now, key, (core, call), &request);
            }
            Ok(Message::Stray) => Ok(None),
            Err(failure) => Err(failure),
        };
        let (answer, said) = match heard {
            Ok(Some(heard)) => heard,
            Ok(None) => return self.give_back(anew),
            Err(failure) => {
                self.give_back(anew);
                return self.fail_or_mend(now, key, failure, message);
            }
        };
        if said != Said::Anew {
            anew.extend_from_slice(message);
        }
        let message = Cow::Owned(anew);
        let what = match answer {
            Some(status) => self.conclude(now, key, status, said, message),
            None => What::Notice(message),
        };
        self.heard.push_back(Heard { core, call, what });
    }

    /// An upstream asks something while it works on a client's request.
    pub(super) fn on_question(&mut self, now: Nanos, key: Key, (core, call): (CoreId, CallId), request: &Request<'_>) {
        let Some(trip) = self.trips.get_mut(key) else { return };
        let (upstream, seat, method) = (trip.upstream, trip.seat, Method::parse(request.method));
        if trip.version.era() == Era::Modern {
            // That era has no such requests.
            return;
        }
        let params = request.params.raw.unwrap_or(b"{}");
        // Whoever is to be asked may keep them until the client comes back.
        let is_too_much = trip.questions >= limits::UPSTREAM_QUESTIONS_MAX || trip.asked + params.len() > limits::UPSTREAM_ANSWER_BYTES_MAX;
        if method == Method::Ping || is_too_much {
            let id = request.id.raw().to_vec();
            return self.answer_question(now, upstream, seat, &id, method);
        }
        trip.questions += 1;
        trip.asked += params.len();
        // A person may be asked: whoever waits for the request says when that is too long.
        (trip.due, trip.ends) = (Nanos::NEVER, Nanos::NEVER);
        let id = String::from_utf8_lossy(request.id.raw()).into();
        let what = What::Question { id, method: request.method.into(), params: params.into() };
        self.heard.push_back(Heard { core, call, what });
    }

    /// The session that the head of the answer in work names.
    pub(super) fn session_of(&self, link: LinkId) -> Option<Box<[u8]>> {
        self.links.get(link_key(link))?.head.as_ref()?.session.clone()
    }

    /// The engine is done with a message.
    pub fn recycle(&mut self, message: Cow<'_, [u8]>) {
        if let Cow::Owned(buffer) = message {
            self.give_back(buffer);
        }
    }

    /// A request was answered, or its upstream asks something first.
    pub(super) fn conclude<'i>(&mut self, now: Nanos, key: Key, status: u16, said: Said, message: Cow<'i, [u8]>) -> What<'i> {
        if said != Said::Asks {
            self.succeed(now, key);
            return What::Answer { status, message };
        }
        self.park(key);
        What::Asks(message)
    }

    /// A request has ended well.
    pub(super) fn succeed(&mut self, now: Nanos, key: Key) {
        let Some(trip) = self.trips.get_mut(key) else { return };
        let (link, upstream, pass) = (trip.link(), trip.upstream, trip.pass.take());
        if let Some(pass) = pass {
            let said = self.upstreams[upstream].breaker.succeeded(now, pass);
            self.say(now, upstream, said);
        }
        self.end_trip(now, key);
        if let Some(state) = link.and_then(|link| self.links.get_mut(link_key(link))) {
            state.since = now;
            self.expect(now.after(http::IDLE_LOOK));
        }
    }

    /// Takes a trip out of work; its link, if it has one, carries the rest of an answer that nobody waits for. Gives the upstream.
    pub(super) fn end_trip(&mut self, now: Nanos, key: Key) -> Option<u32> {
        let trip = self.trips.remove(key)?;
        self.gauge();
        if let Some(pass) = trip.pass {
            let said = self.upstreams[trip.upstream].breaker.withdrawn(pass);
            self.say(now, trip.upstream, said);
        }
        let up = &mut self.upstreams[trip.upstream];
        match trip.who {
            Who::Own(Errand::Tell) => up.tells -= 1,
            Who::Own(Errand::End) => up.ending -= 1,
            Who::Own(_) => {}
            Who::Call(..) => up.calls -= 1,
        }
        match trip.stage {
            Stage::Unopened => {
                up.unopened -= 1;
                if let Some(session) = self.session_mut(trip.upstream, trip.seat) {
                    session.forget(key);
                }
            }
            Stage::Waiting => up.queue.retain(|other| *other != key),
            Stage::Piped => self.forget_number(trip.upstream, trip.number),
            Stage::Sent(_) | Stage::Asking | Stage::Apart | Stage::Refreshing => {}
        }
        if let Some(state) = trip.link().and_then(|link| self.links.get_mut(link_key(link)))
            && state.trip == Some(key)
        {
            state.trip = None;
        }
        self.give_back(trip.head);
        self.give_back(trip.body);
        if matches!(trip.who, Who::Call(..)) {
            self.call_over(trip.upstream, trip.seat);
        }
        Some(trip.upstream)
    }

    /// Ends a trip that nobody waits for, and its link.
    pub(super) fn drop_trip(&mut self, now: Nanos, key: Key) {
        let link = self.trips.get(key).and_then(Trip::link);
        self.end_trip(now, key);
        if let Some(link) = link {
            self.hang(now, link);
        }
    }

    /// A request has failed: its link is hung up.
    pub(super) fn fail(&mut self, now: Nanos, key: Key, failure: Failure) {
        let Some(trip) = self.trips.get_mut(key) else { return };
        let (who, upstream, seat, link) = (trip.who, trip.upstream, trip.seat, trip.link());
        // One that is not read, because its client does not read, cannot help being silent.
        let is_unread = link.and_then(|link| self.links.get(link_key(link))).is_some_and(|link| link.brakes.is_choked);
        // One answer that is too large is one tool's. Many in short time cost the calls of others.
        let is_flood = failure == Failure::TooLarge && self.upstreams[upstream].chatter.is_too_much();
        let is_its_fault = (failure.is_its_fault() || is_flood) && !(is_unread && failure == Failure::TimedOut);
        // What is not held against the upstream says nothing of it: see where the trip ends.
        let pass = if is_its_fault { trip.pass.take() } else { None };
        if let (Stage::Piped, Some(number), Failure::TimedOut) = (trip.stage, trip.number, &failure) {
            self.tell_cancelled(now, upstream, seat, number.0);
            if matches!(who, Who::Call(..)) {
                self.on_late(now, upstream);
            }
        }
        if is_its_fault {
            let up = &mut self.upstreams[upstream];
            self.metrics.count(Counter::UpstreamFailures);
            tracing::debug!(upstream = &*up.settings.name, %failure, "a request failed");
            if pass.is_some_and(|pass| up.breaker.failed(now, pass)) {
                self.metrics.count(Counter::BreakersOpened);
                tracing::warn!(upstream = &*up.settings.name, %failure, "an upstream fails again and again and is left alone for a while");
                self.say(now, upstream, Some(Word::Opened));
            }
        }
        self.end_trip(now, key);
        match who {
            Who::Call(core, call) => self.heard.push_back(Heard { core, call, what: What::Failed(failure) }),
            Who::Own(errand) => self.on_own_failure(now, upstream, errand, failure),
        }
        if let Some(link) = link {
            self.hang(now, link);
        }
    }
}
