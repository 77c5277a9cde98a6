//! Activations that are quantized once, for several GEMMs.

use std::ffi::c_void;

use half::bf16;

use crate::enums;
use crate::limits::GPU_PDL;
use crate::raw::{self, Matrix};
use crate::status::entry_points;

use super::device::Gpu;
use super::{Block, QuantizeCall, aligned_block, backend};

/// `w4ax_gpu_quantize_args`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct GpuQuantizeArgs {
    pub x: *const bf16,
    pub x_len: usize,
    pub x_stride: usize,
    pub quantized: *mut c_void,
    pub quantized_bytes: usize,
    pub m: usize,
    pub k: usize,
    pub width: u32,
    pub grouping: u32,
    pub family: u32,
    pub flags: u32,
}

entry_points! {
    fn w4ax_gpu_quantized_bytes(
        m: usize,
        k: usize,
        width: u32,
        grouping: u32,
        family: u32,
        bytes: *mut usize,
    ) {
        let (width, grouping) = (enums::value(width)?, enums::value(grouping)?);
        let family = enums::value(family)?;
        let bytes = raw::output("bytes", bytes)?;
        bytes.write(backend::quantized_bytes((m, k), width, grouping, family)?);
        Ok(())
    }

    fn w4ax_gpu_quantize(
        gpu: *const Gpu,
        args: *const GpuQuantizeArgs,
        stream: *mut c_void,
    ) {
        let args = raw::arguments("args", args)?;
        let (width, grouping) = (enums::value(args.width)?, enums::value(args.grouping)?);
        let family = enums::value(args.family)?;
        let [pdl] = enums::flags(args.flags, [GPU_PDL])?;
        let x = Matrix::new("x", (args.x, args.x_len), [args.m, args.k], args.x_stride);
        let read = x.addresses()?;
        let quantized = aligned_block("quantized", args.quantized, args.quantized_bytes)?;
        if args.quantized.is_null() {
            return Err(raw::null("quantized"));
        }
        raw::disjoint("quantized and x", &quantized, &read)?;
        let call = QuantizeCall {
            x: read.start,
            x_stride: x.stride(),
            quantized: Block::from(&quantized),
            m: args.m,
            k: args.k,
            width,
            grouping,
            family,
            pdl,
        };
        raw::handle("gpu", gpu)?.0.quantize(&call, stream)
    }
}
