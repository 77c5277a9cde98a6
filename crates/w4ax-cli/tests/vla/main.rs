//! `w4ax vla`: the built program on small checkpoints of OpenVLA's structure.

mod calibrate;
mod convert;
mod errors;
mod oft;
mod openvla;
mod skip;
mod width;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use test_support::openvla_folder;

/// Runs `w4ax` with these arguments.
fn w4ax(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_w4ax"))
        .args(arguments)
        .output()
        .unwrap()
}

/// Runs `w4ax vla run`. Returns its standard output, and a JSON object for each step; or its
/// standard error.
fn run(model: &Path, arguments: &[&str]) -> Result<(String, Vec<Value>), String> {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("step.json");
    let paths = ["--model", text(model), "--json", text(&json)];
    let output = w4ax(&[&["vla", "run"], &paths[..], arguments].concat());
    if !output.status.success() {
        assert!(!json.exists(), "a failed run wrote results");
        return Err(String::from_utf8(output.stderr).unwrap());
    }
    let steps = std::fs::read_to_string(&json).unwrap();
    let steps = steps
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    Ok((String::from_utf8(output.stdout).unwrap(), steps.collect()))
}

/// Runs one step. Returns its JSON object.
fn step(model: &Path, arguments: &[&str]) -> Value {
    let (_, steps) = run(model, arguments).unwrap();
    let [step] = <[Value; 1]>::try_from(steps).unwrap();
    step
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// An input of the small OpenVLA checkpoint, with its reference values.
struct Case {
    image: PathBuf,
    ids: String,
    reference: Value,
}

impl Case {
    /// The options of the input.
    fn arguments(&self) -> [&str; 4] {
        ["--image", text(&self.image), "--tokens", &self.ids]
    }

    /// The options of the input, for the data set `bridge_tiny`.
    fn bridge(&self) -> [&str; 6] {
        let [a, b, c, d] = self.arguments();
        [a, b, c, d, "--unnorm-key", "bridge_tiny"]
    }
}

/// The three inputs of the small OpenVLA checkpoint.
fn cases() -> [Case; 3] {
    let reference = json(&openvla_folder().join("reference.json"));
    [0, 1, 2].map(|at| {
        let reference = reference["cases"][at].clone();
        Case {
            image: openvla_folder().join(reference["image"].as_str().unwrap()),
            ids: ids(&reference["input_ids"]),
            reference,
        }
    })
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Token ids as the command takes them.
fn ids(list: &Value) -> String {
    let ids = list.as_array().unwrap().iter().map(Value::to_string);
    ids.collect::<Vec<_>>().join(",")
}

/// `[rows][dims]`
fn rows(list: &Value) -> Vec<Vec<f64>> {
    serde_json::from_value(list.clone()).unwrap()
}
