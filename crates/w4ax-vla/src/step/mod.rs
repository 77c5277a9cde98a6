//! Control steps of a model: observe, decide the width, run, act.
//!
//! ```text
//! actions -> Dispatcher -> StepFlag -> latch -> vision, prefill -> decode -> actions
//! ```
//!
//! [`VlaRunner`] joins a [`Vla`](crate::model::Vla) with a
//! [`StepPipeline`](w4ax::step::StepPipeline). The code is the same on the CPU and on CUDA: the
//! thread of the step reads the latch once, and each packed layer runs at that width.
//!
//! # Order of calls
//! [`VlaRunner::decide`] with the actions that the robot was given since the last call, then
//! [`VlaRunner::step`]; or [`VlaRunner::request`] in place of `decide`, to choose the width.
//! [`VlaRunner::reset`] starts an episode.
//!
//! # The width
//! With [`Decide::BeforeStep`](w4ax::step::Decide::BeforeStep), the default, one width governs the
//! prefill and the decode. The prefill is where width saves time. With
//! [`Decide::DuringPrefill`](w4ax::step::Decide::DuringPrefill), as in the paper, the width governs
//! the decode only; the decision is then made by [`VlaRunner::begin`], [`VlaRunner::decide`] and
//! [`VlaRunner::finish`]. A model with one pass
//! ([`Vla::is_one_pass`](crate::model::Vla::is_one_pass)) has no decode in the language model, so
//! that width governs nothing there.
//!
//! # The consistency rule
//! [`VlaRunner::step_consistent`] runs a step at a narrow width and, if its actions differ too much
//! from what was executed or planned, once more at a wider one
//! ([`w4ax::dispatch::consistency`]). The second run repeats neither vision nor projector.
//!
//! # Skipped layers
//! With networks ([`Vla::with_skip_networks`](crate::model::Vla::with_skip_networks)) and a
//! [`SkipConfig`](w4ax::skip::SkipConfig), the layers of a step are chosen during its prefill. If
//! the actions of the step fail the verification, the step runs again with all layers: prefill and
//! decode at the widths that they had, on the same sequence. What a skipped layer leaves in the
//! cache is described at [`LayerRun`](crate::model::LayerRun).
//!
//! # Failure behavior
//! A step that fails returns its error and counts as a step; the next one starts from an empty
//! cache. An action that the dispatcher rejects is an error of `decide`, and the step runs at BF16.

mod runner;
mod work;

pub use runner::{ConsistentVlaStep, VlaRunner, VlaStep};
pub use work::StepPart;
