//! The settings of a calibration.

use super::file::{Calibration, TaskScale};
use crate::dispatch::{ActionLayout, DispatchConfig, MotionScale, Thresholds};
use crate::{Error, Result};

/// The actions from which a calibration computes the sensitivity S of the next step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SensitivitySource {
    /// The actions at A4: a quantized policy is what runs.
    #[default]
    W4a4,
    /// The full-precision actions, as in the paper.
    Reference,
}

/// The settings of a calibration. [`Default`] holds those of the recorded calibration.
///
/// ```
/// use w4ax::calibrate::CalibrationSettings;
/// let settings = CalibrationSettings::default().with_d_acc(0.1);
/// assert_eq!((settings.d_acc(), settings.eta()), (0.1, 0.05));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CalibrationSettings {
    lambda: f64,
    window_macro: usize,
    window_micro: usize,
    k: u32,
    theta_fp: f64,
    eta: f64,
    d_acc: f64,
    layout: ActionLayout,
    derives_theta_fp: bool,
    sensitivity_from: SensitivitySource,
}

impl Default for CalibrationSettings {
    fn default() -> Self {
        Self {
            lambda: DispatchConfig::LAMBDA,
            window_macro: DispatchConfig::WINDOW_MACRO,
            window_micro: DispatchConfig::WINDOW_MICRO,
            k: DispatchConfig::K,
            theta_fp: DispatchConfig::THETA_FP,
            eta: 0.05,
            d_acc: 0.07,
            layout: ActionLayout::end_effector(),
            derives_theta_fp: false,
            sensitivity_from: SensitivitySource::W4a4,
        }
    }
}

impl CalibrationSettings {
    /// Sets the weight of the macro motion in S, see [`DispatchConfig::with_lambda`].
    #[must_use]
    pub const fn with_lambda(mut self, lambda: f64) -> Self {
        self.lambda = lambda;
        self
    }

    /// Sets the window of M in actions, see [`DispatchConfig::with_window_macro`].
    #[must_use]
    pub const fn with_window_macro(mut self, window_macro: usize) -> Self {
        self.window_macro = window_macro;
        self
    }

    /// Sets the window of J in actions, see [`DispatchConfig::with_window_micro`].
    #[must_use]
    pub const fn with_window_micro(mut self, window_micro: usize) -> Self {
        self.window_micro = window_micro;
        self
    }

    /// Sets K of the hysteresis in steps, see [`DispatchConfig::with_k`].
    #[must_use]
    pub const fn with_k(mut self, k: u32) -> Self {
        self.k = k;
        self
    }

    /// Sets the S above which BF16 runs. Finite and above 0.
    #[must_use]
    pub const fn with_theta_fp(mut self, theta_fp: f64) -> Self {
        self.theta_fp = theta_fp;
        self.derives_theta_fp = false;
        self
    }

    /// Derives theta_fp from the errors at 8 bits instead: it is [`ErrorProfile::theta_8`] of bins
    /// over [0, 1].
    ///
    /// [`ErrorProfile::theta_8`]: super::ErrorProfile::theta_8
    #[must_use]
    pub const fn with_derived_theta_fp(mut self) -> Self {
        self.derives_theta_fp = true;
        self
    }

    /// Sets the actions from which S is computed.
    #[must_use]
    pub const fn with_sensitivity_from(mut self, source: SensitivitySource) -> Self {
        self.sensitivity_from = source;
        self
    }

    /// Sets eta, which keeps the error bound finite at S = 0. Finite and at least 0.
    #[must_use]
    pub const fn with_eta(mut self, eta: f64) -> Self {
        self.eta = eta;
        self
    }

    /// Sets D_acc, the error bound at `S + eta = 1`, in action units. Finite and above 0.
    #[must_use]
    pub const fn with_d_acc(mut self, d_acc: f64) -> Self {
        self.d_acc = d_acc;
        self
    }

    /// Sets what the numbers of an action are, see [`DispatchConfig::with_layout`].
    #[must_use]
    pub const fn with_layout(mut self, layout: ActionLayout) -> Self {
        self.layout = layout;
        self
    }

    /// Returns what the numbers of an action are.
    pub const fn layout(&self) -> &ActionLayout {
        &self.layout
    }

    /// Returns whether theta_fp is derived from the errors at 8 bits.
    pub const fn derives_theta_fp(&self) -> bool {
        self.derives_theta_fp
    }

    /// Returns the actions from which S is computed.
    pub const fn sensitivity_from(&self) -> SensitivitySource {
        self.sensitivity_from
    }

    /// Returns the S above which BF16 runs, if it is not derived.
    pub const fn theta_fp(&self) -> f64 {
        self.theta_fp
    }

    /// Returns eta.
    pub const fn eta(&self) -> f64 {
        self.eta
    }

    /// Returns D_acc, in action units.
    pub const fn d_acc(&self) -> f64 {
        self.d_acc
    }

    /// Returns the configuration for computing S. The thresholds are not known yet.
    pub(super) fn dispatch_config(&self, motion: MotionScale) -> DispatchConfig {
        let unset = Thresholds {
            theta_24: 0.0,
            theta_48: 0.0,
            theta_fp: self.theta_fp,
        };
        DispatchConfig::new(motion, unset)
            .with_lambda(self.lambda)
            .with_window_macro(self.window_macro)
            .with_window_micro(self.window_micro)
            .with_k(self.k)
            .with_layout(self.layout)
    }

    /// Returns a calibration with these settings, without errors, costs and consistency rule.
    pub(super) fn calibration(&self, tasks: Vec<TaskScale>, thresholds: Thresholds) -> Calibration {
        Calibration {
            lambda: self.lambda,
            window_macro: self.window_macro,
            window_micro: self.window_micro,
            k: self.k,
            thresholds,
            eta: self.eta,
            d_acc: self.d_acc,
            layout: self.layout,
            tasks,
            errors: None,
            costs: None,
            consistency: None,
        }
    }

    pub(super) fn validate(&self) -> Result<()> {
        check_bound(self.eta, self.d_acc)?;
        if !(self.theta_fp.is_finite() && self.theta_fp > 0.0) {
            let reason = format!("is {}: expected a finite value above 0", self.theta_fp);
            return Err(Error::Config {
                field: "theta_fp",
                reason,
            });
        }
        let unit = MotionScale {
            mu_max: 1.0,
            nu_max: 1.0,
        };
        self.dispatch_config(unit).validate()
    }
}

/// Checks the two parameters of the error bound.
pub(super) fn check_bound(eta: f64, d_acc: f64) -> Result<()> {
    if !(eta.is_finite() && eta >= 0.0) {
        let reason = format!("is {eta}: expected a finite value of at least 0");
        return Err(Error::Config {
            field: "eta",
            reason,
        });
    }
    if !(d_acc.is_finite() && d_acc > 0.0) {
        let reason = format!("is {d_acc}: expected a finite value above 0");
        return Err(Error::Config {
            field: "d_acc",
            reason,
        });
    }
    Ok(())
}
