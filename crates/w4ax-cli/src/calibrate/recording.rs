//! Recorded steps of any model, as JSON lines. `docs/recorded-steps.md` defines the format.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use w4ax::calibrate::Episode;
use w4ax::dispatch::{ACTION_DIM, Action};
use w4ax::{Error, Result, Width};

/// The ending of the files that are read from a folder.
const EXTENSION: &str = "jsonl";

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
    fn rows(&self) -> &[Vec<f64>] {
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

    /// Returns the number of actions, if any series was recorded.
    fn len(&self) -> Option<usize> {
        let mut recorded = Series::ALL.iter().filter_map(|&series| self.get(series));
        recorded.next().map(|output| output.rows().len())
    }

    /// Checks the shape of each series.
    fn check(&self) -> std::result::Result<(), String> {
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
            if let Some(row) = rows.iter().find(|row| row.len() != ACTION_DIM) {
                let got = row.len();
                return Err(format!("`{name}` has {got} numbers: expected {ACTION_DIM}"));
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
    fn parse(line: &str) -> std::result::Result<Self, String> {
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
        step.actions.check()?;
        Ok(step)
    }

    /// Returns whether this step belongs to the same episode as the preceding line.
    fn continues(&self, previous: &Self) -> bool {
        self.step != 0 && self.episode == previous.episode && self.task == previous.task
    }

    /// Checks the number of the step against the preceding line of the file.
    fn check_order(&self, previous: Option<&Self>) -> std::result::Result<(), String> {
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

/// A line, and where it is.
#[derive(Debug)]
struct Line {
    file: usize,
    number: usize,
    step: RecordedStep,
}

/// Recorded steps of one or several files.
#[derive(Debug)]
pub struct Recording {
    files: Vec<PathBuf>,
    lines: Vec<Line>,
}

impl Recording {
    /// Reads a file, or all files of a folder whose names end in `.jsonl`, in the order of their
    /// names.
    ///
    /// # Errors
    /// [`Error::Io`]. [`Error::Format`] with the line that is not a valid step, or if there are no
    /// steps.
    pub fn load(path: &Path) -> Result<Self> {
        let mut recording = Self {
            files: files(path)?,
            lines: Vec::new(),
        };
        for file in 0..recording.files.len() {
            recording.read(file)?;
        }
        match recording.lines.is_empty() {
            true => Err(format_error(path, "has no steps: expected at least one")),
            false => Ok(recording),
        }
    }

    fn read(&mut self, file: usize) -> Result<()> {
        let path = &self.files[file];
        let text = std::fs::read_to_string(path).map_err(|error| io(path, error))?;
        let mut previous = None;
        for (number, line) in (1..).zip(text.lines()) {
            if line.trim().is_empty() {
                continue;
            }
            let step = RecordedStep::parse(line)
                .and_then(|step| step.check_order(previous).map(|()| step))
                .map_err(|reason| format_error(path, format!("line {number}: {reason}")))?;
            self.lines.push(Line { file, number, step });
            previous = self.lines.last().map(|line| &line.step);
        }
        Ok(())
    }

    /// Returns the first series that a line does not have, as an error.
    ///
    /// # Errors
    /// [`Error::Format`] with the line and the field.
    pub fn check_complete(&self, remedy: &str) -> Result<()> {
        for line in &self.lines {
            let missing = |series: &&Series| line.step.actions.get(**series).is_none();
            if let Some(series) = Series::ALL.iter().find(missing) {
                let name = series.name();
                return Err(self.error(line, format!("no actions `{name}`: {remedy}")));
            }
        }
        Ok(())
    }

    /// Returns the tasks in the order of their first steps, and the episodes.
    ///
    /// # Errors
    /// [`Error::Format`] for a step that is not complete, or does not continue its episode.
    pub fn episodes(&self) -> Result<(Vec<String>, Vec<Episode>)> {
        self.check_complete("expected actions of each width")?;
        let mut tasks: Vec<String> = Vec::new();
        let mut indices: HashMap<&str, usize> = HashMap::new();
        let mut episodes: Vec<Episode> = Vec::new();
        for (i, line) in self.lines.iter().enumerate() {
            let step = &line.step;
            let same_file = |other: &&Line| other.file == line.file;
            let previous = i.checked_sub(1).map(|i| &self.lines[i]).filter(same_file);
            let previous = previous.map(|line| &line.step);
            // Chunks that a model computed after the file was read have a length only now.
            let ordered = step.check_order(previous);
            ordered.map_err(|reason| self.error(line, reason))?;
            if !previous.is_some_and(|previous| step.continues(previous)) {
                let task = *indices.entry(&step.task).or_insert_with(|| {
                    tasks.push(step.task.clone());
                    tasks.len() - 1
                });
                episodes.push(Episode {
                    task,
                    reference: Vec::new(),
                    at_width: Default::default(),
                });
            }
            // Actions of a chunk from the next step on were not executed.
            let next = self.lines.get(i + 1).filter(same_file);
            let next = next.filter(|next| next.step.continues(step));
            let executed = next.map_or(usize::MAX, |next| (next.step.step - step.step) as usize);
            let episode = episodes
                .last_mut()
                .expect("the first line begins an episode");
            for series in Series::ALL {
                let to = match series {
                    Series::Reference => &mut episode.reference,
                    Series::At(width) => &mut episode.at_width[width.index()],
                };
                let rows = step.actions.get(series).map_or(&[][..], Output::rows);
                to.extend(rows.iter().take(executed).map(|row| action(row)));
            }
        }
        Ok((tasks, episodes))
    }

    fn error(&self, line: &Line, reason: impl std::fmt::Display) -> Error {
        let (file, number) = (&self.files[line.file], line.number);
        format_error(file, format!("line {number}: {reason}"))
    }
}

/// Returns the action of a row that was checked.
fn action(row: &[f64]) -> Action {
    row.try_into().expect("the length of each row was checked")
}

fn files(path: &Path) -> Result<Vec<PathBuf>> {
    let of = |error| io(path, error);
    if !std::fs::metadata(path).map_err(of)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(of)? {
        let file = entry.map_err(of)?.path();
        if file.extension().is_some_and(|ending| ending == EXTENSION) {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn io(path: &Path, source: std::io::Error) -> Error {
    Error::Io {
        file: path.display().to_string(),
        source,
    }
}

fn format_error(path: &Path, reason: impl Into<String>) -> Error {
    Error::Format {
        file: path.display().to_string(),
        reason: reason.into(),
    }
}
