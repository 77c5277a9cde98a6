//! The deep policy's training and validation rows: `bc_dataset.safetensors`.

use std::path::Path;

use safetensors::Dtype;
use w4ax::{Error, Result};

use super::columns::{self, Columns};
use super::shapes::OBS;

/// The dataset of this repository.
pub const RECORDED: &str = crate::paths::DATASET;

/// The number of phases of an episode: reach, descend, grasp, lift, transport, lower, release,
/// retreat.
pub const PHASES: u8 = 8;

/// Rows of scripted episodes; every array has one entry per row. The file's expert tokens and the
/// flag of disturbed episodes are not read.
#[derive(Debug)]
pub struct Dataset {
    /// `[rows][25]`: raw observations.
    pub obs: Vec<[f32; OBS]>,
    /// `[rows]`: the index of the task.
    pub task: Vec<u8>,
    /// `[rows]`: the index of the episode in its task.
    pub episode: Vec<i32>,
    /// `[rows]`: the control step in its episode. Steps increase, with gaps.
    pub t: Vec<i32>,
    /// `[rows]`: 0 to 7, see [`PHASES`].
    pub phase: Vec<u8>,
    /// `[rows]`: whether the row is for validation.
    pub val: Vec<bool>,
}

impl Dataset {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Io`], and as [`Dataset::parse`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        columns::load(path.as_ref(), Self::parse)
    }

    /// Reads a dataset from bytes. `file` is its name in errors.
    ///
    /// # Errors
    /// [`Error::MissingTensor`]. [`Error::Format`] for bytes that are not safetensors, a tensor of
    /// another type or shape, an observation that is not finite, a phase or a flag out of range,
    /// steps that do not increase in an episode, or no training or no validation rows.
    pub fn parse(bytes: &[u8], file: &str) -> Result<Self> {
        let read = Columns::new(bytes, file, "val")?;
        let dataset = Self {
            obs: read.floats("obs")?,
            task: read.bytes("task", Dtype::U8, &[])?.to_vec(),
            episode: read.integers("episode", &[])?,
            t: read.integers("t", &[])?,
            phase: read.bytes("phase", Dtype::U8, &[])?.to_vec(),
            val: flags(&read, "val")?,
        };
        dataset.check().map_err(|reason| read.refuse(reason))?;
        Ok(dataset)
    }

    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.obs.len()
    }

    /// Returns whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.obs.is_empty()
    }

    /// Returns the validation rows, or the training rows.
    pub fn rows(&self, val: bool) -> Vec<usize> {
        (0..self.len())
            .filter(|&row| self.val[row] == val)
            .collect()
    }

    /// Returns whether two rows are of one episode.
    pub fn same_episode(&self, a: usize, b: usize) -> bool {
        self.task[a] == self.task[b] && self.episode[a] == self.episode[b]
    }

    /// Checks that the task of each row is below `tasks`.
    ///
    /// # Errors
    /// [`Error::Range`] with the first other task.
    pub fn check_tasks(&self, tasks: usize) -> Result<()> {
        match self.task.iter().find(|&&task| usize::from(task) >= tasks) {
            None => Ok(()),
            Some(task) => Err(Error::Range {
                what: "tensor `task` of the dataset",
                value: format!("{task} of {tasks} tasks"),
                range: "the list of tasks",
            }),
        }
    }

    fn check(&self) -> std::result::Result<(), String> {
        for val in [false, true] {
            if !self.val.contains(&val) {
                return Err(format!("no row has `val` {}", u8::from(val)));
            }
        }
        if let Some(row) = self.phase.iter().position(|&phase| phase >= PHASES) {
            return Err(format!(
                "`phase` is {} at row {row}: expected less than {PHASES}",
                self.phase[row]
            ));
        }
        for row in 1..self.len() {
            if self.same_episode(row - 1, row) && self.t[row - 1] >= self.t[row] {
                let (before, t) = (self.t[row - 1], self.t[row]);
                return Err(format!(
                    "`t` is {t} at row {row}: expected more than {before}"
                ));
            }
        }
        Ok(())
    }
}

fn flags(read: &Columns<'_>, name: &str) -> Result<Vec<bool>> {
    let bytes = read.bytes(name, Dtype::U8, &[])?;
    match bytes.iter().position(|&flag| flag > 1) {
        None => Ok(bytes.iter().map(|&flag| flag == 1).collect()),
        Some(row) => {
            let flag = bytes[row];
            Err(read.refuse(format!("`{name}` is {flag} at row {row}: expected 0 or 1")))
        }
    }
}
