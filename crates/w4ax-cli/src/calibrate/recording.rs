//! Recorded steps of any model, as JSON lines.

use std::collections::HashMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use w4ax::calibrate::Episode;
use w4ax::dispatch::ActionLayout;
use w4ax::{Error, Result};

use super::step::{Output, RecordedStep, Series};

/// The ending of the files that are read from a folder.
const EXTENSION: &str = "jsonl";

/// An episode with actions of any layout.
pub type RecordedEpisode = Episode<Vec<f64>>;

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
    layout: ActionLayout,
    files: Vec<PathBuf>,
    lines: Vec<Line>,
}

impl Recording {
    /// Reads a file with actions of a layout, or all files of a folder whose names end in
    /// `.jsonl`, in the order of their names.
    ///
    /// # Errors
    /// [`Error::Io`]. [`Error::Format`] with the line that is not a valid step, or if there are no
    /// steps.
    pub fn load(path: &Path, layout: ActionLayout) -> Result<Self> {
        let mut recording = Self {
            layout,
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
            let step = RecordedStep::parse(line, self.layout.dims())
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
                return Err(self.line_error(line, format!("no actions `{name}`: {remedy}")));
            }
        }
        Ok(())
    }

    /// Returns the tasks in the order of their first steps, and the episodes.
    ///
    /// # Errors
    /// [`Error::Format`] for a step that is not complete, or does not continue its episode.
    pub fn episodes(&self) -> Result<(Vec<String>, Vec<RecordedEpisode>)> {
        self.check_complete("expected actions of each width")?;
        let mut tasks: Vec<String> = Vec::new();
        let mut indices: HashMap<&str, usize> = HashMap::new();
        let mut episodes: Vec<RecordedEpisode> = Vec::new();
        for (i, line) in self.lines.iter().enumerate() {
            let step = &line.step;
            let same_file = |other: &&Line| other.file == line.file;
            let previous = i.checked_sub(1).map(|i| &self.lines[i]).filter(same_file);
            let previous = previous.map(|line| &line.step);
            // Chunks that a model computed after the file was read have a length only now.
            let ordered = step.check_order(previous);
            ordered.map_err(|reason| self.line_error(line, reason))?;
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
                to.extend(rows.iter().take(executed).cloned());
            }
        }
        Ok((tasks, episodes))
    }

    fn line_error(&self, line: &Line, reason: impl Display) -> Error {
        let (file, number) = (&self.files[line.file], line.number);
        format_error(file, format!("line {number}: {reason}"))
    }
}

/// Steps that a model completes.
#[cfg(feature = "vla")]
impl Recording {
    /// Returns the number of steps.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Returns a step.
    pub fn step(&self, at: usize) -> &RecordedStep {
        &self.lines[at].step
    }

    /// Returns those of the `wanted` series that a step lacks.
    pub fn missing(&self, at: usize, wanted: &[Series]) -> Vec<Series> {
        let actions = &self.step(at).actions;
        let missing = |series: &&Series| actions.get(**series).is_none();
        wanted.iter().filter(missing).copied().collect()
    }

    /// Returns the paths of a step's images.
    pub fn images(&self, at: usize) -> Vec<PathBuf> {
        let folder = folder(&self.files[self.lines[at].file]);
        let images = self.step(at).images.iter();
        images.map(|path| folder.join(path)).collect()
    }

    /// Sets a series of a step. Of a chunk only as many actions are kept as the step has at other
    /// widths.
    ///
    /// # Errors
    /// [`Error::Format`] for actions of another length.
    pub fn set(&mut self, at: usize, series: Series, mut output: Output) -> Result<()> {
        let actions = &mut self.lines[at].step.actions;
        if let (Output::Chunk(rows), Some(len)) = (&mut output, actions.len()) {
            rows.truncate(len);
        }
        *actions.get_mut(series) = Some(output);
        let checked = actions.check(self.layout.dims());
        checked.map_err(|reason| self.error(at, reason))
    }

    /// Returns an error about a step.
    pub fn error(&self, at: usize, reason: impl Display) -> Error {
        self.line_error(&self.lines[at], reason)
    }

    /// Writes all steps as one file. Paths of images become absolute if they are relative to
    /// another folder.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut text = String::new();
        for (at, line) in self.lines.iter().enumerate() {
            let mut step = line.step.clone();
            if folder(&self.files[line.file]) != folder(path) {
                let absolute =
                    |path: PathBuf| std::path::absolute(&path).map_err(|error| io(&path, error));
                step.images = (self.images(at).into_iter())
                    .map(absolute)
                    .collect::<Result<_>>()?;
            }
            // Plain data whose map keys are strings: serializing cannot fail.
            text += &serde_json::to_string(&step).expect("a step is plain data");
            text.push('\n');
        }
        w4ax::file::write_atomically(path, text.as_bytes())
    }
}

/// Returns the folder of a file.
#[cfg(feature = "vla")]
fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
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
