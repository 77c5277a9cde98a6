//! Launches: a GEMM, and the quantisation that several GEMMs share.

use super::matrix::{DeviceMatMut, DeviceMatRef, Place, Target};
use super::options::{GemmOptions, Plan, check_gemm, extent, group_code, mode_code, stride};
use super::workspace::Filled;
use super::{DeviceWeight, Family, Gpu, PackedActivations, Workspace, ffi, status};
use crate::{Error, Grouping, Precision, Result};
use cudarc::driver::{CudaStream, sys};
use half::bf16;

/// One product `x[M, K] * W[N, K]^T + bias[N]`: what goes in, and how it is run.
#[derive(Clone, Copy, Debug)]
pub struct Gemm<'a> {
    x: Input<'a>,
    weight: &'a DeviceWeight,
    precision: Precision,
    bias: Option<&'a DeviceMatRef<'a, f32>>,
    options: GemmOptions,
}

#[derive(Clone, Copy, Debug)]
enum Input<'a> {
    Bf16(&'a DeviceMatRef<'a, bf16>),
    Packed(&'a PackedActivations, Filled),
}

impl<'a> Gemm<'a> {
    /// A product of BF16 activations, quantised to `precision` on the way.
    pub fn new(
        x: &'a DeviceMatRef<'a, bf16>,
        weight: &'a DeviceWeight,
        precision: Precision,
    ) -> Self {
        Self {
            x: Input::Bf16(x),
            weight,
            precision,
            bias: None,
            options: GemmOptions::default(),
        }
    }

    /// A product of activations that [`Gpu::quantize_pack`] has packed, for this and for other products.
    ///
    /// # Errors
    /// [`Error::Shape`] if nothing was packed, or in other groups than the weight's.
    pub fn packed(x: &'a PackedActivations, weight: &'a DeviceWeight) -> Result<Self> {
        let filled = x.filled()?;
        if filled.grouping != weight.grouping() {
            return Err(Error::Shape {
                what: "packed activations",
                expected: format!("the weight's groups, {}", weight.grouping()),
                got: filled.grouping.to_string(),
            });
        }
        Ok(Self {
            x: Input::Packed(x, filled),
            weight,
            precision: filled.precision,
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
            Input::Bf16(x) => (x.rows(), x.cols()),
            Input::Packed(_, filled) => (filled.m, filled.k),
        }
    }

    fn x_place(&self) -> &Place {
        match self.x {
            Input::Bf16(x) => &x.place,
            Input::Packed(x, _) => x.place(),
        }
    }

    /// Whether everything has the shape that the weight asks for.
    fn check_shapes(&self, y: &DeviceMatMut<'_, bf16>) -> Result<()> {
        let ((m, k), w) = (self.shape(), self.weight);
        let shape = |what, expected: (usize, usize), got: (usize, usize)| {
            if expected == got {
                return Ok(());
            }
            Err(Error::Shape {
                what,
                expected: format!("[{}, {}]", expected.0, expected.1),
                got: format!("[{}, {}]", got.0, got.1),
            })
        };
        shape("x", (m, w.k()), (m, k))?;
        shape("y", (m, w.n()), (y.rows(), y.cols()))?;
        if let Some(bias) = self.bias {
            shape("bias", (1, w.n()), (bias.rows(), bias.cols()))?;
        }
        Ok(())
    }

    /// Whether everything is where a launch on `target` may use it.
    fn check_places(&self, y: &DeviceMatMut<'_, bf16>, target: Target<'_>) -> Result<()> {
        self.weight.check_device(target.context.ordinal())?;
        self.x_place().check("x", target)?;
        y.place.check("y", target)?;
        self.bias
            .map_or(Ok(()), |bias| bias.place.check("bias", target))
    }

    /// The C side's arguments, without a workspace. `check_shapes` has passed; M is not 0.
    fn args(&self, y: &DeviceMatMut<'_, bf16>, device: i32) -> Result<ffi::w4axk_gemm_args> {
        let packed = matches!(self.x, Input::Packed(..));
        Ok(ffi::w4axk_gemm_args {
            weight: self.weight.as_args(),
            x: self.x_place().address as *const _,
            x_stride: match self.x {
                Input::Bf16(x) => stride("row stride of x", x.stride())?,
                Input::Packed(..) => 0,
            },
            y: y.place.address as *mut _,
            y_stride: stride("row stride of y", y.stride())?,
            bias: self.bias.map_or(0, |bias| bias.place.address) as *const _,
            workspace: std::ptr::null_mut(),
            workspace_bytes: 0,
            m: extent("M", self.shape().0)?,
            width: self.precision.bits(),
            family: self.options.family.map_or(ffi::W4AXK_AUTO, Family::code),
            mode: mode_code(packed, self.options.fused),
            tile: self.options.tile.unwrap_or(0),
            flags: self.options.flags(),
            device,
            reserved: 0,
        })
    }
}

impl Gpu {
    /// What [`Gpu::gemm`] would do.
    ///
    /// # Errors
    /// As [`Gpu::gemm`]; [`Error::Range`] for M = 0 as well.
    pub fn plan(&self, gemm: &Gemm<'_>, y: &DeviceMatMut<'_, bf16>) -> Result<Plan> {
        gemm.check_shapes(y)?;
        Plan::of(&gemm.args(y, self.number())?)
    }

