//! `w4ax skip-episode`: recorded episodes through a policy that skips layers by the robot's motion
//! (DySL-VLA), through its ablations and through baselines, unquantized and at the crate's widths.

mod method;
mod options;

use std::ops::Range;

use indicatif::{ProgressBar, ProgressStyle};
use w4ax::cpu::Cpu;
use w4ax::skip::{Adapter, Controller};
use w4ax::{Error, Result};

use method::{Files, Method, Networked, Rule, methods};
pub use options::Options;
use options::PICTURE;
use w4ax_robot::checkpoint::Checkpoint;
use w4ax_robot::compute::Compute;
use w4ax_robot::dataset::Dataset;
use w4ax_robot::draw;
use w4ax_robot::early_exit::EarlyExit;
use w4ax_robot::networks::AdapterWeights;
use w4ax_robot::policy::Policy;
use w4ax_robot::rollouts::Rollouts;
use w4ax_robot::setup::{QUANTIZE, dispatchers, in_pool};
use w4ax_robot::skip_episode::blind::Blind;
use w4ax_robot::skip_episode::plot::{Picture, Seen};
use w4ax_robot::skip_episode::report::{Report, Row, Total};
use w4ax_robot::skip_episode::run::{Recorded, RunWidth, Runner, Step};
use w4ax_robot::skipping::{Skipping, Substitute};

/// Runs the command.
///
/// # Errors
/// Invalid options and files.
pub fn run(options: &Options) -> Result<()> {
    in_pool(options.threads, || skip_episode(options))
}

fn skip_episode(options: &Options) -> Result<()> {
    options.check_paths()?;
    let checkpoint = Checkpoint::load(&options.policy)?;
    let mut bench = Bench::new(options, &checkpoint)?;
    let rollouts = match &options.validation {
        None => Rollouts::load(&options.rollouts)?,
        Some(path) => Rollouts::of_validation(&Dataset::load(path)?, &mut bench.plain)?,
    };
    let requested = options.calibration.as_deref();
    let (_, dispatchers) = dispatchers(requested, Some(&options.policy), &checkpoint.tasks)?;
    rollouts.check_tasks(dispatchers.len())?;
    let episodes = rollouts.episodes();
    let episodes = &episodes[..options
        .episodes
        .unwrap_or(episodes.len())
        .min(episodes.len())];
    if options.episode >= episodes.len() {
        return Err(Error::Range {
            what: "--episode",
            value: format!("{} of {} episodes", options.episode, episodes.len()),
            range: "the recorded episodes that are run",
        });
    }
    let files = Files::load(options)?;
    let recorded = Recorded {
        rollouts: &rollouts,
        episodes,
        dispatchers: &dispatchers,
    };
    let steps: usize = episodes.iter().map(Range::len).sum();
    println!(
        "{} layers on {:?}; {steps} steps of {} episodes; adapters of quantized blocks are {:?}",
        checkpoint.blocks.len(),
        bench.compute,
        episodes.len(),
        options.adapters,
    );
    let mut methods = methods(&files, options);
    if let Some(only) = &options.only {
        let known = |name: &&String| methods.iter().any(|method| method.name == *name);
        if let Some(unknown) = only.iter().find(|name| !known(name)) {
            return Err(Error::Range {
                what: "--only",
                value: unknown.clone(),
                range: "the methods of the table",
            });
        }
        let mut at = 0;
        methods.retain(|method| {
            at += 1;
            at <= 2 || only.iter().any(|name| name == method.name)
        });
    }
    let widths = options.widths.as_deref().unwrap_or(&RunWidth::ALL);
    let report = bench.all(&methods, widths, &recorded)?;
    for width in widths {
        println!("\n{}", report.table(&width.name()));
    }
    let path = draw::place(options.plot.as_deref(), PICTURE)?;
    let picture = bench.picture(&methods[1], &recorded, options.episode, &checkpoint.tasks)?;
    picture.write(&path)?;
    println!("picture of episode {}: {}", options.episode, path.display());
    if let Some(path) = &options.json {
        w4ax::file::write_atomically(path, report.to_json().as_bytes())?;
        println!("results: {}", path.display());
    }
    Ok(())
}

