//! From received bytes to the engine and back: requests are taken as long as they are whole, answers go straight into the outbound
//! buffer, and what the engine wants done besides is carried out in order.

use super::conn::{Awaits, NEVER, Phase};
use super::core::{Core, TurnPart};
use super::ring::Op;
use crate::base::fault;
use crate::base::ids::ConnId;
use crate::base::limits::{LINGER_BYTES_MAX, OUTBOUND_BYTES_MAX, OUTBOUND_PAUSE_BYTES, OUTBOUND_RESUME_BYTES, PIPELINE_PAUSE_BYTES};
use crate::base::metrics::Counter;
use crate::base::stored::Stored;
use crate::engine::{Effect, Inbound, Verdict};
use crate::gateway::link;
use crate::wire::http1::{self, HeaderSlots};

/// Room that the engine's own buffer keeps from call to call, bytes.
const OUT_BYTES_KEPT: usize = 256 * 1024;

/// What became of a whole request.
enum Served {
    /// This many bytes are done with.
    Taken(usize),
    /// It is not whole, it is to be offered again, or it was refused for good.
    Kept,
}

impl Core {
    /// Takes what was received.
    pub(super) fn take_bytes(&mut self, index: u32, received: &[u8]) {
        let Some(conn) = self.conns.get(index) else { return };
        match conn.phase {
            Phase::Dead => (),
            Phase::Closing | Phase::Lingering => self.discard(index, received.len()),
            // The usual case: the request is taken where the kernel put it.
            Phase::Open if !conn.choked && conn.stored() == 0 => {
                let used = self.pump(index, received);
                self.store(index, &received[used..]);
                self.limit_input(index);
            }
            Phase::Open if !conn.choked => {
                self.store(index, received);
                self.pump_stored(index);
            }
            Phase::Open | Phase::Busy | Phase::Parked | Phase::Leaving => {
                self.store(index, received);
                self.limit_input(index);
            }
        }
    }

    fn store(&mut self, index: u32, rest: &[u8]) {
        let Some(conn) = self.conns.get(index) else { return };
        if rest.is_empty() || matches!(conn.phase, Phase::Closing | Phase::Lingering | Phase::Dead) || !self.has_memory(index, rest.len()) {
            return;
        }
        if let Some(conn) = self.conns.get(index) {
            conn.bytes.get_or_insert_with(|| self.pool.get()).input.extend_from_slice(rest);
            self.enter(index);
        }
    }

    /// Input after the end of what is served: read, so that closing does not reset the connection before the peer has the answer.
    fn discard(&mut self, index: u32, count: usize) {
        let Some(conn) = self.conns.get(index) else { return };
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        match conn.discard_left.checked_sub(count) {
            Some(left) => conn.discard_left = left,
            None if conn.phase == Phase::Lingering => self.kill(index),
            None => {
                // The answer is still on its way: no more is read, and nothing is thrown away.
                conn.discard_left = 0;
                if !conn.full {
                    conn.full = true;
                    self.ring.cancel(Op::Recv, index);
                }
            }
        }
    }

    /// Takes the requests that are whole. The answer says how many bytes are done with.
    fn pump(&mut self, index: u32, input: &[u8]) -> usize {
        let mut at = 0;
        loop {
            let Some(conn) = self.conns.get(index) else { return input.len() };
            if conn.phase != Phase::Open || conn.choked {
                return at;
            }
            let rest = &input[at..];
            if rest.is_empty() {
                self.await_request(index);
                return at;
            }
            match self.serve(index, rest) {
                Served::Taken(count) => {
                    self.served = self.served.wrapping_add(1);
                    at += count;
                }
                Served::Kept => return at,
            }
        }
    }

