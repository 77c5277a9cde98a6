//! RMSNorm and `silu(gate) * up`, as BF16 rows or quantized at once.

use std::ffi::c_void;
use std::ops::Range;

use half::bf16;
use w4ax::{Grouping, Width};

use crate::enums::{self, Family};
use crate::limits::GPU_PDL;
use crate::raw::{self, Matrix};
use crate::row_op::HiddenMatrix;
use crate::status::{Failure, Result, Status, entry_points};

use super::device::Gpu;
use super::{Block, RowOpCall, RowOperation, aligned_block, unused};

/// `w4ax_gpu_rms_norm_args`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct GpuRmsNormArgs {
    pub x: *mut c_void,
    pub x_len: usize,
    pub x_stride: usize,
    pub addend: *const bf16,
    pub addend_len: usize,
    pub addend_stride: usize,
    pub norm: *const bf16,
    pub norm_len: usize,
    pub y: *mut bf16,
    pub y_len: usize,
    pub y_stride: usize,
    pub quantized: *mut c_void,
    pub quantized_bytes: usize,
    pub m: usize,
    pub k: usize,
    pub width: u32,
    pub grouping: u32,
    pub family: u32,
    pub x_type: u32,
    pub eps: f32,
    pub flags: u32,
}

/// `w4ax_gpu_silu_mul_args`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct GpuSiluMulArgs {
    pub gate: *const bf16,
    pub gate_len: usize,
    pub gate_stride: usize,
    pub up: *const bf16,
    pub up_len: usize,
    pub up_stride: usize,
    pub y: *mut bf16,
    pub y_len: usize,
    pub y_stride: usize,
    pub quantized: *mut c_void,
    pub quantized_bytes: usize,
    pub m: usize,
    pub k: usize,
    pub width: u32,
    pub grouping: u32,
    pub family: u32,
    pub flags: u32,
}

/// What both argument structures have: the result and how it is quantized.
struct RowOpResult {
    y: (*const bf16, usize),
    y_stride: usize,
    quantized: (*const c_void, usize),
    shape: [usize; 2],
    width: u32,
    grouping: u32,
    family: u32,
    flags: u32,
}

impl RowOpResult {
    /// Checks the result against the inputs, and returns the call.
    fn call(self, operation: RowOperation, inputs: &[(&str, &Range<usize>)]) -> Result<RowOpCall> {
        let (width, grouping): (Width, Grouping) =
            (enums::value(self.width)?, enums::value(self.grouping)?);
        let family: Family = enums::value(self.family)?;
        let [pdl] = enums::flags(self.flags, [GPU_PDL])?;
        let [m, k] = self.shape;
        let y = Matrix::new("y", self.y, self.shape, self.y_stride);
        let (pointer, bytes) = self.quantized;
        let written = if width == Width::Bf16 {
            unused("quantized", pointer, bytes, "the width is W4AX_BF16")?;
            y.addresses()?
        } else {
            unused("y", self.y.0, self.y.1, "the width is not W4AX_BF16")?;
            let block = aligned_block("quantized", pointer, bytes)?;
            if pointer.is_null() {
                return Err(raw::null("quantized"));
            }
            block
        };
        let output = if width == Width::Bf16 {
            "y"
        } else {
            "quantized"
        };
        for (what, input) in inputs {
            raw::disjoint(&format!("{output} and {what}"), &written, input)?;
        }
        Ok(RowOpCall {
            operation,
            y_stride: y.stride(),
            output: Block::from(&written),
            m,
            k,
            width,
            grouping,
            family,
            pdl,
        })
    }
}

entry_points! {
    fn w4ax_gpu_rms_norm(gpu: *const Gpu, args: *const GpuRmsNormArgs, stream: *mut c_void) {
        let args = raw::arguments("args", args)?;
        let shape = [args.m, args.k];
        let x = (args.x.cast_const(), args.x_len);
        let x = HiddenMatrix::new(x, shape, args.x_stride, args.x_type)?;
        let norm = Matrix::vector("norm", args.norm, args.norm_len);
        let (read, weights) = (x.addresses()?, norm.addresses()?);
        if args.norm_len != args.k {
            let text = format!("norm with {} values: expected {}", args.norm_len, args.k);
            return Err(Failure::new(Status::BadShape, text));
        }
        let mut added = None;
        if raw::given(args.addend, args.addend_len) {
            let buffer = (args.addend, args.addend_len);
            let addend = Matrix::new("addend", buffer, shape, args.addend_stride);
            x.check_addend(&addend, &norm)?;
            added = Some((addend.addresses()?, addend.stride()));
        }
        let operation = RowOperation::RmsNorm {
            addend: added.as_ref().map(|(addend, stride)| (addend.start, *stride)),
            x: read.start,
            x_stride: if args.x_stride == 0 { args.k } else { args.x_stride },
            is_f32: matches!(x, HiddenMatrix::F32(_)),
            norm: weights.start,
            eps: args.eps,
        };
        let result = RowOpResult {
            y: (args.y.cast_const(), args.y_len),
            y_stride: args.y_stride,
            quantized: (args.quantized.cast_const(), args.quantized_bytes),
            shape,
            width: args.width,
            grouping: args.grouping,
            family: args.family,
            flags: args.flags,
        };
        let mut inputs = vec![("x", &read), ("norm", &weights)];
        inputs.extend(added.iter().map(|(addend, _)| ("addend", addend)));
        let call = result.call(operation, &inputs)?;
        raw::handle("gpu", gpu)?.0.row_op(&call, stream)
    }

    fn w4ax_gpu_silu_mul(gpu: *const Gpu, args: *const GpuSiluMulArgs, stream: *mut c_void) {
        let args = raw::arguments("args", args)?;
        let shape = [args.m, args.k];
        let gate = Matrix::new("gate", (args.gate, args.gate_len), shape, args.gate_stride);
        let up = Matrix::new("up", (args.up, args.up_len), shape, args.up_stride);
        let (gates, ups) = (gate.addresses()?, up.addresses()?);
        let operation = RowOperation::SiluMul {
            gate: gates.start,
            gate_stride: gate.stride(),
            up: ups.start,
            up_stride: up.stride(),
        };
        let result = RowOpResult {
            y: (args.y.cast_const(), args.y_len),
            y_stride: args.y_stride,
            quantized: (args.quantized.cast_const(), args.quantized_bytes),
            shape,
            width: args.width,
            grouping: args.grouping,
            family: args.family,
            flags: args.flags,
        };
        let call = result.call(operation, &[("gate", &gates), ("up", &ups)])?;
        raw::handle("gpu", gpu)?.0.row_op(&call, stream)
    }
}
