//! Loading of checkpoints.

mod broken;
mod folder;
