//! Undisturbed episodes (`nominal_actions.csv`), and the effect of one perturbed step on their end
//! (`perturb.csv`).

use std::path::Path;

use serde::Serialize;
use w4ax::dispatch::Action;
use w4ax::{Error, Result};

use crate::rows::{self, Read, Recorded, Row};

/// The columns of an action.
const ACTION: [&str; 7] = ["a0", "a1", "a2", "a3", "a4", "a5", "a6"];

/// The columns of `nominal_actions.csv`.
const NOMINAL: [&str; 11] = [
    "task", "episode", "mode", "t", "a0", "a1", "a2", "a3", "a4", "a5", "a6",
];

/// The columns of `perturb.csv` that are read. Others are ignored.
const PERTURBED: [&str; 18] = [
    "task",
    "episode",
    "mode",
    "t",
    "T_nom",
    "e_t",
    "D_eef",
    "D_obj",
    "D_eef_own",
    "D_obj_own",
    "success",
    "a0",
    "a1",
    "a2",
    "a3",
    "a4",
    "a5",
    "a6",
];

/// The tolerance of the undisturbed action in `perturb.csv`, which has four digits.
const DIGITS: f64 = 1e-4;

/// The source of the actions after the perturbed step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The policy.
    Bc,
    /// The recorded actions: open loop.
    Ol,
    /// The scripted expert, with feedback.
    Fb,
}

impl Mode {
    /// All, in the order of the report.
    pub const ALL: [Self; 3] = [Self::Bc, Self::Ol, Self::Fb];

    /// Returns the name in the files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bc => "bc",
            Self::Ol => "ol",
            Self::Fb => "fb",
        }
    }

    /// Reads the column `mode`.
    ///
    /// # Errors
    /// The field, if it names no mode.
    pub fn of(row: &Row<'_>) -> Read<Self> {
        let named = Self::ALL.into_iter().find(|m| m.name() == row.text("mode"));
        named.ok_or_else(|| row.wrong("mode", "bc, ol or fb"))
    }
}

/// A terminal deviation D_T: the distance between the ends of the perturbed and the undisturbed
/// episode, in meters. The data's README does not define `own`. In the rows both values are equal
/// if both episodes have the same length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Terminal {
    /// The end effector: `D_eef`.
    Eef,
    /// The object: `D_obj`.
    Obj,
    /// The end effector: `D_eef_own`.
    EefOwn,
    /// The object: `D_obj_own`.
    ObjOwn,
}

impl Terminal {
    /// All, in the order of the columns.
    pub const ALL: [Self; 4] = [Self::Eef, Self::Obj, Self::EefOwn, Self::ObjOwn];

    /// Returns the name of the column.
    pub fn column(self) -> &'static str {
        ["D_eef", "D_obj", "D_eef_own", "D_obj_own"][self as usize]
    }
}

/// The key of an episode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The task's name.
    pub task: String,
    /// The index of the episode in its task.
    pub episode: i64,
    /// The source of the actions after the perturbed step.
    pub mode: Mode,
}

impl Key {
    fn of(row: &Row<'_>) -> Read<Self> {
        Ok(Self {
            task: row.text("task").into(),
            episode: row.parse("episode")?,
            mode: Mode::of(row)?,
        })
    }
}

/// An undisturbed episode.
pub type Nominal = Recorded<Key, Action>;

/// A perturbed step, and its effect.
#[derive(Clone, Debug)]
pub struct Perturbation {
    /// The index of the undisturbed episode in the list of [`Nominal`].
    pub nominal: usize,
    /// The perturbed step.
    pub t: usize,
    /// Steps to the end of the undisturbed episode.
    pub left: usize,
    /// e_t: the L2 distance of the perturbed action to the undisturbed one, over all 7 numbers.
    pub error: f64,
    /// D_T by [`Terminal`], in meters.
    pub deviation: [f64; 4],
    /// Whether the perturbed episode succeeded.
    pub success: bool,
}

