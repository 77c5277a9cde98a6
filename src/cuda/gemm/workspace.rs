//! The scratch memory of GEMMs on a device.

use super::limits::gathered_bytes;
use super::problem::Problem;
use crate::cuda::memory::{DeviceBuffer, Place};
use crate::cuda::{Family, GemmOptions, Gpu};
use crate::weights::MAX_PER_CHANNEL_K;
use crate::{Grouping, Result, Width};
use cudarc::driver::CudaStream;
use cudarc::driver::sys::CUdeviceptr;
use std::sync::Arc;

/// The scratch memory of GEMMs: gathered and quantized activations. One launch at a time uses it,
/// so each stream in flight needs its own.
///
/// Created by [`Gpu::workspace`]. A graph that was captured with a workspace uses it at every
/// replay.
pub struct Workspace(DeviceBuffer);

impl Workspace {
    /// Returns the bytes that are enough for GEMMs with up to `max_m` tokens and `max_k` inputs,
    /// for every width, grouping, order of k, N and family.
    ///
    /// # Errors
    /// [`Error::Range`](crate::Error::Range) for an extent that the kernels do not support,
    /// [`Error::Unavailable`](crate::Error::Unavailable) in a build without kernels.
    pub fn bytes_for(max_m: usize, max_k: usize) -> Result<usize> {
        let mut most = 0;
        for grouping in Grouping::ALL {
            for family in [
                None,
                Some(Family::Decode),
                Some(Family::Prefill),
                Some(Family::Wgmma),
            ] {
                let k = match grouping {
                    Grouping::PerChannel => max_k.min(MAX_PER_CHANNEL_K),
                    _ => max_k,
                };
                let m = match family {
                    Some(Family::Decode) => max_m.min(Family::DECODE_MAX_M),
                    _ => max_m,
                };
                // A latch may hold A8, and the prefill family quantizes latched activations from
                // one token on.
                for width in Width::ALL.into_iter().map(Some).chain([None]) {
                    let options = GemmOptions::default().with_family(family);
                    let problem = Problem::new((m, 16, k), width, grouping).with_options(options);
                    most = most.max(problem.workspace_bytes()?);
                }
            }
        }
        Ok(most + gathered_bytes(max_m, max_k))
    }

    /// A workspace in memory that cudarc does not own.
    ///
    /// # Safety
    /// `address` is an address in the memory of `device`, aligned to 128. No other code uses the
    /// `bytes` from there on until every launch that uses this workspace has ended. The caller
    /// orders these launches so that no two overlap.
    pub unsafe fn from_raw(device: usize, address: CUdeviceptr, bytes: usize) -> Self {
        // SAFETY: the same contract.
        Self(unsafe { DeviceBuffer::from_raw(device, address, bytes) })
    }

    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        self.0.bytes
    }

    pub(crate) fn place(&self) -> &Place {
        &self.0.place
    }
}

impl Gpu {
    /// Allocates a workspace for GEMMs on a stream with up to `max_m` tokens and `max_k` inputs,
    /// for every width, grouping, order of k, N and family.
    ///
    /// # Errors
    /// [`Error::DeviceMismatch`](crate::Error::DeviceMismatch) for a stream of another device,
    /// [`Error::Range`](crate::Error::Range) for an extent that the kernels do not support,
    /// [`Error::Driver`](crate::Error::Driver) if the device is out of memory.
    pub fn workspace(
        &self,
        stream: &Arc<CudaStream>,
        max_m: usize,
        max_k: usize,
    ) -> Result<Workspace> {
        self.check_stream(stream)?;
        let bytes = Workspace::bytes_for(max_m, max_k)?;
        Ok(Workspace(DeviceBuffer::new(stream, bytes)?))
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
