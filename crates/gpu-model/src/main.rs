//! Predicts the times of GEMMs on known GPUs and generates the kernel table. Needs no GPU.
//!
//! ```sh
//! cargo run -p gpu-model --features cuda -- predict       # prints a table of predictions
//! cargo run -p gpu-model --features cuda -- table FILE    # writes the kernel table
//! ```

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use gpu_model::cases::{SHAPES, cases};
use gpu_model::kernels::KernelLibrary;
use gpu_model::predict::{predict, with_table_choice};
use gpu_model::report::GemmReport;
use gpu_model::{table, vla};
use w4ax::{Grouping, Scheme};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[derive(Parser)]
#[command(about = "Predicts the times of w4ax's CUDA kernels from their machine code")]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Predict the times of GEMMs on the known GPUs that this build has code for.
    Predict(Predict),
    /// Write the predicted crossovers between kernels as a table for the library (CSV).
    Table(Table),
    /// Write the predicted times of the linear layers of OpenVLA-7B and OpenVLA-OFT as a table
    /// (CSV). Rows that this build has no kernels for remain as they are.
    Vla {
        /// File to write.
        file: PathBuf,
    },
}

#[derive(Args)]
struct Predict {
    /// Numbers of tokens.
    #[arg(long, value_delimiter = ',', default_value = "1,8,16,64,290,1024,4096")]
    m: Vec<usize>,
    /// Predict every family, mode and tile that supports the shape, not only the table's choice.
    #[arg(long)]
    all: bool,
    /// Predict one shape and one grouping only.
    #[arg(long)]
    quick: bool,
    /// Write the report to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Args)]
struct Table {
    /// File to write.
    file: PathBuf,
    /// Shapes of the table's rows; default: those of the library's table.
    #[arg(long, value_name = "NxK", value_delimiter = ',', value_parser = shape)]
    shapes: Vec<(usize, usize)>,
}

fn shape(text: &str) -> std::result::Result<(usize, usize), String> {
    let parts = text.split_once('x').map(|(n, k)| (n.parse(), k.parse()));
    let Some((Ok(n), Ok(k))) = parts else {
        return Err(format!(
            "invalid shape `{text}`: expected NxK such as 4096x11008"
        ));
    };
    Ok((n, k))
}

fn print_predictions(options: &Predict) -> Result<()> {
    const WEIGHTS: [(Scheme, Grouping); 3] = [
        (Scheme::Grouped, Grouping::G128),
        (Scheme::Grouped, Grouping::PerChannel),
        (Scheme::TwoLevel, Grouping::G128),
    ];
    let (shapes, weights) = if options.quick {
        (&SHAPES[..1], &WEIGHTS[..1])
    } else {
        (&SHAPES[..], &WEIGHTS[..])
    };
    let mut report = GemmReport::new(w4ax::cuda::build_info()?);
    let mut kernels = KernelLibrary::load()?;
    for device in kernels.devices() {
        for &shape in shapes {
            for &weights in weights {
                for case in cases(&options.m, options.all, shape, weights) {
                    let case = with_table_choice(device, &case)?;
                    let predicted = predict(&mut kernels, device, &case)?;
                    report.push(device.name, &case, Some(predicted), None)?;
                }
            }
        }
    }
    report.print();
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_string_pretty(&report)? + "\n")?;
    }
    Ok(())
}

fn write_table(options: &Table) -> Result<()> {
    let shapes = if options.shapes.is_empty() {
        &table::SHAPES[..]
    } else {
        &options.shapes[..]
    };
    table::write(&mut KernelLibrary::load()?, shapes, &options.file)?;
    Ok(())
}

fn write_part_times(file: &Path) -> Result<()> {
    vla::write(&mut KernelLibrary::load()?, file)?;
    Ok(())
}

fn main() -> ExitCode {
    let done = match &Options::parse().command {
        Command::Predict(options) => print_predictions(options),
        Command::Table(options) => write_table(options),
        Command::Vla { file } => write_part_times(file),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
