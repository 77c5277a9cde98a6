//! `w4ax episode`: recorded robot episodes through the quantized policy. At every control step the
//! dispatcher turns the robot's motion into a width, the flag passes it to the policy, and the
//! policy's layers run at it.

mod options;

use indicatif::{ProgressBar, ProgressStyle};
use w4ax::calibrate::Calibration;
use w4ax::dispatch::{DispatchConfig, WidthChoice};
use w4ax::{Error, Result, Width};

use crate::costs::cost_table;
pub use options::Options;
use options::{Backend, PICTURE};
use w4ax_robot::compute::Compute;
use w4ax_robot::draw;
use w4ax_robot::episode::control::{BestStatic, RandomEqualCost};
use w4ax_robot::episode::json::{Controls, Report};
use w4ax_robot::episode::plot::{self, Picture};
use w4ax_robot::episode::replay;
use w4ax_robot::episode::rule::{Rule, RuleOptions, RuleRun, costs_of};
use w4ax_robot::episode::run::{self, Runs};
use w4ax_robot::episode::summary::{SHUFFLES, Summary, control_spread};
use w4ax_robot::episode::table as tables;
use w4ax_robot::paths;
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
    let rollouts = match &options.validation {
        None => {
            paths::check("--rollouts", &options.rollouts)?;
            Rollouts::load(&options.rollouts)?
        }
        Some(path) => {
            paths::check("--validation", path)?;
            Rollouts::load_validation(path, &options.setup.checkpoint()?)?
        }
    };
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
    let given = match &options.costs {
        None => None,
        Some(source) => Some(source.load(&mut robot.policy, &rollouts.input[0])?),
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
        Some(path) => {
            let recorded = replay::recorded_calibration(path);
            let file = options.replay_calibration.clone().or(recorded);
            let ran = file.map(Calibration::load).transpose()?;
            let calibration = ran.as_ref().unwrap_or(&robot.calibration);
            Some(replay::replay_file(path, calibration)?)
        }
        None => None,
    };
    println!(
        "{} quantized layers on {:?}; {} steps of {} episodes",
        robot.policy.layers(),
        robot.policy.compute(),
        rollouts.len(),
        episodes.len()
    );
    let (costs, source) = costs_of(&mut robot, given, &rollouts.input[0])?;
    if given.is_some() {
        robot.set_costs(costs)?;
    }
    let rule = RuleOptions {
        rule: options.rule,
        costs: &costs,
        online: options.online,
    };
    let runs = run_with_progress(&mut robot, &rollouts, rule, options.seed)?;
    let (tasks, all) = Summary::of_tasks(&runs, &rollouts, robot.policy.tasks());
    let run = &runs.dynamic;
    let controls = Controls {
        random: RandomEqualCost::draw(run, &runs.fixed, &costs, options.seed),
        random_profiles: RandomEqualCost::draw_profiles(run, options.seed),
        best_static: BestStatic::within(run, &runs.mean_errors(), &costs),
        static_profile: BestStatic::profile_within(run),
    };
    let (packed, plain) = (robot.policy.packed_bytes(), robot.bf16_bytes);
    let report = Report::new(&all, run, &controls, &costs, replay, packed, plain);

    print_tables(&tasks, &all, &runs);
    println!("\nCost of a step ({source}):\n{}", cost_table(&costs));
    print_rule(run, &controls);
    if options.rule == Rule::Dyq {
        print_finding(&all, control_spread(&runs, &rollouts, options.seed));
    }
    let part = 100.0 * packed as f64 / plain as f64;
    let how = options.setup.weights.quantize();
    let (scheme, groups, clipping) = (how.scheme(), how.grouping(), how.clipping());
    println!(
        "weights, {scheme} {groups} by {clipping}: {packed} bytes packed, scales included; {plain} \
         in BF16 ({part:.1} %)"
    );
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
        .unwrap_or_else(|| plot::telling_episode(episodes, &runs.dynamic.decisions));
    let path = draw::place(options.plot.as_deref(), PICTURE)?;
    picture(at, &robot, &rollouts, &runs).write(&path)?;
    println!("picture of episode {at}: {}", path.display());
    if let Some(path) = &options.json {
        w4ax::file::write_atomically(path, report.to_json().as_bytes())?;
        println!("results: {}", path.display());
    }
    Ok(())
}

