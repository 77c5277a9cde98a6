//! `w4ax report table4`: time and memory of each part of a decision.

use std::time::Duration;

use w4ax::{Result, Width};
use w4ax_robot::report::bars::{Bar, BarPanel, Picture};
use w4ax_robot::report::overheads::{Overhead, Overheads};

use super::Output;
use super::options::Recorded;

/// The options of the report.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    #[command(flatten)]
    pub recorded: Recorded,
    /// The time for each part, in milliseconds
    #[arg(
        long,
        value_name = "MS",
        default_value_t = 300,
        value_parser = clap::value_parser!(u32).range(1..=60_000)
    )]
    budget: u32,
    #[command(flatten)]
    output: Output,
}

/// Runs the report in the current pool.
///
/// # Errors
/// Invalid options and files.
pub fn run(options: &Options) -> Result<()> {
    let (rollouts, mut robot) = options.recorded.load()?;
    let configs: Vec<_> = robot.dispatchers.iter().map(|d| *d.config()).collect();
    let budget = Duration::from_millis(options.budget.into());
    let overheads = Overheads::measure(&mut robot.policy, &rollouts, &configs, budget)?;

    println!("DyQ-VLA, Table 4: median time of a call, and the state");
    println!("{}", overheads.times());
    println!("{}", overheads.bytes());
    let steps = Width::ALL.map(|width| {
        format!(
            "{width} {:.0}",
            overheads.step_micros.values()[width.index()]
        )
    });
    println!("a step of the policy, us: {}", steps.join(", "));
    let bar = |overhead: &Overhead| Bar {
        name: overhead.part.into(),
        value: Some(overhead.nanos),
        interval: None,
        label: overhead.time(),
    };
    let steps = Width::ALL.map(|width| {
        let micros = overheads.step_micros.values()[width.index()];
        Bar {
            name: format!("a step at {width}, for comparison"),
            value: Some(1e3 * micros),
            interval: None,
            label: format!("{micros:.0} us"),
        }
    });
    let picture = Picture {
        title: "Overheads of a control step".into(),
        panels: vec![BarPanel {
            caption: "median time of a call, logarithmic".into(),
            left: 0.1,
            bars: overheads.parts.iter().map(bar).chain(steps).collect(),
        }],
    };
    (options.output).write("table4", &overheads, |path| picture.write(path))
}
