//! A static model of w4ax's CUDA kernels: reads their machine code, predicts the time of a call and generates the kernel table.
//!
//! ```text
//! sass -> control_flow -> trace -> pipes     instructions that a warp executes, and the units that they occupy
//! tile, occupancy                            what a block of a kernel works on, and how many run on a multiprocessor
//! device, predict                            a GPU's rates; the time of a call
//! table, report                              crossovers between kernels as a CSV file; predictions as a table or JSON
//! ```
//!
//! Predictions need feature `cuda` and a build with kernels. Reading machine code needs `cuobjdump`, `nvdisasm` and `c++filt`.

pub mod control_flow;
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
pub mod predict;
#[cfg(feature = "cuda")]
pub mod report;
#[cfg(feature = "cuda")]
pub mod table;
