//! Activations that are quantized once for several GEMMs: their memory and their contents.

use super::limits::{extent, inputs};
use crate::cuda::memory::{DeviceBuffer, Place};
use crate::cuda::sys::enums::{grouping_code, width_code};
use crate::cuda::sys::{self, status};
use crate::cuda::{DeviceWeight, Gpu, OperandLayout};
use crate::{Error, Grouping, Result, Width};
use cudarc::driver::CudaStream;
use cudarc::driver::sys::CUdeviceptr;
use std::sync::Arc;

/// How activations are quantized: the groups, and the layout that a family of kernels reads.
///
/// ```
/// use w4ax::Grouping;
/// use w4ax::cuda::{ActivationLayout, Family, OperandLayout};
/// // For the GEMMs of a plan of the wgmma family:
/// let operand = Family::Wgmma.activation_layout().expect("only the plain family has none");
/// let layout = ActivationLayout::new(Grouping::G128).with_operand(operand);
/// assert_eq!(layout.operand(), OperandLayout::CoreMatrices);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ActivationLayout {
    grouping: Grouping,
    operand: OperandLayout,
    gathered: bool,
    pdl: bool,
}

impl ActivationLayout {
    /// The layout for decode and prefill, in the groups of the weights that will read it
    /// ([`DeviceWeight::activation_grouping`]).
    pub fn new(grouping: Grouping) -> Self {
        Self {
            grouping,
            operand: OperandLayout::Fragments,
            gathered: false,
            pdl: false,
        }
    }

    /// Selects the kernels that will read the activations:
    /// [`Family::activation_layout`](crate::cuda::Family::activation_layout) of the family of a
    /// plan.
    #[must_use]
    pub fn with_operand(self, operand: OperandLayout) -> Self {
        Self { operand, ..self }
    }

    /// Whether the activations are in the order of k of the weights that will read them
    /// ([`Gpu::gather`]).
    #[must_use]
    pub fn with_gathered(self, gathered: bool) -> Self {
        Self { gathered, ..self }
    }

    /// As [`GemmOptions::with_pdl`](crate::cuda::GemmOptions::with_pdl).
    #[must_use]
    pub fn with_pdl(self, pdl: bool) -> Self {
        Self { pdl, ..self }
    }

    /// The groups.
    pub fn grouping(&self) -> Grouping {
        self.grouping
    }

    /// The layout of the codes.
    pub fn operand(&self) -> OperandLayout {
        self.operand
    }

    /// Whether the activations are in the order of k of a weight.
    pub fn gathered(&self) -> bool {
        self.gathered
    }

    /// Whether programmatic dependent launch is enabled.
    pub fn pdl(&self) -> bool {
        self.pdl
    }
}

impl From<Grouping> for ActivationLayout {
    fn from(grouping: Grouping) -> Self {
        Self::new(grouping)
    }
}

/// Activations of 2, 4 or 8 bits on a device, quantized once and read by any number of GEMMs on the
/// same stream.
///
/// [`Gpu::quantized_activations`] allocates the memory. [`Gpu::quantize`] fills it, any number of
/// times, for the kernels of any family.
pub struct QuantizedActivations {
    memory: DeviceBuffer,
    contents: Option<Contents>,
}

/// The contents of [`QuantizedActivations`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Contents {
    pub m: usize,
    pub k: usize,
    /// `None`: the width that the latch held.
    pub width: Option<Width>,
    /// The address of the state of the latch, or 0.
    pub latch: CUdeviceptr,
    pub layout: ActivationLayout,
}

impl Contents {
    /// Checks that a weight has the groups and the order of k of the activations.
    pub fn check_weight(&self, weight: &DeviceWeight) -> Result<()> {
        if self.layout.grouping != weight.activation_grouping() {
            return Err(wrong_contents(
                format!("the groups of the weight, {}", weight.activation_grouping()),
                self.layout.grouping.to_string(),
            ));
        }
        let order = |ordered| match ordered {
            true => "gathered activations",
            false => "activations in the order of the matrix",
        };
        if self.layout.gathered != weight.order().is_some() {
            return Err(wrong_contents(
                order(weight.order().is_some()).into(),
                order(self.layout.gathered).into(),
            ));
        }
        Ok(())
    }
}

/// The error for quantized activations that do not fit a GEMM.
pub(crate) fn wrong_contents(expected: String, got: String) -> Error {
    Error::Mismatch {
        what: "quantized activations",
        expected,
        got,
    }
}

impl QuantizedActivations {
    /// Returns the bytes of quantized activations `[m, k]`.
    ///
    /// # Errors
    /// [`Error::Range`] for BF16, which is not quantized, or an extent that the kernels do not
    /// support, [`Error::Unavailable`] in a build without kernels.
    pub fn bytes_for(
        m: usize,
        k: usize,
        width: Width,
        grouping: Grouping,
        operand: OperandLayout,
    ) -> Result<usize> {
        if width == Width::Bf16 {
            return Err(Error::Range {
                what: "width of quantized activations",
                value: width.to_string(),
                range: "a2, a4, a8",
            });
        }
        let (m, k) = (extent("M", m)?, inputs(k, grouping)?);
        let mut bytes = 0;
        // SAFETY: the function writes one number.
        status::check("packed_bytes", unsafe {
            sys::w4axk_packed_bytes(
                m,
                k,
                width_code(Some(width)),
                grouping_code(grouping),
                operand.code(),
                &mut bytes,
            )
        })?;
        Ok(bytes as usize)
    }