/// The policies that run the methods.
struct Bench<'a> {
    options: &'a Options,
    compute: Compute,
    plain: Policy,
    packed: Policy,
}

impl<'a> Bench<'a> {
    fn new(options: &'a Options, checkpoint: &Checkpoint) -> Result<Self> {
        let compute = Compute::from(Cpu::new()?);
        Ok(Self {
            plain: Policy::unquantized(checkpoint, compute.clone(), 1)?,
            packed: Policy::new(checkpoint, QUANTIZE, compute.clone(), 1)?,
            options,
            compute,
        })
    }

    fn policy(&mut self, width: RunWidth) -> &mut Policy {
        match width {
            RunWidth::Bf16 => &mut self.plain,
            _ => &mut self.packed,
        }
    }

    /// Returns what selects the layers. `share` is the share of layers that a blind rule runs.
    fn runner(
        &mut self,
        rule: &Rule,
        networked: &Networked,
        width: RunWidth,
        share: f64,
    ) -> Result<Runner> {
        let weights = match width {
            RunWidth::Bf16 => AdapterWeights::Bf16,
            _ => self.options.adapters,
        };
        let (seed, policy) = (self.options.seed, self.policy(width));
        Ok(match rule {
            Rule::Full => Runner::Full,
            Rule::Guided(config, substitute) => {
                let networks = networked.networks(policy, weights)?;
                Runner::Guided(Box::new(Skipping::new(config, networks, *substitute)?))
            }
            Rule::Blind(pattern) => {
                let layers = networked.file.config.skip_layers()?;
                Runner::Blind(Box::new(Blind::new(*pattern, &layers, share, seed)))
            }
            Rule::Exit => {
                let networks = networked.networks(policy, weights)?;
                Runner::Exit(Box::new(EarlyExit::new(networks, &networked.name)?))
            }
        })
    }

    /// Runs all steps once more. A time replaces that in `steps` if it is shorter.
    fn steps(
        &mut self,
        rule: &Rule,
        networks: &Networked,
        width: RunWidth,
        share: f64,
        recorded: &Recorded<'_>,
        steps: &mut Vec<Step>,
    ) -> Result<()> {
        let mut runner = self.runner(rule, networks, width, share)?;
        let first = steps.is_empty();
        let mut at = 0;
        recorded.run(&mut runner, self.policy(width), width, |_, step, _| {
            if first {
                steps.push(*step);
            } else {
                steps[at].time = steps[at].time.min(step.time);
            }
            at += 1;
        })
    }

    /// Runs each method at each width.
    fn all(
        &mut self,
        methods: &[Method<'_>],
        widths: &[RunWidth],
        recorded: &Recorded<'_>,
    ) -> Result<Report> {
        let bar = ProgressBar::new(
            u64::from(self.options.repeats) * (widths.len() * methods.len()) as u64,
        );
        if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg}, {eta} left")
        {
            bar.set_style(style);
        }
        let n = self.plain.blocks();
        let mut rows = Vec::new();
        for &width in widths {
            let mut rules: Vec<Rule> = methods.iter().map(|method| method.rule.clone()).collect();
            let mut steps = vec![Vec::new(); methods.len()];
            // The share of layers of DySL, which other methods are set to.
            let mut share = 1.0;
            // In rounds, so that a disturbance of the machine is spread over the methods.
            for round in 0..self.options.repeats {
                for (at, method) in methods.iter().enumerate() {
                    bar.set_message(format!("{} at {}", method.name, width.name()));
                    if round == 0 && method.same_share {
                        self.meet(&mut rules[at], method.networks, width, share, recorded)?;
                    }
                    let (rule, steps) = (&rules[at], &mut steps[at]);
                    self.steps(rule, method.networks, width, share, recorded, steps)?;
                    if at == 1 {
                        share = Total::of(steps, n).layers_share;
                    }
                    bar.inc(1);
                }
            }
            let totals = steps.iter().map(|steps| Total::of(steps, n));
            let totals: Vec<Total> = totals.collect();
            for ((method, rule), total) in methods.iter().zip(&rules).zip(&totals) {
                rows.push(row(method, rule, width, total, totals[0].micros));
            }
        }
        bar.finish_and_clear();
        Ok(Report { rows })
    }

