//! Configuration of the consistency rule.

use crate::dispatch::config::invalid;
use crate::dispatch::{ActionLayout, DispatchConfig, MotionScale, Thresholds};
use crate::{Result, Width};

/// How far a low action may be from the last one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tolerance {
    /// `tau = min(tau_max, d_acc / (S + eta))`.
    Motion {
        /// The error bound at `S + eta = 1`, in action units. Finite and above 0.
        d_acc: f64,
        /// Keeps the bound finite at S = 0. Finite and at least 0.
        eta: f64,
        /// The largest tolerance, in action units. Finite and above 0.
        tau_max: f64,
    },
    /// The same tolerance in every step, in action units. Finite and above 0.
    Constant(f64),
}

impl Default for Tolerance {
    fn default() -> Self {
        Self::Motion {
            d_acc: 0.07,
            eta: 0.05,
            tau_max: 0.6,
        }
    }
}

impl Tolerance {
    /// Returns the tolerance at a sensitivity, in action units. It is 0 if S is NaN or infinite.
    pub fn at(&self, sensitivity: f64) -> f64 {
        match *self {
            Self::Constant(tau) => tau,
            Self::Motion { .. } if !sensitivity.is_finite() => 0.0,
            Self::Motion {
                d_acc,
                eta,
                tau_max,
            } => (d_acc / (sensitivity + eta)).min(tau_max),
        }
    }

    /// Returns the largest tolerance, in action units.
    pub const fn most(&self) -> f64 {
        match *self {
            Self::Motion { tau_max, .. } => tau_max,
            Self::Constant(tau) => tau,
        }
    }

    fn validate(&self) -> Result<()> {
        let positive = |field, value: f64| match value.is_finite() && value > 0.0 {
            true => Ok(()),
            false => invalid(
                field,
                format!("is {value}: expected a finite value above 0"),
            ),
        };
        match *self {
            Self::Constant(tau) => positive("tau", tau),
            Self::Motion {
                d_acc,
                eta,
                tau_max,
            } => {
                positive("d_acc", d_acc)?;
                positive("tau_max", tau_max)?;
                match eta.is_finite() && eta >= 0.0 {
                    true => Ok(()),
                    false => {
                        let reason = format!("is {eta}: expected a finite value of at least 0");
                        invalid("eta", reason)
                    }
                }
            }
        }
    }
}

/// The distribution of the uncertainty at each profile, from recorded steps.
#[derive(Clone, Debug, PartialEq)]
pub struct UncertaintyQuantiles {
    /// `[101]`: the quantiles 0 to 100 % at the low profile, in action units.
    low: [f64; Self::POINTS],
    /// `[101]`: those at the high profile.
    high: [f64; Self::POINTS],
}

impl UncertaintyQuantiles {
    /// The number of quantiles: 0, 1, ... 100 %.
    pub const POINTS: usize = 101;

