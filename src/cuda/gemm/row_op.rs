//! The launches of RMSNorm, alone or after an addition, and `silu(gate) * up`, as BF16 rows or
//! quantized at once.

use super::activations::{ActivationLayout, Contents, QuantizedActivations};
use super::limits::{extent, stride};
use super::options::pdl_flag;
use super::width::LaunchWidth;
use crate::cuda::Gpu;
use crate::cuda::memory::{DeviceMatMut, DeviceMatRef, DeviceVecRef, Place, StreamRef};
use crate::cuda::sys::enums::{grouping_code, width_code};
use crate::cuda::sys::{self, status};
use crate::row_op::check_eps;
use crate::{Error, Grouping, Result, Width, WidthSource};
use half::bf16;

/// The rows that an RMSNorm on a device reads, `[M, K]`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum HiddenState<'a> {
    /// In BF16.
    Bf16(&'a DeviceMatRef<'a, bf16>),
    /// In f32.
    F32(&'a DeviceMatRef<'a, f32>),
}

impl<'a> From<&'a DeviceMatRef<'a, bf16>> for HiddenState<'a> {
    fn from(x: &'a DeviceMatRef<'a, bf16>) -> Self {
        Self::Bf16(x)
    }
}

impl<'a> From<&'a DeviceMatRef<'a, f32>> for HiddenState<'a> {
    fn from(x: &'a DeviceMatRef<'a, f32>) -> Self {
        Self::F32(x)
    }
}

/// An RMSNorm on a device, `y = x / sqrt(mean(x^2) + eps) * weight` of each row of `x[M, K]`.
///
/// [`w4ax::RmsNorm`](crate::RmsNorm) is the same description for operands in host memory.
#[derive(Clone, Copy, Debug)]
pub struct RmsNorm<'a> {
    x: HiddenState<'a>,
    weight: &'a DeviceVecRef<'a, bf16>,
    eps: f32,
    pdl: bool,
}

impl<'a> RmsNorm<'a> {
    /// An RMSNorm of `x[M, K]`, BF16 or f32, with `weight[K]`.
    ///
    /// Shapes and `eps` are checked when it runs.
    pub fn new(
        x: impl Into<HiddenState<'a>>,
        weight: &'a DeviceVecRef<'a, bf16>,
        eps: f32,
    ) -> Self {
        Self {
            x: x.into(),
            weight,
            eps,
            pdl: false,
        }
    }

    /// As [`GemmOptions::with_pdl`](crate::cuda::GemmOptions::with_pdl).
    #[must_use]
    pub fn with_pdl(self, pdl: bool) -> Self {
        Self { pdl, ..self }
    }
}

/// The rows that an [`AddRmsNorm`] on a device reads and writes, `[M, K]`.
#[derive(Debug)]
#[non_exhaustive]
pub enum HiddenStateMut<'a, 'm> {
    /// In BF16.
    Bf16(&'a mut DeviceMatMut<'m, bf16>),
    /// In f32.
    F32(&'a mut DeviceMatMut<'m, f32>),
}

impl<'a, 'm> From<&'a mut DeviceMatMut<'m, bf16>> for HiddenStateMut<'a, 'm> {
    fn from(x: &'a mut DeviceMatMut<'m, bf16>) -> Self {
        Self::Bf16(x)
    }
}

impl<'a, 'm> From<&'a mut DeviceMatMut<'m, f32>> for HiddenStateMut<'a, 'm> {
    fn from(x: &'a mut DeviceMatMut<'m, f32>) -> Self {
        Self::F32(x)
    }
}

/// A residual connection and the RMSNorm after it on a device: `x += addend`, then `y = x /
/// sqrt(mean(x^2) + eps) * weight` of each row of `x[M, K]`.
///
/// [`w4ax::AddRmsNorm`](crate::AddRmsNorm) is the same description for operands in host memory.
#[derive(Debug)]
pub struct AddRmsNorm<'a, 'm> {
    x: HiddenStateMut<'a, 'm>,
    addend: &'a DeviceMatRef<'a, bf16>,
    weight: &'a DeviceVecRef<'a, bf16>,
    eps: f32,
    pdl: bool,
}

impl<'a, 'm> AddRmsNorm<'a, 'm> {
    /// An RMSNorm of `x[M, K]`, BF16 or f32, with `weight[K]`, after `addend[M, K]` has been added
    /// to x.
    ///
    /// Shapes and `eps` are checked when it runs.
    pub fn new(
        x: impl Into<HiddenStateMut<'a, 'm>>,
        addend: &'a DeviceMatRef<'a, bf16>,
        weight: &'a DeviceVecRef<'a, bf16>,
        eps: f32,
    ) -> Self {
        Self {
            x: x.into(),
            addend,
            weight,
            eps,
            pdl: false,
        }
    }

