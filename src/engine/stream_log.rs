//! Resumption of legacy streams (2025-03-26, 2025-06-18, 2025-11-25, transports, "Resumability and Redelivery"): event ids,
//! the core's bounded log of sent events, and each session's streams.
//!
//! An event id names its stream and its place in it, so that a `Last-Event-ID` replays the later events of that stream and of
//! no other. The log is one per core with two bounds, its own and each session's; the oldest event goes first.

use std::time::Duration;

use crate::base::{
    ids::{ConnId, SessionKey},
    limits::{LOG_BYTES_MAX, LOG_BYTES_PER_CORE_MAX, LOG_EVENTS_MAX, LOG_SECONDS_MAX},
    time::Nanos,
};

/// A stream of one session. 0 is the standalone stream (GET); the others belong to one POST each.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub struct StreamNo(pub u32);

impl StreamNo {
    /// The stream that a GET opens.
    pub const STANDALONE: Self = Self(0);
}

/// Names one event of one session: which stream, and the how manieth event of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EventId {
    /// The stream.
    pub stream: StreamNo,
    /// Counts the stream's events from 1.
    pub seq: u64,
}

/// Longest text of an [`EventId`], bytes.
pub const EVENT_ID_BYTES_MAX: usize = 10 + 1 + 20;

impl EventId {
    /// Appends the id's text.
    pub fn write(self, out: &mut Vec<u8>) {
        let mut digits = itoa::Buffer::new();
        out.extend_from_slice(digits.format(self.stream.0).as_bytes());
        out.push(b'-');
        out.extend_from_slice(digits.format(self.seq).as_bytes());
    }

    /// Reads a `Last-Event-ID`; none unless it is exactly what [`Self::write`] writes.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() > EVENT_ID_BYTES_MAX {
            return None;
        }
        let (stream, seq) = std::str::from_utf8(text).ok()?.split_once('-')?;
        Some(Self { stream: StreamNo(decimal(stream)?.try_into().ok()?), seq: decimal(seq)? })
    }
}

/// A number without sign or leading zeros.
fn decimal(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten()
}

const NONE: u32 = u32::MAX;

/// One event as it was sent.
struct Event {
    session: SessionKey,
    id: EventId,
    at: Nanos,
    data: Box<[u8]>,
    /// The same session's next event.
    session_next: u32,
    /// The core's neighbours in the order of sending.
    core_prev: u32,
    core_next: u32,
}

/// What an event weighs against the core's bound: many small ones must not pass for little.
const fn cost(data: &[u8]) -> usize {
    data.len() + size_of::<Option<Event>>()
}

/// One session's part of the log: the ends of its chain and what it holds.
#[derive(Clone, Copy, Debug)]
pub struct Trail {
    first: u32,
    last: u32,
    events: u32,
    bytes: u32,
}

impl Default for Trail {
    fn default() -> Self {
        Self { first: NONE, last: NONE, events: 0, bytes: 0 }
    }
}

/// The events that one core keeps for resumption.
pub struct EventLog {
    /// Most bytes that it holds.
    bytes_max: usize,
    slots: Vec<Option<Event>>,
    free: Vec<u32>,
    ends: Option<(u32, u32)>,
    bytes: usize,
}

impl Default for EventLog {
    fn default() -> Self {
        Self { bytes_max: LOG_BYTES_PER_CORE_MAX, slots: Vec::new(), free: Vec::new(), ends: None, bytes: 0 }
    }
}

