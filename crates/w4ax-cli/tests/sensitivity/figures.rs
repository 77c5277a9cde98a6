//! The figures of the recorded data against the READMEs and another implementation.

use serde_json::Value;

use crate::{DATA, report};
use w4ax_robot::sensitivity::correlation::MIN_CLUSTERS;

/// The key of a correlation.
fn find<'a>(
    report: &'a Value,
    (mode, task): (&str, &str),
    terminal: &str,
    predictor: &str,
) -> &'a Value {
    let is = |field: &Value, name: &str| field.as_str().unwrap_or("all") == name;
    let all = report["correlations"].as_array().unwrap();
    let mut found = all.iter().filter(|c| {
        is(&c["mode"], mode)
            && is(&c["task"], task)
            && is(&c["terminal"], terminal)
            && is(&c["predictor"], predictor)
    });
    let one = found.next().unwrap();
    assert!(found.next().is_none());
    one
}

fn fields(value: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    names.sort_unstable();
    names
}

/// Mode, task, D_T, predictor; rows; Pearson's correlation with s and with log s, Spearman's.
type Known = (
    (&'static str, &'static str),
    &'static str,
    &'static str,
    u64,
    [f64; 3],
);

/// Computed by SciPy 1.17.1 from M and J of the CSV files by NumPy.
const SCIPY: [Known; 8] = [
    (
        ("fb", "all"),
        "eef",
        "m_window",
        161,
        [0.236710920077, 0.296639675621, 0.255086503999],
    ),
    (
        ("fb", "all"),
        "eef",
        "j_window",
        161,
        [-0.077721009625, -0.032677049135, -0.013543992187],
    ),
    (
        ("bc", "all"),
        "obj",
        "m",
        342,
        [-0.053161971680, -0.084872110961, -0.102210960373],
    ),
    (
        ("ol", "all"),
        "eef_own",
        "j",
        161,
        [0.149379667219, 0.165847069664, 0.124191485714],
    ),
    (
        ("bc", "all"),
        "obj_own",
        "j_before",
        322,
        [-0.046896797297, -0.041799989508, -0.058590701928],
    ),
    (
        ("ol", "all"),
        "eef",
        "m_before",
        151,
        [-0.211243219868, -0.224429143898, -0.218485505731],
    ),
    (
        ("bc", "all"),
        "eef",
        "steps_left",
        342,
        [0.271683557464, 0.496802289283, 0.501859146085],
    ),
    (
        ("fb", "Lift"),
        "eef_own",
        "m_window",
        21,
        [0.737835752781, 0.701132515538, 0.685714285714],
    ),
];

#[test]
fn figures_match_the_readmes_and_another_implementation() {
    let folder = tempfile::tempdir().unwrap();
    // The other implementation had the parameters of the recorded closed loop.
    let calibration = format!("{DATA}/closed_loop_calibration.json");
    let (printed, text) = report(folder.path(), &["--calibration", &calibration]);
    let report: Value = serde_json::from_str(&text).unwrap();

    for (group, terminal, predictor, rows, [r, r_log, rank]) in SCIPY {
        let found = find(&report, group, terminal, predictor);
        assert_eq!(found["rows"], rows, "{group:?} {terminal} {predictor}");
        for (field, known) in [("pearson", r), ("pearson_log", r_log), ("spearman", rank)] {
            let value = found[field]["value"].as_f64().unwrap();
            assert!(
                (value - known).abs() < 1e-9,
                "{group:?} {predictor} {field}: {value} for {known}"
            );
        }
    }

    // README: "Windowed M correlates at about .3 pooled with log s_t, J at about 0". Within a
    // twentieth, with feedback.
    let log = |mode, terminal, predictor| {
        let found = find(&report, (mode, "all"), terminal, predictor);
        found["pearson_log"]["value"].as_f64().unwrap()
    };
    assert!((log("fb", "eef", "m_window") - 0.3).abs() < 0.05);
    assert!(log("fb", "eef", "j_window").abs() < 0.05);
    // No correlation is near the paper's .90 and .87.
    for mode in ["bc", "ol", "fb", "all"] {
        for terminal in ["eef", "obj", "eef_own", "obj_own"] {
            for predictor in ["m", "m_window", "m_before", "j", "j_window", "j_before"] {
                assert!(
                    log(mode, terminal, predictor).abs() < 0.5,
                    "{mode} {terminal} {predictor}"
                );
            }
        }
    }

    // Half of the last digit in the README.
    let phases = [
        -0.044, -0.033, -0.267, -0.020, -0.042, -0.037, -0.319, -0.013,
    ];
    for (at, known) in phases.into_iter().enumerate() {
        let value = report["phases"][at]["all"].as_f64().unwrap();
        assert!(
            (value - known).abs() < 5e-4,
            "phase {at}: {value} for {known}"
        );
    }
    for (at, known) in [(2, -0.039), (6, -0.051)] {
        let value = report["phases"][at]["without_gripper"].as_f64().unwrap();
        assert!(
            (value - known).abs() < 5e-4,
            "phase {at}: {value} for {known}"
        );
    }
    let firing = |rule: &str, eta: f64| {
        let mut all = report["firings"].as_array().unwrap().iter();
        all.find(|f| f["rule"] == rule && f["eta"] == eta).unwrap()
    };
    let percent =
        |share: &Value| 100.0 * share["fired"].as_f64().unwrap() / share["of"].as_f64().unwrap();
    for (rule, eta, closings, openings) in [
        ("rise then drop", 1e-3, 1.0, 8.0),
        ("first drop", 1e-2, 79.0, 98.0),
        ("first drop", 0.05, 100.0, 100.0),
    ] {
        let found = firing(rule, eta);
        assert_eq!(
            (&found["closings"]["of"], &found["openings"]["of"]),
            (&72.into(), &60.into())
        );
        assert!(
            (percent(&found["closings"]) - closings).abs() < 0.5,
            "{found}"
        );
        assert!(
            (percent(&found["openings"]) - openings).abs() < 0.5,
            "{found}"
        );
    }
    // Of all steps: 4.3 % and 3.0 % without the second step of each of the 72 episodes, at which
    // the rules always fire.
    for (eta, known) in [(1e-2, 4.3), (0.05, 3.0)] {
        let found = firing("first drop", eta);
        assert_eq!(found["starts"], serde_json::json!({"fired": 72, "of": 72}));
        let starts = 100.0 * 72.0 / found["steps"]["of"].as_f64().unwrap();
        let later = percent(&found["steps"]) - starts;
        assert!((later - known).abs() < 0.05, "{later} for {known}");
    }

    for part in [
        "libero_object:0",
        "D_obj_own",
        "0.30 [",
        "(79)",
        "-0.2665",
        "-0.267",
        "5 means",
    ] {
        assert!(printed.contains(part), "`{part}` is not printed");
    }
    let svg = std::fs::read_to_string(folder.path().join("picture.svg")).unwrap();
    for part in [
        "M, window",
        "J, window",
        "bc: r with log s",
        "fb: r with log s 0.30",
        "Lift",
    ] {
        assert!(svg.contains(part), "`{part}` is not in the picture");
    }
    assert_eq!(svg.matches("<circle").count(), 2 * 664);
}

