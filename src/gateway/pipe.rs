//! Upstreams that are processes: one per upstream, on one core, spoken to over its standard input and output, one message a line (2025-11-25 and
//! 2026-07-28, transports, "stdio"). All clients share it, so ids and progress tokens are this gateway's own, and what it asks is not
//! passed on: nobody could say whom it asks. A client's own process (see `instance`) asks that client.

use std::time::Duration;

use hashbrown::HashMap;

use super::failure::Failure;
use super::http::answer_to;
use super::life::Pulse;
use super::link::{Down, LinkEvent};
use super::reply::Reply;
use super::restart::{Restart, RestartPolicy, Restarts};
use super::scout::Errand;
use super::slots::Key;
use super::translate::Said;
use super::trip::{Heard, Stage, Who};
use super::write::Number;
use super::{Effect, Gateway, link_key};
use crate::base::ids::{CallId, CoreId, LinkId};
use crate::base::time::Nanos;
use crate::base::{limits, long};
use crate::wire::json;
use crate::wire::jsonrpc::{self, Body, Id, Message, Notification, Response};
use crate::wire::mcp::{self, Method, meta_key};

/// A process that has closed its standard output has so long to end.
const END_WAIT: Duration = Duration::from_secs(1);

/// The process of an upstream.
#[derive(Debug)]
pub(super) struct Pipe {
    pub link: Option<LinkId>,
    /// A line whose end has not come.
    line: Vec<u8>,
    /// Requests in work, by the id that they were sent with.
    pub trips: HashMap<u64, Key>,
    /// Bytes that were fed and are not known to be with the kernel.
    unsent: usize,
    restarts: Restarts,
    /// It is not started before this moment.
    rests_until: Nanos,
    /// It says nothing more, and is ended at this moment unless it has ended by then.
    closed: Nanos,
    pub pulse: Pulse,
}

impl Pipe {
    /// Of a process that was never started.
    pub fn new(policy: RestartPolicy, seed: u64) -> Self {
        Self {
            link: None,
            line: Vec::new(),
            trips: HashMap::new(),
            unsent: 0,
            restarts: Restarts::new(policy, seed),
            rests_until: Nanos(0),
            closed: Nanos::NEVER,
            pulse: Pulse::new(),
        }
    }

    /// Whether it runs, or is being started.
    pub const fn is_there(&self) -> bool {
        self.link.is_some()
    }

    /// From now on it is started again by this.
    pub const fn set_policy(&mut self, policy: RestartPolicy) {
        self.restarts.set_policy(policy);
    }

    /// Whether it has ended, and is not to be started yet.
    pub fn is_resting(&self, now: Nanos) -> bool {
        self.closed != Nanos::NEVER || (self.link.is_none() && now < self.rests_until)
    }

    /// Why a request cannot be sent now, if it cannot.
    pub fn refuses(&self, now: Nanos) -> Option<Failure> {
        let is_over = self.link.is_none() && self.rests_until == Nanos::NEVER;
        self.is_resting(now).then_some(if is_over { Failure::Over } else { Failure::Resting })
    }

    /// When [`Gateway::end_closed`] or [`Gateway::look_at_lazy`] is due.
    pub fn due(&self) -> Nanos {
        self.closed.min(self.pulse.look)
    }

    /// It is not started before that moment.
    pub fn rest_until(&mut self, until: Nanos) {
        self.rests_until = self.rests_until.max(until);
    }

    /// It is ended on purpose, or has ended in good order: that says nothing of the next.
    pub const fn forgive(&mut self) {
        self.restarts.on_stopped();
    }

    /// Forgets what was heard of it and what it was told; gives the bytes of the line whose end will not come.
    fn clear(&mut self) -> usize {
        let held = std::mem::take(&mut self.line).len();
        (self.unsent, self.closed, self.pulse) = (0, Nanos::NEVER, Pulse::new());
        held
    }

