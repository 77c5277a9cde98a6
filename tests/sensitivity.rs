//! The `sensitivity` example: the built program on the recorded data beside what the data's READMEs say, and its parts.

#[allow(dead_code)] // The test takes its part, here and below.
#[path = "../examples/sensitivity/answer.rs"]
mod answer;
#[allow(dead_code)]
#[path = "../examples/sensitivity/continuity.rs"]
mod continuity;
#[path = "../examples/sensitivity/correlation.rs"]
mod correlation;
#[path = "support/example.rs"]
mod example;
#[allow(dead_code)]
#[path = "../examples/sensitivity/expert.rs"]
mod expert;
#[allow(dead_code)]
#[path = "../examples/sensitivity/motion.rs"]
mod motion;
#[allow(dead_code)]
#[path = "../examples/sensitivity/perturb.rs"]
mod perturb;
#[path = "../examples/robot/mod.rs"]
mod robot;

use std::path::Path;
use std::process::{Command, Output};

use answer::{Answer, correlations};
use continuity::{Flip, Share};
use correlation::{Bootstrap, MIN_CLUSTERS, Sorted, pearson, spearman};
use motion::Predictor;
use perturb::{Mode, Terminal};
use proptest::prelude::*;
use serde_json::Value;
use w4ax::calibrate::Calibration;
use w4ax::dispatch::{DispatchConfig, MotionScale, Thresholds};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/robot/");

fn data(name: &str) -> String {
    std::fs::read_to_string(Path::new(DATA).join(name)).unwrap()
}

/// Runs the program in a folder that is not the crate's.
fn sensitivity(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(example::example("sensitivity"))
        .args(["--plot", "picture.svg"])
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap()
}

