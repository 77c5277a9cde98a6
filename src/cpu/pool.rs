//! Who runs the pieces of a call.

use rayon::prelude::*;

/// A pool of threads, the caller's or rayon's.
pub trait Pool: Send + Sync {
    /// How many pieces to cut a call into.
    fn threads(&self) -> usize;

    /// Runs `piece(0)` to `piece(pieces - 1)`, each exactly once, and returns when all have ended. A call whose pool does not panics.
    fn run(&self, pieces: usize, piece: &(dyn Fn(usize) + Sync));
}

/// The calling thread alone.
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

/// Rayon's current pool: the one whose `install` surrounds the call, else the global one.
///
/// Called from outside of the pool, the calling thread works too, and rayon allocates a few bytes for each other piece; from
/// inside nothing is allocated.
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
            rayon::in_place_scope(|scope| beside(scope, pieces, piece));
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
            self.in_place_scope(|scope| beside(scope, pieces, piece));
        }
    }
}

/// The first piece on this thread, which is awake, the others on the pool's.
fn beside<'a>(scope: &rayon::Scope<'a>, pieces: usize, piece: &'a (dyn Fn(usize) + Sync)) {
    for other in 1..pieces {
        scope.spawn(move |_| piece(other));
    }
    piece(0);
}
