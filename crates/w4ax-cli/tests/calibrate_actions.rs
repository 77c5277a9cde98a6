//! `w4ax calibrate --actions`: recorded steps of any model, as JSON lines.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use w4ax::Width;
use w4ax::calibrate::Calibration;
use w4ax::dispatch::Action;
use w4ax_robot::rollouts::{RECORDED, Rollouts, TASKS, action};

const SERIES: [&str; 5] = ["reference", "a2", "a4", "a8", "bf16"];

/// Runs the command. Returns what it prints about errors and thresholds, and the calibration; or
/// its standard error.
fn calibrate(arguments: &[&str]) -> Result<(String, Calibration), String> {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("c.json");
    let output = Command::new(env!("CARGO_BIN_EXE_w4ax"))
        .arg("calibrate")
        .args(arguments)
        .arg("--out")
        .arg(&out)
        .output()
        .unwrap();
    if !output.status.success() {
        assert!(!out.exists(), "a calibration was written");
        return Err(String::from_utf8(output.stderr).unwrap());
    }
    let text = String::from_utf8(output.stdout).unwrap();
    let (_, text) = text.split_once("\n\n").expect("the table of tasks");
    let (text, _) = text.split_once("written to ").unwrap();
    Ok((text.to_owned(), Calibration::load(out).unwrap()))
}

fn calibrate_file(path: &Path) -> Result<(String, Calibration), String> {
    calibrate(&["--actions", path.to_str().unwrap()])
}

/// The tasks of recorded steps are in the order of their first steps.
fn sorted((text, mut calibration): (String, Calibration)) -> (String, Calibration) {
    calibration.tasks.sort_by(|a, b| a.name.cmp(&b.name));
    (text, calibration)
}

/// Writes lines as `steps.jsonl`.
fn write(folder: &Path, lines: &[Value]) -> PathBuf {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let path = folder.join("steps.jsonl");
    std::fs::write(&path, text).unwrap();
    path
}

/// The episodes of the repository: task, number, and `[series][steps]` actions.
fn recorded() -> Vec<(&'static str, i32, [Vec<Action>; 5])> {
    let rollouts = Rollouts::load(RECORDED).unwrap();
    let at = |width| rollouts.tokens(width).unwrap();
    let [a2, a4, a8, bf16] = [Width::A2, Width::A4, Width::A8, Width::Bf16].map(at);
    let series = [&rollouts.bf16, a2, a4, a8, bf16];
    let episode = |steps: &std::ops::Range<usize>| {
        let at = steps.start;
        let actions = series.map(|tokens| tokens[steps.clone()].iter().map(action).collect());
        (TASKS[rollouts.task[at]], rollouts.episode[at], actions)
    };
    rollouts.episodes().iter().map(episode).collect()
}

/// The recorded episodes as lines, one for each `executed` actions. A chunk also has `dropped`
/// actions that were not executed, except the last chunk of an episode.
fn lines(executed: usize, dropped: usize) -> Vec<Value> {
    let mut lines = Vec::new();
    for (task, episode, actions) in recorded() {
        let steps = actions[0].len();
        for step in (0..steps).step_by(executed) {
            let mut outputs = serde_json::Map::new();
            for (name, actions) in SERIES.into_iter().zip(&actions) {
                let end = (step + executed).min(steps);
                let mut chunk = actions[step..end].to_vec();
                if end < steps {
                    chunk.extend(std::iter::repeat_n([9.0; 7], dropped));
                }
                let output = match (executed, dropped) {
                    (1, 0) => json!(chunk[0]),
                    _ => json!(chunk),
                };
                outputs.insert(name.into(), output);
            }
            lines.push(json!({
                "task": task, "episode": episode, "step": step, "actions": outputs
            }));
        }
    }
    lines
}

