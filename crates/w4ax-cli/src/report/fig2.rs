//! `w4ax report fig2`: success and terminal deviation against the action error of one perturbed
//! step.

use std::path::PathBuf;

use serde::Serialize;
use w4ax::Result;
use w4ax_robot::report::effects::{self, EffectSeries, Picture};

use super::Output;
use super::options::files;

/// The options of the report.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Perturbed steps, CSV; each file gets lines of its own [default: tests/data/robot/perturb.csv
    /// of the workspace]
    #[arg(long, value_name = "FILE")]
    perturb: Vec<PathBuf>,
    #[command(flatten)]
    output: Output,
}

/// The file of `--json`.
#[derive(Serialize)]
struct EffectsJson<'a> {
    series: &'a [EffectSeries],
}

/// Runs the report.
///
/// # Errors
/// As [`effects::load`].
pub fn run(options: &Options) -> Result<()> {
    let mut series = Vec::new();
    for path in files("--perturb", &options.perturb, "perturb.csv")? {
        series.extend(effects::load(&path)?);
    }
    println!(
        "DyQ-VLA, Fig. 2: one perturbed step of action error e_t, and the end of its episode\n\
         after the step: bc: the policy; ol: the recorded actions; fb: the expert, by feedback"
    );
    println!("{}", effects::bins(&series));
    for one in &series {
        print_finding(one, &series);
    }
    println!("rows of one episode are not independent, so the intervals are too narrow");
    (options.output).write("fig2", &EffectsJson { series: &series }, |path| {
        Picture(&series).write(path)
    })
}

/// Prints the bins with the least and the largest error.
fn print_finding(series: &EffectSeries, all: &[EffectSeries]) {
    let [first, .., last] = series.bins.as_slice() else {
        return;
    };
    let apart = first.interval[0] > last.interval[1] || last.interval[0] > first.interval[1];
    println!(
        "{} ({} episodes): success {:.1} % at the least e_t, {:.1} % at the largest: intervals {}",
        effects::name(series, all),
        series.episodes,
        100.0 * first.success,
        100.0 * last.success,
        if apart { "apart" } else { "overlap" }
    );
}
