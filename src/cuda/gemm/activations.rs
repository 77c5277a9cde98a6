//! Activations that are quantized once, for several GEMMs: where they lie, and the launch that makes them.

use super::options::{extent, group_code, inputs, stride};
use crate::cuda::memory::{DeviceMatRef, Memory, Place, Target};
use crate::cuda::sys::{self, status};
use crate::cuda::{DeviceWeight, Gpu};
use crate::{Error, Grouping, Result, Width, WidthSource};
use cudarc::driver::CudaStream;
use cudarc::driver::sys::{CUdeviceptr, CUstream};
use half::bf16;
use std::sync::Arc;

/// How packed activations lie: the same codes, in the order in which a kernel's `mma` takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OperandLayout {
    /// As a warp's B fragments, at 2, 4 or 8 bits a code: [`Family::Decode`](crate::cuda::Family::Decode) and
    /// [`Family::Prefill`](crate::cuda::Family::Prefill).
    Fragments,
    /// As the core matrices of a warpgroup's B operand, a byte a code: [`Family::Wgmma`](crate::cuda::Family::Wgmma).
    CoreMatrices,
}

impl OperandLayout {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Fragments, Self::CoreMatrices];

    /// A family that reads it, for the C side.
    pub(crate) const fn code(self) -> u32 {
        match self {
            Self::Fragments => sys::W4AXK_AUTO,
            Self::CoreMatrices => sys::W4AXK_WGMMA,
        }
    }
}

impl std::fmt::Display for OperandLayout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Fragments => "fragments (decode, prefill)",
            Self::CoreMatrices => "core matrices (wgmma)",
        })
    }
}

/// How activations are packed.
///
/// ```
/// use w4ax::Grouping;
/// use w4ax::cuda::{Family, OperandLayout, ActivationLayout};
/// // For the GEMMs of a plan of the wgmma family:
/// let layout = Family::Wgmma.packed_layout().expect("the plain family alone has none");
/// let packing = ActivationLayout { layout, ..Grouping::G128.into() };
/// assert_eq!(packing.layout, OperandLayout::CoreMatrices);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ActivationLayout {
    /// The groups: those of the weights that they will meet.
    pub grouping: Grouping,
    /// The kernels that will read them: [`Family::packed_layout`](crate::cuda::Family::packed_layout) of a plan's family.
    pub layout: OperandLayout,
    /// As [`GemmOptions::pdl`](crate::cuda::GemmOptions::pdl).
    pub pdl: bool,
}

impl From<Grouping> for ActivationLayout {
    /// For decode and prefill.
    fn from(grouping: Grouping) -> Self {
        Self {
            grouping,
            layout: OperandLayout::Fragments,
            pdl: false,
        }
    }
}

/// Activations in 2, 4 or 8 bits on a device, quantized once and read by any number of GEMMs of the same stream.
///
/// The memory is made by [`crate::cuda::Gpu::packed_activations`], filled by [`crate::cuda::Gpu::quantize_pack`] as often as one likes, for
/// the kernels of whichever family.
pub struct QuantizedActivations {
    memory: Memory,
    filled: Option<Filled>,
}

/// What [`QuantizedActivations`] hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Filled {
    pub m: usize,
    pub k: usize,
    pub width: FilledWidth,
    pub grouping: Grouping,
    pub layout: OperandLayout,
}

/// The width of packed activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FilledWidth {
    Fixed(Width),
    /// Whatever the latch of this address said.
    Latched(*const sys::w4axk_latch_state),
}

// SAFETY: the address is compared, and never followed.
unsafe impl Send for FilledWidth {}

impl FilledWidth {
    pub fn of(width: WidthSource<'_>) -> Self {
        match width.on_host() {
            Some(width) => Self::Fixed(width),
            None => Self::Latched(width.state()),
        }
    }
}

impl Filled {
    /// Whether a weight's groups are those that x was packed in.
    pub fn check_grouping(&self, weight: &DeviceWeight) -> Result<()> {
        if self.grouping == weight.grouping() {
            return Ok(());
        }
        Err(Error::Mismatch {
            what: "packed activations",
            expected: format!("the weight's groups, {}", weight.grouping()),
            got: self.grouping.to_string(),
        })
    }
}

