//! Device memory that calls work in, and that they hand on: made once, by the caller's choice of stream.

use super::latch::Width;
use super::matrix::Place;
use super::options::{Family, GemmOptions, Problem, extent, group_code, inputs};
use super::{DeviceWeight, ffi, status};
use crate::{Error, Grouping, Precision, Result};
use cudarc::driver::{CudaSlice, CudaStream, DevicePtr, sys};
use std::sync::Arc;

/// Device memory that belongs to a stream. Freed in the stream's order.
struct Memory {
    place: Place,
    bytes: usize,
    /// `None`: foreign memory.
    _slice: Option<CudaSlice<u8>>,
}

impl Memory {
    fn new(stream: &Arc<CudaStream>, bytes: usize) -> Result<Self> {
        // SAFETY: kernels write what they read of it.
        let slice = unsafe { stream.alloc::<u8>(bytes.max(1)) }
            .map_err(status::driver("allocating device memory"))?;
        let (address, guard) = slice.device_ptr(stream);
        drop(guard);
        Ok(Self {
            place: Place {
                address,
                device: stream.context().ordinal(),
                stream: Some(stream.clone()),
            },
            bytes,
            _slice: Some(slice),
        })
    }

    /// # Safety
    /// As [`Workspace::from_raw`].
    unsafe fn from_raw(device: usize, address: sys::CUdeviceptr, bytes: usize) -> Self {
        let place = Place {
            address,
            device,
            stream: None,
        };
        Self {
            place,
            bytes,
            _slice: None,
        }
    }
}

/// The device memory that GEMMs work in. One launch at a time uses it: one workspace for each stream in flight.
///
/// Made by [`super::Gpu::workspace`]. A graph that was captured with it works in it at every replay.
pub struct Workspace(Memory);

impl Workspace {
    pub(super) fn new(stream: &Arc<CudaStream>, max_m: usize, max_k: usize) -> Result<Self> {
        Ok(Self(Memory::new(stream, Self::bytes_for(max_m, max_k)?)?))
    }

    /// Bytes for GEMMs with up to `max_m` tokens and `max_k` inputs, whatever their width, grouping, N and family.
    ///
    /// # Errors
    /// [`Error::Range`] for an extent that no kernel takes; [`Error::Backend`] in a build without kernels.
    pub fn bytes_for(max_m: usize, max_k: usize) -> Result<usize> {
        let mut most = 0;
        // Latched widths may be A8, and are packed from one token on in the prefill family.
        for (precision, latched) in Precision::ALL
            .map(|precision| (precision, false))
            .into_iter()
            .chain([(Precision::A8, true)])
        {
            for grouping in Grouping::ALL {
                let families = [None, Some(Family::Decode), Some(Family::Prefill)];
                let wgmma = (!latched).then_some(Some(Family::Wgmma));
                for family in families.into_iter().chain(wgmma) {
                    let k = match grouping {
                        Grouping::PerChannel => max_k.min(crate::weights::MAX_PER_CHANNEL_K),
                        _ => max_k,
                    };
                    let m = match family {
                        Some(Family::Decode) => max_m.min(Family::DECODE_MAX_M),
                        _ => max_m,
                    };
                    let problem = Problem {
                        m,
                        n: 16,
                        k,
                        precision,
                        latched,
                        grouping,
                        packed: false,
                        options: GemmOptions {
                            family,
                            ..Default::default()
                        },
                    };
                    most = most.max(problem.workspace_bytes()?);
                }
            }
        }
        Ok(most)
    }

    /// A workspace in memory that is not cudarc's.
    ///
    /// # Safety
    /// `address` is an address of `device`'s memory, aligned to 128; `bytes` from there on are nobody else's until every
    /// launch that got this workspace has ended. The caller orders these launches: no two of them overlap.
    pub unsafe fn from_raw(device: usize, address: sys::CUdeviceptr, bytes: usize) -> Self {
        // SAFETY: the same contract.
        Self(unsafe { Memory::from_raw(device, address, bytes) })
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        self.0.bytes
    }

    pub(super) fn place(&self) -> &Place {
        &self.0.place
    }
}

impl std::fmt::Debug for Workspace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workspace")
            .field("device", &self.0.place.device)
            .field("bytes", &self.0.bytes)
            .finish()
    }
}

/// Activations in 2, 4 or 8 bits on a device, quantised once and read by any number of GEMMs of the same stream.
///
/// The memory is made by [`super::Gpu::packed_activations`], filled by [`super::Gpu::quantize_pack`] as often as one likes.
pub struct PackedActivations {
    memory: Memory,
    filled: Option<Filled>,
}

