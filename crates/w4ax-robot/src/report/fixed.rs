//! The actions of the recorded steps at each fixed width, and the rule of DyQ-VLA on them.

use w4ax::calibrate::distance;
use w4ax::dispatch::{Action, DispatchConfig, Dispatcher, StepCosts};
use w4ax::{Result, Width};

use super::ByWidth;
use crate::policy::Policy;
use crate::rollouts::{Rollouts, action};

/// The recorded steps at each fixed width, without floors unless the policy has some.
#[derive(Clone, Debug)]
pub struct FixedWidths {
    /// `[width][steps]`: the actions, by [`Width::index`].
    actions: [Vec<Action>; 4],
    /// `[width][steps]`: L2 distances to the actions of the unquantized policy.
    errors: [Vec<f64>; 4],
}

impl FixedWidths {
    /// Runs every recorded step at every width.
    ///
    /// # Errors
    /// As [`Policy::forward`]. [`w4ax::Error::Range`] for a recorded task that the policy does not
    /// have.
    pub fn run(policy: &mut Policy, rollouts: &Rollouts) -> Result<Self> {
        rollouts.check_tasks(policy.tasks().len())?;
        let mut all = Self {
            actions: Default::default(),
            errors: Default::default(),
        };
        for width in Width::ALL {
            for (input, tokens) in rollouts.input.iter().zip(&rollouts.bf16) {
                let ran = action(&policy.forward(input, width)?);
                all.errors[width.index()].push(distance(&ran, &action(tokens)));
                all.actions[width.index()].push(ran);
            }
        }
        Ok(all)
    }

    /// Returns the number of steps.
    pub fn len(&self) -> usize {
        self.errors[0].len()
    }

    /// Returns whether there are no steps.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the action of a step at a width.
    pub fn action(&self, row: usize, width: Width) -> &Action {
        &self.actions[width.index()][row]
    }

    /// Returns the error of a step at a width, in action units.
    pub fn error(&self, row: usize, width: Width) -> f64 {
        self.errors[width.index()][row]
    }

    /// Returns the mean error of a width for each step, `[steps]`.
    pub fn mean_error(&self, widths: &[Width]) -> f64 {
        let errors = widths.iter().enumerate();
        errors
            .map(|(row, &width)| self.error(row, width))
            .sum::<f64>()
            / widths.len() as f64
    }

    /// Returns the mean error of each fixed width.
    pub fn mean_errors(&self) -> ByWidth {
        (self.errors.each_ref())
            .map(|errors| errors.iter().sum::<f64>() / errors.len() as f64)
            .into()
    }

    /// Returns the widths that the rule of DyQ-VLA chooses, `[steps]`, from the actions of those
    /// widths. `configs` has one entry per task.
    ///
    /// # Errors
    /// As [`Dispatcher::new`] and [`Dispatcher::observe`].
    pub fn dyq(&self, rollouts: &Rollouts, configs: &[DispatchConfig]) -> Result<Vec<Width>> {
        let mut widths = Vec::with_capacity(self.len());
        for episode in rollouts.episodes() {
            let mut dispatcher = Dispatcher::new(&configs[rollouts.task[episode.start]])?;
            for row in episode.clone() {
                let width = dispatcher.decide().active;
                dispatcher.observe(self.action(row, width))?;
                widths.push(width);
            }
        }
        Ok(widths)
    }
}

/// Returns the share of steps at each width.
pub fn shares(widths: &[Width]) -> ByWidth {
    let count = |width: Width| widths.iter().filter(|&&w| w == width).count();
    Width::ALL
        .map(|width| count(width) as f64 / widths.len() as f64)
        .into()
}

/// Returns the mean cost of steps at these widths.
pub fn mean_cost(widths: &[Width], costs: &StepCosts) -> f64 {
    widths.iter().map(|&width| costs.of(width)).sum::<f64>() / widths.len() as f64
}
