//! `nominal_actions.csv` and `perturb.csv`: episodes that ran undisturbed, and what one perturbed step did to their end.

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

/// The columns of `perturb.csv` that are read; others are passed over.
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

/// `perturb.csv` repeats the undisturbed action with four digits.
const DIGITS: f64 = 1e-4;

/// What goes on after the perturbed step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The policy.
    Bc,
    /// The recorded actions: nothing answers the perturbation.
    Ol,
    /// The scripted expert, which answers by feedback.
    Fb,
}

impl Mode {
    /// In the order of the report.
    pub const ALL: [Self; 3] = [Self::Bc, Self::Ol, Self::Fb];

    /// As the files have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bc => "bc",
            Self::Ol => "ol",
            Self::Fb => "fb",
        }
    }

    fn of(row: &Row<'_>) -> Read<Self> {
        let named = Self::ALL.into_iter().find(|m| m.name() == row.text("mode"));
        named.ok_or_else(|| row.wrong("mode", "bc, ol or fb"))
    }
}

/// A terminal deviation D_T: how far the end of a perturbed episode is from the undisturbed one's, in meters. The data's
/// README does not say what `own` is; in the rows both are the same wherever both episodes are as long.
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
    /// In the order of the columns.
    pub const ALL: [Self; 4] = [Self::Eef, Self::Obj, Self::EefOwn, Self::ObjOwn];

    /// The column of the file.
    pub fn column(self) -> &'static str {
        ["D_eef", "D_obj", "D_eef_own", "D_obj_own"][self as usize]
    }
}

/// What an episode is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The task's name.
    pub task: String,
    /// The episode of the task.
    pub episode: i64,
    /// Who went on.
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

/// A perturbed step, and the end that its episode came to.
#[derive(Clone, Debug)]
pub struct Perturbation {
    /// The undisturbed episode, by its place in [`Nominal`]'s list.
    pub nominal: usize,
    /// The step that was perturbed.
    pub t: usize,
    /// Steps from there to the undisturbed episode's end.
    pub left: usize,
    /// e_t: the L2 distance of the perturbed action to the undisturbed one, all 7 numbers.
    pub error: f64,
    /// D_T by [`Terminal`], m.
    pub deviation: [f64; 4],
    /// Whether the perturbed episode succeeded.
    pub success: bool,
}

/// Reads the undisturbed episodes.
///
/// # Errors
/// As [`parse_nominal`]; [`Error::Io`].
pub fn load_nominal(path: &Path) -> Result<Vec<Nominal>> {
    parse_nominal(&rows::contents(path)?, &path.display().to_string())
}

/// Reads bytes; `file` is what errors call them.
///
/// # Errors
/// [`Error::Format`], with the line and the column, for a field that is no such value, steps that do not count up from 0
/// in each episode, an episode that is there twice, or no steps.
pub fn parse_nominal(bytes: &[u8], file: &str) -> Result<Vec<Nominal>> {
    let mut episodes: Vec<Nominal> = Vec::new();
    rows::read(bytes, file, &NOMINAL, |row| {
        let key = Key::of(row)?;
        let begins = episodes.last().is_none_or(|last| last.key != key);
        if begins && episodes.iter().any(|e| e.key == key) {
            return Err(format!(
                "line {}: its `episode` was there before",
                row.line()
            ));
        }
        rows::push_step(&mut episodes, row, key, row.finites(&ACTION)?)
    })?;
    filled(episodes, file)
}

/// Reads the perturbed steps of undisturbed episodes.
///
/// # Errors
/// As [`parse`]; [`Error::Io`].
pub fn load(path: &Path, nominal: &[Nominal]) -> Result<Vec<Perturbation>> {
    parse(&rows::contents(path)?, &path.display().to_string(), nominal)
}

/// Reads bytes; `file` is what errors call them.
///
/// # Errors
/// [`Error::Format`], with the line and the column, for a field that is no such value, an episode or a step that
/// `nominal` has not, an action that is not `nominal`'s, or no rows.
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

/// A distance.
fn magnitude(row: &Row<'_>, name: &str) -> Read<f64> {
    let value = row.finite(name)?;
    if value < 0.0 {
        return Err(row.wrong(name, "at least 0"));
    }
    Ok(value)
}

/// What was read, if that is anything.
fn filled<T>(rows: Vec<T>, file: &str) -> Result<Vec<T>> {
    if rows.is_empty() {
        return Err(Error::Format {
            file: file.into(),
            reason: "there are no steps".into(),
        });
    }
    Ok(rows)
}