impl QuantizedActivations {
    pub(crate) fn new(stream: &Arc<CudaStream>, max_m: usize, max_k: usize) -> Result<Self> {
        // 8 bits in the smallest groups take the most.
        let mut most = 0;
        for layout in OperandLayout::ALL {
            most = most.max(Self::bytes_for(
                max_m,
                max_k,
                Width::A8,
                Grouping::G32,
                layout,
            )?);
        }
        Ok(Self {
            memory: Memory::new(stream, most)?,
            filled: None,
        })
    }

    /// Bytes that packed activations take in a layout.
    ///
    /// # Errors
    /// [`Error::Range`] for BF16, which is not packed, or an extent that no kernel takes; [`Error::Unavailable`] in a build
    /// without kernels.
    pub fn bytes_for(
        m: usize,
        k: usize,
        width: Width,
        grouping: Grouping,
        layout: OperandLayout,
    ) -> Result<usize> {
        check_width(width)?;
        let (m, k) = (extent("M", m)?, inputs(k, grouping)?);
        let mut bytes = 0;
        // SAFETY: it writes one number.
        status::check("packed_bytes", unsafe {
            sys::w4axk_packed_bytes(
                m,
                k,
                width.bits(),
                group_code(grouping),
                layout.code(),
                &mut bytes,
            )
        })?;
        Ok(bytes as usize)
    }

    /// Packed activations in memory that is not cudarc's; empty, for [`crate::cuda::Gpu::quantize_pack`] to fill.
    ///
    /// # Safety
    /// As [`Workspace::from_raw`](crate::cuda::Workspace::from_raw), for the launches that fill it and those that read it.
    pub unsafe fn from_raw(device: usize, address: CUdeviceptr, bytes: usize) -> Self {
        Self {
            // SAFETY: the same contract.
            memory: unsafe { Memory::from_raw(device, address, bytes) },
            filled: None,
        }
    }

    /// Packed activations in memory that is not cudarc's, which somebody has filled by a `quantize_pack` of these numbers.
    /// (After one of others a GEMM reads nothing beyond the memory, and computes with numbers that mean nothing.)
    ///
    /// # Safety
    /// As [`Workspace::from_raw`](crate::cuda::Workspace::from_raw), for the launches that read it.
    ///
    /// # Errors
    /// As [`QuantizedActivations::bytes_for`]; [`Error::Buffer`] if they take more than `bytes`.
    pub unsafe fn from_raw_filled(
        device: usize,
        address: CUdeviceptr,
        bytes: usize,
        (m, k): (usize, usize),
        width: Width,
        grouping: Grouping,
        layout: OperandLayout,
    ) -> Result<Self> {
        let needed = Self::bytes_for(m, k, width, grouping, layout)?;
        if needed > bytes {
            return Err(Error::Buffer {
                what: "bytes of packed activations",
                needed,
                got: bytes,
            });
        }
        Ok(Self {
            // SAFETY: the same contract.
            memory: unsafe { Memory::from_raw(device, address, bytes) },
            filled: Some(Filled {
                m,
                k,
                width: FilledWidth::Fixed(width),
                grouping,
                layout,
            }),
        })
    }

    /// Bytes that it has room for.
    pub fn bytes(&self) -> usize {
        self.memory.bytes
    }

    /// Tokens, inputs, width and grouping of what it holds; `None` before it is filled. A width of `None` is a latched one.
    pub fn contents(&self) -> Option<(usize, usize, Option<Width>, Grouping)> {
        self.filled.map(|f| {
            let width = match f.width {
                FilledWidth::Fixed(width) => Some(width),
                FilledWidth::Latched(_) => None,
            };
            (f.m, f.k, width, f.grouping)
        })
    }

    /// For which kernels what it holds is packed; `None` before it is filled.
    pub fn layout(&self) -> Option<OperandLayout> {
        self.filled.map(|f| f.layout)
    }

    pub(crate) fn place(&self) -> &Place {
        &self.memory.place
    }

    pub(crate) fn filled(&self) -> Result<Filled> {
        self.filled.ok_or_else(|| Error::Mismatch {
            what: "packed activations",
            expected: "activations that quantize_pack wrote".into(),
            got: "an empty buffer".into(),
        })
    }

    /// Empties it, for the time that it may hold anything.
    pub(crate) fn refill(&mut self, filled: Option<Filled>) {
        self.filled = filled;
    }
}

fn check_width(width: Width) -> Result<()> {
    if width == Width::Bf16 {
        return Err(Error::Range {
            what: "width of packed activations",
            value: width.to_string(),
            range: "a2, a4, a8",
        });
    }
    Ok(())
}

