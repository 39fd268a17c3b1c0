//! Tests only: counts heap allocations of the current thread, to hold the warm path to none of its own.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count() {
    // A thread that is ending has no counter any more.
    let _counted = COUNT.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every method hands its arguments on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.dealloc(block, layout) }
    }
}

/// How many times `run` allocates, or grows an allocation, on this thread.
pub(crate) fn counted<R>(run: impl FnOnce() -> R) -> (u64, R) {
    let before = COUNT.get();
    let result = run();
    (COUNT.get() - before, result)
}

/// Allocations of this thread so far.
pub(crate) fn so_far() -> u64 {
    COUNT.get()
}

mod tests {
    use super::counted;

    #[test]
    fn the_counter_counts() {
        assert_eq!(counted(|| drop(std::hint::black_box(vec![1_u8]))).0, 1);
        assert_eq!(counted(|| std::hint::black_box(1)).0, 0);
    }
}
