//! Calibration on the recorded tokens, its file format, and what it refuses.

#[path = "support/example.rs"]
mod example;
#[path = "../examples/robot/mod.rs"]
mod robot;

use std::path::PathBuf;

use proptest::prelude::*;
use robot::rollouts::{self, RECORDED, Rollouts, TASKS};
use safetensors::tensor::{Dtype, TensorView, serialize};
use w4ax::calibrate::{Calibration, Episode, Report, Settings, TaskScale, calibrate};
use w4ax::dispatch::{Algorithm, MotionScale, Thresholds};
use w4ax::{Error, Precision};

fn data(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/robot")).join(name)
}

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
    rollouts.calibration_episodes(&Precision::ALL.map(actions))
}

fn expected() -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(data("calibration_expected.json")).unwrap()).unwrap()
}

#[test]
fn the_recorded_tokens_give_the_expected_calibration() {
    let Report {
        calibration,
        profile,
        conditioning,
    } = calibrate(&TASKS, &recorded(), &Settings::default()).unwrap();
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
    // A tenth less D_acc moves theta_24 from .475 to .275.
    assert_eq!(conditioning.ill_conditioned(), [true, false]);
    assert!(
        conditioning
            .warning()
            .unwrap()
            .contains("theta_24 by 0.200")
    );
}

#[test]
fn the_files_load_and_come_back_bit_for_bit() {
    let expected = Calibration::load(data("calibration_expected.json")).unwrap();
    let calibration = Calibration::load(data("calibration.json")).unwrap();
    for c in [&expected, &calibration] {
        let names: Vec<&str> = c.tasks.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, TASKS, "in file order");
        assert_eq!(
            Calibration::from_json(c.to_json().unwrap().as_bytes(), "again").unwrap(),
            *c
        );
    }
    // Literals of this test, as the compiler rounds them: decimal and binary agree to the last bit.
    assert_eq!(expected.thresholds.theta_24, 0.47500000000000003);
    let config = calibration.dispatch_config("Stack").unwrap();
    assert_eq!(
        config.motion,
        MotionScale {
            mu_max: 0.8666307032108307,
            nu_max: 0.3652358889579762
        }
    );
    let thresholds = Thresholds {
        theta_24: 0.275,
        theta_48: 0.5,
        theta_fp: 0.5,
    };
    assert_eq!(
        (config.thresholds, config.k, config.lambda),
        (thresholds, 4, 0.5)
    );
    assert_eq!((config.window_macro, config.window_micro), (10, 5));
    assert_eq!(config.algorithm, Algorithm::SaturatingCounter);
    let error = calibration
        .dispatch_config("Juggle")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("`Juggle`") && error.contains("Lift"),
        "{error}"
    );
}

#[test]
fn saving_replaces_the_file_and_leaves_nothing_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.json");
    let calibration = Calibration::load(data("calibration.json")).unwrap();
    std::fs::write(&path, "old").unwrap();
    calibration.save(&path).unwrap();
    assert_eq!(Calibration::load(&path).unwrap(), calibration);
    let bad = Calibration {
        d_acc: f64::NAN,
        ..calibration.clone()
    };
    assert!(matches!(
        bad.save(&path),
        Err(Error::Config { field: "d_acc", .. })
    ));
    assert_eq!(
        Calibration::load(&path).unwrap(),
        calibration,
        "the file is as it was"
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    for unwritable in [
        folder.path().join("no/c.json"),
        folder.path().to_owned(),
        PathBuf::from("/"),
    ] {
        assert!(
            matches!(calibration.save(&unwritable), Err(Error::Io { .. })),
            "{unwritable:?}"
        );
    }
    assert!(matches!(
        Calibration::load(folder.path().join("no")),
        Err(Error::Io { .. })
    ));
}