    /// Sets the threshold so that the rule runs nearly that share of the layers. Errors play no
    /// part in it.
    fn meet(
        &mut self,
        rule: &mut Rule,
        networks: &Networked,
        width: RunWidth,
        share: f64,
        recorded: &Recorded<'_>,
    ) -> Result<()> {
        let n = self.plain.blocks();
        let (mut low, mut high) = (0.0, 1.0);
        let mut nearest = (f64::INFINITY, 0.0);
        for _ in 0..10 {
            let middle = 0.5 * (low + high);
            if let Rule::Guided(config, _) = rule {
                **config = config.with_threshold(middle);
            }
            let mut runner = self.runner(rule, networks, width, share)?;
            let mut steps = Vec::new();
            let see = |_, step: &Step, _: &Runner| steps.push(*step);
            recorded.run(&mut runner, self.policy(width), width, see)?;
            let met = Total::of(&steps, n).layers_share;
            if (met - share).abs() < nearest.0 {
                nearest = ((met - share).abs(), middle);
            }
            // A higher threshold skips fewer layers.
            if met < share {
                low = middle;
            } else {
                high = middle;
            }
        }
        if let Rule::Guided(config, _) = rule {
            **config = config.with_threshold(nearest.1);
        }
        Ok(())
    }

    /// Runs a method on one episode at the dispatcher's widths, and returns its picture.
    fn picture(
        &mut self,
        method: &Method<'_>,
        recorded: &Recorded<'_>,
        episode: usize,
        tasks: &[String],
    ) -> Result<Picture> {
        let steps = recorded.episodes[episode].clone();
        let of_one = Recorded {
            episodes: std::slice::from_ref(&steps),
            ..*recorded
        };
        let width = RunWidth::W4Ax;
        let mut runner = self.runner(&method.rule, method.networks, width, 1.0)?;
        let mut seen = Vec::new();
        of_one.run(&mut runner, self.policy(width), width, |_, step, runner| {
            seen.extend(runner.report().map(|report| Seen {
                report: report.clone(),
                width: step.width,
            }));
        })?;
        let task = recorded.rollouts.task[steps.start];
        Ok(Picture {
            title: format!(
                "{}, episode {episode} ({} steps): skipping at the dispatcher's widths",
                tasks[task],
                steps.len()
            ),
            layers: method.networks.file.config.skip_layers()?,
            seen,
        })
    }
}

fn row(method: &Method<'_>, rule: &Rule, width: RunWidth, total: &Total, full: f64) -> Row {
    let file = &method.networks.file;
    let parameters = match rule {
        Rule::Full | Rule::Blind(_) => 0,
        Rule::Guided(_, Substitute::Adapter) => file.parameters(),
        Rule::Guided(_, Substitute::Identity) => {
            let controllers = file.controllers.values();
            controllers.map(Controller::parameters).sum()
        }
        Rule::Exit => file.exit.as_ref().map_or(0, Adapter::parameters),
    };
    let trained = parameters > 0;
    // The file has one number per stage.
    let seconds = file.metrics.get("seconds").and_then(|s| s.as_array());
    let seconds = seconds.map(|stages| stages.iter().filter_map(|s| s.as_f64()).sum::<f64>());
    Row {
        method: method.name.into(),
        width: width.name(),
        static_ratio: file.config.static_ratio.filter(|_| trained),
        threshold: match rule {
            Rule::Guided(config, _) => Some(config.threshold()),
            _ => None,
        },
        action_error: total.error,
        layers_share: total.layers_share,
        reruns: total.reruns,
        trainable_parameters: parameters,
        training_seconds: seconds.filter(|_| trained),
        micros: total.micros,
        speedup: full / total.micros,
    }
}
