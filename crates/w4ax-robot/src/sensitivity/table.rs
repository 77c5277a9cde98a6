//! The tables of `w4ax sensitivity`.

use comfy_table::Table;

use super::continuity::{Firing, Phase, Share};
use super::correlation::Estimate;
use super::expected;
use super::motion::Predictor;
use super::perturb::{Mode, Terminal};
use super::response::{Averaged, Correlation, Group, PARTS, Response};
use crate::table::table;

/// The rows of each mode, and those that are left out.
pub fn rows(responses: &[Response]) -> Table {
    let modes = Mode::ALL.into_iter().map(Some).chain([None]);
    let row = |mode: Option<Mode>| {
        let rows = Group { mode, task: None }.of(responses);
        let count = |this: &dyn Fn(&&&Response) -> bool| rows.iter().filter(this).count();
        let still = |row: &&&Response| row.step.deviation.contains(&0.0);
        let mut s: Vec<f64> = (rows.iter())
            .filter_map(|row| row.sensitivity(Terminal::Eef))
            .collect();
        let mut quantile = |percent| w4ax::calibrate::percentile(&mut s, percent);
        let quantiles =
            [5.0, 50.0, 95.0].map(|p| quantile(p).map_or("-".into(), |s| format!("{s:.2e}")));
        let counts = [
            rows.len(),
            count(&|row| row.step.error == 0.0),
            count(&still),
            count(&|row| row.step.success),
        ];
        [
            vec![mode_name(mode)],
            counts.map(|n| n.to_string()).to_vec(),
            quantiles.to_vec(),
        ]
        .concat()
    };
    let header = [
        "mode",
        "rows",
        "e_t = 0",
        "a D_T = 0",
        "succeeded",
        "s, 5 %",
        "median",
        "95 %",
    ];
    table(&header, modes.map(row))
}

/// Each predictor for one terminal deviation, all tasks together.
pub fn predictors(correlations: &[Correlation], terminal: Terminal) -> Table {
    let pooled = correlations
        .iter()
        .filter(|c| c.group.task.is_none() && c.terminal == terminal);
    let row = |c: &Correlation| {
        let figures = [c.pearson, c.pearson_log, c.spearman].map(estimate);
        [
            vec![
                mode_name(c.group.mode),
                c.predictor.name().into(),
                c.rows.to_string(),
            ],
            figures.to_vec(),
        ]
        .concat()
    };
    let header = [
        "mode",
        "against",
        "rows",
        "Pearson, s",
        "Pearson, log s",
        "Spearman",
    ];
    table(&header, pooled.map(row))
}

/// Pearson's correlation of the windowed motion with log s for each terminal deviation, all tasks
/// together.
pub fn terminals(correlations: &[Correlation]) -> Table {
    let modes = Mode::ALL.into_iter().map(Some).chain([None]);
    let rows = modes.flat_map(|mode| Terminal::ALL.map(|terminal| (mode, terminal)));
    let row = |(mode, terminal): (Option<Mode>, Terminal)| {
        let of = |predictor| {
            let group = Group { mode, task: None };
            find(correlations, &group, terminal, predictor).and_then(|c| c.pearson_log)
        };
        let figures = [Predictor::MWindow, Predictor::JWindow, Predictor::StepsLeft].map(of);
        [
            vec![mode_name(mode), terminal.column().into()],
            figures.map(estimate).to_vec(),
        ]
        .concat()
    };
    table(
        &["mode", "D_T", "M, window", "J, window", "steps left"],
        rows.map(row),
    )
}

