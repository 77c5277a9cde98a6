//! Recorded control steps, with the tokens of each input at each width: `rollouts.safetensors`.

use std::ops::Range;
use std::path::Path;

use w4ax::calibrate::Episode;
use w4ax::cpu::Cpu;
use w4ax::dispatch::{ACTION_DIM, Action};
use w4ax::{Error, Result, Width};

use super::checkpoint::Checkpoint;
use super::columns::{self, Columns};
use super::dataset::Dataset;
use super::policy::Policy;
use super::shapes::{INPUT, OBS, Tokens};

/// The tasks of the recorded data, by index.
pub const TASKS: [&str; 6] = [
    "Lift",
    "libero_spatial:0",
    "NutAssemblySquare",
    "libero_goal:6",
    "Stack",
    "libero_object:0",
];

/// The recording of this repository.
pub const RECORDED: &str = crate::paths::ROLLOUTS;

/// Recorded control steps, episode after episode; every array has one entry per step.
#[derive(Debug)]
pub struct Rollouts {
    /// `[steps][25]`: raw observations.
    pub obs: Vec<[f32; OBS]>,
    /// `[steps][64]`: the policy's input.
    pub input: Vec<[f32; INPUT]>,
    /// `[steps]`: the index of the task. See [`Rollouts::check_tasks`].
    pub task: Vec<usize>,
    /// `[steps]`: the index of the episode in its task.
    pub episode: Vec<i32>,
    /// `[steps]`: the control step in its episode.
    pub t: Vec<usize>,
    /// `[steps]`: whether the episode succeeded; `None` if it is not recorded.
    pub success: Option<Vec<bool>>,
    /// `[steps][7]`: tokens of the unquantized policy.
    pub bf16: Vec<Tokens>,
    /// `[width][steps, 7]`, by [`Width::index`]: tokens with INT4 weights, if recorded.
    quantized: Option<[Vec<Tokens>; 4]>,
    episodes: Vec<Range<usize>>,
}