    /// Bytes of a line whose end has not come.
    pub const fn held(&self) -> usize {
        self.line.len()
    }

    /// When it may be started.
    pub const fn rests_until(&self) -> Nanos {
        self.rests_until
    }

    /// It has ended. Whether it does so again and again.
    fn ended(&mut self, now: Nanos, failure: &Failure) -> bool {
        let code = match failure {
            Failure::Down(Down::Exited { code }) => *code,
            _ => None,
        };
        let restart = self.restarts.on_ended(now, code);
        self.rests_until = match restart {
            Restart::At(at) | Restart::LoopingUntil(at) => at,
            Restart::Never => Nanos::NEVER,
        };
        matches!(restart, Restart::LoopingUntil(_))
    }

    /// Whether one more of the clients' requests may be sent.
    fn has_room(&self, in_flight_max: usize) -> bool {
        self.trips.len() < in_flight_max && self.unsent <= limits::PIPE_FEED_BYTES_MAX
    }

    /// Whether a request would have to wait.
    pub fn is_full(&self, in_flight_max: usize) -> bool {
        !self.has_room(in_flight_max)
    }
}

impl Gateway {
    fn pipe(&mut self, upstream: u32) -> Option<&mut Pipe> {
        self.upstreams[upstream].pipe.as_mut()
    }

    /// Writes a request, or has it wait.
    pub(super) fn send_piped(&mut self, now: Nanos, key: Key) {
        let Some(trip) = self.trips.get(key) else { return };
        let (upstream, who, number) = (trip.upstream, trip.who, trip.number);
        let up = &mut self.upstreams[upstream];
        let Some(pipe) = &mut up.pipe else { return };
        if matches!(who, Who::Call(..)) && pipe.is_full(up.settings.in_flight_max) {
            return up.queue.push_back(key);
        }
        let Some(trip) = self.trips.get_mut(key) else { return };
        let body = std::mem::take(&mut trip.body);
        trip.stage = Stage::Piped;
        trip.due = now.after(up.settings.first_byte_timeout);
        if matches!(who, Who::Own(Errand::Listen(_))) {
            (trip.due, trip.ends) = (Nanos::NEVER, Nanos::NEVER);
        }
        let due = trip.due.min(trip.ends);
        if let Some(number) = number {
            pipe.trips.insert(number.0, key);
        }
        if matches!(who, Who::Call(..)) {
            pipe.pulse.use_at(now);
        }
        self.write_line(upstream, &body);
        if let Some(trip) = self.trips.get_mut(key) {
            trip.body = body;
        }
        self.expect(due);
        if number.is_none() {
            // A notification: it is not answered.
            self.end_trip(now, key);
            if let Who::Own(errand) = who {
                self.on_reply(now, upstream, errand, &Reply { status: 202, session: None, body: b"" });
            }
        }
    }

    /// Writes one message; starts the process first when it does not run.
    fn write_line(&mut self, upstream: u32, message: &[u8]) {
        let link = match self.pipe(upstream).and_then(|pipe| pipe.link) {
            Some(link) => link,
            None => {
                let link = self.dial(upstream);
                if let Some(pipe) = self.pipe(upstream) {
                    pipe.link = Some(link);
                }
                link
            }
        };
        let start = self.bytes.len();
        self.bytes.extend_from_slice(message);
        self.bytes.push(b'\n');
        let range = start..self.bytes.len();
        if let Some(pipe) = self.pipe(upstream) {
            pipe.unsent += range.len();
        }
        self.effects.push(Effect::Feed { link, range });
    }

    /// Writes a message that is not answered, if there is anybody to read it.
    pub(super) fn tell_piped(&mut self, upstream: u32, message: &[u8]) {
        // One that reads nothing is told nothing.
        if self.pipe(upstream).is_some_and(|pipe| pipe.link.is_some() && pipe.unsent <= limits::PIPE_FEED_BYTES_MAX) {
            self.write_line(upstream, message);
        }
    }

