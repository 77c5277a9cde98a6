//! Device memory that a stream owns, without a shape.

use super::stream::Place;
use crate::Result;
use crate::cuda::sys::status;
use cudarc::driver::sys::CUdeviceptr;
use cudarc::driver::{CudaSlice, CudaStream, DevicePtr};
use std::sync::Arc;

/// Bytes of device memory. Memory of cudarc is freed in the order of its stream.
pub(crate) struct DeviceBuffer {
    pub place: Place,
    pub bytes: usize,
    /// `None`: foreign memory.
    _slice: Option<CudaSlice<u8>>,
}

impl DeviceBuffer {
    pub fn new(stream: &Arc<CudaStream>, bytes: usize) -> Result<Self> {
        // SAFETY: kernels write each byte before they read it.
        let slice = unsafe { stream.alloc::<u8>(bytes.max(1)) }
            .map_err(status::driver("allocating device memory"))?;
        let (address, guard) = slice.device_ptr(stream);
        drop(guard);
        Ok(Self {
            place: Place::on_stream(address, stream),
            bytes,
            _slice: Some(slice),
        })
    }

    /// # Safety
    /// As [`Workspace::from_raw`](crate::cuda::Workspace::from_raw).
    pub unsafe fn from_raw(device: usize, address: CUdeviceptr, bytes: usize) -> Self {
        Self {
            place: Place::foreign(address, device),
            bytes,
            _slice: None,
        }
    }
}
