//! Activations that are gathered once, for several GEMMs whose weights have one order of k.

use std::ffi::c_void;

use half::bf16;

use crate::enums;
use crate::limits::GPU_PDL;
use crate::raw::{self, Matrix};
use crate::status::{Failure, Status, entry_points};

use super::GatherCall;
use super::device::Gpu;
use super::weight::GpuWeight;

/// `w4ax_gpu_gather_args`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct GpuGatherArgs {
    pub weight: *const GpuWeight,
    pub x: *const bf16,
    pub x_len: usize,
    pub x_stride: usize,
    pub gathered: *mut bf16,
    pub gathered_len: usize,
    pub gathered_stride: usize,
    pub m: usize,
    pub k: usize,
    pub flags: u32,
    pub reserved: u32,
}

entry_points! {
    fn w4ax_gpu_gather(gpu: *const Gpu, args: *const GpuGatherArgs, stream: *mut c_void) {
        let args = raw::arguments("args", args)?;
        enums::reserved(args.reserved)?;
        let [pdl] = enums::flags(args.flags, [GPU_PDL])?;
        let shape = [args.m, args.k];
        let x = Matrix::new("x", (args.x, args.x_len), shape, args.x_stride);
        let buffer = (args.gathered.cast_const(), args.gathered_len);
        let gathered = Matrix::new("gathered", buffer, shape, args.gathered_stride);
        let (read, written) = (x.addresses()?, gathered.addresses()?);
        raw::disjoint("gathered and x", &written, &read)?;
        let weight = raw::handle("weight", args.weight)?;
        let gpu = raw::handle("gpu", gpu)?;
        let info = weight.0.info();
        if info.k != args.k {
            let text = format!("weight with {} inputs: expected {}", info.k, args.k);
            return Err(Failure::new(Status::BadShape, text));
        }
        if info.has_order == 0 {
            let text = "weight has no order of k: expected one that needs gathered activations";
            return Err(Failure::new(Status::OutOfRange, text));
        }
        if args.m == 0 {
            return Ok(());
        }
        let call = GatherCall {
            weight: &weight.0,
            x: read.start,
            x_stride: x.stride(),
            gathered: written.start,
            gathered_stride: gathered.stride(),
            m: args.m,
            k: args.k,
            pdl,
        };
        gpu.0.gather(&call, stream)
    }
}
