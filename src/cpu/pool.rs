//! Who runs the pieces of a call.

use rayon::prelude::*;

/// A pool of threads, the caller's or rayon's.
pub trait Pool: Send + Sync {
    /// How many pieces to cut a call into.
    fn threads(&self) -> usize;

    /// Runs `piece(0)` to `piece(pieces - 1)`, each exactly once, and returns when all have ended.
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
/// Called from outside of the pool, rayon itself may now and then allocate to queue the work; from inside it does not.
#[derive(Clone, Copy, Debug)]
pub struct Rayon;

impl Pool for Rayon {
    fn threads(&self) -> usize {
        rayon::current_num_threads()
    }

    fn run(&self, pieces: usize, piece: &(dyn Fn(usize) + Sync)) {
        if pieces == 1 {
            return piece(0);
        }
        (0..pieces).into_par_iter().with_max_len(1).for_each(piece);
    }
}

impl Pool for rayon::ThreadPool {
    fn threads(&self) -> usize {
        self.current_num_threads()
    }

    fn run(&self, pieces: usize, piece: &(dyn Fn(usize) + Sync)) {
        self.install(|| Rayon.run(pieces, piece));
    }
}
