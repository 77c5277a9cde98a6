//! The threads of the caller as a [`Pool`].

use std::any::Any;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use w4ax::cpu::Pool;

use super::enums::reserved;
use super::limits::MAX_THREADS;
use super::raw;
use super::status::{Failure, Result, Status};

/// `w4ax_piece`.
pub type Piece = extern "C" fn(argument: *mut c_void, piece: u32);

/// `run` of `w4ax_pool`.
pub type Run =
    unsafe extern "C" fn(context: *mut c_void, pieces: u32, piece: Piece, argument: *mut c_void);

/// `w4ax_pool`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct CallerTable {
    pub run: Option<Run>,
    pub context: *mut c_void,
    pub threads: u32,
    pub reserved: u32,
}

pub(super) struct CallerPool {
    run: Run,
    context: *mut c_void,
    threads: u32,
}

// SAFETY: the context belongs to the caller and is passed to the caller's `run` only, which the
// header requires to be callable from any thread.
unsafe impl Send for CallerPool {}
// SAFETY: as above, and from several threads at once.
unsafe impl Sync for CallerPool {}

impl CallerPool {
    /// # Safety
    /// `run` keeps the contract of the header for the lifetime of the pool.
    pub unsafe fn new(table: CallerTable) -> Result<Self> {
        reserved(table.reserved)?;
        let Some(run) = table.run else {
            return Err(raw::null("run of the pool"));
        };
        if !(1..=MAX_THREADS).contains(&table.threads) {
            let text = format!(
                "pool of {} threads: expected 1 to {MAX_THREADS}",
                table.threads
            );
            return Err(Failure::new(Status::OutOfRange, text));
        }
        Ok(Self {
            run,
            context: table.context,
            threads: table.threads,
        })
    }
}

/// One call of the caller's `run`.
///
/// Pieces write disjoint memory without locks, so each of them must run once. A piece is claimed
/// before it runs.
struct Round<'a> {
    piece: &'a (dyn Fn(usize) + Sync),
    pieces: usize,
    claimed: [AtomicU64; MAX_THREADS as usize / 64],
    begun: AtomicUsize,
    ended: AtomicUsize,
    /// Whether a piece was requested twice, or one out of range.
    unexpected: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Round<'_> {
    fn run(&self, piece: usize) {
        let bit = 1 << (piece % 64);
        let first = piece < self.pieces
            && self.claimed[piece / 64].fetch_or(bit, Ordering::Relaxed) & bit == 0;
        if !first {
            return self.unexpected.store(true, Ordering::Relaxed);
        }
        self.begun.fetch_add(1, Ordering::Relaxed);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (self.piece)(piece))) {
            *self.panic.lock().unwrap_or_else(|e| e.into_inner()) = Some(panic);
        }
        self.ended.fetch_add(1, Ordering::Release);
    }
}

extern "C" fn run_piece(argument: *mut c_void, piece: u32) {
    // SAFETY: the caller passes on the argument of `run` while `run` executes: a live round.
    if let Some(round) = unsafe { argument.cast::<Round<'_>>().as_ref() } {
        round.run(piece as usize);
    }
}

impl Pool for CallerPool {
    fn threads(&self) -> usize {
        self.threads as usize
    }

    fn run(&self, pieces: usize, piece: &(dyn Fn(usize) + Sync)) {
        assert!(pieces <= MAX_THREADS as usize, "{pieces} pieces");
        let round = Round {
            piece,
            pieces,
            claimed: [const { AtomicU64::new(0) }; _],
            begun: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            unexpected: AtomicBool::new(false),
            panic: Mutex::new(None),
        };
        let argument = (&raw const round).cast_mut().cast();
        // SAFETY: the caller's function with its context, as the header describes. `round` outlives
        // the call.
        unsafe { (self.run)(self.context, pieces as u32, run_piece, argument) };
        // If the pool returned early, the pieces that have begun still use borrowed memory.
        while round.ended.load(Ordering::Acquire) < round.begun.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        let ended = round.ended.into_inner();
        if let Some(panic) = round.panic.into_inner().unwrap_or_else(|e| e.into_inner()) {
            std::panic::resume_unwind(panic);
        }
        if ended != pieces || round.unexpected.into_inner() {
            let text = match ended == pieces {
                true => "the pool ran a piece twice or out of range".into(),
                false => format!("the pool ran {ended} of {pieces} pieces"),
            };
            Failure::new(Status::Threads, text).unwind();
        }
    }
}
