//! The networks of the models.
//!
//! [`Loader`] loads layers from a [`WeightSource`](crate::checkpoint::WeightSource) onto a device.
//! A weight keeps its stored type, and activations have one type, F32 or BF16.

mod action_head;
mod linear;
mod loader;
mod norm;
mod projector;
mod proprio;
mod vision;
mod vit;

pub use action_head::ActionHead;
pub use linear::AnyLinear;
pub use loader::Loader;
pub use projector::Projector;
pub use proprio::ProprioProjector;
pub use vision::VisionTowers;
pub use vit::Vit;

use candle_core::Tensor;

/// Receives intermediate tensors by name.
pub type Trace<'a> = &'a mut dyn FnMut(&str, &Tensor);
