//! The memory that the kernel receives into: equal buffers of one anonymous mapping, handed out by a buffer ring (5.19) or one provision
//! at a time (5.7).

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::{IoUring, squeue, types};

use super::legacy;

/// The one group of buffers in a core's ring.
pub(super) const GROUP: u16 = 7;
/// Size of one buffer. A typical request fits in one; a body takes as many as it needs.
pub(super) const BUFFER_BYTES: u32 = 4096;
/// Most buffers of one core.
const BUFFERS_MAX: u16 = 2048;
/// Buffers given to the kernel at first. Memory that was never received into is never resident: more are given when these run out.
const BUFFERS_FIRST: u16 = 64;

/// An anonymous private mapping.
struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
}

impl Mapping {
    fn new(bytes: usize) -> io::Result<Self> {
        // SAFETY: a new anonymous mapping touches no memory of ours.
        let base = unsafe {
            libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_ANONYMOUS | libc::MAP_PRIVATE, -1, 0)
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(base.cast()).map(|base| Self { base, bytes }).ok_or_else(|| io::Error::other("a mapping at address zero"))
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nothing refers to it any more: the store is dropped after its ring has no operation left.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

/// How the kernel is told of free buffers.
enum Supply {
    /// A ring that both sides map.
    Ring { entries: Mapping, tail: u16 },
    /// By operation; what came back this turn waits here.
    Operation { returned: Vec<u16> },
}

/// The buffers of one core.
pub(super) struct Store {
    memory: Mapping,
    supply: Supply,
    given: u16,
}

/// One filled buffer. It is the holder's until it is given back.
pub(crate) struct Lease {
    start: NonNull<u8>,
    bytes: usize,
    id: u16,
}

impl Lease {
    /// What was received.
    ///
    /// # Safety
    /// The ring that the lease came from must be alive.
    pub(crate) const unsafe fn bytes(&self) -> &[u8] {
        // SAFETY: the kernel wrote that many bytes and writes no more before the buffer is given back, which takes the lease.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }
}

impl Store {
    /// Registers a buffer ring.
    pub(super) fn ring(ring: &IoUring) -> io::Result<Self> {
        let entries = Mapping::new(usize::from(BUFFERS_MAX) * size_of::<types::BufRingEntry>())?;
        // SAFETY: the mapping is page-aligned, large enough and outlives the ring (see `Drop` of the core's ring).
        unsafe { ring.submitter().register_buf_ring_with_flags(entries.base.as_ptr() as u64, BUFFERS_MAX, GROUP, 0)? };
        let mut store = Self { memory: Self::memory()?, supply: Supply::Ring { entries, tail: 0 }, given: 0 };
        store.grow();
        store.publish();
        Ok(store)
    }

    /// Buffers that are provided by operations; the first are waiting to be provided.
    pub(super) fn operation() -> io::Result<Self> {
        let mut store = Self { memory: Self::memory()?, supply: Supply::Operation { returned: Vec::new() }, given: 0 };
        store.grow();
        Ok(store)
    }

    fn memory() -> io::Result<Mapping> {
        Mapping::new(usize::from(BUFFERS_MAX) * BUFFER_BYTES as usize)
    }

    fn start_of(&self, id: u16) -> NonNull<u8> {
        assert!(id < BUFFERS_MAX, "the kernel names only buffers it was given");
        // SAFETY: the buffer lies inside the mapping.
        unsafe { self.memory.base.add(usize::from(id) * BUFFER_BYTES as usize) }
    }

    /// Gives the kernel twice as many buffers as it had, up to the most there can be.
    pub(super) fn grow(&mut self) {
        let target = (self.given * 2).clamp(BUFFERS_FIRST, BUFFERS_MAX);
        for id in self.given..target {
            self.put(id);
        }
        self.given = target;
    }

    /// The filled buffer `id`.
    pub(super) fn lease(&self, id: u16, bytes: usize) -> Lease {
        Lease { start: self.start_of(id), bytes: bytes.min(BUFFER_BYTES as usize), id }
    }

    /// Takes a buffer back.
    pub(super) fn give_back(&mut self, lease: Lease) {
        self.put(lease.id);
    }

    fn put(&mut self, id: u16) {
        let start = self.start_of(id);
        match &mut self.supply {
            Supply::Ring { entries, tail } => {
                let slot = usize::from(*tail & (BUFFERS_MAX - 1));
                // SAFETY: the slot lies inside the entries, and the kernel does not read it before the tail is published.
                let entry = unsafe { &mut *entries.base.cast::<types::BufRingEntry>().add(slot).as_ptr() };
                entry.set_addr(start.as_ptr() as u64);
                entry.set_len(BUFFER_BYTES);
                entry.set_bid(id);
                *tail = tail.wrapping_add(1);
            }
            Supply::Operation { returned } => returned.push(id),
        }
    }

    /// Makes the kernel see what was given to a buffer ring.
    pub(super) fn publish(&mut self) {
        if let Supply::Ring { entries, tail } = &self.supply {
            // SAFETY: the tail lies inside the first entry; both sides access it atomically.
            let shared = unsafe { &*types::BufRingEntry::tail(entries.base.cast().as_ptr()).cast::<AtomicU16>() };
            shared.store(*tail, Ordering::Release);
        }
    }

    /// The operations that provide what came back, one per run of neighbours.
    pub(super) fn provisions(&mut self, mut push: impl FnMut(squeue::Entry)) {
        let Supply::Operation { returned } = &mut self.supply else { return };
        if returned.is_empty() {
            return;
        }
        let mut ids = std::mem::take(returned);
        ids.sort_unstable();
        for run in ids.chunk_by(|a, b| *b == *a + 1) {
            let (first, count) = (run[0], run.len() as u16);
            push(legacy::provide(self.start_of(first).as_ptr(), BUFFER_BYTES, GROUP, first, count));
        }
        ids.clear();
        if let Supply::Operation { returned } = &mut self.supply {
            *returned = ids;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_provided_together() {
        let mut store = Store::operation().expect("memory");
        let mut count = 0;
        store.provisions(|_| count += 1);
        assert_eq!(count, 1, "the first buffers are one run");
        for id in [5, 3, 9, 4] {
            let lease = store.lease(id, 1);
            store.give_back(lease);
        }
        store.provisions(|_| count += 1);
        assert_eq!(count, 3, "3-5 and 9");
        store.provisions(|_| count += 1);
        assert_eq!(count, 3, "nothing came back since");
    }
}
