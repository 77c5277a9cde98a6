//! Distilling adapters and controllers from a frozen stack (DySL-VLA, section on two-stage
//! distillation).

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

/// The reasons for which a training stops.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// An error of a file, a range or a shape.
    #[error(transparent)]
    W4ax(#[from] w4ax::Error),
    /// An error of candle.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// A loss that is not finite.
    #[error("the loss is {loss} at step {step} of stage {stage}")]
    Diverged {
        /// 1 or 2.
        stage: usize,
        /// From 0.
        step: usize,
        /// NaN or infinite.
        loss: f64,
    },
    /// Gradients that are not finite, though the loss is.
    #[error("the norm of the gradients is {norm} at step {step}")]
    Gradients {
        /// From 0, within the stage.
        step: usize,
        /// NaN or infinite.
        norm: f64,
    },
}

/// A result of the training.
pub type Result<T> = std::result::Result<T, Failure>;
