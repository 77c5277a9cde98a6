//! `bc_dataset.safetensors`: the rows that the deep policy was trained on, and those kept from it.

use std::path::Path;

use safetensors::Dtype;
use w4ax::{Error, Result};

use super::columns::{self, Columns};
use super::rollouts::OBS;

/// The rows that come with the repository.
pub const RECORDED: &str = crate::paths::DATASET;

/// Phases of an episode: reach, descend, grasp, lift, transport, lower, release, retreat.
pub const PHASES: u8 = 8;

/// Rows of scripted episodes; every array has one entry a row. The file has the expert's tokens too, and which episodes were
/// disturbed: nothing here is trained or judged by them.
#[derive(Debug)]
pub struct Dataset {
    /// `[rows][25]`: raw observations.
    pub obs: Vec<[f32; OBS]>,
    /// `[rows]`: the task's index.
    pub task: Vec<u8>,
    /// `[rows]`: the episode of the task.
    pub episode: Vec<i32>,
    /// `[rows]`: the step of the episode; it grows, with gaps.
    pub t: Vec<i32>,
    /// `[rows]`: 0 to 7, see [`PHASES`].
    pub phase: Vec<u8>,
    /// `[rows]`: whether the policy was not trained on the row.
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

    /// Reads bytes; `file` is what errors call them.
    ///
    /// # Errors
    /// [`Error::MissingTensor`]; [`Error::Format`] for bytes that are no safetensors, a tensor of another type or shape, an
    /// observation that is not finite, a phase or a flag that there is not, a step that does not come after the one before
    /// it in its episode, or no rows of one of the two kinds.
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

    /// Rows in all.
    pub fn len(&self) -> usize {
        self.obs.len()
    }

    /// The rows that the policy was not trained on, or was.
    pub fn rows(&self, val: bool) -> Vec<usize> {
        (0..self.len())
            .filter(|&row| self.val[row] == val)
            .collect()
    }

    /// Whether two rows are of one episode.
    pub fn same_episode(&self, a: usize, b: usize) -> bool {
        self.task[a] == self.task[b] && self.episode[a] == self.episode[b]
    }

    /// Checks that every row's task is one of `tasks`.
    ///
    /// # Errors
    /// [`Error::Range`] with the task that is not.
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
                return Err(format!("no row has a `val` of {}", u8::from(val)));
            }
        }
        if let Some(row) = self.phase.iter().position(|&phase| phase >= PHASES) {
            return Err(format!(
                "`phase` is {} at row {row}, there are {PHASES}",
                self.phase[row]
            ));
        }
        for row in 1..self.len() {
            if self.same_episode(row - 1, row) && self.t[row - 1] >= self.t[row] {
                let (before, t) = (self.t[row - 1], self.t[row]);
                return Err(format!(
                    "`t` is {t} at row {row}, and {before} before it in the episode"
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
            Err(read.refuse(format!(
                "`{name}` is {flag} at row {row}, it must be 0 or 1"
            )))
        }
    }
}
