//! The tables of `w4ax calibrate`.

use w4ax::Width;
use w4ax::calibrate::{CalibrationReport, FloorPath};
use w4ax::dispatch::{LayerFloors, Thresholds};

use w4ax_robot::budget::{Candidate, Interval, Intervals, ReplayControls};
use w4ax_robot::table::table;

/// Prints the report of a calibration.
pub fn print(report: &CalibrationReport) {
    let calibration = &report.calibration;
    let tasks = calibration.tasks.iter().map(|task| {
        let motion = [task.motion.mu_max, task.motion.nu_max].map(|x| format!("{x:.4}"));
        [vec![task.name.clone()], motion.to_vec()].concat()
    });
    println!("{}\n", table(&["task", "mu_max", "nu_max"], tasks));

    let bins = report.profile.bins();
    let rows = bins.iter().map(|bin| {
        let bound = calibration.d_acc / ((bin.lower + bin.upper) / 2.0 + calibration.eta);
        let errors = [bin.error_2, bin.error_4, bin.error_8, bound].map(|x| format!("{x:.4}"));
        let range = format!("[{:.3}, {:.3})", bin.lower, bin.upper);
        [vec![range, bin.rows.to_string()], errors.to_vec()].concat()
    });
    println!(
        "{}",
        table(
            &["S", "steps", "mean e_2", "mean e_4", "mean e_8", "bound"],
            rows
        )
    );
    let below: usize = bins.iter().map(|bin| bin.rows).sum();
    let (all, above) = (report.profile.rows(), report.profile.rows() - below);
    println!("{above} of {all} steps have S of theta_fp and more\n");

    let tried = [0.9, 1.0, 1.1]
        .into_iter()
        .zip(report.conditioning.thresholds);
    let rows = tried.map(|(factor, t)| {
        let d_acc = factor * calibration.d_acc;
        [d_acc, t.theta_24, t.theta_48, t.theta_fp]
            .map(|x| format!("{x:.4}"))
            .to_vec()
    });
    println!(
        "{}",
        table(&["D_acc", "theta_24", "theta_48", "theta_fp"], rows)
    );
    let theta_8 = report.profile.theta_8(calibration.d_acc, calibration.eta);
    let theta_fp = calibration.thresholds.theta_fp;
    match theta_8 < theta_fp {
        true => println!("e_8 exceeds the bound from S of {theta_8:.4} on, below theta_fp"),
        false => println!("e_8 is within the bound up to theta_fp"),
    }
    let [moved_24, moved_48] = report.conditioning.moves();
    println!("D_acc +-10 % moves theta_24 by up to {moved_24:.3}, theta_48 by up to {moved_48:.3}");
    if let Some(warning) = report.conditioning.warning() {
        println!("warning: {warning}");
    }
}

/// Prints the errors of widths, and those with block 0 at the next wider width.
pub fn print_first_block(rows: &[(Width, f64, Width, f64)]) {
    let rows = rows.iter().map(|&(width, error, floor, with)| {
        vec![
            width.to_string(),
            format!("{error:.4}"),
            floor.to_string(),
            format!("{with:.4}"),
        ]
    });
    println!("\nMean action error of the policy, and with block 0 at a wider width:");
    println!(
        "{}",
        table(&["width", "error", "block 0 at", "error"], rows)
    );
}

/// Prints the order in which layers lose the high width, and the floors that were chosen.
pub fn print_floor_path(path: &FloorPath, floors: &LayerFloors) {
    let mut saved = 0.0;
    let rows = path.lowerings.iter().map(|lowering| {
        saved += lowering.saved;
        let kept = floors.as_slice()[lowering.layer] > Width::A2;
        vec![
            lowering.layer.to_string(),
            format!("{:.4}", lowering.error),
            format!("{saved:.4}"),
            if kept { "floor" } else { "" }.into(),
        ]
    });
    println!(
        "\nLayers in the order in which they lose the high width (error {:.4} before):",
        path.error_high
    );
    println!("{}", table(&["layer", "error", "saved", ""], rows));
}

/// Prints candidates with what they must beat. The chosen one is marked.
pub fn print_candidates(rows: &[(bool, &Candidate, Intervals, ReplayControls)], low: Width) {
    let rows = rows.iter().map(|(chosen, candidate, intervals, controls)| {
        let replay = &candidate.replay;
        let thresholds = candidate.thresholds.map(
            |Thresholds {
                 theta_24,
                 theta_48,
                 theta_fp,
             }| format!("{theta_24:.3} {theta_48:.3} {theta_fp:.3}"),
        );
        let fixed = controls.fixed.as_ref();
        vec![
            if *chosen { "chosen" } else { "" }.into(),
            format!("{:.4}", candidate.d_acc),
            thresholds.unwrap_or_default(),
            with_interval(replay.mean_error(), intervals.error, 1.0, 4),
            with_interval(replay.mean_cost(), intervals.cost, 1.0, 3),
            with_interval(replay.share(low), intervals.share, 100.0, 1),
            with_interval(replay.rerun_share(), intervals.reruns, 100.0, 1),
            format!("{:.4} +- {:.4}", controls.random, controls.random_std),
            fixed.map_or_else(String::new, |choice| {
                format!("{} {:.4} at {:.3}", choice.name, choice.error, choice.cost)
            }),
        ]
    });
    let share = format!("% at {low}");
    let header = [
        "",
        "D_acc",
        "theta",
        "error",
        "cost",
        &share,
        "% twice",
        "random at that cost",
        "best fixed within it",
    ];
    println!("{}", table(&header, rows));
}

fn with_interval(value: f64, interval: Interval, scale: f64, decimals: usize) -> String {
    let [value, lower, upper] = [value, interval.lower, interval.upper].map(|x| x * scale);
    format!("{value:.decimals$} [{lower:.decimals$}, {upper:.decimals$}]")
}
