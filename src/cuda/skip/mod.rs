//! Steps that skip layers, decided on the device (DySL-VLA, arXiv 2602.22896): one graph of IF
//! nodes per step.

mod graph;
mod parts;
mod words;

pub use graph::SkipGraph;
pub use parts::{DeviceController, SkipOptions, SkipPart};
pub use words::{SkipRun, SkipWords};
