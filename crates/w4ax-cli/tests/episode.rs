//! `w4ax episode`: the built program on the recorded data, and its parts.

use std::path::Path;
use std::process::{Command, Output};

use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use w4ax::calibrate::Calibration;
use w4ax::cpu::Cpu;
use w4ax::dispatch::Dispatcher;
use w4ax::{Clipping, Grouping, Quantize, Scheme, Width};
use w4ax_robot::checkpoint::{Checkpoint, TRAINED};
use w4ax_robot::closed_loop;
use w4ax_robot::episode::replay::{self, Replay};
use w4ax_robot::episode::shuffle::shuffle_within_tasks;
use w4ax_robot::paths::CLOSED_LOOP;
use w4ax_robot::policy::Policy;
use w4ax_robot::rollouts::{RECORDED, Rollouts, action};
use w4ax_robot::setup::{QUANTIZE, default_calibration};
use w4ax_robot::shapes::Tokens;

/// Runs the program in a folder outside the workspace.
fn episode(folder: &Path, arguments: &[&str]) -> Output {
    let plot = folder.join("episode.svg");
    Command::new(env!("CARGO_BIN_EXE_w4ax"))
        .arg("episode")
        .args(["--plot", plot.to_str().unwrap()])
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap()
}

/// Collects the paths of all values without fields, in order.
fn leaves(value: &Value, path: &str, to: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                leaves(value, &format!("{path}/{name}"), to);
            }
        }
        _ => to.push(path.into()),
    }
}

fn number(report: &Value, path: &str) -> f64 {
    report.pointer(path).and_then(Value::as_f64).unwrap()
}

/// The dynamic run as a plain loop with a new dispatcher for each episode. Returns the shares of
/// the widths and the mean error.
fn dynamic_run() -> ([f64; 4], f64) {
    let checkpoint = Checkpoint::load(TRAINED).unwrap();
    let rollouts = Rollouts::load(RECORDED).unwrap();
    let calibration = Calibration::load(default_calibration(TRAINED)).unwrap();
    let mut policy = Policy::new(&checkpoint, QUANTIZE, Cpu::new().unwrap(), 1).unwrap();
    let (mut steps, mut error) = ([0; 4], 0.0);
    for episode in rollouts.episodes() {
        let task = &policy.tasks()[rollouts.task[episode.start]];
        let config = calibration.dispatch_config(task).unwrap();
        let mut dispatcher = Dispatcher::new(&config).unwrap();
        for row in episode.clone() {
            let width = dispatcher.decide().active;
            let ran = action(&policy.forward(&rollouts.input[row], width).unwrap());
            dispatcher.observe(&ran).unwrap();
            steps[width.index()] += 1;
            let apart = ran.iter().zip(action(&rollouts.bf16[row]));
            error += apart.map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
        }
    }
    let all = rollouts.len() as f64;
    (steps.map(|steps| f64::from(steps) / all), error / all)
}

/// The policy runs with the weights that the options name.
#[test]
fn quantizes_the_policy_as_requested() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("a.json");
    let checkpoint = Checkpoint::load(TRAINED).unwrap();
    let rollouts = Rollouts::load(RECORDED).unwrap();
    let two_level = QUANTIZE.with_scheme(Scheme::TwoLevel);
    let searched = two_level.with_clipping(Clipping::SquaredError);
    let g128 = Quantize::new(Grouping::G128).with_clipping(Clipping::SquaredError);
    for (options, quantize, printed) in [
        (
            &["--scheme", "two-level"][..],
            searched,
            "two-level g64 by search",
        ),
        (
            &["--group", "128", "--clipping", "search"],
            g128,
            "grouped g128 by search",
        ),
    ] {
        let common = ["--costs", "bits", "--json", json.to_str().unwrap()];
        let output = episode(folder.path(), &[&common, options].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        let stdout = String::from_utf8(output.stdout).unwrap();
        let rows = rollouts.len();
        let mut policy = Policy::new(&checkpoint, quantize, Cpu::new().unwrap(), rows).unwrap();
        let expected = format!("weights, {printed}: {} bytes packed", policy.packed_bytes());
        assert!(
            stdout.contains(&expected),
            "`{expected}` is not in: {stdout}"
        );
        let mut tokens = vec![Tokens::default(); rows];
        policy
            .forward_rows(&rollouts.input, Width::A8, &mut tokens)
            .unwrap();
        let distance = |(a, b)| {
            let pairs = action(a).into_iter().zip(action(b));
            pairs.map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
        };
        let error: f64 = tokens.iter().zip(&rollouts.bf16).map(distance).sum();
        let report: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
        let of_report = number(&report, "/static/a8/mean_action_error");
        assert!(
            (error / rows as f64 - of_report).abs() < 1e-9,
            "{of_report}"
        );
    }
    let output = episode(
        folder.path(),
        &["--scheme", "two-level", "--group", "channel"],
    );
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(
        stderr.contains("grouping of a two-level weight is channel"),
        "{stderr}"
    );
}

