//! The CUDA kernels' own sources, run on a CPU by the emulator of `kernels/emulate`.

mod gather;
mod gemm;
mod gemm_case;
mod routing;
mod runner;
mod skip;
mod wgmma;
