//! Motion scales: how fast a task moves.

use super::episode::Episode;
use super::file::TaskScale;
use crate::dispatch::{MotionScale, norm};
use crate::{Error, Result, Width};

/// The percentile that motion is normalized by.
pub const PERCENTILE: f64 = 95.0;

/// mu_max and nu_max of every task, in the order of `tasks`.
///
/// # Errors
/// As [`calibrate`](super::calibrate) for tasks and episodes.
pub fn motion_scales<S: AsRef<str>>(tasks: &[S], episodes: &[Episode]) -> Result<Vec<TaskScale>> {
    if tasks.is_empty() {
        return Err(Error::Config {
            field: "tasks",
            reason: "are none".into(),
        });
    }
    for episode in episodes {
        episode.validate(tasks.len())?;
    }
    let scale = |(task, name): (usize, &S)| {
        let name = name.as_ref();
        let own: Vec<&Episode> = episodes.iter().filter(|e| e.task == task).collect();
        if own.is_empty() {
            let reason = format!("hold none of task `{name}`");
            return Err(Error::Config {
                field: "episodes",
                reason,
            });
        }
        let motion = MotionScale {
            mu_max: largest(&own, speeds).ok_or_else(|| still("mu_max", name))?,
            nu_max: largest(&own, turns).ok_or_else(|| still("nu_max", name))?,
        };
        Ok(TaskScale {
            name: name.to_owned(),
            motion,
        })
    };
    tasks.iter().enumerate().map(scale).collect()
}

/// The largest percentile over the widths; `None` where it is no scale: 0, of nothing, or not finite at some width.
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

fn still(field: &'static str, task: &str) -> Error {
    Error::Config {
        field,
        reason: format!(
            "of task `{task}` is not finite and above 0: its actions hold no such motion"
        ),
    }
}

/// `|a_xyz|` of every step.
fn speeds(episode: &Episode, width: Width) -> Vec<f64> {
    episode
        .at(width)
        .iter()
        .map(|&[x, y, z, ..]| norm([x, y, z]))
        .collect()
}

/// `|a_rot(t) - a_rot(t-1)|` of every step but the first.
fn turns(episode: &Episode, width: Width) -> Vec<f64> {
    let turn = |pair: &[[f64; 7]]| norm([3, 4, 5].map(|i| pair[1][i] - pair[0][i]));
    episode.at(width).windows(2).map(turn).collect()
}

/// The `percent`-th percentile with linear interpolation between the two nearest ranks; sorts `values`. `None` of
/// nothing, and for a `percent` outside 0 to 100.
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
    fn percentiles_interpolate() {
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
