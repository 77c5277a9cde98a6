//! Runs control steps whose width the dispatcher decides (DyQ-VLA, arXiv 2603.07904, section V-B).
//!
//! ```text
//! actions -> Dispatcher -> StepFlag::requested -> latch -> prefill, decode
//!                                                   |
//!              StepReport <- StepFlag::executed <---+
//! ```
//!
//! The dispatcher stores the width of a step in a flag, and the latch of the step reads the flag.
//! No other data passes between them, so a GPU can run a step without waiting for the host.
//!
//! - [`StepFlag`] holds two words, in ordinary memory or in memory that a GPU maps: the requested
//!   width and the executed width.
//! - [`HostLatch`] reads the flag once per step on the host. On a GPU a kernel does the same.
//! - [`StepPipeline`] combines a [`Dispatcher`](crate::dispatch::Dispatcher) with a [`StepEngine`]:
//!   [`HostEngine`], or `cuda::CudaEngine` on a GPU.
//!
//! # Order of calls
//! A step calls [`StepPipeline::decide`], [`StepPipeline::begin`] and [`StepPipeline::finish`].
//! With [`Decide::DuringPrefill`] the decision comes between `begin` and `finish`, while the
//! prefill runs. [`StepPipeline::reset`] starts an episode. A caller without an engine stores
//! decisions in a [`StepFlag`] and calls [`HostLatch::latch`] at the beginning of each step.
//!
//! # Failure behavior
//! The latch selects BF16 if the flag's word belongs to another step, is invalid, or was never
//! written ([`Outcome`]). So a step never runs at the width of an old decision. A latch waits at
//! most [`StepOptions::MAX_SPIN`] for its word. An action that the dispatcher rejects is an error
//! of `decide`, and the step runs at BF16.
//!
//! # Cost
//! A latch is one Acquire load and one Release store. The thread of a [`HostEngine`] receives each
//! step through a channel.

mod consistent;
mod engine;
mod host;
mod latch;
mod options;
mod pipeline;
mod words;

pub use consistent::{ConsistentEngine, ConsistentStep, RunOrder};
pub use engine::StepEngine;
pub use host::{HostEngine, HostStep};
pub use latch::HostLatch;
pub use options::{Decide, PrefillWidth, StepOptions};
pub use pipeline::{StepPipeline, StepReport};
pub use words::{Executed, Outcome, StepFlag};
