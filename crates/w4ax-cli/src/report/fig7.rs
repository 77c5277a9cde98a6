//! `w4ax report fig7`: theta_fp swept from 0 to 1 on the recorded steps.

use w4ax::Result;
use w4ax_robot::report::fixed::FixedWidths;
use w4ax_robot::report::sweep::{Picture, SHUFFLES, Sweep, SweepPoint};

use super::Output;
use super::options::{Costs, Recorded};

/// The options of the report.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    #[command(flatten)]
    pub recorded: Recorded,
    #[command(flatten)]
    costs: Costs,
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
    let (rollouts, mut robot) = options.recorded.load()?;
    let (costs, source) = options.costs.load(&mut robot, &rollouts.input[0])?;
    let fixed = FixedWidths::run(&mut robot.policy, &rollouts)?;
    let configs: Vec<_> = robot.dispatchers.iter().map(|d| *d.config()).collect();
    let sweep = Sweep::run(&fixed, &rollouts, &configs, &costs, options.seed)?;

    println!(
        "DyQ-VLA, Fig. 7: theta_fp swept on {} recorded steps; cost: {source}; random: widths at \
         the shares of dyq in each task, {SHUFFLES} shuffles",
        sweep.steps
    );
    println!("{}", sweep.table());
    let [a2, a4, a8, bf16] = sweep.r#static.values();
    println!("fixed widths: a2 {a2:.4}, a4 {a4:.4}, a8 {a8:.4}, bf16 {bf16:.4}");
    println!(
        "dyq has a lower error than random widths by 2 deviations at theta_fp {}",
        list(sweep.better_than_random())
    );
    println!(
        "no fixed width costs and errs at most as much at theta_fp {}",
        list(sweep.better_than_static())
    );
    options.output.write("fig7", &sweep, |path| {
        let (sweep, costs) = (&sweep, source.as_str());
        Picture { sweep, costs }.write(path)
    })
}

/// Returns the values of theta_fp.
fn list<'a>(points: impl Iterator<Item = &'a SweepPoint>) -> String {
    let names: Vec<String> = points
        .map(|point| format!("{:.2}", point.theta_fp))
        .collect();
    match names.is_empty() {
        true => "none".into(),
        false => names.join(", "),
    }
}
