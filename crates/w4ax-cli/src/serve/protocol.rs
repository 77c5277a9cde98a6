//! Requests and replies.

use serde::{Deserialize, Deserializer, Serialize};
use w4ax::dispatch::Action;

use w4ax_robot::shapes::OBS;

/// A line of the input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Request {
    /// Begins an episode.
    Reset {
        /// The index of the task in the policy.
        task: usize,
    },
    /// A control step.
    Step {
        /// The raw observation, finite.
        obs: [f32; OBS],
    },
}

/// A line of the output.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Reply {
    /// The reply to a reset.
    Done {
        /// Always true.
        ok: bool,
    },
    /// The reply to an observation.
    Step {
        /// 7 numbers in [-1, 1].
        action: Action,
        /// The width of the activations in bits.
        width: u32,
        /// The sensitivity S of the decision; `None` at a fixed width.
        sensitivity: Option<f64>,
        /// Duration of the step in microseconds.
        micros: u64,
        /// The skipped layers, with `--skip`.
        #[serde(flatten)]
        skipped: Option<Skipped>,
    },
    /// The reply to any other line.
    Error {
        /// What is wrong.
        error: String,
    },
}

/// The layers of a step that skips.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Skipped {
    /// Layers that ran, those of a second pass included.
    pub layers: usize,
    /// Whether there was a second pass.
    pub reran: bool,
}

/// The fields of a request. A null is a field of the wrong type, not a missing one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    #[serde(default, deserialize_with = "present")]
    reset: Option<bool>,
    #[serde(default, deserialize_with = "present")]
    task: Option<usize>,
    #[serde(default, deserialize_with = "present")]
    obs: Option<Vec<f32>>,
}

fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

impl Request {
    /// Parses a line.
    ///
    /// # Errors
    /// A message, for a line that is not a JSON object, fields that are neither a reset nor a step,
    /// a field of the wrong type or length, or a number that is not finite in f32.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        // serde would also accept a list with the fields in order.
        match line.trim_ascii_start().first() {
            None => return Err("the line is empty".into()),
            Some(b'{') => (),
            Some(_) => return Err("the line is not a JSON object".into()),
        }
        let fields: Fields = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        match (fields.reset, fields.task, fields.obs) {
            (Some(true), Some(task), None) => Ok(Self::Reset { task }),
            (None, None, Some(obs)) => Self::step(&obs),
            (Some(false), _, _) => Err("`reset` is false: expected true".into()),
            _ => Err("unexpected fields: expected `reset` and `task`, or `obs`".into()),
        }
    }

    fn step(obs: &[f32]) -> Result<Self, String> {
        let got = obs.len();
        let obs: [f32; OBS] = obs
            .try_into()
            .map_err(|_| format!("`obs` has {got} numbers: expected {OBS}"))?;
        match obs.iter().position(|x| !x.is_finite()) {
            None => Ok(Self::Step { obs }),
            Some(at) => Err(format!(
                "`obs` is {} at {at}: expected a finite number",
                obs[at]
            )),
        }
    }
}

impl Reply {
    /// Returns the line with its end.
    pub fn to_line(&self) -> String {
        // Plain data whose map keys are strings: serializing cannot fail.
        serde_json::to_string(self).expect("a reply is plain data") + "\n"
    }
}
