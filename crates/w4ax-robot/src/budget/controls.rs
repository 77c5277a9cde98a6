//! What a rule must beat at its cost: random widths, and the best fixed choice.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use w4ax::Width;
use w4ax::calibrate::{Episode, ProfileEpisode, RuleReplay, distance};

use crate::episode::shuffle::shuffle_within_tasks;
use crate::episode::summary::{over_draws, share_at_cost};

/// A fixed width or profile.
#[derive(Clone, Debug, PartialEq)]
pub struct FixedChoice {
    /// The name, such as `a4`.
    pub name: String,
    /// The mean error, in action units.
    pub error: f64,
    /// The cost of a step.
    pub cost: f64,
}

impl FixedChoice {
    /// Returns the choices of running every step at the low or at the high profile.
    pub fn profiles<A: AsRef<[f64]>>(
        episodes: &[ProfileEpisode<A>],
        widths: [Width; 2],
        costs: [f64; 2],
    ) -> [Self; 2] {
        std::array::from_fn(|profile| {
            let pairs = (episodes.iter())
                .flat_map(|episode| episode.actions[profile].iter().zip(&episode.reference));
            let errors = pairs.map(|(a, b)| distance(a.as_ref(), b.as_ref()));
            let steps = episodes.iter().map(|episode| episode.reference.len());
            Self {
                name: format!("{} with floors", widths[profile]),
                error: errors.sum::<f64>() / steps.sum::<usize>() as f64,
                cost: costs[profile],
            }
        })
    }
}

/// The controls of a replay.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplayControls {
    /// The mean error of random choices at the same cost over
    /// [`SHUFFLES`](crate::episode::summary::SHUFFLES) draws.
    pub random: f64,
    /// Its standard deviation.
    pub random_std: f64,
    /// The fixed choice with the least error that costs at most as much, if there is one.
    pub fixed: Option<FixedChoice>,
}

impl ReplayControls {
    /// Returns the controls of a replay of the rule of DyQ-VLA: its own widths in random order
    /// within each task.
    pub fn of_dyq<A: AsRef<[f64]>>(
        replay: &RuleReplay,
        episodes: &[Episode<A>],
        fixed: &[FixedChoice],
        seed: u64,
    ) -> Self {
        let tasks: Vec<usize> = (episodes.iter())
            .flat_map(|episode| vec![episode.task; episode.len()])
            .collect();
        // `[steps][width]`.
        let errors: Vec<[f64; 4]> = (episodes.iter())
            .flat_map(|episode| {
                let steps = episode.reference.iter().enumerate();
                steps.map(|(at, reference)| {
                    (episode.at_width.each_ref())
                        .map(|actions| distance(actions[at].as_ref(), reference.as_ref()))
                })
            })
            .collect();
        let widths: Vec<_> = replay.steps().map(|step| step.width).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let draw = || {
            let shuffled = shuffle_within_tasks(&widths, &tasks, &mut rng);
            let drawn = errors.iter().zip(shuffled);
            drawn
                .map(|(errors, width)| errors[width.index()])
                .sum::<f64>()
                / tasks.len() as f64
        };
        Self::new(draw, fixed, replay.mean_cost())
    }

    /// Returns the controls of a replay of the consistency rule: one run of each step, at a random
    /// profile. `costs` holds those of the low and of the high profile.
    pub fn of_consistency<A: AsRef<[f64]>>(
        replay: &RuleReplay,
        episodes: &[ProfileEpisode<A>],
        costs: [f64; 2],
        fixed: &[FixedChoice],
        seed: u64,
    ) -> Self {
        let share_high = share_at_cost(costs, replay.mean_cost());
        // `[steps][profile]`.
        let errors: Vec<[f64; 2]> = (episodes.iter())
            .flat_map(|episode| {
                let steps = episode.reference.iter().enumerate();
                steps.map(|(at, reference)| {
                    (episode.actions.each_ref())
                        .map(|actions| distance(actions[at].as_ref(), reference.as_ref()))
                })
            })
            .collect();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let draw = || {
            let drawn = errors
                .iter()
                .map(|errors| errors[usize::from(rng.random_bool(share_high))]);
            drawn.sum::<f64>() / errors.len() as f64
        };
        Self::new(draw, fixed, replay.mean_cost())
    }

    fn new(draw: impl FnMut() -> f64, fixed: &[FixedChoice], cost: f64) -> Self {
        let (random, random_std) = over_draws(draw);
        // A rule that always makes the same choice has exactly its cost, up to rounding.
        let affordable = fixed
            .iter()
            .filter(|choice| choice.cost <= cost * (1.0 + 1e-9));
        let best = affordable.min_by(|a, b| {
            let by_cost = a.cost.total_cmp(&b.cost);
            a.error.total_cmp(&b.error).then(by_cost)
        });
        Self {
            random,
            random_std,
            fixed: best.cloned(),
        }
    }
}
