//! Measures GEMMs on a GPU at the shapes of Llama-2-7B (OpenVLA's backbone), next to the
//! predictions of `gpu-model`, and what those predictions assume of a device.
//!
//! ```sh
//! cargo bench --features cuda --bench cuda -- limits     # bandwidths of memory and L2, a launch
//! cargo bench --features cuda --bench cuda -- decode     # GEMMs of few tokens, one by one
//! cargo bench --features cuda --bench cuda -- prefill    # GEMMs of many tokens, one by one
//! cargo bench --features cuda --bench cuda -- chain      # the layers of a decode in one graph
//! cargo bench --features cuda --bench cuda -- routing    # the cost of routing by the flag
//! cargo bench --features cuda --bench cuda -- decode --json report.json --m 1,16 --deadline 300
//! ```
//!
//! All parts run on one stack of weights, which the device makes from a few random rows. Replays of
//! graphs are timed with CUDA events. A report has the median, the minimum and the maximum of the
//! replays, divided by the calls of a replay. Compare figures of one run with each other only.
//!
//! The report is rewritten after every case. With a deadline, a case that is not expected to end in
//! time is not begun, and the report lists it. The short table is the last of the output.

mod args;
mod chain;
mod describe;
mod gemms;
mod limits;
mod measure;
mod output;
mod routing;

use clap::Parser;
use std::process::ExitCode;
use std::time::Instant;

use args::{Args, Part};
use measure::{Bench, Result};
use output::Output;

fn run(args: &Args, begin: Instant) -> Result<()> {
    let info = w4ax::cuda::build_info()?;
    if args.built_for {
        println!("{}", info.archs);
        return Ok(());
    }
    if args.describe {
        println!(
            "{}",
            serde_json::to_string(&describe::describe(args.device)?)?
        );
        return Ok(());
    }
    let mut output = Output::new(args, begin)?;
    let bench = Bench::new(args)?;
    println!(
        "{}: {:.0} GB/s by copies within the device",
        bench.gpu.name(),
        bench.copy_gb_per_s()
    );
    match args.part {
        Part::Limits => limits::run(&bench, &mut output),
        Part::Decode | Part::Prefill => gemms::run(&bench, args, &mut output),
        Part::Chain => chain::run(&bench, &mut output),
        Part::Routing => routing::run(&bench, &mut output),
    }
}

fn main() -> ExitCode {
    let begin = Instant::now();
    match run(&Args::parse(), begin) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
