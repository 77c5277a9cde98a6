//! The runs at a profile.

use w4ax::calibrate::{ConsistencyCalibration, ProfileEpisode, distance};
use w4ax::dispatch::{ACTION_DIM, LayerFloors, StepCosts, Tolerance, UncertaintyQuantiles};
use w4ax::{Result, Width};

use crate::checkpoint::BINS;
use crate::policy::{Policy, tokens_of};
use crate::rollouts::{Rollouts, action};
use crate::shapes::Tokens;
use crate::uncertainty::token_std;

/// The decimals of a quantile in a calibration.
const DECIMALS: f64 = 1e6;

/// A policy's results at one profile for all recorded inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct ProfileRun {
    /// `[steps]`.
    pub tokens: Vec<Tokens>,
    /// `[steps]`: the standard deviation of the tokens, in action units.
    pub uncertainty: Vec<f64>,
}

impl ProfileRun {
    /// Runs all steps at a width with floors. The policy has no floors afterwards.
    ///
    /// # Errors
    /// As [`Policy::logits_rows`] and [`Policy::set_floors`].
    pub fn measure(
        policy: &mut Policy,
        rollouts: &Rollouts,
        width: Width,
        floors: &LayerFloors,
    ) -> Result<Self> {
        policy.set_floors(floors)?;
        let ran = Self::of_policy(policy, rollouts, width);
        policy.set_floors(&LayerFloors::none(floors.len()))?;
        ran
    }

    fn of_policy(policy: &mut Policy, rollouts: &Rollouts, width: Width) -> Result<Self> {
        let logits = policy.logits_rows(&rollouts.input, width)?;
        let mut tokens = vec![Tokens::default(); rollouts.len()];
        tokens_of(logits, &mut tokens)?;
        let uncertainty = logits.chunks(ACTION_DIM * BINS).map(token_std).collect();
        Ok(Self {
            tokens,
            uncertainty,
        })
    }

    /// Returns the mean distance to the actions of the unquantized policy, in action units.
    pub fn mean_error(&self, rollouts: &Rollouts) -> f64 {
        let pairs = self.tokens.iter().zip(&rollouts.bf16);
        let errors = pairs.map(|(ours, reference)| distance(&action(ours), &action(reference)));
        errors.sum::<f64>() / self.tokens.len() as f64
    }
}

/// A policy at both profiles.
#[derive(Clone, Debug, PartialEq)]
pub struct Profiles {
    /// The step width of the low profile.
    pub low: Width,
    /// The step width of the high profile.
    pub high: Width,
    /// `[layers]`: the floors of both.
    pub floors: LayerFloors,
    /// The share of each layer in the products of a step, `[layers]`.
    shares: Vec<f64>,
    /// `[2]`: the runs at the low and at the high profile.
    pub runs: [ProfileRun; 2],
}

impl Profiles {
    /// Runs all steps at both profiles.
    ///
    /// # Errors
    /// As [`ProfileRun::measure`].
    pub fn measure(
        policy: &mut Policy,
        rollouts: &Rollouts,
        (low, high): (Width, Width),
        floors: LayerFloors,
    ) -> Result<Self> {
        let mut run = |width| ProfileRun::measure(policy, rollouts, width, &floors);
        Ok(Self {
            runs: [run(low)?, run(high)?],
            shares: policy.layer_shares(),
            low,
            high,
            floors,
        })
    }

    /// Returns the mean cost of a run at the low and at the high profile.
    pub fn costs(&self, costs: &StepCosts) -> [f64; 2] {
        [self.low, self.high].map(|width| costs.with_floors(width, &self.floors, &self.shares))
    }

    /// Returns the parameters of a rule between these profiles. The quantiles have six decimals.
    ///
    /// # Errors
    /// As [`UncertaintyQuantiles::of_samples`].
    pub fn calibration(&self, tolerance: Tolerance) -> Result<ConsistencyCalibration> {
        let [mut low, mut high] = (self.runs.each_ref()).map(|run| run.uncertainty.clone());
        let exact = UncertaintyQuantiles::of_samples(&mut low, &mut high)?;
        let rounded = |quantiles: &[f64]| -> Vec<f64> {
            let round = |x: &f64| (x * DECIMALS).round() / DECIMALS;
            quantiles.iter().map(round).collect()
        };
        let (low, high) = (rounded(exact.low()), rounded(exact.high()));
        Ok(ConsistencyCalibration {
            low: Some(self.low),
            high: Some(self.high),
            tolerance,
            floors: Some(self.floors.as_slice().to_vec()),
            quantiles: Some(UncertaintyQuantiles::new(&low, &high)?),
            ..ConsistencyCalibration::default()
        })
    }

    /// Cuts the runs into the episodes of a replay.
    pub fn episodes(&self, rollouts: &Rollouts) -> Vec<ProfileEpisode> {
        let cut = |steps: &std::ops::Range<usize>| ProfileEpisode {
            task: rollouts.task[steps.start],
            reference: rollouts.bf16[steps.clone()].iter().map(action).collect(),
            actions: (self.runs.each_ref())
                .map(|run| run.tokens[steps.clone()].iter().map(action).collect()),
            uncertainty: Some(
                (self.runs.each_ref()).map(|run| run.uncertainty[steps.clone()].to_vec()),
            ),
        };
        rollouts.episodes().iter().map(cut).collect()
    }
}
