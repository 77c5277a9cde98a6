//! How work and memory are shared among threads.

use super::Pool;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The `piece`-th of `pieces` nearly equal runs of `0..len`.
pub(super) fn share(len: usize, pieces: usize, piece: usize) -> Range<usize> {
    len * piece / pieces..len * (piece + 1) / pieces
}

/// Units of work that pieces take as they get to them: a thread that starts late, or is slower, takes fewer.
pub(super) struct Claims {
    next: AtomicUsize,
    units: usize,
    step: usize,
    pub pieces: usize,
}

impl Claims {
    /// For at most so many threads, and so many times the work that is worth one.
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

    pub fn each(&self, mut work: impl FnMut(Range<usize>)) {
        loop {
            // Who takes what is all that this decides; the pool orders what the pieces write.
            let start = self.next.fetch_add(self.step, Ordering::Relaxed);
            if start >= self.units {
                return;
            }
            work(start..self.units.min(start + self.step));
        }
    }
}

/// Runs `pieces` pieces on a pool's threads, each with a number of its own below `pieces`.
///
/// # Panics
/// If the pool runs more or fewer of them.
pub(super) fn run_pieces(pool: &dyn Pool, pieces: usize, piece: &(dyn Fn(usize) + Sync)) {
    // Numbers are not the pool's to give: safe code of the caller's must not be able to give one twice.
    let (begun, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
    pool.run(pieces, &|_| {
        let number = begun.fetch_add(1, Ordering::Relaxed);
        assert!(number < pieces, "the pool ran more than {pieces} pieces");
        piece(number);
        ended.fetch_add(1, Ordering::Relaxed);
    });
    // Less as well where a piece panicked and the pool kept that to itself.
    let ended = ended.into_inner();
    assert_eq!(ended, pieces, "the pool ran {ended} of {pieces} pieces");
}

/// A mutable slice that several threads write, each in places of its own.
pub(super) struct Disjoint<'a, T> {
    start: *mut T,
    len: usize,
    lifetime: PhantomData<&'a mut [T]>,
}

// SAFETY: it is a `&mut [T]` in pieces; `slice`'s contract keeps the pieces apart, so moving them to other threads needs
// what `&mut [T]` needs.
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
    /// No element of `range` is in a range that any other live slice of this object has.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)] // The contract above is what makes it sound.
    pub unsafe fn slice(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: in bounds by the assertion, unaliased by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}
