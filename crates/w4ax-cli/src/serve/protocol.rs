//! What goes over the lines.

use serde::{Deserialize, Deserializer, Serialize};
use w4ax::dispatch::Action;

use w4ax_robot::rollouts::OBS;

/// A line in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Request {
    /// An episode of that task begins.
    Reset {
        /// Its index in the policy.
        task: usize,
    },
    /// A control step.
    Step {
        /// Raw; finite.
        obs: [f32; OBS],
    },
}

/// A line out.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Reply {
    /// To a reset.
    Done {
        /// True.
        ok: bool,
    },
    /// To an observation.
    Step {
        /// 7 numbers in [-1, 1].
        action: Action,
        /// Bits of the activations in this step.
        width: u32,
        /// S that the width was decided from; `None` at a fixed width.
        sensitivity: Option<f64>,
        /// What the step took, microseconds.
        micros: u64,
        /// Where layers are skipped.
        #[serde(flatten)]
        skipped: Option<Skipped>,
    },
    /// To anything else.
    Error {
        /// What is wrong.
        error: String,
    },
}

/// What skipping did in a step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Skipped {
    /// Layers that ran, those of a second pass counted.
    pub layers: usize,
    /// Whether there was one.
    pub reran: bool,
}

/// The fields that there are. A null is not a missing field: it is of the wrong type.
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
    /// Reads a line.
    ///
    /// # Errors
    /// What is wrong with it: no JSON, no object, fields that make neither a reset nor a step, a field of the wrong type
    /// or length, a number that is not finite in f32.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        // A list would do for serde, in the order of the fields.
        match line.trim_ascii_start().first() {
            None => return Err("the line is empty".into()),
            Some(b'{') => (),
            Some(_) => return Err("the line is no JSON object".into()),
        }
        let fields: Fields = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        match (fields.reset, fields.task, fields.obs) {
            (Some(true), Some(task), None) => Ok(Self::Reset { task }),
            (None, None, Some(obs)) => Self::step(&obs),
            (Some(false), _, _) => Err("`reset` must be true".into()),
            _ => Err("a line has `reset` and `task`, or `obs`".into()),
        }
    }

    fn step(obs: &[f32]) -> Result<Self, String> {
        let got = obs.len();
        let obs: [f32; OBS] = obs
            .try_into()
            .map_err(|_| format!("`obs` must be {OBS} numbers, it is {got}"))?;
        match obs.iter().position(|x| !x.is_finite()) {
            None => Ok(Self::Step { obs }),
            Some(at) => Err(format!("`obs` is {} at {at}, it must be finite", obs[at])),
        }
    }
}

impl Reply {
    /// As a line, with its end.
    pub fn to_line(&self) -> String {
        // Plain data, no map: serializing cannot fail.
        serde_json::to_string(self).expect("a reply is plain data") + "\n"
    }
}
