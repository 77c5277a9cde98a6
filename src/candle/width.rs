//! Where a layer's width comes from.

use crate::Width;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The width of the step that runs, for all layers that were given it.
///
/// ```
/// use candle_core::{DType, Device, Module, Tensor};
/// use std::time::Duration;
/// use w4ax::candle::{Backend, StepWidth};
/// use w4ax::step::{HostLatch, StepFlag};
/// use w4ax::{Grouping, MatRef, Width, Quantize};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let weight = Quantize::new(Grouping::G32).pack(MatRef::new(&[0.25f32; 16 * 64], 16, 64)?)?;
/// let (flag, mut latch) = (StepFlag::new(), HostLatch::new(0));
/// let width = StepWidth::new(); // One for all layers.
/// let layer = Backend::new(&Device::Cpu)?.linear(weight, None)?.with_width(width.clone());
///
/// flag.requested().store(0, Width::A4); // The dispatcher's decision for step 0.
/// width.set(latch.latch(&flag, Duration::ZERO).width);
/// let x = Tensor::ones((290, 64), DType::BF16, &Device::Cpu)?;
/// let y = layer.forward(&x)?; // At A4.
/// # assert_eq!((width.get(), y.dims()), (Width::A4, &[290, 16][..]));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct StepWidth(AtomicU32);

impl StepWidth {
    /// BF16, until a step begins.
    pub fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU32::new(Width::Bf16.bits())))
    }

    /// Begins a step. Whoever calls it runs the step's layers too, or starts those who do.
    pub fn set(&self, width: Width) {
        self.0.store(width.bits(), Ordering::Relaxed);
    }

    /// The step's width.
    pub fn get(&self) -> Width {
        Width::try_from(self.0.load(Ordering::Relaxed)).expect("only widths are stored")
    }
}

/// Where a layer's width comes from.
#[derive(Clone, Debug)]
#[non_exhaustive] // A feature adds one.
pub enum WidthSource {
    /// Always this one.
    Fixed(Width),
    /// The running step's.
    Step(Arc<StepWidth>),
    /// What the latch holds when the kernel runs: the flag in zero-copy memory routes the GPU by itself.
    #[cfg(feature = "candle-cuda")]
    Latched(Arc<crate::cuda::Latch>),
}

impl From<Width> for WidthSource {
    fn from(width: Width) -> Self {
        Self::Fixed(width)
    }
}

impl From<Arc<StepWidth>> for WidthSource {
    fn from(step: Arc<StepWidth>) -> Self {
        Self::Step(step)
    }
}
