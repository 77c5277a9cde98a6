//! The figures, computed a second time from the files.

use std::collections::HashMap;
use std::process::Command;

use serde_json::Value;
use w4ax::Width;
use w4ax::calibrate::Calibration;
use w4ax_robot::report::fixed::FixedWidths;
use w4ax_robot::report::sweep::{SHUFFLES, control};
use w4ax_robot::rollouts::{RECORDED, Rollouts};
use w4ax_robot::setup::default_calibration;

use crate::{DATA, csv, near, number, report};

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() % 2 {
        0 => f64::midpoint(values[half - 1], values[half]),
        _ => values[half],
    }
}

#[test]
fn bins_of_fig2_match_the_csv() {
    let folder = tempfile::tempdir().unwrap();
    let (printed, json, svg) = report(folder.path(), "fig2", &[]);
    let (rows, column) = csv("perturb.csv");
    let [mode, error, deviation, success] = ["mode", "e_t", "D_eef", "success"].map(column);
    let mut counted = 0;
    for series in json["series"].as_array().unwrap() {
        for bin in series["bins"].as_array().unwrap() {
            let (from, to) = (number(bin, "/from"), bin["to"].as_f64());
            let here: Vec<_> = rows
                .iter()
                .filter(|row| {
                    let e: f64 = row[error].parse().unwrap();
                    series["mode"] == row[mode] && e >= from && to.is_none_or(|to| e < to)
                })
                .collect();
            let succeeded = here.iter().filter(|row| row[success] == "1").count();
            assert_eq!(bin["rows"], here.len());
            assert_eq!(bin["succeeded"], succeeded);
            let mut deviations: Vec<f64> = here
                .iter()
                .map(|row| row[deviation].parse().unwrap())
                .collect();
            near(number(bin, "/deviation/median"), median(&mut deviations));
            // The ends of Wilson's interval are the shares from which the observed one is z
            // standard deviations away.
            let (n, share) = (here.len() as f64, succeeded as f64 / here.len() as f64);
            for end in ["/interval/0", "/interval/1"] {
                let p = number(bin, end);
                let apart = 1.959_963_984_540_054 * (p * (1.0 - p) / n).sqrt();
                near((share - p).abs(), apart);
            }
            counted += here.len();
        }
    }
    assert_eq!(counted, rows.len());
    for part in ["bc: the policy goes on", "success, 95 % (Wilson)", "D_eef"] {
        assert!(svg.contains(part), "`{part}` is not in the picture");
    }
    assert!(printed.contains("from 1"), "{printed}");
}

#[test]
fn files_of_fig2_are_series_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(format!("{DATA}/perturb.csv")).unwrap();
    let lines: Vec<&str> = text.lines().take(4).collect();
    std::fs::write(folder.path().join("new.csv"), lines.join("\n")).unwrap();
    let old = format!("{DATA}/perturb.csv");
    let (printed, json, _) = report(
        folder.path(),
        "fig2",
        &["--perturb", &old, "--perturb", "new.csv"],
    );
    let series = json["series"].as_array().unwrap();
    assert_eq!(series.len(), 4, "three modes and one");
    assert_eq!(series[3]["file"], "new.csv");
    let rows = series[3]["bins"].as_array().unwrap().iter();
    assert_eq!(
        rows.map(|bin| bin["rows"].as_u64().unwrap()).sum::<u64>(),
        3
    );
    assert!(printed.contains("bc, new.csv"), "{printed}");
}

/// M is the mean over up to ten actions of `1 - |v| / mu_max`.
#[test]
fn parts_of_fig3_match_the_csv() {
    let folder = tempfile::tempdir().unwrap();
    let (printed, json, svg) = report(folder.path(), "fig3", &[]);
    let calibration = Calibration::load(format!("{DATA}/calibration.json")).unwrap();
    let (rows, column) = csv("nominal_actions.csv");
    let [mode, task, episode] = ["mode", "task", "episode"].map(&column);
    let xyz = ["a0", "a1", "a2"].map(column);
    let mut episodes: HashMap<[&str; 3], Vec<f64>> = HashMap::new();
    for row in &rows {
        let speed = xyz.map(|at| row[at].parse::<f64>().unwrap().powi(2));
        let config = calibration.dispatch_config(&row[task]).unwrap();
        let m = 1.0 - speed.iter().sum::<f64>().sqrt() / config.motion().mu_max;
        let key = [mode, task, episode].map(|at| row[at].as_str());
        episodes.entry(key).or_default().push(m);
    }
    let (steps, column) = csv("perturb.csv");
    let [t, last, error, deviation] = ["t", "T_nom", "e_t", "D_eef"].map(&column);
    let of_mode = column("mode");
    for course in json["courses"].as_array().unwrap() {
        let of = course["mode"].as_str().unwrap();
        for at in 0..20 {
            let mut means = Vec::new();
            for (_, m) in episodes.iter().filter(|(key, _)| key[0] == of) {
                for step in (0..m.len()).filter(|step| step * 20 / m.len() == at) {
                    let window = &m[step.saturating_sub(9)..=step];
                    means.push(window.iter().sum::<f64>() / window.len() as f64);
                }
            }
            assert_eq!(course["m"][at]["count"], means.len());
            near(
                number(course, &format!("/m/{at}/mean")),
                means.iter().sum::<f64>() / means.len() as f64,
            );
            let mut values = Vec::new();
            for row in steps.iter().filter(|row| row[of_mode] == of) {
                let figure = |at: usize| row[at].parse::<f64>().unwrap();
                let part = (figure(t) / (figure(last) + 1.0) * 20.0) as usize;
                if part == at && figure(error) > 0.0 {
                    values.push(figure(deviation) / figure(error));
                }
            }
            match values.len() {
                0 => assert_eq!(course["sensitivity"][at], Value::Null),
                n => {
                    assert_eq!(course["sensitivity"][at]["count"], n);
                    let mean = values.iter().sum::<f64>() / n as f64;
                    near(number(course, &format!("/sensitivity/{at}/mean")), mean);
                }
            }
        }
    }
    assert!(printed.contains("the paper has .90 and .87"), "{printed}");
    for part in [
        "normalized time",
        "M and J as ol",
        "J, mean of the micro window",
    ] {
        assert!(svg.contains(part), "`{part}` is not in the picture");
    }
}

