//! The width of a launch as the kernel library takes it.

use crate::WidthSource;
use crate::cuda::Latch;
use crate::cuda::memory::StreamRef;
use crate::cuda::sys;
use crate::{Result, Width};

/// A width that the host has read, or the latch that holds it.
#[derive(Clone, Copy)]
pub(crate) struct LaunchWidth<'a> {
    pub width: Option<Width>,
    latch: Option<&'a Latch>,
}

impl<'a> LaunchWidth<'a> {
    /// Reads the flag of a source once.
    pub fn read(source: WidthSource<'a>) -> Self {
        Self {
            width: source.on_host(),
            latch: match source {
                WidthSource::Latched(latch) => Some(latch),
                _ => None,
            },
        }
    }

    /// The state of the latch, or null.
    pub fn state(self) -> *const sys::w4axk_latch_state {
        self.latch_address() as *const _
    }

    /// The address of the state of the latch, or 0.
    pub fn latch_address(self) -> u64 {
        self.latch.map_or(0, |latch| latch.place().address)
    }

    /// Checks that a launch on `stream` may read the latch.
    pub fn check(self, stream: StreamRef<'_>) -> Result<()> {
        self.latch
            .map_or(Ok(()), |latch| latch.place().check("latch", stream))
    }
}
