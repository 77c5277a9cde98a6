//! Where the width of a GEMM comes from.

use crate::{Width, WidthFlag};

/// The source of the activation width of a GEMM.
///
/// Every function that takes a width takes `impl Into<WidthSource>`: a [`Width`], a flag with the
/// number of the step, or, with feature `cuda`, a latch in device memory.
///
/// ```
/// use w4ax::{Width, WidthFlag, WidthSource};
///
/// let flag = WidthFlag::new();
/// flag.store(7, Width::A4);
/// assert_eq!(WidthSource::from(Width::A8).on_host(), Some(Width::A8));
/// assert_eq!(WidthSource::from((&flag, 7)).on_host(), Some(Width::A4));
/// // No decision for step 8.
/// assert_eq!(WidthSource::from((&flag, 8)).on_host(), Some(Width::Bf16));
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum WidthSource<'a> {
    /// A width that the caller chose.
    Fixed(Width),
    /// The width that a flag holds for a step, BF16 if it holds none ([`WidthFlag::load`]).
    Flag {
        /// The flag.
        flag: &'a WidthFlag,
        /// The number of the step.
        step: u32,
    },
    /// The width that the latch holds when the kernel runs. The kernel contains the code of all
    /// four widths.
    #[cfg(feature = "cuda")]
    Latched(&'a crate::cuda::Latch),
}

impl WidthSource<'_> {
    /// The width, as far as the host can read it: `None` for a latch, whose width only the device
    /// reads.
    ///
    /// Loads the flag of [`WidthSource::Flag`] once.
    pub fn on_host(self) -> Option<Width> {
        match self {
            Self::Fixed(width) => Some(width),
            Self::Flag { flag, step } => Some(flag.load(step)),
            #[cfg(feature = "cuda")]
            Self::Latched(_) => None,
        }
    }
}

impl From<Width> for WidthSource<'_> {
    fn from(width: Width) -> Self {
        Self::Fixed(width)
    }
}

impl<'a> From<(&'a WidthFlag, u32)> for WidthSource<'a> {
    fn from((flag, step): (&'a WidthFlag, u32)) -> Self {
        Self::Flag { flag, step }
    }
}

#[cfg(feature = "cuda")]
impl<'a> From<&'a crate::cuda::Latch> for WidthSource<'a> {
    fn from(latch: &'a crate::cuda::Latch) -> Self {
        Self::Latched(latch)
    }
}
