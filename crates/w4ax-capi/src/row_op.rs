//! Quantized activations, RMSNorm and `silu(gate) * up` on the CPU.

use std::ffi::c_void;
use std::ops::Range;
use std::sync::Mutex;

use half::bf16;
use w4ax::cpu::{ActivationLayout, QuantizedActivations};
use w4ax::{AddRmsNorm, HiddenState, HiddenStateMut, RmsNorm, ScaleType, SiluMul, Width};

use super::cpu::{Cpu, Workspace, exclusive};
use super::enums;
use super::gemm::{GemmArgs, check_weight};
use super::limits::GATHERED;
use super::raw::{self, Matrix};
use super::status::{Failure, Result, Status, entry_points, free_functions};
use super::weight::Weight;

/// `w4ax_activations`. The lock detects two calls at once.
pub struct Activations(Mutex<QuantizedActivations>);

/// `w4ax_activation_args`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ActivationArgs {
    pub weight: *const Weight,
    pub x: *const bf16,
    pub x_len: usize,
    pub x_stride: usize,
    pub m: usize,
    pub k: usize,
    pub width: u32,
    pub flags: u32,
}

/// `w4ax_rms_norm_args`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct RmsNormArgs {
    pub weight: *const Weight,
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
    pub m: usize,
    pub k: usize,
    pub width: u32,
    pub x_type: u32,
    pub eps: f32,
    pub reserved: u32,
}

/// `w4ax_silu_mul_args`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct SiluMulArgs {
    pub weight: *const Weight,
    pub gate: *const bf16,
    pub gate_len: usize,
    pub gate_stride: usize,
    pub up: *const bf16,
    pub up_len: usize,
    pub up_stride: usize,
    pub y: *mut bf16,
    pub y_len: usize,
    pub y_stride: usize,
    pub m: usize,
    pub k: usize,
    pub width: u32,
    pub reserved: u32,
}

/// The x of an RMSNorm, whose type is a number.
pub(super) enum HiddenMatrix {
    Bf16(Matrix<bf16>),
    F32(Matrix<f32>),
}

impl HiddenMatrix {
    pub fn new(
        (x, len): (*const c_void, usize),
        shape: [usize; 2],
        stride: usize,
        x_type: u32,
    ) -> Result<Self> {
        match enums::value(x_type)? {
            ScaleType::Bf16 => Ok(Self::Bf16(Matrix::new("x", (x.cast(), len), shape, stride))),
            ScaleType::F32 => Ok(Self::F32(Matrix::new("x", (x.cast(), len), shape, stride))),
            _ => {
                let text = format!("x_type {x_type}: expected W4AX_TYPE_BF16 or W4AX_TYPE_F32");
                Err(Failure::new(Status::OutOfRange, text))
            }
        }
    }

    pub fn addresses(&self) -> Result<Range<usize>> {
        match self {
            Self::Bf16(x) => x.addresses(),
            Self::F32(x) => x.addresses(),
        }
    }

    /// # Safety
    /// As [`Matrix::get`].
    unsafe fn get<'a>(&self) -> Result<HiddenState<'a>> {
        // SAFETY: passed on.
        unsafe {
            match self {
                Self::Bf16(x) => Ok(x.get()?.into()),
                Self::F32(x) => Ok(x.get()?.into()),
            }
        }
    }

    /// # Safety
    /// As [`Matrix::get_mut`].
    unsafe fn get_mut<'a>(&self) -> Result<HiddenStateMut<'a>> {
        // SAFETY: passed on.
        unsafe {
            match self {
                Self::Bf16(x) => Ok(x.get_mut()?.into()),
                Self::F32(x) => Ok(x.get_mut()?.into()),
            }
        }
    }

    /// Refuses an addend and a weight of the norm that overlap x, which the sum is written to.
    pub fn check_addend(&self, addend: &Matrix<bf16>, norm: &Matrix<bf16>) -> Result<()> {
        let written = self.addresses()?;
        raw::disjoint("x and addend", &written, &addend.addresses()?)?;
        raw::disjoint("x and norm", &written, &norm.addresses()?)
    }
}

/// Where the result of a row operation goes.
enum Output<'a> {
    Rows(Matrix<bf16>),
    Quantized {
        width: Width,
        layout: ActivationLayout,
        to: &'a Activations,
    },
}

