//! A static model of w4ax's CUDA kernels: reads their machine code, predicts the time of a call and
//! generates the kernel table.
//!
//! - [`sass`], [`control_flow`], [`trace`]: machine code, and the instructions of it that a usual
//!   call executes;
//! - [`pipes`], [`occupancy`], [`tile`]: units that instructions occupy, resident blocks, and what
//!   a block computes;
//! - `device`, `kernels`, `traffic`, `predict`: rates of GPUs, this build's kernels, bytes of a
//!   call, and its predicted time;
//! - `table`, `report`, `cases`: crossovers between kernels as CSV, times as a table or JSON, and
//!   the calls of both;
//! - `vla`: times of the linear layers of OpenVLA-7B and OpenVLA-OFT as CSV;
//! - `decoder`, `layers`: the linear layers of a decoder as a control step, and their weights,
//!   which the GPU tests and benches run.
//!
//! Feature `cuda` adds everything but the first two items. Predictions also need a build with
//! kernels. Reading machine code needs `cuobjdump`, `nvdisasm` and `c++filt`.

pub mod control_flow;
pub mod error;
pub mod occupancy;
pub mod pipes;
pub mod sass;
pub mod tile;
pub mod trace;

#[cfg(feature = "cuda")]
pub mod cases;
#[cfg(feature = "cuda")]
pub mod decoder;
#[cfg(feature = "cuda")]
pub mod device;
#[cfg(feature = "cuda")]
pub mod kernels;
#[cfg(feature = "cuda")]
pub mod layers;
#[cfg(feature = "cuda")]
pub mod predict;
#[cfg(feature = "cuda")]
pub mod report;
#[cfg(feature = "cuda")]
pub mod table;
#[cfg(feature = "cuda")]
pub mod traffic;
#[cfg(feature = "cuda")]
pub mod vla;

pub use error::{Error, Result};