impl std::fmt::Debug for EventLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventLog").field("events", &self.len()).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl EventLog {
    /// Holds no more than so many bytes from now on.
    pub const fn set_bytes_max(&mut self, bytes: usize) {
        self.bytes_max = bytes;
    }

    /// Bytes held.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Events held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The session that must give up its oldest event now: the core holds too much, or the event is too old.
    #[must_use]
    pub fn overdue(&self, now: Nanos) -> Option<SessionKey> {
        let event = self.slots[self.ends?.0 as usize].as_ref()?;
        let old = now.since(event.at) >= Duration::from_secs(LOG_SECONDS_MAX);
        (old || self.bytes > self.bytes_max).then_some(event.session)
    }

    fn append(&mut self, trail: &mut Trail, session: SessionKey, id: EventId, data: &[u8], now: Nanos) {
        let core_prev = self.ends.map_or(NONE, |(_, newest)| newest);
        let event = Event { session, id, at: now, data: data.into(), session_next: NONE, core_prev, core_next: NONE };
        self.bytes += cost(data);
        let slot = self.place(event);
        self.with(core_prev, |newest| newest.core_next = slot);
        self.ends = Some((self.ends.map_or(slot, |(oldest, _)| oldest), slot));
        self.with(trail.last, |last| last.session_next = slot);
        if trail.first == NONE {
            trail.first = slot;
        }
        trail.last = slot;
        trail.events += 1;
        trail.bytes += data.len() as u32;
    }

    /// Takes the session's oldest event out.
    fn pop(&mut self, trail: &mut Trail) -> Option<EventId> {
        let slot = trail.first;
        let event = self.slots.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        self.bytes -= cost(&event.data);
        self.with(event.core_prev, |prev| prev.core_next = event.core_next);
        self.with(event.core_next, |next| next.core_prev = event.core_prev);
        self.ends = match self.ends {
            Some((oldest, newest)) if oldest == slot && newest == slot => None,
            Some((oldest, newest)) if oldest == slot => Some((event.core_next, newest)),
            Some((oldest, newest)) if newest == slot => Some((oldest, event.core_prev)),
            ends => ends,
        };
        trail.first = event.session_next;
        if trail.first == NONE {
            trail.last = NONE;
        }
        trail.events -= 1;
        trail.bytes -= event.data.len() as u32;
        Some(event.id)
    }

    fn walk<'a>(&'a self, trail: &Trail) -> impl Iterator<Item = (EventId, &'a [u8])> {
        let mut at = trail.first;
        std::iter::from_fn(move || {
            let event = self.slots.get(at as usize)?.as_ref()?;
            at = event.session_next;
            Some((event.id, &*event.data))
        })
    }

    fn place(&mut self, event: Event) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = Some(event);
            return slot;
        }
        self.slots.push(Some(event));
        (self.slots.len() - 1) as u32
    }

    fn with(&mut self, slot: u32, change: impl FnOnce(&mut Event)) {
        if let Some(event) = self.slots.get_mut(slot as usize).and_then(Option::as_mut) {
            change(event);
        }
    }
}

/// One stream of a session.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    /// Its number.
    pub number: StreamNo,
    /// The connection that carries it now.
    pub conn: Option<ConnId>,
    /// Whether its last event has been sent.
    pub done: bool,
    /// Events it has had.
    last: u64,
    /// Events up to this one can no longer be replayed.
    floor: u64,
    /// Events of it in the log.
    held: u32,
}

/// What became of an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent {
    /// The event's id.
    pub id: EventId,
    /// Where it must be written now; none when the stream has no connection and the event waits in the log.
    pub conn: Option<ConnId>,
}

/// A stream that goes on over another connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resumed {
    /// The connection that carried it until now and is to be ended.
    pub replaced: Option<ConnId>,
    /// The stream has had its last event: it ends after the replay.
    pub done: bool,
}

/// The streams of one session.
#[derive(Debug, Default)]
pub struct Streams {
    list: Vec<Stream>,
    trail: Trail,
}

impl Streams {
    /// Whether nothing is open and nothing can be resumed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether a stream has not ended.
    #[must_use]
    pub fn any_open(&self) -> bool {
        self.list.iter().any(|stream| !stream.done && (stream.conn.is_some() || stream.number != StreamNo::STANDALONE))
    }

    /// The connections in use by streams.
    pub fn conns(&self) -> impl Iterator<Item = ConnId> {
        self.list.iter().filter_map(|stream| stream.conn)
    }

    /// The stream of that number.
    #[must_use]
    pub fn get(&self, number: StreamNo) -> Option<&Stream> {
        self.list.iter().find(|stream| stream.number == number)
    }

    /// Opens the stream of a POST under a number that this session has not used before.
    pub fn open(&mut self, number: StreamNo, conn: Option<ConnId>) {
        self.list.push(Stream { number, conn, done: false, last: 0, floor: 0, held: 0 });
    }

