//! The C ABI of w4ax: the functions that `include/w4ax.h` and `include/w4ax_gpu.h` declare.
//!
//! The headers document shapes, ownership, threads and errors. The modules here implement them:
//!
//! - `raw` converts pointers and counts to slices and references, or to a status.
//! - `status` runs the body of a function and converts an error or a panic to a status.
//! - [`enums`] and [`limits`] are the tables of the numbers in the headers.
//! - Each other module defines one kind of handle and its functions, which check their arguments
//!   and call w4ax.
//! - [`gpu`] does so for devices, in builds with and without feature `cuda`.
//!
//! `scripts/build-capi` builds the static and the shared library. The tests compare the headers
//! with the items of this crate, and call the libraries from C and C++ programs.
//!
//! # Safety
//! Every `unsafe` function here has the same contract: each pointer is null or points at what the
//! header describes, with the length that is passed with it, during the whole call. Handles are
//! from this library and are freed once.
// The headers document each item. A second text here could contradict them.
#![allow(missing_docs, clippy::missing_safety_doc)]

#[cfg(not(panic = "unwind"))]
compile_error!("the C ABI converts panics to a status, so it requires panic = \"unwind\"");

pub mod consistency;
pub mod cpu;
pub mod dispatch;
pub mod enums;
pub mod file;
pub mod flag;
pub mod gemm;
pub mod gpu;
pub mod limits;
pub mod pool;
mod raw;
pub mod row_op;
pub mod status;
mod threads;
pub mod version;
pub mod weight;
