//! `w4ax episode`: recorded robot episodes through the quantized policy. At every control step the
//! dispatcher turns the robot's motion into a width, the flag passes it to the policy, and the
//! policy's layers run at it.

mod options;

use indicatif::{ProgressBar, ProgressStyle};
use w4ax::dispatch::DispatchConfig;
use w4ax::{Error, Result};

pub use options::Options;
use options::{Backend, PICTURE};
use w4ax_robot::compute::Compute;
use w4ax_robot::draw;
use w4ax_robot::episode::json::Report;
use w4ax_robot::episode::plot::{self, Picture};
use w4ax_robot::episode::replay;
use w4ax_robot::episode::run::{self, Runs};
use w4ax_robot::episode::summary::{SHUFFLES, Summary, control_spread};
use w4ax_robot::episode::table;
use w4ax_robot::rollouts::Rollouts;
use w4ax_robot::setup::Robot;

/// Runs the command.
///
/// # Errors
/// Invalid options and files.
pub fn run(options: &Options) -> Result<()> {
    options.setup.in_pool(|| episode(options))
}

fn episode(options: &Options) -> Result<()> {
    let rollouts = Rollouts::load(&options.rollouts)?;
    let mut robot = match (options.backend, options.routing) {
        (Backend::Cpu, None) => options.setup.load()?,
        (Backend::Cpu, Some(routing)) => {
            return Err(Error::Range {
                what: "--routing",
                value: format!("{routing:?} on the CPU"),
                range: "steps with --backend cuda",
            });
        }
        (Backend::Cuda, routing) => {
            let compute = Compute::cuda(routing.unwrap_or_default())?;
            options.setup.load_on(compute)?
        }
    };
    let episodes = rollouts.episodes();
    if let Some(at) = options.episode.filter(|&at| at >= episodes.len()) {
        return Err(Error::Range {
            what: "--episode",
            value: format!("{at} of {} episodes", episodes.len()),
            range: "the recorded episodes",
        });
    }
    // A bad file is found before the runs, which take longer.
    let replay = match &options.replay {
        Some(path) => Some(replay::replay_file(path, &robot.calibration)?),
        None => None,
    };
    println!(
        "{} quantized layers on {:?}; {} steps of {} episodes",
        robot.policy.layers(),
        robot.policy.compute(),
        rollouts.len(),
        episodes.len()
    );
    let runs = run_with_progress(&mut robot, &rollouts, options.seed)?;
    let (tasks, all) = Summary::of_tasks(&runs, &rollouts, robot.policy.tasks());
    let report = Report::new(&all, replay, robot.policy.packed_bytes(), robot.bf16_bytes);

    print_tables(&tasks, &all, &runs);
    print_finding(&all, control_spread(&runs, &rollouts, options.seed));
    let (packed, plain) = (robot.policy.packed_bytes(), robot.bf16_bytes);
    let part = 100.0 * packed as f64 / plain as f64;
    println!("weights: {packed} bytes packed, scales included; {plain} in BF16 ({part:.1} %)");
    if let (Some(replay), Some(path)) = (&replay, &options.replay) {
        println!(
            "replay of {}: {} steps, {} sensitivity mismatches (over {:e}), {} width mismatches",
            path.display(),
            replay.steps,
            replay.sensitivity_mismatches,
            replay::TOLERANCE,
            replay.width_mismatches
        );
    }
    let at = options
        .episode
        .unwrap_or_else(|| plot::telling_episode(episodes, &runs.decisions));
    let path = draw::place(options.plot.as_deref(), PICTURE)?;
    picture(at, &robot, &rollouts, &runs).write(&path)?;
    println!("picture of episode {at}: {}", path.display());
    if let Some(path) = &options.json {
        w4ax::file::write_atomically(path, report.to_json().as_bytes())?;
        println!("results: {}", path.display());
    }
    Ok(())
}

fn run_with_progress(robot: &mut Robot, rollouts: &Rollouts, seed: u64) -> Result<Runs> {
    // On standard error, and only if that is a terminal.
    let bar = ProgressBar::new((run::RUNS * rollouts.len()) as u64);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} steps, {eta} left") {
        bar.set_style(style);
    }
    let runs = run::run(robot, rollouts, seed, &|| bar.inc(1));
    bar.finish_and_clear();
    runs
}

fn print_tables(tasks: &[Summary], all: &Summary, runs: &Runs) {
    println!("\nSteps of the dynamic run at each width:");
    println!("{}", table::widths(tasks, all));
    println!("\nTokens equal to the unquantized policy's (bf16 is W4A16):");
    println!("{}", table::agreement(tasks, all));
    println!("\nMean action error, L2 against the unquantized policy:");
    println!("{}", table::errors(tasks, all));
    println!("\nTime of a step:");
    println!("{}", table::times(runs));
}

/// Prints how the dynamic rule compares with random widths.
fn print_finding(all: &Summary, (mean, deviation): (f64, f64)) {
    println!(
        "\nmean action error: dynamic {:.4}; random with the same shares in each task {:.4}, \
         over {SHUFFLES} shuffles {mean:.4} +- {deviation:.4}",
        all.dynamic.error, all.random.error
    );
    let above = (all.dynamic.error - mean) / deviation;
    if above.is_finite() {
        let direction = if above > 0.0 { "worse" } else { "better" };
        print!(
            "the dynamic rule is {:.1} standard deviations {direction} than chance",
            above.abs()
        );
        let verdict = if above > -2.0 {
            ": no evidence here that motion picks the right steps"
        } else {
            ""
        };
        println!("{verdict}");
    }
}

fn picture<'a>(at: usize, robot: &Robot, rollouts: &Rollouts, runs: &'a Runs) -> Picture<'a> {
    let steps = rollouts.episodes()[at].clone();
    let task = rollouts.task[steps.start];
    let config: &DispatchConfig = robot.dispatchers[task].config();
    let outcome = match &rollouts.success {
        Some(success) if success[steps.end - 1] => ", succeeded",
        Some(_) => ", failed",
        None => "",
    };
    Picture {
        title: format!(
            "{}, episode {at} ({} steps, recorded with the unquantized policy{outcome})",
            robot.policy.tasks()[task],
            steps.len()
        ),
        decisions: &runs.decisions[steps.clone()],
        dynamic: &runs.dynamic[steps.clone()],
        widest: &runs.fixed[3][steps],
        thresholds: config.thresholds(),
    }
}
