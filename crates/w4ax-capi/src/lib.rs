//! The public C ABI: what `include/w4ax.h` and `include/w4ax_gpu.h` declare.
//!
//! The headers are the documentation: shapes, ownership, threads, errors. Here stands how each function is made:
//!
//! - `raw` turns pointers and counts into slices and references, or into a status;
//! - `status` runs a body so that neither an error nor a panic leaves it as anything but a status;
//! - the other files hold one kind of handle each, with entry points that check, call the crate, and answer;
//! - `gpu` does the same for devices, in builds with and without feature `cuda`.
//!
//! `scripts/build-capi` makes the static and the shared library. `tests/capi.rs` holds the header against these items,
//! and the libraries against C programs.
//!
//! # Safety
//! Every `unsafe` function here asks the same of its caller: each pointer is null or points at what the header says, of
//! the length that is given beside it, for the whole call; handles come from this library and are not freed twice.
// The header says what each item means; saying it twice would let the two drift apart.
#![allow(missing_docs, clippy::missing_safety_doc)]

#[cfg(not(panic = "unwind"))]
compile_error!("the C ABI turns panics into a status, so it must be built with panic = \"unwind\"");

pub mod cpu;
pub mod dispatch;
pub mod file;
pub mod flag;
pub mod gemm;
pub mod gpu;
pub mod order;
pub mod pool;
mod raw;
pub mod status;
mod threads;
pub mod types;
pub mod version;
pub mod weight;

pub use threads::MAX_THREADS;
