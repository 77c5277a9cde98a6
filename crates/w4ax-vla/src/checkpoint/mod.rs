//! Checkpoints: folders of safetensors files with their configuration.

mod source;

pub use source::{StoredWeight, WeightSource};