/// What [`PackedActivations`] hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Filled {
    pub m: usize,
    pub k: usize,
    pub width: FilledWidth,
    pub grouping: Grouping,
}

/// The width of packed activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FilledWidth {
    Fixed(Precision),
    /// Whatever the latch of this address said.
    Latched(*const ffi::w4axk_latch_state),
}

// SAFETY: the address is compared, and never followed.
unsafe impl Send for FilledWidth {}

impl FilledWidth {
    pub fn of(width: Width<'_>) -> Self {
        match width {
            Width::Fixed(precision) => Self::Fixed(precision),
            Width::Latched(_) => Self::Latched(width.state()),
        }
    }
}

impl Filled {
    /// Whether a weight's groups are those that x was packed in.
    pub fn check_grouping(&self, weight: &DeviceWeight) -> Result<()> {
        if self.grouping == weight.grouping() {
            return Ok(());
        }
        Err(Error::Shape {
            what: "packed activations",
            expected: format!("the weight's groups, {}", weight.grouping()),
            got: self.grouping.to_string(),
        })
    }
}

impl PackedActivations {
    pub(super) fn new(stream: &Arc<CudaStream>, max_m: usize, max_k: usize) -> Result<Self> {
        // 8 bits in the smallest groups take the most.
        let bytes = Self::bytes_for(max_m, max_k, Precision::A8, Grouping::G32)?;
        Ok(Self {
            memory: Memory::new(stream, bytes)?,
            filled: None,
        })
    }

    /// Bytes that packed activations take.
    ///
    /// # Errors
    /// [`Error::Range`] for BF16, which is not packed, or an extent that no kernel takes; [`Error::Backend`] in a build
    /// without kernels.
    pub fn bytes_for(
        m: usize,
        k: usize,
        precision: Precision,
        grouping: Grouping,
    ) -> Result<usize> {
        check_width(precision)?;
        let (m, k) = (extent("M", m)?, inputs(k, grouping)?);
        let mut bytes = 0;
        // SAFETY: it writes one number.
        status::check("packed_bytes", unsafe {
            ffi::w4axk_packed_bytes(m, k, precision.bits(), group_code(grouping), &mut bytes)
        })?;
        Ok(bytes as usize)
    }

    /// Packed activations in memory that is not cudarc's; empty, for [`super::Gpu::quantize_pack`] to fill.
    ///
    /// # Safety
    /// As [`Workspace::from_raw`], for the launches that fill it and those that read it.
    pub unsafe fn from_raw(device: usize, address: sys::CUdeviceptr, bytes: usize) -> Self {
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
    /// As [`Workspace::from_raw`], for the launches that read it.
    ///
    /// # Errors
    /// As [`PackedActivations::bytes_for`]; [`Error::Buffer`] if they take more than `bytes`.
    pub unsafe fn from_raw_filled(
        device: usize,
        address: sys::CUdeviceptr,
        bytes: usize,
        (m, k): (usize, usize),
        precision: Precision,
        grouping: Grouping,
    ) -> Result<Self> {
        let needed = Self::bytes_for(m, k, precision, grouping)?;
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
                width: FilledWidth::Fixed(precision),
                grouping,
            }),
        })
    }

    /// Bytes that it has room for.
    pub fn bytes(&self) -> usize {
        self.memory.bytes
    }

    /// Tokens, inputs, width and grouping of what it holds; `None` before it is filled. A width of `None` is a latched one.
    pub fn contents(&self) -> Option<(usize, usize, Option<Precision>, Grouping)> {
        self.filled.map(|f| {
            let precision = match f.width {
                FilledWidth::Fixed(precision) => Some(precision),
                FilledWidth::Latched(_) => None,
            };
            (f.m, f.k, precision, f.grouping)
        })
    }

    pub(super) fn place(&self) -> &Place {
        &self.memory.place
    }

    pub(super) fn filled(&self) -> Result<Filled> {
        self.filled.ok_or_else(|| Error::Shape {
            what: "packed activations",
            expected: "activations that quantize_pack wrote".into(),
            got: "an empty buffer".into(),
        })
    }

    /// Empties it, for the time that it may hold anything.
    pub(super) fn refill(&mut self, filled: Option<Filled>) {
        self.filled = filled;
    }
}

fn check_width(precision: Precision) -> Result<()> {
    if precision == Precision::Bf16 {
        return Err(Error::Range {
            what: "precision of packed activations",
            value: precision.to_string(),
            range: "a2, a4, a8",
        });
    }
    Ok(())
}

impl std::fmt::Debug for PackedActivations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PackedActivations")
            .field("device", &self.memory.place.device)
            .field("bytes", &self.memory.bytes)
            .field("filled", &self.filled)
            .finish()
    }
}
