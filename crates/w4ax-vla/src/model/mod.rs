//! The networks: vision towers, projector, language model, and the heads of OFT.
//!
//! ```text
//! image -> DINOv2  --+                                       +-> head of the language model,
//!       -> SigLIP  --+-> projector --+                       |   one token per number: OpenVLA
//! prompt -> embeddings --------------+-> Llama-2 (W4AX) -----+
//! state -> proprio projector (OFT) --+                       +-> L1 head, a chunk: OFT
//! ```
//!
//! [`Vla::load`] reads a checkpoint. [`VlaRunner`](crate::step::VlaRunner) runs control steps.

mod action_head;
mod decode;
mod input;
mod linear;
mod llama;
mod load;
mod loader;
mod norm;
mod numerics;
mod observation;
mod options;
mod plan;
mod probe;
mod projector;
mod proprio;
mod skipping;
mod vision;
mod vit;
mod vla;

pub use action_head::ActionHead;
pub use linear::AnyLinear;
pub use llama::{HeadRows, Llama, Visibility};
pub use load::{LoadProgress, ModelFiles, ModelPart};
pub use loader::Loader;
pub use numerics::Numerics;
pub use observation::{Instruction, Observation};
pub use options::LoadOptions;
pub use probe::{LayerPart, LayerTimes, Probe};
pub use projector::Projector;
pub use proprio::ProprioProjector;
pub use skipping::{LayerRun, SkipNetworks};
pub use vision::VisionTowers;
pub use vit::Vit;
pub use vla::{Decoded, Prefilled, Prepared, Vla};

use candle_core::Tensor;

/// Receives intermediate tensors by name.
pub type Trace<'a> = &'a mut dyn FnMut(&str, &Tensor);
