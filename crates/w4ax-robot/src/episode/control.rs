//! What a rule must beat: random widths at the same cost, and the best fixed width within it.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use w4ax::Width;
use w4ax::dispatch::{StepCosts, WidthChoice};

use super::rule::RuleRun;
use super::run::Step;
use super::summary::{over_draws, share_at_cost};

/// Random widths at the mean cost of a rule: each step draws one of two.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RandomEqualCost {
    /// The mean error over the draws, in action units.
    pub mean_action_error: f64,
    /// The standard deviation over the draws.
    pub std: f64,
    /// The share of steps at the wider width.
    pub share_high: f64,
    /// The mean cost of a step. It is that of the rule unless the rule costs more than the wider
    /// width or less than the narrower one in every step.
    pub cost: f64,
}

/// The fixed width with the least error among those that cost at most as much as the rule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct BestStatic {
    /// The width in bits.
    pub width: u32,
    /// Its mean error in action units.
    pub mean_action_error: f64,
    /// Its cost.
    pub cost: f64,
}

impl RandomEqualCost {
    /// Draws [`SHUFFLES`](super::summary::SHUFFLES) runs from the runs at fixed widths,
    /// `[width][steps]`: the two widths that the rule uses, without floors. The action of a
    /// recorded step depends on its width only, so their errors are those of the draws.
    pub fn draw(run: &RuleRun, fixed: &[Vec<Step>; 4], costs: &StepCosts, seed: u64) -> Self {
        let widths = match run.choice {
            WidthChoice::Static(width) => [width, width],
            WidthChoice::Dynamic { low, high } => [low, high],
        };
        let steps = widths.map(|width| &fixed[width.index()][..]);
        Self::draw_between(steps, widths.map(|width| costs.of(width)), run, seed)
    }

    /// As [`draw`](Self::draw), from the two profiles of the consistency rule, whose floors random
    /// widths profit from too. `None` for a rule without profiles.
    pub fn draw_profiles(run: &RuleRun, seed: u64) -> Option<Self> {
        let profiles = run.profiles.as_ref()?;
        let steps = profiles.steps.each_ref().map(|steps| &steps[..]);
        Some(Self::draw_between(steps, profiles.costs, run, seed))
    }

    fn draw_between(
        [low, high]: [&[Step]; 2],
        [cost_low, cost_high]: [f64; 2],
        run: &RuleRun,
        seed: u64,
    ) -> Self {
        let share_high = share_at_cost([cost_low, cost_high], run.mean_cost());
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (mean, std) = over_draws(|| {
            let drawn = low
                .iter()
                .zip(high)
                .map(|(low, high)| match rng.random_bool(share_high) {
                    true => high.error,
                    false => low.error,
                });
            drawn.sum::<f64>() / low.len() as f64
        });
        Self {
            mean_action_error: mean,
            std,
            share_high,
            cost: cost_low + share_high * (cost_high - cost_low),
        }
    }
}

impl BestStatic {
    /// Returns the best fixed width within the cost of a run, or `None` if every one costs more.
    /// `errors` holds the mean error of each width.
    pub fn within(run: &RuleRun, errors: &[f64; 4], costs: &StepCosts) -> Option<Self> {
        let fixed = |width: Width| Self {
            width: width.bits(),
            mean_action_error: errors[width.index()],
            cost: costs.of(width),
        };
        let affordable = Width::ALL.into_iter().map(fixed).filter(affordable(run));
        affordable.min_by(|a, b| {
            let by_cost = a.cost.total_cmp(&b.cost);
            let by_error = a.mean_action_error.total_cmp(&b.mean_action_error);
            by_error.then(by_cost)
        })
    }

    /// Returns the low profile of the consistency rule, with its floors in every step, if it is
    /// within the cost of a run. Without a second run it always is.
    pub fn profile_within(run: &RuleRun) -> Option<Self> {
        let (profiles, WidthChoice::Dynamic { low, .. }) = (run.profiles.as_ref()?, run.choice)
        else {
            return None;
        };
        let steps = &profiles.steps[0];
        let error = steps.iter().map(|step| step.error).sum::<f64>();
        let profile = Self {
            width: low.bits(),
            mean_action_error: error / steps.len() as f64,
            cost: profiles.costs[0],
        };
        Some(profile).filter(affordable(run))
    }
}

