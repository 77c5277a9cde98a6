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
//! 2. The sensitivity S of a step comes from the preceding W4A4 actions, or from the unquantized
//!    ones as in the paper ([`SensitivitySource`]), by
//!    [`Kinematics`](crate::dispatch::Kinematics).
//! 3. The error `e_b` of a step is the L2 distance between the width-b action and the unquantized
//!    action, over all numbers.
//! 4. Eq. 5 selects the smallest width with `E e_b <= D_acc / (S + eta)`. It is evaluated in
//!    [`BINS`] equal bins of S over [0, theta_fp], each [lower, upper). Bins with fewer than
//!    [`MIN_ROWS`] steps are ignored. A boundary is the lower edge of the longest sequence of bins
//!    that ends at theta_fp and whose mean errors exceed `D_acc / (center + eta)`. If no bin
//!    exceeds the bound, the boundary is theta_fp. theta_24 uses `e_2`. theta_48 uses `e_4` and is
//!    at least theta_24. theta_8 uses `e_8` and is at least theta_48. theta_fp is a setting, or
//!    theta_8 of bins over [0, 1] ([`CalibrationSettings::with_derived_theta_fp`]).
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
mod replay;
mod scale;
mod settings;

pub use consistency::ConsistencyCalibration;
pub use costs::measure_costs;
pub use episode::Episode;
pub use file::{Calibration, TaskScale};
pub use floors::{FloorPath, Lowering};
pub use profile::{BINS, Bin, Conditioning, ErrorProfile, MIN_ROWS, distance};
pub use replay::{ProfileEpisode, ReplayedStep, RuleReplay, replay_consistency, replay_dyq};
pub use scale::{motion_scales, percentile};
pub use settings::{CalibrationSettings, SensitivitySource};

pub use crate::dispatch::PERCENTILE;
use crate::{Error, Result};

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
    let scales = motion_scales(tasks, episodes, settings.layout())?;
    let settings = match settings.derives_theta_fp() {
        true => &settings.with_theta_fp(derived_theta_fp(&scales, episodes, settings)?),
        false => settings,
    };
    let profile = ErrorProfile::measure(&scales, episodes, settings)?;
    let thresholds = profile.thresholds(settings.d_acc(), settings.eta());
    let calibration = Calibration {
        errors: Some(mean_errors(episodes)),
        ..settings.calibration(scales, thresholds)
    };
    calibration.validate()?;
    let conditioning = profile.conditioning(settings.d_acc(), settings.eta());
    Ok(CalibrationReport {
        calibration,
        profile,
        conditioning,
    })
}

/// Returns the theta_fp of [`CalibrationSettings::with_derived_theta_fp`].
fn derived_theta_fp<A: AsRef<[f64]>>(
    scales: &[TaskScale],
    episodes: &[Episode<A>],
    settings: &CalibrationSettings,
) -> Result<f64> {
    let profile = ErrorProfile::measure(scales, episodes, &settings.with_theta_fp(1.0))?;
    match profile.theta_8(settings.d_acc(), settings.eta()) {
        0.0 => Err(Error::Config {
            field: "theta_fp",
            reason: format!(
                "is 0, because the error at 8 bits exceeds the bound of D_acc {} at every S: \
                 expected a larger D_acc",
                settings.d_acc()
            ),
        }),
        theta_fp => Ok(theta_fp),
    }
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
