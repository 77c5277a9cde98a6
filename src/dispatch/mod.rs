//! The dispatcher: a robot's motion in, an activation width out (DyQ-VLA, arXiv 2603.07904, sections III and IV).
//!
//! # Order in time
//! The width of step t is decided from the actions up to t-1: a robot has no others. So a control step is
//!
//! 1. [`Dispatcher::decide`]: the width of this step;
//! 2. the policy runs at that width and gives an action, or a chunk of actions;
//! 3. [`Dispatcher::observe`] or [`Dispatcher::observe_chunk`]: what was commanded goes into the history.
//!
//! One decision a step, or one a chunk: every call of `decide` counts as a step of Algorithm 1. A chunk is
//! observed action by action. [`Dispatcher::reset`] starts an episode.
//!
//! # Formulas
//! An action is 7 numbers as the policy gives them, in [-1, 1]: translation xyz, axis-angle rotation, gripper
//! (which is not looked at). All arithmetic is f64. Everything below has no unit: mu_max and nu_max are in the
//! action's own units.
//!
//! | | | paper |
//! | --- | --- | --- |
//! | macro motion | `M_t = 1 - \|a_xyz(t)\| / mu_max` | III |
//! | micro motion | `J_t = \|a_rot(t) - a_rot(t-1)\| / nu_max`, `J_0 = 0` | III |
//! | sensitivity | `S = max(0, lambda * mean(M) + (1 - lambda) * mean(J))` | IV |
//! | target width | Phi(S): 2 on [0, theta_24], 4 on (theta_24, theta_48], 8 on (theta_48, theta_fp], 16 above | IV |
//! | active width | Algorithm 1 ([`SaturatingCounter`]), or Eq. 4 ([`TargetWindow`]) | IV |
//!
//! The means run over the last `window_macro` and `window_micro` actions, or over as many as there are. With no
//! history S is 1 and the target is BF16, whatever the thresholds are.
//!
//! # Fail safe
//! What cannot be judged runs at BF16. See [`Dispatcher::observe`] for what a bad action does. A sensitivity that
//! is not a number (sums that overflow) has the target BF16.
//!
//! # Cost
//! State is a few KB and of fixed size; a step allocates nothing and costs tens of nanoseconds with the paper's
//! windows (`cargo bench --bench dispatch`). Only an error that describes a wrong length or range allocates, for
//! its text.

mod config;
mod counter;
mod dispatcher;
mod kinematics;
mod window;

pub use config::{Algorithm, DispatchConfig, MAX_WINDOW, MotionScale, Thresholds};
pub use counter::SaturatingCounter;
pub use dispatcher::{Decision, Dispatcher, Reason};
pub use kinematics::{ACTION_DIM, Action, Kinematics};
pub(crate) use kinematics::{Window, check_finite, norm};
pub use window::TargetWindow;
