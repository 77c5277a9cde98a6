//! `w4ax report table3`: the parts of the system, one after the other.

use std::time::Duration;

use serde::Serialize;
use w4ax::cpu::{Cpu, Serial};
use w4ax::dispatch::{Action, StepCosts};
use w4ax::{Error, Result};
use w4ax_robot::report::bars::{Bar, BarPanel, Picture};
use w4ax_robot::report::fixed::FixedWidths;
use w4ax_robot::report::interval::Spread;
use w4ax_robot::report::ladder::{self, Rung, RungScore};
use w4ax_robot::report::latency::{Latencies, Overlap, StepLatency, TimedSteps, window};
use w4ax_robot::report::workload::{WorkloadSizes, WorkloadWeights};
use w4ax_robot::table::table;

use super::Output;
use super::options::{Costs, Recorded};

/// The options of the report.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    #[command(flatten)]
    pub recorded: Recorded,
    #[command(flatten)]
    costs: Costs,
    /// Consecutive steps that are timed, of the episode and at the place where the widths change
    /// most often
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = count)]
    steps: usize,
    /// Rounds of the timed steps
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = count)]
    rounds: usize,
    /// Width of the residual stream of the timed workload
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = hidden)]
    hidden: usize,
    /// Layers of the timed workload
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = count)]
    layers: usize,
    /// Tokens of a prefill
    #[arg(long, value_name = "N", default_value_t = 290, value_parser = count)]
    prefill: usize,
    /// Tokens that are decoded one by one after the prefill
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = count)]
    decode: usize,
    /// How much longer a slow decision takes, in microseconds, at most 100,000
    #[arg(
        long,
        value_name = "US",
        default_value_t = 1000,
        value_parser = clap::value_parser!(u32).range(1..=100_000)
    )]
    delay: u32,
    #[command(flatten)]
    output: Output,
}

/// Parses a count.
fn count(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=4096) => Ok(count),
        _ => Err("expected 1 to 4096".into()),
    }
}

/// Parses the width of a residual stream.
fn hidden(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(hidden @ 64..=8192) if hidden % 64 == 0 => Ok(hidden),
        _ => Err("expected a multiple of 64 up to 8192".into()),
    }
}

/// The file of `--json`.
#[derive(Serialize)]
struct LadderJson<'a> {
    steps: usize,
    costs: StepCosts,
    rungs: &'a [RungScore],
    latency: &'a Latencies,
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
    let scores = ladder::scores(&mut robot.policy, &rollouts, &fixed, &configs, &costs)?;

    let widths = fixed.dyq(&rollouts, &configs)?;
    let actions: Vec<Action> = (widths.iter().enumerate())
        .map(|(row, &width)| *fixed.action(row, width))
        .collect();
    let (rows, first) = window(rollouts.episodes(), &widths, options.steps);
    let timed = TimedSteps {
        config: configs[rollouts.task[first]],
        actions: &actions,
        rows,
        first,
    };
    let latency = latencies(options, &timed)?;

    println!(
        "DyQ-VLA, Table 3: error and widths on {} recorded steps, cost: {source}; time of a step \
         of a workload of Llama's shape ({} layers of {}, {} + {} tokens) at the widths of {} \
         consecutive steps, the shortest of {} rounds",
        fixed.len(),
        options.layers,
        options.hidden,
        options.prefill,
        options.decode,
        latency.steps,
        latency.rounds
    );
    print_rungs(&scores, &latency.rungs);
    print_overlaps(&latency.overlaps);
    let late: usize = latency.rungs.iter().map(|rung| rung.late).sum();
    println!("decisions that were late, and ran at BF16: {late}");
    let report = LadderJson {
        steps: fixed.len(),
        costs,
        rungs: &scores,
        latency: &latency,
    };
    let picture = picture(&scores, &latency);
    (options.output).write("table3", &report, |path| picture.write(path))
}

