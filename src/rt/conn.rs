//! One connection: what it holds while idle, what it borrows while bytes are under way, and the table of all connections of a core.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::ahead::Ahead;
use super::wheel::Timer;
use crate::base::ids::{ConnId, CoreId};
use crate::base::limits::{POOLED_BUFFER_BYTES_MAX, POOLED_BYTES_KEPT, POOLED_BYTES_MAX};
use crate::engine::{ConnMemo, Role};
use crate::wire::http1::{Framer, HttpLimits};

/// Where a connection stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// Reads requests and answers each at once.
    Open,
    /// A response is pending; it comes through the engine's effects.
    Busy,
    /// The first request in its input waits for the engine to take it.
    Parked,
    /// On its way to another core, with the first request in its input.
    Leaving,
    /// Sends what is queued and then shuts its sending side. Input is discarded.
    Closing,
    /// Its sending side is shut; input is discarded until the peer closes, the time is up or there was too much.
    Lingering,
    /// Waits for the kernel to let go of it.
    Dead,
}

/// Which deadline runs on what the peer should send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Awaits {
    /// The peer owes nothing.
    Nothing,
    /// The first byte of a request.
    Request,
    /// The rest of a head.
    Head,
    /// The rest of a body.
    Body,
    /// The end of its input.
    End,
}

/// No deadline.
pub(crate) const NEVER: u32 = u32::MAX;

/// What a connection keeps from request to request. Its bytes are in [`Bytes`], and only while there are any.
pub(crate) struct Conn {
    pub(crate) socket: OwnedFd,
    pub(crate) generation: u32,
    pub(crate) phase: Phase,
    pub(crate) awaits: Awaits,
    pub(crate) role: Role,
    /// A receive is in the ring.
    pub(crate) receiving: bool,
    /// A send is in the ring.
    pub(crate) sending: bool,
    /// A watch for the peer's end is in the ring.
    pub(crate) watching: bool,
    /// The peer has sent all it will.
    pub(crate) ended: bool,
    /// The engine knows that.
    pub(crate) end_told: bool,
    /// Too much is stored already: nothing is received.
    pub(crate) full: bool,
    /// Too much is unsent: no request is taken.
    pub(crate) choked: bool,
    /// The engine was told that too much is unsent.
    pub(crate) choke_told: bool,
    /// Is in the list of connections with something to send.
    pub(crate) dirty: bool,
    /// Holds a permit.
    pub(crate) permit: bool,
    /// Is one of the lingering ones that are counted.
    pub(crate) lingers: bool,
    /// Reset rather than close.
    pub(crate) abort: bool,
    /// Where a leaving connection goes.
    pub(crate) target: CoreId,
    /// When what the peer owes is due, in ticks.
    pub(crate) read_due: u32,
    /// When a send must have moved on, in ticks.
    pub(crate) write_due: u32,
    pub(crate) timer: Timer,
    /// How much more input may be discarded.
    pub(crate) discard_left: u32,
    pub(crate) bytes: Option<Box<Bytes>>,
    pub(crate) framer: Framer,
    pub(crate) peer: IpAddr,
    pub(crate) memo: ConnMemo,
}

const _: () = assert!(size_of::<Option<Conn>>() <= 280, "an idle connection is small");

