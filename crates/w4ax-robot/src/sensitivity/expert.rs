//! Episodes of a scripted expert, with the phase of each step: `trajectories_expert.csv`.

use std::path::Path;

use w4ax::dispatch::Action;
use w4ax::{Error, Result};

use crate::rows::{self, Recorded};

/// The columns that are read. Others are ignored.
const COLUMNS: [&str; 11] = [
    "task", "episode", "t", "phase", "a_x", "a_y", "a_z", "a_rx", "a_ry", "a_rz", "a_grip",
];

/// The phases, by their number in the file.
pub const PHASES: [&str; 8] = [
    "reach",
    "descend",
    "grasp",
    "lift",
    "transport",
    "lower",
    "release",
    "retreat",
];

/// An episode: its task and number, and the phase and the action of each step.
pub type Trajectory = Recorded<(String, i64), (usize, Action)>;

/// Reads a file.
///
/// # Errors
/// [`Error::Io`], and as [`parse`].
pub fn load(path: &Path) -> Result<Vec<Trajectory>> {
    parse(&rows::contents(path)?, &path.display().to_string())
}

/// Reads episodes from bytes. `file` is their name in errors.
///
/// # Errors
/// [`Error::Format`], with the line and the column, for an invalid field, steps that do not count
/// up from 0 in each episode, or no steps.
pub fn parse(bytes: &[u8], file: &str) -> Result<Vec<Trajectory>> {
    let mut episodes: Vec<Trajectory> = Vec::new();
    rows::read(bytes, file, &COLUMNS, |row| {
        let phase: usize = row.parse("phase")?;
        if phase >= PHASES.len() {
            return Err(row.wrong("phase", "0 to 7"));
        }
        let action = row.finites(&["a_x", "a_y", "a_z", "a_rx", "a_ry", "a_rz", "a_grip"])?;
        let key = (row.text("task").to_owned(), row.parse("episode")?);
        rows::push_step(&mut episodes, row, key, (phase, action))
    })?;
    if episodes.is_empty() {
        return Err(Error::Format {
            file: file.into(),
            reason: "the file has no steps".into(),
        });
    }
    Ok(episodes)
}