impl Rollouts {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Io`], and as [`Rollouts::parse`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        columns::load(path.as_ref(), Self::parse)
    }

    /// Reads a recording from bytes. `file` is its name in errors.
    ///
    /// # Errors
    /// [`Error::MissingTensor`]. [`Error::Format`] for bytes that are not safetensors, a tensor of
    /// another type or shape, a token outside 0..=255, a negative index, a value that is not
    /// finite, no steps, or steps that are not whole episodes in order.
    pub fn parse(bytes: &[u8], file: &str) -> Result<Self> {
        let read = Columns::new(bytes, file, "tok_bf16")?;
        if read.rows() == 0 {
            return Err(read.refuse("`tok_bf16` has no steps"));
        }
        let success = read.integers("success", &[])?;
        let rollouts = Self {
            obs: read.floats("obs")?,
            input: read.floats("input")?,
            task: indices(&read, "task")?,
            episode: read.integers("episode", &[])?,
            t: indices(&read, "t")?,
            success: Some(success.into_iter().map(|s| s != 0).collect()),
            bf16: tokens(&read, "tok_bf16")?,
            quantized: quantized(&read)?,
            episodes: Vec::new(),
        };
        rollouts.cut().map_err(|reason| read.refuse(reason))
    }

    /// Makes episodes of a dataset's validation rows. The steps are numbered anew, because a few
    /// are missing. The unquantized policy computes the tokens.
    ///
    /// # Errors
    /// As [`Policy::input`] and [`Policy::forward`]. [`Error::Range`] if the rows are not whole
    /// episodes in order.
    pub fn of_validation(dataset: &Dataset, policy: &mut Policy) -> Result<Self> {
        let rows = dataset.rows(true);
        let mut t = vec![0; rows.len()];
        for i in 1..rows.len() {
            if dataset.same_episode(rows[i - 1], rows[i]) {
                t[i] = t[i - 1] + 1;
            }
        }
        let task = |&row: &usize| usize::from(dataset.task[row]);
        let (mut input, mut bf16) = (Vec::new(), Vec::new());
        for row in &rows {
            let x = policy.input(&dataset.obs[*row], task(row))?;
            bf16.push(policy.forward(&x, Width::Bf16)?);
            input.push(x);
        }
        let rollouts = Self {
            obs: rows.iter().map(|&row| dataset.obs[row]).collect(),
            task: rows.iter().map(task).collect(),
            episode: rows.iter().map(|&row| dataset.episode[row]).collect(),
            t,
            success: None,
            input,
            bf16,
            quantized: None,
            episodes: Vec::new(),
        };
        rollouts.cut().map_err(|reason| Error::Range {
            what: "validation rows",
            value: reason,
            range: "whole episodes",
        })
    }

    /// Reads a dataset and makes episodes of its validation rows, as
    /// [`of_validation`](Self::of_validation) with the policy of a checkpoint.
    ///
    /// # Errors
    /// As [`Dataset::load`] and [`of_validation`](Self::of_validation).
    pub fn load_validation(dataset: &Path, checkpoint: &Checkpoint) -> Result<Self> {
        let mut policy = Policy::unquantized(checkpoint, Cpu::new()?, 1)?;
        Self::of_validation(&Dataset::load(dataset)?, &mut policy)
    }

    /// Finds the episodes.
    fn cut(mut self) -> std::result::Result<Self, String> {
        self.episodes = self.find_episodes()?;
        Ok(self)
    }

    /// Returns the number of steps.
    pub fn len(&self) -> usize {
        self.bf16.len()
    }

    /// Returns whether there are no steps.
    pub fn is_empty(&self) -> bool {
        self.bf16.is_empty()
    }

    /// Returns the steps of each episode.
    pub fn episodes(&self) -> &[Range<usize>] {
        &self.episodes
    }

    /// Returns the recorded tokens with INT4 weights at a width (W4A16 for BF16), `[steps, 7]`, if
    /// any.
    pub fn tokens(&self, width: Width) -> Option<&[Tokens]> {
        let quantized = self.quantized.as_ref()?;
        Some(&quantized[width.index()])
    }

    /// Checks that the task of each step is below `tasks`.
    ///
    /// # Errors
    /// [`Error::Range`] with the first other task.
    pub fn check_tasks(&self, tasks: usize) -> Result<()> {
        match self.task.iter().find(|&&task| task >= tasks) {
            None => Ok(()),
            Some(task) => Err(Error::Range {
                what: "tensor `task` of the rollouts",
                value: format!("{task} of {tasks} tasks"),
                range: "the list of tasks",
            }),
        }
    }

    /// Cuts `[width][steps]` actions into the episodes of a calibration. The reference is the
    /// recorded tokens of the unquantized policy.
    pub fn calibration_episodes(&self, at_width: &[Vec<Action>; 4]) -> Vec<Episode> {
        let cut = |steps: &Range<usize>| Episode {
            task: self.task[steps.start],
            reference: self.bf16[steps.clone()].iter().map(action).collect(),
            at_width: at_width
                .each_ref()
                .map(|actions| actions[steps.clone()].to_vec()),
        };
        self.episodes.iter().map(cut).collect()
    }

    fn find_episodes(&self) -> std::result::Result<Vec<Range<usize>>, String> {
        let of = |i: usize| (self.task[i], self.episode[i]);
        let mut episodes: Vec<Range<usize>> = Vec::new();
        for (i, &t) in self.t.iter().enumerate() {
            match episodes.last_mut() {
                _ if t == 0 => episodes.push(i..i + 1),
                Some(steps) if t == steps.len() && of(i) == of(steps.start) => steps.end = i + 1,
                _ => {
                    let (task, episode) = of(i);
                    return Err(format!(
                        "`t` is {t} at row {i} (task {task}, episode {episode}): \
                         expected whole episodes in order"
                    ));
                }
            }
        }
        Ok(episodes)
    }
}

/// Returns the action of 7 tokens: -1 + 2k/255, in [-1, 1].
pub fn action(tokens: &Tokens) -> Action {
    tokens.map(|k| -1.0 + 2.0 * f64::from(k) / 255.0)
}

fn indices(read: &Columns<'_>, name: &str) -> Result<Vec<usize>> {
    let index = |x: i32| {
        usize::try_from(x)
            .map_err(|_| read.refuse(format!("`{name}` has the value {x}: expected 0 or more")))
    };
    read.integers(name, &[])?.into_iter().map(index).collect()
}

fn tokens(read: &Columns<'_>, name: &str) -> Result<Vec<Tokens>> {
    let token = |x: i32| {
        u8::try_from(x)
            .map_err(|_| read.refuse(format!("`{name}` has the token {x}: expected 0..=255")))
    };
    let words = read.integers(name, &[ACTION_DIM])?.into_iter();
    let tokens: Vec<u8> = words.map(token).collect::<Result<_>>()?;
    Ok(tokens.as_chunks().0.to_vec())
}

/// All four widths, or none for a recording of the unquantized policy alone.
fn quantized(read: &Columns<'_>) -> Result<Option<[Vec<Tokens>; 4]>> {
    let names = ["tok_w4a2", "tok_w4a4", "tok_w4a8", "tok_w4a16"];
    if !names.iter().any(|name| read.has(name)) {
        return Ok(None);
    }
    let [a2, a4, a8, bf16] = names.map(|name| tokens(read, name));
    Ok(Some([a2?, a4?, a8?, bf16?]))
}
