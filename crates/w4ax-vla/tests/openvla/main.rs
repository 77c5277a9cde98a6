//! The small checkpoints against the reference values of every stage.

mod fixture;
mod oft;
mod quantized;
mod stages;
mod steps;