fn run_with_progress(
    robot: &mut Robot,
    rollouts: &Rollouts,
    rule: RuleOptions<'_>,
    seed: u64,
) -> Result<Runs> {
    // On standard error, and only if that is a terminal.
    let bar = ProgressBar::new((run::RUNS * rollouts.len()) as u64);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} steps, {eta} left") {
        bar.set_style(style);
    }
    let runs = run::run(robot, rollouts, rule, seed, &|| bar.inc(1));
    bar.finish_and_clear();
    runs
}

fn print_tables(tasks: &[Summary], all: &Summary, runs: &Runs) {
    println!("\nSteps of the dynamic run at each width:");
    println!("{}", tables::widths(tasks, all));
    println!("\nTokens equal to the unquantized policy's (bf16 is W4A16):");
    println!("{}", tables::agreement(tasks, all));
    println!("\nMean action error, L2 against the unquantized policy:");
    println!("{}", tables::errors(tasks, all));
    println!("\nTime of a step:");
    println!("{}", tables::times(runs));
}

/// Prints what the rule costs and gains beside random widths at the same cost, and beside the best
/// fixed width that costs no more.
fn print_rule(run: &RuleRun, controls: &Controls) {
    let (name, error) = (run.rule.name(), run.mean_error());
    match run.choice {
        WidthChoice::Static(width) => println!(
            "rule {name}: static {width}, mean action error {error:.4}: no other width costs less \
             or is more accurate, so there is nothing to switch"
        ),
        WidthChoice::Dynamic { low, high } => {
            println!(
                "rule {name} between {low} and {high}: mean action error {error:.4} at cost \
                 {:.4}, {:.1} % of the steps run twice",
                run.mean_cost(),
                100.0 * run.rerun_share()
            );
            let print_random = |floors, random: &RandomEqualCost| {
                println!(
                    "random {low} and {high}{floors} at cost {:.4}: {:.4} +- {:.4}, so the rule \
                     has {:.0} % of it",
                    random.cost,
                    random.mean_action_error,
                    random.std,
                    100.0 * error / random.mean_action_error
                );
            };
            print_random("", &controls.random);
            if let Some(random) = &controls.random_profiles {
                print_random(" with floors", random);
            }
            let print_fixed = |floors, best: &BestStatic| {
                let name = Width::ALL
                    .into_iter()
                    .find(|width| width.bits() == best.width);
                let verdict = match best.mean_action_error <= error {
                    true => ": the rule is not worth switching on",
                    false => "",
                };
                println!(
                    "best fixed width within that cost: {}{floors}, {:.4} at cost {:.4}{verdict}",
                    name.unwrap_or(low),
                    best.mean_action_error,
                    best.cost
                );
            };
            match &controls.best_static {
                None => println!("every fixed width costs more than the rule"),
                Some(best) => print_fixed("", best),
            }
            if let Some(profile) = &controls.static_profile {
                print_fixed(" with floors", profile);
            }
        }
    }
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
        Some(success) if success[steps.end - 1] => "unquantized policy, succeeded",
        Some(_) => "unquantized policy, failed",
        None => "expert",
    };
    Picture {
        title: format!(
            "{}, episode {at} ({} steps, recorded with the {outcome})",
            robot.policy.tasks()[task],
            steps.len()
        ),
        rule: runs.dynamic.rule,
        decisions: &runs.dynamic.decisions[steps.clone()],
        dynamic: &runs.dynamic.steps[steps.clone()],
        widest: &runs.fixed[3][steps],
        thresholds: config.thresholds(),
    }
}