/// A valid file with one replacement.
fn with(from: &str, to: &str) -> Result<Calibration, String> {
    let json = std::fs::read_to_string(data("calibration.json")).unwrap();
    assert!(json.contains(from), "{from}");
    match Calibration::from_json(json.replacen(from, to, 1).as_bytes(), "c.json") {
        Ok(calibration) => Ok(calibration),
        Err(Error::Format { file, reason }) => {
            assert_eq!(file, "c.json");
            Err(reason)
        }
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_file_that_is_wrong_is_refused_by_field() {
    for (from, to, says) in [
        (
            "\"format\": 1",
            "\"format\": 2",
            "`format` is 2, this version reads 1",
        ),
        (
            "\"format\": 1",
            "\"format\": \"1\"",
            "`format`: invalid type: string \"1\", expected u32",
        ),
        ("\"format\": 1,", "", "missing field `format`"),
        ("\"k\": 4", "\"k\": 0", "`k` is 0"),
        (
            "\"k\": 4",
            "\"k\": 4.5",
            "`k`: invalid type: floating point `4.5`, expected u32",
        ),
        (
            "\"k\": 4",
            "\"k\": -1",
            "`k`: invalid value: integer `-1`, expected u32",
        ),
        (
            "\"k\": 4",
            "\"k\": 4294967296",
            "`k`: invalid value: integer `4294967296`, expected u32",
        ),
        ("\"k\": 4", "\"k\": 4, \"k\": 4", "duplicate field `k`"),
        (
            "\"k\": 4",
            "\"k\": [4]",
            "`k`: invalid type: sequence, expected u32",
        ),
        (
            "\"window_macro\": 10",
            "\"window_macro\": 257",
            "`window_macro` is 257, it must be in 1..=256",
        ),
        (
            "\"window_micro\": 5",
            "\"window_micro\": 0",
            "`window_micro` is 0",
        ),
        ("\"lambda\": 0.5", "\"lambda\": 1.5", "`lambda` is 1.5"),
        (
            "\"lambda\": 0.5",
            "\"lambda\": null",
            "`lambda`: invalid type: null, expected f64",
        ),
        (
            "\"lambda\": 0.5",
            "\"lambda\": NaN",
            "expected value at line 3",
        ),
        (
            "\"lambda\": 0.5",
            "\"lambda\": 1e999",
            "number out of range at line 3",
        ),
        (
            "\"theta_24\": 0.275",
            "\"theta_24\": 0.6",
            "`theta_48` is 0.5, it must be at least theta_24 (0.6)",
        ),
        (
            "\"theta_24\": 0.275",
            "\"theta_24\": -0.1",
            "`theta_24` is -0.1",
        ),
        (
            "\"theta_fp\": 0.5",
            "\"theta_fp\": 0.4",
            "`theta_fp` is 0.4",
        ),
        (" \"theta_48\": 0.5,", "", "missing field `theta_48`"),
        ("\"eta\": 0.05", "\"eta\": -1", "`eta` is -1"),
        ("\"d_acc\": 0.07", "\"d_acc\": 0", "`d_acc` is 0"),
        (
            "\"mu_max\": 0.8858154773712157",
            "\"mu_max\": 0",
            "`mu_max` of task `Lift` is 0",
        ),
        (
            "\"mu_max\": 0.8858154773712157",
            "\"mu_max\": true",
            "`tasks.Lift.mu_max`: invalid type: boolean `true`, expected f64",
        ),
        (
            "\"mu_max\"",
            "\"mu\"",
            "`tasks.Lift`: missing field `mu_max`",
        ),
        ("\"Stack\"", "\"Lift\"", "`tasks` hold `Lift` twice"),
        (
            "\"tasks\": {",
            "\"tasks\": {}, \"was\": {",
            "`tasks` are none",
        ),
        (
            "\"tasks\": {",
            "\"tasks\": 1, \"was\": {",
            "`tasks`: invalid type: integer `1`, expected an object",
        ),
        ("\n}", "\n}}", "trailing characters"),
    ] {
        let reason = with(from, to).expect_err(to);
        assert!(reason.contains(says), "{to}: {reason}");
    }
    assert!(
        with(
            "\"k\": 4",
            "\"k\": 9, \"note\": [1, {\"a\": null}], \"more\": {\"k\": 1}"
        )
        .is_ok_and(|c| c.k == 9)
    );
    for junk in ["", "[]", "3", "null", "{", "\u{feff}{}"] {
        assert!(
            matches!(
                Calibration::from_json(junk.as_bytes(), "x"),
                Err(Error::Format { .. })
            ),
            "{junk:?}"
        );
    }
    let deep = "[".repeat(100_000);
    assert!(Calibration::from_json(deep.as_bytes(), "x").is_err());
    let deep = "{\"a\":".repeat(100_000);
    assert!(Calibration::from_json(deep.as_bytes(), "x").is_err());
}

/// An episode that moves: its speed and turning vary, and narrower widths err more.
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
fn degenerate_input_is_refused() {
    let settings = Settings::default();
    let good = || vec![episode(0, 200), episode(1, 200)];
    let run = |tasks: &[&str], episodes: &[Episode], settings: &Settings| {
        calibrate(tasks, episodes, settings)
            .map(|_| ())
            .map_err(|e| e.to_string())
    };
    let refused = |change: &dyn Fn(&mut Vec<Episode>), says: &str| {
        let mut episodes = good();
        change(&mut episodes);
        let error = run(&["a", "b"], &episodes, &settings).unwrap_err();
        assert!(error.contains(says), "{error}");
    };
    assert_eq!(run(&["a", "b"], &good(), &settings), Ok(()));
    refused(&|e| e.clear(), "episodes hold none of task `a`");
    refused(&|e| drop(e.pop()), "episodes hold none of task `b`");
    refused(&|e| e[1].task = 2, "2 of 2 tasks");
    refused(
        &|e| e[0].at_width[1].clear(),
        "W4A4 actions of an episode: expected 200 actions, one a step, got 0",
    );
    refused(
        &|e| e[0].at_width[0].truncate(199),
        "W4A2 actions of an episode: expected 200 actions",
    );
    refused(
        &|e| e[1].reference.clear(),
        "unquantised actions of an episode: expected 1 actions",
    );
    refused(
        &|e| e[0].at_width[2][3][5] = f64::NAN,
        "W4A8 actions of an episode: element 26 is NaN",
    );
    refused(
        &|e| e[1].reference[0][0] = f64::INFINITY,
        "unquantised actions of an episode: element 0 is inf",
    );
    let still = |e: &mut Episode| e.at_width.iter_mut().flatten().for_each(|a| *a = [0.0; 7]);
    refused(
        &|e| still(&mut e[1]),
        "mu_max of task `b` is not finite and above 0",
    );
    let straight = |e: &mut Episode| e.at_width.iter_mut().flatten().for_each(|a| a[3] = 0.0);
    refused(
        &|e| straight(&mut e[0]),
        "nu_max of task `a` is not finite and above 0",
    );
    refused(&|e| e[0] = episode(0, 1), "nu_max of task `a`");
    refused(
        &|e| {
            e.iter_mut()
                .flat_map(|e| e.at_width[1].iter_mut())
                .for_each(|a| a[0] = f64::MAX)
        },
        "mu_max of task `a`",
    );
    refused(
        &|e| *e = vec![episode(0, 3), episode(1, 3)],
        "episodes hold too few steps",
    );
    let error = run(&[], &[], &settings).unwrap_err();
    assert!(
        error.contains("episodes hold too few steps") || error.contains("tasks"),
        "{error}"
    );
    let error = run(&["a", "a"], &good(), &settings).unwrap_err();
    assert!(error.contains("tasks hold `a` twice"), "{error}");

    let bad = |settings: Settings, field: &str| {
        let error = run(&["a", "b"], &good(), &settings).unwrap_err();
        assert!(error.contains(field), "{error}");
    };
    for x in [f64::NAN, f64::INFINITY, -1.0] {
        bad(
            Settings {
                d_acc: x,
                ..settings
            },
            "d_acc",
        );
        bad(Settings { eta: x, ..settings }, "eta");
        bad(
            Settings {
                theta_fp: x,
                ..settings
            },
            "theta_fp",
        );
        bad(
            Settings {
                lambda: x,
                ..settings
            },
            "lambda",
        );
    }
    bad(
        Settings {
            d_acc: 0.0,
            ..settings
        },
        "d_acc",
    );
    bad(
        Settings {
            theta_fp: 0.0,
            ..settings
        },
        "theta_fp",
    );
    bad(Settings { k: 0, ..settings }, "k");
    bad(
        Settings {
            window_macro: 0,
            ..settings
        },
        "window_macro",
    );
    bad(
        Settings {
            window_micro: 257,
            ..settings
        },
        "window_micro",
    );
}

#[test]
fn the_rollouts_are_what_their_readme_says() {
    let r = Rollouts::load(RECORDED).unwrap();
    assert_eq!((r.len(), r.episodes().len()), (1519, 12));
    assert_eq!(
        r.episodes()
            .iter()
            .map(ExactSizeIterator::len)
            .sum::<usize>(),
        1519
    );
    assert_eq!(
        [r.obs.len(), r.input.len(), r.task.len(), r.success.len()],
        [1519; 4]
    );
    r.check_tasks(6).unwrap();
    assert!(matches!(r.check_tasks(5), Err(Error::Range { .. })));
    // Mean L2 error of the action against BF16, as the data's README gives it.
    for (width, mean) in [
        (Precision::A2, 0.303),
        (Precision::A4, 0.0454),
        (Precision::A8, 0.0384),
        (Precision::Bf16, 0.0380),
    ] {
        let distance = |(a, b)| {
            let (a, b) = (rollouts::action(a), rollouts::action(b));
            a.iter()
                .zip(b)
                .map(|(x, y)| (x - y) * (x - y))
                .sum::<f64>()
                .sqrt()
        };
        let total: f64 = r
            .tokens(width)
            .unwrap()
            .iter()
            .zip(&r.bf16)
            .map(distance)
            .sum();
        assert!(
            (total / 1519.0 - mean).abs() < 6e-4,
            "{width}: {}",
            total / 1519.0
        );
    }
    assert_eq!(
        rollouts::action(&[0, 255, 51, 0, 0, 0, 0])[..3],
        [-1.0, 1.0, -0.6]
    );
}

/// A rollouts file of two steps with one tensor changed or left out.
fn small(name: &str, change: Option<(Dtype, Vec<usize>, Vec<u8>)>) -> Result<Rollouts, Error> {
    let zeros = |dtype, shape: &[usize]| {
        (
            dtype,
            shape.to_vec(),
            vec![0; 4 * shape.iter().product::<usize>()],
        )
    };
    let mut tensors = vec![
        ("obs", zeros(Dtype::F32, &[2, 25])),
        ("input", zeros(Dtype::F32, &[2, 64])),
    ];
    tensors.extend(["task", "episode", "success"].map(|n| (n, zeros(Dtype::I32, &[2]))));
    tensors.push((
        "t",
        (
            Dtype::I32,
            vec![2],
            [0_i32, 1].map(i32::to_le_bytes).concat(),
        ),
    ));
    tensors.extend(
        ["tok_bf16", "tok_w4a16", "tok_w4a8", "tok_w4a4", "tok_w4a2"]
            .map(|n| (n, zeros(Dtype::I32, &[2, 7]))),
    );
    tensors.retain_mut(|(n, tensor)| match (*n == name, &change) {
        (true, None) => false,
        (true, Some(changed)) => {
            *tensor = changed.clone();
            true
        }
        (false, _) => true,
    });
    let views = tensors.iter().map(|(n, (dtype, shape, bytes))| {
        (n, TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    Rollouts::parse(&serialize(views, None).unwrap(), "r")
}

#[test]
fn wrong_rollouts_are_refused_by_tensor() {
    let i32s = |shape: &[usize], x: &[i32]| {
        Some((
            Dtype::I32,
            shape.to_vec(),
            x.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>(),
        ))
    };
    assert_eq!(small("none", None).unwrap().len(), 2);
    for name in [
        "obs",
        "input",
        "task",
        "episode",
        "success",
        "t",
        "tok_bf16",
        "tok_w4a16",
        "tok_w4a8",
        "tok_w4a4",
        "tok_w4a2",
    ] {
        match small(name, None) {
            Err(Error::MissingTensor { name: n, .. }) => assert_eq!(n, name),
            other => panic!("{name}: {other:?}"),
        }
    }
    let mut tokens = [0; 14];
    for bad in [-1, 256, i32::MIN, i32::MAX] {
        tokens[9] = bad;
        let error = small("tok_w4a4", i32s(&[2, 7], &tokens))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(&format!("`tok_w4a4` holds the token {bad}, not in 0..=255")),
            "{error}"
        );
    }
    let nan = [0.0_f32; 49]
        .into_iter()
        .chain([f32::NAN])
        .flat_map(f32::to_le_bytes)
        .collect();
    for (name, change, says) in [
        (
            "tok_w4a2",
            i32s(&[2, 6], &[0; 12]),
            "`tok_w4a2` must be I32 [2, 7], it is I32 [2, 6]",
        ),
        (
            "tok_w4a2",
            i32s(&[3, 7], &[0; 21]),
            "`tok_w4a2` must be I32 [2, 7], it is I32 [3, 7]",
        ),
        ("tok_bf16", i32s(&[0, 7], &[]), "`tok_bf16` holds no steps"),
        ("tok_bf16", i32s(&[], &[1]), "`tok_bf16` holds no steps"),
        ("task", i32s(&[2], &[0, -1]), "`task` holds -1"),
        (
            "task",
            i32s(&[2], &[0, 1]),
            "rows are not whole episodes in order",
        ),
        ("t", i32s(&[2], &[1, 2]), "`t` is 1 at row 0"),
        ("t", i32s(&[2], &[0, 2]), "`t` is 2 at row 1"),
        (
            "t",
            Some((Dtype::F32, vec![2], vec![0; 8])),
            "`t` must be I32 [2], it is F32 [2]",
        ),
        (
            "obs",
            Some((Dtype::F32, vec![2, 25], nan)),
            "`obs` is NaN at row 1",
        ),
    ] {
        let error = small(name, change).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    assert!(matches!(
        Rollouts::load("no such file"),
        Err(Error::Io { .. })
    ));
    assert!(matches!(
        Rollouts::load(data("calibration.json")),
        Err(Error::Format { .. })
    ));
    assert!(matches!(
        Rollouts::load(data("policy.safetensors")),
        Err(Error::MissingTensor { .. })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// Bytes changed, cut off or put in: an error or a calibration that is valid and writes itself.
    #[test]
    fn mutated_json_never_panics(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..3_u8, any::<u8>()), 1..6),
        printable: bool,
    ) {
        let mut json = std::fs::read(data("calibration.json")).unwrap();
        for (at, edit, byte) in edits {
            let at = at.index(json.len());
            // Digits and signs keep it JSON more often than any byte does.
            let byte = if printable { b"0123456789-+.eE\"{},:"[byte as usize % 20] } else { byte };
            match edit {
                0 => json[at] = byte,
                1 => json.insert(at, byte),
                _ => drop(json.remove(at)),
            }
        }
        match Calibration::from_json(&json, "mutated") {
            Ok(calibration) => {
                prop_assert!(calibration.validate().is_ok());
                let again = Calibration::from_json(calibration.to_json().unwrap().as_bytes(), "again").unwrap();
                prop_assert_eq!(&again, &calibration);
                for task in &calibration.tasks {
                    prop_assert!(calibration.dispatch_config(&task.name).is_ok());
                }
            }
            Err(Error::Format { file, reason }) => {
                prop_assert_eq!(file, "mutated");
                prop_assert!(!reason.is_empty());
            }
            Err(other) => prop_assert!(false, "{}", other),
        }
    }

    #[test]
    fn any_bytes_are_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Calibration::from_json(&bytes, "x").is_err());
        prop_assert!(Rollouts::parse(&bytes, "x").is_err());
    }

    /// Every finite number survives the file.
    #[test]
    fn numbers_come_back_bit_for_bit(mu_max in 1e-300..1e300_f64, nu_max in 0.0001..2.0_f64, thetas in prop::array::uniform3(0.0..1.0_f64)) {
        let mut thetas = thetas;
        thetas.sort_by(f64::total_cmp);
        let [theta_24, theta_48, theta_fp] = thetas;
        let calibration = Calibration {
            lambda: theta_24,
            window_macro: 10,
            window_micro: 5,
            k: u32::MAX,
            thresholds: Thresholds { theta_24, theta_48, theta_fp },
            eta: 0.05,
            d_acc: nu_max,
            tasks: vec![TaskScale { name: "a \"b\"\n".into(), motion: MotionScale { mu_max, nu_max } }],
        };
        let again = Calibration::from_json(calibration.to_json().unwrap().as_bytes(), "again").unwrap();
        prop_assert_eq!(again, calibration);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// The recorded file with bytes of its header or data changed, or cut short.
    #[test]
    fn mutated_rollouts_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..4),
        keep in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = std::fs::read(RECORDED).unwrap();
        for (at, byte, in_header) in edits {
            let end = if in_header { 1400 } else { bytes.len() };
            bytes[at.index(end)] = byte;
        }
        if let Some(keep) = keep {
            bytes.truncate(keep.index(bytes.len()));
        }
        if let Ok(rollouts) = Rollouts::parse(&bytes, "mutated") {
            prop_assert_eq!(rollouts.episodes().iter().map(ExactSizeIterator::len).sum::<usize>(), rollouts.len());
        }
    }
}

/// The example, from the recorded tokens and from the policy itself: a file that loads, with nearly the same motion.
#[test]
fn the_example_calibrates_from_tokens_and_from_the_policy() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let out = folder.path().join("c.json");
        let output = std::process::Command::new(example::example("calibrate"))
            .args(arguments)
            .arg("--out")
            .arg(&out)
            .output()
            .unwrap();
        match output.status.success() {
            true => Ok(Calibration::load(out).unwrap()),
            false => Err(String::from_utf8(output.stderr).unwrap()),
        }
    };
    let tokens = run(&[]).unwrap();
    let recorded = Calibration::load(data("calibration_expected.json")).unwrap();
    assert_eq!(tokens.thresholds, recorded.thresholds);
    let policy = run(&["--from", "policy"]).unwrap();
    for (ours, recorded) in policy.tasks.iter().zip(&recorded.tasks) {
        assert_eq!(ours.name, recorded.name);
        let (ours, recorded) = (ours.motion, recorded.motion);
        assert!(
            (ours.mu_max / recorded.mu_max - 1.0).abs() < 0.05,
            "{ours:?} {recorded:?}"
        );
        assert!(
            (ours.nu_max / recorded.nu_max - 1.0).abs() < 0.3,
            "{ours:?} {recorded:?}"
        );
    }
    assert!(run(&["--d-acc", "0"]).unwrap_err().contains("d_acc"));
    assert!(
        run(&["--rollouts", "nowhere"])
            .unwrap_err()
            .contains("nowhere")
    );
    assert!(
        run(&["--from", "policy", "--policy", "nowhere"])
            .unwrap_err()
            .contains("nowhere")
    );
}
