//! `w4ax calibrate`: motion scales and thresholds of the dispatcher from recorded episodes.
//!
//! With `--validation` it uses the episodes of a dataset that the policy was not trained on. With
//! `--actions` it uses recorded steps of any model.

#[cfg(feature = "vla")]
mod complete;
mod recording;
mod step;

use std::error::Error as StdError;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use w4ax::calibrate::{CalibrationReport, CalibrationSettings, Episode, calibrate};
use w4ax::cpu::Cpu;
use w4ax::dispatch::{Action, ActionLayout};
use w4ax::{Error, Result, Width};

#[cfg(feature = "vla")]
use crate::vla::InputOptions;
use recording::Recording;
#[cfg(feature = "vla")]
pub use step::Output;
use w4ax_robot::dataset::{self, Dataset};
use w4ax_robot::paths;
use w4ax_robot::policy::Policy;
use w4ax_robot::rollouts::{self, RECORDED, Rollouts, TASKS};
use w4ax_robot::setup::{QUANTIZE, checkpoint};
use w4ax_robot::shapes::Tokens;
use w4ax_robot::table::table;

/// Calibrates the dispatcher on recorded episodes (DyQ-VLA IV-B2)
#[derive(clap::Args)]
pub struct Args {
    /// Recorded episodes
    #[arg(long, default_value = RECORDED)]
    rollouts: PathBuf,
    /// Source of the actions at each width
    #[arg(long, value_enum, default_value_t = Source::Tokens)]
    from: Source,
    /// Run the policy on the validation episodes of this dataset instead
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["rollouts", "from"],
        num_args = 0..=1,
        default_missing_value = dataset::RECORDED
    )]
    validation: Option<PathBuf>,
    /// Use recorded steps of any model instead: a file of JSON lines, or a folder of such files,
    /// *.jsonl (docs/recorded-steps.md)
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["rollouts", "from", "validation", "policy"]
    )]
    actions: Option<PathBuf>,
    /// What the numbers of the recorded actions are, such as xyz:delta,axis-angle:delta,gripper
    #[arg(
        long,
        value_name = "PARTS",
        default_value = "end-effector",
        requires = "actions"
    )]
    layout: ActionLayout,
    /// The model that computes the actions which the recorded steps lack (needs feature vla)
    #[arg(long, value_name = "DIR", requires = "actions")]
    model: Option<PathBuf>,
    /// The recorded steps with the actions that the model computed
    #[arg(long, value_name = "FILE", requires = "model")]
    record: Option<PathBuf>,
    #[cfg(feature = "vla")]
    #[command(flatten)]
    input: InputOptions,
    /// The policy that `--from policy` and `--validation` run [default: a policy of 4 blocks in
    /// this program]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Error bound, in action units
    #[arg(long, default_value_t = CalibrationSettings::default().d_acc())]
    d_acc: f64,
    /// Keeps the bound finite at S = 0
    #[arg(long, default_value_t = CalibrationSettings::default().eta())]
    eta: f64,
    /// The calibration, written whole or not at all
    #[arg(long, default_value = "calibration.json")]
    out: PathBuf,
}

/// The source of the actions at each width.
#[derive(Clone, Copy, ValueEnum)]
enum Source {
    /// The tokens recorded in the rollouts
    Tokens,
    /// The quantized policy, run at each width on the recorded inputs
    Policy,
}

/// Runs the command.
///
/// # Errors
/// Invalid options and files.
pub fn run(args: &Args) -> std::result::Result<(), Box<dyn StdError>> {
    let settings = CalibrationSettings::default()
        .with_d_acc(args.d_acc)
        .with_eta(args.eta);
    let report = match &args.actions {
        Some(path) => {
            let (tasks, episodes) = recorded_steps(path, args)?;
            calibrate(&tasks, &episodes, &settings.with_layout(args.layout))?
        }
        None => {
            let (tasks, episodes) = policy_episodes(args)?;
            calibrate(&tasks, &episodes, &settings)?
        }
    };
    print(&report);
    report.calibration.save(&args.out)?;
    println!("written to {}", args.out.display());
    Ok(())
}

/// The names of the tasks, and the episodes.
type Recorded<A = Action> = (Vec<String>, Vec<Episode<A>>);

/// Returns the recorded steps, completed by the model.
fn recorded_steps(
    path: &Path,
    args: &Args,
) -> std::result::Result<Recorded<Vec<f64>>, Box<dyn StdError>> {
    #[cfg(not(feature = "vla"))]
    if args.model.is_some() {
        return Err(NO_MODEL.into());
    }
    #[cfg_attr(not(feature = "vla"), expect(unused_mut))]
    let mut recording = Recording::load(path, args.layout)?;
    #[cfg(feature = "vla")]
    if let Some(model) = &args.model {
        complete::complete(&mut recording, model, &args.input, args.record.as_deref())?;
    }
    recording.check_complete("expected actions of each width, or --model (needs feature vla)")?;
    Ok(recording.episodes()?)
}

