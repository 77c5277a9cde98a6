//! The calibration file: bit-exact round trips, atomic writes, and errors that name the field.

use std::path::PathBuf;

use proptest::prelude::*;
use w4ax::calibrate::{Calibration, ConsistencyCalibration, TaskScale};
use w4ax::dispatch::{
    Algorithm, MotionScale, StepCosts, Thresholds, Tolerance, UncertaintyQuantiles,
};
use w4ax::{Error, Width};

use crate::data;
use w4ax_robot::rollouts::{Rollouts, TASKS};

#[test]
fn recorded_files_round_trip_to_the_same_bits() {
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
    // The literals are rounded by the compiler, so equality compares all bits.
    assert_eq!(expected.thresholds.theta_24, 0.47500000000000003);
    let config = calibration.dispatch_config("Stack").unwrap();
    assert_eq!(
        config.motion(),
        MotionScale {
            mu_max: 0.8701190813258414,
            nu_max: 0.29007081585064054
        }
    );
    let thresholds = Thresholds {
        theta_24: 0.47500000000000003,
        theta_48: 0.5,
        theta_fp: 0.5,
    };
    assert_eq!(
        (config.thresholds(), config.k(), config.lambda()),
        (thresholds, 4, 0.5)
    );
    assert_eq!((config.window_macro(), config.window_micro()), (10, 5));
    assert_eq!(config.algorithm(), Algorithm::SaturatingCounter);
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
fn save_replaces_the_file_and_leaves_no_temporary_file() {
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
        "a failed save leaves the file unchanged"
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

/// Parses a valid file with one replacement.
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
fn rejects_invalid_files_by_field() {
    for (from, to, expected) in [
        (
            "\"format\": 1",
            "\"format\": 3",
            "`format` is 3: expected 1 or 2",
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
            "`window_macro` is 257: expected 1 to 256",
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
            "\"theta_24\": 0.47500000000000003",
            "\"theta_24\": 0.6",
            "`theta_48` is 0.5: expected at least theta_24 (0.6)",
        ),
        (
            "\"theta_24\": 0.47500000000000003",
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
            "\"mu_max\": 0.8805196611023659",
            "\"mu_max\": 0",
            "`mu_max` of task `Lift` is 0",
        ),
        (
            "\"mu_max\": 0.8805196611023659",
            "\"mu_max\": true",
            "`tasks.Lift.mu_max`: invalid type: boolean `true`, expected f64",
        ),
        (
            "\"mu_max\"",
            "\"mu\"",
            "`tasks.Lift`: missing field `mu_max`",
        ),
        ("\"Stack\"", "\"Lift\"", "`tasks` has `Lift` twice"),
        (
            "\"tasks\": {",
            "\"tasks\": {}, \"was\": {",
            "`tasks` is empty",
        ),
        (
            "\"tasks\": {",
            "\"tasks\": 1, \"was\": {",
            "`tasks`: invalid type: integer `1`, expected an object",
        ),
        ("\n}", "\n}}", "trailing characters"),
    ] {
        let reason = with(from, to).expect_err(to);
        assert!(reason.contains(expected), "{to}: {reason}");
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// Changed, removed and inserted bytes give an error, or a valid calibration that round-trips.
    #[test]
    fn mutated_json_never_panics(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..3_u8, any::<u8>()), 1..6),
        printable: bool,
    ) {
        let mut json = std::fs::read(data("calibration.json")).unwrap();
        for (at, edit, byte) in edits {
            let at = at.index(json.len());
            // Digits and punctuation keep the text valid JSON more often than random bytes.
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
                let text = calibration.to_json().unwrap();
                let again = Calibration::from_json(text.as_bytes(), "again").unwrap();
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
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Calibration::from_json(&bytes, "x").is_err());
        prop_assert!(Rollouts::parse(&bytes, "x").is_err());
    }

    #[test]
    fn finite_numbers_round_trip_to_the_same_bits(
        mu_max in 1e-300..1e300_f64,
        nu_max in 0.0001..2.0_f64,
        thetas in prop::array::uniform3(0.0..1.0_f64),
    ) {
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
            layout: Default::default(),
            tasks: vec![TaskScale {
                name: "a \"b\"\n".into(),
                motion: MotionScale { mu_max, nu_max },
            }],
            errors: Some([nu_max, theta_fp, theta_48, theta_24]),
            costs: Some(StepCosts::new([nu_max, mu_max, 1.0, 2.0]).unwrap()),
            consistency: Some(ConsistencyCalibration {
                low: Some(Width::A4),
                tolerance: Tolerance::Constant(nu_max),
                floors: Some(vec![Width::A8, Width::A2]),
                quantiles: Some(UncertaintyQuantiles::of_samples(&mut thetas, &mut [mu_max]).unwrap()),
                ..Default::default()
            }),
        };
        let text = calibration.to_json().unwrap();
        let again = Calibration::from_json(text.as_bytes(), "again").unwrap();
        prop_assert_eq!(again, calibration);
    }
}

#[test]
fn rejects_invalid_section_of_the_consistency_rule_by_field() {
    let text = std::fs::read_to_string(data("calibration.json")).unwrap();
    let with = |section: &str| {
        let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
        json["consistency"] = serde_json::from_str(section).unwrap();
        Calibration::from_json(json.to_string().as_bytes(), "c.json")
    };
    let default = ConsistencyCalibration::default();
    assert_eq!(with("{}").unwrap().consistency, Some(default));
    for (section, field) in [
        (r#"{"low": 3}"#, "`low` has unsupported width 3"),
        (r#"{"high": 14}"#, "`high` has unsupported width 14"),
        (r#"{"low": 8, "high": 4}"#, "low"),
        (r#"{"tau": 0.1, "d_acc": 0.1}"#, "tau"),
        (r#"{"tau": -1}"#, "tau"),
        (r#"{"gate": 1.5}"#, "gate"),
        (r#"{"alpha": 0}"#, "alpha"),
        (r#"{"uncertainty_low": [0.5]}"#, "uncertainty_high"),
        (
            r#"{"uncertainty_low": [0.5], "uncertainty_high": [0.5]}"#,
            "101",
        ),
        (r#"{"floors": [2, 5]}"#, "`floors` has unsupported width 5"),
        (r#"{"tau_most": 1}"#, "tau_most"),
    ] {
        let error = with(section).unwrap_err();
        assert!(matches!(error, Error::Format { .. }), "{section}: {error}");
        let error = error.to_string();
        assert!(error.contains(field), "{section}: {error}");
    }
}
