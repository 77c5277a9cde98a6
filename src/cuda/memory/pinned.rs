//! Memory that the host and a GPU both see.

use crate::Result;
use crate::cuda::Gpu;
use crate::cuda::sys::status;
use cudarc::driver::sys::CUdeviceptr;
use cudarc::driver::{CudaContext, result, sys as driver};
use std::ptr::NonNull;
use std::sync::Arc;

/// Pinned, mapped, portable host memory, zeros at first: a store of the host is what the GPU's next look finds, with no call of
/// the driver between them.
///
/// The host caches it as any other, not write-combined: the host reads it, too. It is freed when the device has finished what
/// it runs; its context lives as long.
pub(crate) struct Pinned {
    context: Arc<CudaContext>,
    memory: NonNull<u8>,
    address: CUdeviceptr,
}

impl Pinned {
    /// # Errors
    /// [`Error::Cuda`](crate::Error::Cuda) if no memory can be pinned, or the device does not map it.
    pub fn new(gpu: &Gpu, bytes: usize) -> Result<Self> {
        let context = gpu.context().clone();
        context
            .bind_to_thread()
            .map_err(status::driver("cuCtxSetCurrent"))?;
        let flags = driver::CU_MEMHOSTALLOC_PORTABLE | driver::CU_MEMHOSTALLOC_DEVICEMAP;
        // SAFETY: any size; the context is current.
        let memory = unsafe { result::malloc_host(bytes.max(1), flags) }
            .map_err(status::driver("cuMemHostAlloc"))?;
        let mut pinned = Self {
            context,
            memory: NonNull::new(memory.cast()).expect("cuMemHostAlloc gives memory"),
            address: 0,
        };
        // SAFETY: memory of that size, which nobody else has yet.
        unsafe { pinned.memory.write_bytes(0, bytes) };
        // SAFETY: it writes one address; the memory was allocated to be mapped.
        unsafe { driver::cuMemHostGetDevicePointer_v2(&mut pinned.address, memory, 0) }
            .result()
            .map_err(status::driver("cuMemHostGetDevicePointer"))?;
        Ok(pinned)
    }

    /// Its first byte, at the start of a page.
    pub fn host(&self) -> NonNull<u8> {
        self.memory
    }

    /// The address at which its device sees it.
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
        // A kernel that still runs must not write to memory that is gone: then it is kept instead.
        if self.context.synchronize().is_ok() {
            // SAFETY: memory of cuMemHostAlloc, which nobody uses any more; the context is current since the call above.
            let _ = unsafe { result::free_host(self.memory.as_ptr().cast()) };
        }
    }
}
