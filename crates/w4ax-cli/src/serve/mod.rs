//! `w4ax serve`: the policy for a live simulator or robot, by JSON lines. Each line in has one line
//! out, which is not buffered.
//!
//! | in | out |
//! | --- | --- |
//! | `{"reset": true, "task": 0}` | `{"ok": true}` |
//! | `{"obs": [25 raw floats]}` | `{"action": [7 floats], "width": 4, "sensitivity": 0.31, "micros": 120}` |
//!
//! With `--skip FILE`, guided by `--guide ETA,ETA2,P` and `--verify off|paper|first-drop`, the
//! reply to an observation also has `"layers": 7, "reran": false`: the number of layers that ran,
//! those of a second pass included, and whether there was a second pass.
//!
//! `sensitivity` is null at a fixed width. A bad line, or an observation before the first reset,
//! gets `{"error": ".."}` and changes nothing. The end of the input ends the server.

mod lines;
mod protocol;
mod session;

use std::io::{BufReader, ErrorKind, Write};
use std::path::PathBuf;

use w4ax::{Error, Result};

use crate::width::WidthOption;

use lines::{Line, Lines};
use protocol::{Reply, Request};
use session::Session;
use w4ax_robot::networks::AdapterWeights;
use w4ax_robot::setting::{HALF, Setting, Verification};
use w4ax_robot::setup::Setup;
use w4ax_robot::skipping::Skipping;

/// Serve the quantized policy over standard input and output, JSON lines
#[derive(clap::Args)]
pub struct Options {
    /// Width of a step: decided by the robot's motion, or fixed
    #[arg(long, value_enum, default_value_t = WidthOption::Dynamic)]
    width: WidthOption,
    /// Skip layers with the adapters and controllers of this file, safetensors, as `distill` writes
    /// it
    #[arg(long, value_name = "FILE")]
    skip: Option<PathBuf>,
    /// Type of the adapters' weights
    #[arg(long, value_enum, default_value_t = AdapterWeights::Packed, requires = "skip")]
    adapters: AdapterWeights,
    /// Guide of the skips: eta1 and eta, eta2, and the probability above which a controller skips.
    /// The default is for the 16-block policy and `skip.safetensors`
    #[arg(long, value_name = "ETA,ETA2,P", default_value_t = HALF, requires = "skip")]
    guide: Setting,
    /// When a step runs again with nothing skipped
    #[arg(long, value_enum, default_value_t = Verification::FirstDrop, requires = "skip")]
    verify: Verification,
    #[command(flatten)]
    setup: Setup,
}

/// Runs the command.
///
/// # Errors
/// Invalid options and files. Errors of standard input and output.
pub fn run(options: &Options) -> Result<()> {
    options.setup.in_pool(|| serve(options))
}

fn serve(options: &Options) -> Result<()> {
    let robot = options.setup.load()?;
    let skipping = match &options.skip {
        Some(path) => {
            let config = options.guide.config(options.verify);
            let policy = &robot.policy;
            Some(Skipping::load(path, policy, options.adapters, &config)?)
        }
        None => None,
    };
    let mut session = Session::new(robot, options.width.fixed(), skipping);
    let mut lines = Lines::new(BufReader::new(std::io::stdin()));
    let mut output = std::io::stdout();
    loop {
        let line = match lines.next_line() {
            Ok(Some(line)) => line,
            Ok(None) => return Ok(()),
            Err(error) => return Err(io("standard input", error)),
        };
        let reply = match line {
            Line::Text(line) => Request::parse(line).and_then(|r| session.handle(r)),
            Line::TooLong => Err(format!(
                "the line is too long: expected at most {} bytes",
                lines::MAX_LINE
            )),
        };
        let reply = reply.unwrap_or_else(|error| Reply::Error { error });
        // A single write per line.
        let written = output.write_all(reply.to_line().as_bytes());
        match written.and_then(|()| output.flush()) {
            Ok(()) => (),
            // The reader has closed its end.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(io("standard output", error)),
        }
    }
}

fn io(file: &str, source: std::io::Error) -> Error {
    Error::Io {
        file: file.into(),
        source,
    }
}