/// What it prints and what it writes.
fn report(folder: &Path, arguments: &[&str]) -> (String, String) {
    let arguments = [&["--json", "report.json"], arguments].concat();
    let output = sensitivity(folder, &arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert_eq!(stderr, "");
    let json = std::fs::read_to_string(folder.join("report.json")).unwrap();
    (String::from_utf8(output.stdout).unwrap(), json)
}

/// A correlation by what it is of.
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

/// Mode, task, D_T, predictor; rows; Pearson's with s, with log s, Spearman's.
type Known = (
    (&'static str, &'static str),
    &'static str,
    &'static str,
    u64,
    [f64; 3],
);

/// By SciPy 1.17.1, on M and J computed from the CSV files by NumPy.
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
fn the_figures_are_those_of_the_readmes_and_of_another_implementation() {
    let folder = tempfile::tempdir().unwrap();
    let (printed, text) = report(folder.path(), &[]);
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

    // "Windowed M correlates at about .3 pooled with log s_t, J at about 0": to a twentieth, with feedback.
    let log = |mode, terminal, predictor| {
        let found = find(&report, (mode, "all"), terminal, predictor);
        found["pearson_log"]["value"].as_f64().unwrap()
    };
    assert!((log("fb", "eef", "m_window") - 0.3).abs() < 0.05);
    assert!(log("fb", "eef", "j_window").abs() < 0.05);
    // The paper's .90 and .87 are nowhere.
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

    // Half of the last digit that the README has.
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
    // Of all steps, 4.3 % and 3.0 % without the second step of each of the 72 episodes; all of those fire.
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
fn what_is_written() {
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
    // Three modes and all; four tasks and all; four D_T; seven predictors.
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

    // Intervals hold their values; a task has too few episodes for one.
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

    // The same draws by the same seed; others move the intervals alone; other scales move M.
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

#[test]
fn a_bad_file_is_named_with_its_line_and_column() {
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
            &["line 1", "`e_t` is there twice"],
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

/// The rows of the repository's data after a change of `perturb.csv`.
fn answers(change: impl FnOnce(String) -> String) -> Vec<Answer> {
    let nominal =
        perturb::parse_nominal(data("nominal_actions.csv").as_bytes(), "nominal").unwrap();
    let text = change(data("perturb.csv"));
    let perturbed = perturb::parse(text.as_bytes(), "perturbed", &nominal).unwrap();
    let calibration = Calibration::load(Path::new(DATA).join("calibration.json")).unwrap();
    let configs = motion::configs(&calibration, &nominal, false).unwrap();
    answer::answers(&nominal, perturbed, "nominal", |task| &configs[task]).unwrap()
}

#[test]
fn no_error_has_no_sensitivity_and_no_deviation_has_no_logarithm() {
    // The two rows of a first step: nothing was perturbed in one, nothing came of the other.
    let rows = answers(|text| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for (line, column) in [(1, "e_t"), (2, "D_eef")] {
            let at = lines[0].split(',').position(|name| name == column).unwrap();
            let mut parts: Vec<&str> = lines[line].split(',').collect();
            parts[at] = "0";
            lines[line] = parts.join(",");
        }
        lines.join("\n")
    });
    assert_eq!(rows[0].sensitivity(Terminal::Obj), None);
    assert_eq!(rows[1].sensitivity(Terminal::Eef), Some(0.0));
    let all = correlations(&rows, 10, 0);
    let of = |terminal, predictor| {
        let mut found = all.iter().filter(|c| {
            c.group.mode == Some(Mode::Bc)
                && c.group.task.is_none()
                && (c.terminal, c.predictor) == (terminal, predictor)
        });
        found.next().unwrap()
    };
    let counts = |terminal, predictor| {
        let c = of(terminal, predictor);
        (c.rows, c.left_out, c.still)
    };
    assert_eq!(counts(Terminal::Eef, Predictor::M), (341, 1, 1));
    assert_eq!(counts(Terminal::Obj, Predictor::M), (341, 1, 0));
    // Both rows are of t = 0, as 18 others: there is no motion before.
    assert_eq!(counts(Terminal::Eef, Predictor::MBefore), (322, 20, 0));
    let log = of(Terminal::Eef, Predictor::M).pearson_log.unwrap();
    assert!(log.value.is_finite());
}

#[test]
fn motion_by_hand() {
    let motion = MotionScale {
        mu_max: 0.5,
        nu_max: 0.25,
    };
    let thresholds = Thresholds {
        theta_24: 0.1,
        theta_48: 0.3,
        theta_fp: 0.5,
    };
    let config = DispatchConfig {
        window_macro: 2,
        window_micro: 3,
        ..DispatchConfig::new(motion, thresholds)
    };
    let actions = [
        [0.25, 0.0, 0.0, 0.5, 0.0, 0.0, 1.0],
        [0.0, 0.3, 0.4, 0.625, 0.0, 0.0, -1.0],
        [0.0, 0.0, 0.125, 0.625, 0.25, 0.0, -1.0],
        [0.0, 0.0, 0.0, 0.625, 0.25, 0.0, -1.0],
    ];
    let found = motion::of_episode(&config, &actions).unwrap();
    // M: .5, 0, .75, 1. J: 0, .5, 1, 0.
    let expected = [
        (0.5, 0.5, None, 0.0, 0.0, None),
        (0.0, 0.25, Some(0.5), 0.5, 0.25, Some(0.0)),
        (0.75, 0.375, Some(0.25), 1.0, 0.5, Some(0.25)),
        (1.0, 0.875, Some(0.375), 0.0, 0.5, Some(0.5)),
    ];
    for (m, expected) in found.iter().zip(expected) {
        assert_eq!(
            (m.m, m.m_window, m.m_before, m.j, m.j_window, m.j_before),
            expected
        );
    }
}

#[test]
fn correlations_by_hand() {
    let one = [1.0; 4];
    let line = [1.0, 2.0, 3.0, 4.0];
    assert_eq!(pearson(&line, &[-2.0, -4.0, -6.0, -8.0], &one), Some(-1.0));
    assert_eq!(pearson(&line, &[5.0; 4], &one), None);
    assert_eq!(pearson(&[], &[], &[]), None);
    assert_eq!(pearson(&line, &[1.0, 2.0, f64::NAN, 4.0], &one), None);
    // Sums of squares 2 and 2, of products 1.
    let r = pearson(&[1.0, 2.0, 3.0], &[1.0, 3.0, 2.0], &[1.0; 3]).unwrap();
    assert!((r - 0.5).abs() < 1e-15, "{r}");
    // The first pair twice: means 7/4, sums of squares 2.75 and 2.75, of products 1.75.
    let r = pearson(&[1.0, 2.0, 3.0], &[1.0, 3.0, 2.0], &[2.0, 1.0, 1.0]).unwrap();
    assert!((r - 7.0 / 11.0).abs() < 1e-15, "{r}");
    // Ranks 1, 2.5, 2.5, 4 and 1, 3, 2, 4: sums of squares 4.5 and 5, of products 4.5.
    let (x, y) = (
        Sorted::new(&[0.0, 7.0, 7.0, 900.0]),
        Sorted::new(&[-5.0, 3.0, 2.0, 9.0]),
    );
    assert_eq!(x.ranks(&one), [1.0, 2.5, 2.5, 4.0]);
    let r = spearman(&x, &y, &one).unwrap();
    assert!((r - 4.5 / 22.5_f64.sqrt()).abs() < 1e-15, "{r}");
}

#[test]
fn draws_are_of_whole_episodes() {
    let cluster: Vec<usize> = (0..60).map(|row| row * row % 7).collect();
    let different = Bootstrap::new(&cluster, 1, 0).clusters();
    assert!(different < MIN_CLUSTERS);
    assert_eq!(
        Bootstrap::new(&cluster, 9, 0)
            .estimate(|w| Some(w[0]))
            .unwrap()
            .interval,
        None
    );

    let cluster: Vec<usize> = (0..60).map(|row| row % 6).collect();
    let seen = std::cell::RefCell::new(Vec::new());
    let draws = Bootstrap::new(&cluster, 200, 3);
    let estimate = draws.estimate(|w| {
        seen.borrow_mut().push(w.to_vec());
        Some(
            w.iter()
                .zip(&cluster)
                .map(|(w, c)| w * *c as f64)
                .sum::<f64>()
                / 60.0,
        )
    });
    let estimate = estimate.unwrap();
    assert_eq!(estimate.value, 2.5);
    let [low, high] = estimate.interval.unwrap();
    // The mean of 6 draws from 0 to 5 has a standard deviation of .70.
    assert!(
        (0.9..1.4).contains(&(2.5 - low)) && (0.9..1.4).contains(&(high - 2.5)),
        "{low} {high}"
    );
    let seen = seen.into_inner();
    assert_eq!((seen.len(), &seen[0]), (201, &vec![1.0; 60]));
    for weights in &seen[1..] {
        assert_eq!(weights.iter().sum::<f64>(), 60.0);
        for (row, weight) in weights.iter().enumerate() {
            assert_eq!(*weight, weights[row % 6]);
        }
    }
    assert!(seen[1..].iter().any(|weights| weights != &seen[1]));
    assert_eq!(draws.estimate(|_| None), None);
}

#[test]
fn continuity_by_hand() {
    let rest = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0];
    let (moved, mut closed) = ([0.3, 0.4, 0.0, 0.0, 0.0, 0.0, -1.0], rest);
    closed[6] = 1.0;
    // Changes: .5, .5, 2, 0, 2.
    let steps = [
        (0, rest),
        (0, moved),
        (1, rest),
        (2, closed),
        (2, closed),
        (6, rest),
    ];
    let episode = robot::rows::Recorded {
        key: ("task".into(), 4),
        line: 2,
        steps: steps.to_vec(),
    };
    let found = continuity::steps(&[episode], "file").unwrap();
    let expected = [
        (0.0, 0.0, 0.0, None),
        (-0.5, -0.5, -0.5, None),
        (-0.5, -0.5, 0.0, None),
        (-1.0, -1.0 / 3.0, -0.5, Some(Flip::Closing)),
        (-0.75, -0.25, 0.25, None),
        (-1.0, -0.2, -0.25, Some(Flip::Opening)),
    ];
    for (step, (all, arm, delta, flip)) in found.iter().zip(expected) {
        assert!((step.continuity - all).abs() < 1e-12, "{step:?}");
        assert!((step.continuity_arm - arm).abs() < 1e-12, "{step:?}");
        assert!((step.delta - delta).abs() < 1e-12, "{step:?}");
        assert_eq!(step.flip, flip);
    }
    let phases = continuity::phases(&found);
    let counts: Vec<usize> = phases.iter().map(|phase| phase.steps).collect();
    assert_eq!(counts, [2, 1, 2, 0, 0, 0, 1, 0]);
    assert_eq!(
        (phases[0].all, phases[2].all, phases[3].all),
        (Some(-0.25), Some(-0.875), None)
    );
    // A rise then a drop: the opening alone. First drops: the second step, the closing, the opening.
    let (one, none) = (Share { fired: 1, of: 1 }, Share { fired: 0, of: 1 });
    for firing in continuity::firings(&found) {
        let expected = match firing.rule {
            "rise then drop" => (none, one, 1, none),
            _ => (one, one, 3, one),
        };
        assert_eq!(
            (
                firing.closings,
                firing.openings,
                firing.steps.fired,
                firing.starts
            ),
            expected,
            "{firing:?}"
        );
        assert_eq!(firing.steps.of, 6);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// A weight is how often a pair is there.
    #[test]
    fn weights_count(pairs in proptest::collection::vec((0u8..6, 0u8..9, 0u8..4), 1..40)) {
        let column = |of: fn(&(u8, u8, u8)) -> u8| -> Vec<f64> { pairs.iter().map(|p| of(p).into()).collect() };
        let (x, y, weights) = (column(|p| p.0), column(|p| p.1), column(|p| p.2));
        let spread = |v: &[f64]| -> Vec<f64> {
            let times = v.iter().zip(&weights);
            times.flat_map(|(v, w)| std::iter::repeat_n(*v, *w as usize)).collect()
        };
        let (xs, ys) = (spread(&x), spread(&y));
        let ones = vec![1.0; xs.len()];
        let both = [
            (pearson(&x, &y, &weights), pearson(&xs, &ys, &ones)),
            (
                spearman(&Sorted::new(&x), &Sorted::new(&y), &weights),
                spearman(&Sorted::new(&xs), &Sorted::new(&ys), &ones),
            ),
        ];
        for (weighted, plain) in both {
            match (weighted, plain) {
                (Some(a), Some(b)) => prop_assert!((a - b).abs() < 1e-9, "{} {}", a, b),
                (a, b) => prop_assert!(a.is_none() && b.is_none(), "{:?} {:?}", a, b),
            }
        }
    }

    #[test]
    fn no_spoiled_csv_panics(
        from in any::<prop::sample::Index>(),
        fields in proptest::collection::vec((0usize..12, 0usize..12, prop::sample::select(vec!["", "-1", "0", "9999", "1e999", "NaN", "x", "\""])), 0..4),
        bytes in proptest::collection::vec((0usize..2000, any::<u8>()), 0..3),
        end in proptest::option::weighted(0.2, 0usize..2000),
    ) {
        let nominal = perturb::parse_nominal(data("nominal_actions.csv").as_bytes(), "nominal").unwrap();
        for name in ["perturb.csv", "nominal_actions.csv", "trajectories_expert.csv"] {
            let text = data(name);
            let lines: Vec<&str> = text.lines().collect();
            // The rows of the others must begin with an episode.
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
