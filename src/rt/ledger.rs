//! Bytes that the buffers of all cores hold, against one ceiling: those of connections and links, answers of upstreams that are not complete,
//! and what sessions keep to resume their streams by.
//!
//! A core counts its own and leases room from the node's account, a piece at a time. When none is left, the largest buffer of the node
//! gives way: a request that is not whole is refused, a reader that does not keep up is cut, an upstream's answer is given up. It may be on
//! another core, which is asked then; meanwhile a core has a small reserve of its own. What grows where nothing is large gives way itself.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use super::conn::{Phase, Pool};
use super::core::Core;
use super::permit::Quota;
use crate::base::fault;
use crate::base::limits::{MEMORY_PIECE_BYTES, MEMORY_RESERVE_BYTES, MEMORY_VICTIM_BYTES_MIN};
use crate::base::metrics::{Counter, Gauge};
use crate::engine::Role;

/// What the buffers of all cores may take together.
pub(crate) struct Memory {
    pieces: Quota,
    /// What each core may have beyond its pieces, bytes.
    reserve: usize,
    cores: Box<[Share]>,
}

/// What the other cores see of one.
#[derive(Default)]
struct Share {
    /// Bytes of its largest buffer, as it was when that was last looked for.
    largest: AtomicUsize,
    /// Its largest buffer is to give way.
    is_asked: AtomicBool,
}

impl Memory {
    pub(crate) fn new(max: Option<usize>, cores: usize) -> Self {
        let max = max.unwrap_or(usize::MAX);
        let reserve = MEMORY_RESERVE_BYTES.min(max / (4 * cores.max(1)));
        let pieces = Quota::new((max - reserve * cores) / MEMORY_PIECE_BYTES);
        Self { pieces, reserve, cores: (0..cores).map(|_| Share::default()).collect() }
    }

    fn publish(&self, core: usize, largest: usize) {
        self.cores[core].largest.store(largest, Relaxed);
    }

    /// The core, other than this one, with the largest buffer, and its size.
    fn largest_elsewhere(&self, core: usize) -> Option<(usize, usize)> {
        let others = self.cores.iter().enumerate().filter(|(other, _)| *other != core);
        others.map(|(other, share)| (other, share.largest.load(Relaxed))).max_by_key(|(_, largest)| *largest)
    }

    /// Whether hardly any is left.
    fn is_tight(&self) -> bool {
        self.pieces.taken() >= self.pieces.max() / 4 * 3
    }
}

/// Whose buffer is large.
#[derive(Clone, Copy, Debug)]
enum Victim {
    /// A connection; whether it is what it has sent.
    Conn(u32, bool),
    /// A link: what it is to be told.
    Link(u32),
    /// An answer of an upstream.
    Answer,
}

/// One core's account.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    is_on: bool,
    /// Pieces leased.
    pieces: usize,
    /// Bytes of links, of upstreams' answers and of sessions.
    elsewhere: usize,
    /// Of these, those of links; they have changed since they were summed up.
    links: usize,
    pub(super) links_due: bool,
    /// Bytes by which a buffer is about to grow.
    coming: usize,
    /// The largest buffer that the other cores know of.
    published: usize,
    /// Another core was asked, this turn.
    has_asked: bool,
    /// Nothing large was found at this tick.
    barren_at: Option<u32>,
}

impl Ledger {
    pub(super) fn new(is_on: bool) -> Self {
        Self { is_on, ..Self::default() }
    }

    pub(super) const fn is_on(&self) -> bool {
        self.is_on
    }

    const fn bytes(&self, pool: &Pool) -> usize {
        pool.entered() + self.elsewhere + self.coming
    }

    /// Leases what is held. False: there is no more to lease.
    fn cover(&mut self, pool: &Pool, node: &Memory) -> bool {
        let pieces = self.bytes(pool).div_ceil(MEMORY_PIECE_BYTES);
        if pieces <= self.pieces {
            return true;
        }
        let is_leased = node.pieces.take_many(pieces - self.pieces);
        if is_leased {
            self.pieces = pieces;
        }
        is_leased
    }

    /// Whether what no piece covers fits the core's reserve.
    const fn fits_reserve(&self, pool: &Pool, node: &Memory) -> bool {
        self.bytes(pool) <= self.pieces * MEMORY_PIECE_BYTES + node.reserve
    }

    /// Gives back what is not needed.
    fn settle(&mut self, pool: &Pool, node: &Memory) {
        let pieces = self.bytes(pool).div_ceil(MEMORY_PIECE_BYTES);
        if pieces < self.pieces {
            node.pieces.give_many(self.pieces - pieces);
            self.pieces = pieces;
        }
    }
}

