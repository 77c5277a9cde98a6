//! The CUDA kernels' own sources, compiled for the CPU by the emulator of `kernels/emulate`,
//! against the scalar reference.
//!
//! A runner is the kernels built for one sanitizer (none; ASan with UBSan; TSan) and one
//! architecture: 800, which has s4 tensor cores, or 900, which has wgmma. Without a sanitizer the
//! tests run on both. A2, A4 and A8 must equal the reference bit for bit. BF16 must be exact on
//! small integers and otherwise within the bound of [`w4ax::numerics`]. Buffers have their exact
//! sizes. Schedules and the arrival of asynchronous copies vary by seed.
//!
//! A sanitizer that does not work fails its tests, unless `W4AX_ALLOW_MISSING_TOOLS=1` leaves it
//! out. A filter selects a part: `cargo test --features cuda --test emulate routing::`.

mod abi;
mod build;
mod gather;
mod gemm;
mod gemm_case;
mod latch;
mod routing;
mod row_op;
mod runner;
mod self_tests;
mod skip;
mod wgmma;
