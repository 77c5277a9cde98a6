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
//! # Layouts
//! An [`ActionLayout`] says what the numbers of an action are: a translation, a rotation in one of
//! four representations, joints, grippers and numbers to ignore, of one or two arms. Each of these
//! parts is a change per step (delta) or a position (absolute). The default layout is 7 numbers in
//! [-1, 1], as policies for one arm output them: translation xyz, axis-angle rotation, gripper.
//!
//! # Formulas
//! All arithmetic is f64. `mu_max` and `nu_max` have the unit of actions; all other quantities
//! have none.
//!
//! | quantity | formula | paper |
//! | --- | --- | --- |
//! | macro motion | `M_t = 1 - \|v(t)\| / mu_max` | III |
//! | micro motion | `J_t = \|w(t) - w(t-1)\| / nu_max`, `J_0 = 0` | III |
//! | sensitivity | `S = max(0, lambda * mean(M) + (1 - lambda) * mean(J))` | IV |
//! | target width | Phi(S): 2 on [0, theta_24], 4 on (theta_24, theta_48], 8 on (theta_48, theta_fp], 16 above | IV |
//! | active width | Algorithm 1 ([`SaturatingCounter`]) or Eq. 4 ([`TargetWindow`]) | IV |
//!
//! The means cover the last `window_macro` and `window_micro` actions, or all actions if there are
//! fewer. Without any motion, S is 1 and the target is BF16, whatever the thresholds are.
//!
//! The velocity v and the rotation per step w depend on the layout. In the paper, whose actions
//! have the default layout, v is `a_xyz` and w is `a_rot`.
//!
//! | part | v | w |
//! | --- | --- | --- |
//! | delta translation or joints | a(t) | of an arm without a rotation: v |
//! | absolute translation or joints | a(t) - a(t-1) | of an arm without a rotation: v |
//! | delta axis-angle | | a(t) |
//! | delta Euler angles | | a(t), with differences wrapped to (-pi, pi] |
//! | delta quaternion or 6D | | rotation vector of R(t) |
//! | absolute rotation of any kind | | rotation vector of `R(t) R(t-1)^T`, whose norm is the geodesic distance |
//!
//! So a path has the same M and J whether its actions are changes or positions, and in any
//! representation of its rotations. A layout with positions has no velocity at the first action of
//! an episode: it adds nothing to the history, and J is 0 at the second.
//!
//! # Two arms
//! The arm that works precisely determines the width: `M_t` is the largest M of an arm, and `J_t`
//! the largest J. An arm that rests has M = 1 and would keep S high, so it does not count. An arm
//! rests if its speed was at most [`Kinematics::REST`] of `mu_max`, and its rotation per step at
//! most that fraction of `nu_max`, in each of the last `window_macro` actions, or in all actions of
//! the episode so far. A shorter pause, as before a grasp, counts. If all arms rest, all count.
//!
//! The scale of the motion is that of the faster arm: `mu_max` and `nu_max` are percentiles of the
//! larger speed and the larger change of each step.
//!
//! # Scale of the motion
//! `mu_max` and `nu_max` are 95th percentiles. They come from a
//! [calibration](crate::calibrate), or a sketch of fixed size keeps them online:
//! [`Dispatcher::with_online_scale`], or a [`MotionScaleEstimator`] of its own.
//!
//! # Two rules
//! The formulas above are those of the paper. On the recordings and in the simulations of this
//! repository the paper's rule is no better than random widths. The [`consistency`] rule
//! is the one that pays, where widths have different costs at all. [`StepCosts`] finds the widths
//! that save nothing on a device: no rule with costs chooses them.
//!
//! # Failure behavior
//! Every case without a valid sensitivity runs at BF16. An action that is not finite is an error
//! and puts the dispatcher into fault, see [`Dispatcher::observe`]. So are numbers that are no
//! rotation: a quaternion of 0, or a 6D rotation with parallel columns. If the sums overflow, S is
//! NaN, and the target of NaN is BF16.
//!
//! # Cost
//! The state is a few KB of fixed size. A step allocates nothing and takes tens of nanoseconds with
//! the paper's windows and the default layout (`cargo bench --bench dispatch`), and about 0.5 us
//! for two arms with absolute 6D rotations. Only an error allocates, for its message.

mod config;
pub mod consistency;
mod cost;
mod counter;
mod dispatcher;
mod floors;
mod kinematics;
mod layout;
mod layout_text;
mod motion;
mod rotation;
mod scale;
mod sketch;
mod window;

pub use config::{Algorithm, DispatchConfig, Thresholds};
pub use consistency::{
    ConsistencyCheck, ConsistencyConfig, ConsistencyDecision, ConsistencyReason, ConsistencyRule,
    Profile, Tolerance, UncertaintyQuantiles,
};
pub use cost::{StepCosts, WidthChoice};
pub use counter::SaturatingCounter;
pub use dispatcher::{Decision, Dispatcher, Reason};
pub use floors::LayerFloors;
pub use kinematics::{ACTION_DIM, Action, Kinematics};
pub(crate) use kinematics::{MotionWindow, check_finite, norm};
pub use layout::{ActionLayout, ActionMode, ActionPart, MAX_ACTION};
pub(crate) use layout::{split_rows, widen};
pub(crate) use motion::MotionTracker;
pub use scale::{MotionScale, MotionScaleEstimator, PERCENTILE};
pub use sketch::PercentileSketch;
pub use window::TargetWindow;