impl Conn {
    pub(crate) fn new(socket: OwnedFd, peer: IpAddr, role: Role, permit: bool) -> Self {
        Self {
            socket,
            generation: 0,
            phase: Phase::Open,
            awaits: Awaits::Request,
            role,
            receiving: false,
            sending: false,
            watching: false,
            ended: false,
            end_told: false,
            full: false,
            choked: false,
            choke_told: false,
            dirty: false,
            permit,
            lingers: false,
            abort: false,
            target: CoreId(0),
            read_due: NEVER,
            write_due: NEVER,
            timer: Timer::default(),
            discard_left: 0,
            bytes: None,
            framer: Framer::default(),
            peer,
            memo: ConnMemo::default(),
        }
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Its name as the engine knows it; `index` is its place in the table.
    pub(crate) const fn id(&self, index: u32) -> ConnId {
        ConnId { index, generation: self.generation }
    }

    /// Whether an operation of it is in the ring.
    pub(crate) const fn is_held(&self) -> bool {
        self.receiving || self.sending || self.watching
    }

    /// Bytes that are not sent, or not known to be.
    pub(crate) fn unsent(&self) -> usize {
        self.bytes.as_ref().map_or(0, |bytes| bytes.output.len() + bytes.flight.len() - bytes.sent)
    }

    /// Bytes received and not consumed.
    pub(crate) fn stored(&self) -> usize {
        self.bytes.as_ref().map_or(0, |bytes| bytes.input.len())
    }

    /// Whether its next byte would begin a new request and nothing is left to send.
    pub(crate) fn is_idle(&self) -> bool {
        self.phase == Phase::Open && self.bytes.is_none() && self.framer.is_idle()
    }

    /// Whether a request is with the engine.
    pub(crate) const fn has_request(&self) -> bool {
        matches!(self.phase, Phase::Busy | Phase::Parked)
    }

    /// The sooner of its deadlines.
    pub(crate) const fn due(&self) -> u32 {
        if self.read_due < self.write_due { self.read_due } else { self.write_due }
    }
}

/// The buffers of a connection that has bytes under way.
#[derive(Default)]
pub(crate) struct Bytes {
    /// Received and not consumed.
    pub(crate) input: Vec<u8>,
    /// To be sent after what is in flight.
    pub(crate) output: Vec<u8>,
    /// With the kernel. Not touched while a send is in the ring.
    pub(crate) flight: Vec<u8>,
    /// How much of `flight` is sent.
    pub(crate) sent: usize,
    /// What the pool has entered for them.
    pub(crate) entered: usize,
    /// Requests in the input.
    pub(crate) ahead: Ahead,
}

impl Bytes {
    fn is_empty(&self) -> bool {
        self.input.is_empty() && self.output.is_empty() && self.flight.is_empty()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.input.capacity() + self.output.capacity() + self.flight.capacity()
    }
}

/// Buffers that no connection needs at the moment.
#[derive(Default)]
pub(crate) struct Pool {
    #[expect(clippy::vec_box, reason = "the boxes themselves go to connections and come back")]
    free: Vec<Box<Bytes>>,
    held: usize,
    /// Bytes entered for connections that have them.
    entered: usize,
    /// Requests that wait in the input of connections.
    waiting: usize,
    /// Fewest that were free since the last [`Pool::appraise`]: so many were never taken.
    free_min: usize,
}

impl Pool {
    pub(crate) fn get(&mut self) -> Box<Bytes> {
        let Some(bytes) = self.free.pop() else { return Box::default() };
        self.free_min = self.free_min.min(self.free.len());
        self.held -= bytes.capacity();
        bytes
    }

    /// Enters what the buffers of a connection take now; it is struck out when they come back.
    pub(crate) fn enter(&mut self, bytes: &mut Bytes) {
        let now = bytes.capacity();
        self.entered = self.entered + now - std::mem::replace(&mut bytes.entered, now);
    }

    /// What is entered.
    pub(crate) const fn entered(&self) -> usize {
        self.entered
    }

    /// Counts the requests that wait in a connection's input; gives how many there are.
    pub(crate) fn count_ahead(&mut self, bytes: &mut Bytes, limits: &HttpLimits) -> u32 {
        let before = bytes.ahead.count();
        bytes.ahead.look(&bytes.input, limits);
        self.waiting += (bytes.ahead.count() - before) as usize;
        bytes.ahead.count()
    }

    /// So many bytes, which were so many requests, are gone from the front of a connection's input.
    pub(crate) fn took_ahead(&mut self, bytes: &mut Bytes, count: usize, requests: u32) {
        let before = bytes.ahead.count();
        if bytes.input.is_empty() {
            bytes.ahead = Ahead::default()
        } else {
            bytes.ahead.advance(count, requests)
        }
        self.waiting -= (before - bytes.ahead.count()) as usize;
    }

    /// Requests that wait in the input of connections.
    pub(crate) const fn waiting(&self) -> usize {
        self.waiting
    }

    /// Takes the buffers of a connection that has no bytes under way.
    pub(crate) fn reclaim(&mut self, conn: &mut Conn) {
        if !conn.sending && conn.bytes.as_ref().is_some_and(|bytes| bytes.is_empty()) {
            self.put(conn.bytes.take());
        }
    }