    /// Launches `y[M, N] = x[M, K] * W[N, K]^T + bias[N]` on a stream, with the arithmetic of [`crate::numerics`].
    ///
    /// Nothing is allocated, nothing waits, and a stream that is being captured takes it as well. No cudarc event is
    /// recorded or waited for: all memory belongs to the stream of the launch (see [`DeviceMatRef`]), and who reads y on
    /// another stream orders the two, as with [`CudaStream::join`]. A graph keeps the bare addresses: what was captured
    /// must outlive it. M = 0 is allowed and does nothing.
    ///
    /// # Errors
    /// [`Error::Shape`] for shapes that do not fit together, [`Error::Place`] for something on another device or of another
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
    /// an [`Error::Place`].)
    ///
    /// # Errors
    /// As [`Gpu::gemm`].
    pub unsafe fn gemm_on_raw(
        &self,
        stream: sys::CUstream,
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
        let args = ffi::w4axk_gemm_args {
            workspace: workspace.place().address as *mut _,
            workspace_bytes: workspace.bytes() as u64,
            ..gemm.args(y, self.number())?
        };
        // SAFETY: every address is one of this device's, as `check_places` has seen, and covers the shape that goes with
        // it, as the constructors of its type have seen (or their callers have promised). `y` and `workspace` are borrowed
        // mutably, so they overlap nothing else. The memory outlives the launch: what belongs to this stream is freed in its
        // order, a weight waits for the device before it is freed, and foreign memory is its owner's promise. The stream is
        // alive by the caller's promise.
        let status = unsafe { ffi::w4axk_gemm(&args, target.stream.cast()) };
        check_gemm(&args, status)
    }

    /// Launches the quantisation of x for every GEMM that reads it with this width and these groups: those of q, k and v,
    /// or of gate and up. Allocates nothing, waits for nothing, can be captured.
    ///
    /// # Errors
    /// [`Error::Range`] for BF16 or an empty x, [`Error::Buffer`] if `packed` has too little room, [`Error::Place`] for
    /// something on another device or of another stream, [`Error::Cuda`] if the launch fails.
    pub fn quantize_pack(
        &self,
        stream: &CudaStream,
        x: &DeviceMatRef<'_, bf16>,
        precision: Precision,
        grouping: Grouping,
        packed: &mut PackedActivations,
    ) -> Result<()> {
        self.check_stream(stream)?;
        // SAFETY: a stream of this device's primary context, alive while it is borrowed.
        unsafe { self.launch_quantize(stream.into(), x, (precision, grouping), packed, false) }
    }

    /// [`Gpu::quantize_pack`] on a stream that is not cudarc's; with `pdl` as in [`GemmOptions::pdl`].
    ///
    /// # Safety
    /// As [`Gpu::gemm_on_raw`].
    ///
    /// # Errors
    /// As [`Gpu::quantize_pack`].
    pub unsafe fn quantize_pack_on_raw(
        &self,
        stream: sys::CUstream,
        x: &DeviceMatRef<'_, bf16>,
        precision: Precision,
        grouping: Grouping,
        packed: &mut PackedActivations,
        pdl: bool,
    ) -> Result<()> {
        // SAFETY: the same contract.
        unsafe {
            self.launch_quantize(
                self.raw_target(stream),
                x,
                (precision, grouping),
                packed,
                pdl,
            )
        }
    }

    /// # Safety
    /// As `launch_gemm`.
    unsafe fn launch_quantize(
        &self,
        target: Target<'_>,
        x: &DeviceMatRef<'_, bf16>,
        (precision, grouping): (Precision, Grouping),
        packed: &mut PackedActivations,
        pdl: bool,
    ) -> Result<()> {
        x.place.check("x", target)?;
        packed.place().check("packed activations", target)?;
        let (m, k) = (x.rows(), x.cols());
        let needed = PackedActivations::bytes_for(m, k, precision, grouping)?;
        if needed > packed.bytes() {
            return Err(Error::Buffer {
                what: "bytes for packed activations",
                needed,
                got: packed.bytes(),
            });
        }
        let args = ffi::w4axk_quantize_args {
            x: x.place.address as *const _,
            x_stride: stride("row stride of x", x.stride())?,
            packed: packed.place().address as *mut _,
            packed_bytes: packed.bytes() as u64,
            m: extent("M", m)?,
            k: extent("K", k)?,
            width: precision.bits(),
            group: group_code(grouping),
            flags: if pdl { ffi::W4AXK_FLAG_PDL } else { 0 },
            device: self.number(),
        };
        packed.refill(None);
        // SAFETY: as in `launch_gemm`: x and the packed activations are of this device, large enough, and outlive the launch.
        let status = unsafe { ffi::w4axk_quantize_pack(&args, target.stream.cast()) };
        status::check("quantize_pack", status)?;
        packed.refill(Some(Filled {
            m,
            k,
            precision,
            grouping,
        }));
        Ok(())
    }

    /// A stream of this device's primary context, if the launch finds it to be one.
    fn raw_target(&self, stream: sys::CUstream) -> Target<'_> {
        Target {
            context: self.context(),
            stream,
        }
    }
}
