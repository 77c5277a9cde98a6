//! Skipping layers: hand-computed cases and invariants.

mod failed;
mod file;
mod guide;
mod layers;
mod recorder;
mod stack;
