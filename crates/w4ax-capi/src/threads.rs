//! Threads that end when their owner is freed, so that the host may unload this library afterwards.

use std::thread::JoinHandle;

use rayon::{ThreadPool, ThreadPoolBuilder};
use w4ax::cpu::Pool;

use super::limits::MAX_THREADS;
use super::status::{Failure, Result, Status};

/// Returns the number of threads to use: 0 requests one per core.
pub(super) fn count(threads: u32) -> Result<usize> {
    match threads {
        0 => {
            let cores = std::thread::available_parallelism();
            Ok(cores.map_or(1, usize::from).min(MAX_THREADS as usize))
        }
        1..=MAX_THREADS => Ok(threads as usize),
        _ => {
            let text = format!("{threads} threads: expected 0 to {MAX_THREADS}");
            Err(Failure::new(Status::OutOfRange, text))
        }
    }
}

fn not_started(error: rayon::ThreadPoolBuildError) -> Failure {
    Failure::new(Status::Threads, error.to_string())
}

/// Runs `work` with a temporary rayon pool of `threads` threads.
pub(super) fn with_threads<R: Send>(threads: u32, work: impl FnOnce() -> R + Send) -> Result<R> {
    ThreadPoolBuilder::new()
        .num_threads(count(threads)?)
        .build_scoped(|thread| thread.run(), |pool| pool.install(work))
        .map_err(not_started)
}

/// A pool whose threads are joined when it is dropped.
pub(super) struct OwnThreads {
    /// `Some` until the drop.
    pool: Option<ThreadPool>,
    threads: Vec<JoinHandle<()>>,
}

impl OwnThreads {
    pub fn new(threads: usize) -> Result<Self> {
        let mut handles = Vec::with_capacity(threads);
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .spawn_handler(|thread| {
                let builder = std::thread::Builder::new().name("w4ax".into());
                handles.push(builder.spawn(|| thread.run())?);
                Ok(())
            })
            .build();
        let (pool, failed) = match pool {
            Ok(pool) => (Some(pool), None),
            Err(error) => (None, Some(error)),
        };
        // After a failure, the drop joins the threads that did start.
        let own = Self {
            pool,
            threads: handles,
        };
        failed.map_or(Ok(own), |error| Err(not_started(error)))
    }
}

impl Drop for OwnThreads {
    fn drop(&mut self) {
        self.pool.take();
        for thread in self.threads.drain(..) {
            // The call that ran the piece has reported its panic already.
            let _ = thread.join();
        }
    }
}

impl Pool for OwnThreads {
    fn threads(&self) -> usize {
        self.threads.len()
    }

    fn run(&self, pieces: usize, piece: &(dyn Fn(usize) + Sync)) {
        if let Some(pool) = &self.pool {
            pool.run(pieces, piece);
        }
    }
}