    /// Opens the standalone stream.
    ///
    /// # Errors
    /// When a connection carries it already.
    pub fn open_standalone(&mut self, conn: ConnId) -> Result<(), AlreadyOpen> {
        let number = StreamNo::STANDALONE;
        match self.list.iter_mut().find(|stream| stream.number == number) {
            Some(stream) if stream.conn.is_some() => return Err(AlreadyOpen),
            Some(stream) => stream.conn = Some(conn),
            None => self.list.push(Stream { number, conn: Some(conn), done: false, last: 0, floor: 0, held: 0 }),
        }
        Ok(())
    }

    /// The id of a prime event: an event without data, which a client may name to get all that follows. Nothing is kept of it.
    pub fn prime(&mut self, number: StreamNo) -> Option<EventId> {
        let stream = self.stream(number)?;
        stream.last += 1;
        Some(EventId { stream: number, seq: stream.last })
    }

    /// Numbers and logs an event that is being sent; none when the stream is not open.
    pub fn event(&mut self, log: &mut EventLog, session: SessionKey, number: StreamNo, data: &[u8], now: Nanos) -> Option<Sent> {
        let stream = self.stream(number)?;
        stream.last += 1;
        let sent = Sent { id: EventId { stream: number, seq: stream.last }, conn: stream.conn };
        if data.len() > LOG_BYTES_MAX {
            stream.floor = stream.last;
            return Some(sent);
        }
        stream.held += 1;
        while self.trail.events as usize >= LOG_EVENTS_MAX || self.trail.bytes as usize + data.len() > LOG_BYTES_MAX {
            if !self.forget_oldest(log) {
                break;
            }
        }
        log.append(&mut self.trail, session, sent.id, data, now);
        Some(sent)
    }

    /// Ends a stream after its last event. Its events stay for a client that lost them. Gives the connection that carried it.
    pub fn finish(&mut self, number: StreamNo) -> Option<ConnId> {
        let stream = self.stream(number)?;
        stream.done = true;
        let conn = stream.conn.take();
        self.sweep();
        conn
    }

    /// The stream goes on without a connection, until a client resumes it.
    pub fn detach(&mut self, number: StreamNo) -> Option<ConnId> {
        let conn = self.stream(number)?.conn.take();
        self.sweep();
        conn
    }

    /// The stream that the connection carries.
    #[must_use]
    pub fn carried_by(&self, conn: ConnId) -> Option<StreamNo> {
        self.list.iter().find(|stream| stream.conn == Some(conn)).map(|stream| stream.number)
    }

    /// Lets `conn` carry on the stream of which the client saw `after` last. [`Self::replay`] then gives what it missed.
    ///
    /// # Errors
    /// When the id was never given, or events after it are no longer kept: what would be replayed would have a gap.
    pub fn resume(&mut self, after: EventId, conn: ConnId) -> Result<Resumed, UnknownEvent> {
        let stream = self.list.iter_mut().find(|stream| stream.number == after.stream).ok_or(UnknownEvent)?;
        if after.seq == 0 || after.seq > stream.last || after.seq < stream.floor {
            return Err(UnknownEvent);
        }
        let replaced = stream.conn.take();
        if !stream.done {
            stream.conn = Some(conn);
        }
        Ok(Resumed { replaced, done: stream.done })
    }

    /// The events of one stream after the one named.
    pub fn replay<'a>(&self, log: &'a EventLog, after: EventId) -> impl Iterator<Item = (EventId, &'a [u8])> {
        log.walk(&self.trail).filter(move |(id, _)| id.stream == after.stream && id.seq > after.seq)
    }

    /// Takes the session's oldest event out of the log; false when there is none.
    pub fn forget_oldest(&mut self, log: &mut EventLog) -> bool {
        let Some(id) = log.pop(&mut self.trail) else { return false };
        if let Some(stream) = self.list.iter_mut().find(|stream| stream.number == id.stream) {
            stream.floor = stream.floor.max(id.seq);
            stream.held -= 1;
        }
        self.sweep();
        true
    }

    /// Takes all of the session's events out of the log, when the session ends.
    pub fn forget_all(&mut self, log: &mut EventLog) {
        while self.forget_oldest(log) {}
    }

    fn stream(&mut self, number: StreamNo) -> Option<&mut Stream> {
        self.list.iter_mut().find(|stream| stream.number == number && !stream.done)
    }

    /// Lets go of streams of which nothing can be resumed.
    fn sweep(&mut self) {
        self.list.retain(|stream| stream.held > 0 || !stream.done);
    }
}

