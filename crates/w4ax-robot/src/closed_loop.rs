//! Episodes that ran under a dynamic rule, with its decision at each step: `closed_loop_steps.csv`.

use std::path::Path;

use w4ax::dispatch::ACTION_DIM;
use w4ax::{Error, Result, Width};

use super::rows::{self, Read, Recorded, Row};
use super::shapes::Tokens;

/// The columns that are read. Others are ignored.
const COLUMNS: [&str; 13] = [
    "task", "seed", "t", "S_t", "S_cond", "bits", "k_x", "k_y", "k_z", "k_rx", "k_ry", "k_rz",
    "k_grip",
];

/// An episode: the steps of one task and seed.
#[derive(Clone, Debug)]
pub struct Episode {
    /// The task's name.
    pub task: String,
    /// The seed of the simulator.
    pub seed: i64,
    /// The line of the file where the episode begins.
    pub line: u64,
    /// The control steps in order.
    pub steps: Vec<Step>,
}

/// A control step: the decision from the actions before it, and its own action.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The sensitivity S.
    pub sensitivity: f64,
    /// The target width of S.
    pub target: Width,
    /// The width that ran.
    pub active: Width,
    /// The action.
    pub tokens: Tokens,
}

/// Reads a file.
///
/// # Errors
/// [`Error::Io`], and as [`parse`].
pub fn load(path: impl AsRef<Path>) -> Result<Vec<Episode>> {
    let path = path.as_ref();
    parse(&rows::contents(path)?, &path.display().to_string())
}

/// Reads episodes from bytes. `file` is their name in errors.
///
/// # Errors
/// [`Error::Format`], with the line and the column, for bytes that are not CSV, a missing column,
/// an invalid field, steps that do not count up from 0 in each episode, or no steps.
pub fn parse(bytes: &[u8], file: &str) -> Result<Vec<Episode>> {
    let mut episodes: Vec<Recorded<(String, i64), Step>> = Vec::new();
    rows::read(bytes, file, &COLUMNS, |row| {
        let key = (row.text("task").to_owned(), row.parse("seed")?);
        rows::push_step(&mut episodes, row, key, step(row)?)
    })?;
    if episodes.is_empty() {
        return Err(Error::Format {
            file: file.into(),
            reason: "the file has no steps".into(),
        });
    }
    let named = episodes.into_iter().map(|episode| Episode {
        task: episode.key.0,
        seed: episode.key.1,
        line: episode.line,
        steps: episode.steps,
    });
    Ok(named.collect())
}

fn step(row: &Row<'_>) -> Read<Step> {
    let mut tokens: Tokens = [0; ACTION_DIM];
    for (token, name) in tokens.iter_mut().zip(&COLUMNS[6..]) {
        *token = row.parse(name)?;
    }
    Ok(Step {
        sensitivity: row.finite("S_t")?,
        target: width(row, "S_cond")?,
        active: width(row, "bits")?,
        tokens,
    })
}

fn width(row: &Row<'_>, name: &str) -> Read<Width> {
    let bits: u32 = row.parse(name)?;
    Width::try_from(bits).map_err(|_| row.wrong(name, "2, 4, 8 or 16"))
}
