//! Loading of checkpoints.

mod broken;
mod conversion;
mod folder;
mod memory;
