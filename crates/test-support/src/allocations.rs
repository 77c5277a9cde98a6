//! Global allocators that count the allocations of a thread, and the bytes of the process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

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

/// Bytes on the heap, and their peak.
static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The system allocator with a count of the bytes of all threads. A test binary declares it as its
/// `#[global_allocator]`.
pub struct MeasuringAllocator;

// SAFETY: every call is passed to the system allocator without a change. Counting uses two atomics.
unsafe impl GlobalAlloc for MeasuringAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(held, Ordering::Relaxed);
        // SAFETY: the caller's guarantee about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the pointer is from `System` with this layout, as the caller guarantees.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Bytes on the heap during a call, beyond those before it. All are 0 in a binary without
/// [`MeasuringAllocator`].
#[derive(Clone, Copy, Debug)]
pub struct HeapBytes {
    /// The most that were held at a time.
    pub peak: usize,
    /// Those that are still held after the call: by its result.
    pub kept: usize,
}

/// Calls `call` and measures the heap. Other threads must not allocate meanwhile.
pub fn heap_of<T>(call: impl FnOnce() -> T) -> (T, HeapBytes) {
    let before = HELD.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let result = call();
    let bytes = HeapBytes {
        peak: PEAK.load(Ordering::Relaxed).saturating_sub(before),
        kept: HELD.load(Ordering::Relaxed).saturating_sub(before),
    };
    (result, bytes)
}