#[test]
fn reports_all_runs_and_draws_the_picture() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("a.json");
    let run = |json: &Path, more: &[&str]| {
        let arguments = [&["--json", json.to_str().unwrap()], more].concat();
        let output = episode(folder.path(), &arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        assert_eq!(stderr, "", "no progress bar where there is no terminal");
        let text = std::fs::read_to_string(json).unwrap();
        let report: Value = serde_json::from_str(&text).unwrap();
        (String::from_utf8(output.stdout).unwrap(), text, report)
    };
    // Measured costs would differ from run to run.
    let bits = ["--costs", "bits"];
    let (printed, text, report) = run(&json, &[&bits[..], &["--replay", CLOSED_LOOP]].concat());

    let mut fields = Vec::new();
    leaves(&report, "", &mut fields);
    fields.sort();
    let mut expected = vec![
        "/steps",
        "/dynamic/share/2",
        "/dynamic/share/4",
        "/dynamic/share/8",
        "/dynamic/share/16",
        "/dynamic/mean_action_error",
        "/dynamic/rule",
        "/dynamic/widths",
        "/dynamic/cost",
        "/dynamic/reruns",
        "/random/mean_action_error",
        "/random_equal_cost/mean_action_error",
        "/random_equal_cost/std",
        "/random_equal_cost/share_high",
        "/random_equal_cost/cost",
        "/best_static_within_cost/width",
        "/best_static_within_cost/mean_action_error",
        "/best_static_within_cost/cost",
        "/useful_widths",
        "/replay/steps",
        "/replay/sensitivity_mismatches",
        "/replay/width_mismatches",
        "/packed_bytes",
        "/bf16_bytes",
    ];
    for width in ["a2", "a4", "a8", "bf16"] {
        expected.push(format!("/static/{width}/mean_action_error").leak());
        expected.push(format!("/static/{width}/token_agreement").leak());
        expected.push(format!("/costs/{width}").leak());
    }
    expected.sort_unstable();
    assert_eq!(fields, expected);

    assert_eq!(report["steps"], 1519);
    let replayed = serde_json::json!({
        "steps": 1434, "sensitivity_mismatches": 0, "width_mismatches": 0
    });
    assert_eq!(report["replay"], replayed);
    let shares = ["2", "4", "8", "16"].map(|w| number(&report, &format!("/dynamic/share/{w}")));
    assert!(
        (shares.iter().sum::<f64>() - 1.0).abs() < 1e-12,
        "{shares:?}"
    );
    for (width, error) in [
        ("a2", 0.303),
        ("a4", 0.0454),
        ("a8", 0.0384),
        ("bf16", 0.038),
    ] {
        let ours = number(&report, &format!("/static/{width}/mean_action_error"));
        assert!(
            (ours / error - 1.0).abs() < 0.1,
            "{width}: {ours} for {error}"
        );
    }
    let (shares_here, error_here) = dynamic_run();
    let error = number(&report, "/dynamic/mean_action_error");
    assert_eq!(shares, shares_here);
    assert!(
        (error - error_here).abs() < 1e-12,
        "{error} for {error_here}"
    );
    for task in w4ax_robot::rollouts::TASKS {
        assert!(printed.contains(task), "{task} is in no table");
    }
    let svg = std::fs::read_to_string(folder.path().join("episode.svg")).unwrap();
    for label in [
        "sensitivity S",
        "activation width (bits)",
        "action error",
        "time (s)",
        "θ24",
    ] {
        assert!(svg.contains(label), "the picture does not say {label}");
    }

    // A second run without the replay is the same. Another seed changes the random widths only.
    let (_, again, without) = run(
        &folder.path().join("b.json"),
        &["--costs", "bits", "--threads", "2"],
    );
    assert!(without.get("replay").is_none());
    let mut with = report.clone();
    with.as_object_mut().unwrap().remove("replay");
    assert_eq!(with, without);
    assert_ne!(text, again);
    let (_, _, other) = run(
        &folder.path().join("c.json"),
        &["--costs", "bits", "--seed", "7"],
    );
    assert_eq!(other["dynamic"], report["dynamic"]);
    assert_ne!(other["random"], report["random"]);

    // No other file is left.
    let mut names: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["a.json", "b.json", "c.json", "episode.svg"]);
}