impl Core {
    /// The connection's buffers may have grown.
    #[inline]
    pub(super) fn enter(&mut self, index: u32) {
        if self.ledger.is_on() {
            self.enter_grown(index);
        }
    }

    fn enter_grown(&mut self, index: u32) {
        let Some(bytes) = self.conns.get(index).and_then(|conn| conn.bytes.as_deref_mut()) else { return };
        self.pool.enter(bytes);
        if bytes.entered > self.ledger.published {
            self.ledger.published = bytes.entered;
            self.node.memory.publish(self.id.index(), bytes.entered);
        }
        self.hold(Some(index));
    }

    /// The connection's input is about to grow by so many bytes. False: it must not, and is being refused.
    pub(super) fn has_memory(&mut self, index: u32, more: usize) -> bool {
        let Some(conn) = self.conns.get(index) else { return false };
        let (len, capacity) = conn.bytes.as_ref().map_or((0, 0), |bytes| (bytes.input.len(), bytes.input.capacity()));
        if !self.ledger.is_on() || len + more <= capacity {
            return true;
        }
        // As a vector grows.
        self.ledger.coming = (len + more).max(2 * capacity) - capacity;
        self.hold(Some(index));
        self.ledger.coming = 0;
        self.conns.get(index).is_some_and(|conn| !matches!(conn.phase, Phase::Closing | Phase::Lingering | Phase::Dead))
    }

    /// Leases what is held, and has others give way until that is possible.
    fn hold(&mut self, grown: Option<u32>) {
        while !self.ledger.cover(&self.pool, &self.node.memory) {
            if !self.relieve(grown) {
                return;
            }
        }
    }

    /// Has the largest buffer give way. False: it is no use to try again at once.
    fn relieve(&mut self, grown: Option<u32>) -> bool {
        let fits = self.ledger.fits_reserve(&self.pool, &self.node.memory);
        if fits && self.ledger.has_asked {
            return false;
        }
        let largest = self.largest();
        let bytes = largest.map_or(0, |(bytes, _)| bytes);
        let elsewhere = self.node.memory.largest_elsewhere(self.id.index());
        if let Some((core, other)) = elsewhere.filter(|(_, other)| *other > bytes.max(MEMORY_VICTIM_BYTES_MIN))
            && fits
        {
            tracing::trace!(core, other, bytes, "another core's largest buffer is to give way");
            self.ledger.has_asked = true;
            self.node.memory.cores[core].is_asked.store(true, Relaxed);
            self.node.wakes()[core].poke();
            return false;
        }
        let before = self.ledger.bytes(&self.pool);
        match largest {
            Some((_, victim)) => self.give_way(victim),
            None => {
                // Nothing is large: who asks for more gets none.
                if let Some(index) = grown
                    && self.conns.get(index).is_some_and(|conn| conn.role == Role::Public)
                {
                    self.give_way(Victim::Conn(index, true));
                }
                return false;
            }
        }
        self.ledger.bytes(&self.pool) < before
    }

    /// The largest buffer of this core that may give way, if any is large.
    fn largest(&mut self) -> Option<(usize, Victim)> {
        if self.ledger.barren_at == Some(self.tick) {
            return None;
        }
        let mut largest = None;
        let mut most = MEMORY_VICTIM_BYTES_MIN;
        for index in 0..self.conns.slots() {
            // Whoever watches the node sees it at its worst, too: there are few of them.
            let public = self.conns.get(index).filter(|conn| conn.role == Role::Public);
            if let Some(bytes) = public.and_then(|conn| conn.bytes.as_deref())
                && bytes.entered > most
            {
                most = bytes.entered;
                largest = Some(Victim::Conn(index, bytes.input.capacity() > bytes.entered / 2));
            }
        }
        if let Some((bytes, index)) = self.links.fullest().filter(|(bytes, _)| *bytes > most) {
            (most, largest) = (bytes, Some(Victim::Link(index)));
        }
        let answer = self.engine.largest_held();
        if answer > most {
            (most, largest) = (answer, Some(Victim::Answer));
        }
        self.ledger.barren_at = largest.is_none().then_some(self.tick);
        self.ledger.published = if largest.is_some() { most } else { 0 };
        self.node.memory.publish(self.id.index(), self.ledger.published);
        largest.map(|victim| (most, victim))
    }

    /// Ends what the buffer holds.
    fn give_way(&mut self, victim: Victim) {
        self.metrics.count(Counter::MemoryRelieved);
        match victim {
            Victim::Conn(index, is_input) => self.shrink(index, is_input),
            Victim::Link(index) => self.cut_link(index),
            Victim::Answer => self.engine.relieve(self.now, &mut self.out),
        }
        self.sum_up(true);
    }