    /// Something happened to the link of a process that is not bytes.
    pub(super) fn on_piped(&mut self, now: Nanos, upstream: u32, event: &LinkEvent<'_>) {
        match event {
            LinkEvent::Up => {
                if let Some(pipe) = self.pipe(upstream) {
                    pipe.restarts.on_started(now);
                }
                self.on_started(now, upstream);
                let due = now.after(self.upstreams[upstream].settings.first_byte_timeout);
                let keys: Vec<Key> = self.pipe(upstream).map(|pipe| pipe.trips.values().copied().collect()).unwrap_or_default();
                for key in keys {
                    if let Some(trip) = self.trips.get_mut(key).filter(|trip| trip.due != Nanos::NEVER) {
                        trip.due = due;
                    }
                }
            }
            LinkEvent::Drained => {
                if let Some(pipe) = self.pipe(upstream) {
                    pipe.unsent = 0;
                }
                self.pump_piped(now, upstream);
            }
            LinkEvent::Bytes(_) => {}
            LinkEvent::End => {
                // Most say nothing more because they end: how is told then.
                let due = now.after(END_WAIT);
                if let Some(pipe) = self.pipe(upstream) {
                    pipe.closed = due;
                }
                self.expect(due);
            }
            LinkEvent::Down(down) => self.lose_pipe(now, upstream, &Failure::Down(down.clone()), false),
        }
    }

    /// The process is gone, or is to go: what it had in work has failed.
    pub(super) fn lose_pipe(&mut self, now: Nanos, upstream: u32, failure: &Failure, is_there: bool) {
        if self.has_gone_to_sleep(now, upstream, failure) {
            return;
        }
        let in_work = self.take_out(upstream, is_there);
        let Some(pipe) = self.pipe(upstream) else { return };
        if pipe.ended(now, failure) {
            tracing::warn!(
                upstream = &*self.upstreams[upstream].settings.name,
                "a process ends again and again, and is left alone for a while"
            );
        }
        let up = &mut self.upstreams[upstream];
        let waiting: Vec<Key> = up.queue.drain(..).chain(up.session.greeting.drain(..)).collect();
        for key in in_work.into_iter().chain(waiting) {
            self.fail(now, key, failure.clone());
        }
        self.on_scout_failure(now, upstream, failure);
    }

    /// Takes a process out of use, and hangs it up if it `is_there`. Gives the requests that it had in work.
    pub(super) fn take_out(&mut self, upstream: u32, is_there: bool) -> Vec<Key> {
        let up = &mut self.upstreams[upstream];
        let Some(pipe) = &mut up.pipe else { return Vec::new() };
        let (link, trips) = (pipe.link.take(), std::mem::take(&mut pipe.trips));
        self.held -= pipe.clear();
        // The next is greeted anew: who waits for a session waits for that one.
        up.session.close();
        if let Some(link) = link
            && self.links.remove(link_key(link)).is_some()
        {
            self.upstreams[upstream].links -= 1;
            if is_there {
                self.effects.push(Effect::Hang { link });
            }
        }
        trips.into_values().collect()
    }

    /// Ends a process that has closed its standard output and goes on.
    pub(super) fn end_closed(&mut self, now: Nanos, upstream: u32) {
        if self.pipe(upstream).is_some_and(|pipe| pipe.closed <= now) {
            self.lose_pipe(now, upstream, &Failure::Closed, true);
        }
    }

    /// There may be room for those that wait.
    pub(super) fn pump_piped(&mut self, now: Nanos, upstream: u32) {
        loop {
            let up = &mut self.upstreams[upstream];
            let Some(pipe) = up.pipe.as_ref().filter(|pipe| pipe.has_room(up.settings.in_flight_max)) else { return };
            debug_assert!(pipe.trips.len() < up.settings.in_flight_max, "there is room");
            let Some(key) = up.queue.pop_front() else { return };
            if self.trips.get(key).is_some_and(|trip| trip.stage == Stage::Waiting) {
                self.send_piped(now, key);
            }
        }
    }