impl<'a> Output<'a> {
    /// # Safety
    /// As the functions that take these arguments.
    unsafe fn new(
        width: u32,
        weight: *const Weight,
        activations: *const Activations,
        y: Matrix<bf16>,
        y_buffer: (*const bf16, usize),
        k: usize,
    ) -> Result<Self> {
        let width: Width = enums::value(width)?;
        if width == Width::Bf16 {
            if !weight.is_null() || !activations.is_null() {
                let text = "weight or activations are set, but the width is W4AX_BF16: expected \
                            null";
                return Err(Failure::new(Status::OutOfRange, text));
            }
            return Ok(Self::Rows(y));
        }
        if raw::given(y_buffer.0, y_buffer.1) {
            let text = "y is set, but the width is not W4AX_BF16: expected null with a count of 0";
            return Err(Failure::new(Status::OutOfRange, text));
        }
        // SAFETY: passed on.
        let (weight, to) = unsafe {
            (
                &raw::handle("weight", weight)?.0,
                raw::handle("activations", activations)?,
            )
        };
        check_weight([weight.n(), weight.k()], [weight.n(), k])?;
        Ok(Self::Quantized {
            width,
            layout: ActivationLayout::of(weight),
            to,
        })
    }

    /// Checks that rows overlap none of the inputs.
    fn check_overlap(&self, inputs: &[(&str, Range<usize>)]) -> Result<()> {
        let Self::Rows(y) = self else { return Ok(()) };
        let written = y.addresses()?;
        for (what, input) in inputs {
            raw::disjoint(&format!("y and {what}"), &written, input)?;
        }
        Ok(())
    }
}

