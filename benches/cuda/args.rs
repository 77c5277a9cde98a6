//! The command line of the bench.

use clap::{Parser, ValueEnum};

/// What is measured. Each part fits a slot of ten minutes on a data center GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// The bandwidths of memory and L2, and the gap between two launches.
    Limits,
    /// GEMMs of few tokens, one by one.
    Decode,
    /// GEMMs of many tokens, one by one.
    Prefill,
    /// The layers of a decode in one graph.
    Chain,
    /// The cost of routing by the flag.
    Routing,
}

#[derive(Parser)]
#[command(about = "Measures GEMMs on a GPU, next to predictions from bytes and machine code")]
pub struct Args {
    /// What to measure.
    #[arg(value_enum, default_value = "decode")]
    pub part: Part,
    /// Begin nothing that is not expected to end within this many seconds.
    #[arg(long, value_name = "S")]
    pub deadline: Option<f64>,
    /// Decoder layers of a chain and of a step.
    #[arg(long, default_value_t = 32)]
    pub layers: usize,
    /// Print the properties of the device as JSON only.
    #[arg(long)]
    pub describe: bool,
    /// Print the architectures of this build's kernels only.
    #[arg(long)]
    pub built_for: bool,
    /// Write the report to this file as JSON, after every case.
    #[arg(long, value_name = "FILE")]
    pub json: Option<std::path::PathBuf>,
    /// Ordinal of the device.
    #[arg(long, default_value_t = 0)]
    pub device: usize,
    /// Numbers of tokens, in place of those of the part.
    #[arg(long, value_delimiter = ',')]
    pub m: Option<Vec<usize>>,
    /// Measure every family, mode and tile that supports the shape, not only the table's choice.
    #[arg(long)]
    pub all: bool,
    /// Timed replays of each case.
    #[arg(long, default_value_t = 20)]
    pub repeats: usize,
    /// Measure one shape and one grouping only.
    #[arg(long)]
    pub quick: bool,
    /// Passed by cargo to every bench.
    #[arg(long, hide = true)]
    pub bench: bool,
}
