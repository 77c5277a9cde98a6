//! `w4ax vla`: OpenVLA and OpenVLA-OFT.

mod bench;
mod history;
mod model;
mod names;
mod options;
mod predicted;
mod report;
mod run;
mod width;

use std::error::Error;

pub use model::{Input, InputOptions, load, quantize};

/// A command for vision-language-action models.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Run a model on images and an instruction, and print the action
    ///
    /// Prints the action, the width of prefill and decode and the reason for it, and time and
    /// memory of each part.
    ///
    /// With `--width dynamic`, the default with `--calibration`, the dispatcher decides the width
    /// from the preceding actions: those of `--history`, and with `--steps` those of the preceding
    /// steps. Each of these steps has the same images. Without a preceding action the width is
    /// BF16.
    #[command(after_help = "Examples:
  w4ax vla run --model openvla-7b --image camera.png --instruction 'pick up the cup' \\
    --unnorm-key bridge_orig --width a4
  w4ax vla run --model openvla-7b --image camera.png --instruction 'pick up the cup' \\
    --unnorm-key bridge_orig --calibration calibration.json --history actions.jsonl
  w4ax vla run --model oft-libero --image camera.png wrist.png --instruction 'open the drawer' \\
    --client libero --proprio=-0.1,0,1.2,3.1,0,0,0.03,-0.03 --json step.json")]
    Run(Box<options::Options>),
    /// Measure a model of full size with random weights: memory, and time by part and width
    ///
    /// Needs no checkpoint. OpenVLA-7B takes 3.3 GB of packed weights, and 6 GB in all. Times on
    /// GPUs are those that a static model predicts for the linear layers of the language model, and
    /// are marked so.
    Bench(bench::BenchOptions),
}

impl Command {
    /// Runs the command.
    ///
    /// # Errors
    /// Invalid options, files and inputs.
    pub fn run(&self) -> Result<(), Box<dyn Error>> {
        match self {
            Self::Run(options) => run::run(options),
            Self::Bench(options) => bench::run(options),
        }
    }
}
