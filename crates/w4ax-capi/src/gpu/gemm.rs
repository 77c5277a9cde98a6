//! The GEMM on a device.

use std::ffi::c_void;

use half::bf16;

use super::device::Gpu;
use super::plan::GpuPlan;
use super::weight::GpuWeight;
use super::{ALIGNMENT, Bytes, Choice, Product, not_given, raw};
use crate::raw::Extent;
use crate::status::{Failure, Result, Status, entry};

/// `w4ax_gpu_gemm_args`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct GpuGemmArgs {
    pub weight: *const GpuWeight,
    pub x: *const bf16,
    pub x_len: usize,
    pub x_stride: usize,
    pub packed: *const c_void,
    pub packed_bytes: usize,
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

fn shape(what: &str, is: impl std::fmt::Display, not: impl std::fmt::Display) -> Failure {
    Failure::new(Status::BadShape, format!("{what}: it is {is}, not {not}"))
}

/// The arguments, checked; and the handles, once everything beside them is right.
///
/// # Safety
/// As the entry points.
unsafe fn check<'a>(
    gpu: *const Gpu,
    args: *const GpuGemmArgs,
    with_workspace: bool,
) -> Result<(&'a Gpu, Product<'a>)> {
    // SAFETY: passed on.
    let args = unsafe { raw::arguments("args", args)? };
    raw::reserved(args.reserved)?;
    let choice = Choice::new(args.width, args.family, args.mode, args.tile, args.flags)?;
    let x = Extent {
        len: args.x_len,
        rows: args.m,
        cols: args.k,
        stride: args.x_stride,
    };
    let y = Extent {
        len: args.y_len,
        rows: args.m,
        cols: args.n,
        stride: args.y_stride,
    };
    let bias = Extent {
        len: args.bias_len,
        rows: 1,
        cols: args.bias_len,
        stride: 0,
    };
    let nothing = 0..0;
    let (read, packed) = if choice.packed() {
        not_given("x", args.x, args.x_len, "as the activations are packed")?;
        let packed = raw::room("packed", args.packed, args.packed_bytes, ALIGNMENT)?;
        (nothing.clone(), packed)
    } else {
        let because = "as mode is not W4AX_MODE_PACKED";
        not_given("packed", args.packed, args.packed_bytes, because)?;
        (raw::addresses("x", args.x, x)?, nothing.clone())
    };
    if choice.packed() && args.m > 0 && args.packed.is_null() {
        let text = "packed is a null pointer";
        return Err(Failure::new(Status::NullPointer, text));
    }
    let written = raw::addresses("y", args.y, y)?;
    let bias = match args.bias.is_null() && args.bias_len == 0 {
        true => nothing.clone(),
        false => raw::addresses("bias", args.bias, bias)?,
    };
    if !args.bias.is_null() && args.bias_len != args.n {
        return Err(shape("bias", args.bias_len, args.n));
    }
    let workspace = match with_workspace {
        true => raw::room("workspace", args.workspace, args.workspace_bytes, ALIGNMENT)?,
        false => nothing,
    };
    for (other, what, beside) in [
        (&read, "y and x", "workspace and x"),
        (&packed, "y and packed", "workspace and packed"),
        (&bias, "y and bias", "workspace and bias"),
        (&workspace, "y and workspace", ""),
    ] {
        raw::disjoint(what, &written, other)?;
        if !beside.is_empty() {
            raw::disjoint(beside, &workspace, other)?;
        }
    }
    // SAFETY: passed on.
    let (weight, gpu) = unsafe {
        (
            raw::handle("weight", args.weight)?,
            raw::handle("gpu", gpu)?,
        )
    };
    let info = weight.0.info();
    if (args.n, args.k) != (info.n, info.k) {
        let (is, not) = ((info.n, info.k), (args.n, args.k));
        let text = |(n, k)| format!("[{n}, {k}]");
        return Err(shape("weight", text(is), text(not)));
    }
    let product = Product {
        weight: &weight.0,
        x: read.start,
        x_stride: x.stride(),
        packed: Bytes::from(&packed),
        bias: bias.start,
        y: written.start,
        y_stride: y.stride(),
        workspace: Bytes::from(&workspace),
        m: args.m,
        n: args.n,
        k: args.k,
        choice,
    };
    Ok((gpu, product))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_gpu_gemm(
    gpu: *const Gpu,
    args: *const GpuGemmArgs,
    stream: *mut c_void,
) -> Status {
    entry(|| {
        // SAFETY: the contract of this function.
        unsafe {
            let (gpu, product) = check(gpu, args, true)?;
            match product.m {
                0 => Ok(()),
                _ => gpu.0.gemm(&product, stream),
            }
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_gpu_plan_gemm(
    gpu: *const Gpu,
    args: *const GpuGemmArgs,
    plan: *mut GpuPlan,
) -> Status {
    entry(|| {
        // SAFETY: the contract of this function.
        let (plan, (gpu, product)) =
            unsafe { (raw::output("plan", plan)?, check(gpu, args, false)?) };
        plan.write(gpu.0.plan(&product)?);
        Ok(())
    })
}
