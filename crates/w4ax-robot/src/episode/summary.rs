//! Scores of the runs, for each task and in all.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use w4ax::Width;

use super::run::{Runs, Step};
use super::shuffle::shuffle_within_tasks;
use crate::rollouts::Rollouts;

/// The number of shuffles for the spread of the control.
pub const SHUFFLES: usize = 1000;

/// The distance of a run's actions to those of the unquantized policy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Mean L2 distance in action units.
    pub error: f64,
    /// The share of equal tokens, of 7 per step.
    pub agreement: f64,
}

/// The scores of a set of steps.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The task, or `all`.
    pub name: String,
    /// The number of steps.
    pub steps: usize,
    /// Steps of the dynamic run at each width, by [`Width::index`].
    pub at_width: [usize; 4],
    /// The fixed widths, by [`Width::index`].
    pub fixed: [Score; 4],
    /// The dispatcher's widths.
    pub dynamic: Score,
    /// The same widths, shuffled.
    pub random: Score,
}

impl Summary {
    /// Returns the summary of each task that has steps, and that of all steps.
    pub fn of_tasks(runs: &Runs, rollouts: &Rollouts, tasks: &[String]) -> (Vec<Self>, Self) {
        let all: Vec<usize> = (0..rollouts.len()).collect();
        let of_task = |(task, name): (usize, &String)| {
            let rows: Vec<usize> = all
                .iter()
                .copied()
                .filter(|&row| rollouts.task[row] == task)
                .collect();
            (!rows.is_empty()).then(|| Self::of(name, &rows, runs, rollouts))
        };
        let by_task = tasks.iter().enumerate().filter_map(of_task).collect();
        (by_task, Self::of("all", &all, runs, rollouts))
    }

    fn of(name: &str, rows: &[usize], runs: &Runs, rollouts: &Rollouts) -> Self {
        let score = |steps: &Vec<Step>| {
            let equal = |&row: &usize| {
                let tokens = steps[row].tokens.iter().zip(&rollouts.bf16[row]);
                tokens.filter(|(a, b)| a == b).count()
            };
            let equal: usize = rows.iter().map(equal).sum();
            let error: f64 = rows.iter().map(|&row| steps[row].error).sum();
            Score {
                error: error / rows.len() as f64,
                agreement: equal as f64 / (7 * rows.len()) as f64,
            }
        };
        let mut at_width = [0; 4];
        for &row in rows {
            at_width[runs.dynamic.steps[row].width.index()] += 1;
        }
        Self {
            name: name.into(),
            steps: rows.len(),
            at_width,
            fixed: runs.fixed.each_ref().map(score),
            dynamic: score(&runs.dynamic.steps),
            random: score(&runs.random),
        }
    }

    /// Returns the share of the dynamic run's steps at a width.
    pub fn share(&self, width: Width) -> f64 {
        self.at_width[width.index()] as f64 / self.steps as f64
    }
}

/// Returns mean and standard deviation of the control's error over [`SHUFFLES`] shuffles.
///
/// The action of a recorded step depends on its width only, so the errors are those of the fixed
/// runs.
pub fn control_spread(runs: &Runs, rollouts: &Rollouts, seed: u64) -> (f64, f64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let widths: Vec<Width> = runs.dynamic.steps.iter().map(|step| step.width).collect();
    over_draws(|| {
        let shuffled = shuffle_within_tasks(&widths, &rollouts.task, &mut rng);
        let errors = shuffled.iter().enumerate();
        errors
            .map(|(row, width)| runs.fixed[width.index()][row].error)
            .sum::<f64>()
            / widths.len() as f64
    })
}

/// Returns mean and standard deviation of the errors of [`SHUFFLES`] draws of a control.
pub fn over_draws(mut draw: impl FnMut() -> f64) -> (f64, f64) {
    let errors: Vec<f64> = (0..SHUFFLES).map(|_| draw()).collect();
    let mean = errors.iter().sum::<f64>() / SHUFFLES as f64;
    let squares = errors.iter().map(|error| (error - mean) * (error - mean));
    (mean, (squares.sum::<f64>() / SHUFFLES as f64).sqrt())
}

/// Returns the share of steps at the dearer of two choices, of the costs `low` and `high`, at which
/// the mean cost is `cost`. It is 1 if the costs are equal.
pub fn share_at_cost([low, high]: [f64; 2], cost: f64) -> f64 {
    let share = (cost - low) / (high - low);
    if share.is_nan() {
        1.0
    } else {
        share.clamp(0.0, 1.0)
    }
}

/// Returns the median time of a step in microseconds. The runs are not empty.
pub fn median_micros<'a>(steps: impl IntoIterator<Item = &'a Step>) -> f64 {
    let mut times: Vec<_> = steps.into_iter().map(|step| step.time).collect();
    times.sort_unstable();
    match times.get(times.len() / 2) {
        Some(time) => time.as_secs_f64() * 1e6,
        None => f64::NAN,
    }
}
