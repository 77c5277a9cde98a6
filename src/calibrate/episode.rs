//! Recorded episodes: the actions of the same steps at every width.

use crate::dispatch::Action;
use crate::{Error, Result, Width};

/// One recorded episode: the actions of the policy at each width, for the input of each step.
///
/// An action is an array or a vector of the numbers of the layout, [`Action`] for the default one.
#[derive(Clone, Debug, PartialEq)]
pub struct Episode<A = Action> {
    /// The index of the task.
    pub task: usize,
    /// The actions of the unquantized policy, `[steps][dims]`. They are the reference of the
    /// errors.
    pub reference: Vec<A>,
    /// The actions with INT4 weights at each activation width, `[width][steps][dims]` by
    /// [`Width::index`]. If no W4A16 actions were recorded, the unquantized actions may be used for
    /// BF16.
    pub at_width: [Vec<A>; 4],
}

impl<A: AsRef<[f64]>> Episode<A> {
    /// Returns the number of steps.
    pub fn len(&self) -> usize {
        self.reference.len()
    }

    /// Returns whether the episode has no steps.
    pub fn is_empty(&self) -> bool {
        self.reference.is_empty()
    }

    /// Returns the actions at a width, `[steps]`.
    pub fn at(&self, width: Width) -> &[A] {
        &self.at_width[width.index()]
    }

    /// Checks the episode against a list of `tasks` tasks.
    ///
    /// # Errors
    /// - [`Error::Range`] if the task index is out of range.
    /// - [`Error::Shape`] if there are no steps, the number of steps differs between widths, or the
    ///   number of values differs between actions.
    /// - [`Error::NotFinite`] with the first NaN or infinity of an action.
    pub fn validate(&self, tasks: usize) -> Result<()> {
        if self.task >= tasks {
            return Err(Error::Range {
                what: "task of an episode",
                value: format!("{} of {tasks} tasks", self.task),
                range: "an index into the list of tasks",
            });
        }
        let steps = self.len();
        for (what, actions) in self.series() {
            if actions.is_empty() || actions.len() != steps {
                return Err(Error::shape(what, [steps.max(1)], [actions.len()]));
            }
            let dims = self.reference[0].as_ref().len();
            for (step, action) in actions.iter().map(AsRef::as_ref).enumerate() {
                if action.len() != dims {
                    return Err(Error::shape(what, [steps, dims], [step, action.len()]));
                }
                if let Some(at) = action.iter().position(|x| !x.is_finite()) {
                    let (index, value) = (step * dims + at, action[at]);
                    return Err(Error::NotFinite { what, index, value });
                }
            }
        }
        Ok(())
    }

    fn series(&self) -> [(&'static str, &[A]); 5] {
        [
            ("unquantized actions of an episode", &self.reference),
            ("W4A2 actions of an episode", self.at(Width::A2)),
            ("W4A4 actions of an episode", self.at(Width::A4)),
            ("W4A8 actions of an episode", self.at(Width::A8)),
            ("W4A16 actions of an episode", self.at(Width::Bf16)),
        ]
    }
}
