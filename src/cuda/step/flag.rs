//! The step's two words in memory that the host and a GPU both see.

use crate::Result;
use crate::cuda::Gpu;
use crate::cuda::memory::Pinned;
use crate::step::StepFlag;
use cudarc::driver::sys::CUdeviceptr;
use std::ops::Deref;
use std::ptr::NonNull;

/// A [`StepFlag`] in pinned, mapped, portable host memory: a store of the host is what the GPU's next look finds, with no
/// call of the driver between them.
///
/// The memory is cached by the host as any other, not write-combined: the host reads it, too. It is freed when the last
/// owner is gone, after the device has finished what it runs; its context lives as long.
pub struct MappedFlag {
    memory: Pinned,
    words: NonNull<StepFlag>,
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
        let memory = Pinned::new(gpu, size_of::<StepFlag>())?;
        let words = memory.host().cast::<StepFlag>();
        assert!(words.is_aligned(), "pinned memory begins at a page");
        // SAFETY: memory of that size and alignment, which nobody else has yet.
        unsafe { words.write(StepFlag::new()) };
        Ok(Self { memory, words })
    }

    /// The address at which its device sees the words.
    pub fn device_address(&self) -> CUdeviceptr {
        self.memory.address()
    }

    /// The device.
    pub(crate) fn ordinal(&self) -> usize {
        self.memory.ordinal()
    }
}

impl Deref for MappedFlag {
    type Target = StepFlag;

    fn deref(&self) -> &StepFlag {
        // SAFETY: written by `new`, freed with `memory` only. The device changes it as atomics are changed: whole words,
        // released.
        unsafe { self.words.as_ref() }
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