/// The session's standalone stream has its connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AlreadyOpen;

/// No such event was sent in this session, or it is too long ago.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownEvent;

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: SessionKey = SessionKey { index: 1, generation: 1 };
    const OTHER: SessionKey = SessionKey { index: 2, generation: 1 };
    const NOW: Nanos = Nanos(1);

    fn conn(index: u32) -> ConnId {
        ConnId { index, generation: 0 }
    }

    fn opened(streams: &mut Streams, number: u32) -> StreamNo {
        streams.open(StreamNo(number), Some(conn(number)));
        StreamNo(number)
    }

    fn send(streams: &mut Streams, log: &mut EventLog, number: StreamNo, data: &str) -> EventId {
        streams.event(log, SESSION, number, data.as_bytes(), NOW).unwrap().id
    }

    fn replayed(streams: &Streams, log: &EventLog, after: EventId) -> Vec<String> {
        streams.replay(log, after).map(|(_, data)| String::from_utf8(data.to_vec()).unwrap()).collect()
    }

    #[test]
    fn an_event_id_reads_back_and_nothing_else_does() {
        for id in [EventId { stream: StreamNo(0), seq: 1 }, EventId { stream: StreamNo(u32::MAX), seq: u64::MAX }] {
            let mut text = Vec::new();
            id.write(&mut text);
            assert!(text.len() <= EVENT_ID_BYTES_MAX);
            assert_eq!(EventId::parse(&text), Some(id));
        }
        for bad in
            ["", "-", "1", "1-", "-1", "01-1", "1-+1", "1-01", " 1-1", "1-1 ", "4294967296-1", "1-18446744073709551616", "a-b", "1-1-1"]
        {
            assert_eq!(EventId::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_replay_is_of_one_stream_and_of_what_came_later() {
        let (mut log, mut streams) = (EventLog::default(), Streams::default());
        let (one, two) = (opened(&mut streams, 1), opened(&mut streams, 2));
        let prime = streams.prime(one).unwrap();
        let first = send(&mut streams, &mut log, one, "a");
        send(&mut streams, &mut log, two, "x");
        send(&mut streams, &mut log, one, "b");
        assert_eq!(replayed(&streams, &log, prime), ["a", "b"]);
        assert_eq!(replayed(&streams, &log, first), ["b"]);
        streams.detach(one);
        assert_eq!(streams.resume(first, conn(3)), Ok(Resumed { replaced: None, done: false }));
        let sent = streams.event(&mut log, SESSION, one, b"c", NOW).unwrap();
        assert_eq!(sent.conn, Some(conn(3)), "the stream goes on over the connection that resumed it");
    }

    #[test]
    fn a_finished_stream_can_be_replayed_and_then_ends() {
        let (mut log, mut streams) = (EventLog::default(), Streams::default());
        let stream = opened(&mut streams, 1);
        let prime = streams.prime(stream).unwrap();
        assert_eq!(streams.detach(stream), Some(conn(1)));
        let sent = streams.event(&mut log, SESSION, stream, b"result", NOW).unwrap();
        assert_eq!(sent.conn, None);
        assert_eq!(streams.finish(stream), None);
        assert!(!streams.any_open());
        assert_eq!(streams.resume(prime, conn(2)), Ok(Resumed { replaced: None, done: true }));
        assert_eq!(replayed(&streams, &log, prime), ["result"]);
        assert_eq!(streams.event(&mut log, SESSION, stream, b"late", NOW), None);
        streams.forget_all(&mut log);
        assert!(streams.is_empty() && log.is_empty());
        assert_eq!(streams.resume(prime, conn(2)), Err(UnknownEvent));
    }

    #[test]
    fn ids_that_were_never_given_are_refused() {
        let (mut log, mut streams) = (EventLog::default(), Streams::default());
        let stream = opened(&mut streams, 1);
        send(&mut streams, &mut log, stream, "a");
        for (number, seq) in [(1, 0), (1, 2), (2, 1), (0, 1)] {
            assert_eq!(streams.resume(EventId { stream: StreamNo(number), seq }, conn(2)), Err(UnknownEvent), "{number}-{seq}");
        }
    }

    #[test]
    fn a_second_standalone_stream_is_refused_and_a_resumed_one_replaces_the_first() {
        let (mut log, mut streams) = (EventLog::default(), Streams::default());
        streams.open_standalone(conn(1)).unwrap();
        assert_eq!(streams.open_standalone(conn(2)), Err(AlreadyOpen));
        let id = send(&mut streams, &mut log, StreamNo::STANDALONE, "a");
        assert_eq!(streams.resume(id, conn(3)), Ok(Resumed { replaced: Some(conn(1)), done: false }));
        assert_eq!(streams.carried_by(conn(3)), Some(StreamNo::STANDALONE));
        streams.detach(StreamNo::STANDALONE);
        assert!(!streams.any_open());
        assert_eq!(streams.open_standalone(conn(4)), Ok(()));
    }

    #[test]
    fn the_oldest_events_go_first_and_a_gap_is_never_replayed() {
        let (mut log, mut streams) = (EventLog::default(), Streams::default());
        let stream = opened(&mut streams, 1);
        let first = send(&mut streams, &mut log, stream, "first");
        for _ in 0..LOG_EVENTS_MAX {
            send(&mut streams, &mut log, stream, "more");
        }
        assert_eq!(log.len(), LOG_EVENTS_MAX);
        assert!(streams.resume(first, conn(2)).is_ok(), "all that came after the first is kept");
        let last = send(&mut streams, &mut log, stream, "again");
        assert_eq!(streams.resume(first, conn(2)), Err(UnknownEvent));
        assert!(streams.resume(last, conn(2)).is_ok());
        let big = "x".repeat(LOG_BYTES_MAX);
        let big = send(&mut streams, &mut log, stream, &big);
        assert_eq!(log.len(), 1, "a large event takes the place of the others");
        send(&mut streams, &mut log, stream, &"x".repeat(LOG_BYTES_MAX + 1));
        assert_eq!(streams.resume(big, conn(2)), Err(UnknownEvent), "an event too large to keep is a gap");
    }

    #[test]
    fn sessions_share_the_core_s_log_and_leave_it_clean() {
        let mut log = EventLog::default();
        let (mut one, mut two) = (Streams::default(), Streams::default());
        let (a, b) = (opened(&mut one, 1), opened(&mut two, 1));
        for round in 0..10 {
            one.event(&mut log, SESSION, a, b"one", Nanos(round)).unwrap();
            two.event(&mut log, OTHER, b, b"two", Nanos(round)).unwrap();
        }
        let late = Nanos(0).after(Duration::from_secs(LOG_SECONDS_MAX));
        assert_eq!(log.overdue(Nanos(20)), None);
        assert_eq!(log.overdue(late), Some(SESSION));
        assert!(one.forget_oldest(&mut log));
        assert_eq!(log.overdue(late), Some(OTHER));
        one.forget_all(&mut log);
        assert_eq!(log.len(), 10);
        two.event(&mut log, OTHER, b, b"more", Nanos(30)).unwrap();
        two.forget_all(&mut log);
        assert!(log.is_empty() && log.bytes == 0 && log.ends.is_none());
    }

    #[test]
    fn the_core_s_log_is_bounded() {
        let mut log = EventLog::default();
        let chunk = vec![b'x'; LOG_BYTES_MAX];
        let mut sessions: Vec<_> = (0..LOG_BYTES_PER_CORE_MAX / LOG_BYTES_MAX).map(|_| Streams::default()).collect();
        for (index, streams) in sessions.iter_mut().enumerate() {
            let key = SessionKey { index: index as u32, generation: 0 };
            let stream = opened(streams, 1);
            streams.event(&mut log, key, stream, &chunk, NOW).unwrap();
        }
        assert_eq!(log.overdue(NOW), Some(SessionKey { index: 0, generation: 0 }), "an event weighs more than its data");
        sessions[0].forget_oldest(&mut log);
        assert_eq!(log.overdue(NOW), None);
    }
}
