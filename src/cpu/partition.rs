//! Work and memory shared among the threads of a call.

use super::pool::Pool;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Part `part` of `parts` nearly equal ranges of `0..len`.
pub(super) fn split(len: usize, parts: usize, part: usize) -> Range<usize> {
    len * part / parts..len * (part + 1) / parts
}

/// Units of work that threads claim dynamically, so that a thread that starts late or is slower
/// claims fewer.
pub(super) struct WorkQueue {
    next: AtomicUsize,
    units: usize,
    /// Units of one claim.
    step: usize,
    /// How many pieces the pool runs.
    pub pieces: usize,
}

impl WorkQueue {
    /// A queue for at most `threads` threads. `worth` is the work as a multiple of the least that
    /// is worth a thread.
    pub fn new(units: usize, threads: usize, worth: usize) -> Self {
        let pieces = threads.min(worth).min(units).max(1);
        let step = match pieces {
            1 => units,
            _ => units.div_ceil(8 * pieces),
        };
        Self {
            next: AtomicUsize::new(0),
            units,
            step,
            pieces,
        }
    }

    /// Claims units until none are left.
    pub fn each(&self, mut work: impl FnMut(Range<usize>)) {
        loop {
            // Relaxed: the counter only assigns units. The pool orders the writes of its pieces.
            let start = self.next.fetch_add(self.step, Ordering::Relaxed);
            if start >= self.units {
                return;
            }
            work(start..self.units.min(start + self.step));
        }
    }
}

/// Runs `pieces` pieces on the threads of a pool, each with a different number below `pieces`.
///
/// # Panics
/// If the pool runs another number of pieces.
pub(super) fn run_pieces(pool: &dyn Pool, pieces: usize, piece: &(dyn Fn(usize) + Sync)) {
    // The numbers are assigned here and not by the pool, because safe code of a pool must not be
    // able to assign one twice.
    let (begun, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
    pool.run(pieces, &|_| {
        let number = begun.fetch_add(1, Ordering::Relaxed);
        assert!(number < pieces, "the pool ran more than {pieces} pieces");
        piece(number);
        ended.fetch_add(1, Ordering::Relaxed);
    });
    // Fewer also if a piece panicked and the pool caught the panic.
    let ended = ended.into_inner();
    assert_eq!(ended, pieces, "the pool ran {ended} of {pieces} pieces");
}

/// A mutable slice of which several threads write disjoint parts.
pub(super) struct Disjoint<'a, T> {
    start: *mut T,
    len: usize,
    lifetime: PhantomData<&'a mut [T]>,
}

// SAFETY: it is a `&mut [T]` in parts. The contract of `slice` keeps the parts disjoint, so moving
// them to other threads needs what `&mut [T]` needs.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub fn new(slice: &'a mut [T]) -> Self {
        Self {
            start: slice.as_mut_ptr(),
            len: slice.len(),
            lifetime: PhantomData,
        }
    }

    /// # Safety
    /// No other live slice of this object overlaps `range`.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)] // The contract above makes it sound.
    pub unsafe fn slice(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: in bounds by the assertion, not aliased by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}