    /// Takes what is stored, as far as it is whole.
    fn pump_stored(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index) else { return };
        if conn.phase != Phase::Open || conn.choked {
            return;
        }
        let mut input = conn.bytes.as_mut().map(|bytes| std::mem::take(&mut bytes.input)).unwrap_or_default();
        let before = self.served;
        let used = self.pump(index, &input);
        let requests = self.served.wrapping_sub(before);
        let Some(conn) = self.conns.get(index) else { return };
        input.drain(..used);
        if matches!(conn.phase, Phase::Closing | Phase::Lingering | Phase::Dead) {
            input.clear();
        }
        if let Some(bytes) = &mut conn.bytes {
            bytes.input = input;
            self.pool.took_ahead(bytes, used, requests);
        }
        if conn.phase == Phase::Open && !conn.choked {
            if conn.ended {
                return self.begin_closing(index);
            }
            self.pool.reclaim(conn);
            self.unlimit_input(index);
        } else {
            self.limit_input(index);
        }
    }

    /// The rest of a request is to come.
    fn await_rest(&mut self, index: u32, expect_continue: bool, in_body: bool) {
        let Some(conn) = self.conns.get(index) else { return };
        if expect_continue {
            conn.bytes.get_or_insert_with(|| self.pool.get()).output.extend_from_slice(http1::CONTINUE);
        }
        // The deadline runs from the first byte of the head and from the last: more bytes do not move it.
        if in_body && conn.awaits != Awaits::Body {
            self.await_until(index, Awaits::Body, self.timeouts.body);
        } else if !in_body && conn.awaits != Awaits::Head {
            self.await_until(index, Awaits::Head, self.timeouts.head);
        }
        if expect_continue {
            self.mark(index);
        }
    }

    /// Offers the request at the start of the input to the engine, if it is whole.
    fn serve(&mut self, index: u32, input: &[u8]) -> Served {
        let Some(conn) = self.conns.get(index) else { return Served::Kept };
        let mut slots = HeaderSlots::new();
        let id = conn.id(index);
        let (framer, limits) = (&mut conn.framer, &self.config.http);
        let taken = http1::take(framer, id.pack(), input, limits, &mut slots, &mut self.last_head, &mut self.dechunked);
        let (request, count) = match taken {
            http1::Taken::Whole(request, count) => (request, count),
            http1::Taken::More { expect_continue, in_body } => {
                self.await_rest(index, expect_continue, in_body);
                return Served::Kept;
            }
            http1::Taken::Reject(kind) => {
                self.reject(index, kind);
                return Served::Taken(input.len());
            }
        };
        let bytes = conn.bytes.get_or_insert_with(|| self.pool.get());
        if let Some(queue) = &mut self.queue {
            self.engine.set_late(queue.is_late());
        }
        let inbound = Inbound { conn: id, peer: conn.peer, role: conn.role, request: &request, memo: &mut conn.memo };
        let verdict = self.engine.on_request(self.now, inbound, &mut bytes.output, &mut self.out);
        conn.awaits = Awaits::Nothing;
        conn.read_due = NEVER;
        if !conn.dirty {
            conn.dirty = true;
            self.dirty.push(index);
        }
        match verdict {
            Verdict::Answered { close } => self.on_answered(index, close),
            Verdict::Later => self.on_later(index),
            Verdict::Park => {
                conn.phase = Phase::Parked;
                conn.end_told = false;
                return Served::Kept;
            }
            Verdict::Move(target) => {
                self.depart(index, target);
                return Served::Kept;
            }
        }
        self.enter(index);
        Served::Taken(count)
    }

    fn on_answered(&mut self, index: u32, close: bool) {
        let Some(conn) = self.conns.get(index) else { return };
        if close {
            self.begin_closing(index);
        } else if conn.unsent() > PIPELINE_PAUSE_BYTES {
            // Requests come faster than answers are read, or faster than is fair.
            conn.choked = true;
        }
    }

    fn on_later(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index) else { return };
        conn.phase = Phase::Busy;
        conn.end_told = false;
        if conn.ended {
            self.tell_end(index);
            self.watch(index);
        }
    }

    /// Answers with a fault of the framing and closes.
    pub(super) fn reject(&mut self, index: u32, kind: fault::Kind) {
        let Some(conn) = self.conns.get(index) else { return };
        let role = conn.role;
        let bytes = conn.bytes.get_or_insert_with(|| self.pool.get());
        self.engine.on_reject(self.now, role, kind, &mut bytes.output);
        self.begin_closing(index);
    }

    /// Looks again at the input of connections that could not be served before. Others may join while this runs: they wait a turn.
    pub(super) fn resume(&mut self) {
        if self.resumed.is_empty() {
            return;
        }
        let part = TurnPart::begin();
        for _ in 0..self.resumed.len() {
            let Some(index) = self.resumed.pop_front() else { return };
            self.pump_stored(index);
            self.apply();
            if part.is_over() {
                return;
            }
        }
    }

    /// Carries out what the engine wants done, in order.
    pub(super) fn apply(&mut self) {
        // Carrying out one effect can make the engine want more: a connection that is cut ends its calls.
        while !self.out.is_empty() {
            let mut doing = std::mem::take(&mut self.doing);
            std::mem::swap(&mut self.out, &mut doing);
            for effect in doing.effects.drain(..) {
                self.carry_out(effect, &doing.bytes);
            }
            doing.clear();
            doing.bytes.shrink_to(OUT_BYTES_KEPT);
            self.doing = doing;
        }
    }

    fn carry_out(&mut self, effect: Effect, bytes: &[u8]) {
        match effect {
            Effect::Write { conn, range } => self.write(conn, bytes.get(range).unwrap_or_default()),
            Effect::End { conn, close } => self.end(conn, close),
            Effect::Resume { conn } => {
                if let Some(parked) = self.conns.find(conn).filter(|found| found.phase == Phase::Parked) {
                    parked.phase = Phase::Open;
                    self.resumed.push_back(conn.index);
                }
            }
            Effect::Close { conn } => self.cut_short(conn),
            Effect::Send { to, lane, frame } => {
                if let Err(frame) = self.send_frame(to, lane, frame) {
                    self.metrics.count(Counter::LaneFull);
                    self.engine.on_unsent(to, lane, frame);
                }
            }
            Effect::Blocking(job) => self.jobs.push(job),
            Effect::Persist { ticket, record } => match &self.keeper {
                Some(keeper) => keeper.push(&self.inbox, ticket, record),
                None => self.inbox.persisted(ticket, Stored::NotWritten),
            },
            Effect::Link(link::Effect::Dial { link, dial, timeout }) => self.dial(link, dial, timeout),
            Effect::Link(link::Effect::Feed { link, range }) => self.feed(link, bytes.get(range).unwrap_or_default()),
            Effect::Link(link::Effect::Throttle { link, is_paused }) => self.throttle(link, is_paused),
            Effect::Link(link::Effect::Hang { link }) => self.hang(link),
        }
    }

    fn write(&mut self, id: ConnId, data: &[u8]) {
        let Some(conn) = self.conns.find(id) else { return };
        if !matches!(conn.phase, Phase::Open | Phase::Busy | Phase::Parked) {
            return;
        }
        let kept_up = conn.unsent() <= OUTBOUND_PAUSE_BYTES;
        conn.bytes.get_or_insert_with(|| self.pool.get()).output.extend_from_slice(data);
        if conn.unsent() > OUTBOUND_BYTES_MAX {
            if kept_up {
                // No reader could have taken so much at once.
                self.metrics.count(Counter::AnswersCut);
                conn.abort = true;
                return self.kill(id.index);
            }
            self.cut_slow_reader(id.index);
        } else {
            self.mark(id.index);
            self.tell_choked(id.index);
            self.enter(id.index);
        }
    }

    /// Tells the engine when the reader of a pending response falls behind, and when it has caught up.
    pub(super) fn tell_choked(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index).filter(|conn| conn.phase == Phase::Busy) else { return };
        let level = if conn.choke_told { OUTBOUND_RESUME_BYTES } else { OUTBOUND_PAUSE_BYTES };
        let is_choked = conn.unsent() > level;
        if is_choked != conn.choke_told {
            conn.choke_told = is_choked;
            let id = conn.id(index);
            self.engine.on_choked(self.now, id, is_choked, &mut self.out);
        }
    }

    /// The pending response is complete.
    fn end(&mut self, id: ConnId, close: bool) {
        let Some(conn) = self.conns.find(id).filter(|conn| conn.phase == Phase::Busy) else { return };
        if close {
            return self.begin_closing(id.index);
        }
        conn.phase = Phase::Open;
        conn.choke_told = false;
        conn.choked = conn.unsent() > OUTBOUND_PAUSE_BYTES;
        if !conn.choked {
            self.resumed.push_back(id.index);
        }
        self.mark(id.index);
    }

    /// A response cannot be completed: the peer must not take what it has for the whole.
    fn cut_short(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.find(id).filter(|conn| conn.phase != Phase::Dead) {
            self.metrics.count(Counter::AnswersCut);
            // The engine knows.
            conn.phase = Phase::Closing;
            conn.abort = true;
            self.kill(id.index);
        }
    }
}

const _: () = assert!(LINGER_BYTES_MAX <= u32::MAX as usize);
