//! Control steps on a GPU: the flag, the latch, graphs that branch on it, and the engine.

mod capture;
mod engine;
mod flag;
pub(super) mod graph;
mod latch;
mod routed;
mod routing;

pub use capture::CudaStep;
pub use engine::CudaEngine;
pub use flag::MappedFlag;
pub use graph::ConditionalNodes;
pub use latch::{Latch, LatchOptions};
pub use routed::RoutedGraph;
pub use routing::{Routed, Routing};
