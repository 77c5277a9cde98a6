//! The command line of w4ax.

mod calibrate;
mod convert;
#[cfg(feature = "train")]
mod distill;
mod episode;
#[cfg(feature = "candle")]
mod llama_block;
mod sensitivity;
mod serve;
mod skip_episode;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
    Episode(Box<episode::Options>),
    /// Convert a checkpoint to packed weights
    Convert(convert::Args),
    /// Calibrate the dispatcher on recorded episodes (DyQ-VLA IV-B2)
    Calibrate(calibrate::Args),
    /// Correlate the sensitivity of recorded perturbations with motion (DyQ-VLA III)
    Sensitivity(sensitivity::Options),
    /// Compare ways to skip layers on recorded episodes (DySL-VLA)
    SkipEpisode(Box<skip_episode::Options>),
    /// Train adapters and controllers that skip a policy's layers (DySL-VLA)
    #[cfg(feature = "train")]
    Distill(Box<distill::Args>),
    /// Serve the quantized policy over standard input and output, JSON lines
    Serve(Box<serve::Options>),
    /// Time a decoder layer on candle under a recorded episode's widths
    #[cfg(feature = "candle")]
    LlamaBlock(llama_block::Options),
}

impl Command {
    fn run(&self) -> Result<(), Box<dyn std::error::Error>> {
        match self {
            Self::Episode(options) => episode::run(options)?,
            Self::Convert(args) => convert::run(args)?,
            Self::Calibrate(args) => calibrate::run(args)?,
            Self::Sensitivity(options) => sensitivity::run(options)?,
            Self::SkipEpisode(options) => skip_episode::run(options)?,
            #[cfg(feature = "train")]
            Self::Distill(args) => distill::run(args)?,
            Self::Serve(options) => serve::run(options)?,
            #[cfg(feature = "candle")]
            Self::LlamaBlock(options) => llama_block::run(options)?,
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    match Cli::parse().command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
