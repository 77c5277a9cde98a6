//! The GEMM on a device.

use std::ffi::c_void;

use half::bf16;

use crate::enums;
use crate::gemm::check_weight;
use crate::limits::{GPU_GATHERED, GPU_PDL};
use crate::raw::{self, Matrix};
use crate::status::{Failure, Result, Status, entry_points};

use super::device::Gpu;
use super::plan::GpuPlan;
use super::weight::GpuWeight;
use super::{Block, GemmCall, KernelChoice, aligned_block, unused};

/// `w4ax_gpu_gemm_args`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct GpuGemmArgs {
    pub weight: *const GpuWeight,
    pub x: *const bf16,
    pub x_len: usize,
    pub x_stride: usize,
    pub quantized: *const c_void,
    pub quantized_bytes: usize,
    pub bias: *const f32,
    pub bias_len: usize,
    pub y: *mut bf16,
    pub y_len: usize,
    pub y_stride: usize,
    pub workspace: *mut c_void,
    pub workspace_bytes: usize,
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub width: u32,
    pub family: u32,
    pub mode: u32,
    pub tile: u32,
    pub flags: u32,
    pub reserved: u32,
}

/// Checks the arguments. The handles come last, so that every other error is the same in a build
/// that has no handles.
///
/// # Safety
/// As the functions of the ABI.
unsafe fn check<'a>(
    gpu: *const Gpu,
    args: *const GpuGemmArgs,
    with_workspace: bool,
) -> Result<(&'a Gpu, GemmCall<'a>)> {
    // SAFETY: passed on.
    let args = unsafe { raw::arguments("args", args)? };
    enums::reserved(args.reserved)?;
    let [pdl, gathered] = enums::flags(args.flags, [GPU_PDL, GPU_GATHERED])?;
    let choice = KernelChoice::new(args.width, args.family, args.mode, args.tile, pdl)?;
    let x = Matrix::new("x", (args.x, args.x_len), [args.m, args.k], args.x_stride);
    let buffer = (args.y.cast_const(), args.y_len);
    let y = Matrix::new("y", buffer, [args.m, args.n], args.y_stride);
    let none = 0..0;
    let (read, quantized) = if choice.quantized() {
        let because = "mode is W4AX_MODE_QUANTIZED";
        unused("x", args.x, args.x_len, because)?;
        let block = aligned_block("quantized", args.quantized, args.quantized_bytes)?;
        (none.clone(), block)
    } else {
        let because = "mode is not W4AX_MODE_QUANTIZED";
        unused("quantized", args.quantized, args.quantized_bytes, because)?;
        (x.addresses()?, none.clone())
    };
    if choice.quantized() && args.m > 0 && args.quantized.is_null() {
        return Err(raw::null("quantized"));
    }
    let written = y.addresses()?;
    let bias = match raw::given(args.bias, args.bias_len) {
        true => Matrix::vector("bias", args.bias, args.bias_len).addresses()?,
        false => none.clone(),
    };
    if !args.bias.is_null() && args.bias_len != args.n {
        let text = format!("bias of {} elements: expected {}", args.bias_len, args.n);
        return Err(Failure::new(Status::BadShape, text));
    }
    let workspace = match with_workspace {
        true => aligned_block("workspace", args.workspace, args.workspace_bytes)?,
        false => none,
    };
    raw::disjoint("y and workspace", &written, &workspace)?;
    for (input, with_y, with_workspace) in [
        (&read, "y and x", "workspace and x"),
        (&quantized, "y and quantized", "workspace and quantized"),
        (&bias, "y and bias", "workspace and bias"),
    ] {
        raw::disjoint(with_y, &written, input)?;
        raw::disjoint(with_workspace, &workspace, input)?;
    }
    // SAFETY: passed on.
    let (weight, gpu) = unsafe {
        let weight = raw::handle("weight", args.weight)?;
        (weight, raw::handle("gpu", gpu)?)
    };
    let info = weight.0.info();
    check_weight([info.n, info.k], [args.n, args.k])?;
    let call = GemmCall {
        weight: &weight.0,
        x: read.start,
        x_stride: x.stride(),
        quantized: Block::from(&quantized),
        bias: bias.start,
        y: written.start,
        y_stride: y.stride(),
        workspace: Block::from(&workspace),
        m: args.m,
        n: args.n,
        k: args.k,
        gathered,
        choice,
    };
    Ok((gpu, call))
}

entry_points! {
    fn w4ax_gpu_gemm(gpu: *const Gpu, args: *const GpuGemmArgs, stream: *mut c_void) {
        let (gpu, call) = check(gpu, args, true)?;
        match call.m {
            0 => Ok(()),
            _ => gpu.0.gemm(&call, stream),
        }
    }

    fn w4ax_gpu_plan_gemm(gpu: *const Gpu, args: *const GpuGemmArgs, plan: *mut GpuPlan) {
        let plan = raw::output("plan", plan)?;
        let (gpu, call) = check(gpu, args, false)?;
        plan.write(gpu.0.plan(&call)?);
        Ok(())
    }
}
