//! `w4ax serve`: the policy for a live simulator or robot, by JSON lines. Each line in has one line
//! out, which is not buffered.
//!
//! | in | out |
//! | --- | --- |
//! | `{"describe": true}` | the policy, its tasks, and the meaning of its numbers; at any time |
//! | `{"reset": true, "task": 0}`, or `"task": "Lift"` | `{"ok": true}` |
//! | `{"obs": [25 raw numbers]}`, optionally `"width"` and `"executed"` | the action and how it came about |
//!
//! A request may have an `"id"`, any JSON value. The reply repeats it, also if the reply is an
//! error.
//!
//! # Fields of a step
//! - `"width"` is `a2`, `a4`, `a8`, `bf16`, `plain` or `dynamic`, and holds for this step in place
//!   of `--width`. `bf16` is W4A16: the weights are INT4. `plain` is the unquantized policy.
//! - `"executed"` is the action that the robot executed in the step before, if it is not the
//!   replied one. It replaces that action in the history of the dispatcher. The guide of `--skip`
//!   keeps the replied one. It is an error in the first step of an episode.
//!
//! The dispatcher observes the executed actions and decides once per step, whether or not its
//! width is used. So a step at a requested width does not disturb the decisions after it.
//!
//! # Fields of the reply to a step
//! | field | value |
//! | --- | --- |
//! | `step` | the number of the step in its episode, from 0 |
//! | `action` | 7 numbers in [-1, 1] |
//! | `width` | 2, 4, 8 or 16 bits; 32 for `plain` |
//! | `target` | the target width of the decision; null at a requested width |
//! | `sensitivity` | S; null at a requested width, and without history |
//! | `reason` | `start`, `fault`, `steady`, `rose`, `held`, `stepped-down` ([`w4ax::dispatch::Reason`]), or `requested` |
//! | `token_std`, `margin` | how certain the tokens are, see [`w4ax_robot::uncertainty`] |
//! | `clipped` | the indices of the numbers of the observation that were clipped to 5 standard deviations |
//! | `micros` | the duration of the decision and the policy |
//! | `layers`, `reran` | with `--skip FILE` or `--exit FILE`: the number of layers that ran, those of a second pass included, and whether there was one |
//! | `runs` | 1, or 2 if the consistency rule ran the step again |
//!
//! # Rules
//! `--rule dyq`, the default, is the rule of DyQ-VLA. `--rule consistency` runs a step at a narrow
//! width and, if its action is too far from the executed one before it, once more at a wider one
//! ([`w4ax::dispatch::consistency`]): `target` is the width of the first run, `width` that of the
//! last, and `reason` is `start`, `fault`, `static`, `refresh`, `no-uncertainty`, `gate`,
//! `accepted` or `ran-again`. Where no width is worth choosing, all steps run at one, and
//! `describe` says so.
//!
//! # Floors
//! With `--floors 0=a4,head=a8` a layer runs at the larger of its floor and the width of the step,
//! which `width` reports. The adapters of `--skip` and `--exit` and steps at the width `plain` have
//! no floors.
//!
//! # Random skips
//! With `--random-skip P --seed N` chance takes the place of the guide and the controllers of
//! `--skip`, see [`w4ax_robot::random_skips`]: a control for runs of the guide with as many layers.
//!
//! # Early exit
//! With `--exit FILE` the layers from the exit on never run, and its adapter computes the input of
//! the head: another control.
//!
//! # Failure behavior
//! A bad line gets `{"error": ".."}` and changes nothing: a line that is not JSON, an unknown or
//! missing field, a number that is not finite (also `NaN` and `Infinity`, as Python's `json` writes
//! them), and an observation before the first reset. The end of the input ends the server.

mod describe;
mod layers;
mod lines;
mod non_finite;
mod plain;
mod reply;
mod request;
mod rule;
mod session;
mod width;

use std::io::{BufReader, ErrorKind, Write};
use std::path::PathBuf;

use w4ax::cpu::Cpu;
use w4ax::{Error, Result};

use crate::costs::CostSource;
use describe::Description;
use layers::ServedLayers;
use lines::{Line, Lines};
use plain::Plain;
use reply::{Body, Reply};
use rule::Rules;
use session::Session;
use w4ax_robot::early_exit::EarlyExit;
use w4ax_robot::episode::rule::Rule;
use w4ax_robot::floors::Floor;
use w4ax_robot::networks::AdapterWeights;
use w4ax_robot::policy::Policy;
use w4ax_robot::random_skips::RandomSkips;
use w4ax_robot::setting::{HALF, Setting, Verification};
use w4ax_robot::setup::Setup;
use w4ax_robot::shapes::INPUT;
use w4ax_robot::skipping::Skipping;
use width::ServedWidth;

