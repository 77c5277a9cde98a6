//! `w4ax convert`: a checkpoint to packed safetensors.
//!
//! The input is a safetensors file, an index of shards, or a folder with one of them. AutoAWQ, GPTQ
//! and compressed-tensors checkpoints are packed without loss. Plain checkpoints are quantized.

use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use w4ax::checkpoint::{Checkpoint, Convert, ConvertOutcome, Scheme};
use w4ax::{Grouping, Quantize, Result, ScaleType, Symmetry};

/// Converts a checkpoint to packed W4AX weights
#[derive(clap::Args)]
pub struct Args {
    /// A safetensors file, an index of shards, or a folder with one of them
    input: PathBuf,
    /// The packed file, written whole or not at all
    output: PathBuf,
    /// Group size of plain weights: weights along k that share a scale
    #[arg(long, value_enum, default_value_t = Group::G128)]
    group: Group,
    /// Quantize plain weights with zero points
    #[arg(long)]
    asymmetric: bool,
    /// Type of the scales of plain weights
    #[arg(long, value_enum, default_value_t = Scale::Bf16)]
    scales: Scale,
    /// A module that is not quantized: its whole name, or some of its dotted parts
    #[arg(long, value_name = "MODULE")]
    keep: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Group {
    #[value(name = "32")]
    G32,
    #[value(name = "64")]
    G64,
    #[value(name = "128")]
    G128,
    Channel,
}

#[derive(Clone, Copy, ValueEnum)]
enum Scale {
    F32,
    F16,
    Bf16,
}

impl Args {
    fn quantize(&self) -> Quantize {
        let grouping = match self.group {
            Group::G32 => Grouping::G32,
            Group::G64 => Grouping::G64,
            Group::G128 => Grouping::G128,
            Group::Channel => Grouping::PerChannel,
        };
        let scale_type = match self.scales {
            Scale::F32 => ScaleType::F32,
            Scale::F16 => ScaleType::F16,
            Scale::Bf16 => ScaleType::Bf16,
        };
        let symmetry = if self.asymmetric {
            Symmetry::Asymmetric
        } else {
            Symmetry::Symmetric
        };
        Quantize::new(grouping)
            .with_scale_type(scale_type)
            .with_symmetry(symmetry)
    }
}

/// Prints a line. A conversion continues after its standard output is closed.
fn print_line(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Runs the command.
///
/// # Errors
/// Invalid options and files.
pub fn run(args: &Args) -> Result<()> {
    let checkpoint = Checkpoint::open(&args.input)?;
    let config = checkpoint.config();
    match config.scheme {
        Scheme::Plain => print_line(format_args!(
            "{}: plain, {:?}",
            args.input.display(),
            args.quantize()
        )),
        scheme => print_line(format_args!(
            "{}: {scheme:?}, by {}",
            args.input.display(),
            config.file
        )),
    }
    let convert = Convert::new(args.quantize()).keep(&args.keep);
    let bar = ProgressBar::no_length().with_style(
        ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let summary = convert.run(&checkpoint, &args.output, |step| {
        bar.set_length(step.total);
        bar.set_position(step.done);
        let line = format!("{}: {}", step.name, describe(&step.outcome));
        bar.suspend(|| print_line(line));
    })?;
    bar.finish_and_clear();
    print_line(format_args!(
        "{}: {} weights repacked, {} quantized, {} other tensors copied",
        args.output.display(),
        summary.repacked,
        summary.quantized,
        summary.copied
    ));
    Ok(())
}

fn describe(outcome: &ConvertOutcome) -> String {
    match outcome {
        ConvertOutcome::Repacked(w) => format!(
            "[{}, {}] repacked, {}, {}, {:?} scales{}",
            w.n,
            w.k,
            w.grouping,
            if w.symmetric {
                "symmetric"
            } else {
                "with zero points"
            },
            w.scale_type,
            if w.act_order {
                ", activation order"
            } else {
                ""
            }
        ),
        ConvertOutcome::Quantized(w) => format!(
            "[{}, {}] quantized, error {:.3} % of its norm, at most {:.3e}",
            w.n,
            w.k,
            100.0 * w.relative_error,
            w.largest_error
        ),
        ConvertOutcome::Copied(bytes) => format!("copied, {bytes} bytes"),
        other => format!("{other:?}"),
    }
}
