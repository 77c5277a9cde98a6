//! The vision towers, the projector, the action head and the proprio projector against the
//! reference values of the small checkpoints.

mod bf16;
mod head;
mod mirror;
mod peculiarities;
mod speed;
mod stages;
mod support;
