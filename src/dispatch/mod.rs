//! Decides the activation width of each control step from the robot's motion (DyQ-VLA, arXiv
//! 2603.07904, sections III and IV).
//!
//! # Order of calls
//! The width of step t depends on the actions up to step t-1, because no later action exists yet. A
//! control step is:
//!
//! 1. [`Dispatcher::decide`] returns the width of this step.
//! 2. The policy runs at that width and produces an action, or a chunk of actions.
//! 3. [`Dispatcher::observe`] or [`Dispatcher::observe_chunk`] adds the commanded actions to the
//!    history.
//!
//! Call `decide` exactly once per step, or once per chunk: each call is one step of the hysteresis.
//! A chunk is observed action by action. [`Dispatcher::reset`] starts an episode.
//!
//! # Formulas
//! An action is 7 numbers in [-1, 1], as the policy outputs them: translation xyz, axis-angle
//! rotation, gripper. The gripper is ignored. All arithmetic is f64. `mu_max` and `nu_max` have the
//! unit of actions; all other quantities have none.
//!
//! | quantity | formula | paper |
//! | --- | --- | --- |
//! | macro motion | `M_t = 1 - \|a_xyz(t)\| / mu_max` | III |
//! | micro motion | `J_t = \|a_rot(t) - a_rot(t-1)\| / nu_max`, `J_0 = 0` | III |
//! | sensitivity | `S = max(0, lambda * mean(M) + (1 - lambda) * mean(J))` | IV |
//! | target width | Phi(S): 2 on [0, theta_24], 4 on (theta_24, theta_48], 8 on (theta_48, theta_fp], 16 above | IV |
//! | active width | Algorithm 1 ([`SaturatingCounter`]) or Eq. 4 ([`TargetWindow`]) | IV |
//!
//! The means cover the last `window_macro` and `window_micro` actions, or all actions if there are
//! fewer. Without any action, S is 1 and the target is BF16, whatever the thresholds are.
//!
//! # Failure behavior
//! Every case without a valid sensitivity runs at BF16. An action that is not finite is an error
//! and puts the dispatcher into fault, see [`Dispatcher::observe`]. If the sums overflow, S is NaN,
//! and the target of NaN is BF16.
//!
//! # Cost
//! The state is a few KB of fixed size. A step allocates nothing and takes tens of nanoseconds with
//! the paper's windows (`cargo bench --bench dispatch`). Only an error allocates, for its message.

mod config;
mod counter;
mod dispatcher;
mod kinematics;
mod window;

pub use config::{Algorithm, DispatchConfig, MotionScale, Thresholds};
pub use counter::SaturatingCounter;
pub use dispatcher::{Decision, Dispatcher, Reason};
pub use kinematics::{ACTION_DIM, Action, Kinematics};
pub(crate) use kinematics::{MotionWindow, check_finite, norm};
pub use window::TargetWindow;
