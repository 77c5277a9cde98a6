//! Every kernel on a real device, against the bits of the scalar reference.
//!
//! `cargo test --features cuda --test cuda -- --ignored --test-threads=1`, or `scripts/gpu-kit` for
//! a machine without Rust. Each test is ignored by default, so that none passes without running.
//! `W4AX_DEVICE` selects the device (default 0), `W4AX_SEED` the random cases (default 1).
//! `W4AX_QUICK=1` runs a tenth of them, for sanitizers.
//!
//! `W4AX_SOFTWARE_DEVICE=1 cargo test --features cuda --test cuda` runs all of them without a GPU,
//! on smaller shapes: see software.rs.
//!
//! Expected values come from the CPU backend, which has the bits of the scalar reference
//! (tests/gemm). For a large GEMM it computes some channels; the plain kernel family covers the
//! others.

mod bf16_results;
mod device;
mod failing;
mod graphs;
mod harness;
mod kernels;
mod latch;
mod order;
mod routing;
mod row_op;
mod shapes;
mod skip;
mod smoke;
#[cfg(w4ax_software_device)]
mod software;
mod streams;
use test_support as support;
