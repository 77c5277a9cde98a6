//! `w4ax report table1`: methods side by side.

use std::path::PathBuf;

use w4ax::Result;
use w4ax::cpu::Cpu;
use w4ax_robot::policy::Policy;
use w4ax_robot::report::bars::{Bar, BarPanel, Picture};
use w4ax_robot::report::methods::{MethodScore, MethodTable};
use w4ax_robot::report::success::ClosedLoopSuccess;

use super::Output;
use super::options::{Costs, Recorded};

/// The options of the report.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    #[command(flatten)]
    pub recorded: Recorded,
    #[command(flatten)]
    costs: Costs,
    /// Summaries of closed-loop runs, NAME.json of `scripts/closed-loop analyze`
    #[arg(long, value_name = "FILE")]
    closed_loop: Vec<PathBuf>,
    /// Rounds of all methods, for the times
    #[arg(
        long,
        value_name = "N",
        default_value_t = 3,
        value_parser = clap::value_parser!(u16).range(1..=1000)
    )]
    rounds: u16,
    /// Seed of the random widths
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    output: Output,
}

/// Runs the report in the current pool.
///
/// # Errors
/// Invalid options and files.
pub fn run(options: &Options) -> Result<()> {
    // A bad file is found before the runs, which take longer.
    let success = ClosedLoopSuccess::load(&options.closed_loop)?;
    let setup = &options.recorded.setup;
    let rollouts = options.recorded.rollouts()?;
    let checkpoint = setup.checkpoint()?;
    let mut robot = setup.robot(&checkpoint, Cpu::new()?)?;
    let mut plain = Policy::unquantized(&checkpoint, Cpu::new()?, 1)?;
    let (costs, source) = options.costs.load(&mut robot, &rollouts.input[0])?;
    let settings = (&costs, usize::from(options.rounds), options.seed);
    let methods = MethodTable::run(&mut robot, &mut plain, &rollouts, settings, &success)?;

    println!(
        "DyQ-VLA, Table 1: action error (L2) on {} recorded steps; success in closed loop, 95 % \
         (Wilson); median time of a step of {:?}; bytes of {} layers; cost: {source}",
        methods.steps,
        robot.policy.compute(),
        robot.policy.layers()
    );
    println!("{}", methods.table());
    print_notes(&methods);
    let picture = picture(&methods, &source);
    (options.output).write("table1", &methods, |path| picture.write(path))
}

fn print_notes(methods: &MethodTable) {
    println!(
        "times include second runs; the unquantized policy is multiplied by a plain loop, so its \
         time is not that of a tuned BF16 GEMM; random widths are not run"
    );
    match methods.consistency_widths.as_slice() {
        [low, high] => println!(
            "consistency chooses between {low} and {high} bits, {:.1} % of its steps run twice",
            100.0 * methods.reruns
        ),
        widths => println!("consistency has no choice at these costs: static {widths:?} bits"),
    }
    let missing: Vec<&str> = methods.without_success().collect();
    if !missing.is_empty() {
        println!(
            "-: no summary of --closed-loop has the arm of: {}",
            missing.join("; ")
        );
    }
    for pair in &methods.pairs {
        println!(
            "success of {} minus {}: {:+.1} points [{:+.1}, {:+.1}] over {} pairs, p {:.3}",
            pair.first,
            pair.second,
            100.0 * pair.difference,
            100.0 * pair.low,
            100.0 * pair.high,
            pair.pairs,
            pair.p
        );
    }
}

fn picture(methods: &MethodTable, source: &str) -> Picture {
    let panel = |caption: String, bar: &dyn Fn(&MethodScore) -> Bar| BarPanel {
        caption,
        left: 0.0,
        bars: methods.methods.iter().map(bar).collect(),
    };
    let bar = |score: &MethodScore, value: Option<f64>, interval, label: String| Bar {
        name: score.method.into(),
        value,
        interval,
        label,
    };
    let error = |score: &MethodScore| {
        let mean = score.mean_action_error;
        let interval = score.std.map(|std| [mean - 2.0 * std, mean + 2.0 * std]);
        bar(score, Some(mean), interval, format!("{mean:.4}"))
    };
    let cost = |score: &MethodScore| {
        let label = score.cost.map_or("-".into(), |cost| format!("{cost:.3}"));
        bar(score, score.cost, None, label)
    };
    let success = |score: &MethodScore| match &score.success {
        None => bar(score, None, None, "-".into()),
        Some(arm) => {
            let share = arm.succeeded as f64 / arm.episodes as f64;
            let label = format!("{}/{}", arm.succeeded, arm.episodes);
            bar(score, Some(share), Some(arm.interval), label)
        }
    };
    let mut panels = vec![
        panel(
            "mean action error (L2); random: +- 2 deviations".into(),
            &error,
        ),
        panel(format!("mean cost of a step ({source})"), &cost),
    ];
    if methods.methods.iter().any(|score| score.success.is_some()) {
        panels.push(panel(
            "success in closed loop, 95 % (Wilson)".into(),
            &success,
        ));
    }
    Picture {
        title: format!("Methods on {} recorded steps", methods.steps),
        panels,
    }
}
