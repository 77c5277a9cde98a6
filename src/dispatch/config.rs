//! Configuration of a dispatcher: windows, weights, thresholds, and the layout of actions.

use super::cost::StepCosts;
use super::layout::ActionLayout;
use super::scale::MotionScale;
use crate::{Error, Result, Width};

/// The boundaries of Phi on the sensitivity axis: `0 <= theta_24 <= theta_48 <= theta_fp`.
///
/// Two equal boundaries make the band between them empty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// The largest S that runs at 2 bits.
    pub theta_24: f64,
    /// The largest S that runs at 4 bits.
    pub theta_48: f64,
    /// The largest S that runs at 8 bits. Above it, the target is BF16.
    pub theta_fp: f64,
}

/// The hysteresis that turns target widths into active widths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Algorithm {
    /// Algorithm 1 of the paper, the saturating counter.
    #[default]
    SaturatingCounter,
    /// Eq. 4 of the paper, the window operator. The counter approximates it in constant space.
    Window,
}

/// The configuration of a [`Dispatcher`](super::Dispatcher), which validates it.
///
/// ```
/// use w4ax::dispatch::{DispatchConfig, MotionScale, Thresholds};
/// let motion = MotionScale { mu_max: 0.9, nu_max: 0.2 };
/// let thresholds = Thresholds { theta_24: 0.275, theta_48: 0.4, theta_fp: 0.5 };
/// let config = DispatchConfig::new(motion, thresholds).with_lambda(0.4).with_k(6);
/// assert_eq!(config.k(), 6);
/// assert!(config.with_k(0).validate().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DispatchConfig {
    lambda: f64,
    window_macro: usize,
    window_micro: usize,
    k: u32,
    thresholds: Thresholds,
    motion: MotionScale,
    algorithm: Algorithm,
    layout: ActionLayout,
    costs: Option<StepCosts>,
}

impl DispatchConfig {
    /// The longest kinematic window, in actions. It bounds the dispatcher's state: a window takes
    /// 8 bytes per action.
    pub const MAX_WINDOW: usize = 256;
    /// The default weight of the macro motion.
    pub const LAMBDA: f64 = 0.5;
    /// The default macro window, in actions; the paper's value.
    pub const WINDOW_MACRO: usize = 10;
    /// The default micro window, in actions; the paper's value.
    pub const WINDOW_MICRO: usize = 5;
    /// The default K of the hysteresis, in steps.
    pub const K: u32 = 4;
    /// The default boundary of BF16; the paper's value.
    pub const THETA_FP: f64 = 0.5;

    /// Returns the default windows, lambda, K, algorithm and layout with the given motion scale and
    /// thresholds. No value is checked yet.
    pub const fn new(motion: MotionScale, thresholds: Thresholds) -> Self {
        Self {
            lambda: Self::LAMBDA,
            window_macro: Self::WINDOW_MACRO,
            window_micro: Self::WINDOW_MICRO,
            k: Self::K,
            thresholds,
            motion,
            algorithm: Algorithm::SaturatingCounter,
            layout: ActionLayout::end_effector(),
            costs: None,
        }
    }

    /// Sets the weight of the macro motion in S, in [0, 1].
    #[must_use]
    pub const fn with_lambda(mut self, lambda: f64) -> Self {
        self.lambda = lambda;
        self
    }

    /// Sets the number of actions in the mean of M, 1 to [`MAX_WINDOW`](Self::MAX_WINDOW).
    #[must_use]
    pub const fn with_window_macro(mut self, window_macro: usize) -> Self {
        self.window_macro = window_macro;
        self
    }

    /// Sets the number of actions in the mean of J, 1 to [`MAX_WINDOW`](Self::MAX_WINDOW).
    #[must_use]
    pub const fn with_window_micro(mut self, window_micro: usize) -> Self {
        self.window_micro = window_micro;
        self
    }

    /// Sets K, the number of steps that a lower target must last before the width goes down. At
    /// least 1.
    #[must_use]
    pub const fn with_k(mut self, k: u32) -> Self {
        self.k = k;
        self
    }

    /// Sets the boundaries of Phi.
    #[must_use]
    pub const fn with_thresholds(mut self, thresholds: Thresholds) -> Self {
        self.thresholds = thresholds;
        self
    }

