//! Every kernel on a real device, against the mirror's bits.
//!
//! `cargo test --features cuda --test cuda -- --ignored --test-threads=1`, or `scripts/gpu-kit` for a machine without Rust.
//! Each test is ignored by default, so that none passes by not running. `W4AX_DEVICE` picks the device (0), `W4AX_SEED` the
//! random cases (1), `W4AX_QUICK=1` a tenth of them, for a sanitizer's sake.
//!
//! Expected values come from the CPU backend, which has the mirror's bits (tests/gemm.rs). Where a product is too large for
//! it, from some of its channels, and from the plain kernel family for the rest.

#[path = "cuda/bf16.rs"]
mod bf16_results;
#[path = "cuda/device.rs"]
mod device;
#[path = "cuda/failing.rs"]
mod failing;
#[path = "cuda/graphs.rs"]
mod graphs;
#[path = "cuda/harness.rs"]
mod harness;
#[path = "cuda/kernels.rs"]
mod kernels;
#[path = "cuda/order.rs"]
mod order;
#[path = "cuda/routing.rs"]
mod routing;
#[path = "cuda/shapes.rs"]
mod shapes;
#[path = "cuda/skip.rs"]
mod skip;
#[path = "cuda/streams.rs"]
mod streams;
use test_support as support;
