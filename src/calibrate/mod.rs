//! Calibration: from recorded episodes to a dispatcher's thresholds and motion scales (DyQ-VLA section IV-B2, Eq. 5).
//!
//! # The rule
//! With actions of the same inputs at each width b, and the unquantized policy's beside them:
//!
//! 1. Per task, `mu_max` and `nu_max` are the largest over the widths {16, 8, 4, 2} of the 95th percentile (linear
//!    interpolation) of `|a_xyz|` and of `|a_rot(t) - a_rot(t-1)|` within an episode. Widths narrower than the one
//!    that recorded the episode count too: low widths make the motion rougher, which raises J, which would ask for
//!    BF16 in the closed loop.
//! 2. S of every step comes from the W4A4 actions before it, by the [dispatcher](crate::dispatch)'s own kinematics.
//! 3. The error `e_b` of a step is the L2 distance of the width-b action to the unquantized one, over all 7 numbers.
//! 4. Eq. 5 asks for the smallest width with `E e_b <= D_acc / (S + eta)`. It is taken over [`BINS`] equal bins of S
//!    on [0, theta_fp], each [lower, upper); bins with fewer than [`MIN_ROWS`] steps are passed over. A boundary is
//!    the lower edge of the longest run of bins that ends at theta_fp and whose mean error exceeds
//!    `D_acc / (center + eta)`: theta_24 from e_2, theta_48 from e_4 and at least theta_24. With no such run it is
//!    theta_fp.
//!
//! Actions, mu_max, nu_max, errors and D_acc are in the action's own units ([-1, 1]); S, thresholds and eta have none.
//!
//! # Conditioning
//! D_acc enters through a comparison in every bin, so a boundary can jump over many bins when D_acc hardly moves.
//! [`Conditioning`] says how far each boundary goes when D_acc moves by 10 % either way.

mod episode;
mod file;
mod profile;
mod scale;

pub use episode::Episode;
pub use file::{Calibration, TaskScale};
pub use profile::{BINS, Bin, Conditioning, ErrorProfile, MIN_ROWS, distance};
pub use scale::{PERCENTILE, motion_scales, percentile};

use crate::dispatch::{DispatchConfig, Thresholds};
use crate::{Error, Result};

/// What a calibration is free to choose. [`Default`] is what the recorded calibration chose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// As in [`DispatchConfig`].
    pub lambda: f64,
    /// As in [`DispatchConfig`].
    pub window_macro: usize,
    /// As in [`DispatchConfig`].
    pub window_micro: usize,
    /// As in [`DispatchConfig`].
    pub k: u32,
    /// S above which BF16 runs; finite, above 0.
    pub theta_fp: f64,
    /// Keeps the error bound finite at S = 0; finite, at least 0.
    pub eta: f64,
    /// The error bound at `S + eta = 1`, in action units; finite, above 0.
    pub d_acc: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lambda: DispatchConfig::LAMBDA,
            window_macro: DispatchConfig::WINDOW_MACRO,
            window_micro: DispatchConfig::WINDOW_MICRO,
            k: DispatchConfig::K,
            theta_fp: DispatchConfig::THETA_FP,
            eta: 0.05,
            d_acc: 0.07,
        }
    }
}

/// What calibrating gives: the calibration, and what it rests on.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Ready to be saved.
    pub calibration: Calibration,
    /// The mean errors by S that the thresholds were read from.
    pub profile: ErrorProfile,
    /// How far the thresholds follow D_acc.
    pub conditioning: Conditioning,
}

/// Calibrates: motion scales, error profile, thresholds, conditioning. [`Episode::task`] counts in `tasks`.
///
/// ```
/// use w4ax::calibrate::{Episode, Settings, calibrate};
/// use w4ax::dispatch::Dispatcher;
/// # fn main() -> w4ax::Result<()> {
/// // An arm that slows down again and again; the fewer bits, the farther off its actions are.
/// let action = |t: usize, off: f64| {
///     let speed = 0.5 + 0.5 * (t as f64 / 20.0).sin();
///     [speed + off, 0.0, 0.0, if t % 20 == 0 { 0.1 } else { 0.0 }, 0.0, 0.0, 1.0]
/// };
/// let actions = |off: f64| (0..600).map(|t| action(t, off)).collect::<Vec<_>>();
/// let episode = Episode {
///     task: 0,
///     reference: actions(0.0),
///     at_width: [actions(0.2), actions(0.1), actions(0.01), actions(0.01)], // A2, A4, A8, BF16
/// };
/// let report = calibrate(&["Lift"], &[episode], &Settings::default())?;
/// let thresholds = report.calibration.thresholds;
/// assert!(thresholds.theta_24 <= thresholds.theta_48 && thresholds.theta_48 <= thresholds.theta_fp);
/// let dispatcher = Dispatcher::new(&report.calibration.dispatch_config("Lift")?)?;
/// # let _ = dispatcher;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// - [`Error::Config`]: a setting outside its range, no tasks, the same name twice, or data that a scale or a
///   threshold cannot be read from (a task with no episode or with no motion, too few steps);
/// - [`Error::Shape`], [`Error::NotFinite`], [`Error::Range`]: an episode, as [`Episode::validate`] gives it.
pub fn calibrate<S: AsRef<str>>(
    tasks: &[S],
    episodes: &[Episode],
    settings: &Settings,
) -> Result<Report> {
    settings.validate()?;
    let scales = motion_scales(tasks, episodes)?;
    let profile = ErrorProfile::measure(&scales, episodes, settings)?;
    let calibration = Calibration {
        lambda: settings.lambda,
        window_macro: settings.window_macro,
        window_micro: settings.window_micro,
        k: settings.k,
        thresholds: profile.thresholds(settings.d_acc, settings.eta),
        eta: settings.eta,
        d_acc: settings.d_acc,
        tasks: scales,
    };
    calibration.validate()?;
    let conditioning = profile.conditioning(settings.d_acc, settings.eta);
    Ok(Report {
        calibration,
        profile,
        conditioning,
    })
}

impl Settings {
    /// The dispatcher that S is taken from: no thresholds yet.
    fn dispatch_config(&self, motion: crate::dispatch::MotionScale) -> DispatchConfig {
        let unset = Thresholds {
            theta_24: 0.0,
            theta_48: 0.0,
            theta_fp: self.theta_fp,
        };
        DispatchConfig {
            lambda: self.lambda,
            window_macro: self.window_macro,
            window_micro: self.window_micro,
            k: self.k,
            ..DispatchConfig::new(motion, unset)
        }
    }

    fn validate(&self) -> Result<()> {
        check_bound(self.eta, self.d_acc)?;
        if !(self.theta_fp.is_finite() && self.theta_fp > 0.0) {
            let reason = format!("is {}, it must be finite and above 0", self.theta_fp);
            return Err(Error::Config {
                field: "theta_fp",
                reason,
            });
        }
        let unit = crate::dispatch::MotionScale {
            mu_max: 1.0,
            nu_max: 1.0,
        };
        self.dispatch_config(unit).validate()
    }
}

/// The two numbers of the error bound.
fn check_bound(eta: f64, d_acc: f64) -> Result<()> {
    if !(eta.is_finite() && eta >= 0.0) {
        let reason = format!("is {eta}, it must be finite and at least 0");
        return Err(Error::Config {
            field: "eta",
            reason,
        });
    }
    if !(d_acc.is_finite() && d_acc > 0.0) {
        let reason = format!("is {d_acc}, it must be finite and above 0");
        return Err(Error::Config {
            field: "d_acc",
            reason,
        });
    }
    Ok(())
}
