//! Bad files and options are errors that name them.

use std::path::Path;

use crate::{DATA, run};

/// Checks that the program fails with one line that has all parts.
fn refused(folder: &Path, name: &str, arguments: &[&str], parts: &[&str]) {
    let output = run(folder, name, arguments);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        output.status.code(),
        Some(1),
        "{name} {arguments:?}: {error}"
    );
    assert_eq!(error.lines().count(), 1, "{error}");
    for part in parts {
        assert!(
            error.contains(part),
            "{name} {arguments:?}: `{part}` is not in: {error}"
        );
    }
}

#[test]
fn bad_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let perturb = std::fs::read_to_string(format!("{DATA}/perturb.csv")).unwrap();
    let header = perturb.lines().next().unwrap();
    let first = perturb.lines().nth(1).unwrap();
    let row = |from: &str, to: &str| {
        assert!(first.contains(from), "{first}");
        format!("{header}\n{}\n", first.replacen(from, to, 1))
    };
    let arm = |success: u32, low: f64| {
        format!(
            r#"{{"arms": [{{"arm": "a4", "success": {success}, "episodes": 20, "low": {low},
                "high": 0.1611252}}], "pairs": []}}"#
        )
    };
    let cases: [(&str, &str, String, &[&str]); 14] = [
        (
            "fig2",
            "--perturb",
            String::new(),
            &["line 1", "column `task`"],
        ),
        ("fig2", "--perturb", format!("{header}\n"), &["no steps"]),
        (
            "fig2",
            "--perturb",
            row(",bc,", ",xx,"),
            &["line 2", "`mode` is `xx`"],
        ),
        (
            "fig2",
            "--perturb",
            row("0.13964", "-1"),
            &["line 2", "`e_t` is `-1`", "at least 0"],
        ),
        (
            "fig2",
            "--perturb",
            row("0.000842", "nan"),
            &["line 2", "D_eef"],
        ),
        ("fig7", "--costs", "{}".into(), &["a2"]),
        ("fig7", "--rollouts", "x".repeat(100), &[]),
        ("table1", "--closed-loop", "[]".into(), &[]),
        (
            "table1",
            "--closed-loop",
            arm(21, 0.0),
            &["arm `a4`", "21 successes"],
        ),
        (
            "table1",
            "--closed-loop",
            arm(0, 0.5),
            &["arm `a4`", "0.5", "expected 0"],
        ),
        (
            "table1",
            "--costs",
            r#"{"a2":0,"a4":1,"a8":1,"bf16":1}"#.into(),
            &["a2", "costs 0"],
        ),
        ("table3", "--calibration", "{}".into(), &[]),
        ("table4", "--policy", "{}".into(), &[]),
        ("fig3", "--calibration", "{}".into(), &[]),
    ];
    for (name, option, text, parts) in cases {
        let file = folder.path().join("some.file");
        std::fs::write(&file, text).unwrap();
        let parts = [&["error: ", "some.file"], parts].concat();
        refused(folder.path(), name, &[option, "some.file"], &parts);
    }
    std::fs::write(folder.path().join("a.json"), arm(0, 0.0)).unwrap();
    let twice = ["--closed-loop", "a.json", "--closed-loop", "a.json"];
    refused(
        folder.path(),
        "table1",
        &twice,
        &["a.json", "`a4` is repeated"],
    );
}

#[test]
fn missing_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for (name, option) in [
        ("table1", "--closed-loop"),
        ("table1", "--costs"),
        ("table3", "--rollouts"),
        ("table4", "--policy"),
        ("fig2", "--perturb"),
        ("fig3", "--calibration"),
        ("fig7", "--calibration"),
    ] {
        refused(folder.path(), name, &[option, "not-there"], &["not-there"]);
    }
}

#[test]
fn fig3_needs_the_undisturbed_actions_of_each_file() {
    let folder = tempfile::tempdir().unwrap();
    let perturb = format!("{DATA}/perturb.csv");
    let alone = ["--perturb", perturb.as_str()];
    refused(
        folder.path(),
        "fig3",
        &alone,
        &["--nominal", "given 0 times"],
    );
    // Actions of other episodes.
    let nominal = std::fs::read_to_string(format!("{DATA}/nominal_actions.csv")).unwrap();
    let other = nominal.replace("Lift", "Stack,").replace("Stack,", "Stack");
    std::fs::write(folder.path().join("other.csv"), other).unwrap();
    let pair = ["--perturb", perturb.as_str(), "--nominal", "other.csv"];
    let output = run(folder.path(), "fig3", &pair);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn sizes_out_of_range_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (option, value, part) in [
        ("--hidden", "100", "a multiple of 64"),
        ("--steps", "0", "1 to 4096"),
        ("--delay", "0", "1..=100000"),
    ] {
        let output = run(folder.path(), "table3", &[option, value]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(option) && error.contains(part), "{error}");
    }
}