#[test]
fn bad_file_is_named_with_exit_code_1() {
    let folder = tempfile::tempdir().unwrap();
    let lines: Vec<String> = (std::fs::read_to_string(CLOSED_LOOP).unwrap().lines())
        .map(str::to_owned)
        .collect();
    let replace = |line: usize, from: &str, to: &str| {
        let mut lines = lines.clone();
        assert!(lines[line - 1].contains(from));
        lines[line - 1] = lines[line - 1].replacen(from, to, 1);
        lines.join("\n")
    };
    let calibration = std::fs::read_to_string(default_calibration(TRAINED)).unwrap();
    let cases: [(&str, String, &[&str]); 12] = [
        ("--replay", String::new(), &["column `task`"]),
        ("--replay", lines[0].clone(), &["no steps"]),
        ("--replay", replace(1, "S_cond", "S"), &["line 1", "S_cond"]),
        (
            "--replay",
            replace(3, "2,16", "3,16"),
            &["line 3", "S_cond", "`3`"],
        ),
        (
            "--replay",
            replace(3, "139", "256"),
            &["line 3", "k_x", "`256`"],
        ),
        (
            "--replay",
            replace(3, "0.116278623", "inf"),
            &["line 3", "S_t", "inf"],
        ),
        (
            "--replay",
            replace(3, "1000,1", "1000,2"),
            &["line 3", "`t` is 2"],
        ),
        ("--replay", replace(3, ",1", ""), &["line: 3"]),
        (
            "--replay",
            lines.join("\n").replace("Lift", "Push"),
            &["line 2", "Push"],
        ),
        (
            "--calibration",
            calibration.replace("0.47500000000000003", "0.6"),
            &["theta_24"],
        ),
        ("--policy", "{}".into(), &[]),
        ("--rollouts", "x".repeat(100), &[]),
    ];
    for (option, text, named) in cases {
        let file = folder.path().join("some.file");
        std::fs::write(&file, text).unwrap();
        let output = episode(folder.path(), &[option, file.to_str().unwrap()]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{option}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        for part in named.iter().chain(&["error: ", "some.file"]) {
            assert!(
                error.contains(part),
                "{option}: `{part}` is not in: {error}"
            );
        }
    }
    for option in ["--policy", "--rollouts", "--calibration", "--replay"] {
        let output = episode(folder.path(), &[option, "not-there"]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{option}: {error}");
        assert!(error.contains("not-there"), "{error}");
    }
    let output = episode(folder.path(), &["--episode", "12"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.contains("--episode") && error.contains("12"),
        "{error}"
    );
}

/// The requested backend runs, or an error names the reason.
#[test]
fn missing_gpu_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let failed = |arguments: &[&str]| {
        let output = episode(folder.path(), arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        let out = String::from_utf8(output.stdout).unwrap();
        if output.status.success() {
            return Ok(out);
        }
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.starts_with("error: "), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert_eq!(out, "", "nothing ran");
        Err(error)
    };
    for routing in ["kernel", "graph", "host"] {
        match failed(&["--backend", "cuda", "--routing", routing]) {
            // A build with feature `cuda` on a machine with a GPU.
            Ok(out) => assert!(
                out.to_lowercase().contains(&format!("routed by {routing}")),
                "{out}"
            ),
            Err(error) => assert!(error.to_lowercase().contains("cuda"), "{error}"),
        }
        let error = failed(&["--routing", routing]).unwrap_err();
        assert!(error.contains("--routing"), "{error}");
    }
}

#[test]
fn replay_reproduces_the_recorded_closed_loop() {
    let ran = replay::recorded_calibration(CLOSED_LOOP.as_ref()).unwrap();
    let calibration = Calibration::load(ran).unwrap();
    let mut episodes = closed_loop::load(CLOSED_LOOP).unwrap();
    assert_eq!(episodes.len(), 9);
    let exact = replay::replay_file(CLOSED_LOOP.as_ref(), &calibration).unwrap();
    let none = Replay {
        steps: 1434,
        ..Replay::default()
    };
    assert_eq!(exact, none);
    // They ran with other parameters than those of the calibration in use.
    let other = Calibration::load(default_calibration(TRAINED)).unwrap();
    let moved = replay::replay_file(CLOSED_LOOP.as_ref(), &other).unwrap();
    assert!(
        moved.sensitivity_mismatches > 100 && moved.width_mismatches > 100,
        "{moved:?}"
    );

    // Each change is counted once.
    episodes[0].steps[5].sensitivity += 3e-5;
    episodes[1].steps[7].sensitivity -= 3e-5;
    episodes[2].steps[9].target = w4ax::Width::A8;
    episodes[2].steps[9].active = w4ax::Width::A8;
    episodes[3].steps[0].active = w4ax::Width::A8;
    let spoiled = replay::replay(&episodes, &calibration, CLOSED_LOOP).unwrap();
    assert_eq!(
        (spoiled.sensitivity_mismatches, spoiled.width_mismatches),
        (2, 2)
    );
}

/// The steps are repeated with the parameters beside them, or with those that are named.
#[test]
fn replay_has_the_parameters_of_the_recorded_run() {
    let folder = tempfile::tempdir().unwrap();
    let mismatches = |arguments: &[&str]| {
        let json = folder.path().join("r.json");
        let more = ["--costs", "bits", "--json", json.to_str().unwrap()];
        let output = episode(folder.path(), &[arguments, &more].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        let report: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
        report["replay"]["width_mismatches"].as_u64().unwrap()
    };
    let alone = folder.path().join("steps.csv");
    std::fs::copy(CLOSED_LOOP, &alone).unwrap();
    let steps = alone.to_str().unwrap();
    assert!(
        mismatches(&["--replay", steps]) > 100,
        "the calibration in use"
    );
    let ran = replay::recorded_calibration(CLOSED_LOOP.as_ref()).unwrap();
    let named = [
        "--replay",
        steps,
        "--replay-calibration",
        ran.to_str().unwrap(),
    ];
    assert_eq!(mismatches(&named), 0);
    let output = episode(folder.path(), &["--replay-calibration", "some.json"]);
    assert_eq!(output.status.code(), Some(2), "it requires --replay");
}

#[test]
fn rules_run_on_validation_episodes_and_with_online_percentiles() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let json = folder.path().join("r.json");
        let more = ["--costs", "bits", "--json", json.to_str().unwrap()];
        let output = episode(folder.path(), &[arguments, &more].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        serde_json::from_slice::<Value>(&std::fs::read(json).unwrap()).unwrap()
    };
    let consistency = ["--rule", "consistency"];
    let held_out = run(&[&consistency[..], &["--validation"]].concat());
    assert_eq!(held_out["steps"], 1594);
    let error = number(&held_out, "/dynamic/mean_action_error");
    let random = number(&held_out, "/random_equal_cost/mean_action_error");
    assert!(error < 0.6 * random, "{error} {random}");
    let profiles = number(&held_out, "/random_profiles_equal_cost/mean_action_error");
    assert!(error < 0.9 * profiles, "{error} {profiles}");
    let fixed = number(&held_out, "/static_profile_within_cost/mean_action_error");
    assert!(error < fixed, "{error} {fixed}");

    let dyq = run(&[]);
    let online = run(&["--online"]);
    assert_eq!(online["static"], dyq["static"]);
    assert_ne!(online["dynamic"], dyq["dynamic"]);

    // Without quantiles in the calibration, the gate opens once there are enough steps.
    let mut calibration = Calibration::load(default_calibration(TRAINED)).unwrap();
    calibration.consistency.as_mut().unwrap().quantiles = None;
    let file = folder.path().join("c.json");
    calibration.save(&file).unwrap();
    let without = [
        "--rule",
        "consistency",
        "--calibration",
        file.to_str().unwrap(),
    ];
    let no_gate = run(&without);
    let online = run(&[&without[..], &["--online"]].concat());
    let share = |report: &Value| number(report, "/dynamic/share/2");
    let (all, gated) = (share(&no_gate), share(&online));
    assert!(gated < all && gated > 0.2, "{gated} of {all}");
    let errors = [&no_gate, &online].map(|report| number(report, "/dynamic/mean_action_error"));
    assert!(errors[1] < errors[0], "{errors:?}");
}

#[test]
fn shuffle_keeps_the_width_shares_of_each_task() {
    let task: Vec<usize> = (0..1000).map(|i| i * i % 7 % 3).collect();
    let widths: Vec<usize> = (0..1000).map(|i| i / 300).collect();
    let shuffled = |seed| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        shuffle_within_tasks(&widths, &task, &mut rng)
    };
    let count = |widths: &[usize]| {
        let mut count = [[0; 4]; 3];
        widths
            .iter()
            .zip(&task)
            .for_each(|(&w, &t)| count[t][w] += 1);
        count
    };
    assert_eq!(shuffled(1), shuffled(1));
    assert_ne!(shuffled(1), shuffled(2));
    assert_ne!(shuffled(1), widths);
    assert_eq!(count(&shuffled(1)), count(&widths));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn corrupted_csv_never_panics(
        changes in proptest::collection::vec((0usize..3000, any::<u8>()), 0..5),
        end in 0usize..6000,
    ) {
        let mut bytes = std::fs::read(CLOSED_LOOP).unwrap();
        bytes.truncate(3000);
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        bytes.truncate(end);
        if let Err(error) = closed_loop::parse(&bytes, "some.csv") {
            prop_assert!(error.to_string().starts_with("some.csv: "), "{}", error);
        }
    }
}
