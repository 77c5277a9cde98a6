//! The rows and figures as JSON.

use serde::Serialize;

use super::continuity::{Firing, Phase, Step};
use super::motion::Motion;
use super::perturb::{Mode, Terminal};
use super::response::{Averaged, Correlation, Response};

/// The file of `--json`.
#[derive(Serialize)]
pub struct Report<'a> {
    /// One per perturbed step.
    pub rows: Vec<Row<'a>>,
    /// The correlations of the rows.
    pub correlations: &'a [Correlation],
    /// The correlations of averaged rows.
    pub averages: &'a [Averaged],
    /// One per step of the expert.
    pub steps: &'a [Step],
    /// The mean continuity of the phases.
    pub phases: &'a [Phase],
    /// The steps at which the rules fire.
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

impl<'a> From<&'a Response> for Row<'a> {
    fn from(response: &'a Response) -> Self {
        Self {
            task: &response.key.task,
            episode: response.key.episode,
            mode: response.key.mode,
            t: response.step.t,
            steps_left: response.step.left,
            e_t: response.step.error,
            deviation: ByTerminal::new(|terminal| response.step.deviation[terminal as usize]),
            s_t: ByTerminal::new(|terminal| response.sensitivity(terminal)),
            motion: response.motion,
            success: response.step.success,
        }
    }
}

impl Report<'_> {
    /// Returns JSON on one line, with a newline at its end: there are many rows.
    pub fn to_json(&self) -> String {
        // Plain data whose map keys are strings: serializing cannot fail.
        let json = serde_json::to_string(self);
        json.expect("a report is plain data") + "\n"
    }
}