#[test]
fn fig7_has_the_runs_of_episode() {
    let folder = tempfile::tempdir().unwrap();
    let (printed, json, svg) = report(folder.path(), "fig7", &[]);
    let episode = folder.path().join("episode.json");
    let output = Command::new(env!("CARGO_BIN_EXE_w4ax"))
        .args(["episode", "--plot", "episode.svg", "--json", "episode.json"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success());
    let episode: Value = serde_json::from_slice(&std::fs::read(episode).unwrap()).unwrap();

    let points = json["points"].as_array().unwrap();
    assert_eq!(points.len(), 21);
    let at = |theta: f64| {
        let mut points = points.iter();
        points
            .find(|p| (number(p, "/theta_fp") - theta).abs() < 1e-9)
            .unwrap()
    };
    let calibrated = at(number(&json, "/calibrated"));
    near(
        number(calibrated, "/mean_action_error"),
        number(&episode, "/dynamic/mean_action_error"),
    );
    let mut bits = 0.0;
    for (name, width) in [("a2", 2), ("a4", 4), ("a8", 8), ("bf16", 16)] {
        let share = number(calibrated, &format!("/share/{name}"));
        near(share, number(&episode, &format!("/dynamic/share/{width}")));
        bits += share * f64::from(width);
        near(
            number(&json, &format!("/static/{name}")),
            number(&episode, &format!("/static/{name}/mean_action_error")),
        );
    }
    near(number(calibrated, "/cost"), bits);
    // Only S = 0 is not above 0.
    near(
        number(at(0.0), "/mean_action_error"),
        number(&json, "/static/bf16"),
    );
    assert!(number(at(1.0), "/share/bf16") < number(at(0.25), "/share/bf16"));
    assert!(printed.contains("random widths"), "{printed}");
    for part in ["theta_fp", "share of steps", "static A4"] {
        assert!(svg.contains(part), "`{part}` is not in the picture");
    }
}

/// A random order keeps the shares of each task, so the expected error of a step is the mean over
/// the widths of its task.
#[test]
fn control_has_the_expected_error_of_random_widths() {
    let rollouts = Rollouts::load(RECORDED).unwrap();
    let mut policy = crate::tables::policy();
    let fixed = FixedWidths::run(&mut policy, &rollouts).unwrap();
    // The shares differ between the tasks.
    let width = |row: usize| match (rollouts.task[row] % 2, row % 2) {
        (0, 0) => Width::A2,
        (0, _) => Width::A4,
        _ => Width::Bf16,
    };
    let widths: Vec<Width> = (0..rollouts.len()).map(width).collect();
    let mut expected = 0.0;
    for row in 0..rollouts.len() {
        let same = (0..rollouts.len()).filter(|&other| rollouts.task[other] == rollouts.task[row]);
        let errors: Vec<f64> = same.map(|other| fixed.error(row, widths[other])).collect();
        expected += errors.iter().sum::<f64>() / errors.len() as f64;
    }
    expected /= rollouts.len() as f64;
    let [mean, std] = control(&fixed, &rollouts, &widths, 0);
    assert!(std > 0.0);
    let apart = (mean - expected).abs();
    assert!(
        apart < 5.0 * std / (SHUFFLES as f64).sqrt(),
        "{mean}: expected {expected}"
    );
}

#[test]
fn costs_remove_dominated_widths() {
    let folder = tempfile::tempdir().unwrap();
    let costs = r#"{"a2": 7.2, "a4": 7.2, "a8": 8.5, "bf16": 12.1}"#;
    std::fs::write(folder.path().join("costs.json"), costs).unwrap();
    let (printed, json, _) = report(folder.path(), "fig7", &["--costs", "costs.json"]);
    assert!(printed.contains("cost: costs.json"), "{printed}");
    for point in json["points"].as_array().unwrap() {
        assert_eq!(number(point, "/share/a2"), 0.0);
        let cost: f64 = [("a4", 7.2), ("a8", 8.5), ("bf16", 12.1)]
            .map(|(name, cost)| cost * number(point, &format!("/share/{name}")))
            .iter()
            .sum();
        near(number(point, "/cost"), cost);
    }
    let default = default_calibration(w4ax_robot::paths::POLICY);
    let calibration = Calibration::load(default).unwrap();
    near(
        number(&json, "/calibrated"),
        calibration
            .dispatch_config("Lift")
            .unwrap()
            .thresholds()
            .theta_fp,
    );
}