/// Reads the undisturbed episodes.
///
/// # Errors
/// [`Error::Io`], and as [`parse_nominal`].
pub fn load_nominal(path: &Path) -> Result<Vec<Nominal>> {
    parse_nominal(&rows::contents(path)?, &path.display().to_string())
}

/// Reads undisturbed episodes from bytes. `file` is their name in errors.
///
/// # Errors
/// [`Error::Format`], with the line and the column, for an invalid field, steps that do not count
/// up from 0 in each episode, a repeated episode, or no steps.
pub fn parse_nominal(bytes: &[u8], file: &str) -> Result<Vec<Nominal>> {
    let mut episodes: Vec<Nominal> = Vec::new();
    rows::read(bytes, file, &NOMINAL, |row| {
        let key = Key::of(row)?;
        let begins = episodes.last().is_none_or(|last| last.key != key);
        if begins && episodes.iter().any(|e| e.key == key) {
            return Err(format!("line {}: repeated `episode`", row.line()));
        }
        rows::push_step(&mut episodes, row, key, row.finites(&ACTION)?)
    })?;
    filled(episodes, file)
}

/// Reads the perturbed steps of undisturbed episodes.
///
/// # Errors
/// [`Error::Io`], and as [`parse`].
pub fn load(path: &Path, nominal: &[Nominal]) -> Result<Vec<Perturbation>> {
    parse(&rows::contents(path)?, &path.display().to_string(), nominal)
}

/// Reads perturbed steps from bytes. `file` is their name in errors.
///
/// # Errors
/// [`Error::Format`], with the line and the column, for an invalid field, an episode, a step or an
/// action that is not in `nominal`, or no rows.
pub fn parse(bytes: &[u8], file: &str, nominal: &[Nominal]) -> Result<Vec<Perturbation>> {
    let mut perturbed = Vec::new();
    rows::read(bytes, file, &PERTURBED, |row| {
        perturbed.push(perturbation(row, nominal)?);
        Ok(())
    })?;
    filled(perturbed, file)
}

fn perturbation(row: &Row<'_>, nominal: &[Nominal]) -> Read<Perturbation> {
    let (key, t): (Key, usize) = (Key::of(row)?, row.parse("t")?);
    let Some(at) = nominal.iter().position(|e| e.key == key) else {
        return Err(row.wrong("episode", "one of the undisturbed episodes"));
    };
    let Some(undisturbed) = nominal[at].steps.get(t) else {
        return Err(row.wrong("t", "a step of the undisturbed episode"));
    };
    let action: Action = row.finites(&ACTION)?;
    for ((name, read), known) in ACTION.iter().zip(action).zip(undisturbed) {
        if (read - known).abs() > DIGITS {
            return Err(row.wrong(name, &format!("the undisturbed step's {known}")));
        }
    }
    let last: usize = row.parse("T_nom")?;
    if last + 1 != nominal[at].steps.len() {
        return Err(row.wrong("T_nom", "the undisturbed episode's last step"));
    }
    let mut deviation = [0.0; 4];
    for (value, terminal) in deviation.iter_mut().zip(Terminal::ALL) {
        *value = magnitude(row, terminal.column())?;
    }
    Ok(Perturbation {
        nominal: at,
        t,
        left: last - t,
        error: magnitude(row, "e_t")?,
        deviation,
        success: row.flag("success")?,
    })
}

/// Reads a distance.
fn magnitude(row: &Row<'_>, name: &str) -> Read<f64> {
    let value = row.finite(name)?;
    if value < 0.0 {
        return Err(row.wrong(name, "at least 0"));
    }
    Ok(value)
}

/// Returns the rows, or an error if there are none.
fn filled<T>(rows: Vec<T>, file: &str) -> Result<Vec<T>> {
    if rows.is_empty() {
        return Err(Error::Format {
            file: file.into(),
            reason: "the file has no steps".into(),
        });
    }
    Ok(rows)
}
