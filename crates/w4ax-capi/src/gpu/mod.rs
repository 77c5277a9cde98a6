//! GPUs: the functions that `include/w4ax_gpu.h` declares.
//!
//! Every build has these functions. They check what needs no device, in the same way in each
//! build, and then call `backend`: the CUDA backend of w4ax, or in a build without feature `cuda`
//! functions that return `W4AX_NO_BACKEND`.
// Without feature `cuda`, no code reads the checked arguments.
#![cfg_attr(not(feature = "cuda"), allow(dead_code))]

#[cfg(not(feature = "cuda"))]
mod absent;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "cuda")]
mod cuda_row_op;
mod device;
mod gather;
mod gemm;
mod plan;
mod quantize;
mod row_op;
mod weight;

#[cfg(not(feature = "cuda"))]
use absent as backend;
#[cfg(feature = "cuda")]
use cuda as backend;

pub use device::*;
pub use gather::*;
pub use gemm::*;
pub use plan::*;
pub use quantize::*;
pub use row_op::*;
pub use weight::*;

use std::ffi::c_void;
use std::ops::Range;

use w4ax::{Grouping, Width};

use super::enums::{self, Family, Mode};
use super::limits::GPU_ALIGNMENT;
use super::raw;
use super::status::{Failure, Result, Status};

/// The kernel that a call requests.
#[derive(Clone, Copy)]
struct KernelChoice {
    width: Width,
    family: Family,
    mode: Mode,
    tile: u32,
    pdl: bool,
}

impl KernelChoice {
    fn new(width: u32, family: u32, mode: u32, tile: u32, pdl: bool) -> Result<Self> {
        Ok(Self {
            width: enums::value(width)?,
            family: enums::value(family)?,
            mode: enums::value(mode)?,
            tile,
            pdl,
        })
    }

    /// Whether the activations are quantized ahead of the GEMM, by a call of the caller.
    fn quantized(&self) -> bool {
        self.mode == Mode::Quantized
    }
}

/// A GEMM by its sizes.
struct Problem {
    m: usize,
    n: usize,
    k: usize,
    grouping: Grouping,
    has_order: bool,
    choice: KernelChoice,
}

/// A GEMM. All is checked except for what depends on the table of kernels. Addresses are those of
/// the device; 0 is none.
struct GemmCall<'a> {
    weight: &'a backend::Weight,
    x: usize,
    x_stride: usize,
    quantized: Block,
    bias: usize,
    y: usize,
    y_stride: usize,
    workspace: Block,
    m: usize,
    n: usize,
    k: usize,
    gathered: bool,
    choice: KernelChoice,
}

/// Activations to quantize, checked as a [`GemmCall`].
struct QuantizeCall {
    x: usize,
    x_stride: usize,
    quantized: Block,
    m: usize,
    k: usize,
    width: Width,
    grouping: Grouping,
    family: Family,
    pdl: bool,
}

/// A row operation, checked as a [`GemmCall`].
struct RowOpCall {
    operation: RowOperation,
    /// y with [`Width::Bf16`], otherwise quantized activations.
    output: Block,
    y_stride: usize,
    m: usize,
    k: usize,
    width: Width,
    grouping: Grouping,
    family: Family,
    pdl: bool,
}

/// The inputs of a row operation.
enum RowOperation {
    RmsNorm {
        x: usize,
        x_stride: usize,
        /// Whether x is f32, otherwise BF16.
        is_f32: bool,
        /// What is added to x first, with its row stride.
        addend: Option<(usize, usize)>,
        norm: usize,
        eps: f32,
    },
    SiluMul {
        gate: usize,
        gate_stride: usize,
        up: usize,
        up_stride: usize,
    },
}

/// Activations to gather, checked as a [`GemmCall`].
struct GatherCall<'a> {
    weight: &'a backend::Weight,
    x: usize,
    x_stride: usize,
    gathered: usize,
    gathered_stride: usize,
    m: usize,
    k: usize,
    pdl: bool,
}

/// A block of device memory.
#[derive(Clone, Copy)]
struct Block {
    address: usize,
    len: usize,
}

impl From<&Range<usize>> for Block {
    fn from(range: &Range<usize>) -> Self {
        Self {
            address: range.start,
            len: range.len(),
        }
    }
}

/// Returns the value of a family that kernels belong to.
fn kernel_family(number: u32) -> Result<Family> {
    match enums::value(number)? {
        Family::Auto => Err(Failure::new(
            Status::BadEnum,
            "family is W4AX_FAMILY_AUTO: expected a family of kernels",
        )),
        family => Ok(family),
    }
}

/// Returns the addresses of a workspace or of quantized activations.
fn aligned_block(what: &str, pointer: *const c_void, bytes: usize) -> Result<Range<usize>> {
    raw::block(what, pointer, bytes, GPU_ALIGNMENT)
}

/// Refuses a buffer that the mode of a call does not use.
fn unused<T>(what: &str, pointer: *const T, len: usize, because: &str) -> Result<()> {
    if !raw::given(pointer, len) {
        return Ok(());
    }
    let text = format!("{what} is set, but {because}: expected null with a count of 0");
    Err(Failure::new(Status::OutOfRange, text))
}
