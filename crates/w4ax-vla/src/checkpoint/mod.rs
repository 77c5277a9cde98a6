//! Checkpoints: folders of safetensors files with their configuration.

mod component;
mod folder;
mod memory;
mod plain;
mod random;
mod source;
mod torch;

pub use component::find_component;
pub use folder::VlaFolder;
pub use memory::{MemoryPlan, available_memory};
pub use plain::pack;
pub use random::RandomWeights;
pub use source::{StoredWeight, WeightSource};
pub use torch::TorchFile;
