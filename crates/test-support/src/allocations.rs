//! A global allocator that counts the allocations of a thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Allocations of this thread: the test harness has other threads.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// The system allocator with a count per thread. A test binary declares it as its
/// `#[global_allocator]`.
pub struct CountingAllocator;

// SAFETY: every call is passed to the system allocator without a change. Counting uses a `Cell`
// that does not allocate.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's guarantee about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer is from `System` with this layout, as the caller guarantees.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Returns how many allocations this thread has made.
pub fn allocations() -> usize {
    ALLOCATIONS.get()
}

/// Returns how many allocations the call makes on this thread: always 0 in a binary without
/// [`CountingAllocator`].
pub fn allocations_of(call: impl FnOnce()) -> usize {
    let before = allocations();
    call();
    allocations() - before
}