    /// Empty memory that cudarc does not own, for [`Gpu::quantize`].
    ///
    /// # Safety
    /// As [`Workspace::from_raw`](crate::cuda::Workspace::from_raw), for the launches that write
    /// and read it.
    pub unsafe fn from_raw(device: usize, address: CUdeviceptr, bytes: usize) -> Self {
        Self {
            // SAFETY: the same contract.
            memory: unsafe { DeviceBuffer::from_raw(device, address, bytes) },
            contents: None,
        }
    }

    /// Quantized activations `[m, k]` in memory that cudarc does not own, written by a quantization
    /// with the same arguments.
    ///
    /// If it had other arguments, a GEMM reads nothing beyond the memory, but its result has no
    /// meaning.
    ///
    /// # Safety
    /// As [`Workspace::from_raw`](crate::cuda::Workspace::from_raw), for the launches that read it.
    ///
    /// # Errors
    /// As [`QuantizedActivations::bytes_for`]; [`Error::Buffer`] if they need more than `bytes`.
    pub unsafe fn from_raw_filled(
        device: usize,
        address: CUdeviceptr,
        bytes: usize,
        (m, k): (usize, usize),
        width: Width,
        layout: impl Into<ActivationLayout>,
    ) -> Result<Self> {
        let layout = layout.into();
        // SAFETY: the same contract.
        let mut activations = unsafe { Self::from_raw(device, address, bytes) };
        activations.check_size((m, k), width, layout)?;
        activations.contents = Some(Contents {
            m,
            k,
            width: Some(width),
            latch: 0,
            layout,
        });
        Ok(activations)
    }

    /// Size of the memory in bytes.
    pub fn bytes(&self) -> usize {
        self.memory.bytes
    }

    /// The tokens, inputs, width and grouping of the contents; `None` before the first
    /// [`Gpu::quantize`]. A width of `None` is one that a latch holds.
    pub fn contents(&self) -> Option<(usize, usize, Option<Width>, Grouping)> {
        self.contents
            .map(|c| (c.m, c.k, c.width, c.layout.grouping))
    }

    /// The layout of the contents; `None` before the first [`Gpu::quantize`].
    pub fn layout(&self) -> Option<ActivationLayout> {
        self.contents.map(|c| c.layout)
    }

    pub(crate) fn place(&self) -> &Place {
        &self.memory.place
    }

    /// The contents.
    ///
    /// # Errors
    /// [`Error::Mismatch`] before the first [`Gpu::quantize`].
    pub(crate) fn filled(&self) -> Result<Contents> {
        self.contents.ok_or_else(|| {
            wrong_contents(
                "activations that Gpu::quantize wrote".into(),
                "an empty buffer".into(),
            )
        })
    }

    /// Sets the contents; `None` while a launch may have written a part of them.
    pub(crate) fn set_contents(&mut self, contents: Option<Contents>) {
        self.contents = contents;
    }

    /// Checks that activations `[m, k]` of this width fit into the memory.
    pub(crate) fn check_size(
        &self,
        (m, k): (usize, usize),
        width: Width,
        layout: ActivationLayout,
    ) -> Result<()> {
        let needed = Self::bytes_for(m, k, width, layout.grouping, layout.operand)?;
        if needed <= self.bytes() {
            return Ok(());
        }
        Err(Error::Buffer {
            what: "bytes of quantized activations",
            needed,
            got: self.bytes(),
        })
    }
}

impl Gpu {
    /// Allocates memory for quantized activations of up to `max_m` tokens and `max_k` inputs, of
    /// every width, grouping and layout.
    ///
    /// # Errors
    /// As [`Gpu::workspace`].
    pub fn quantized_activations(
        &self,
        stream: &Arc<CudaStream>,
        max_m: usize,
        max_k: usize,
    ) -> Result<QuantizedActivations> {
        self.check_stream(stream)?;
        // 8 bits in the smallest groups need the most memory.
        let mut most = 0;
        for operand in OperandLayout::ALL {
            let bytes =
                QuantizedActivations::bytes_for(max_m, max_k, Width::A8, Grouping::G32, operand)?;
            most = most.max(bytes);
        }
        Ok(QuantizedActivations {
            memory: DeviceBuffer::new(stream, most)?,
            contents: None,
        })
    }
}

impl std::fmt::Debug for QuantizedActivations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QuantizedActivations")
            .field("device", &self.memory.place.device)
            .field("bytes", &self.memory.bytes)
            .field("contents", &self.contents)
            .finish()
    }
}