    fn shrink(&mut self, index: u32, is_input: bool) {
        let Some(conn) = self.conns.get(index) else { return };
        let is_kept = is_input && conn.phase == Phase::Open && !conn.sending;
        if is_kept {
            self.reject(index, fault::Kind::MemoryLimit);
        } else {
            conn.abort = true;
            self.kill(index);
        }
        // Whatever becomes of it, it holds nothing large from now on. What is in flight is the kernel's.
        if let Some(bytes) = self.conns.get(index).and_then(|conn| conn.bytes.as_deref_mut()) {
            bytes.input = Vec::new();
            if is_kept {
                bytes.output.shrink_to_fit()
            } else {
                bytes.output = Vec::new()
            }
            self.pool.enter(bytes);
        }
    }

    /// What is held outside connections, of which links are summed up when they have changed.
    fn sum_up(&mut self, links: bool) {
        if links || std::mem::take(&mut self.ledger.links_due) {
            self.ledger.links = self.links.buffered();
        }
        self.ledger.elsewhere = self.ledger.links + self.engine.held_bytes();
    }

    /// What a turn does for the account, before anything is sent.
    pub(super) fn tend_ledger(&mut self) {
        if !self.ledger.is_on() {
            return;
        }
        self.ledger.has_asked = false;
        self.sum_up(false);
        if self.node.memory.cores[self.id.index()].is_asked.swap(false, Relaxed) {
            if let Some((_, victim)) = self.largest() {
                self.give_way(victim);
            }
            self.ledger.settle(&self.pool, &self.node.memory);
        }
        self.hold(None);
        self.apply();
    }

    /// What a tick does for the account.
    pub(super) fn settle_ledger(&mut self) {
        if !self.ledger.is_on() {
            return;
        }
        self.sum_up(true);
        self.ledger.settle(&self.pool, &self.node.memory);
        if self.node.memory.is_tight() {
            self.largest();
        }
        self.metrics.set(Gauge::BufferedBytes, self.ledger.bytes(&self.pool) as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::conn::Bytes;

    /// So many pieces besides the reserves of two cores.
    fn memory(pieces: usize) -> Memory {
        let memory = Memory { reserve: MEMORY_PIECE_BYTES, ..Memory::new(None, 2) };
        Memory { pieces: Quota::new(pieces), ..memory }
    }

    #[test]
    fn what_is_entered_is_covered_up_to_the_ceiling_and_given_back() {
        let node = memory(4);
        let (mut ledger, mut pool) = (Ledger::new(true), Pool::default());
        let mut bytes = Box::new(Bytes { input: Vec::with_capacity(3 * MEMORY_PIECE_BYTES), ..Bytes::default() });
        pool.enter(&mut bytes);
        assert!(ledger.cover(&pool, &node) && node.pieces.taken() == 3);
        let mut other = Box::new(Bytes { output: Vec::with_capacity(2 * MEMORY_PIECE_BYTES), ..Bytes::default() });
        pool.enter(&mut other);
        assert!(!ledger.cover(&pool, &node), "five pieces are more than four");
        assert!(!ledger.fits_reserve(&pool, &node), "and two more than the reserve");
        pool.put(Some(bytes));
        assert!(ledger.cover(&pool, &node));
        ledger.elsewhere = 2 * MEMORY_PIECE_BYTES + 1;
        assert!(!ledger.cover(&pool, &node), "what is held elsewhere counts");
        ledger.elsewhere = 0;
        ledger.coming = 4 * MEMORY_PIECE_BYTES;
        assert!(!ledger.cover(&pool, &node), "what is to come counts");
        ledger.coming = 0;
        ledger.settle(&pool, &node);
        assert_eq!(node.pieces.taken(), 2);
        pool.put(Some(other));
        ledger.settle(&pool, &node);
        assert_eq!((node.pieces.taken(), pool.entered()), (0, 0));
    }

    #[test]
    fn pieces_and_reserves_are_the_ceiling_together() {
        for (max, cores) in [(4 << 20, 1), (4 << 20, 64), (64 << 20, 2), (1 << 30, 256)] {
            let memory = Memory::new(Some(max), cores);
            let all = memory.pieces.max() * MEMORY_PIECE_BYTES + memory.reserve * cores;
            assert!(all <= max && all + MEMORY_PIECE_BYTES > max, "{all} of {max}");
            assert!(memory.reserve > 0);
        }
    }

    #[test]
    fn the_core_with_the_largest_buffer_is_found() {
        let memory = Memory::new(Some(4 << 20), 3);
        [5, 9, 7].into_iter().enumerate().for_each(|(core, largest)| memory.publish(core, largest));
        assert_eq!((memory.largest_elsewhere(0), memory.largest_elsewhere(1)), (Some((1, 9)), Some((2, 7))));
        assert_eq!(Memory::new(Some(4 << 20), 1).largest_elsewhere(0), None);
    }
}
