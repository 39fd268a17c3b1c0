//! Bytes that the connections of all cores hold in buffers, against one ceiling.
//!
//! A core counts its own and leases room from the node's account, a piece at a time. When none is left, the connection with the largest
//! buffers on the core gives way: a request that is not whole is refused, a reader that does not keep up is cut.

use super::conn::{Phase, Pool};
use super::core::Core;
use super::permit::Quota;
use crate::base::fault;
use crate::base::limits::{MEMORY_PIECE_BYTES, MEMORY_VICTIM_BYTES_MIN};
use crate::base::metrics::{Counter, Gauge};
use crate::engine::Role;

/// One core's account.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    is_on: bool,
    /// Pieces leased for what the buffers of connections hold.
    pieces: usize,
}

impl Ledger {
    pub(super) fn new(is_on: bool) -> Self {
        Self { is_on, ..Self::default() }
    }

    pub(super) const fn is_on(&self) -> bool {
        self.is_on
    }

    /// Leases what is held. False: there is no more to lease.
    fn cover(&mut self, pool: &Pool, node: &Quota) -> bool {
        let pieces = pool.entered().div_ceil(MEMORY_PIECE_BYTES);
        if pieces <= self.pieces {
            return true;
        }
        let is_leased = node.take_many(pieces - self.pieces);
        if is_leased {
            self.pieces = pieces;
        }
        is_leased
    }

    /// Gives back what is not needed.
    fn settle(&mut self, pool: &Pool, node: &Quota) {
        let pieces = pool.entered().div_ceil(MEMORY_PIECE_BYTES);
        if pieces < self.pieces {
            node.give_many(self.pieces - pieces);
            self.pieces = pieces;
        }
    }
}

impl Core {
    /// The connection's buffers may have grown.
    pub(super) fn enter(&mut self, index: u32) {
        if !self.ledger.is_on() {
            return;
        }
        let Some(bytes) = self.conns.get(index).and_then(|conn| conn.bytes.as_deref_mut()) else { return };
        self.pool.enter(bytes);
        while !self.ledger.cover(&self.pool, &self.node.memory) {
            if !self.relieve() {
                return;
            }
        }
    }

    /// Ends what the connection with the largest buffers holds. False: none holds much.
    fn relieve(&mut self) -> bool {
        let mut largest = (MEMORY_VICTIM_BYTES_MIN, None);
        for index in 0..self.conns.slots() {
            // Whoever watches the node sees it at its worst, too: there are few of them.
            let public = self.conns.get(index).filter(|conn| conn.role == Role::Public);
            if let Some(bytes) = public.and_then(|conn| conn.bytes.as_deref())
                && bytes.entered > largest.0
            {
                largest = (bytes.entered, Some((index, bytes.input.capacity() > bytes.entered / 2)));
            }
        }
        let (_, Some((index, is_input))) = largest else { return false };
        self.metrics.count(Counter::MemoryRelieved);
        let Some(conn) = self.conns.get(index) else { return false };
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
        self.conns.get(index).and_then(|conn| conn.bytes.as_deref()).is_none_or(|bytes| bytes.entered < largest.0)
    }

    /// What a tick does for the account.
    pub(super) fn settle_ledger(&mut self) {
        if self.ledger.is_on() {
            self.ledger.settle(&self.pool, &self.node.memory);
            self.metrics.set(Gauge::BufferedBytes, self.pool.entered() as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::conn::Bytes;

    #[test]
    fn what_is_entered_is_covered_up_to_the_ceiling_and_given_back() {
        let node = Quota::new(4);
        let (mut ledger, mut pool) = (Ledger::new(true), Pool::default());
        let mut bytes = Box::new(Bytes { input: Vec::with_capacity(3 * MEMORY_PIECE_BYTES), ..Bytes::default() });
        pool.enter(&mut bytes);
        assert!(ledger.cover(&pool, &node) && node.taken() == 3);
        let mut other = Box::new(Bytes { output: Vec::with_capacity(2 * MEMORY_PIECE_BYTES), ..Bytes::default() });
        pool.enter(&mut other);
        assert!(!ledger.cover(&pool, &node), "five pieces are more than four");
        pool.put(Some(bytes));
        assert!(ledger.cover(&pool, &node));
        ledger.settle(&pool, &node);
        assert_eq!(node.taken(), 2);
        pool.put(Some(other));
        ledger.settle(&pool, &node);
        assert_eq!((node.taken(), pool.entered()), (0, 0));
    }
}
