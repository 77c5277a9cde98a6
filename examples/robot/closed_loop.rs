//! `closed_loop_steps.csv`: episodes that ran under a dynamic rule, with what it decided at each step.

use std::path::Path;

use csv::StringRecord;
use w4ax::dispatch::ACTION_DIM;
use w4ax::{Error, Precision, Result};

use super::rollouts::Tokens;

/// The columns that are read; others are passed over.
const COLUMNS: [&str; 13] = [
    "task", "seed", "t", "S_t", "S_cond", "bits", "k_x", "k_y", "k_z", "k_rx", "k_ry", "k_rz",
    "k_grip",
];

/// An episode: the steps of a (task, seed).
#[derive(Clone, Debug)]
pub struct Episode {
    /// The task's name.
    pub task: String,
    /// What the simulator was seeded with.
    pub seed: i64,
    /// The line of the file that it begins at.
    pub line: u64,
    /// In order.
    pub steps: Vec<Step>,
}

/// A control step: what was decided from the actions before it, then its own action.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// S.
    pub sensitivity: f64,
    /// The width that S asks for.
    pub target: Precision,
    /// The width that ran.
    pub active: Precision,
    /// The action.
    pub tokens: Tokens,
}

/// Reads a file.
///
/// # Errors
/// [`Error::Io`], and as [`parse`].
pub fn load(path: impl AsRef<Path>) -> Result<Vec<Episode>> {
    let file = path.as_ref().display().to_string();
    match std::fs::read(path) {
        Ok(bytes) => parse(&bytes, &file),
        Err(source) => Err(Error::Io { file, source }),
    }
}

/// Reads bytes; `file` is what errors call them.
///
/// # Errors
/// [`Error::Format`], with the line and the column, for bytes that are no CSV, a column that is missing, a field that
/// is no such value, steps that do not count up from 0 in each episode, or no steps.
pub fn parse(bytes: &[u8], file: &str) -> Result<Vec<Episode>> {
    let refuse = |reason: String| Error::Format {
        file: file.into(),
        reason,
    };
    let mut reader = csv::Reader::from_reader(bytes);
    let header = reader.headers().map_err(|e| refuse(e.to_string()))?;
    let mut columns = [0; COLUMNS.len()];
    for (column, name) in columns.iter_mut().zip(COLUMNS) {
        let mut found = header.iter().enumerate().filter(|(_, h)| *h == name);
        *column = match (found.next(), found.next()) {
            (Some((at, _)), None) => at,
            (None, _) => return Err(refuse(format!("line 1: there is no column `{name}`"))),
            (Some(_), Some(_)) => {
                return Err(refuse(format!("line 1: `{name}` is there twice")));
            }
        };
    }
    let mut episodes: Vec<Episode> = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|e| refuse(e.to_string()))?;
        let row = Row {
            record: &record,
            columns: &columns,
        };
        let (task, seed) = (row.text("task"), row.parse("seed").map_err(&refuse)?);
        let t: usize = row.parse("t").map_err(&refuse)?;
        let step = row.step().map_err(&refuse)?;
        let line = row.line();
        match episodes.last_mut() {
            Some(e) if e.task == task && e.seed == seed && t == e.steps.len() => e.steps.push(step),
            _ if t == 0 => episodes.push(Episode {
                task: task.into(),
                seed,
                line,
                steps: vec![step],
            }),
            _ => {
                let reason = "the steps of an episode must follow each other from 0 on";
                return Err(refuse(format!("line {line}: `t` is {t}: {reason}")));
            }
        }
    }
    if episodes.is_empty() {
        return Err(refuse("there are no steps".into()));
    }
    Ok(episodes)
}

struct Row<'a> {
    record: &'a StringRecord,
    columns: &'a [usize; COLUMNS.len()],
}

impl Row<'_> {
    fn line(&self) -> u64 {
        self.record.position().map_or(0, csv::Position::line)
    }

    /// A field by one of the names of [`COLUMNS`].
    fn text(&self, name: &str) -> &str {
        let at = COLUMNS.iter().position(|column| *column == name);
        at.and_then(|at| self.record.get(self.columns[at]))
            .unwrap_or_default()
    }

    fn wrong(&self, name: &str, must: &str) -> String {
        let (line, text) = (self.line(), self.text(name));
        format!("line {line}: `{name}` must be {must}, it is `{text}`")
    }

    fn parse<T: std::str::FromStr>(&self, name: &str) -> std::result::Result<T, String> {
        let kind = std::any::type_name::<T>();
        self.text(name)
            .parse()
            .map_err(|_| self.wrong(name, &format!("a number ({kind})")))
    }

    fn width(&self, name: &str) -> std::result::Result<Precision, String> {
        let bits: u32 = self.parse(name)?;
        Precision::try_from(bits).map_err(|_| self.wrong(name, "2, 4, 8 or 16"))
    }

    fn step(&self) -> std::result::Result<Step, String> {
        let mut tokens: Tokens = [0; ACTION_DIM];
        for (token, name) in tokens.iter_mut().zip(&COLUMNS[6..]) {
            *token = self.parse(name)?;
        }
        let sensitivity: f64 = self.parse("S_t")?;
        if !sensitivity.is_finite() {
            return Err(self.wrong("S_t", "finite"));
        }
        Ok(Step {
            sensitivity,
            target: self.width("S_cond")?,
            active: self.width("bits")?,
            tokens,
        })
    }
}
