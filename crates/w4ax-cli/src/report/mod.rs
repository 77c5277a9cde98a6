//! `w4ax report`: the tables and figures of DyQ-VLA (arXiv 2603.07904) at the scale of this
//! repository, one command each.

mod fig2;
mod fig3;
mod fig7;
mod options;
mod table1;
mod table3;
mod table4;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::Serialize;
use w4ax::Result;
use w4ax_robot::draw;
use w4ax_robot::paths::PICTURES;
use w4ax_robot::report::to_json;

/// The tables and figures.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Methods side by side: action error, success in closed loop, time, bytes, cost
    #[command(after_help = "Examples:
  w4ax report table1
  w4ax report table1 --closed-loop target/closed-loop/main.json --costs costs.json")]
    Table1(Box<table1::Options>),

    /// The parts of the system, one after the other, each with its error and latency
    #[command(after_help = "Examples:
  w4ax report table3
  w4ax report table3 --hidden 1024 --steps 64 --json table3.json")]
    Table3(Box<table3::Options>),

    /// Time and memory of each part of a decision
    #[command(after_help = "Examples:
  w4ax report table4 --json table4.json")]
    Table4(Box<table4::Options>),

    /// Success and terminal deviation against the action error of one perturbed step
    #[command(after_help = "Examples:
  w4ax report fig2
  w4ax report fig2 --perturb target/closed-loop/main.perturb.csv --json fig2.json")]
    Fig2(fig2::Options),

    /// Sensitivity s_t, M and J over normalized time
    #[command(after_help = "Examples:
  w4ax report fig3
  w4ax report fig3 --perturb main.perturb.csv --nominal main.nominal.csv")]
    Fig3(fig3::Options),

    /// theta_fp swept from 0 to 1, beside random widths at equal shares
    #[command(after_help = "Examples:
  w4ax report fig7
  w4ax report fig7 --costs costs.json --json fig7.json")]
    Fig7(Box<fig7::Options>),
}

impl Command {
    /// Runs the command.
    ///
    /// # Errors
    /// Invalid options and files.
    pub fn run(&self) -> Result<()> {
        match self {
            Self::Table1(options) => options.recorded.setup.in_pool(|| table1::run(options)),
            Self::Table3(options) => options.recorded.setup.in_pool(|| table3::run(options)),
            Self::Table4(options) => options.recorded.setup.in_pool(|| table4::run(options)),
            Self::Fig2(options) => fig2::run(options),
            Self::Fig3(options) => fig3::run(options),
            Self::Fig7(options) => options.recorded.setup.in_pool(|| fig7::run(options)),
        }
    }
}

/// The files of a report.
#[derive(clap::Args, Clone, Debug)]
pub struct Output {
    /// The picture, SVG [default: target/report-NAME.svg in the workspace]
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// The figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Output {
    /// Writes the picture and the JSON of a report, and prints their paths.
    ///
    /// # Errors
    /// As [`draw::place`] and those of `picture`.
    fn write(
        &self,
        name: &str,
        report: &impl Serialize,
        picture: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        let default = format!("{PICTURES}/report-{name}.svg");
        let path = draw::place(self.plot.as_deref(), &default)?;
        picture(&path)?;
        println!("\npicture: {}", path.display());
        if let Some(path) = &self.json {
            w4ax::file::write_atomically(path, to_json(report).as_bytes())?;
            println!("results: {}", path.display());
        }
        Ok(())
    }
}