    /// As [`GemmOptions::with_pdl`](crate::cuda::GemmOptions::with_pdl).
    #[must_use]
    pub fn with_pdl(self, pdl: bool) -> Self {
        Self { pdl, ..self }
    }
}

/// `y = silu(gate) * up` of `gate[M, K]` and `up[M, K]` on a device.
///
/// [`w4ax::SiluMul`](crate::SiluMul) is the same description for operands in host memory.
#[derive(Clone, Copy, Debug)]
pub struct SiluMul<'a> {
    gate: &'a DeviceMatRef<'a, bf16>,
    up: &'a DeviceMatRef<'a, bf16>,
    pdl: bool,
}

impl<'a> SiluMul<'a> {
    /// The product of `silu(gate[M, K])` and `up[M, K]`.
    ///
    /// The shapes are checked when it runs.
    pub fn new(gate: &'a DeviceMatRef<'a, bf16>, up: &'a DeviceMatRef<'a, bf16>) -> Self {
        let pdl = false;
        Self { gate, up, pdl }
    }

    /// As [`GemmOptions::with_pdl`](crate::cuda::GemmOptions::with_pdl).
    #[must_use]
    pub fn with_pdl(self, pdl: bool) -> Self {
        Self { pdl, ..self }
    }
}

/// The hidden state of an RMSNorm.
struct Hidden<'a> {
    m: usize,
    k: usize,
    stride: usize,
    place: &'a Place,
    x_type: sys::w4axk_value_type,
}

impl<'a> Hidden<'a> {
    fn new<T>(x: &'a DeviceMatRef<'a, T>, x_type: sys::w4axk_value_type) -> Self {
        Self {
            m: x.rows(),
            k: x.cols(),
            stride: x.stride(),
            place: &x.place,
            x_type,
        }
    }

    fn of_mut<T>(x: &'a mut DeviceMatMut<'_, T>, x_type: sys::w4axk_value_type) -> Self {
        Self {
            m: x.rows(),
            k: x.cols(),
            stride: x.stride(),
            place: &x.place,
            x_type,
        }
    }
}

/// An operation, as the kernel library takes it.
struct Inputs<'a> {
    name: &'static str,
    m: usize,
    k: usize,
    places: Vec<(&'static str, &'a Place)>,
    args: sys::w4axk_row_op_args,
}

impl<'a> Inputs<'a> {
    fn rms_norm(norm: &RmsNorm<'a>) -> Result<Self> {
        let x = match norm.x {
            HiddenState::Bf16(x) => Hidden::new(x, sys::W4AXK_VALUE_BF16),
            HiddenState::F32(x) => Hidden::new(x, sys::W4AXK_VALUE_F32),
        };
        Self::norm(x, norm.weight, norm.eps, norm.pdl)
    }

    fn add_rms_norm(norm: AddRmsNorm<'a, '_>) -> Result<Self> {
        let x = match norm.x {
            HiddenStateMut::Bf16(x) => Hidden::of_mut(x, sys::W4AXK_VALUE_BF16),
            HiddenStateMut::F32(x) => Hidden::of_mut(x, sys::W4AXK_VALUE_F32),
        };
        let addend = norm.addend;
        let [expected, got] = [[x.m, x.k], [addend.rows(), addend.cols()]];
        if expected != got {
            return Err(Error::shape("addend", expected, got));
        }
        let mut inputs = Self::norm(x, norm.weight, norm.eps, norm.pdl)?;
        inputs.name = "add_rms_norm";
        inputs.places.push(("addend", &addend.place));
        inputs.args.addend = addend.place.address as *const _;
        inputs.args.addend_stride = stride("row stride of the addend", addend.stride())?;
        Ok(inputs)
    }

    fn norm(
        x: Hidden<'a>,
        weight: &'a DeviceVecRef<'a, bf16>,
        eps: f32,
        pdl: bool,
    ) -> Result<Self> {
        if weight.len() != x.k {
            return Err(Error::shape("weight of an RMSNorm", [x.k], [weight.len()]));
        }
        check_eps(eps)?;
        Ok(Self {
            name: "rms_norm",
            m: x.m,
            k: x.k,
            places: vec![("x", x.place), ("weight", &weight.place)],
            args: sys::w4axk_row_op_args {
                x: x.place.address as *mut _,
                x_stride: stride("row stride of x", x.stride)?,
                factor: weight.place.address as *const _,
                factor_stride: 0,
                op: sys::W4AXK_RMS_NORM,
                x_type: x.x_type,
                eps,
                flags: pdl_flag(pdl),
                ..Default::default()
            },
        })
    }

