//! GPUs: what `include/w4ax_gpu.h` declares.
//!
//! The entry points are in every build. They check what can be checked without a device, the same in each, and hand on to
//! `backend`: the crate's CUDA half, or in a build without feature `cuda` the word that there is none.
// There nobody reads what was checked.
#![cfg_attr(not(feature = "cuda"), allow(dead_code))]

#[cfg_attr(feature = "cuda", path = "cuda.rs")]
#[cfg_attr(not(feature = "cuda"), path = "absent.rs")]
mod backend;
mod device;
mod gemm;
mod order;
mod pack;
mod plan;
mod weight;

pub use device::*;
pub use gemm::*;
pub use order::*;
pub use pack::*;
pub use plan::*;
pub use weight::*;

use super::raw;
use super::status::{Failure, Result, Status};
use super::types;
use w4ax::{Grouping, Width};

/// `W4AX_GPU_MAX_EXTENT`.
pub const MAX_EXTENT: usize = 8_388_608;
/// `W4AX_GPU_MAX_STRIDE`.
pub const MAX_STRIDE: usize = 536_870_912;
/// `W4AX_GPU_DECODE_MAX_M`.
pub const DECODE_MAX_M: usize = 16;
/// `W4AX_GPU_ALIGNMENT`.
pub const ALIGNMENT: usize = 128;

/// Which kernel is asked for, in values that the header has.
#[derive(Clone, Copy)]
struct Choice {
    width: Width,
    family: u32,
    mode: u32,
    tile: u32,
    pdl: bool,
}

impl Choice {
    fn new(width: u32, family: u32, mode: u32, tile: u32, flags: u32) -> Result<Self> {
        Ok(Self {
            width: types::width(width)?,
            family: types::family(family)?,
            mode: types::mode(mode)?,
            tile,
            pdl: types::pdl(flags)?,
        })
    }

    fn packed(&self) -> bool {
        self.mode == types::MODE_PACKED
    }
}

/// A GEMM by its numbers.
struct Problem {
    m: usize,
    n: usize,
    k: usize,
    grouping: Grouping,
    choice: Choice,
}

/// A GEMM whose arguments are checked, but for what the weight's shape and the kernels' table say. Addresses are the
/// device's; 0 stands for none.
struct Product<'a> {
    weight: &'a backend::Weight,
    x: usize,
    x_stride: usize,
    packed: Bytes,
    bias: usize,
    y: usize,
    y_stride: usize,
    workspace: Bytes,
    m: usize,
    n: usize,
    k: usize,
    choice: Choice,
}

/// Activations to quantize, checked like a [`Product`].
struct Pack {
    x: usize,
    x_stride: usize,
    packed: Bytes,
    m: usize,
    k: usize,
    width: Width,
    grouping: Grouping,
    family: u32,
    pdl: bool,
}

/// Activations to bring into an order, checked like a [`Product`].
struct Gather<'a> {
    order: &'a backend::Order,
    x: usize,
    x_stride: usize,
    gathered: usize,
    gathered_stride: usize,
    m: usize,
    k: usize,
    pdl: bool,
}

/// Device memory.
#[derive(Clone, Copy)]
struct Bytes {
    address: usize,
    len: usize,
}

impl From<&std::ops::Range<usize>> for Bytes {
    fn from(range: &std::ops::Range<usize>) -> Self {
        Self {
            address: range.start,
            len: range.len(),
        }
    }
}

/// Refuses a buffer that means nothing beside another one.
fn not_given<T>(what: &str, pointer: *const T, len: usize, because: &str) -> Result<()> {
    if pointer.is_null() && len == 0 {
        return Ok(());
    }
    let text = format!("{what}: it must be null, with a count of 0, {because}");
    Err(Failure::new(Status::OutOfRange, text))
}
