//! GEMMs on a GPU at the shapes of Llama-2-7B (OpenVLA's backbone), and the times that bytes and operations predict.
//!
//! ```sh
//! cargo bench --features cuda --bench cuda                            # this machine's GPU
//! cargo bench --features cuda --bench cuda -- --predict               # a table for known GPUs, without one
//! cargo bench --features cuda --bench cuda -- --choices choice.csv    # which kernel is predicted best from which M on
//! cargo bench --features cuda --bench cuda -- --routing              # what the flag's routing costs
//! cargo bench --features cuda --bench cuda -- --chain                # the layers of a decode in one graph
//! cargo bench --features cuda --bench cuda -- --json report.json --m 1,16 --all
//! ```
//!
//! Each call is captured many times into one graph, each time with another copy of the weights, so that none of them is in
//! the L2 cache when it is read; a replay is timed with CUDA events and divided by the calls. x and y stay where they are, as
//! in a model. What is reported is the median of the replays and their extremes.

#[path = "cuda/chain.rs"]
mod chain;
#[path = "cuda/choice.rs"]
mod choice;
#[path = "cuda/code.rs"]
mod code;
#[path = "cuda/graph.rs"]
mod graph;
#[path = "cuda/machine.rs"]
mod machine;
#[path = "cuda/measure.rs"]
mod measure;
#[path = "cuda/model.rs"]
mod model;
#[path = "cuda/occupancy.rs"]
mod occupancy;
#[path = "cuda/pipes.rs"]
mod pipes;
#[path = "cuda/report.rs"]
mod report;
#[path = "cuda/routing.rs"]
mod routing;
#[allow(dead_code)]
#[path = "../tests/support/sass.rs"]
mod sass;
#[path = "cuda/stack.rs"]
mod stack;
#[path = "cuda/static_model.rs"]
mod static_model;
#[path = "cuda/tiles.rs"]
mod tiles;

use clap::Parser;
use std::process::ExitCode;
use w4ax::cuda::{Family, GemmOptions, Problem};
use w4ax::{Grouping, Width};

/// `[N, K]`: attention's projections, q, k and v in one, gate and up in one, down.
const SHAPES: [(usize, usize); 4] = [(4096, 4096), (12288, 4096), (22016, 4096), (4096, 11008)];

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
    /// Print predictions only: needs no GPU.
    #[arg(long)]
    predict: bool,
    /// Write the predicted crossovers between kernels as a table for the library: needs no GPU.
    #[arg(long, value_name = "FILE")]
    choices: Option<std::path::PathBuf>,
    /// Shapes NxK of that table, instead of its own.
    #[arg(long, value_name = "NxK", value_delimiter = ',', value_parser = shape, requires = "choices")]
    shapes: Vec<(usize, usize)>,
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

fn shape(text: &str) -> Result<(usize, usize), String> {
    let parts = text.split_once('x').map(|(n, k)| (n.parse(), k.parse()));
    let Some((Ok(n), Ok(k))) = parts else {
        return Err(format!("`{text}` is no shape such as 4096x11008"));
    };
    Ok((n, k))
}

/// The cases of one shape and grouping: what the table picks, or everything.
fn cases(args: &Args, (n, k): (usize, usize), grouping: Grouping) -> Vec<Problem> {
    let mut cases = Vec::new();
    for &m in &args.m {
        for width in Width::ALL {
            let quantized = width != Width::Bf16;
            let mut put = |packed, options| {
                let case = Problem {
                    m,
                    n,
                    k,
                    width,
                    latched: false,
                    grouping,
                    packed,
                    options,
                };
                if case.plan().is_ok() {
                    cases.push(case);
                }
            };
            put(false, GemmOptions::default());
            // As it is for k and v when q has paid for the packing.
            if quantized && m > 2 {
                put(true, GemmOptions::default());
            }
            if !args.all {
                continue;
            }
            for family in [Family::Decode, Family::Prefill, Family::Wgmma] {
                for tile in 1..=family.tiles() {
                    for packed in [false, true] {
                        if quantized || !packed {
                            let options = GemmOptions {
                                family: Some(family),
                                // That one packs first.
                                fused: Some(family != Family::Wgmma),
                                tile: Some(tile),
                                pdl: false,
                            };
                            put(packed, options);
                        }
                    }
                }
            }
        }
    }
    cases
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
    if let Some(path) = &args.choices {
        let shapes = if args.shapes.is_empty() {
            &choice::SHAPES[..]
        } else {
            &args.shapes[..]
        };
        return choice::write(&mut machine::Machine::load()?, shapes, path);
    }
    let mut report = report::Report::new(info);
    if args.predict {
        let mut machine = machine::Machine::load()?;
        for chip in machine.chips() {
            for &shape in shapes {
                for &grouping in groupings {
                    for case in cases(args, shape, grouping) {
                        let case = static_model::planned_on(chip, &case)?;
                        let predicted = static_model::predict(&mut machine, chip, &case)?;
                        report.push(chip.name, &case, Some(predicted), None)?;
                    }
                }
            }
        }
    } else {
        let bench = measure::Bench::new(args.device, args.repeats)?;
        report.device = Some(measure::describe(args.device)?);
        report.copy_gb_per_s = Some(bench.copy_gb_per_s());
        let chip = bench.chip();
        // A machine with a GPU need not have the library and the disassembler.
        let mut machine = machine::Machine::if_there();
        println!("{}: copies {:.0} GB/s", bench.name(), bench.copy_gb_per_s());
        for &shape in shapes {
            for &grouping in groupings {
                let layers = bench.layers(shape, grouping)?;
                for case in cases(args, shape, grouping) {
                    let Some(case) = bench.planned(&case)? else {
                        continue;
                    };
                    let measured = bench.time(&layers, &case)?;
                    let predicted = (machine.as_mut())
                        .and_then(|machine| static_model::predict(machine, &chip, &case).ok());
                    report.push(chip.name, &case, predicted, Some(measured))?;
                }
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