/// Returns whether a fixed choice costs at most as much as a run. A rule that runs one width has
/// exactly its cost, up to rounding of the mean.
fn affordable(run: &RuleRun) -> impl Fn(&BestStatic) -> bool {
    let most = run.mean_cost() * (1.0 + 1e-9);
    move |choice| choice.cost <= most
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::episode::rule::{ProfileSteps, Rule};
    use crate::shapes::Tokens;
    use std::time::Duration;

    fn steps(errors: &[f64]) -> Vec<Step> {
        let step = |&error: &f64| Step {
            width: Width::A2,
            tokens: Tokens::default(),
            error,
            time: Duration::ZERO,
        };
        errors.iter().map(step).collect()
    }

    fn run(choice: WidthChoice, costs: &[f64]) -> RuleRun {
        RuleRun {
            rule: Rule::Consistency,
            choice,
            steps: steps(&[0.0; 4]),
            decisions: Vec::new(),
            costs: costs.to_vec(),
            reruns: 0,
            profiles: None,
        }
    }

    #[test]
    fn random_widths_have_the_mean_cost_of_the_rule() {
        let fixed = [
            steps(&[1.0; 4]),
            steps(&[0.0; 4]),
            steps(&[0.0; 4]),
            steps(&[0.0; 4]),
        ];
        let costs = StepCosts::new([2.0, 4.0, 8.0, 16.0]).unwrap();
        let choice = WidthChoice::Dynamic {
            low: Width::A2,
            high: Width::A4,
        };
        let random = RandomEqualCost::draw(&run(choice, &[2.0, 2.0, 2.0, 4.0]), &fixed, &costs, 7);
        assert_eq!((random.share_high, random.cost), (0.25, 2.5));
        assert!((random.mean_action_error - 0.75).abs() < 0.03, "{random:?}");
        assert!(
            (random.std - (0.25 * 0.75 / 4.0f64).sqrt()).abs() < 0.02,
            "{random:?}"
        );
        // A rule with many second runs costs more than the wider width in every step.
        let random = RandomEqualCost::draw(&run(choice, &[6.0; 4]), &fixed, &costs, 7);
        assert_eq!(
            (random.share_high, random.mean_action_error, random.cost),
            (1.0, 0.0, 4.0)
        );
        let only = run(WidthChoice::Static(Width::A2), &[2.0; 4]);
        let random = RandomEqualCost::draw(&only, &fixed, &costs, 7);
        assert_eq!((random.mean_action_error, random.std), (1.0, 0.0));
    }

    #[test]
    fn best_static_width_is_within_the_cost() {
        let costs = StepCosts::new([2.0, 4.0, 8.0, 16.0]).unwrap();
        let errors = [0.3, 0.05, 0.04, 0.04];
        let choice = WidthChoice::Static(Width::A4);
        let of = |cost| run(choice, &[cost]);
        let best = |cost| BestStatic::within(&of(cost), &errors, &costs).map(|best| best.width);
        assert_eq!([best(1.9), best(2.0), best(7.9)], [None, Some(2), Some(4)]);
        // Of equal errors, the cheaper width.
        assert_eq!(best(99.0), Some(8));
    }

    /// The plain widths have no floors. The profiles are controls of their own.
    #[test]
    fn profiles_with_floors_are_controls() {
        let costs = StepCosts::new([2.0, 4.0, 8.0, 16.0]).unwrap();
        let (low, high) = (Width::A2, Width::A4);
        let mut ran = run(WidthChoice::Dynamic { low, high }, &[3.25; 4]);
        ran.profiles = Some(ProfileSteps {
            steps: [steps(&[0.5; 4]), steps(&[0.25; 4])],
            costs: [2.5, 4.0],
        });
        let fixed = Width::ALL.map(|_| steps(&[9.0; 4]));
        let plain = RandomEqualCost::draw(&ran, &fixed, &costs, 7);
        assert_eq!((plain.share_high, plain.cost), (0.625, 3.25));
        assert_eq!(plain.mean_action_error, 9.0);
        let random = RandomEqualCost::draw_profiles(&ran, 7).unwrap();
        assert_eq!((random.share_high, random.cost), (0.5, 3.25));
        assert!(
            (random.mean_action_error - 0.375).abs() < 0.02,
            "{random:?}"
        );
        let best = BestStatic::within(&ran, &[0.9, 0.3, 0.1, 0.1], &costs).unwrap();
        assert_eq!(
            (best.width, best.mean_action_error, best.cost),
            (2, 0.9, 2.0)
        );
        let profile = BestStatic::profile_within(&ran).unwrap();
        assert_eq!(
            (profile.width, profile.mean_action_error, profile.cost),
            (2, 0.5, 2.5)
        );
        ran.costs.fill(2.25);
        assert_eq!(BestStatic::profile_within(&ran), None);
    }
}
