//! Requests: the lines of the input.

use std::fmt;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use w4ax::dispatch::Action;
use w4ax_robot::shapes::OBS;

use super::non_finite;
use super::width::ServedWidth;

/// A request of a line.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Returns the policy's tasks, inputs, outputs and widths.
    Describe,
    /// Begins an episode.
    Reset(Task),
    /// Runs a control step.
    Step(StepRequest),
}

/// A control step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepRequest {
    /// The raw observation, finite.
    pub obs: [f32; OBS],
    /// The width of this step; `None` for that of the option.
    pub width: Option<ServedWidth>,
    /// The action that the robot executed in the step before, finite; `None` for the reply's.
    pub executed: Option<Action>,
}

/// A task of the policy.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// By its index.
    Index(usize),
    /// By its name.
    Name(String),
}

/// A line of the input.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// The id, which the reply repeats. `None` without one, and for a line that is not JSON.
    pub id: Option<Value>,
    /// The request, or what is wrong with it.
    pub request: Result<Request, String>,
}

/// The fields of a request. A null is a field of the wrong type, not a missing one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    #[serde(default, deserialize_with = "present")]
    id: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    describe: Option<bool>,
    #[serde(default, deserialize_with = "present")]
    reset: Option<bool>,
    #[serde(default, deserialize_with = "present")]
    task: Option<Task>,
    #[serde(default, deserialize_with = "present")]
    obs: Option<Vec<f64>>,
    #[serde(default, deserialize_with = "present")]
    width: Option<String>,
    #[serde(default, deserialize_with = "present")]
    executed: Option<Vec<f64>>,
}

/// The id of a line with other fields that are not valid.
#[derive(Deserialize)]
struct OnlyId {
    #[serde(default, deserialize_with = "present")]
    id: Option<Value>,
}

fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

impl Line {
    /// Parses a line. The request is an error for a line that is not a JSON object, fields that
    /// are not those of one request, a field of the wrong type or length, or a number that is not
    /// finite.
    pub fn parse(line: &[u8]) -> Self {
        let error = |error: &str| Self {
            id: None,
            request: Err(error.into()),
        };
        // serde would also accept a list with the fields in order.
        match line.trim_ascii_start().first() {
            None => return error("the line is empty"),
            Some(b'{') => (),
            Some(_) => return error("the line is not a JSON object"),
        }
        match serde_json::from_slice::<Fields>(line) {
            Ok(mut fields) => Self {
                id: fields.id.take(),
                request: Request::of(fields),
            },
            Err(error) => non_finite::explain(line).unwrap_or_else(|| Self {
                id: (serde_json::from_slice(line).ok()).and_then(|OnlyId { id }| id),
                request: Err(error.to_string()),
            }),
        }
    }
}

impl Request {
    fn of(fields: Fields) -> Result<Self, String> {
        let Fields {
            id: _,
            describe,
            reset,
            task,
            obs,
            width,
            executed,
        } = fields;
        match (describe, reset, task, obs) {
            (Some(false), ..) => Err("`describe` is false: expected true".into()),
            (_, Some(false), ..) => Err("`reset` is false: expected true".into()),
            (Some(true), None, None, None) if width.is_none() && executed.is_none() => {
                Ok(Self::Describe)
            }
            (None, Some(true), Some(task), None) if width.is_none() && executed.is_none() => {
                Ok(Self::Reset(task))
            }
            (None, None, None, Some(obs)) => Ok(Self::Step(StepRequest {
                obs: observation(&obs)?,
                width: width.map(|name| ServedWidth::parse(&name)).transpose()?,
                executed: executed
                    .map(|action| numbers("executed", &action))
                    .transpose()?,
            })),
            _ => Err(
                "unexpected fields: expected `describe`; `reset` and `task`; or `obs`, \
                      optionally with `width` and `executed`"
                    .into(),
            ),
        }
    }
}

fn observation(obs: &[f64]) -> Result<[f32; OBS], String> {
    let obs = numbers::<OBS>("obs", obs)?;
    let narrow = obs.map(|x| x as f32);
    match narrow.iter().position(|x| x.is_infinite()) {
        None => Ok(narrow),
        Some(at) => Err(format!(
            "`obs` is {:?} at {at}: expected a number that is finite in f32",
            obs[at]
        )),
    }
}

/// Returns the numbers of a field. JSON has only finite ones, see [`non_finite`].
fn numbers<const N: usize>(field: &str, numbers: &[f64]) -> Result<[f64; N], String> {
    let got = numbers.len();
    numbers
        .try_into()
        .map_err(|_| format!("`{field}` has {got} numbers: expected {N}"))
}

impl<'de> Deserialize<'de> for Task {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(TaskVisitor)
    }
}

struct TaskVisitor;

impl Visitor<'_> for TaskVisitor {
    type Value = Task;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a task's index or name")
    }

    fn visit_u64<E: serde::de::Error>(self, index: u64) -> Result<Task, E> {
        let index = usize::try_from(index).map_err(E::custom)?;
        Ok(Task::Index(index))
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Task, E> {
        Ok(Task::Name(name.into()))
    }
}
