//! The policy for a live simulator or robot: JSON lines in, JSON lines out, one for one, unbuffered.
//!
//! `cargo run --release --example policy_server -- --width dynamic|a2|a4|a8|bf16`
//!
//! | in | out |
//! | --- | --- |
//! | `{"reset": true, "task": 0}` | `{"ok": true}` |
//! | `{"obs": [25 raw floats]}` | `{"action": [7 floats], "width": 4, "sensitivity": 0.31, "micros": 120}` |
//!
//! With `--skip FILE`, guided by `--guide ETA,ETA2,P` and `--verify off|paper|first-drop`, an answer to an observation also has
//! `"layers": 7, "reran": false`: how many layers ran, those of a second pass counted, and whether there was one.
//!
//! `sensitivity` is null at a fixed width. A bad line, or an observation before the first reset, gets
//! `{"error": ".."}` and changes nothing. The end of the input ends the server.

mod lines;
mod protocol;
mod session;

use std::io::{BufReader, ErrorKind, Write};
use std::path::PathBuf;

use clap::ValueEnum;
use w4ax::{Error, Result, Width};

use lines::{Line, Lines};
use protocol::{Reply, Request};
use session::Session;
use w4ax_robot::networks::AdapterWeights;
use w4ax_robot::setting::{HALF, Setting, Verification};
use w4ax_robot::setup::Setup;
use w4ax_robot::skipping::Skipping;

/// Serves the quantized policy over standard input and output, JSON lines
#[derive(clap::Args)]
pub struct Options {
    /// The width of a step: by the robot's motion, or always the same
    #[arg(long, value_enum, default_value_t = WidthOption::Dynamic)]
    width: WidthOption,
    /// Skip layers: adapters and controllers of the policy, safetensors, as `distill` writes them
    #[arg(long, value_name = "FILE")]
    skip: Option<PathBuf>,
    /// What the adapters' weights are
    #[arg(long, value_enum, default_value_t = AdapterWeights::Packed, requires = "skip")]
    adapters: AdapterWeights,
    /// How skipping is guided: eta1 and eta, eta2, and the probability above which a controller skips. The default was picked for
    /// the 16-block policy and `skip.safetensors`
    #[arg(long, value_name = "ETA,ETA2,P", default_value_t = HALF, requires = "skip")]
    guide: Setting,
    /// When a step runs again with nothing skipped
    #[arg(long, value_enum, default_value_t = Verification::FirstDrop, requires = "skip")]
    verify: Verification,
    #[command(flatten)]
    setup: Setup,
}

#[derive(Clone, Copy, ValueEnum)]
enum WidthOption {
    Dynamic,
    A2,
    A4,
    A8,
    Bf16,
}

impl WidthOption {
    fn fixed(self) -> Option<Width> {
        match self {
            Self::Dynamic => None,
            Self::A2 => Some(Width::A2),
            Self::A4 => Some(Width::A4),
            Self::A8 => Some(Width::A8),
            Self::Bf16 => Some(Width::Bf16),
        }
    }
}

/// Runs the command.
///
/// # Errors
/// Bad options and files.
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
            Line::Text(line) => Request::parse(line).and_then(|r| session.answer(r)),
            Line::TooLong => Err(format!("a line has more than {} bytes", lines::MAX_LINE)),
        };
        let reply = reply.unwrap_or_else(|error| Reply::Error { error });
        // One write for one line; standard output would split at newlines only, which is the same.
        let written = output.write_all(reply.to_line().as_bytes());
        match written.and_then(|()| output.flush()) {
            Ok(()) => (),
            // Nobody listens any more.
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
