//! Where a layer's width comes from.

use crate::Precision;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The width of the step that runs, for all layers that were given it.
#[derive(Debug)]
pub struct StepWidth(AtomicU32);

impl StepWidth {
    /// BF16, until a step begins.
    pub fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU32::new(Precision::Bf16.bits())))
    }

    /// Begins a step. Whoever calls it runs the step's layers too, or starts those who do.
    pub fn set(&self, precision: Precision) {
        self.0.store(precision.bits(), Ordering::Relaxed);
    }

    /// The step's width.
    pub fn get(&self) -> Precision {
        Precision::try_from(self.0.load(Ordering::Relaxed)).expect("only widths are stored")
    }
}

/// Where a layer's width comes from.
#[derive(Clone, Debug)]
#[non_exhaustive] // A feature adds one.
pub enum Width {
    /// Always this one.
    Fixed(Precision),
    /// The running step's.
    Step(Arc<StepWidth>),
    /// What the latch holds when the kernel runs: the flag in zero-copy memory routes the GPU by itself.
    #[cfg(feature = "candle-cuda")]
    Latched(Arc<crate::cuda::Latch>),
}

impl From<Precision> for Width {
    fn from(precision: Precision) -> Self {
        Self::Fixed(precision)
    }
}

impl From<Arc<StepWidth>> for Width {
    fn from(step: Arc<StepWidth>) -> Self {
        Self::Step(step)
    }
}