impl std::fmt::Debug for QuantizedActivations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QuantizedActivations")
            .field("device", &self.memory.place.device)
            .field("bytes", &self.memory.bytes)
            .field("filled", &self.filled)
            .finish()
    }
}

impl Gpu {
    /// Launches the quantization of x for every GEMM that reads it with this width and packing: those of q, k and v, or of gate
    /// and up. Allocates nothing, waits for nothing, can be captured. The width is a [`Width`], or what a [`Latch`] says; in
    /// a step of 16 bits nothing is packed. The packing is a [`Grouping`], for decode and prefill, or a [`ActivationLayout`].
    ///
    /// # Errors
    /// [`Error::Range`] for BF16, an empty x, or core matrices at a latched width, [`Error::Buffer`] if `packed` has too little
    /// room, [`Error::DeviceMismatch`] for something on another device or of another stream, [`Error::Cuda`] if the launch fails.
    ///
    /// [`Latch`]: crate::cuda::Latch
    pub fn quantize_pack<'w>(
        &self,
        stream: &CudaStream,
        x: &DeviceMatRef<'_, bf16>,
        width: impl Into<WidthSource<'w>>,
        packing: impl Into<ActivationLayout>,
        packed: &mut QuantizedActivations,
    ) -> Result<()> {
        self.check_stream(stream)?;
        // SAFETY: a stream of this device's primary context, alive while it is borrowed.
        unsafe { self.launch_quantize(stream.into(), x, width.into(), packing.into(), packed) }
    }

    /// [`Gpu::quantize_pack`] on a stream that is not cudarc's.
    ///
    /// # Safety
    /// As [`Gpu::gemm_on_raw`].
    ///
    /// # Errors
    /// As [`Gpu::quantize_pack`].
    pub unsafe fn quantize_pack_on_raw<'w>(
        &self,
        stream: CUstream,
        x: &DeviceMatRef<'_, bf16>,
        width: impl Into<WidthSource<'w>>,
        packing: impl Into<ActivationLayout>,
        packed: &mut QuantizedActivations,
    ) -> Result<()> {
        let target = self.raw_target(stream);
        // SAFETY: the same contract.
        unsafe { self.launch_quantize(target, x, width.into(), packing.into(), packed) }
    }

    /// # Safety
    /// As `launch_gemm`.
    unsafe fn launch_quantize(
        &self,
        target: Target<'_>,
        x: &DeviceMatRef<'_, bf16>,
        width: WidthSource<'_>,
        packing: ActivationLayout,
        packed: &mut QuantizedActivations,
    ) -> Result<()> {
        let ActivationLayout {
            grouping,
            layout,
            pdl,
        } = packing;
        let width = width.read_flag();
        x.place.check("x", target)?;
        packed.place().check("packed activations", target)?;
        if let Some(latch) = width.place() {
            latch.check("latch", target)?;
        }
        let (m, k) = (x.rows(), x.cols());
        let widest = match width.on_host() {
            Some(width) => width,
            None if layout == OperandLayout::CoreMatrices => {
                return Err(Error::Range {
                    what: "layout of packed activations",
                    value: format!("{layout} at a latched width"),
                    range: "fragments (no kernel of the wgmma family is routed)",
                });
            }
            // The widest that it may be.
            None => Width::A8,
        };
        let needed = QuantizedActivations::bytes_for(m, k, widest, grouping, layout)?;
        if needed > packed.bytes() {
            return Err(Error::Buffer {
                what: "bytes for packed activations",
                needed,
                got: packed.bytes(),
            });
        }
        let args = sys::w4axk_quantize_args {
            x: x.place.address as *const _,
            x_stride: stride("row stride of x", x.stride())?,
            packed: packed.place().address as *mut _,
            packed_bytes: packed.bytes() as u64,
            m: extent("M", m)?,
            k: extent("K", k)?,
            width: width.code(),
            latch: width.state(),
            group: group_code(grouping),
            family: layout.code(),
            flags: if pdl { sys::W4AXK_FLAG_PDL } else { 0 },
            device: self.number(),
            reserved: 0,
        };
        packed.refill(None);
        // SAFETY: as in `launch_gemm`: x and the packed activations are of this device, large enough, and outlive the launch.
        let status = unsafe { sys::w4axk_quantize_pack(&args, target.stream.cast()) };
        status::check("quantize_pack", status)?;
        packed.refill(Some(Filled {
            m,
            k,
            width: FilledWidth::of(width),
            grouping,
            layout,
        }));
        Ok(())
    }
}
