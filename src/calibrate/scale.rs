//! Motion scales of tasks.

use super::episode::Episode;
use super::file::TaskScale;
use crate::dispatch::{MotionScale, norm};
use crate::{Error, Result, Width};

/// The percentile that normalizes motion.
pub const PERCENTILE: f64 = 95.0;

/// Returns mu_max and nu_max of each task, in the order of `tasks`.
///
/// # Errors
/// As [`calibrate`](super::calibrate) for tasks and episodes.
pub fn motion_scales<S: AsRef<str>>(tasks: &[S], episodes: &[Episode]) -> Result<Vec<TaskScale>> {
    if tasks.is_empty() {
        return Err(Error::Config {
            field: "tasks",
            reason: "is empty: expected at least one task".into(),
        });
    }
    for episode in episodes {
        episode.validate(tasks.len())?;
    }
    let scale = |(task, name): (usize, &S)| {
        let name = name.as_ref();
        let own: Vec<&Episode> = episodes.iter().filter(|e| e.task == task).collect();
        if own.is_empty() {
            let reason = format!("has no episode of task `{name}`: expected at least one");
            return Err(Error::Config {
                field: "episodes",
                reason,
            });
        }
        let motion = MotionScale {
            mu_max: largest(&own, translations).ok_or_else(|| no_motion("mu_max", name))?,
            nu_max: largest(&own, rotations).ok_or_else(|| no_motion("nu_max", name))?,
        };
        Ok(TaskScale {
            name: name.to_owned(),
            motion,
        })
    };
    tasks.iter().enumerate().map(scale).collect()
}

/// Returns the largest percentile over the widths. `None` if it is 0, or a percentile is undefined
/// or not finite.
fn largest(episodes: &[&Episode], series: fn(&Episode, Width) -> Vec<f64>) -> Option<f64> {
    let at = |width| {
        let mut values: Vec<f64> = episodes.iter().flat_map(|e| series(e, width)).collect();
        percentile(&mut values, PERCENTILE)
    };
    let larger = |most: f64, x: f64| x.is_finite().then(|| most.max(x));
    let largest = Width::ALL
        .into_iter()
        .try_fold(0.0, |most, width| larger(most, at(width)?))?;
    (largest > 0.0).then_some(largest)
}

fn no_motion(field: &'static str, task: &str) -> Error {
    Error::Config {
        field,
        reason: format!("of task `{task}` is 0 or not finite: expected actions with motion"),
    }
}

/// Returns `|a_xyz|` of each step.
fn translations(episode: &Episode, width: Width) -> Vec<f64> {
    episode
        .at(width)
        .iter()
        .map(|&[x, y, z, ..]| norm([x, y, z]))
        .collect()
}

/// Returns `|a_rot(t) - a_rot(t-1)|` of each step but the first.
fn rotations(episode: &Episode, width: Width) -> Vec<f64> {
    let rotation = |pair: &[[f64; 7]]| norm([3, 4, 5].map(|i| pair[1][i] - pair[0][i]));
    episode.at(width).windows(2).map(rotation).collect()
}

/// Returns the `percent`-th percentile, with linear interpolation between the two nearest ranks.
///
/// Sorts `values`. `None` if `values` is empty, or `percent` is outside [0, 100].
pub fn percentile(values: &mut [f64], percent: f64) -> Option<f64> {
    if values.is_empty() || !(0.0..=100.0).contains(&percent) {
        return None;
    }
    values.sort_by(f64::total_cmp);
    let rank = percent / 100.0 * (values.len() - 1) as f64;
    let below = rank as usize;
    let above = (below + 1).min(values.len() - 1);
    Some(values[below] + (values[above] - values[below]) * (rank - below as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentile_interpolates_between_ranks() {
        assert_eq!(percentile(&mut [], 50.0), None);
        assert_eq!(percentile(&mut [1.0], f64::NAN), None);
        assert_eq!(percentile(&mut [3.0], 95.0), Some(3.0));
        assert_eq!(percentile(&mut [3.0, 1.0, 2.0], 0.0), Some(1.0));
        assert_eq!(percentile(&mut [3.0, 1.0, 2.0], 100.0), Some(3.0));
        assert_eq!(percentile(&mut [3.0, 1.0, 2.0], 75.0), Some(2.5));
        let mut hundred: Vec<f64> = (0..=100).rev().map(f64::from).collect();
        assert_eq!(percentile(&mut hundred, 95.0), Some(95.0));
    }
}
