//! Measures GEMMs on a GPU at the shapes of Llama-2-7B (OpenVLA's backbone), next to the
//! predictions of `gpu-model`.
//!
//! ```sh
//! cargo bench --features cuda --bench cuda                 # GEMMs one by one
//! cargo bench --features cuda --bench cuda -- --routing    # the cost of routing by the flag
//! cargo bench --features cuda --bench cuda -- --chain      # the layers of a decode in one graph
//! cargo bench --features cuda --bench cuda -- --json report.json --m 1,16 --all
//! ```
//!
//! A call is captured many times into one graph, each time with another copy of the weights. No
//! copy is in the L2 cache when it is read. x and y are the same in all calls, as in a model.
//! Replays are timed with CUDA events. The report has the median, the minimum and the maximum of
//! the replays, divided by the calls of a replay.

mod chain;
mod measure;
mod routing;

use clap::Parser;
use gpu_model::cases::{SHAPES, cases};
use gpu_model::kernels::KernelLibrary;
use gpu_model::predict::predict;
use gpu_model::report::GemmReport;
use std::process::ExitCode;
use w4ax::Grouping;

#[derive(Parser)]
#[command(about = "Measures GEMMs on a GPU, next to predictions from bytes and machine code")]
struct Args {
    /// Measure the cost of routing by the flag only.
    #[arg(long)]
    routing: bool,
    /// Measure the layers of a decode in one graph only.
    #[arg(long, conflicts_with = "routing")]
    chain: bool,
    /// Layers of --chain and of a step of --routing.
    #[arg(long, default_value_t = 32)]
    layers: usize,
    /// Print the properties of the device as JSON only.
    #[arg(long)]
    describe: bool,
    /// Print the architectures of this build's kernels only.
    #[arg(long)]
    built_for: bool,
    /// Write the report to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<std::path::PathBuf>,
    /// Ordinal of the device.
    #[arg(long, default_value_t = 0)]
    device: usize,
    /// Numbers of tokens.
    #[arg(long, value_delimiter = ',', default_value = "1,8,16,64,290,1024,4096")]
    m: Vec<usize>,
    /// Measure every family, mode and tile that supports the shape, not only the table's choice.
    #[arg(long)]
    all: bool,
    /// Timed replays of each case.
    #[arg(long, default_value_t = 20)]
    repeats: usize,
    /// Measure one shape and one grouping only.
    #[arg(long)]
    quick: bool,
    /// Passed by cargo to every bench.
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
    let mut report = GemmReport::new(info);
    let bench = measure::Bench::new(args.device, args.repeats)?;
    report.device = Some(measure::describe(args.device)?);
    report.copy_gb_per_s = Some(bench.copy_gb_per_s());
    let device = bench.device();
    // A machine with a GPU may lack the static library and the disassemblers.
    let mut kernels = KernelLibrary::load_if_available();
    println!(
        "{}: {:.0} GB/s by copies within the device",
        bench.name(),
        bench.copy_gb_per_s()
    );
    for &shape in shapes {
        for &grouping in groupings {
            let layers = bench.layers(shape, grouping)?;
            for case in cases(&args.m, args.all, shape, grouping) {
                let Some(case) = bench.planned(&case)? else {
                    continue;
                };
                let measured = bench.time(&layers, &case)?;
                let predicted =
                    (kernels.as_mut()).and_then(|kernels| predict(kernels, &device, &case).ok());
                report.push(device.name, &case, predicted, Some(measured))?;
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
