//! One control step, with no host in the way (DyQ-VLA section V-B): the flag's word goes from the dispatcher to the step's
//! latch, and nothing else passes between them.
//!
//! ```text
//! actions -> Dispatcher -> StepFlag.asked -> latch -> prefill, decode
//!                                              |
//!            StepReport <- StepFlag.executed <-+
//! ```
//!
//! - [`StepFlag`]: two words, in ordinary memory or in memory that a GPU sees. The step answers with what it ran at.
//! - [`HostLatch`]: reads the flag once a step. A word of another step, an invalid or a never written one is BF16: a step
//!   never runs on an old decision, and never waits for one for ever.
//! - [`StepPipeline`]: `begin`, `decide`, `finish`, over a [`StepEngine`]: [`HostEngine`] here, `cuda::CudaEngine` on a GPU.

mod host;
mod latch;
mod pipeline;
mod words;

pub use host::{HostEngine, HostStep};
pub use latch::HostLatch;
pub use pipeline::{Decide, PrefillWidth, StepEngine, StepOptions, StepPipeline, StepReport};
pub use words::{Executed, Outcome, StepFlag};
