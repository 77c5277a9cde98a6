//! What calibration learns from: the same steps at every width.

use crate::dispatch::Action;
use crate::{Error, Result, Width};

/// One recorded episode: for the input of every step, the actions of the policy at each width.
#[derive(Clone, Debug, PartialEq)]
pub struct Episode {
    /// Which task, as an index.
    pub task: usize,
    /// `[steps]`: the actions of the unquantized policy, which errors are measured against.
    pub reference: Vec<Action>,
    /// `[width][steps]`, by [`Width::index`]: the actions with INT4 weights at each activation width. (Where only
    /// the unquantized policy ran at 16 bits, its actions may stand in the place of BF16.)
    pub at_width: [Vec<Action>; 4],
}

impl Episode {
    /// Steps in the episode.
    pub fn len(&self) -> usize {
        self.reference.len()
    }

    /// Whether there is no step.
    pub fn is_empty(&self) -> bool {
        self.reference.is_empty()
    }

    /// The actions at a width, `[steps]`.
    pub fn at(&self, width: Width) -> &[Action] {
        &self.at_width[width.index()]
    }

    /// Checks the episode for a list of `tasks` tasks.
    ///
    /// # Errors
    /// - [`Error::Range`]: the task index is none of the list;
    /// - [`Error::Shape`]: no steps, or not the same number at each width;
    /// - [`Error::NotFinite`]: an action holds NaN or an infinity.
    pub fn validate(&self, tasks: usize) -> Result<()> {
        if self.task >= tasks {
            return Err(Error::Range {
                what: "task of an episode",
                value: format!("{} of {tasks} tasks", self.task),
                range: "the list of tasks",
            });
        }
        let steps = self.len();
        for (what, actions) in self.series() {
            if actions.is_empty() || actions.len() != steps {
                return Err(Error::Shape {
                    what,
                    expected: format!("{} actions, one a step", steps.max(1)),
                    got: format!("{} actions", actions.len()),
                });
            }
            if let Some((index, &value)) = actions
                .as_flattened()
                .iter()
                .enumerate()
                .find(|(_, x)| !x.is_finite())
            {
                return Err(Error::NotFinite { what, index, value });
            }
        }
        Ok(())
    }

    fn series(&self) -> [(&'static str, &[Action]); 5] {
        [
            ("unquantized actions of an episode", &self.reference),
            ("W4A2 actions of an episode", self.at(Width::A2)),
            ("W4A4 actions of an episode", self.at(Width::A4)),
            ("W4A8 actions of an episode", self.at(Width::A8)),
            ("W4A16 actions of an episode", self.at(Width::Bf16)),
        ]
    }
}
