//! Asks the processor for memory that another core wrote, some time before it is needed.
//!
//! What came from another core is in that core's cache, and each line of it takes as long as a hundred instructions or more to come over.
//! Who takes many frames at once asks for what they point to first, and finds it there when their turn comes. It is a hint: nothing but time
//! depends on it.

/// Asks for the line of the processor's cache at an address, to be written to. Addresses that lead nowhere do no harm.
#[inline]
pub fn line<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction neither faults nor changes anything, whatever the address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_ET0>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Asks for every line of a value.
#[inline]
pub fn whole<T>(value: &T) {
    const LINE_BYTES: usize = 64;
    let start = std::ptr::from_ref(value).cast::<u8>();
    for offset in (0..size_of::<T>()).step_by(LINE_BYTES) {
        line(start.wrapping_add(offset));
    }
}
