//! `w4ax convert`: a checkpoint to packed safetensors.
//!
//! The input is a safetensors file, an index of shards, or a folder with one of them. AutoAWQ, GPTQ
//! and compressed-tensors checkpoints are packed without loss, or quantized again on request. Plain
//! checkpoints are quantized; of a vision-language-action model, only the language model's layers.

use std::ffi::OsStr;
use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use w4ax::checkpoint::{Checkpoint, Convert, ConvertOutcome, ConvertProgress, Scheme};
use w4ax::{Quantize, Result, ScaleType, Symmetry};
use w4ax_robot::weight_options::{ClippingOption, Group, SchemeOption};

/// Converts a checkpoint to packed W4AX weights
#[derive(clap::Args)]
pub struct Args {
    /// A safetensors file, an index of shards, or a folder with one of them
    input: PathBuf,
    /// The packed file (`*.safetensors`) or a folder for the model, written whole or not at all
    output: PathBuf,
    /// Arithmetic of the weights that are quantized
    #[arg(long, value_enum, default_value_t = SchemeOption::Grouped)]
    scheme: SchemeOption,
    /// Group size of plain weights: weights along k that share a scale or a step
    #[arg(long, value_enum, default_value_t = Group::G128)]
    group: Group,
    /// Choice of the scales and steps of plain weights
    #[arg(long, value_enum, default_value_t = ClippingOption::Search)]
    clipping: ClippingOption,
    /// Quantize plain weights with zero points
    #[arg(long)]
    asymmetric: bool,
    /// Type of the scales of plain weights
    #[arg(long, value_enum, default_value_t = Scale::Bf16)]
    scales: Scale,
    /// Quantize the weights of a quantized checkpoint again, as if they were plain, and print the
    /// error that this adds
    #[arg(long)]
    requantize: bool,
    /// A module that is not quantized: its whole name, or some of its dotted parts
    #[arg(long, value_name = "MODULE")]
    keep: Vec<String>,
    /// A module that is quantized although the kind of the model keeps it plain, such as
    /// `vision_backbone`
    #[arg(long, value_name = "MODULE")]
    also: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Scale {
    F32,
    F16,
    Bf16,
}

impl Args {
    fn quantize(&self) -> Quantize {
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
        Quantize::new(self.group.into())
            .with_scheme(self.scheme.into())
            .with_clipping(self.clipping.into())
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
    print_input(args, &checkpoint);
    let convert = Convert::new(args.quantize())
        .requantize(args.requantize)
        .keep(&args.keep)
        .also(&args.also);
    let bar = ProgressBar::no_length().with_style(
        ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let progress = |step: ConvertProgress<'_>| {
        bar.set_length(step.total);
        bar.set_position(step.done);
        let line = format!("{}: {}", step.name, describe(&step.outcome));
        bar.suspend(|| print_line(line));
    };
    let file = args.output.extension() == Some(OsStr::new("safetensors"));
    let (summary, files) = if file {
        (convert.run(&checkpoint, &args.output, progress)?, None)
    } else {
        let done = convert.run_to_folder(&checkpoint, &args.output, progress)?;
        (done.weights, Some(done.files))
    };
    bar.finish_and_clear();
    let output = args.output.display();
    print_line(format_args!(
        "{output}: {} weights repacked, {} quantized, {} other tensors copied",
        summary.repacked, summary.quantized, summary.copied
    ));
    if summary.requantized > 0 {
        print_line(format_args!(
            "{output}: {} quantized weights quantized again",
            summary.requantized
        ));
    }
    if let Some(files) = files {
        print_line(format_args!("{output}: copied {}", files.join(", ")));
    }
    Ok(())
}

/// Prints how the weights are stored and what is quantized.
fn print_input(args: &Args, checkpoint: &Checkpoint) {
    let input = args.input.display();
    let config = checkpoint.config();
    if config.scheme != Scheme::Plain {
        let (scheme, file) = (config.scheme, &config.file);
        print_line(format_args!("{input}: {scheme:?}, by {file}"));
        if args.requantize {
            print_line(format_args!("{input}: again as {:?}", args.quantize()));
        }
        return;
    }
    print_line(format_args!("{input}: plain, {:?}", args.quantize()));
    match checkpoint.kind() {
        None => (),
        Some(kind) if args.also.is_empty() => print_line(kind),
        Some(kind) => print_line(format_args!("{kind} except {}", args.also.join(", "))),
    }
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
        ConvertOutcome::Requantized(w) => format!(
            "[{}, {}] quantized again, added error {:.3} % of its norm, at most {:.3e}",
            w.n,
            w.k,
            100.0 * w.relative_error,
            w.largest_error
        ),
        ConvertOutcome::Copied(bytes) => format!("copied, {bytes} bytes"),
        other => format!("{other:?}"),
    }
}
