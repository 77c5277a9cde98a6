//! The threads that run a call.

use rayon::prelude::*;

/// A pool of threads.
pub trait Pool: Send + Sync {
    /// Returns the number of pieces to divide a call into.
    fn threads(&self) -> usize;

    /// Runs `piece(0)` to `piece(pieces - 1)`, each exactly once, and returns when all have ended.
    ///
    /// A GEMM whose pool runs another number of pieces panics.
    fn run(&self, pieces: usize, piece: &(dyn Fn(usize) + Sync));
}

/// The calling thread only.
#[derive(Clone, Copy, Debug)]
pub struct Serial;

impl Pool for Serial {
    fn threads(&self) -> usize {
        1
    }

    fn run(&self, pieces: usize, piece: &(dyn Fn(usize) + Sync)) {
        (0..pieces).for_each(piece);
    }
}

/// Rayon's current pool: the pool whose `install` runs the call, otherwise the global pool.
///
/// A call from outside of the pool also runs on the calling thread, and rayon allocates a few bytes
/// for each other piece. A call from inside of the pool allocates nothing.
#[derive(Clone, Copy, Debug)]
pub struct Rayon;

impl Pool for Rayon {
    fn threads(&self) -> usize {
        rayon::current_num_threads()
    }

    fn run(&self, pieces: usize, piece: &(dyn Fn(usize) + Sync)) {
        if rayon::current_thread_index().is_some() {
            (0..pieces).into_par_iter().with_max_len(1).for_each(piece);
        } else {
            rayon::in_place_scope(|scope| spawn_others(scope, pieces, piece));
        }
    }
}

impl Pool for rayon::ThreadPool {
    fn threads(&self) -> usize {
        self.current_num_threads()
    }

    fn run(&self, pieces: usize, piece: &(dyn Fn(usize) + Sync)) {
        if self.current_thread_index().is_some() {
            Rayon.run(pieces, piece);
        } else {
            self.in_place_scope(|scope| spawn_others(scope, pieces, piece));
        }
    }
}

/// Runs the first piece on this thread, which is awake, and the other pieces on the pool.
fn spawn_others<'a>(scope: &rayon::Scope<'a>, pieces: usize, piece: &'a (dyn Fn(usize) + Sync)) {
    for other in 1..pieces {
        scope.spawn(move |_| piece(other));
    }
    piece(0);
}