    /// Sets the scale of the task's motion.
    #[must_use]
    pub const fn with_motion(mut self, motion: MotionScale) -> Self {
        self.motion = motion;
        self
    }

    /// Sets the hysteresis.
    #[must_use]
    pub const fn with_algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// Sets what the numbers of an action are.
    #[must_use]
    pub const fn with_layout(mut self, layout: ActionLayout) -> Self {
        self.layout = layout;
        self
    }

    /// Sets the cost of a step at each width. A target whose width is dominated becomes the
    /// narrowest useful width above it, see [`StepCosts`]. Without costs, the default, the rule is
    /// exactly that of the paper.
    #[must_use]
    pub const fn with_costs(mut self, costs: StepCosts) -> Self {
        self.costs = Some(costs);
        self
    }

    /// Sets or removes the costs, see [`with_costs`](Self::with_costs).
    pub(super) const fn set_costs(&mut self, costs: Option<StepCosts>) {
        self.costs = costs;
    }

    /// Returns the weight of the macro motion in S.
    pub const fn lambda(&self) -> f64 {
        self.lambda
    }

    /// Returns the number of actions in the mean of M.
    pub const fn window_macro(&self) -> usize {
        self.window_macro
    }

    /// Returns the number of actions in the mean of J.
    pub const fn window_micro(&self) -> usize {
        self.window_micro
    }

    /// Returns K, in steps.
    pub const fn k(&self) -> u32 {
        self.k
    }

    /// Returns the boundaries of Phi.
    pub const fn thresholds(&self) -> Thresholds {
        self.thresholds
    }

    /// Returns the scale of the task's motion.
    pub const fn motion(&self) -> MotionScale {
        self.motion
    }

    /// Returns the hysteresis.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Returns what the numbers of an action are.
    pub const fn layout(&self) -> &ActionLayout {
        &self.layout
    }

    /// Returns the cost of a step at each width, if it is set.
    pub const fn costs(&self) -> Option<&StepCosts> {
        self.costs.as_ref()
    }

    /// Checks every field. A layout is valid by its construction.
    ///
    /// # Errors
    /// [`Error::Config`] with the first field that is out of range.
    pub fn validate(&self) -> Result<()> {
        if !(0.0..=1.0).contains(&self.lambda) {
            return invalid(
                "lambda",
                format!("is {}: expected a value in [0, 1]", self.lambda),
            );
        }
        for (field, window) in [
            ("window_macro", self.window_macro),
            ("window_micro", self.window_micro),
        ] {
            if !(1..=Self::MAX_WINDOW).contains(&window) {
                let reason = format!("is {window}: expected 1 to {}", Self::MAX_WINDOW);
                return invalid(field, reason);
            }
        }
        if self.k == 0 {
            return invalid("k", "is 0: expected at least 1".into());
        }
        self.thresholds.validate()?;
        if let Some(costs) = &self.costs {
            costs.validate()?;
        }
        self.motion.validate()
    }

    /// Returns the target width of a sensitivity: Phi(S), or the narrowest useful width above it.
    pub(super) fn target(&self, sensitivity: f64) -> Width {
        let target = self.thresholds.target(sensitivity);
        match &self.costs {
            Some(costs) => costs.at_least(target),
            None => target,
        }
    }
}

impl Thresholds {
    /// Phi: returns the target width of a sensitivity. The target of NaN is BF16.
    pub fn target(&self, sensitivity: f64) -> Width {
        // Each comparison is false for NaN.
        if sensitivity <= self.theta_24 {
            Width::A2
        } else if sensitivity <= self.theta_48 {
            Width::A4
        } else if sensitivity <= self.theta_fp {
            Width::A8
        } else {
            Width::Bf16
        }
    }

    /// Checks that the thresholds are finite, not negative and in ascending order.
    ///
    /// # Errors
    /// [`Error::Config`] with the first threshold that is not.
    pub fn validate(&self) -> Result<()> {
        let (mut lower, mut bound) = ("0", 0.0);
        for (field, theta) in [
            ("theta_24", self.theta_24),
            ("theta_48", self.theta_48),
            ("theta_fp", self.theta_fp),
        ] {
            if !theta.is_finite() {
                return invalid(field, format!("is {theta}: expected a finite value"));
            }
            if theta < bound {
                return invalid(
                    field,
                    format!("is {theta}: expected at least {lower} ({bound})"),
                );
            }
            (lower, bound) = (field, theta);
        }
        Ok(())
    }
}

