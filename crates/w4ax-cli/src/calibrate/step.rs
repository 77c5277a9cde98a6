//! A recorded step: a line of a recording. `docs/recorded-steps.md` defines the format.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use w4ax::Width;

/// The model that computed a series of actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Series {
    /// The unquantized model.
    Reference,
    /// The model with INT4 weights, with activations of this width.
    At(Width),
}

impl Series {
    /// Every series that a calibration needs.
    pub const ALL: [Self; 5] = [
        Self::Reference,
        Self::At(Width::A2),
        Self::At(Width::A4),
        Self::At(Width::A8),
        Self::At(Width::Bf16),
    ];

    /// Returns the name of the field.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::At(Width::A2) => "a2",
            Self::At(Width::A4) => "a4",
            Self::At(Width::A8) => "a8",
            Self::At(Width::Bf16) => "bf16",
        }
    }
}

/// The action of a step, or its chunk of actions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "actions are not a list of numbers, or a list of such lists"
)]
pub enum Output {
    /// One action, `[dims]`.
    Action(Vec<f64>),
    /// Consecutive actions, `[actions][dims]`.
    Chunk(Vec<Vec<f64>>),
}

impl Output {
    /// Returns the actions.
    pub fn rows(&self) -> &[Vec<f64>] {
        match self {
            Self::Action(row) => std::slice::from_ref(row),
            Self::Chunk(rows) => rows,
        }
    }
}

/// The actions of a step, as far as they were recorded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outputs {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reference: Option<Output>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    a2: Option<Output>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    a4: Option<Output>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    a8: Option<Output>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bf16: Option<Output>,
}

impl Outputs {
    /// Returns the actions of a series, if they were recorded.
    pub fn get(&self, series: Series) -> Option<&Output> {
        match series {
            Series::Reference => &self.reference,
            Series::At(Width::A2) => &self.a2,
            Series::At(Width::A4) => &self.a4,
            Series::At(Width::A8) => &self.a8,
            Series::At(Width::Bf16) => &self.bf16,
        }
        .as_ref()
    }

    #[cfg(feature = "vla")]
    pub fn get_mut(&mut self, series: Series) -> &mut Option<Output> {
        match series {
            Series::Reference => &mut self.reference,
            Series::At(Width::A2) => &mut self.a2,
            Series::At(Width::A4) => &mut self.a4,
            Series::At(Width::A8) => &mut self.a8,
            Series::At(Width::Bf16) => &mut self.bf16,
        }
    }

    /// Returns the number of actions, if any series was recorded.
    pub fn len(&self) -> Option<usize> {
        let mut recorded = Series::ALL.iter().filter_map(|&series| self.get(series));
        recorded.next().map(|output| output.rows().len())
    }

    /// Checks the shape of each series, for actions of `dims` numbers.
    pub fn check(&self, dims: usize) -> std::result::Result<(), String> {
        for series in Series::ALL {
            let Some(output) = self.get(series) else {
                continue;
            };
            let (name, rows) = (series.name(), output.rows());
            if rows.is_empty() {
                return Err(format!("`{name}` has no actions: expected at least one"));
            }
            if let Some(expected) = self.len().filter(|&len| len != rows.len()) {
                let got = rows.len();
                return Err(format!("`{name}` has {got} actions: expected {expected}"));
            }
            if let Some(row) = rows.iter().find(|row| row.len() != dims) {
                let got = row.len();
                return Err(format!("`{name}` has {got} numbers: expected {dims}"));
            }
        }
        Ok(())
    }
}

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedStep {
    /// The name of the task.
    pub task: String,
    /// The number of the episode.
    pub episode: u64,
    /// The control step of the first action, from 0 in each episode.
    pub step: u64,
    /// The actions of this step.
    #[serde(default)]
    pub actions: Outputs,
    /// Image files for the model, relative to the folder of the recording.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<PathBuf>,
    /// The instruction for the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instruction: Option<String>,
    /// Token ids of the prompt, instead of an instruction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Vec<u32>>,
    /// The state of the robot for the model, in the units of the robot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proprio: Option<Vec<f64>>,
    /// Other fields, which are kept.
    #[serde(flatten)]
    other: serde_json::Map<String, serde_json::Value>,
}

impl RecordedStep {
    pub fn parse(line: &str, dims: usize) -> std::result::Result<Self, String> {
        let step: Self = serde_json::from_str(line).map_err(|error| {
            let rest = line.get(error.column().saturating_sub(1)..).unwrap_or("");
            match ["NaN", "Infinity", "-Infinity"].iter().find(|&&word| {
                // The position of a syntax error is that of the sign, or of the character after it.
                rest.starts_with(word) || rest.starts_with(word.trim_start_matches('-'))
            }) {
                Some(word) => format!(
                    "column {}: {word}: expected a finite number",
                    error.column()
                ),
                None => error.to_string().replace("line 1 ", ""),
            }
        })?;
        step.actions.check(dims)?;
        Ok(step)
    }

    /// Returns whether this step belongs to the same episode as the preceding line.
    pub fn continues(&self, previous: &Self) -> bool {
        self.step != 0 && self.episode == previous.episode && self.task == previous.task
    }

    /// Checks the number of the step against the preceding line of the file.
    pub fn check_order(&self, previous: Option<&Self>) -> std::result::Result<(), String> {
        let Self {
            task,
            episode,
            step,
            ..
        } = self;
        let Some(previous) = previous.filter(|previous| self.continues(previous)) else {
            return match step {
                0 => Ok(()),
                _ => Err(format!(
                    "episode {episode} of task `{task}` begins with `step` {step}: expected 0"
                )),
            };
        };
        let (first, last) = (previous.step + 1, previous.actions.len());
        let last = last.map(|actions| previous.step + actions as u64);
        if *step >= first && last.is_none_or(|last| *step <= last) {
            return Ok(());
        }
        let expected = match last {
            Some(last) if last == first => first.to_string(),
            Some(last) => format!("{first} to {last}"),
            None => format!("at least {first}"),
        };
        Err(format!(
            "`step` is {step} after {}: expected {expected}",
            previous.step
        ))
    }
}
