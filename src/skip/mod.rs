//! Skipping layers by the importance of the action (DySL-VLA, arXiv 2602.22896).
//!
//! Informative layers always run; the others may be skipped, and the robot's own trajectory says when. It stands beside
//! [`crate::dispatch`], on the same actions, and composes with it: what runs, runs at the width of the step.
//!
//! ```text
//! similarity of layers -> Layers (static, gaps) --+
//!                                                 v
//! actions used -> Continuity -> Guide (allow-points) -> Skipper: LayerStack::run | skip_probability | adapt -> action
//!                                 ^                                                                             |
//!                                 +------------- verified: taken, or run again with nothing skipped ------------+
//! ```
//!
//! # Order in time
//! [`Skipper::step`] does one control step: the layers by the allow-points and the controllers, the action, its verification, a
//! second pass if that asks for one, and the history. Who runs the layers elsewhere (on a GPU, say) uses the [`Guide`]:
//! [`Guide::allow_points`], the layers, [`Guide::judge`] of the action, perhaps the layers again, [`Guide::observe`].
//! [`Guide::reset`] starts an episode.
//!
//! # Formulas
//! An action is 7 numbers as for the dispatcher; w are the [`SkipConfig::weights`]. All arithmetic is f64.
//!
//! | | |
//! | --- | --- |
//! | continuity | `C_t = -mean over the last k steps of \|w * (A_j - A_{j-1})\|`, over what there is; 0 below two actions |
//! | its change | `delta_t = C_t - C_{t-1}` |
//! | allow-point of a gap, at first its start | `delta_t < -eta1`: forward by `ceil(\|delta_t\| / eta1)`, at most to the gap's end; `delta_t > eta2`: back by one, at least to the gap's start |
//! | first drop ([`Verify`]) | `delta_t < -eta` and not `delta_{t-1} < -eta`; the paper's: `delta_t < -eta` and `delta_{t-1} > eta` |
//!
//! C is never above 0, and more negative is less continuous. Dynamic layers before their gap's allow-point must run. From there on a layer's
//! controller is asked; above [`SkipConfig::threshold`] the layer's adapter stands for it and for the rest of the gap.
//!
//! A chunk of actions (as OpenVLA-OFT gives them) is one step: C and delta are taken action by action, and the points move once,
//! by the lowest delta of the chunk if that is below -eta1 and by the highest one else; a first drop anywhere in it is one.
//!
//! # Fail safe
//! An action that is not finite is an error, and from then on nothing is skipped until the window is full again; then the points go from where they
//! are at an episode's start by the delta of the action that filled it. A probability that is NaN does not skip. See [`Guide::observe`].
//!
//! # Cost
//! Nothing is allocated in a step; continuity, allow-points and verification take .12 us of one that does not run again
//! (`cargo bench --bench dispatch`).

mod config;
mod continuity;
mod file;
mod guide;
mod layers;
mod step;

pub use config::{MAX_WINDOW, SkipConfig, Verify};
pub use continuity::Continuity;
pub use file::{Adapter, Controller, FORMAT_VERSION, NetworkConfig, SkipFile};
pub use guide::{Guide, Judgment};
pub use layers::{Gap, Layers};
pub use step::{Fate, LayerStack, SkipReport, Skipper, Verdict};