fn latencies(options: &Options, timed: &TimedSteps<'_>) -> Result<Latencies> {
    let sizes = WorkloadSizes {
        hidden: options.hidden,
        layers: options.layers,
        prefill: options.prefill,
        decode: options.decode,
    };
    let weights = WorkloadWeights::random(sizes)?;
    let threads = usize::from(options.recorded.setup.threads);
    // The steps run on a thread of their own, outside of the command's pool.
    let cpu = match threads {
        1 => Cpu::new()?.with_pool(Serial),
        threads => {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            Cpu::new()?.with_pool(pool.map_err(|error| Error::Unavailable {
                requested: format!("{threads} threads"),
                reason: w4ax::Unavailable::NoThreads {
                    reason: error.to_string(),
                },
            })?)
        }
    };
    let delay = Duration::from_micros(options.delay.into());
    Latencies::measure(&weights, sizes.layers, &cpu, timed, options.rounds, delay)
}

fn print_rungs(scores: &[RungScore], latencies: &[StepLatency]) {
    let row = |(score, latency): (&RungScore, &StepLatency)| {
        let shares = |share: w4ax_robot::report::ByWidth| {
            let parts = share.values().map(|part| format!("{:.0}", 100.0 * part));
            parts.join("/")
        };
        vec![
            score.rung.name().into(),
            format!("{:.4}", score.mean_action_error),
            shares(score.share),
            format!("{:.3}", score.cost),
            format!("{:.2}", latency.mean_ms),
            format!("{:.2} to {:.2}", latency.spread.low, latency.spread.high),
            shares(latency.share),
            (latency.decide_nanos).map_or("-".into(), |nanos| format!("{nanos:.0}")),
        ]
    };
    let header = [
        "",
        "error",
        "% at 2/4/8/16",
        "cost",
        "ms a step",
        "quartiles",
        "% timed",
        "decision, ns",
    ];
    println!("{}", table(&header, scores.iter().zip(latencies).map(row)));
}

fn print_overlaps(overlaps: &[Overlap]) {
    println!(
        "\nThe decision before the prefill, or while it runs; the prefill has the last width:"
    );
    let spread = |spread: Spread| {
        let [low, median, high] = [spread.low, spread.median, spread.high];
        format!("{median:.1} [{low:.1}, {high:.1}]")
    };
    let row = |overlap: &Overlap| {
        vec![
            format!("{:.0} us", overlap.delay_micros),
            spread(overlap.critical_before),
            spread(overlap.critical_during),
            format!("{:.2}", overlap.synchronous_ms),
            format!("{:.2}", overlap.asynchronous_ms),
            spread(overlap.saved_micros),
        ]
    };
    let header = [
        "decision longer by",
        "waited, us: before",
        "during",
        "step, ms: before",
        "during",
        "saved a step, us",
    ];
    println!("{}", table(&header, overlaps.iter().map(row)));
}

fn picture(scores: &[RungScore], latency: &Latencies) -> Picture {
    let bar = |rung: Rung, value: f64, interval, label: String| Bar {
        name: rung.name().into(),
        value: Some(value),
        interval,
        label,
    };
    let panel = |caption: &str, bars: Vec<Bar>| BarPanel {
        caption: caption.into(),
        left: 0.0,
        bars,
    };
    let error = |score: &RungScore| {
        let error = score.mean_action_error;
        bar(score.rung, error, None, format!("{error:.4}"))
    };
    let time = |rung: &StepLatency| {
        let label = format!("{:.2} ms", rung.mean_ms);
        let interval = Some([rung.spread.low, rung.spread.high]);
        bar(rung.rung, rung.mean_ms, interval, label)
    };
    let overlap = |overlap: &Overlap| {
        let delay = overlap.delay_micros;
        [
            ("before the prefill", overlap.critical_before),
            ("during the prefill", overlap.critical_during),
        ]
        .map(|(order, waited)| Bar {
            name: format!("{order}, {delay:.0} us longer"),
            value: Some(waited.median),
            interval: Some([waited.low, waited.high]),
            label: format!("{:.1} us", waited.median),
        })
    };
    Picture {
        title: "The parts of the system, one after the other".into(),
        panels: vec![
            panel(
                "mean action error (L2) on the recorded steps",
                scores.iter().map(error).collect(),
            ),
            panel(
                "time of a step of the workload: mean, quartiles of the steps",
                latency.rungs.iter().map(time).collect(),
            ),
            BarPanel {
                left: 0.01,
                ..panel(
                    "decision on the critical path: median, quartiles, logarithmic",
                    latency.overlaps.iter().flat_map(overlap).collect(),
                )
            },
        ],
    }
}
