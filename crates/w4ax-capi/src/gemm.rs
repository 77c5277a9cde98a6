//! The GEMM.

use half::bf16;
use w4ax::Gemm;

use super::cpu::{Cpu, Workspace};
use super::raw::{self, Extent};
use super::status::{Failure, Status, entry};
use super::types;
use super::weight::Weight;

/// `w4ax_gemm_args`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct GemmArgs {
    pub weight: *const Weight,
    pub x: *const bf16,
    pub x_len: usize,
    pub x_stride: usize,
    pub bias: *const f32,
    pub bias_len: usize,
    pub y: *mut bf16,
    pub y_len: usize,
    pub y_stride: usize,
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub width: u32,
    pub reserved: u32,
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_cpu_gemm(
    cpu: *const Cpu,
    args: *const GemmArgs,
    workspace: *mut Workspace,
) -> Status {
    entry(|| {
        // SAFETY: the contract of this function.
        let (cpu, args, workspace) = unsafe {
            (
                raw::handle("cpu", cpu)?,
                raw::arguments("args", args)?,
                raw::handle("workspace", workspace)?,
            )
        };
        raw::reserved(args.reserved)?;
        let width = types::width(args.width)?;
        // SAFETY: the contract of this function.
        let weight = unsafe { &raw::handle("weight", args.weight)?.0 };
        if (args.n, args.k) != (weight.n(), weight.k()) {
            let (n, k) = (weight.n(), weight.k());
            let text = format!("weight: it is [{n}, {k}], not [{}, {}]", args.n, args.k);
            return Err(Failure::new(Status::BadShape, text));
        }
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
        // Before there are references: two that overlap, one of them mutable, must not be.
        let writes = raw::addresses("y", args.y, y)?;
        raw::disjoint("y and x", &writes, &raw::addresses("x", args.x, x)?)?;
        raw::disjoint(
            "y and bias",
            &writes,
            &raw::addresses("bias", args.bias, bias)?,
        )?;
        // SAFETY: the contract of this function; y overlaps neither x nor bias.
        let (x, bias, y) = unsafe {
            (
                raw::matrix("x", args.x, x)?,
                raw::slice("bias", args.bias, args.bias_len)?,
                raw::matrix_mut("y", args.y, y)?,
            )
        };
        let bias = (!args.bias.is_null() || args.bias_len > 0).then_some(bias);
        let mut workspace = workspace.take()?;
        let gemm = Gemm::new(x, weight, width).bias(bias);
        Ok(cpu.cpu.run(&gemm, y, &mut workspace)?)
    })
}
