//! Decides which layers of a policy to skip from the robot's trajectory (DySL-VLA, arXiv
//! 2602.22896).
//!
//! Static layers always run. A dynamic layer may be skipped together with the rest of its gap: an
//! adapter replaces them. Skipping uses the same actions as [`crate::dispatch`] and composes with
//! it: the layers that run use the width of the step.
//!
//! ```text
//! similarity of layers -> Layers (static layers, gaps) --+
//!                                                        v
//! used actions -> Continuity -> Guide (allow-points) -> Skipper -> LayerStack: run or adapt
//!                                 ^                                     |
//!                                 |                                     v
//!                                 +-- verified: used, or run again <-- actions
//! ```
//!
//! # Order of calls
//! [`Skipper::step`] runs one control step on the CPU: the layers, the actions, their verification,
//! a second pass if the verification requires it, and the update of the history.
//!
//! A caller that runs the layers itself, for example on a GPU, uses the [`Guide`]:
//!
//! 1. [`Guide::allow_points`] returns the first layer of each gap that may be skipped.
//! 2. The caller runs the layers and computes the actions.
//! 3. [`Guide::judge`] judges the actions. If [`Judgment::drops`] is set, the caller runs all
//!    layers again.
//! 4. [`Guide::observe`] adds the actions that are used to the history.
//!
//! [`Guide::reset`] or [`Skipper::reset`] starts an episode.
//!
//! # Formulas
//! An action is as many numbers as there are weights: 7 by default, or those of any
//! [layout](crate::dispatch::ActionLayout). w is [`SkipConfig::weights`], k is
//! [`SkipConfig::window`]. All arithmetic is f64.
//!
//! | quantity | formula |
//! | --- | --- |
//! | continuity | `C_t = -mean of \|w * (A_j - A_{j-1})\|` over the last k steps, or over all if there are fewer; 0 with fewer than two actions |
//! | its change | `delta_t = C_t - C_{t-1}` |
//! | allow-point, initially the start of the gap | if `delta_t < -eta1`: `ceil(\|delta_t\| / eta1)` layers forward, at most to the end of the gap; if `delta_t > eta2`: one layer back, at least to the start of the gap |
//! | drop, [`Verify::FirstDrop`] | `delta_t < -eta` and not `delta_{t-1} < -eta` |
//! | drop, [`Verify::RiseThenDrop`] | `delta_t < -eta` and `delta_{t-1} > eta`, as in the paper |
//!
//! C is at most 0, and a more negative C is less continuous. A dynamic layer before its gap's
//! allow-point runs. From the allow-point on, the layer's controller is evaluated. If its
//! probability is above [`SkipConfig::threshold`], the layer's adapter replaces the layer and the
//! rest of the gap.
//!
//! A chunk of actions, as OpenVLA-OFT outputs, is one step. C and delta are computed action by
//! action. The allow-points move once: by the lowest delta of the chunk if it is below `-eta1`,
//! otherwise by the highest. The chunk drops if any of its actions does.
//!
//! # Failure behavior
//! An action that is not finite is an error and disables skipping until the window is full again,
//! see [`Guide::observe`]. A layer whose probability is NaN runs.
//!
//! # Cost
//! A step allocates nothing. Continuity, allow-points and verification take about 0.2 us
//! (`cargo bench --bench dispatch`).

mod config;
mod continuity;
mod file;
mod guide;
mod layers;
mod networks;
mod step;
mod weights;

pub use config::{SkipConfig, Verify};
pub use continuity::Continuity;
pub use file::SkipFile;
pub use guide::{Guide, Judgment};
pub use layers::{Gap, Layers};
pub use networks::{Adapter, Controller, NetworkConfig};
pub use step::{Fate, LayerStack, SkipReport, Skipper, Verdict};
pub use weights::Weights;