#[test]
fn gives_the_calibration_of_the_same_recorded_tokens() {
    let expected = sorted(calibrate(&["--no-consistency"]).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let steps = lines(1, 0);
    let whole = calibrate_file(&write(folder.path(), &steps)).unwrap();
    assert_eq!(sorted(whole.clone()), expected);
    // A folder is read by file, in the order of the names. Other files are ignored.
    let folder = tempfile::tempdir().unwrap();
    let begins = |i: &usize| steps[*i]["step"] == 0;
    let cut = (steps.len() / 2..).find(begins).unwrap();
    let first = write(folder.path(), &steps[..cut]);
    std::fs::rename(first, folder.path().join("first.jsonl")).unwrap();
    write(folder.path(), &steps[cut..]);
    std::fs::write(folder.path().join("notes.txt"), "no step").unwrap();
    assert_eq!(calibrate_file(folder.path()).unwrap(), whole);
}

#[test]
fn gives_the_same_calibration_for_chunks() {
    let expected = sorted(calibrate(&["--no-consistency"]).unwrap());
    let folder = tempfile::tempdir().unwrap();
    for (executed, dropped) in [(8, 0), (5, 3)] {
        let path = write(folder.path(), &lines(executed, dropped));
        assert_eq!(
            sorted(calibrate_file(&path).unwrap()),
            expected,
            "{executed} {dropped}"
        );
    }
}

fn zeros(len: usize) -> Vec<f64> {
    vec![0.0; len]
}

/// The lines of the recording, changed by `change`, give an error that contains `expected`.
fn rejects(change: impl FnOnce(&mut Vec<Value>), expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mut lines = lines(1, 0);
    change(&mut lines);
    let error = calibrate_file(&write(folder.path(), &lines)).unwrap_err();
    assert!(error.contains(expected), "`{expected}` is not in: {error}");
    assert!(error.contains("steps.jsonl"), "{error}");
}

#[test]
fn rejects_missing_actions_with_line_and_name() {
    for name in SERIES {
        let remove = |lines: &mut Vec<Value>| {
            lines[6]["actions"].as_object_mut().unwrap().remove(name);
        };
        rejects(remove, &format!("line 7: no actions `{name}`: expected"));
    }
    rejects(
        |lines| drop(lines[1].as_object_mut().unwrap().remove("actions")),
        "line 2: no actions `reference`",
    );
    rejects(
        |lines| lines[2]["actions"]["a16"] = json!(zeros(7)),
        "unknown field `a16`",
    );
}

#[test]
fn rejects_actions_of_another_length() {
    rejects(
        |lines| lines[3]["actions"]["a4"] = json!(zeros(6)),
        "line 4: `a4` has 6 numbers: expected 7",
    );
    rejects(
        |lines| lines[3]["actions"]["a8"] = json!([zeros(7), zeros(7)]),
        "line 4: `a8` has 2 actions: expected 1",
    );
    rejects(
        |lines| lines[3]["actions"]["reference"] = json!([]),
        "line 4: `reference` has 0 numbers: expected 7",
    );
    rejects(
        |lines| lines[3]["actions"]["reference"] = json!([[]]),
        "line 4: `reference` has 0 numbers: expected 7",
    );
    rejects(
        |lines| lines[3]["actions"]["bf16"] = json!("none"),
        "line 4: actions are not a list of numbers",
    );
}

#[test]
fn rejects_steps_out_of_order() {
    rejects(
        |lines| lines.swap(4, 5),
        "line 5: `step` is 5 after 3: expected 4",
    );
    rejects(
        |lines| lines.insert(4, lines[3].clone()),
        "line 5: `step` is 3 after 3: expected 4",
    );
    rejects(
        |lines| drop(lines.remove(7)),
        "line 8: `step` is 8 after 6: expected 7",
    );
    rejects(
        |lines| drop(lines.remove(0)),
        "line 1: episode 0 of task `Lift` begins with `step` 1: expected 0",
    );
    rejects(
        |lines| lines[9]["episode"] = json!(77),
        "line 10: episode 77 of task `Lift` begins with `step` 9: expected 0",
    );
    rejects(
        |lines| lines[9]["task"] = json!("Lower"),
        "line 10: episode 0 of task `Lower` begins with `step` 9: expected 0",
    );
    // A gap that is longer than the chunk.
    let folder = tempfile::tempdir().unwrap();
    let mut chunks = lines(8, 0);
    chunks.remove(1);
    let error = calibrate_file(&write(folder.path(), &chunks)).unwrap_err();
    assert!(
        error.contains("line 2: `step` is 16 after 0: expected 1 to 8"),
        "{error}"
    );
}

#[test]
fn rejects_numbers_that_are_not_finite() {
    let folder = tempfile::tempdir().unwrap();
    for (number, expected) in [
        ("NaN", "NaN: expected a finite number"),
        ("Infinity", "Infinity: expected a finite number"),
        ("-Infinity", "Infinity: expected a finite number"),
        ("1e999", "number out of range"),
        ("null", "actions are not a list of numbers"),
    ] {
        let mut steps = lines(1, 0);
        steps[1]["actions"]["a2"][3] = json!("HERE");
        let path = write(folder.path(), &steps);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("\"HERE\"", number)).unwrap();
        let error = calibrate_file(&path).unwrap_err();
        assert!(
            error.contains("line 2: ") && error.contains(expected),
            "{number}: {error}"
        );
    }
}