    /// Creates quantiles, `[101]` each.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if there are not 101 values, or they are not finite
    /// and in ascending order.
    pub fn new(low: &[f64], high: &[f64]) -> Result<Self> {
        let checked = |field, values: &[f64]| {
            let Ok(array) = <[f64; Self::POINTS]>::try_from(values) else {
                let reason = format!("has {} values: expected {}", values.len(), Self::POINTS);
                return invalid(field, reason);
            };
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                let reason = format!("is {} at {at}: expected a finite value", values[at]);
                return invalid(field, reason);
            }
            if let Some(at) = values.windows(2).position(|pair| pair[0] > pair[1]) {
                let reason = format!("descends after {at}: expected ascending values");
                return invalid(field, reason);
            }
            Ok(array)
        };
        Ok(Self {
            low: checked("uncertainty_low", low)?,
            high: checked("uncertainty_high", high)?,
        })
    }

    /// Computes the quantiles of samples by linear interpolation. The samples are sorted.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if there are none, or one is not finite.
    pub fn of_samples(low: &mut [f64], high: &mut [f64]) -> Result<Self> {
        let quantiles = |field, samples: &mut [f64]| {
            if samples.is_empty() {
                return invalid(field, "has no samples: expected at least one".into());
            }
            samples.sort_by(f64::total_cmp);
            let last = (samples.len() - 1) as f64;
            let quantile = |percent: usize| {
                let at = last * percent as f64 / 100.0;
                let below = at.floor();
                let [a, b] = [below, at.ceil()].map(|at| samples[at as usize]);
                a + (b - a) * (at - below)
            };
            Ok((0..Self::POINTS).map(quantile).collect::<Vec<_>>())
        };
        let low = quantiles("uncertainty_low", low)?;
        Self::new(&low, &quantiles("uncertainty_high", high)?)
    }

    /// Returns the quantiles at the low profile, `[101]`.
    pub const fn low(&self) -> &[f64] {
        &self.low
    }

    /// Returns the quantiles at the high profile, `[101]`.
    pub const fn high(&self) -> &[f64] {
        &self.high
    }

    /// Returns the share of quantiles that are at most `uncertainty`, in [0, 1].
    pub(super) fn rank(&self, profile: super::Profile, uncertainty: f64) -> f64 {
        let quantiles = match profile {
            super::Profile::Low => &self.low,
            super::Profile::High => &self.high,
        };
        let below = quantiles.partition_point(|&quantile| quantile <= uncertainty);
        below as f64 / Self::POINTS as f64
    }
}

/// The configuration of a [`ConsistencyRule`](super::ConsistencyRule), which validates it.
///
/// ```
/// use w4ax::Width;
/// use w4ax::dispatch::{ConsistencyConfig, MotionScale, Tolerance};
/// let motion = MotionScale { mu_max: 0.9, nu_max: 0.2 };
/// let config = ConsistencyConfig::new(motion)
///     .with_widths(Width::A4, Width::A8)
///     .with_tolerance(Tolerance::Constant(0.1))
///     .with_refresh(20);
/// assert!(config.validate().is_ok());
/// assert!(config.with_widths(Width::A8, Width::A4).validate().is_err());
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ConsistencyConfig {
    low: Width,
    high: Width,
    tolerance: Tolerance,
    gate: f64,
    quantiles: Option<Box<UncertaintyQuantiles>>,
    alpha: f64,
    refresh: u32,
    max_chunk: usize,
    kinematics: DispatchConfig,
}

impl ConsistencyConfig {
    /// The rank of the uncertainty above which the low profile is not tried, with quantiles.
    pub const GATE: f64 = 0.8;
    /// The largest number of actions in a chunk. It bounds the state.
    pub const MAX_CHUNK: usize = 256;

    /// Returns the defaults with the scale of a task's motion: A2 and A4, [`Tolerance::default`],
    /// no gate, alpha 1, no refresh, the default layout.
    pub fn new(motion: MotionScale) -> Self {
        // The thresholds of the motion rule have no effect here.
        let thresholds = Thresholds {
            theta_24: 0.0,
            theta_48: 0.0,
            theta_fp: DispatchConfig::THETA_FP,
        };
        Self::with_kinematics(DispatchConfig::new(motion, thresholds))
    }

    /// As [`new`](Self::new), with the scale, windows, lambda and layout of a dispatcher's
    /// configuration. Its thresholds, K, algorithm and costs have no effect.
    pub fn with_kinematics(kinematics: DispatchConfig) -> Self {
        Self {
            low: Width::A2,
            high: Width::A4,
            tolerance: Tolerance::default(),
            gate: 1.0,
            quantiles: None,
            alpha: 1.0,
            refresh: 0,
            max_chunk: 1,
            kinematics,
        }
    }

    /// Sets the step widths of the profiles. With two equal widths the choice is static: every step
    /// runs at the high profile.
    #[must_use]
    pub fn with_widths(mut self, low: Width, high: Width) -> Self {
        (self.low, self.high) = (low, high);
        self
    }