/// Serve the quantized policy over standard input and output, JSON lines
#[derive(clap::Args)]
pub struct Options {
    /// Width of a step that requests none. bf16 is W4A16: the weights are INT4. plain is the
    /// unquantized policy
    #[arg(long, value_enum, default_value_t = ServedWidth::Dynamic)]
    width: ServedWidth,
    /// What decides the width of a dynamic step
    #[arg(long, value_enum, default_value_t = Rule::Dyq)]
    rule: Rule,
    /// The cost of a step at each width: in proportion to its bits, measured here, or JSON
    /// {"a2": x, "a4": y, "a8": z, "bf16": w} in any unit. A width that is not at least 3 % cheaper
    /// than a more precise one is not chosen. [default for consistency: the costs of the
    /// calibration, or measured here]
    #[arg(long, value_name = "bits|measured|FILE")]
    costs: Option<CostSource>,
    /// Smallest widths of layers, by block or `head`: a layer runs at the larger of its floor and
    /// the width of the step. Adapters and steps at the width plain have no floors
    #[arg(long, value_name = "BLOCK=WIDTH", value_delimiter = ',')]
    floors: Vec<Floor>,
    /// Skip layers with the adapters and controllers of this file, safetensors, as `distill` writes
    /// it
    #[arg(long, value_name = "FILE", group = "networks")]
    skip: Option<PathBuf>,
    /// Leave the stack early, by the exit of this file, safetensors, as `distill --exit` writes it
    #[arg(long, value_name = "FILE", group = "networks")]
    exit: Option<PathBuf>,
    /// Type of the adapters' weights. Steps at the width plain have BF16 adapters
    #[arg(long, value_enum, default_value_t = AdapterWeights::Packed, requires = "networks")]
    adapters: AdapterWeights,
    /// Guide of the skips: eta1 and eta, eta2, and the probability above which a controller skips.
    /// The default is for the 16-block policy and `skip.safetensors`
    #[arg(
        long,
        value_name = "ETA,ETA2,P",
        default_value_t = HALF,
        requires = "skip",
        conflicts_with = "exit"
    )]
    guide: Setting,
    /// When a step runs again with nothing skipped
    #[arg(
        long,
        value_enum,
        default_value_t = Verification::FirstDrop,
        requires = "skip",
        conflicts_with = "exit"
    )]
    verify: Verification,
    /// Skip by chance instead of by the guide and the controllers, as a control: as many layers as
    /// if each layer that may be skipped were skipped with probability P
    #[arg(
        long,
        value_name = "P",
        value_parser = probability,
        requires = "skip",
        conflicts_with_all = ["exit", "guide", "verify"]
    )]
    random_skip: Option<f64>,
    /// Seed of the random skips, which continue over the episodes
    #[arg(long, value_name = "N", default_value_t = 0, requires = "random_skip")]
    seed: u64,
    #[command(flatten)]
    setup: Setup,
}

impl Options {
    /// Loads the networks for the layers that do not run.
    fn layers(&self, policy: &Policy, weights: AdapterWeights) -> Result<ServedLayers> {
        if let Some(path) = &self.exit {
            let exit = EarlyExit::load(path, policy, weights)?;
            return Ok(ServedLayers::Exit(Box::new(exit)));
        }
        let Some(path) = &self.skip else {
            return Ok(ServedLayers::All);
        };
        let skipping = match self.random_skip {
            None => {
                let config = self.guide.config(self.verify);
                Skipping::load(path, policy, weights, &config)?
            }
            Some(probability) => {
                let skipping = Skipping::load(path, policy, weights, &RandomSkips::config())?;
                skipping.with_random_skips(probability, self.seed)?
            }
        };
        Ok(ServedLayers::Skip(Box::new(skipping)))
    }
}

/// Runs the command.
///
/// # Errors
/// Invalid options and files. Errors of standard input and output.
pub fn run(options: &Options) -> Result<()> {
    options.setup.in_pool(|| serve(options))
}

fn serve(options: &Options) -> Result<()> {
    let mut session = session(options)?;
    let mut lines = Lines::new(BufReader::new(std::io::stdin()));
    let mut output = std::io::stdout();
    loop {
        let line = match lines.next_line() {
            Ok(Some(line)) => line,
            Ok(None) => return Ok(()),
            Err(error) => return Err(io("standard input", error)),
        };
        let request::Line { id, request } = match line {
            Line::Text(line) => request::Line::parse(line),
            Line::TooLong => request::Line {
                id: None,
                request: Err(format!(
                    "the line is too long: expected at most {} bytes",
                    lines::MAX_LINE
                )),
            },
        };
        let body = request.and_then(|request| session.handle(request));
        let body = body.unwrap_or_else(|error| Body::Error { error });
        // A single write per line.
        let written = output.write_all(Reply { id, body }.to_line().as_bytes());
        match written.and_then(|()| output.flush()) {
            Ok(()) => (),
            // The reader has closed its end.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(io("standard output", error)),
        }
    }
}

fn probability(text: &str) -> std::result::Result<f64, String> {
    let number = text.parse().ok().filter(|p| (0.0..=1.0).contains(p));
    number.ok_or_else(|| "expected a number in [0, 1]".into())
}

/// Loads the policies and the networks for skipped layers.
fn session(options: &Options) -> Result<Session> {
    let cpu = Cpu::new()?;
    let checkpoint = options.setup.checkpoint()?;
    let mut robot = options.setup.robot(&checkpoint, cpu.clone())?;
    let costs = match &options.costs {
        None => None,
        Some(source) => Some(source.load(&mut robot.policy, &[0.0; INPUT])?),
    };
    let floors = Floor::of_policy(&options.floors, robot.policy.blocks())?;
    robot.policy.set_floors(&floors)?;
    let given = (!options.floors.is_empty()).then_some(&floors);
    let rules = Rules::new(&mut robot, options.rule, costs, given)?;
    let plain = Policy::unquantized(&checkpoint, cpu, 1)?;
    let layers = options.layers(&robot.policy, options.adapters)?;
    let mut of_plain = options.layers(&plain, AdapterWeights::Bf16)?;
    let name = options.setup.policy_name();
    let width = (options.width, rules.description);
    let description =
        Description::new(name, &robot.policy, width).with_layers(&layers, options.random_skip);
    let plain = Plain::new(plain, of_plain.networks().cloned());
    Ok(Session::new(
        (robot.policy, rules.by_task),
        plain,
        layers,
        options.width,
        description,
    ))
}

fn io(file: &str, source: std::io::Error) -> Error {
    Error::Io {
        file: file.into(),
        source,
    }
}