entry_points! {
    fn w4ax_activations_create(
        cpu: *const Cpu,
        max_m: usize,
        max_k: usize,
        activations: *mut *mut Activations,
    ) {
        raw::create("activations", activations, || {
            let made = raw::handle("cpu", cpu)?.cpu.quantized_activations(max_m, max_k)?;
            Ok(Activations(Mutex::new(made)))
        })
    }

    fn w4ax_activations_bytes(activations: *const Activations, bytes: *mut usize) {
        let activations = raw::handle("activations", activations)?;
        let bytes = raw::output("bytes", bytes)?;
        bytes.write(exclusive("activations", &activations.0)?.bytes());
        Ok(())
    }

    fn w4ax_cpu_quantize(
        cpu: *const Cpu,
        args: *const ActivationArgs,
        activations: *mut Activations,
    ) {
        let (cpu, args) = (raw::handle("cpu", cpu)?, raw::arguments("args", args)?);
        let activations = raw::handle("activations", activations)?;
        let [gathered] = enums::flags(args.flags, [GATHERED])?;
        let width: Width = enums::value(args.width)?;
        let weight = &raw::handle("weight", args.weight)?.0;
        check_weight([weight.n(), weight.k()], [weight.n(), args.k])?;
        if weight.order().is_some() && !gathered {
            let text = "the weight has an order of k: expected gathered activations and \
                        W4AX_GATHERED";
            return Err(Failure::new(Status::OutOfRange, text));
        }
        let x = Matrix::new("x", (args.x, args.x_len), [args.m, args.k], args.x_stride).get()?;
        let mut to = exclusive("activations", &activations.0)?;
        Ok(cpu.cpu.quantize(x, width, ActivationLayout::of(weight), &mut to)?)
    }

    fn w4ax_cpu_rms_norm(
        cpu: *const Cpu,
        args: *const RmsNormArgs,
        activations: *mut Activations,
    ) {
        let (cpu, args) = (raw::handle("cpu", cpu)?, raw::arguments("args", args)?);
        enums::reserved(args.reserved)?;
        let shape = [args.m, args.k];
        let x = (args.x.cast_const(), args.x_len);
        let x = HiddenMatrix::new(x, shape, args.x_stride, args.x_type)?;
        let norm = Matrix::vector("norm", args.norm, args.norm_len);
        let buffer = (args.y.cast_const(), args.y_len);
        let y = Matrix::new("y", buffer, shape, args.y_stride);
        let output = Output::new(args.width, args.weight, activations, y, buffer, args.k)?;
        // Checked before references exist: a mutable one must not overlap another.
        output.check_overlap(&[("x", x.addresses()?), ("norm", norm.addresses()?)])?;
        if raw::given(args.addend, args.addend_len) {
            let buffer = (args.addend, args.addend_len);
            let addend = Matrix::new("addend", buffer, shape, args.addend_stride);
            x.check_addend(&addend, &norm)?;
            output.check_overlap(&[("addend", addend.addresses()?)])?;
            let norm = raw::slice("norm", args.norm, args.norm_len)?;
            let norm = AddRmsNorm::new(x.get_mut()?, addend.get()?, norm, args.eps);
            return match output {
                Output::Rows(y) => Ok(cpu.cpu.add_rms_norm(norm, y.get_mut()?)?),
                Output::Quantized { width, layout, to } => {
                    let mut to = exclusive("activations", &to.0)?;
                    Ok(cpu.cpu.add_rms_norm_quantize(norm, width, layout, &mut to)?)
                }
            };
        }
        let norm = raw::slice("norm", args.norm, args.norm_len)?;
        let norm = RmsNorm::new(x.get()?, norm, args.eps);
        match output {
            Output::Rows(y) => Ok(cpu.cpu.rms_norm(&norm, y.get_mut()?)?),
            Output::Quantized { width, layout, to } => {
                let mut to = exclusive("activations", &to.0)?;
                Ok(cpu.cpu.rms_norm_quantize(&norm, width, layout, &mut to)?)
            }
        }
    }

    fn w4ax_cpu_silu_mul(
        cpu: *const Cpu,
        args: *const SiluMulArgs,
        activations: *mut Activations,
    ) {
        let (cpu, args) = (raw::handle("cpu", cpu)?, raw::arguments("args", args)?);
        enums::reserved(args.reserved)?;
        let shape = [args.m, args.k];
        let gate = Matrix::new("gate", (args.gate, args.gate_len), shape, args.gate_stride);
        let up = Matrix::new("up", (args.up, args.up_len), shape, args.up_stride);
        let buffer = (args.y.cast_const(), args.y_len);
        let y = Matrix::new("y", buffer, shape, args.y_stride);
        let output = Output::new(args.width, args.weight, activations, y, buffer, args.k)?;
        output.check_overlap(&[("gate", gate.addresses()?), ("up", up.addresses()?)])?;
        let silu = SiluMul::new(gate.get()?, up.get()?);
        match output {
            Output::Rows(y) => Ok(cpu.cpu.silu_mul(&silu, y.get_mut()?)?),
            Output::Quantized { width, layout, to } => {
                let mut to = exclusive("activations", &to.0)?;
                Ok(cpu.cpu.silu_mul_quantize(&silu, width, layout, &mut to)?)
            }
        }
    }

    fn w4ax_cpu_gemm_quantized(
        cpu: *const Cpu,
        args: *const GemmArgs,
        activations: *mut Activations,
        workspace: *mut Workspace,
    ) {
        let (cpu, args) = (raw::handle("cpu", cpu)?, raw::arguments("args", args)?);
        let activations = raw::handle("activations", activations)?;
        let workspace = raw::handle("workspace", workspace)?;
        let [_] = enums::flags(args.flags, [GATHERED])?;
        let width: Width = enums::value(args.width)?;
        let weight = &raw::handle("weight", args.weight)?.0;
        check_weight([weight.n(), weight.k()], [args.n, args.k])?;
        if raw::given(args.x, args.x_len) {
            let text = "x is set, but the activations are quantized: expected null with a count \
                        of 0";
            return Err(Failure::new(Status::OutOfRange, text));
        }
        let y = Matrix::new("y", (args.y.cast_const(), args.y_len), [args.m, args.n], args.y_stride);
        let bias = Matrix::vector("bias", args.bias, args.bias_len);
        raw::disjoint("y and bias", &y.addresses()?, &bias.addresses()?)?;
        let y = y.get_mut()?;
        let bias = raw::optional_slice("bias", args.bias, args.bias_len)?;
        let activations = exclusive("activations", &activations.0)?;
        if let Some((_, _, filled)) = activations.contents().filter(|c| c.2 != width) {
            let text = format!("width {width}: expected {filled}, that of the activations");
            return Err(Failure::new(Status::OutOfRange, text));
        }
        let mut workspace = exclusive("workspace", &workspace.0)?;
        Ok(cpu.cpu.run_quantized(&activations, weight, bias, y, &mut workspace)?)
    }
}

free_functions! {
    w4ax_activations_free(activations: Activations);
}
