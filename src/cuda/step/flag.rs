//! The two words of a step in memory that the host and a GPU share.

use crate::Result;
use crate::cuda::Gpu;
use crate::cuda::memory::Pinned;
use crate::step::StepFlag;
use cudarc::driver::sys::CUdeviceptr;
use std::ops::Deref;
use std::ptr::NonNull;

/// A [`StepFlag`] in pinned, mapped, portable host memory. The next load of the GPU sees a store of
/// the host without a call of the driver.
///
/// The memory is freed after its last owner is dropped and the device has finished its work. Its
/// context lives as long.
pub struct MappedFlag {
    memory: Pinned,
    words: NonNull<StepFlag>,
}

// SAFETY: the words are atomics, which any thread may use; the rest does not change.
unsafe impl Send for MappedFlag {}
// SAFETY: as above.
unsafe impl Sync for MappedFlag {}

impl MappedFlag {
    /// Allocates words without a decision.
    ///
    /// # Errors
    /// [`Error::Driver`](crate::Error::Driver) if no memory can be pinned, or the device cannot map
    /// it.
    pub fn new(gpu: &Gpu) -> Result<Self> {
        let memory = Pinned::new(gpu.context(), size_of::<StepFlag>())?;
        let words = memory.host().cast::<StepFlag>();
        assert!(words.is_aligned(), "pinned memory starts at a page");
        // SAFETY: memory of that size and alignment, not shared yet.
        unsafe { words.write(StepFlag::new()) };
        Ok(Self { memory, words })
    }

    /// The address of the words on the device.
    pub fn device_address(&self) -> CUdeviceptr {
        self.memory.address()
    }

    /// The device.
    pub(super) fn ordinal(&self) -> usize {
        self.memory.ordinal()
    }
}

impl Deref for MappedFlag {
    type Target = StepFlag;

    fn deref(&self) -> &StepFlag {
        // SAFETY: `new` wrote the words, and they are freed with `memory`. The device changes them
        // as atomics: whole words, with release stores.
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
