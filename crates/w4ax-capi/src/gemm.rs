//! The GEMM on the CPU.

use half::bf16;
use w4ax::{Gemm, Width};

use super::cpu::{Cpu, Workspace, exclusive};
use super::enums;
use super::limits::GATHERED;
use super::raw::{self, Matrix};
use super::status::{Failure, Result, Status, entry_points};
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
    pub flags: u32,
}

/// Returns a failure unless the weight is `[n, k]`.
pub(super) fn check_weight([n, k]: [usize; 2], expected: [usize; 2]) -> Result<()> {
    if [n, k] == expected {
        return Ok(());
    }
    let [n_expected, k_expected] = expected;
    let text = format!("weight: shape [{n}, {k}]: expected [{n_expected}, {k_expected}]");
    Err(Failure::new(Status::BadShape, text))
}

entry_points! {
    fn w4ax_cpu_gemm(cpu: *const Cpu, args: *const GemmArgs, workspace: *mut Workspace) {
        let (cpu, args) = (raw::handle("cpu", cpu)?, raw::arguments("args", args)?);
        let workspace = raw::handle("workspace", workspace)?;
        let [gathered] = enums::flags(args.flags, [GATHERED])?;
        let width: Width = enums::value(args.width)?;
        let weight = &raw::handle("weight", args.weight)?.0;
        check_weight([weight.n(), weight.k()], [args.n, args.k])?;
        let x = Matrix::new("x", (args.x, args.x_len), [args.m, args.k], args.x_stride);
        let y = Matrix::new("y", (args.y, args.y_len), [args.m, args.n], args.y_stride);
        let bias = Matrix::vector("bias", args.bias, args.bias_len);
        // Checked before references exist: a mutable one must not overlap another.
        let written = y.addresses()?;
        raw::disjoint("y and x", &written, &x.addresses()?)?;
        raw::disjoint("y and bias", &written, &bias.addresses()?)?;
        let (x, y) = (x.get()?, y.get_mut()?);
        let bias = raw::optional_slice("bias", args.bias, args.bias_len)?;
        let gemm = match gathered {
            true => Gemm::gathered(x, weight, width),
            false => Gemm::new(x, weight, width),
        };
        let mut workspace = exclusive("workspace", &workspace.0)?;
        Ok(cpu.cpu.run(&gemm.bias(bias), y, &mut workspace)?)
    }
}
