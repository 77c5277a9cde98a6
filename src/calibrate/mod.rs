//! Calibration: derives a dispatcher's thresholds and motion scales from recorded episodes
//! (DyQ-VLA, arXiv 2603.07904, section IV-B2, Eq. 5).
//!
//! # Order of calls
//! [`calibrate`] turns [`Episode`]s into a [`CalibrationReport`]. [`Calibration::save`] writes the
//! calibration as JSON, and [`Calibration::load`] reads it. [`Calibration::dispatch_config`]
//! returns the configuration of a [`Dispatcher`](crate::dispatch::Dispatcher) for one task.
//!
//! # Formulas
//! An episode holds the actions of the same inputs at each width b and those of the unquantized
//! policy.
//!
//! 1. Per task, `mu_max` and `nu_max` are the 95th percentiles (linear interpolation) of the speed
//!    and of the change of rotation within an episode, `|a_xyz|` and `|a_rot(t) - a_rot(t-1)|` in
//!    the default [layout](crate::dispatch): the largest over all widths. Low widths make the
//!    motion rougher. Their percentiles count as well, because otherwise this
//!    roughness would raise J and force BF16 in the closed loop.
//! 2. The sensitivity S of a step comes from the preceding W4A4 actions, by
//!    [`Kinematics`](crate::dispatch::Kinematics).
//! 3. The error `e_b` of a step is the L2 distance between the width-b action and the unquantized
//!    action, over all numbers.
//! 4. Eq. 5 selects the smallest width with `E e_b <= D_acc / (S + eta)`. It is evaluated in
//!    [`BINS`] equal bins of S over [0, theta_fp], each [lower, upper). Bins with fewer than
//!    [`MIN_ROWS`] steps are ignored. A boundary is the lower edge of the longest sequence of bins
//!    that ends at theta_fp and whose mean errors exceed `D_acc / (center + eta)`. If no bin
//!    exceeds the bound, the boundary is theta_fp. theta_24 uses `e_2`. theta_48 uses `e_4` and is
//!    at least theta_24.
//!
//! Actions, mu_max, nu_max, errors and D_acc have the unit of actions ([-1, 1]). S, thresholds and
//! eta have none.
//!
//! # Failure behavior
//! Every invalid setting, episode or file is an error that names the field. Nothing is calibrated
//! from too few steps, or from a task without motion.
//!
//! D_acc is compared in every bin, so a small change of D_acc can move a boundary over many bins.
//! [`Conditioning`] reports how far each boundary moves when D_acc changes by 10 %.
//!
//! # Cost
//! Linear in the number of recorded steps. All episodes are held in memory.

mod consistency;
mod costs;
mod episode;
mod file;
mod floors;
mod profile;
mod scale;

pub use consistency::ConsistencyCalibration;
pub use costs::measure_costs;
pub use episode::Episode;
pub use file::{Calibration, TaskScale};
pub use floors::{FloorPath, Lowering};
pub use profile::{BINS, Bin, Conditioning, ErrorProfile, MIN_ROWS, distance};
pub use scale::{motion_scales, percentile};

pub use crate::dispatch::PERCENTILE;
use crate::dispatch::{ActionLayout, DispatchConfig, MotionScale, Thresholds};
use crate::{Error, Result};

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

    /// Returns the S above which BF16 runs.
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
}

/// The result of [`calibrate`].
#[derive(Clone, Debug, PartialEq)]
pub struct CalibrationReport {
    /// The calibration.
    pub calibration: Calibration,
    /// The mean errors by S from which the thresholds were derived.
    pub profile: ErrorProfile,
    /// The effect of D_acc on the thresholds.
    pub conditioning: Conditioning,
}

/// Derives motion scales, error profile, thresholds and conditioning from episodes.
/// [`Episode::task`] is an index into `tasks`.
///
/// ```
/// use w4ax::calibrate::{CalibrationSettings, Episode, calibrate};
/// use w4ax::dispatch::Dispatcher;
/// # fn main() -> w4ax::Result<()> {
/// // An arm that slows down periodically. The actions deviate more at lower widths.
/// let action = |t: usize, deviation: f64| {
///     let speed = 0.5 + 0.5 * (t as f64 / 20.0).sin();
///     [speed + deviation, 0.0, 0.0, if t % 20 == 0 { 0.1 } else { 0.0 }, 0.0, 0.0, 1.0]
/// };
/// let actions = |deviation: f64| (0..600).map(|t| action(t, deviation)).collect::<Vec<_>>();
/// let episode = Episode {
///     task: 0,
///     reference: actions(0.0),
///     at_width: [actions(0.2), actions(0.1), actions(0.01), actions(0.01)], // A2, A4, A8, BF16
/// };
/// let report = calibrate(&["Lift"], &[episode], &CalibrationSettings::default())?;
/// let thresholds = report.calibration.thresholds;
/// assert!(thresholds.theta_24 <= thresholds.theta_48);
/// assert!(thresholds.theta_48 <= thresholds.theta_fp);
/// let dispatcher = Dispatcher::new(&report.calibration.dispatch_config("Lift")?)?;
/// # let _ = dispatcher;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// - [`Error::Config`] if a setting is out of range, `tasks` is empty or has duplicates, a task has
///   no episode or no motion, or there are too few steps.
/// - [`Error::Shape`], [`Error::NotFinite`] and [`Error::Range`] as [`Episode::validate`], and as
///   [`Kinematics::push`](crate::dispatch::Kinematics::push).
pub fn calibrate<S: AsRef<str>, A: AsRef<[f64]>>(
    tasks: &[S],
    episodes: &[Episode<A>],
    settings: &CalibrationSettings,
) -> Result<CalibrationReport> {
    settings.validate()?;
    let scales = motion_scales(tasks, episodes, &settings.layout)?;
    let profile = ErrorProfile::measure(&scales, episodes, settings)?;
    let calibration = Calibration {
        lambda: settings.lambda,
        window_macro: settings.window_macro,
        window_micro: settings.window_micro,
        k: settings.k,
        thresholds: profile.thresholds(settings.d_acc, settings.eta),
        eta: settings.eta,
        d_acc: settings.d_acc,
        layout: settings.layout,
        tasks: scales,
        errors: Some(mean_errors(episodes)),
        costs: None,
        consistency: None,
    };
    calibration.validate()?;
    let conditioning = profile.conditioning(settings.d_acc, settings.eta);
    Ok(CalibrationReport {
        calibration,
        profile,
        conditioning,
    })
}

/// Returns the mean error of each width over all steps, by [`Width::index`](crate::Width::index),
/// in action units.
pub fn mean_errors<A: AsRef<[f64]>>(episodes: &[Episode<A>]) -> [f64; 4] {
    let steps: usize = episodes.iter().map(Episode::len).sum();
    crate::Width::ALL.map(|width| {
        let errors = episodes.iter().flat_map(|episode| {
            let pairs = episode.at(width).iter().zip(&episode.reference);
            pairs.map(|(a, b)| distance(a.as_ref(), b.as_ref()))
        });
        errors.sum::<f64>() / steps as f64
    })
}

impl CalibrationSettings {
    /// Returns the configuration for computing S. The thresholds are not known yet.
    fn dispatch_config(&self, motion: MotionScale) -> DispatchConfig {
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

    fn validate(&self) -> Result<()> {
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
fn check_bound(eta: f64, d_acc: f64) -> Result<()> {
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
