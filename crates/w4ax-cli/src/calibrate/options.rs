//! The options of `w4ax calibrate`.

use std::path::PathBuf;

use clap::ValueEnum;
use w4ax::calibrate::{CalibrationSettings, SensitivitySource};
use w4ax::dispatch::{ActionLayout, ConsistencyConfig};

use crate::costs::CostSource;
#[cfg(feature = "vla")]
use crate::vla::InputOptions;
use w4ax_robot::budget::Budget;
use w4ax_robot::dataset;
use w4ax_robot::episode::rule::Rule;
use w4ax_robot::profiles::FloorsOption;
use w4ax_robot::rollouts::RECORDED;
use w4ax_robot::weight_options::WeightOptions;

/// Calibrates the dispatcher on recorded episodes (DyQ-VLA IV-B2)
#[derive(clap::Args)]
pub struct Args {
    /// Recorded episodes
    #[arg(long, default_value = RECORDED)]
    pub(super) rollouts: PathBuf,
    /// Source of the actions at each width
    #[arg(long, value_enum, default_value_t = Source::Tokens)]
    pub(super) from: Source,
    /// Run the policy on the validation episodes of this dataset instead
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["rollouts", "from"],
        num_args = 0..=1,
        default_missing_value = dataset::RECORDED
    )]
    pub(super) validation: Option<PathBuf>,
    /// Use recorded steps of any model instead: a file of JSON lines, or a folder of such files,
    /// *.jsonl (docs/recorded-steps.md)
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["rollouts", "from", "validation", "policy"]
    )]
    pub(super) actions: Option<PathBuf>,
    /// What the numbers of the recorded actions are, such as xyz:delta,axis-angle:delta,gripper
    #[arg(
        long,
        value_name = "PARTS",
        default_value = "end-effector",
        requires = "actions"
    )]
    pub(super) layout: ActionLayout,
    /// The model that computes the actions which the recorded steps lack (needs feature vla)
    #[arg(long, value_name = "DIR", requires = "actions")]
    pub(super) model: Option<PathBuf>,
    /// The recorded steps with the actions that the model computed
    #[arg(long, value_name = "FILE", requires = "model")]
    pub(super) record: Option<PathBuf>,
    #[cfg(feature = "vla")]
    #[command(flatten)]
    pub(super) input: InputOptions,
    /// The policy that is run for the consistency rule, `--from policy` and `--validation`
    /// [default: a policy of 4 blocks in this program]
    #[arg(long, value_name = "FILE")]
    pub(super) policy: Option<PathBuf>,
    #[command(flatten)]
    pub(super) weights: WeightOptions,
    /// Error bound, in action units
    #[arg(long, default_value_t = CalibrationSettings::default().d_acc())]
    pub(super) d_acc: f64,
    /// Keeps the bound finite at S = 0
    #[arg(long, default_value_t = CalibrationSettings::default().eta())]
    pub(super) eta: f64,
    /// The S above which BF16 runs, or `auto`: where the errors at 8 bits exceed the bound
    #[arg(long, value_name = "X|auto", value_parser = theta_fp)]
    pub(super) theta_fp: Option<ThetaFp>,
    /// The actions from which S is computed
    #[arg(long, value_enum, default_value_t = Sensitivity::W4a4)]
    pub(super) sensitivity_from: Sensitivity,
    /// Leave out the section of the consistency rule, for which the policy is run
    #[arg(long, conflicts_with = "actions")]
    pub(super) no_consistency: bool,
    /// The layers that never run below a width, in the consistency rule: `first` for block 0 at
    /// the high width, `none`, `auto` for a greedy search, or layers such as 0=a4,head=a8
    #[arg(
        long,
        value_name = "first|none|auto|LAYERS",
        default_value = "first",
        conflicts_with_all = ["actions", "no_consistency"]
    )]
    pub(super) floors: FloorsOption,
    /// The rank of the policy's uncertainty above which the consistency rule does not try the low
    /// width, in (0, 1]; 1 is no gate
    #[arg(long, value_name = "RANK", default_value_t = ConsistencyConfig::GATE)]
    pub(super) gate: f64,
    /// The cost of a step at each width, which selects the widths of the consistency rule: `bits`
    /// in proportion to the bits, `measured` on this machine, or a JSON file {"a2": x, "a4": y,
    /// "a8": z, "bf16": w}
    #[arg(long, value_name = "bits|measured|FILE", default_value = "bits")]
    pub(super) costs: CostSource,
    /// Write the costs into the calibration
    #[arg(long)]
    pub(super) write_costs: bool,
    /// Choose D_acc, and theta_fp of `dyq` unless it is given, by replays of the recorded steps:
    /// the cheapest ones with a mean error of at most X, or those with the least error that cost at
    /// most X a step, or run at least the share X of steps at the low width
    #[arg(long, value_name = "error=X|cost=X|share=X")]
    pub(super) budget: Option<Budget>,
    /// The rule of the budget
    #[arg(long, value_enum, default_value_t = Rule::Dyq, requires = "budget")]
    pub(super) rule: Rule,
    /// Seed of the intervals and the random control
    #[arg(long, value_name = "N", default_value_t = 0, requires = "budget")]
    pub(super) seed: u64,
    /// The calibration, written whole or not at all
    #[arg(long, default_value = "calibration.json")]
    pub(super) out: PathBuf,
}

/// The source of the actions at each width.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Source {
    /// The tokens recorded in the rollouts
    Tokens,
    /// The quantized policy, run at each width on the recorded inputs
    Policy,
}

/// The option `--theta-fp`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ThetaFp {
    /// From the errors at 8 bits.
    Auto,
    /// This value.
    Fixed(f64),
}

fn theta_fp(text: &str) -> std::result::Result<ThetaFp, String> {
    match text.parse() {
        _ if text == "auto" => Ok(ThetaFp::Auto),
        Ok(value) => Ok(ThetaFp::Fixed(value)),
        Err(_) => Err("expected a number or auto".into()),
    }
}

/// The option `--sensitivity-from`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Sensitivity {
    /// The actions at A4: a quantized policy is what runs
    W4a4,
    /// The full-precision actions, as in the paper
    Reference,
}

impl Args {
    /// Returns the settings of the calibration.
    pub(super) fn settings(&self) -> CalibrationSettings {
        let settings = CalibrationSettings::default()
            .with_d_acc(self.d_acc)
            .with_eta(self.eta)
            .with_sensitivity_from(match self.sensitivity_from {
                Sensitivity::W4a4 => SensitivitySource::W4a4,
                Sensitivity::Reference => SensitivitySource::Reference,
            });
        let settings = match self.actions {
            Some(_) => settings.with_layout(self.layout),
            None => settings,
        };
        match self.theta_fp {
            None => settings,
            Some(ThetaFp::Auto) => settings.with_derived_theta_fp(),
            Some(ThetaFp::Fixed(theta_fp)) => settings.with_theta_fp(theta_fp),
        }
    }
}