    /// Sets how far a low action may be from the last one.
    #[must_use]
    pub fn with_tolerance(mut self, tolerance: Tolerance) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// Sets the rank of the uncertainty, in (0, 1], above which the low profile is not tried. 1 is
    /// no gate.
    #[must_use]
    pub fn with_gate(mut self, gate: f64, quantiles: UncertaintyQuantiles) -> Self {
        (self.gate, self.quantiles) = (gate, Some(Box::new(quantiles)));
        self
    }

    /// Sets the rank of the uncertainty for a rule that keeps its distribution
    /// [online](super::ConsistencyRule::with_online_uncertainty), and removes the quantiles.
    /// Without such a distribution there is no gate.
    #[must_use]
    pub fn with_online_gate(mut self, gate: f64) -> Self {
        (self.gate, self.quantiles) = (gate, None);
        self
    }

    /// Sets what the numbers of an action are.
    #[must_use]
    pub fn with_layout(mut self, layout: ActionLayout) -> Self {
        self.kinematics = self.kinematics.with_layout(layout);
        self
    }

    /// Sets how far an accepted low action is followed, in (0, 1]. 1 is as it is; one half halves
    /// its noise.
    #[must_use]
    pub fn with_alpha(mut self, alpha: f64) -> Self {
        self.alpha = alpha;
        self
    }

    /// Sets the number of accepted low runs in a row after which a step runs at the high profile. 0
    /// is never.
    #[must_use]
    pub fn with_refresh(mut self, refresh: u32) -> Self {
        self.refresh = refresh;
        self
    }

    /// Sets the largest number of actions in a chunk, 1 to [`MAX_CHUNK`](Self::MAX_CHUNK).
    #[must_use]
    pub fn with_max_chunk(mut self, actions: usize) -> Self {
        self.max_chunk = actions;
        self
    }

    /// Returns the step width of the low profile.
    pub const fn low(&self) -> Width {
        self.low
    }

    /// Returns the step width of the high profile.
    pub const fn high(&self) -> Width {
        self.high
    }

    /// Returns how far a low action may be from the last one.
    pub const fn tolerance(&self) -> &Tolerance {
        &self.tolerance
    }

    /// Returns the rank of the uncertainty above which the low profile is not tried.
    pub const fn gate(&self) -> f64 {
        self.gate
    }

    /// Returns the quantiles of the uncertainty.
    pub fn quantiles(&self) -> Option<&UncertaintyQuantiles> {
        self.quantiles.as_deref()
    }

    /// Returns how far an accepted low action is followed.
    pub const fn alpha(&self) -> f64 {
        self.alpha
    }

    /// Returns the number of accepted low runs in a row after which a step runs at the high
    /// profile, 0 for never.
    pub const fn refresh(&self) -> u32 {
        self.refresh
    }

    /// Returns the largest number of actions in a chunk.
    pub const fn max_chunk(&self) -> usize {
        self.max_chunk
    }

    /// Returns the configuration of S: scale, windows and lambda.
    pub const fn kinematics(&self) -> &DispatchConfig {
        &self.kinematics
    }

    /// Returns what the numbers of an action are.
    pub const fn layout(&self) -> &ActionLayout {
        self.kinematics.layout()
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) with the first field that is out of range.
    pub fn validate(&self) -> Result<()> {
        if self.low > self.high {
            let reason = format!("is {}: expected at most {}", self.low, self.high);
            return invalid("low", reason);
        }
        self.tolerance.validate()?;
        for (field, value) in [("gate", self.gate), ("alpha", self.alpha)] {
            if !(value > 0.0 && value <= 1.0) {
                return invalid(field, format!("is {value}: expected a value in (0, 1]"));
            }
        }
        if !(1..=Self::MAX_CHUNK).contains(&self.max_chunk) {
            let reason = format!("is {}: expected 1 to {}", self.max_chunk, Self::MAX_CHUNK);
            return invalid("max_chunk", reason);
        }
        self.kinematics.validate()
    }
}
