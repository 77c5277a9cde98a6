//! Invalid files.

use std::process::Output;

use proptest::prelude::*;

use crate::{data, sensitivity};
use w4ax_robot::sensitivity::{expert, perturb};

#[test]
fn bad_file_is_named_with_line_and_column() {
    let folder = tempfile::tempdir().unwrap();
    let replace = |name: &str, line: usize, from: &str, to: &str| {
        let mut lines: Vec<String> = data(name).lines().map(str::to_owned).collect();
        assert!(lines[line - 1].contains(from), "{}", lines[line - 1]);
        lines[line - 1] = lines[line - 1].replacen(from, to, 1);
        lines.join("\n")
    };
    let (perturb, nominal, expert) = (
        "perturb.csv",
        "nominal_actions.csv",
        "trajectories_expert.csv",
    );
    let header = |name: &str| data(name).lines().next().unwrap().to_owned();
    let cases: [(&str, String, &[&str]); 22] = [
        ("--perturb", String::new(), &["line 1", "column `task`"]),
        ("--perturb", header(perturb), &["no steps"]),
        (
            "--perturb",
            replace(perturb, 1, "e_t,", "e_s,"),
            &["line 1", "`e_t`"],
        ),
        (
            "--perturb",
            replace(perturb, 1, "draw", "e_t"),
            &["line 1", "repeated column `e_t`"],
        ),
        (
            "--perturb",
            replace(perturb, 2, "0.13964", "x"),
            &["line 2", "`e_t`", "`x`"],
        ),
        (
            "--perturb",
            replace(perturb, 2, "0.13964", "-1"),
            &["line 2", "`e_t`", "at least 0"],
        ),
        (
            "--perturb",
            replace(perturb, 2, "0.003885", "NaN"),
            &["line 2", "`D_obj`", "finite"],
        ),
        (
            "--perturb",
            replace(perturb, 3, ",bc,", ",ab,"),
            &["line 3", "`mode`", "`ab`"],
        ),
        (
            "--perturb",
            replace(perturb, 3, ",0,bc", ",9,bc"),
            &["line 3", "`episode`", "`9`"],
        ),
        (
            "--perturb",
            replace(perturb, 4, "bc,7,", "bc,700,"),
            &["line 4", "`t`", "`700`"],
        ),
        (
            "--perturb",
            replace(perturb, 4, "bc,7,128", "bc,7,127"),
            &["line 4", "`T_nom`", "`127`"],
        ),
        (
            "--perturb",
            replace(perturb, 4, "0.5137", "0.5237"),
            &["line 4", "`a0`", "0.51373"],
        ),
        (
            "--perturb",
            replace(perturb, 2, "127,1,", "127,2,"),
            &["line 2", "`success`", "0 or 1"],
        ),
        (
            "--perturb",
            replace(perturb, 2, ",0.0078", ""),
            &["line: 2"],
        ),
        ("--nominal", header(nominal), &["no steps"]),
        (
            "--nominal",
            replace(nominal, 3, "bc,1,", "bc,2,"),
            &["line 3", "`t` is 2"],
        ),
        (
            "--nominal",
            replace(nominal, 3, "0.38824", "inf"),
            &["line 3", "`a0`", "finite"],
        ),
        (
            "--nominal",
            data(nominal) + "libero_goal:6,0,bc,0,0,0,0,0,0,0,0",
            &["line 3589", "`episode`"],
        ),
        (
            "--nominal",
            replace(nominal, 3, "0.38824", "1e200"),
            &["line 2", "action"],
        ),
        (
            "--expert",
            replace(expert, 2, ",0,0,0,", ",0,0,8,"),
            &["line 2", "`phase`", "`8`"],
        ),
        (
            "--expert",
            replace(expert, 3, "0.4509", "1e200"),
            &["line 2", "action"],
        ),
        (
            "--calibration",
            data("calibration.json").replace("Lift", "Push"),
            &["Lift"],
        ),
    ];
    let check = |output: &Output, option: &str, named: &[&str]| {
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{option}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.starts_with("error: "), "{error}");
        for part in named {
            assert!(
                error.contains(part),
                "{option}: `{part}` is not in: {error}"
            );
        }
    };
    for (option, text, named) in cases {
        std::fs::write(folder.path().join("some.file"), text).unwrap();
        let output = sensitivity(folder.path(), &[option, "some.file"]);
        check(&output, option, &[&["some.file"], named].concat());
    }
    for option in [
        "--perturb",
        "--nominal",
        "--expert",
        "--calibration",
        "--data",
    ] {
        let output = sensitivity(folder.path(), &[option, "not-there"]);
        check(&output, option, &["not-there"]);
    }
    let output = sensitivity(folder.path(), &["--draws", "0"]);
    assert_eq!(output.status.code(), Some(2));
}

/// Texts that no field should have.
fn bad_field() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "-1", "0", "9999", "1e999", "NaN", "x", "\""])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn corrupted_csv_never_panics(
        from in any::<prop::sample::Index>(),
        fields in proptest::collection::vec((0usize..12, 0usize..12, bad_field()), 0..4),
        bytes in proptest::collection::vec((0usize..2000, any::<u8>()), 0..3),
        end in proptest::option::weighted(0.2, 0usize..2000),
    ) {
        let nominal = data("nominal_actions.csv");
        let nominal = perturb::parse_nominal(nominal.as_bytes(), "nominal").unwrap();
        for name in ["perturb.csv", "nominal_actions.csv", "trajectories_expert.csv"] {
            let text = data(name);
            let lines: Vec<&str> = text.lines().collect();
            // The rows of the other files must begin with an episode.
            let from = if name == "perturb.csv" { 1 + from.index(lines.len() - 12) } else { 1 };
            let rows = lines[..1].iter().chain(&lines[from..from + 11]);
            let mut rows: Vec<Vec<&str>> = rows.map(|line| line.split(',').collect()).collect();
            for (row, column, text) in &fields {
                if let Some(field) = rows[*row].get_mut(*column) {
                    *field = text;
                }
            }
            let rows: Vec<String> = rows.into_iter().map(|row| row.join(",")).collect();
            let mut spoiled = rows.join("\n").into_bytes();
            for (at, byte) in &bytes {
                if let Some(place) = spoiled.get_mut(*at) {
                    *place = *byte;
                }
            }
            spoiled.truncate(end.unwrap_or(usize::MAX));
            let read = match name {
                "perturb.csv" => perturb::parse(&spoiled, "some.csv", &nominal).map(drop),
                "nominal_actions.csv" => perturb::parse_nominal(&spoiled, "some.csv").map(drop),
                _ => expert::parse(&spoiled, "some.csv").map(drop),
            };
            if let Err(error) = read {
                prop_assert!(error.to_string().starts_with("some.csv: "), "{}", error);
            }
        }
    }
}
