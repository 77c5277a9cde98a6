//! GEMMs on a GPU at the shapes of Llama-2-7B (OpenVLA's backbone), and the times that bytes and operations predict.
//!
//! ```sh
//! cargo bench --features cuda --bench cuda                            # this machine's GPU
//! cargo bench --features cuda --bench cuda -- --routing              # what the flag's routing costs
//! cargo bench --features cuda --bench cuda -- --chain                # the layers of a decode in one graph
//! cargo bench --features cuda --bench cuda -- --json report.json --m 1,16 --all
//! ```
//!
//! Each call is captured many times into one graph, each time with another copy of the weights, so that none of them is in
//! the L2 cache when it is read; a replay is timed with CUDA events and divided by the calls. x and y stay where they are, as
//! in a model. What is reported is the median of the replays and their extremes.

mod chain;
mod measure;
mod routing;

use clap::Parser;
use gpu_model::cases::{SHAPES, cases};
use gpu_model::kernels::Machine;
use gpu_model::predict::predict;
use gpu_model::report::Report;
use std::process::ExitCode;
use w4ax::Grouping;

#[derive(Parser)]
#[command(about = "GEMMs on a GPU: measured, and predicted from bytes and operations")]
struct Args {
    /// Measure what routing by the flag costs, and nothing else.
    #[arg(long)]
    routing: bool,
    /// Measure the layers of a decode one after the other in one graph, and nothing else.
    #[arg(long, conflicts_with = "routing")]
    chain: bool,
    /// Layers of a chain or a routed step.
    #[arg(long, default_value_t = 32)]
    layers: usize,
    /// Print what the device is, as JSON, and nothing else.
    #[arg(long)]
    describe: bool,
    /// Print the architectures that the kernels were built for, and nothing else.
    #[arg(long)]
    built_for: bool,
    /// Write the report as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<std::path::PathBuf>,
    /// The device's number.
    #[arg(long, default_value_t = 0)]
    device: usize,
    /// Numbers of tokens.
    #[arg(long, value_delimiter = ',', default_value = "1,8,16,64,290,1024,4096")]
    m: Vec<usize>,
    /// Every family, mode and tile that takes the shape, not only what the table picks.
    #[arg(long)]
    all: bool,
    /// Timed replays of each case.
    #[arg(long, default_value_t = 20)]
    repeats: usize,
    /// One shape and one grouping only.
    #[arg(long)]
    quick: bool,
    /// What cargo passes to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let info = w4ax::cuda::build_info()?;
    if args.built_for {
        println!("{}", info.archs);
        return Ok(());
    }
    if args.describe {
        println!(
            "{}",
            serde_json::to_string(&measure::describe(args.device)?)?
        );
        return Ok(());
    }
    if args.routing {
        return routing::run(args.device, args.repeats, args.layers, args.json.as_deref());
    }
    if args.chain {
        return chain::run(args.device, args.repeats, args.layers, args.json.as_deref());
    }
    let shapes = if args.quick {
        &SHAPES[..1]
    } else {
        &SHAPES[..]
    };
    let groupings = if args.quick {
        &[Grouping::G128][..]
    } else {
        &[Grouping::G128, Grouping::PerChannel][..]
    };
    let mut report = Report::new(info);
    let bench = measure::Bench::new(args.device, args.repeats)?;
    report.device = Some(measure::describe(args.device)?);
    report.copy_gb_per_s = Some(bench.copy_gb_per_s());
    let chip = bench.chip();
    // A machine with a GPU need not have the library and the disassembler.
    let mut machine = Machine::if_there();
    println!("{}: copies {:.0} GB/s", bench.name(), bench.copy_gb_per_s());
    for &shape in shapes {
        for &grouping in groupings {
            let layers = bench.layers(shape, grouping)?;
            for case in cases(&args.m, args.all, shape, grouping) {
                let Some(case) = bench.planned(&case)? else {
                    continue;
                };
                let measured = bench.time(&layers, &case)?;
                let predicted =
                    (machine.as_mut()).and_then(|machine| predict(machine, &chip, &case).ok());
                report.push(chip.name, &case, predicted, Some(measured))?;
            }
        }
    }
    report.print();
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_string_pretty(&report)? + "\n")?;
    }
    Ok(())
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
