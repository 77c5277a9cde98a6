//! The rows and the figures as JSON.

use serde::Serialize;

use super::answer::{Answer, Averaged, Correlation};
use super::continuity::{Firing, Phase, Step};
use super::motion::Motion;
use super::perturb::{Mode, Terminal};

/// What `--json` writes.
#[derive(Serialize)]
pub struct Report<'a> {
    /// A perturbed step each.
    pub rows: Vec<Row<'a>>,
    /// Of the rows.
    pub correlations: &'a [Correlation],
    /// Of the rows, averaged first.
    pub averages: &'a [Averaged],
    /// A step of the expert each.
    pub steps: &'a [Step],
    /// Of the steps.
    pub phases: &'a [Phase],
    /// Of the steps.
    pub firings: &'a [Firing],
}

/// A perturbed step.
#[derive(Serialize)]
pub struct Row<'a> {
    task: &'a str,
    episode: i64,
    mode: Mode,
    t: usize,
    steps_left: usize,
    e_t: f64,
    #[serde(rename = "D_T")]
    deviation: ByTerminal<f64>,
    /// `None` where `e_t` is 0.
    s_t: ByTerminal<Option<f64>>,
    #[serde(flatten)]
    motion: Motion,
    success: bool,
}

#[derive(Serialize)]
struct ByTerminal<T> {
    eef: T,
    obj: T,
    eef_own: T,
    obj_own: T,
}

impl<T> ByTerminal<T> {
    fn new(value: impl Fn(Terminal) -> T) -> Self {
        let [eef, obj, eef_own, obj_own] = Terminal::ALL.map(value);
        Self {
            eef,
            obj,
            eef_own,
            obj_own,
        }
    }
}

impl<'a> From<&'a Answer> for Row<'a> {
    fn from(answer: &'a Answer) -> Self {
        Self {
            task: &answer.key.task,
            episode: answer.key.episode,
            mode: answer.key.mode,
            t: answer.step.t,
            steps_left: answer.step.left,
            e_t: answer.step.error,
            deviation: ByTerminal::new(|terminal| answer.step.deviation[terminal as usize]),
            s_t: ByTerminal::new(|terminal| answer.sensitivity(terminal)),
            motion: answer.motion,
            success: answer.step.success,
        }
    }
}

impl Report<'_> {
    /// On one line, with a newline at the end: the rows are many.
    pub fn to_json(&self) -> String {
        // No map keys but strings, no writer: serializing cannot fail.
        let json = serde_json::to_string(self);
        json.expect("a report is plain data") + "\n"
    }
}
