//! Launches of a GEMM.

mod activations;
pub(crate) mod options;
mod order;
pub(crate) mod table;

pub use activations::{ActivationLayout, OperandLayout, QuantizedActivations};
pub use options::{Family, GemmOptions, Mma, Mode, Plan, Problem};
pub use order::{DeviceActOrderWeight, DeviceOrder};
pub use table::{DeviceProps, KernelTable};

use super::memory::{DeviceMatMut, DeviceMatRef, Place, Target, Workspace};
use super::step::Latch;
use super::{DeviceWeight, Gpu, sys};
use crate::{Error, Result, WidthSource};
use activations::{Filled, FilledWidth};
use cudarc::driver::CudaStream;
use cudarc::driver::sys::CUstream;
use half::bf16;
use options::{check_gemm, extent, mode_code, stride};

/// One product `x[M, K] * W[N, K]^T + bias[N]`: what goes in, and how it is run.
#[derive(Clone, Copy, Debug)]
pub struct Gemm<'a> {
    x: Input<'a>,
    weight: &'a DeviceWeight,
    width: WidthSource<'a>,
    bias: Option<&'a DeviceMatRef<'a, f32>>,
    options: GemmOptions,
}

#[derive(Clone, Copy, Debug)]
enum Input<'a> {
    Bf16(&'a DeviceMatRef<'a, bf16>),
    Packed(&'a QuantizedActivations, Filled),
    /// For steps of 16 bits, and for the others.
    Both(&'a DeviceMatRef<'a, bf16>, &'a QuantizedActivations),
}

impl<'a> Gemm<'a> {
    /// A product of BF16 activations, quantized on the way to a [`Width`](crate::Width), or to what a [`Latch`] says.
    pub fn new(
        x: &'a DeviceMatRef<'a, bf16>,
        weight: &'a DeviceWeight,
        width: impl Into<WidthSource<'a>>,
    ) -> Self {
        Self {
            x: Input::Bf16(x),
            weight,
            width: width.into().read_flag(),
            bias: None,
            options: GemmOptions::default(),
        }
    }

    /// A product of activations that [`Gpu::quantize_pack`] has packed, for this and for other products. What they were packed
    /// for decides between the wgmma family and the other two.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if nothing was packed, or in other groups than the weight's, or at a latched width (see
    /// [`Gemm::packed_latched`]).
    pub fn packed(x: &'a QuantizedActivations, weight: &'a DeviceWeight) -> Result<Self> {
        let filled = x.filled()?;
        let FilledWidth::Fixed(width) = filled.width else {
            return Err(Error::Mismatch {
                what: "packed activations",
                expected: "activations of one width".into(),
                got: "those of a latched width, which go with x".into(),
            });
        };
        filled.check_grouping(weight)?;
        Ok(Self {
            x: Input::Packed(x, filled),
            weight,
            width: WidthSource::Fixed(width),
            bias: None,
            options: GemmOptions::default(),
        })
    }

    /// A product at a latched width: of what [`Gpu::quantize_pack`] has packed at the same latch, or, in a step of 16 bits, of
    /// the `x` that it was packed from.
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::Mismatch`] if nothing was packed, or something else: of another shape, in other groups than the weight's, at one
    /// width, or at another latch's.
    pub fn packed_latched(
        x: &'a DeviceMatRef<'a, bf16>,
        packed: &'a QuantizedActivations,
        weight: &'a DeviceWeight,
        latch: &'a Latch,
    ) -> Result<Self> {
        let filled = packed.filled()?;
        filled.check_grouping(weight)?;
        let (got, expected) = ([filled.m, filled.k], [x.rows(), x.cols()]);
        if got != expected {
            return Err(Error::shape("packed activations", expected, got));
        }
        // A latched width is packed as fragments only.
        if filled.width != FilledWidth::of(WidthSource::Latched(latch)) {
            return Err(Error::Mismatch {
                what: "packed activations",
                expected: "the width of the latch".into(),
                got: "another width".into(),
            });
        }
        Ok(Self {
            x: Input::Both(x, packed),
            weight,
            width: WidthSource::Latched(latch),
            bias: None,
            options: GemmOptions::default(),
        })
    }

    /// Adds `bias`, a matrix `[1, N]`, in f32 before the result is rounded.
    pub fn bias(self, bias: Option<&'a DeviceMatRef<'a, f32>>) -> Self {
        Self { bias, ..self }
    }

    /// Chooses the kernel.
    pub fn options(self, options: GemmOptions) -> Self {
        Self { options, ..self }
    }

    /// Tokens and inputs of x.
    fn shape(&self) -> (usize, usize) {
        match &self.x {
            Input::Bf16(x) | Input::Both(x, _) => (x.rows(), x.cols()),
            Input::Packed(_, filled) => (filled.m, filled.k),
        }
    }

    /// The options, with the family that packed activations leave.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the requested family reads another layout.
    fn chosen(&self) -> Result<GemmOptions> {
        let Input::Packed(_, filled) = self.x else {
            return Ok(self.options);
        };
        let layout = filled.layout;
        match (self.options.family, layout) {
            (None, OperandLayout::CoreMatrices) => Ok(GemmOptions {
                family: Some(Family::Wgmma),
                ..self.options
            }),
            // The C side refuses a family that reads none.
            (Some(family), _) if family.packed_layout().is_some_and(|l| l != layout) => {
                Err(Error::Mismatch {
                    what: "packed activations",
                    expected: format!("those of the {family} family"),
                    got: layout.to_string(),
                })
            }
            _ => Ok(self.options),
        }
    }

    fn x_place(&self) -> &Place {
        match self.x {
            Input::Bf16(x) | Input::Both(x, _) => &x.place,
            Input::Packed(x, _) => x.place(),
        }
    }

    /// Whether everything has the shape that the weight asks for.
    pub(crate) fn check_shapes(&self, y: &DeviceMatMut<'_, bf16>) -> Result<()> {
        let ((m, k), w) = (self.shape(), self.weight);
        let shape = |what, expected: [usize; 2], got: [usize; 2]| {
            if expected == got {
                return Ok(());
            }
            Err(Error::shape(what, expected, got))
        };
        shape("x", [m, w.k()], [m, k])?;
        shape("y", [m, w.n()], [y.rows(), y.cols()])?;
        if let Some(bias) = self.bias {
            shape("bias", [1, w.n()], [bias.rows(), bias.cols()])?;
        }
        Ok(())
    }

    /// Whether everything is where a launch on `target` may use it.
    fn check_places(&self, y: &DeviceMatMut<'_, bf16>, target: Target<'_>) -> Result<()> {
        self.weight.check_device(target.context.ordinal())?;
        self.x_place().check("x", target)?;
        if let Input::Both(_, packed) = self.x {
            packed.place().check("packed activations", target)?;
        }
        if let Some(latch) = self.width.place() {
            latch.check("latch", target)?;
        }
        y.place.check("y", target)?;
        self.bias
            .map_or(Ok(()), |bias| bias.place.check("bias", target))
    }

    /// The C side's arguments, without a workspace. `check_shapes` has passed; M is not 0.
    fn args(&self, y: &DeviceMatMut<'_, bf16>, gpu: &Gpu) -> Result<sys::w4axk_gemm_args> {
        let packed = matches!(self.x, Input::Packed(..) | Input::Both(..));
        let options = self.chosen()?;
        let mut args = sys::w4axk_gemm_args {
            weight: self.weight.as_args(),
            x: self.x_place().address as *const _,
            x_stride: match self.x {
                Input::Bf16(x) | Input::Both(x, _) => stride("row stride of x", x.stride())?,
                Input::Packed(..) => 0,
            },
            y: y.place.address as *mut _,
            y_stride: stride("row stride of y", y.stride())?,
            bias: self.bias.map_or(0, |bias| bias.place.address) as *const _,
            workspace: std::ptr::null_mut(),
            workspace_bytes: 0,
            m: extent("M", self.shape().0)?,
            width: self.width.code(),
            latch: self.width.state(),
            family: options.family.map_or(sys::W4AXK_AUTO, Family::code),
            mode: mode_code(packed, options.fused == Some(true)),
            tile: options.tile.unwrap_or(0),
            flags: options.flags(),
            device: gpu.number(),
            reserved: 0,
        };
        gpu.choices().fill(&options, &mut args);
        Ok(args)
    }
}

impl Gpu {
    /// What [`Gpu::gemm`] would do.
    ///
    /// # Errors
    /// As [`Gpu::gemm`]; [`Error::Range`] for M = 0 as well.
    pub fn plan(&self, gemm: &Gemm<'_>, y: &DeviceMatMut<'_, bf16>) -> Result<Plan> {
        gemm.check_shapes(y)?;
        Plan::of(&gemm.args(y, self)?)
    }

    /// What would run for these numbers on this device.
    ///
    /// # Errors
    /// As [`Problem::plan`].
    pub fn plan_problem(&self, problem: &Problem) -> Result<Plan> {
        problem.plan_on(self.number(), self.choices())
    }

    /// Launches `y[M, N] = x[M, K] * W[N, K]^T + bias[N]` on a stream, with the arithmetic of [`crate::numerics`].
    ///
    /// Nothing is allocated, nothing waits, and a stream that is being captured takes it as well. No cudarc event is
    /// recorded or waited for: all memory belongs to the stream of the launch (see [`DeviceMatRef`]), and who reads y on
    /// another stream orders the two, as with [`CudaStream::join`]. A graph keeps the bare addresses: what was captured
    /// must outlive it. M = 0 is allowed and does nothing.
    ///
    /// # Errors
    /// [`Error::Shape`] for shapes that do not fit together, [`Error::DeviceMismatch`] for something on another device or of another
    /// stream, [`Error::Range`] for a kernel that there is not, [`Error::Buffer`] for a workspace that is too small,
    /// [`Error::Cuda`] if the launch fails.
    pub fn gemm(
        &self,
        stream: &CudaStream,
        gemm: &Gemm<'_>,
        y: &mut DeviceMatMut<'_, bf16>,
        workspace: &mut Workspace,
    ) -> Result<()> {
        self.check_stream(stream)?;
        // SAFETY: a stream of this device's primary context, alive while it is borrowed.
        unsafe { self.launch_gemm(stream.into(), gemm, y, workspace) }
    }

    /// [`Gpu::gemm`] on a stream that is not cudarc's, such as the `cudaStream_t` of a runtime in C++.
    ///
    /// # Safety
    /// `stream` is alive, or null for the legacy default stream of the device's primary context. (One of another context is
    /// an [`Error::DeviceMismatch`].)
    ///
    /// # Errors
    /// As [`Gpu::gemm`].
    pub unsafe fn gemm_on_raw(
        &self,
        stream: CUstream,
        gemm: &Gemm<'_>,
        y: &mut DeviceMatMut<'_, bf16>,
        workspace: &mut Workspace,
    ) -> Result<()> {
        // SAFETY: the same contract.
        unsafe { self.launch_gemm(self.raw_target(stream), gemm, y, workspace) }
    }

    /// # Safety
    /// The stream of `target` is alive, or null.
    unsafe fn launch_gemm(
        &self,
        target: Target<'_>,
        gemm: &Gemm<'_>,
        y: &mut DeviceMatMut<'_, bf16>,
        workspace: &mut Workspace,
    ) -> Result<()> {
        gemm.check_shapes(y)?;
        gemm.check_places(y, target)?;
        workspace.place().check("workspace", target)?;
        if gemm.shape().0 == 0 {
            return Ok(());
        }
        // Packed activations of a latched width are where else they would be made.
        let (room, bytes) = match gemm.x {
            Input::Both(_, packed) => (packed.place().address, packed.bytes()),
            _ => (workspace.place().address, workspace.bytes()),
        };
        let args = sys::w4axk_gemm_args {
            workspace: room as *mut _,
            workspace_bytes: bytes as u64,
            ..gemm.args(y, self)?
        };
        // SAFETY: every address is one of this device's, as `check_places` has seen, and covers the shape that goes with
        // it, as the constructors of its type have seen (or their callers have promised). `y` and `workspace` are borrowed
        // mutably, so they overlap nothing else. The memory outlives the launch: what belongs to this stream is freed in its
        // order, a weight waits for the device before it is freed, and foreign memory is its owner's promise. The stream is
        // alive by the caller's promise.
        let status = unsafe { sys::w4axk_gemm(&args, target.stream.cast()) };
        check_gemm(&args, status)
    }

    /// A stream of this device's primary context, if the launch finds it to be one.
    pub(crate) fn raw_target(&self, stream: CUstream) -> Target<'_> {
        Target {
            context: self.context(),
            stream,
        }
    }
}
