//! Calibrates the dispatcher on recorded episodes: motion scales, thresholds, and what they rest on.
//!
//! `cargo run --release --example calibrate -- --rollouts FILE --d-acc 0.07 --eta 0.05 --out FILE`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use comfy_table::Table;
use w4ax::calibrate::{Report, Settings, calibrate};
use w4ax::dispatch::Action;
use w4ax::{Precision, Result};

#[path = "robot/mod.rs"]
mod robot;

use robot::rollouts::{self, RECORDED, Rollouts, TASKS};

#[derive(Parser)]
#[command(about = "Calibrates the dispatcher on recorded episodes (DyQ-VLA IV-B2)")]
struct Args {
    /// Recorded episodes
    #[arg(long, default_value = RECORDED)]
    rollouts: PathBuf,
    /// Where the actions at each width come from
    #[arg(long, value_enum, default_value_t = Source::Tokens)]
    from: Source,
    /// Error bound, in action units
    #[arg(long, default_value_t = Settings::default().d_acc)]
    d_acc: f64,
    /// Keeps the bound finite at S = 0
    #[arg(long, default_value_t = Settings::default().eta)]
    eta: f64,
    /// The calibration, written whole or not at all
    #[arg(long, default_value = "calibration.json")]
    out: PathBuf,
}

/// Where the actions at each width come from.
#[derive(Clone, Copy, ValueEnum)]
enum Source {
    /// The tokens recorded in the rollouts
    Tokens,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let rollouts = Rollouts::load(&args.rollouts)?;
    rollouts.check_tasks(TASKS.len())?;
    let at_width = match args.from {
        Source::Tokens => recorded(&rollouts),
    };
    let settings = Settings {
        d_acc: args.d_acc,
        eta: args.eta,
        ..Settings::default()
    };
    let report = calibrate(&TASKS, &rollouts.calibration_episodes(&at_width), &settings)?;
    print(&report);
    report.calibration.save(&args.out)?;
    println!("written to {}", args.out.display());
    Ok(())
}

/// `[width][steps]`: the actions of the recorded tokens.
fn recorded(rollouts: &Rollouts) -> [Vec<Action>; 4] {
    Precision::ALL.map(|width| {
        rollouts
            .tokens(width)
            .iter()
            .map(rollouts::action)
            .collect()
    })
}

fn print(report: &Report) {
    let calibration = &report.calibration;
    let mut tasks = Table::new();
    tasks.set_header(["task", "mu_max", "nu_max"]);
    for task in &calibration.tasks {
        let motion = [task.motion.mu_max, task.motion.nu_max].map(|x| format!("{x:.4}"));
        tasks.add_row([&task.name, &motion[0], &motion[1]]);
    }
    println!("{tasks}\n");

    let mut bins = Table::new();
    bins.set_header(["S", "steps", "mean e_2", "mean e_4", "bound"]);
    for bin in report.profile.bins() {
        let bound = calibration.d_acc / ((bin.lower + bin.upper) / 2.0 + calibration.eta);
        bins.add_row([
            format!("[{:.3}, {:.3})", bin.lower, bin.upper),
            bin.rows.to_string(),
            format!("{:.4}", bin.error_2),
            format!("{:.4}", bin.error_4),
            format!("{bound:.4}"),
        ]);
    }
    let below: usize = report.profile.bins().iter().map(|bin| bin.rows).sum();
    let above = report.profile.rows() - below;
    println!(
        "{bins}\n{above} of {} steps have S of theta_fp and more\n",
        report.profile.rows()
    );

    let mut thresholds = Table::new();
    thresholds.set_header(["D_acc", "theta_24", "theta_48", "theta_fp"]);
    for (factor, t) in [0.9, 1.0, 1.1]
        .into_iter()
        .zip(report.conditioning.thresholds)
    {
        let row = [
            factor * calibration.d_acc,
            t.theta_24,
            t.theta_48,
            t.theta_fp,
        ];
        thresholds.add_row(row.map(|x| format!("{x:.4}")));
    }
    println!("{thresholds}");
    let [moved_24, moved_48] = report.conditioning.moves();
    println!("D_acc +-10 % moves theta_24 by up to {moved_24:.3}, theta_48 by up to {moved_48:.3}");
    if let Some(warning) = report.conditioning.warning() {
        println!("warning: {warning}");
    }
}
