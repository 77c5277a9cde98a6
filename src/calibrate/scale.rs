//! Motion scales of tasks.

use super::episode::Episode;
use super::file::TaskScale;
use crate::dispatch::{ActionLayout, MotionScale, MotionTracker, PERCENTILE};
use crate::{Error, Result, Width};

/// Returns mu_max and nu_max of each task, in the order of `tasks`.
///
/// # Errors
/// As [`calibrate`](super::calibrate) for tasks and episodes.
pub fn motion_scales<S: AsRef<str>, A: AsRef<[f64]>>(
    tasks: &[S],
    episodes: &[Episode<A>],
    layout: &ActionLayout,
) -> Result<Vec<TaskScale>> {
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
        let own: Vec<&Episode<A>> = episodes.iter().filter(|e| e.task == task).collect();
        if own.is_empty() {
            let reason = format!("has no episode of task `{name}`: expected at least one");
            return Err(Error::Config {
                field: "episodes",
                reason,
            });
        }
        let [mu_max, nu_max] = largest(&own, layout)?;
        let motion = MotionScale {
            mu_max: mu_max.ok_or_else(|| no_motion("mu_max", name))?,
            nu_max: nu_max.ok_or_else(|| no_motion("nu_max", name))?,
        };
        Ok(TaskScale {
            name: name.to_owned(),
            motion,
        })
    };
    tasks.iter().enumerate().map(scale).collect()
}

/// Returns the largest percentiles of speeds and turns over the widths. `None` if one is 0, or a
/// percentile is undefined or not finite.
fn largest<A: AsRef<[f64]>>(
    episodes: &[&Episode<A>],
    layout: &ActionLayout,
) -> Result<[Option<f64>; 2]> {
    let mut largest = [Some(0.0_f64); 2];
    for width in Width::ALL {
        let mut series = [Vec::new(), Vec::new()];
        for episode in episodes {
            add_motion(episode.at(width), layout, &mut series)?;
        }
        for (most, values) in largest.iter_mut().zip(&mut series) {
            let found = percentile(values, PERCENTILE).filter(|x| x.is_finite());
            *most = most.zip(found).map(|(most, x)| most.max(x));
        }
    }
    Ok(largest.map(|most| most.filter(|&most| most > 0.0)))
}

/// Adds the speed of each step that has one, and the change of rotation of each step that has one.
fn add_motion<A: AsRef<[f64]>>(
    actions: &[A],
    layout: &ActionLayout,
    [speeds, turns]: &mut [Vec<f64>; 2],
) -> Result<()> {
    let mut tracker = MotionTracker::new(layout);
    for action in actions.iter().map(AsRef::as_ref) {
        if let Some(motion) = tracker.measure(action)? {
            speeds.push(motion.speed());
            if motion.turned {
                turns.push(motion.turn());
            }
        }
        tracker.commit(action);
    }
    Ok(())
}

fn no_motion(field: &'static str, task: &str) -> Error {
    Error::Config {
        field,
        reason: format!("of task `{task}` is 0 or not finite: expected actions with motion"),
    }
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