#[test]
fn json_and_picture_are_complete() {
    let folder = tempfile::tempdir().unwrap();
    let (_, text) = report(folder.path(), &["--draws", "20"]);
    let report_: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        fields(&report_),
        [
            "averages",
            "correlations",
            "firings",
            "phases",
            "rows",
            "steps"
        ]
    );
    let shape = |list: &str, len: usize, names: &[&str]| {
        let list = report_[list].as_array().unwrap();
        assert_eq!(list.len(), len);
        for entry in list {
            assert_eq!(fields(entry), names);
        }
    };
    let row = [
        "D_T",
        "e_t",
        "episode",
        "j",
        "j_before",
        "j_window",
        "m",
        "m_before",
        "m_window",
        "mode",
        "s_t",
        "steps_left",
        "success",
        "t",
        "task",
    ];
    shape("rows", 664, &row);
    assert_eq!(
        fields(&report_["rows"][0]["s_t"]),
        ["eef", "eef_own", "obj", "obj_own"]
    );
    // Three modes and all, four tasks and all, four D_T, seven predictors.
    let correlation = [
        "episodes",
        "left_out",
        "mode",
        "pearson",
        "pearson_log",
        "predictor",
        "rows",
        "spearman",
        "still",
        "task",
        "terminal",
    ];
    shape("correlations", 4 * 5 * 4 * 7, &correlation);
    shape(
        "averages",
        3 * 2 * 3,
        &[
            "mode",
            "parts",
            "pearson_log",
            "predictor",
            "task",
            "terminal",
        ],
    );
    let step = [
        "continuity",
        "continuity_arm",
        "delta",
        "delta_before",
        "episode",
        "flip",
        "phase",
        "t",
        "task",
    ];
    shape("steps", 9714, &step);
    shape("phases", 8, &["all", "phase", "steps", "without_gripper"]);
    shape(
        "firings",
        6,
        &["closings", "eta", "openings", "rule", "starts", "steps"],
    );

    // Intervals contain their values. A task has too few episodes for an interval.
    for c in report_["correlations"].as_array().unwrap() {
        let r = &c["pearson_log"];
        match r["interval"].as_array() {
            Some(ends) => assert!(
                ends[0].as_f64() <= ends[1].as_f64() && c["task"].is_null(),
                "{c}"
            ),
            None => assert!(c["episodes"].as_u64().unwrap() < MIN_CLUSTERS as u64, "{c}"),
        }
    }

    // The same seed gives the same draws. Another seed changes the intervals only, another scale M.
    assert_eq!(report(folder.path(), &["--draws", "20"]).1, text);
    let seeded: Value =
        serde_json::from_str(&report(folder.path(), &["--draws", "20", "--seed", "1"]).1).unwrap();
    let fb = |report: &Value| find(report, ("fb", "all"), "eef", "m_window")["pearson_log"].clone();
    assert_eq!(fb(&seeded)["value"], fb(&report_)["value"]);
    assert_ne!(fb(&seeded)["interval"], fb(&report_)["interval"]);
    let scaled: Value =
        serde_json::from_str(&report(folder.path(), &["--draws", "20", "--scale", "nominal"]).1)
            .unwrap();
    assert_ne!(scaled["rows"][0]["m"], report_["rows"][0]["m"]);
    assert!((fb(&scaled)["value"].as_f64().unwrap() - 0.3).abs() < 0.05);

    let mut names: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["picture.svg", "report.json"]);
}
