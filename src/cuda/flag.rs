//! The step's two words in memory that the host and a GPU both see.

use super::{Gpu, status};
use crate::Result;
use crate::step::StepFlag;
use cudarc::driver::{CudaContext, result, sys};
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;

/// A [`StepFlag`] in pinned, mapped, portable host memory: a store of the host is what the GPU's next look finds, with no
/// call of the driver between them.
///
/// The memory is cached by the host as any other, not write-combined: the host reads it, too. It is freed when the last
/// owner is gone, after the device has finished what it runs; its context lives as long.
pub struct MappedFlag {
    context: Arc<CudaContext>,
    words: NonNull<StepFlag>,
    address: sys::CUdeviceptr,
}

// SAFETY: the words are atomics, which any thread may use; the rest does not change.
unsafe impl Send for MappedFlag {}
// SAFETY: as above.
unsafe impl Sync for MappedFlag {}

impl MappedFlag {
    /// Words that were never written.
    ///
    /// # Errors
    /// [`Error::Cuda`](crate::Error::Cuda) if no memory can be pinned, or the device does not map it.
    pub fn new(gpu: &Gpu) -> Result<Self> {
        let context = gpu.context().clone();
        context
            .bind_to_thread()
            .map_err(status::driver("cuCtxSetCurrent"))?;
        let flags = sys::CU_MEMHOSTALLOC_PORTABLE | sys::CU_MEMHOSTALLOC_DEVICEMAP;
        // SAFETY: any size; the context is current.
        let memory = unsafe { result::malloc_host(size_of::<StepFlag>(), flags) }
            .map_err(status::driver("cuMemHostAlloc"))?;
        let words = NonNull::new(memory.cast::<StepFlag>()).expect("cuMemHostAlloc gives memory");
        assert!(words.is_aligned(), "pinned memory begins at a page");
        // SAFETY: memory of that size and alignment, which nobody else has yet.
        unsafe { words.write(StepFlag::new()) };
        let mut flag = Self {
            context,
            words,
            address: 0,
        };
        // SAFETY: it writes one address; the memory was allocated to be mapped.
        unsafe { sys::cuMemHostGetDevicePointer_v2(&mut flag.address, memory, 0) }
            .result()
            .map_err(status::driver("cuMemHostGetDevicePointer"))?;
        Ok(flag)
    }

    /// The address at which its device sees the words.
    pub fn device_address(&self) -> sys::CUdeviceptr {
        self.address
    }

    /// The device.
    pub(super) fn ordinal(&self) -> usize {
        self.context.ordinal()
    }
}

impl Deref for MappedFlag {
    type Target = StepFlag;

    fn deref(&self) -> &StepFlag {
        // SAFETY: written by `new`, freed by `drop` only. The device changes it as atomics are changed: whole words,
        // released.
        unsafe { self.words.as_ref() }
    }
}

impl Drop for MappedFlag {
    fn drop(&mut self) {
        // A latch that still runs must not write to memory that is gone: then it is kept instead.
        if self.context.synchronize().is_ok() {
            // SAFETY: memory of cuMemHostAlloc, which nobody uses any more; the context is current since the call above.
            let _ = unsafe { result::free_host(self.words.as_ptr().cast()) };
        }
    }
}

impl std::fmt::Debug for MappedFlag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MappedFlag")
            .field("device", &self.ordinal())
            .field("words", &**self)
            .finish()
    }
}
