//! Host memory that a GPU maps.

use crate::Result;
use crate::cuda::sys::status;
use cudarc::driver::sys::CUdeviceptr;
use cudarc::driver::{CudaContext, result, sys as driver};
use std::ptr::NonNull;
use std::sync::Arc;

/// Pinned, mapped, portable host memory, zero at first. The next load of the GPU sees a store of
/// the host without a call of the driver.
///
/// The memory is cached by the host, not write-combined, because the host reads it too. It is freed
/// after the device has finished its work; its context lives as long.
pub(crate) struct Pinned {
    context: Arc<CudaContext>,
    memory: NonNull<u8>,
    address: CUdeviceptr,
}

impl Pinned {
    /// # Errors
    /// [`Error::Driver`](crate::Error::Driver) if no memory can be pinned, or the device cannot map
    /// it.
    pub fn new(context: &Arc<CudaContext>, bytes: usize) -> Result<Self> {
        let context = context.clone();
        context
            .bind_to_thread()
            .map_err(status::driver("cuCtxSetCurrent"))?;
        let flags = driver::CU_MEMHOSTALLOC_PORTABLE | driver::CU_MEMHOSTALLOC_DEVICEMAP;
        // SAFETY: any size is allowed; the context is current.
        let memory = unsafe { result::malloc_host(bytes.max(1), flags) }
            .map_err(status::driver("cuMemHostAlloc"))?;
        let mut pinned = Self {
            context,
            memory: NonNull::new(memory.cast()).expect("cuMemHostAlloc returns memory"),
            address: 0,
        };
        // SAFETY: memory of that size, not shared yet.
        unsafe { pinned.memory.write_bytes(0, bytes) };
        // SAFETY: the driver writes one address; the memory was allocated to be mapped.
        unsafe { driver::cuMemHostGetDevicePointer_v2(&mut pinned.address, memory, 0) }
            .result()
            .map_err(status::driver("cuMemHostGetDevicePointer"))?;
        Ok(pinned)
    }

    /// The first byte, at the start of a page.
    pub fn host(&self) -> NonNull<u8> {
        self.memory
    }

    /// The address of the memory on its device.
    pub fn address(&self) -> CUdeviceptr {
        self.address
    }

    /// The device.
    pub fn ordinal(&self) -> usize {
        self.context.ordinal()
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // A kernel that still runs must not write to freed memory. If the device cannot be
        // synchronized, leak it.
        if self.context.synchronize().is_ok() {
            // SAFETY: memory of cuMemHostAlloc that is no longer in use; `synchronize` made the
            // context current.
            let _ = unsafe { result::free_host(self.memory.as_ptr().cast()) };
        }
    }
}
