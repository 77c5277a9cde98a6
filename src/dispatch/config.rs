//! What a dispatcher is told: windows, weights, thresholds, and the scale of a task's motion.

use crate::{Error, Result, Width};

/// The longest kinematic window, in actions. It bounds a dispatcher's state: 8 bytes an action and window.
pub const MAX_WINDOW: usize = 256;

/// How fast a task moves: what its motion is normalized by (95th percentiles of the calibration data).
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct MotionScale {
    /// Of `|a_xyz|`, in action units; finite and above 0.
    pub mu_max: f64,
    /// Of `|a_rot(t) - a_rot(t-1)|`, in action units a step; finite and above 0.
    pub nu_max: f64,
}

/// The boundaries of Phi on the sensitivity axis; `0 <= theta_24 <= theta_48 <= theta_fp`, equal ones make an
/// empty band.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// The largest S that still runs at 2 bits.
    pub theta_24: f64,
    /// The largest S that still runs at 4 bits.
    pub theta_48: f64,
    /// The largest S that still runs at 8 bits; above it, BF16.
    pub theta_fp: f64,
}

/// How targets become active widths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// Algorithm 1 of the paper, the saturating counter.
    #[default]
    SaturatingCounter,
    /// Eq. 4 of the paper, the window operator that the counter stands for: kept as the reference beside it.
    Window,
}

/// The configuration of a [`Dispatcher`](super::Dispatcher). Checked when one is made from it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DispatchConfig {
    /// The share of the macro motion in S, in [0, 1].
    pub lambda: f64,
    /// Actions in the mean of M, 1 to [`MAX_WINDOW`].
    pub window_macro: usize,
    /// Actions in the mean of J, 1 to [`MAX_WINDOW`].
    pub window_micro: usize,
    /// Steps that a lower target must last before the width goes down, at least 1.
    pub k: u32,
    /// The boundaries of Phi.
    pub thresholds: Thresholds,
    /// The scale of the task's motion.
    pub motion: MotionScale,
    /// How targets become active widths.
    pub algorithm: Algorithm,
}

impl DispatchConfig {
    /// The weight of the macro motion in the recorded calibration.
    pub const LAMBDA: f64 = 0.5;
    /// The paper's macro window.
    pub const WINDOW_MACRO: usize = 10;
    /// The paper's micro window.
    pub const WINDOW_MICRO: usize = 5;
    /// The hysteresis of the recorded calibration.
    pub const K: u32 = 4;
    /// The paper's boundary of BF16.
    pub const THETA_FP: f64 = 0.5;

    /// The default windows, lambda, K and algorithm with a calibration's thresholds and motion scale. Nothing is
    /// checked yet.
    pub const fn new(motion: MotionScale, thresholds: Thresholds) -> Self {
        Self {
            lambda: Self::LAMBDA,
            window_macro: Self::WINDOW_MACRO,
            window_micro: Self::WINDOW_MICRO,
            k: Self::K,
            thresholds,
            motion,
            algorithm: Algorithm::SaturatingCounter,
        }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`Error::Config`] with the first field that is outside its range.
    pub fn validate(&self) -> Result<()> {
        if !(0.0..=1.0).contains(&self.lambda) {
            return refuse(
                "lambda",
                format!("is {}, it must be in [0, 1]", self.lambda),
            );
        }
        for (field, window) in [
            ("window_macro", self.window_macro),
            ("window_micro", self.window_micro),
        ] {
            if !(1..=MAX_WINDOW).contains(&window) {
                return refuse(
                    field,
                    format!("is {window}, it must be in 1..={MAX_WINDOW}"),
                );
            }
        }
        if self.k == 0 {
            return refuse("k", "is 0, it must be at least 1".into());
        }
        self.thresholds.validate()?;
        self.motion.validate()
    }
}

impl Thresholds {
    /// Phi: the width that a sensitivity asks for. One that is not a number asks for BF16.
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

