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
pub(super) const BUFFERS_MAX: u16 = 2048;
/// Buffers in circulation at first and whenever it is quiet. Memory that was never received into is never resident: more are given when
/// these run out.
pub(super) const BUFFERS_FIRST: u16 = 64;

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

/// The buffers of one core. Each is in circulation (the kernel has it, or a lease, or it waits to be provided again) or withheld.
pub(super) struct Store {
    memory: Mapping,
    supply: Supply,
    /// Withheld, and not resident.
    cold: Vec<u16>,
    /// Withheld, with pages that are still to be released.
    warm: Vec<u16>,
    /// So many circulate, and more only until the rest have come back.
    target: u16,
    /// Receives that found no buffer since the last refill.
    starved: u16,
    /// Leases that are not given back.
    leased: u16,
    /// Buffers that were not the kernel's since the last refill, and the most of any refill since the last [`Store::appraise`].
    filled: u16,
    filled_max: u16,
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
        let store = Self::of(Supply::Ring { entries, tail: 0 })?;
        store.publish();
        Ok(store)
    }

    /// Buffers that are provided by operations; the first are waiting to be provided.
    pub(super) fn operation() -> io::Result<Self> {
        Self::of(Supply::Operation { returned: Vec::new() })
    }

    fn of(supply: Supply) -> io::Result<Self> {
        let (cold, warm) = ((0..BUFFERS_MAX).rev().collect(), Vec::new());
        let mut store = Self { memory: Self::memory()?, supply, cold, warm, target: 0, starved: 0, leased: 0, filled: 0, filled_max: 0 };
        store.circulate(BUFFERS_FIRST);
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

    /// Buffers that are not withheld.
    pub(super) fn circulating(&self) -> u16 {
        BUFFERS_MAX - (self.cold.len() + self.warm.len()) as u16
    }

    /// Buffers that are to be withheld once they come back.
    pub(super) fn surplus(&self) -> u16 {
        self.circulating() - self.target
    }

    /// A receive found no buffer: the next refill brings more.
    pub(super) fn starve(&mut self) {
        self.starved = self.starved.saturating_add(1);
    }

    /// Brings the target up to `target`, which is no lower than it was.
    fn circulate(&mut self, target: u16) {
        self.target = target;
        while self.circulating() < target
            && let Some(id) = self.warm.pop().or_else(|| self.cold.pop())
        {
            self.put(id);
        }
    }

    /// Decides what to offer the kernel: when some receives went without, the power of two that has room for all of them too. Called before
    /// each submission.
    pub(super) fn refill(&mut self) {
        let filled = std::mem::replace(&mut self.filled, self.leased);
        self.filled_max = self.filled_max.max(filled);
        let starved = std::mem::take(&mut self.starved);
        if starved > 0 {
            let wanted = self.circulating().saturating_add(starved).min(BUFFERS_MAX);
            self.circulate(wanted.next_power_of_two());
        }
        self.publish();
    }

    /// The end of a while in which the core was watched: no more are to circulate than twice what was filled at once.
    pub(super) fn appraise(&mut self) {
        let filled_max = std::mem::take(&mut self.filled_max);
        self.target = self.target.min((filled_max.saturating_mul(2)).next_power_of_two().max(BUFFERS_FIRST));
    }

    /// The filled buffer `id`.
    pub(super) fn lease(&mut self, id: u16, bytes: usize) -> Lease {
        self.leased += 1;
        self.filled = self.filled.saturating_add(1);
        Lease { start: self.start_of(id), bytes: bytes.min(BUFFER_BYTES as usize), id }
    }

    /// Takes a buffer back, and withholds it when fewer are to circulate.
    pub(super) fn give_back(&mut self, lease: Lease) {
        self.leased -= 1;
        if self.surplus() > 0 {
            self.warm.push(lease.id);
        } else {
            self.put(lease.id);
        }
    }

    /// Lets the kernel have back the pages of withheld buffers, one call per run of neighbours.
    pub(super) fn release_pages(&mut self) {
        if self.warm.is_empty() {
            return;
        }
        self.warm.sort_unstable();
        for run in self.warm.chunk_by(|a, b| *b == *a + 1) {
            // SAFETY: the run lies inside the mapping, and its buffers are ours: the kernel handed them out, and no lease is left. A
            // failure costs memory and nothing else.
            unsafe { libc::madvise(self.start_of(run[0]).as_ptr().cast(), run.len() * BUFFER_BYTES as usize, libc::MADV_DONTNEED) };
        }
        self.cold.append(&mut self.warm);
        // The lowest are at the end, where they are taken from: what is offered together lies together.
        self.cold.sort_unstable_by(|a, b| b.cmp(a));
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
    fn publish(&self) {
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
pub(super) mod tests {
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

    /// Buffers of the store that are backed by memory.
    pub(in super::super) fn resident(store: &Store) -> usize {
        let mut pages = vec![0u8; store.memory.bytes / 4096];
        // SAFETY: the mapping is the store's, and the kernel writes one byte per page of it.
        let outcome = unsafe { libc::mincore(store.memory.base.as_ptr().cast(), store.memory.bytes, pages.as_mut_ptr()) };
        assert_eq!(outcome, 0, "{}", io::Error::last_os_error());
        pages.iter().filter(|page| **page & 1 == 1).count()
    }

    /// A store of which the kernel had every circulating buffer filled; all leases.
    fn fill(store: &mut Store, ids: impl Iterator<Item = u16>) -> Vec<Lease> {
        ids.map(|id| {
            // SAFETY: the buffer is the store's, and the test is the kernel.
            unsafe { store.start_of(id).as_ptr().write(1) };
            store.lease(id, 1)
        })
        .collect()
    }

    fn offered(store: &mut Store) -> usize {
        let Supply::Operation { returned } = &store.supply else { panic!("buffers are provided by operations") };
        let count = returned.len();
        store.provisions(|_| ());
        count
    }

    #[test]
    fn all_who_starve_are_fed_by_the_next_refill() {
        let mut store = Store::operation().expect("memory");
        assert_eq!((offered(&mut store), store.circulating()), (64, 64));
        for _ in 0..10 {
            store.starve();
        }
        store.refill();
        assert_eq!((offered(&mut store), store.circulating()), (64, 128), "twice as many at least");
        for _ in 0..700 {
            store.starve();
        }
        store.refill();
        assert_eq!(store.circulating(), 1024);
        for _ in 0..u32::from(u16::MAX) + 5 {
            store.starve();
        }
        store.refill();
        store.refill();
        assert_eq!((offered(&mut store), store.circulating(), store.surplus()), (2048 - 128, 2048, 0));
    }

    #[test]
    fn after_a_quiet_while_what_comes_back_is_withheld_and_not_resident() {
        let mut store = Store::operation().expect("memory");
        for _ in 0..1000 {
            store.starve();
        }
        store.refill();
        assert_eq!(store.circulating(), 2048);
        let leases = fill(&mut store, 0..2048);
        assert_eq!(resident(&store), 2048);
        leases.into_iter().for_each(|lease| store.give_back(lease));
        store.refill();
        store.appraise();
        assert_eq!((store.circulating(), store.surplus()), (2048, 0), "every buffer was in use");
        store.appraise();
        assert_eq!((store.circulating(), store.surplus()), (2048, 2048 - 64), "none was, and the kernel has them all");
        offered(&mut store);
        let leases = fill(&mut store, 0..2048);
        leases.into_iter().for_each(|lease| store.give_back(lease));
        assert_eq!((store.circulating(), store.surplus(), offered(&mut store)), (64, 0, 64));
        store.release_pages();
        assert_eq!(resident(&store), 64);
        // The others are as good as new.
        store.starve();
        store.refill();
        assert_eq!((store.circulating(), offered(&mut store)), (128, 64));
    }

    #[test]
    fn a_core_in_use_keeps_what_it_uses() {
        let mut store = Store::operation().expect("memory");
        for _ in 0..200 {
            store.starve();
        }
        store.refill();
        assert_eq!(store.circulating(), 512);
        for lease in fill(&mut store, 0..100) {
            store.give_back(lease);
        }
        store.refill();
        for lease in fill(&mut store, 100..120) {
            store.give_back(lease);
        }
        store.refill();
        store.appraise();
        assert_eq!((store.circulating(), store.surplus()), (512, 512 - 256), "twice a hundred find room");
    }

    #[test]
    fn want_in_the_middle_of_shrinking_ends_it() {
        let mut store = Store::operation().expect("memory");
        for _ in 0..200 {
            store.starve();
        }
        store.refill();
        store.appraise();
        offered(&mut store);
        let leases = fill(&mut store, 0..100);
        leases.into_iter().for_each(|lease| store.give_back(lease));
        assert_eq!((store.circulating(), store.surplus()), (412, 348));
        store.starve();
        store.refill();
        assert_eq!((store.circulating(), store.surplus(), offered(&mut store)), (512, 0, 100));
    }
}