/// Pearson's correlation with log s for each task.
pub fn tasks(correlations: &[Correlation], terminal: Terminal) -> Table {
    let shown = [
        Predictor::M,
        Predictor::MWindow,
        Predictor::J,
        Predictor::JWindow,
        Predictor::StepsLeft,
    ];
    let groups = correlations.iter().filter(|c| {
        c.group.mode.is_some() && c.terminal == terminal && c.predictor == Predictor::M
    });
    let row = |first: &Correlation| {
        let figures = shown.map(|predictor| {
            let found = find(correlations, &first.group, terminal, predictor);
            let value = found.and_then(|c| c.pearson_log);
            value.map_or("-".into(), |r| format!("{:.2}", r.value))
        });
        let task = first.group.task.as_deref().unwrap_or("all");
        let counts = [first.episodes, first.rows].map(|n| n.to_string());
        [
            vec![mode_name(first.group.mode), task.into()],
            counts.to_vec(),
            figures.to_vec(),
        ]
        .concat()
    };
    let names = shown.map(Predictor::name);
    let header = [&["mode", "task", "episodes", "rows"], &names[..]].concat();
    table(&header, groups.map(row))
}

/// Correlations of averaged rows with log s.
pub fn averages(averages: &[Averaged]) -> Table {
    let row = |same: &[Averaged]| {
        let figures = same
            .iter()
            .map(|a| a.pearson_log.map_or("-".into(), |r| format!("{r:.2}")));
        let names = [
            mode_name(same[0].group.mode),
            same[0].predictor.name().into(),
        ];
        names.into_iter().chain(figures).collect()
    };
    let header = [
        &["mode", "against"].map(String::from)[..],
        &PARTS.map(|n| format!("{n} means")),
    ]
    .concat();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    table(&header, averages.chunks_exact(PARTS.len()).map(row))
}

/// Mean C_t of each phase, with the figures of the data's README.
pub fn phases(phases: &[Phase]) -> Table {
    let row = |(at, phase): (usize, &Phase)| {
        let mean = |mean: Option<f64>| mean.map_or("-".into(), |c| format!("{c:.4}"));
        let known = expected::WITHOUT_GRIPPER[at].map_or(String::new(), |c| format!("{c:.3}"));
        vec![
            phase.phase.into(),
            phase.steps.to_string(),
            mean(phase.all),
            format!("{:.3}", expected::PHASES[at]),
            mean(phase.without_gripper),
            known,
        ]
    };
    let header = [
        "phase",
        "steps",
        "C, 7 numbers",
        "README",
        "C, no gripper",
        "README",
    ];
    table(&header, phases.iter().enumerate().map(row))
}

/// The steps at which each rule fires, with the figures of the data's README.
pub fn firings(firings: &[Firing]) -> Table {
    let row = |firing: &Firing| {
        let known = expected::firing(firing.rule, firing.eta);
        let with_known = |share: Share, known: Option<f64>| {
            let known = known.map_or(String::new(), |known| format!(" ({known})"));
            format!("{:.1} %{known}", share.percent())
        };
        let later = Share {
            fired: firing.steps.fired - firing.starts.fired,
            of: firing.steps.of,
        };
        vec![
            firing.rule.into(),
            firing.eta.to_string(),
            with_known(firing.closings, known.closings),
            with_known(firing.openings, known.openings),
            with_known(firing.steps, None),
            with_known(later, known.steps),
        ]
    };
    let header = [
        "rule",
        "eta",
        "closings",
        "openings",
        "all steps",
        "but second steps",
    ];
    table(&header, firings.iter().map(row))
}

/// Returns the correlation of a group, if there is one.
pub fn find<'a>(
    correlations: &'a [Correlation],
    group: &Group,
    terminal: Terminal,
    predictor: Predictor,
) -> Option<&'a Correlation> {
    let is = |c: &&Correlation| (&c.group, c.terminal, c.predictor) == (group, terminal, predictor);
    correlations.iter().find(is)
}

/// Formats a figure with its interval.
pub fn estimate(estimate: Option<Estimate>) -> String {
    match estimate {
        None => "-".into(),
        Some(Estimate {
            value,
            interval: None,
        }) => format!("{value:.2}"),
        Some(Estimate {
            value,
            interval: Some([low, high]),
        }) => format!("{value:.2} [{low:.2}, {high:.2}]"),
    }
}

fn mode_name(mode: Option<Mode>) -> String {
    mode.map_or("all", Mode::name).into()
}