#[test]
fn rejects_lines_that_are_no_steps() {
    rejects(
        |lines| drop(lines[2].as_object_mut().unwrap().remove("task")),
        "line 3: missing field `task`",
    );
    rejects(|lines| lines[2]["step"] = json!(-1), "line 3: ");
    rejects(|lines| lines[2] = json!([1, 2]), "line 3: ");
    rejects(|lines| lines.clear(), "has no steps");
    let folder = tempfile::tempdir().unwrap();
    let error = calibrate_file(folder.path()).unwrap_err();
    assert!(error.contains("has no steps"), "{error}");
    let error = calibrate_file(&folder.path().join("nowhere.jsonl")).unwrap_err();
    assert!(error.contains("nowhere.jsonl"), "{error}");
}

/// Two arms of joints: each number of the layout is one of the action.
#[test]
fn calibrates_for_a_layout() {
    let folder = tempfile::tempdir().unwrap();
    let mut steps = lines(1, 0);
    for step in &mut steps {
        for name in SERIES {
            let action: Vec<f64> = serde_json::from_value(step["actions"][name].take()).unwrap();
            step["actions"][name] = json!([action.clone(), action].concat());
        }
    }
    let path = write(folder.path(), &steps);
    let path = path.to_str().unwrap();
    let layout = "joints6:delta,gripper+joints6:delta,gripper";
    let (_, calibration) = calibrate(&["--actions", path, "--layout", layout]).unwrap();
    assert_eq!(calibration.layout, layout.parse().unwrap());
    let error = calibrate(&["--actions", path]).unwrap_err();
    assert!(
        error.contains("line 1: `reference` has 14 numbers: expected 7"),
        "{error}"
    );
    let error = calibrate(&["--actions", path, "--layout", "arm"]).unwrap_err();
    assert!(
        error.contains("--layout") && error.contains("arm"),
        "{error}"
    );
}

#[test]
fn rejects_options_of_the_repository_s_policies() {
    for other in [["--rollouts", "x"], ["--from", "policy"], ["--policy", "x"]] {
        let error = calibrate(&[&["--actions", "steps.jsonl"][..], &other].concat()).unwrap_err();
        assert!(
            error.contains("cannot be used with") && error.contains(other[0]),
            "{error}"
        );
    }
    let error = calibrate(&["--model", "folder"]).unwrap_err();
    assert!(error.contains("--actions"), "{error}");
}

#[test]
#[cfg(not(feature = "vla"))]
fn model_names_the_missing_feature() {
    let error = calibrate(&["--actions", "steps.jsonl", "--model", "folder"]).unwrap_err();
    assert!(error.contains("--features vla"), "{error}");
    rejects(
        |lines| drop(lines[6]["actions"].as_object_mut().unwrap().remove("a8")),
        "--model (needs feature vla)",
    );
}