    fn silu_mul(silu: &SiluMul<'a>) -> Result<Self> {
        let (gate, up) = (silu.gate, silu.up);
        let (m, k) = (gate.rows(), gate.cols());
        if (up.rows(), up.cols()) != (m, k) {
            return Err(Error::shape("up", [m, k], [up.rows(), up.cols()]));
        }
        Ok(Self {
            name: "silu_mul",
            m,
            k,
            places: vec![("gate", &gate.place), ("up", &up.place)],
            args: sys::w4axk_row_op_args {
                x: gate.place.address as *mut _,
                x_stride: stride("row stride of gate", gate.stride())?,
                factor: up.place.address as *const _,
                factor_stride: stride("row stride of up", up.stride())?,
                op: sys::W4AXK_SILU_MUL,
                x_type: sys::W4AXK_VALUE_BF16,
                flags: pdl_flag(silu.pdl),
                ..Default::default()
            },
        })
    }
}

impl Gpu {
    /// Computes an RMSNorm `y[M, K]` with the arithmetic of [`crate::numerics`].
    ///
    /// The launch allocates nothing, does not synchronize, and can be captured. It does nothing for
    /// M = 0.
    ///
    /// # Errors
    /// [`Error::Shape`] if the weight does not have K values or y is not `[M, K]`, [`Error::Range`]
    /// if `eps` is not positive and finite or for an extent that the kernels do not support,
    /// [`Error::DeviceMismatch`] for an argument of another device or stream, [`Error::Cuda`] if
    /// the launch fails.
    pub fn rms_norm<'s>(
        &self,
        stream: impl Into<StreamRef<'s>>,
        norm: &RmsNorm<'_>,
        y: &mut DeviceMatMut<'_, bf16>,
    ) -> Result<()> {
        self.write_rows(stream.into(), Inputs::rms_norm(norm)?, y)
    }

    /// Adds to a hidden state and computes an RMSNorm `y[M, K]` of the sum in one launch, as
    /// [`Gpu::rms_norm`].
    ///
    /// # Errors
    /// As [`Gpu::rms_norm`]; [`Error::Shape`] if the addend does not have the shape of x.
    pub fn add_rms_norm<'s>(
        &self,
        stream: impl Into<StreamRef<'s>>,
        norm: AddRmsNorm<'_, '_>,
        y: &mut DeviceMatMut<'_, bf16>,
    ) -> Result<()> {
        self.write_rows(stream.into(), Inputs::add_rms_norm(norm)?, y)
    }

    /// Computes `y[M, K] = silu(gate) * up`, as [`Gpu::rms_norm`].
    ///
    /// # Errors
    /// As [`Gpu::rms_norm`].
    pub fn silu_mul<'s>(
        &self,
        stream: impl Into<StreamRef<'s>>,
        silu: &SiluMul<'_>,
        y: &mut DeviceMatMut<'_, bf16>,
    ) -> Result<()> {
        self.write_rows(stream.into(), Inputs::silu_mul(silu)?, y)
    }

    /// Quantizes an RMSNorm in one launch, with the bytes of [`Gpu::rms_norm`] and
    /// [`Gpu::quantize`] of its result.
    ///
    /// At a latched width, `y[M, K]` is required: it receives the BF16 rows in steps of 16 bits,
    /// and [`Gemm::quantized_latched`](crate::cuda::Gemm::quantized_latched) reads both. At another
    /// width y is not written.
    ///
    /// # Errors
    /// As [`Gpu::rms_norm`] and [`Gpu::quantize`]; [`Error::Mismatch`] for a layout of gathered
    /// activations, or if y is missing at a latched width.
    pub fn rms_norm_quantize<'s, 'w>(
        &self,
        stream: impl Into<StreamRef<'s>>,
        norm: &RmsNorm<'_>,
        width: impl Into<WidthSource<'w>>,
        layout: impl Into<ActivationLayout>,
        activations: &mut QuantizedActivations,
        y: Option<&mut DeviceMatMut<'_, bf16>>,
    ) -> Result<()> {
        let inputs = Inputs::rms_norm(norm)?;
        let how = (width.into(), layout.into());
        self.quantize_rows(stream.into(), inputs, how, activations, y)
    }

    /// Adds to a hidden state and quantizes an RMSNorm of the sum in one launch, as
    /// [`Gpu::rms_norm_quantize`].
    ///
    /// # Errors
    /// As [`Gpu::rms_norm_quantize`] and [`Gpu::add_rms_norm`].
    pub fn add_rms_norm_quantize<'s, 'w>(
        &self,
        stream: impl Into<StreamRef<'s>>,
        norm: AddRmsNorm<'_, '_>,
        width: impl Into<WidthSource<'w>>,
        layout: impl Into<ActivationLayout>,
        activations: &mut QuantizedActivations,
        y: Option<&mut DeviceMatMut<'_, bf16>>,
    ) -> Result<()> {
        let inputs = Inputs::add_rms_norm(norm)?;
        let how = (width.into(), layout.into());
        self.quantize_rows(stream.into(), inputs, how, activations, y)
    }

    /// Quantizes `silu(gate) * up` in one launch, as [`Gpu::rms_norm_quantize`].
    ///
    /// # Errors
    /// As [`Gpu::rms_norm_quantize`].
    pub fn silu_mul_quantize<'s, 'w>(
        &self,
        stream: impl Into<StreamRef<'s>>,
        silu: &SiluMul<'_>,
        width: impl Into<WidthSource<'w>>,
        layout: impl Into<ActivationLayout>,
        activations: &mut QuantizedActivations,
        y: Option<&mut DeviceMatMut<'_, bf16>>,
    ) -> Result<()> {
        let inputs = Inputs::silu_mul(silu)?;
        let how = (width.into(), layout.into());
        self.quantize_rows(stream.into(), inputs, how, activations, y)
    }

    fn write_rows(
        &self,
        stream: StreamRef<'_>,
        mut inputs: Inputs<'_>,
        y: &mut DeviceMatMut<'_, bf16>,
    ) -> Result<()> {
        self.check_stream(stream)?;
        set_rows(&mut inputs, stream, y)?;
        inputs.args.width = width_code(Some(Width::Bf16));
        // The kernels of groups also split a row over blocks.
        inputs.args.group = grouping_code(Grouping::G128);
        if inputs.m == 0 {
            return Ok(());
        }
        self.launch_row_op(stream, inputs)
    }

    fn quantize_rows(
        &self,
        stream: StreamRef<'_>,
        mut inputs: Inputs<'_>,
        (width, layout): (WidthSource<'_>, ActivationLayout),
        activations: &mut QuantizedActivations,
        y: Option<&mut DeviceMatMut<'_, bf16>>,
    ) -> Result<()> {
        let width = LaunchWidth::read(width);
        self.check_stream(stream)?;
        activations.place().check("quantized activations", stream)?;
        width.check(stream)?;
        let (m, k, operand) = (inputs.m, inputs.k, layout.operand());
        if layout.gathered() {
            return Err(Error::Mismatch {
                what: "layout of a row operation",
                expected: "activations in the order of the matrix".into(),
                got: "gathered activations: quantize the gathered BF16 rows instead".into(),
            });
        }
        if width.width.is_none() {
            let y = y.ok_or_else(|| Error::Mismatch {
                what: "y of a row operation at a latched width",
                expected: "rows for steps of 16 bits".into(),
                got: "none".into(),
            })?;
            set_rows(&mut inputs, stream, y)?;
        }
        // A latch may hold a width of up to 8 bits.
        activations.check_size((m, k), width.width.unwrap_or(Width::A8), layout)?;
        inputs.args = sys::w4axk_row_op_args {
            packed: activations.place().address as *mut _,
            packed_bytes: activations.bytes() as u64,
            width: width_code(width.width),
            latch: width.state(),
            group: grouping_code(layout.grouping()),
            family: operand.code(),
            flags: inputs.args.flags | pdl_flag(layout.pdl()),
            ..inputs.args
        };
        activations.set_contents(None);
        self.launch_row_op(stream, inputs)?;
        activations.set_contents(Some(Contents {
            m,
            k,
            width: width.width,
            latch: width.latch_address(),
            layout,
        }));
        Ok(())
    }

    /// Launches an operation whose outputs are set and checked.
    fn launch_row_op(&self, stream: StreamRef<'_>, inputs: Inputs<'_>) -> Result<()> {
        for (what, place) in inputs.places {
            place.check(what, stream)?;
        }
        let args = sys::w4axk_row_op_args {
            m: extent("M", inputs.m)?,
            k: extent("K", inputs.k)?,
            kernel: sys::W4AXK_ROW_OP_FAST,
            device: self.number(),
            ..inputs.args
        };
        // SAFETY: the inputs and outputs are memory of this device and stream, cover their shapes,
        // and outlive the launch, as in `Gpu::run`. The outputs are borrowed mutably, so they
        // overlap no input. The stream is alive.
        let status = unsafe { sys::w4axk_row_op_launch(&args, stream.as_ptr()) };
        status::check(inputs.name, status)
    }
}

/// Sets the rows that an operation writes.
fn set_rows(
    inputs: &mut Inputs<'_>,
    stream: StreamRef<'_>,
    y: &mut DeviceMatMut<'_, bf16>,
) -> Result<()> {
    let (expected, got) = ([inputs.m, inputs.k], [y.rows(), y.cols()]);
    if expected != got {
        return Err(Error::shape("y", expected, got));
    }
    y.place.check("y", stream)?;
    inputs.args.y = y.place.address as *mut _;
    inputs.args.y_stride = stride("row stride of y", y.stride())?;
    Ok(())
}
