//! Device memory that calls work in: made once, by the caller's choice of stream.

use super::matrix::Place;
use crate::cuda::gemm::{Family, GemmOptions, Problem};
use crate::cuda::sys::status;
use crate::{Grouping, Result, Width};
use cudarc::driver::sys::CUdeviceptr;
use cudarc::driver::{CudaSlice, CudaStream, DevicePtr};
use std::sync::Arc;

/// Device memory that belongs to a stream. Freed in the stream's order.
pub(crate) struct Memory {
    pub place: Place,
    pub bytes: usize,
    /// `None`: foreign memory.
    _slice: Option<CudaSlice<u8>>,
}

impl Memory {
    pub fn new(stream: &Arc<CudaStream>, bytes: usize) -> Result<Self> {
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
    pub unsafe fn from_raw(device: usize, address: CUdeviceptr, bytes: usize) -> Self {
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
/// Made by [`crate::cuda::Gpu::workspace`]. A graph that was captured with it works in it at every replay.
pub struct Workspace(Memory);

impl Workspace {
    pub(crate) fn new(stream: &Arc<CudaStream>, max_m: usize, max_k: usize) -> Result<Self> {
        Ok(Self(Memory::new(stream, Self::bytes_for(max_m, max_k)?)?))
    }

    /// Bytes for GEMMs with up to `max_m` tokens and `max_k` inputs, whatever their width, grouping, N and family.
    ///
    /// # Errors
    /// [`Error::Range`](crate::Error::Range) for an extent that no kernel takes; [`Error::Unavailable`](crate::Error::Unavailable) in a build without kernels.
    pub fn bytes_for(max_m: usize, max_k: usize) -> Result<usize> {
        let mut most = 0;
        // Latched widths may be A8, and are packed from one token on in the prefill family.
        for (width, latched) in Width::ALL
            .map(|width| (width, false))
            .into_iter()
            .chain([(Width::A8, true)])
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
                        width,
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
    pub unsafe fn from_raw(device: usize, address: CUdeviceptr, bytes: usize) -> Self {
        // SAFETY: the same contract.
        Self(unsafe { Memory::from_raw(device, address, bytes) })
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        self.0.bytes
    }

    pub(crate) fn place(&self) -> &Place {
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
