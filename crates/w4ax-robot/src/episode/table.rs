//! The tables of `w4ax episode`.

use comfy_table::Table;
use w4ax::Width;

use super::run::Runs;
use super::summary::{Score, Summary, median_micros};
use crate::table::table;

/// Steps of the dynamic run at each width.
pub fn widths(tasks: &[Summary], all: &Summary) -> Table {
    let row = |s: &Summary| {
        let steps = s.at_width.map(|steps| steps.to_string());
        [vec![s.name.clone(), s.steps.to_string()], steps.to_vec()].concat()
    };
    let header = ["task", "steps", "a2", "a4", "a8", "bf16"];
    table(&header, tasks.iter().chain([all]).map(row))
}

/// The share of equal tokens of each run.
pub fn agreement(tasks: &[Summary], all: &Summary) -> Table {
    scores(tasks, all, |score| {
        format!("{:.1} %", 100.0 * score.agreement)
    })
}

/// The mean action error of each run.
pub fn errors(tasks: &[Summary], all: &Summary) -> Table {
    scores(tasks, all, |score| format!("{:.4}", score.error))
}

fn scores(tasks: &[Summary], all: &Summary, show: fn(&Score) -> String) -> Table {
    let row = |s: &Summary| {
        let scores = s.fixed.iter().chain([&s.dynamic, &s.random]);
        [s.name.clone()]
            .into_iter()
            .chain(scores.map(show))
            .collect()
    };
    let header = ["task", "a2", "a4", "a8", "bf16", "dynamic", "random"];
    table(&header, tasks.iter().chain([all]).map(row))
}

/// The median time of a step at each width, and of the dynamic run.
pub fn times(runs: &Runs) -> Table {
    let fixed = Width::ALL.map(|width| (width.to_string(), &runs.fixed[width.index()]));
    let row = |(name, steps)| vec![name, format!("{:.0}", median_micros(steps))];
    let rows = fixed
        .into_iter()
        .chain([("dynamic".to_owned(), &runs.dynamic.steps)]);
    table(&["run", "us a step (median)"], rows.map(row))
}