    /// A trip is over: nothing is expected for its number any more.
    pub(super) fn forget_number(&mut self, upstream: u32, number: Option<Number>) {
        if let (Some(number), Some(pipe)) = (number, self.pipe(upstream)) {
            pipe.trips.remove(&number.0);
        }
    }

    /// Takes what a process has written.
    pub(super) fn on_lines(&mut self, now: Nanos, upstream: u32, link: LinkId, input: &[u8]) {
        let chatter = self.take_lines(now, upstream, input);
        if chatter > 0 {
            self.on_chatter(now, upstream, link, chatter);
        }
    }

    /// Gives how much of it answers nothing, bytes.
    fn take_lines(&mut self, now: Nanos, upstream: u32, mut input: &[u8]) -> u64 {
        let mut chatter = 0;
        let count = |is_answer, line: &[u8]| if is_answer { 0 } else { line.len() as u64 + limits::CHATTER_MESSAGE_BYTES };
        while !input.is_empty() {
            let Some(pipe) = self.pipe(upstream).filter(|pipe| pipe.link.is_some()) else { return chatter };
            let (piece, is_whole) = match memchr::memchr(b'\n', input) {
                Some(end) => (&input[..end], true),
                None => (input, false),
            };
            input = &input[piece.len() + usize::from(is_whole)..];
            if pipe.line.len() + piece.len() > limits::UPSTREAM_ANSWER_BYTES_MAX {
                self.lose_pipe(now, upstream, &Failure::TooLarge, true);
                return chatter;
            }
            if pipe.line.is_empty() && is_whole {
                chatter += count(self.on_line(now, upstream, piece), piece);
                continue;
            }
            long::extend(&mut pipe.line, piece, limits::UPSTREAM_ANSWER_BYTES_MAX);
            let taken = is_whole.then(|| std::mem::take(&mut pipe.line));
            self.held += piece.len();
            if let Some(mut line) = taken {
                self.held -= line.len();
                chatter += count(self.on_line(now, upstream, &line), &line);
                line.clear();
                line.shrink_to(limits::POOLED_BUFFER_BYTES_MAX);
                if let Some(pipe) = self.pipe(upstream) {
                    pipe.line = line;
                }
            }
        }
        chatter
    }

    /// One line; whether it answers a request. What is no message is left alone: some programs print what they should not.
    fn on_line(&mut self, now: Nanos, upstream: u32, line: &[u8]) -> bool {
        match jsonrpc::parse(line) {
            Ok(Body::One(Message::Response(response))) => return self.on_piped_response(now, upstream, line, &response),
            Ok(Body::One(Message::Notification(notice))) => self.on_piped_notice(now, upstream, line, &notice),
            Ok(Body::One(Message::Request(request))) => {
                // What a client's own process asks is that client's to answer, and of its calls the oldest is the likeliest to be meant.
                let asking = self.upstreams[upstream].tenancy.and_then(|_| self.oldest_call(upstream));
                if let (Some((key, whose)), true) = (asking, Method::parse(request.method) != Method::Ping) {
                    self.on_question(now, key, whose, &request);
                    return false;
                }
                let mut message = self.buffer();
                answer_to(Method::parse(request.method), request.id.raw(), &mut message);
                self.tell_piped(upstream, &message);
                self.give_back(message);
            }
            Ok(Body::Batch(_)) | Err(_) => {
                tracing::debug!(upstream = &*self.upstreams[upstream].settings.name, "a line on standard output is no message");
            }
        }
        false
    }

    /// Of the client's requests that a process works on the one that was sent first.
    fn oldest_call(&mut self, upstream: u32) -> Option<(Key, (CoreId, CallId))> {
        let pipe = self.upstreams[upstream].pipe.as_ref()?;
        let calls = pipe.trips.iter().filter_map(|(number, key)| match self.trips.get(*key)?.who {
            Who::Call(core, call) => Some((*number, *key, (core, call))),
            Who::Own(_) => None,
        });
        calls.min_by_key(|(number, ..)| *number).map(|(_, key, whose)| (key, whose))
    }

