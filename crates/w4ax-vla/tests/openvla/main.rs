//! The small checkpoints against the reference values of every stage.

mod consistent;
mod episodes;
mod fixture;
mod loading;
mod mirror;
mod oft;
mod peculiarities;
mod quantized;
mod skipping;
mod stages;
mod steps;