#[cfg(not(feature = "vla"))]
const NO_MODEL: &str = "--model: built without feature vla: build w4ax-cli with --features vla";

/// Returns the recorded steps of this repository's policies.
fn policy_episodes(args: &Args) -> Result<Recorded> {
    let rollouts = match &args.validation {
        None => {
            paths::check("--rollouts", &args.rollouts)?;
            Rollouts::load(&args.rollouts)?
        }
        Some(path) => {
            paths::check("--validation", path)?;
            let checkpoint = checkpoint(args.policy.as_deref())?;
            let mut policy = Policy::unquantized(&checkpoint, Cpu::new()?, 1)?;
            Rollouts::of_validation(&Dataset::load(path)?, &mut policy)?
        }
    };
    let (tasks, at_width) = match (&args.validation, args.from) {
        (None, Source::Tokens) => (
            TASKS.map(String::from).to_vec(),
            recorded(&rollouts, &args.rollouts)?,
        ),
        _ => computed(&rollouts, args.policy.as_deref())?,
    };
    rollouts.check_tasks(tasks.len())?;
    Ok((tasks, rollouts.calibration_episodes(&at_width)))
}

/// Returns the actions of the recorded tokens, `[width][steps]`.
fn recorded(rollouts: &Rollouts, file: &Path) -> Result<[Vec<Action>; 4]> {
    let mut at_width = [const { Vec::new() }; 4];
    for (to, width) in at_width.iter_mut().zip(Width::ALL) {
        let tokens = rollouts.tokens(width).ok_or_else(|| Error::MissingTensor {
            file: file.display().to_string(),
            name: "tok_w4a16 and those of the other widths".into(),
        })?;
        *to = actions(tokens);
    }
    Ok(at_width)
}

/// Returns the policy's tasks, and its actions, `[width][steps]`.
fn computed(rollouts: &Rollouts, policy: Option<&Path>) -> Result<(Vec<String>, [Vec<Action>; 4])> {
    let checkpoint = checkpoint(policy)?;
    let mut policy = Policy::new(&checkpoint, QUANTIZE, Cpu::new()?, rollouts.len())?;
    let mut tokens = vec![Tokens::default(); rollouts.len()];
    let mut at_width = [const { Vec::new() }; 4];
    for (to, width) in at_width.iter_mut().zip(Width::ALL) {
        policy.forward_rows(&rollouts.input, width, &mut tokens)?;
        *to = actions(&tokens);
    }
    Ok((checkpoint.tasks, at_width))
}

fn actions(tokens: &[Tokens]) -> Vec<Action> {
    tokens.iter().map(rollouts::action).collect()
}

fn print(report: &CalibrationReport) {
    let calibration = &report.calibration;
    let tasks = calibration.tasks.iter().map(|task| {
        let motion = [task.motion.mu_max, task.motion.nu_max].map(|x| format!("{x:.4}"));
        [vec![task.name.clone()], motion.to_vec()].concat()
    });
    println!("{}\n", table(&["task", "mu_max", "nu_max"], tasks));

    let bins = report.profile.bins();
    let rows = bins.iter().map(|bin| {
        let bound = calibration.d_acc / ((bin.lower + bin.upper) / 2.0 + calibration.eta);
        let errors = [bin.error_2, bin.error_4, bound].map(|x| format!("{x:.4}"));
        let range = format!("[{:.3}, {:.3})", bin.lower, bin.upper);
        [vec![range, bin.rows.to_string()], errors.to_vec()].concat()
    });
    println!(
        "{}",
        table(&["S", "steps", "mean e_2", "mean e_4", "bound"], rows)
    );
    let below: usize = bins.iter().map(|bin| bin.rows).sum();
    let (all, above) = (report.profile.rows(), report.profile.rows() - below);
    println!("{above} of {all} steps have S of theta_fp and more\n");

    let tried = [0.9, 1.0, 1.1]
        .into_iter()
        .zip(report.conditioning.thresholds);
    let rows = tried.map(|(factor, t)| {
        let d_acc = factor * calibration.d_acc;
        [d_acc, t.theta_24, t.theta_48, t.theta_fp]
            .map(|x| format!("{x:.4}"))
            .to_vec()
    });
    println!(
        "{}",
        table(&["D_acc", "theta_24", "theta_48", "theta_fp"], rows)
    );
    let [moved_24, moved_48] = report.conditioning.moves();
    println!("D_acc +-10 % moves theta_24 by up to {moved_24:.3}, theta_48 by up to {moved_48:.3}");
    if let Some(warning) = report.conditioning.warning() {
        println!("warning: {warning}");
    }
}