    /// Whether it answers a request that is in work.
    fn on_piped_response(&mut self, now: Nanos, upstream: u32, line: &[u8], response: &Response<'_>) -> bool {
        let number = response.id.and_then(|id| number_of(id.raw()));
        // One that comes too late shows that it lives, too.
        if let Some(pipe) = self.pipe(upstream) {
            pipe.pulse.beat(now);
        }
        let Some(key) = number.and_then(|number| self.pipe(upstream)?.trips.get(&number).copied()) else { return false };
        let Some(trip) = self.trips.get(key) else { return false };
        match trip.who {
            Who::Own(errand) => {
                self.end_trip(now, key);
                self.on_reply(now, upstream, errand, &Reply { status: 200, session: None, body: line });
            }
            Who::Call(core, call) => {
                let mut message = self.buffer();
                let Some(trip) = self.trips.get(key) else { return false };
                let terms = trip.terms(&self.upstreams[upstream].info);
                match terms.answer(response, &mut message) {
                    Ok((status, said)) => {
                        if said != Said::Anew {
                            message.extend_from_slice(line);
                        }
                        let what = self.conclude(now, key, status, said, message.into());
                        self.heard.push_back(Heard { core, call, what });
                    }
                    Err(failure) => {
                        self.give_back(message);
                        self.fail_or_mend(now, key, failure, line);
                    }
                }
            }
        }
        self.pump_piped(now, upstream);
        true
    }

    fn on_piped_notice(&mut self, now: Nanos, upstream: u32, line: &[u8], notice: &Notification<'_>) {
        match mcp::Notification::parse(notice.method) {
            mcp::Notification::Progress => {
                let number = notice.params.get("progressToken").and_then(number_of);
                let Some(key) = number.and_then(|number| self.pipe(upstream)?.trips.get(&number).copied()) else { return };
                if let Some(pipe) = self.pipe(upstream) {
                    pipe.pulse.beat(now);
                }
                let idle = self.upstreams[upstream].settings.idle_timeout;
                let Some(trip) = self.trips.get_mut(key) else { return };
                trip.due = trip.due.max(now.after(idle));
                self.pass_notice(key, notice, line);
            }
            mcp::Notification::Message => self.on_stray_log(now, upstream, notice, line),
            mcp::Notification::Cancelled => {
                let number = notice.params.get("requestId").and_then(number_of);
                if let Some(key) = number.and_then(|number| self.pipe(upstream)?.trips.get(&number).copied()) {
                    self.on_called_off(now, key);
                }
            }
            kind => {
                // In the modern era what is said of changes names the stream that it is said on (2026-07-28, subscriptions).
                let named = notice.params.meta.raw.and_then(|meta| json::get(meta, meta_key::SUBSCRIPTION_ID)).map(number_of);
                match named {
                    None => self.on_change(now, upstream, kind, &notice.params),
                    Some(number) => {
                        let key = number.and_then(|number| self.pipe(upstream)?.trips.get(&number).copied());
                        let is_open = |key: &Key| self.trips.get(*key).is_some_and(|trip| matches!(trip.who, Who::Own(Errand::Listen(_))));
                        if let Some(key) = key.filter(is_open) {
                            self.on_told(now, upstream, key, kind, &notice.params);
                        }
                    }
                }
            }
        }
    }
}

/// The number that an id or a token of this gateway is.
fn number_of(raw: &[u8]) -> Option<u64> {
    match Id::from_raw(raw)? {
        Id::Number(raw) => std::str::from_utf8(raw).ok()?.parse().ok(),
        // Some answer a number with the string of it.
        Id::String(raw) => json::string(raw)?.parse().ok(),
    }
}
