//! The subcommands.

use std::error::Error;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

#[cfg(feature = "train")]
use crate::distill;
#[cfg(feature = "candle")]
use crate::llama_block;
#[cfg(feature = "vla")]
use crate::vla;
use crate::{calibrate, convert, doctor, episode, report, sensitivity, serve, skip_episode};

/// CPU and CUDA kernels for mixed-precision W4AX inference of robot policies
#[derive(Parser)]
#[command(name = "w4ax", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Replay recorded robot episodes through the quantized policy: the main job
    ///
    /// At every control step the dispatcher turns the robot's motion into a width. The policy's
    /// layers run at that width, and an action results. Compared with fixed widths, with random
    /// ones, and with the unquantized policy.
    #[command(after_help = "Examples:
  w4ax episode
  w4ax episode --replay tests/data/robot/closed_loop_steps.csv --json episode.json
  w4ax episode --backend cuda --routing graph")]
    Episode(Box<episode::Options>),

    /// Convert a checkpoint to packed weights
    ///
    /// AutoAWQ, GPTQ and compressed-tensors checkpoints are packed without loss. Plain checkpoints
    /// are quantized, with a search over clipping. Weights with floating-point group scales do not
    /// fit --scheme two-level, unless they are quantized again with --requantize.
    #[command(after_help = "Examples:
  w4ax convert openvla-7b openvla-7b-w4
  w4ax convert model.safetensors packed.safetensors --group 64 --asymmetric --keep lm_head
  w4ax convert openvla-7b openvla-7b-two-level --scheme two-level --group 64
  w4ax convert openvla-7b-awq openvla-7b-two-level --scheme two-level --requantize")]
    Convert(convert::Args),

    /// Calibrate the dispatcher on recorded episodes (DyQ-VLA IV-B2)
    #[command(after_help = "Examples:
  w4ax calibrate --out calibration.json
  w4ax calibrate --rollouts rollouts.safetensors --from policy --d-acc 0.07 --eta 0.05
  w4ax calibrate --actions steps.jsonl")]
    Calibrate(Box<calibrate::Args>),

    /// Correlate the effect of one perturbed step with the motion of that step (DyQ-VLA III)
    #[command(after_help = "Examples:
  w4ax sensitivity
  w4ax sensitivity --json sensitivity.json --draws 2000")]
    Sensitivity(sensitivity::Options),

    /// Make the tables and figures of DyQ-VLA at the scale of the recorded data
    Report {
        /// The table or the figure
        #[command(subcommand)]
        command: report::Command,
    },

    /// Compare ways to skip a policy's layers on recorded episodes (DySL-VLA)
    #[command(after_help = "Examples:
  w4ax skip-episode --repeats 8
  w4ax skip-episode --widths bf16,w4ax --only 'uniform skip' --json skip.json")]
    SkipEpisode(Box<skip_episode::Options>),

    /// Train adapters and controllers that skip a policy's layers (DySL-VLA)
    #[cfg(feature = "train")]
    #[command(after_help = "Examples:
  w4ax distill --out skip.safetensors
  w4ax distill --out skip_exit.safetensors --exit 6")]
    Distill(Box<distill::Args>),

    /// Train adapters and controllers that skip a policy's layers (needs feature train)
    #[cfg(not(feature = "train"))]
    Distill(LeftOut),

    /// Serve the quantized policy over standard input and output, JSON lines
    ///
    /// {"describe": true} returns the tasks and the meaning of the numbers. {"reset": true, "task":
    /// "Lift"} starts an episode. {"obs": [25 numbers]} is a control step: the reply has the
    /// action, the width that ran and the reason for it. A step may request its "width" and report
    /// the action that was "executed" before it. An "id" is repeated in the reply. A bad line gets
    /// {"error": ".."} and changes nothing.
    #[command(after_help = "Examples:
  w4ax serve --width dynamic
  w4ax serve --policy deep_policy.safetensors --skip skip.safetensors --guide 0.2,0.02,0.5")]
    Serve(Box<serve::Options>),

    /// Time a decoder layer on candle at the widths of a recorded episode
    #[cfg(feature = "candle")]
    #[command(after_help = "Examples:
  w4ax llama-block
  w4ax llama-block --device cuda --weights packed.safetensors --layer 0")]
    LlamaBlock(llama_block::Options),

    /// Time a decoder layer on candle (needs feature candle)
    #[cfg(not(feature = "candle"))]
    LlamaBlock(LeftOut),

    /// Run OpenVLA and OpenVLA-OFT: images and an instruction to a robot's action
    #[cfg(feature = "vla")]
    #[command(after_help = "Examples:
  w4ax vla run --model openvla-7b --image camera.png --instruction 'pick up the cup' \\
    --unnorm-key bridge_orig --width a4")]
    Vla {
        /// The command
        #[command(subcommand)]
        command: vla::Command,
    },

    /// Run OpenVLA and OpenVLA-OFT (needs feature vla)
    #[cfg(not(feature = "vla"))]
    Vla(LeftOut),

    /// Check every kernel of this machine against the scalar reference
    ///
    /// Runs every width, scheme, grouping and symmetry of every instruction set, and of every
    /// family of kernels on each GPU. Run it before you trust a robot to this build. The exit code
    /// is 1 if a result differs.
    #[command(after_help = "Examples:
  w4ax doctor
  w4ax doctor --json doctor.json")]
    Doctor(doctor::Options),

    /// Print a shell's completions
    #[command(after_help = "Examples:
  w4ax completions bash > ~/.local/share/bash-completion/completions/w4ax
  w4ax completions fish > ~/.config/fish/completions/w4ax.fish")]
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// A subcommand that this build does not have. Its options are accepted, so that the error names
/// the feature.
#[cfg(not(all(feature = "train", feature = "candle", feature = "vla")))]
#[derive(clap::Args)]
struct LeftOut {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    rest: Vec<std::ffi::OsString>,
}

