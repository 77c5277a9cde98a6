//! Replies: the lines of the output.

use serde::Serialize;
use serde_json::Value;
use w4ax::dispatch::Action;

use super::describe::Description;

/// A line of the output.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reply {
    /// The id of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Value>,
    /// The rest.
    #[serde(flatten)]
    pub body: Body,
}

/// A reply without its id.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Body {
    /// The reply to a reset.
    Done {
        /// Always true.
        ok: bool,
    },
    /// The reply to `describe`.
    Description(Box<Description>),
    /// The reply to an observation.
    Step(Box<StepReply>),
    /// The reply to any other line.
    Error {
        /// What is wrong.
        error: String,
    },
}

/// The result of a control step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepReply {
    /// The number of the step in its episode, from 0.
    pub step: u64,
    /// 7 numbers in [-1, 1].
    pub action: Action,
    /// The width of the activations in bits, 32 for the unquantized policy.
    pub width: u32,
    /// The target width of the decision in bits; `None` at a requested width.
    pub target: Option<u32>,
    /// The sensitivity S of the decision; `None` at a requested width and without history.
    pub sensitivity: Option<f64>,
    /// The reason for the width.
    pub reason: &'static str,
    /// The standard deviation of the action under the policy's probabilities.
    pub token_std: Option<f64>,
    /// The smallest difference of the two largest logits of a number.
    pub margin: Option<f64>,
    /// The indices of the numbers of the observation that were clipped.
    pub clipped: Vec<usize>,
    /// Duration of the decision and the policy in microseconds.
    pub micros: u64,
    /// The skipped layers, with `--skip`.
    #[serde(flatten)]
    pub skipped: Option<Skipped>,
    /// How often the step ran.
    pub runs: u32,
}

/// The layers of a step that skips.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Skipped {
    /// Layers that ran, those of a second pass included.
    pub layers: usize,
    /// Whether there was a second pass.
    pub reran: bool,
}

impl Reply {
    /// Returns the line with its end.
    pub fn to_line(&self) -> String {
        // Plain data whose map keys are strings: serializing cannot fail.
        serde_json::to_string(self).expect("a reply is plain data") + "\n"
    }
}
