//! Checkpoints: folders of safetensors files with their configuration.

mod folder;
mod memory;
mod plain;
mod source;

pub use folder::VlaFolder;
pub use memory::{MemoryPlan, available_memory};
pub use plain::pack;
pub use source::{StoredWeight, WeightSource};