    /// # Errors
    /// [`Error::Config`] with the threshold that is not finite, negative, or below the one before it.
    pub fn validate(&self) -> Result<()> {
        let mut below = ("0", 0.0);
        for (field, theta) in [
            ("theta_24", self.theta_24),
            ("theta_48", self.theta_48),
            ("theta_fp", self.theta_fp),
        ] {
            if !theta.is_finite() {
                return refuse(field, format!("is {theta}, it must be finite"));
            }
            if theta < below.1 {
                let reason = format!("is {theta}, it must be at least {} ({})", below.0, below.1);
                return refuse(field, reason);
            }
            below = (field, theta);
        }
        Ok(())
    }
}

impl MotionScale {
    /// # Errors
    /// [`Error::Config`] with the field that is not finite and above 0.
    pub fn validate(&self) -> Result<()> {
        for (field, value) in [("mu_max", self.mu_max), ("nu_max", self.nu_max)] {
            if !(value.is_finite() && value > 0.0) {
                return refuse(field, format!("is {value}, it must be finite and above 0"));
            }
        }
        Ok(())
    }
}

fn refuse<T>(field: &'static str, reason: String) -> Result<T> {
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

    /// The field that validation of `change`d defaults names, if it refuses.
    fn refused(change: impl FnOnce(&mut DispatchConfig)) -> Option<&'static str> {
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
    fn the_good_ones_pass() {
        assert_eq!(refused(|_| ()), None);
        assert_eq!(refused(|c| c.lambda = 0.0), None);
        assert_eq!(refused(|c| c.lambda = 1.0), None);
        assert_eq!(refused(|c| c.window_macro = 1), None);
        assert_eq!(refused(|c| c.window_micro = MAX_WINDOW), None);
        assert_eq!(refused(|c| c.k = u32::MAX), None);
        assert_eq!(
            refused(|c| c.thresholds.theta_48 = c.thresholds.theta_fp),
            None
        );
        let zero = Thresholds {
            theta_24: 0.0,
            theta_48: 0.0,
            theta_fp: 0.0,
        };
        assert_eq!(refused(|c| c.thresholds = zero), None);
    }

    #[test]
    fn every_field_is_checked_and_named() {
        for bad in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert_eq!(refused(|c| c.lambda = bad), Some("lambda"));
        }
        for bad in [0, MAX_WINDOW + 1, usize::MAX] {
            assert_eq!(refused(|c| c.window_macro = bad), Some("window_macro"));
            assert_eq!(refused(|c| c.window_micro = bad), Some("window_micro"));
        }
        assert_eq!(refused(|c| c.k = 0), Some("k"));
        for bad in [-0.1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(refused(|c| c.thresholds.theta_24 = bad), Some("theta_24"));
            assert_eq!(refused(|c| c.thresholds.theta_48 = bad), Some("theta_48"));
            assert_eq!(refused(|c| c.thresholds.theta_fp = bad), Some("theta_fp"));
        }
        assert_eq!(refused(|c| c.thresholds.theta_24 = 0.31), Some("theta_48"));
        assert_eq!(refused(|c| c.thresholds.theta_48 = 0.51), Some("theta_fp"));
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(refused(|c| c.motion.mu_max = bad), Some("mu_max"));
            assert_eq!(refused(|c| c.motion.nu_max = bad), Some("nu_max"));
        }
    }

    #[test]
    fn bands_are_closed_above() {
        let t = config().thresholds;
        let at = |s| t.target(s).bits();
        assert_eq!([0.0, 0.1, 0.1_f64.next_up()].map(at), [2, 2, 4]);
        assert_eq!([0.3, 0.3_f64.next_up(), 0.5].map(at), [4, 8, 8]);
        assert_eq!(
            [0.5_f64.next_up(), 1.0, f64::INFINITY, f64::NAN].map(at),
            [16; 4]
        );
        // An empty band: nothing asks for 8 bits.
        let t = Thresholds { theta_48: 0.5, ..t };
        assert_eq!(
            [0.5, 0.5_f64.next_up()].map(|s| t.target(s).bits()),
            [4, 16]
        );
    }
}
