//! Distilling adapters and controllers from a frozen stack (DySL-VLA, section on two-stage distillation).

// The example and its tests use a part of it each.
#![allow(dead_code)]

pub mod batches;
pub mod evaluate;
pub mod frozen;
pub mod losses;
pub mod networks;
pub mod optimizer;
pub mod plan;
pub mod similarity;
pub mod state;
pub mod train;

/// Why a training stopped.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A file, a range, a shape.
    #[error(transparent)]
    W4ax(#[from] w4ax::Error),
    /// candle's arithmetic.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// A loss that is no number: nothing trained from here on would be of use.
    #[error("the loss is {loss} at step {step} of stage {stage}")]
    Diverged {
        /// 1 or 2.
        stage: usize,
        /// From 0.
        step: usize,
        /// NaN or infinite.
        loss: f64,
    },
    /// Gradients that are no numbers, though the loss is one.
    #[error("the norm of the gradients is {norm} at step {step}")]
    Gradients {
        /// From 0, of the stage.
        step: usize,
        /// NaN or infinite.
        norm: f64,
    },
}

/// `Result` of a training.
pub type Result<T> = std::result::Result<T, Failure>;