pub(super) fn invalid<T>(field: &'static str, reason: String) -> Result<T> {
    Err(Error::Config { field, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> DispatchConfig {
        DispatchConfig::new(
            MotionScale {
                mu_max: 0.9,
                nu_max: 0.2,
            },
            Thresholds {
                theta_24: 0.1,
                theta_48: 0.3,
                theta_fp: 0.5,
            },
        )
    }

    /// Changes the defaults and returns the field that validation rejects, if any.
    fn rejected_field(change: impl FnOnce(&mut DispatchConfig)) -> Option<&'static str> {
        let mut config = config();
        change(&mut config);
        match config.validate() {
            Ok(()) => None,
            Err(Error::Config { field, reason }) => {
                assert!(!reason.is_empty());
                Some(field)
            }
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn accepts_values_within_range() {
        assert_eq!(rejected_field(|_| ()), None);
        assert_eq!(rejected_field(|c| c.lambda = 0.0), None);
        assert_eq!(rejected_field(|c| c.lambda = 1.0), None);
        assert_eq!(rejected_field(|c| c.window_macro = 1), None);
        assert_eq!(
            rejected_field(|c| c.window_micro = DispatchConfig::MAX_WINDOW),
            None
        );
        assert_eq!(rejected_field(|c| c.k = u32::MAX), None);
        assert_eq!(
            rejected_field(|c| c.thresholds.theta_48 = c.thresholds.theta_fp),
            None
        );
        let zero = Thresholds {
            theta_24: 0.0,
            theta_48: 0.0,
            theta_fp: 0.0,
        };
        assert_eq!(rejected_field(|c| c.thresholds = zero), None);
    }

    #[test]
    fn rejects_each_field_out_of_range_by_name() {
        for bad in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert_eq!(rejected_field(|c| c.lambda = bad), Some("lambda"));
        }
        for bad in [0, DispatchConfig::MAX_WINDOW + 1, usize::MAX] {
            assert_eq!(
                rejected_field(|c| c.window_macro = bad),
                Some("window_macro")
            );
            assert_eq!(
                rejected_field(|c| c.window_micro = bad),
                Some("window_micro")
            );
        }
        assert_eq!(rejected_field(|c| c.k = 0), Some("k"));
        for bad in [-0.1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(
                rejected_field(|c| c.thresholds.theta_24 = bad),
                Some("theta_24")
            );
            assert_eq!(
                rejected_field(|c| c.thresholds.theta_48 = bad),
                Some("theta_48")
            );
            assert_eq!(
                rejected_field(|c| c.thresholds.theta_fp = bad),
                Some("theta_fp")
            );
        }
        assert_eq!(
            rejected_field(|c| c.thresholds.theta_24 = 0.31),
            Some("theta_48")
        );
        assert_eq!(
            rejected_field(|c| c.thresholds.theta_48 = 0.51),
            Some("theta_fp")
        );
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(rejected_field(|c| c.motion.mu_max = bad), Some("mu_max"));
            assert_eq!(rejected_field(|c| c.motion.nu_max = bad), Some("nu_max"));
        }
    }

    #[test]
    fn target_bands_include_their_upper_edge() {
        let t = config().thresholds;
        let at = |s| t.target(s).bits();
        assert_eq!([0.0, 0.1, 0.1_f64.next_up()].map(at), [2, 2, 4]);
        assert_eq!([0.3, 0.3_f64.next_up(), 0.5].map(at), [4, 8, 8]);
        assert_eq!(
            [0.5_f64.next_up(), 1.0, f64::INFINITY, f64::NAN].map(at),
            [16; 4]
        );
        // An empty band: no sensitivity has the target 8 bits.
        let t = Thresholds { theta_48: 0.5, ..t };
        assert_eq!(
            [0.5, 0.5_f64.next_up()].map(|s| t.target(s).bits()),
            [4, 16]
        );
    }
}
