//! The width of a candle layer.

use crate::step::StepFlag;
use crate::{Width, WidthSource};
use std::sync::Arc;

/// The owned [`WidthSource`] of a [`Linear`](super::Linear) layer.
///
/// ```
/// use candle_core::{DType, Device, Module, Tensor};
/// use std::sync::Arc;
/// use std::time::Duration;
/// use w4ax::candle::Backend;
/// use w4ax::step::{HostLatch, StepFlag};
/// use w4ax::{Grouping, MatRef, Quantize, Width};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let weight = Quantize::new(Grouping::G32).pack(MatRef::new(&[0.25f32; 16 * 64], 16, 64)?)?;
/// let (flag, mut latch) = (Arc::new(StepFlag::new()), HostLatch::new(0)); // One for all layers.
/// let layer = Backend::new(&Device::Cpu)?.linear(weight, None)?.with_width(flag.clone());
///
/// flag.requested().store(0, Width::A4); // The dispatcher's decision for step 0.
/// latch.latch(&flag, Duration::ZERO); // Step 0 begins.
/// let x = Tensor::ones((290, 64), DType::BF16, &Device::Cpu)?; // [290, 64]
/// let y = layer.forward(&x)?; // [290, 16], at A4
/// # assert_eq!(y.dims(), &[290, 16][..]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LayerWidth {
    /// The same width in every call.
    Fixed(Width),
    /// The width of the last step that was latched from this flag ([`StepFlag::executed`]), and
    /// BF16 before the first step.
    Step(Arc<StepFlag>),
    /// The width that the latch holds when the kernel runs.
    #[cfg(feature = "candle-cuda")]
    Latched(Arc<crate::cuda::Latch>),
}

impl LayerWidth {
    /// Returns the source of the width of one call. Reads the flag of [`LayerWidth::Step`] once.
    pub(super) fn source(&self) -> WidthSource<'_> {
        match self {
            Self::Fixed(width) => WidthSource::Fixed(*width),
            Self::Step(flag) => {
                WidthSource::Fixed(flag.executed().map_or(Width::Bf16, |step| step.width))
            }
            #[cfg(feature = "candle-cuda")]
            Self::Latched(latch) => WidthSource::Latched(latch),
        }
    }
}

impl From<Width> for LayerWidth {
    fn from(width: Width) -> Self {
        Self::Fixed(width)
    }
}

impl From<Arc<StepFlag>> for LayerWidth {
    fn from(flag: Arc<StepFlag>) -> Self {
        Self::Step(flag)
    }
}

#[cfg(feature = "candle-cuda")]
impl From<Arc<crate::cuda::Latch>> for LayerWidth {
    fn from(latch: Arc<crate::cuda::Latch>) -> Self {
        Self::Latched(latch)
    }
}