    /// Takes buffers whatever is in them.
    pub(crate) fn put(&mut self, bytes: Option<Box<Bytes>>) {
        let Some(mut bytes) = bytes else { return };
        bytes.sent = 0;
        self.entered -= std::mem::take(&mut bytes.entered);
        self.waiting -= std::mem::take(&mut bytes.ahead).count() as usize;
        for buffer in [&mut bytes.input, &mut bytes.output, &mut bytes.flight] {
            buffer.clear();
            if buffer.capacity() > POOLED_BUFFER_BYTES_MAX {
                *buffer = Vec::new();
            }
        }
        if self.held + bytes.capacity() <= POOLED_BYTES_MAX {
            self.held += bytes.capacity();
            self.free.push(bytes);
        }
    }

    /// Frees what was never taken since the last time, down to a level.
    pub(crate) fn appraise(&mut self) {
        let mut unused = 0;
        while unused < self.free_min && self.held > POOLED_BYTES_KEPT {
            self.held -= self.free[unused].capacity();
            unused += 1;
        }
        // The last are taken first, so those never taken are the first.
        self.free.drain(..unused);
        self.free.shrink_to(2 * self.free.len());
        self.free_min = self.free.len();
    }
}

/// A connection between two cores.
pub(crate) struct Moved {
    pub(crate) socket: OwnedFd,
    pub(crate) peer: IpAddr,
    pub(crate) role: Role,
    pub(crate) permit: bool,
    pub(crate) ended: bool,
    pub(crate) memo: ConnMemo,
    pub(crate) input: Vec<u8>,
    pub(crate) output: Vec<u8>,
}

/// A connection that was accepted by another core.
pub(crate) struct Fresh {
    pub(crate) socket: OwnedFd,
    pub(crate) peer: IpAddr,
}

const CHUNK: usize = 128;

/// The connections of one core. Slots stand in chunks that never move.
#[derive(Default)]
pub(crate) struct Table {
    chunks: Vec<Box<[Option<Conn>]>>,
    /// The lowest is taken first, so that the chunks at the end become empty.
    free: BinaryHeap<Reverse<u32>>,
    count: usize,
    /// Generation of the last connection. One sequence for all slots: an id stays stale even when its slot was freed and made anew.
    generation: u32,
}

impl Table {
    /// Connections in the table.
    pub(crate) const fn len(&self) -> usize {
        self.count
    }

    /// Slots, used or not: indices are below this.
    pub(crate) fn slots(&self) -> u32 {
        (self.chunks.len() * CHUNK) as u32
    }

    pub(crate) fn insert(&mut self, mut conn: Conn) -> u32 {
        if self.free.is_empty() {
            let first = self.slots();
            self.chunks.push((0..CHUNK).map(|_| None).collect());
            self.free.extend((first..first + CHUNK as u32).map(Reverse));
        }
        let Reverse(index) = self.free.pop().expect("a free slot was just made");
        self.generation = self.generation.wrapping_add(1);
        conn.generation = self.generation;
        *self.slot(index).expect("the slot exists") = Some(conn);
        self.count += 1;
        index
    }

    pub(crate) fn remove(&mut self, index: u32) -> Option<Conn> {
        let conn = self.slot(index)?.take()?;
        self.free.push(Reverse(index));
        self.count -= 1;
        Some(conn)
    }

    /// Frees the empty chunks at the end; one stays.
    pub(crate) fn trim(&mut self) {
        let used = self.chunks.iter().rposition(|chunk| chunk.iter().any(Option::is_some)).map_or(1, |last| last + 1);
        if used >= self.chunks.len() {
            return;
        }
        self.chunks.truncate(used);
        let slots = self.slots();
        self.free.retain(|Reverse(index)| *index < slots);
        self.free.shrink_to(2 * self.free.len());
    }

    fn slot(&mut self, index: u32) -> Option<&mut Option<Conn>> {
        self.chunks.get_mut(index as usize / CHUNK)?.get_mut(index as usize % CHUNK)
    }

    pub(crate) fn get(&mut self, index: u32) -> Option<&mut Conn> {
        self.slot(index)?.as_mut()
    }

