//! Control steps on a GPU: the flag, the latch, graphs that branch on it, and the engine.

mod engine;
mod flag;
pub(super) mod graph;
mod latch;
mod routed;

pub use engine::{CudaEngine, CudaStep, Routed, Routing};
pub use flag::MappedFlag;
pub use graph::ConditionalNodes;
pub use latch::{Latch, LatchOptions};
pub use routed::RoutedGraph;