#[cfg(not(all(feature = "train", feature = "candle", feature = "vla")))]
impl LeftOut {
    fn refuse(&self, feature: &str) -> Result<ExitCode, Box<dyn Error>> {
        let _ = &self.rest;
        Err(
            format!("built without feature {feature}: build w4ax-cli with --features {feature}")
                .into(),
        )
    }
}

impl Command {
    fn run(&self) -> Result<ExitCode, Box<dyn Error>> {
        match self {
            Self::Episode(options) => episode::run(options)?,
            Self::Convert(args) => convert::run(args)?,
            Self::Calibrate(args) => calibrate::run(args)?,
            Self::Sensitivity(options) => sensitivity::run(options)?,
            Self::Report { command } => command.run()?,
            Self::SkipEpisode(options) => skip_episode::run(options)?,
            #[cfg(feature = "train")]
            Self::Distill(args) => distill::run(args)?,
            #[cfg(not(feature = "train"))]
            Self::Distill(args) => return args.refuse("train"),
            Self::Serve(options) => serve::run(options)?,
            #[cfg(feature = "candle")]
            Self::LlamaBlock(options) => llama_block::run(options)?,
            #[cfg(not(feature = "candle"))]
            Self::LlamaBlock(args) => return args.refuse("candle"),
            #[cfg(feature = "vla")]
            Self::Vla { command } => command.run()?,
            #[cfg(not(feature = "vla"))]
            Self::Vla(args) => return args.refuse("vla"),
            Self::Doctor(options) => {
                if !doctor::run(options)? {
                    return Ok(ExitCode::FAILURE);
                }
            }
            Self::Completions { shell } => {
                let mut command = Cli::command();
                clap_complete::generate(*shell, &mut command, "w4ax", &mut std::io::stdout());
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Runs the command line.
///
/// The exit code is 0, 1 after an error, which standard error names in one line, and 2 for options
/// that are not valid.
pub fn main() -> ExitCode {
    match Cli::parse().command.run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