    /// The connection that an id names, if it still lives.
    pub(crate) fn find(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.get(id.index).filter(|conn| conn.generation == id.generation)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn conn() -> Conn {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket").into();
        Conn::new(socket, IpAddr::V4(Ipv4Addr::LOCALHOST), Role::Public, true)
    }

    #[test]
    fn a_stale_id_finds_nothing() {
        let mut table = Table::default();
        let first = table.insert(conn());
        let id = ConnId { index: first, generation: table.get(first).expect("a connection").generation };
        assert!(table.find(id).is_some());
        table.remove(first);
        assert!(table.find(id).is_none());
        assert_eq!(table.insert(conn()), first, "slots are used again");
        assert!(table.find(id).is_none());
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn the_table_grows_by_chunks() {
        let mut table = Table::default();
        let all: Vec<_> = (0..300).map(|_| table.insert(conn())).collect();
        assert_eq!(table.slots(), 384);
        for index in all {
            assert!(table.remove(index).is_some());
            assert!(table.remove(index).is_none());
        }
        assert_eq!((table.len(), table.slots()), (0, 384));
    }

    #[test]
    fn empty_chunks_at_the_end_are_freed_and_their_ids_stay_stale() {
        let mut table = Table::default();
        let ids: Vec<_> = (0..1000)
            .map(|_| {
                let index = table.insert(conn());
                ConnId { index, generation: table.get(index).expect("a connection").generation }
            })
            .collect();
        for id in &ids {
            if id.index != 200 {
                table.remove(id.index);
            }
        }
        table.trim();
        assert_eq!((table.len(), table.slots()), (1, 256), "a connection keeps its chunk and those before it");
        assert!(table.find(ids[200]).is_some());
        let mut used: Vec<_> = (0..255).map(|_| table.insert(conn())).collect();
        used.sort_unstable();
        assert!(used.iter().copied().eq((0..256).filter(|index| *index != 200)), "the lowest are taken first");
        for _ in 0..744 {
            table.insert(conn());
        }
        assert_eq!(table.slots(), 1024);
        for id in ids {
            assert_eq!(table.find(id).is_some(), id.index == 200, "{id:?}");
        }
        for index in 0..1000 {
            table.remove(index);
        }
        table.trim();
        table.trim();
        assert_eq!((table.len(), table.slots()), (0, 128));
        assert_eq!(table.insert(conn()), 0);
    }

    #[test]
    fn buffers_that_nobody_took_are_freed_down_to_a_level() {
        let mut pool = Pool::default();
        let full = || Some(Box::new(Bytes { input: Vec::with_capacity(16 * 1024), ..Bytes::default() }));
        (0..200).for_each(|_| pool.put(full()));
        pool.appraise();
        assert_eq!(pool.free.len(), 200, "they have just come");
        let taken: Vec<_> = (0..40).map(|_| pool.get()).collect();
        taken.into_iter().for_each(|bytes| pool.put(Some(bytes)));
        pool.appraise();
        assert_eq!(pool.free.len(), 40, "what was taken is kept");
        pool.appraise();
        assert_eq!((pool.free.len(), pool.held), (16, POOLED_BYTES_KEPT));
        pool.appraise();
        assert_eq!(pool.free.len(), 16);
    }

    #[test]
    fn idle_connections_hold_no_buffers_and_the_pool_is_bounded() {
        let mut pool = Pool::default();
        let mut conn = conn();
        conn.bytes = Some(pool.get());
        conn.bytes.as_mut().expect("buffers").output.extend_from_slice(b"x");
        pool.reclaim(&mut conn);
        assert!(conn.bytes.is_some(), "there is something to send");
        conn.bytes.as_mut().expect("buffers").output.clear();
        conn.sending = true;
        pool.reclaim(&mut conn);
        assert!(conn.bytes.is_some(), "the kernel has them");
        conn.sending = false;
        pool.reclaim(&mut conn);
        assert!(conn.is_idle());
        for _ in 0..4 * POOLED_BYTES_MAX / POOLED_BUFFER_BYTES_MAX {
            let bytes = Bytes { input: Vec::with_capacity(POOLED_BUFFER_BYTES_MAX), ..Bytes::default() };
            pool.put(Some(Box::new(bytes)));
        }
        assert!(pool.held <= POOLED_BYTES_MAX);
        pool.put(Some(Box::new(Bytes { input: Vec::with_capacity(1 << 20), ..Bytes::default() })));
        assert!(pool.held <= POOLED_BYTES_MAX);
        while !pool.free.is_empty() {
            pool.get();
        }
        assert_eq!(pool.held, 0);
    }
}
