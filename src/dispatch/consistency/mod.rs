//! The consistency rule: runs a cheap profile and accepts its action if it is close to the last
//! one.
//!
//! # Profiles
//! A [`Profile`] is a width for each layer: `max(step width, floor)`. The low profile has a narrow
//! step width, A2 by default, and the high profile a wide one, A4 by default. The floors are the
//! same in both ([`LayerFloors`](super::LayerFloors)).
//!
//! # Order of calls
//! 1. [`ConsistencyRule::decide`] returns the profile of the first run.
//! 2. The policy runs at that profile.
//! 3. [`ConsistencyRule::verify`] checks its action. If it is not accepted, the step runs again at
//!    the high profile. The second result is final.
//! 4. [`ConsistencyRule::command`] limits how far an accepted low action is followed, if `alpha`
//!    is below 1.
//! 5. [`ConsistencyRule::observe`] or [`observe_chunk`](ConsistencyRule::observe_chunk) adds what
//!    the robot executed.
//!
//! [`StepPipeline::run_consistent`](crate::step::StepPipeline::run_consistent) makes the calls 1
//! to 3. Each run is a step of its own for the flag and the latch.
//!
//! # Formulas
//! A low action `a` is accepted if `|a - a_last| <= tau`, the L2 distance over all numbers, with
//! `tau = min(tau_max, d_acc / (S + eta))` or a constant. S is the sensitivity of the
//! [dispatcher](super), from the executed actions. `a`, `tau`, `tau_max` and `d_acc` have the unit
//! of actions; S and eta have none.
//!
//! A chunk is compared with the actions of the last chunk for the same times, which were not
//! executed: the mean of their L2 distances. Without such actions, its first action is compared
//! with the last executed one.
//!
//! The low profile is not tried at all in these cases:
//! - The last `refresh` steps were accepted low runs, if `refresh` is not 0. This bounds how far
//!   a series of accepted actions can drift: `refresh * tau_max`.
//! - The policy was uncertain in the last step. The uncertainty u is the norm of the standard
//!   deviations of the action's numbers under the softmax of their logits. Its rank among the
//!   [quantiles](UncertaintyQuantiles) of the profile that ran is above `gate`. The quantiles come
//!   from a calibration, or sketches of fixed size keep them online
//!   ([`ConsistencyRule::with_online_uncertainty`]).
//!
//! # Failure behavior
//! Every case without a valid comparison runs at the high profile: the start, an action that is
//! not finite or has another length, an S that is NaN or infinite, an uncertainty that is missing
//! or not finite. After an executed action that is invalid the history is empty, and every step
//! runs at the high profile until a valid action is observed.
//!
//! # Cost
//! The state has a fixed size, and no call allocates, except for an error's message.
//! `docs/results/consistency.md` has the error at equal cost beside random widths.

mod config;
mod online;
mod rule;

pub use config::{ConsistencyConfig, Tolerance, UncertaintyQuantiles};
pub use rule::{
    ConsistencyCheck, ConsistencyDecision, ConsistencyReason, ConsistencyRule, Profile,
};
