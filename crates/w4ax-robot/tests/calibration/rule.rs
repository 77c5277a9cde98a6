//! The calibration of recorded tokens, and the rejection of invalid input.

use w4ax::Width;
use w4ax::calibrate::{CalibrationReport, CalibrationSettings, Episode, TaskScale, calibrate};

use crate::data;
use w4ax_robot::rollouts::{self, RECORDED, Rollouts, TASKS};

fn recorded() -> Vec<Episode> {
    let rollouts = Rollouts::load(RECORDED).unwrap();
    let actions = |width| {
        rollouts
            .tokens(width)
            .unwrap()
            .iter()
            .map(rollouts::action)
            .collect()
    };
    rollouts.calibration_episodes(&Width::ALL.map(actions))
}

fn expected() -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(data("calibration_expected.json")).unwrap()).unwrap()
}

#[test]
fn recorded_tokens_give_the_expected_calibration() {
    let CalibrationReport {
        calibration,
        profile,
        conditioning,
    } = calibrate(&TASKS, &recorded(), &CalibrationSettings::default()).unwrap();
    let expected = expected();
    let tasks = expected["tasks"].as_object().unwrap();
    assert_eq!(calibration.tasks.len(), tasks.len());
    for TaskScale { name, motion } in &calibration.tasks {
        for (got, field) in [(motion.mu_max, "mu_max"), (motion.nu_max, "nu_max")] {
            let wanted = tasks[name][field].as_f64().unwrap();
            assert!(
                (got - wanted).abs() <= 1e-9,
                "{name} {field}: {got} not {wanted}"
            );
        }
    }
    for (got, field) in [
        (calibration.thresholds.theta_24, "theta_24"),
        (calibration.thresholds.theta_48, "theta_48"),
        (calibration.thresholds.theta_fp, "theta_fp"),
        (calibration.lambda, "lambda"),
        (calibration.window_macro as f64, "window_macro"),
        (calibration.window_micro as f64, "window_micro"),
        (f64::from(calibration.k), "k"),
        (calibration.eta, "eta"),
        (calibration.d_acc, "d_acc"),
    ] {
        assert_eq!(got, expected[field].as_f64().unwrap(), "{field}");
    }
    let by_d_acc = expected["thresholds_by_d_acc"].as_object().unwrap();
    assert_eq!(by_d_acc.len(), 9);
    for (d_acc, wanted) in by_d_acc {
        let got = profile.thresholds(d_acc.parse().unwrap(), calibration.eta);
        let wanted: Vec<f64> = wanted
            .as_array()
            .unwrap()
            .iter()
            .map(|x| x.as_f64().unwrap())
            .collect();
        assert_eq!([got.theta_24, got.theta_48], *wanted, "D_acc {d_acc}");
    }
    assert_eq!(profile.rows(), 1519);
    assert_eq!(
        profile.bins().iter().map(|bin| bin.rows).sum::<usize>(),
        1445
    );
    // A D_acc smaller by 10 % moves theta_24 from .475 to .275.
    assert_eq!(conditioning.ill_conditioned(), [true, false]);
    assert!(
        conditioning
            .warning()
            .unwrap()
            .contains("theta_24 by 0.200")
    );
}

/// An episode with varying translation and rotation. The error grows as the width shrinks.
fn episode(task: usize, steps: usize) -> Episode {
    let action = |t: usize, error: f64| {
        let x = t as f64 * 0.3;
        [
            0.5 + 0.4 * x.sin() + error,
            0.1,
            0.0,
            0.1 * x.cos(),
            0.0,
            0.0,
            1.0,
        ]
    };
    let at = |error: f64| (0..steps).map(|t| action(t, error)).collect();
    Episode {
        task,
        reference: at(0.0),
        at_width: [at(0.3), at(0.04), at(0.01), at(0.0)],
    }
}

#[test]
fn rejects_degenerate_input() {
    let settings = CalibrationSettings::default();
    let good = || vec![episode(0, 200), episode(1, 200)];
    let run = |tasks: &[&str], episodes: &[Episode], settings: &CalibrationSettings| {
        calibrate(tasks, episodes, settings)
            .map(|_| ())
            .map_err(|e| e.to_string())
    };
    let rejected = |change: &dyn Fn(&mut Vec<Episode>), expected: &str| {
        let mut episodes = good();
        change(&mut episodes);
        let error = run(&["a", "b"], &episodes, &settings).unwrap_err();
        assert!(error.contains(expected), "{error}");
    };
    assert_eq!(run(&["a", "b"], &good(), &settings), Ok(()));
    rejected(&|e| e.clear(), "episodes has no episode of task `a`");
    rejected(&|e| drop(e.pop()), "episodes has no episode of task `b`");
    rejected(&|e| e[1].task = 2, "2 of 2 tasks");
    rejected(
        &|e| e[0].at_width[1].clear(),
        "W4A4 actions of an episode has shape [0]: expected [200]",
    );
    rejected(
        &|e| e[0].at_width[0].truncate(199),
        "W4A2 actions of an episode has shape [199]: expected [200]",
    );
    rejected(
        &|e| e[1].reference.clear(),
        "unquantized actions of an episode has shape [0]: expected [1]",
    );
    rejected(
        &|e| e[0].at_width[2][3][5] = f64::NAN,
        "element 26 of W4A8 actions of an episode is NaN",
    );
    rejected(
        &|e| e[1].reference[0][0] = f64::INFINITY,
        "element 0 of unquantized actions of an episode is inf",
    );
    let without_motion =
        |e: &mut Episode| e.at_width.iter_mut().flatten().for_each(|a| *a = [0.0; 7]);
    rejected(
        &|e| without_motion(&mut e[1]),
        "mu_max of task `b` is 0 or not finite",
    );
    let without_rotation =
        |e: &mut Episode| e.at_width.iter_mut().flatten().for_each(|a| a[3] = 0.0);
    rejected(
        &|e| without_rotation(&mut e[0]),
        "nu_max of task `a` is 0 or not finite",
    );
    rejected(&|e| e[0] = episode(0, 1), "nu_max of task `a`");
    rejected(
        &|e| {
            e.iter_mut()
                .flat_map(|e| e.at_width[1].iter_mut())
                .for_each(|a| a[0] = f64::MAX)
        },
        "mu_max of task `a`",
    );
    rejected(
        &|e| *e = vec![episode(0, 3), episode(1, 3)],
        "episodes has 6 steps: expected a bin",
    );
    let error = run(&[], &[], &settings).unwrap_err();
    assert!(error.contains("tasks is empty"), "{error}");
    let error = run(&["a", "a"], &good(), &settings).unwrap_err();
    assert!(error.contains("tasks has `a` twice"), "{error}");

    let bad = |settings: CalibrationSettings, field: &str| {
        let error = run(&["a", "b"], &good(), &settings).unwrap_err();
        assert!(error.contains(field), "{error}");
    };
    for x in [f64::NAN, f64::INFINITY, -1.0] {
        bad(settings.with_d_acc(x), "d_acc");
        bad(settings.with_eta(x), "eta");
        bad(settings.with_theta_fp(x), "theta_fp");
        bad(settings.with_lambda(x), "lambda");
    }
    bad(settings.with_d_acc(0.0), "d_acc");
    bad(settings.with_theta_fp(0.0), "theta_fp");
    bad(settings.with_k(0), "k");
    bad(settings.with_window_macro(0), "window_macro");
    bad(settings.with_window_micro(257), "window_micro");
}
