//! The ring of receive buffers the kernel picks from (buffer ring, kernel 5.19).

use io_uring::IoUring;
use io_uring::types::BufRingEntry;
use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

/// Number of buffers; a power of two. One turn rarely completes a tenth of them.
const COUNT: u16 = 1024;
/// Size of each buffer, in bytes.
const SIZE: usize = 4096;
/// The buffer group's id within its io_uring.
pub const GROUP: u16 = 1;

/// Buffers shared with the kernel. They live as long as the process does.
pub struct Buffers {
    entries: *mut BufRingEntry,
    memory: *mut u8,
    tail: u16,
}

impl Buffers {
    /// Maps the buffers and registers all of them with `ring`.
    ///
    /// # Errors
    /// When memory cannot be mapped, or the kernel has no buffer rings.
    pub fn register(ring: &IoUring) -> io::Result<Self> {
        let entries = map(usize::from(COUNT) * size_of::<BufRingEntry>())?.cast();
        let memory = map(usize::from(COUNT) * SIZE)?;
        // SAFETY: the mapping is page-aligned, holds COUNT entries and is never unmapped.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(entries as u64, COUNT, GROUP, 0)?;
        }
        let mut buffers = Self { entries, memory, tail: 0 };
        (0..COUNT).for_each(|id| buffers.give_back(id));
        buffers.publish();
        Ok(buffers)
    }

    /// The first `len` bytes of buffer `id`, which a receive has filled.
    pub fn filled(&self, id: u16, len: usize) -> &[u8] {
        assert!(id < COUNT && len <= SIZE, "the kernel named a buffer it was not given");
        // SAFETY: within the mapping by the assertion; the kernel does not write to a
        // buffer between the completion that names it and the `give_back` of it.
        unsafe { std::slice::from_raw_parts(self.memory.add(usize::from(id) * SIZE), len) }
    }

    /// Queues buffer `id` for reuse; the kernel sees it at the next `publish`.
    pub fn give_back(&mut self, id: u16) {
        let slot = usize::from(self.tail & (COUNT - 1));
        // SAFETY: `slot` is below COUNT, and at most COUNT buffers exist, so the
        // kernel has already consumed whatever stood in this entry.
        unsafe {
            let entry = &mut *self.entries.add(slot);
            entry.set_addr(self.memory.add(usize::from(id) * SIZE) as u64);
            entry.set_len(SIZE as u32);
            entry.set_bid(id);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Lets the kernel see every buffer given back so far.
    pub fn publish(&self) {
        // SAFETY: the tail lies in the registered entries, aligned to two bytes;
        // the kernel reads it with acquire ordering.
        unsafe {
            let tail = BufRingEntry::tail(self.entries).cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }
}

/// Maps zeroed, private, page-aligned memory.
fn map(bytes: usize) -> io::Result<*mut u8> {
    // SAFETY: an anonymous mapping at an address of the kernel's choice.
    let at = unsafe {
        libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_ANONYMOUS | libc::MAP_PRIVATE, -1, 0)
    };
    if at == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(at.cast()) }
}
