//! `w4ax report`: the built program on the recorded data, its figures computed a second time.

mod figures;
mod files;
mod tables;

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const DATA: &str = w4ax_robot::paths::ROBOT;

/// Runs the program in a folder outside the workspace. The picture is `NAME.svg`.
fn run(folder: &Path, name: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_w4ax"))
        .args(["report", name, "--plot", &format!("{name}.svg")])
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap()
}

/// Returns the standard output, the JSON and the picture.
fn report(folder: &Path, name: &str, arguments: &[&str]) -> (String, Value, String) {
    let json = format!("{name}.json");
    let output = run(folder, name, &[&["--json", &json], arguments].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert_eq!(stderr, "");
    let text = std::fs::read_to_string(folder.join(json)).unwrap();
    let svg = std::fs::read_to_string(folder.join(format!("{name}.svg"))).unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    (printed, serde_json::from_str(&text).unwrap(), svg)
}

fn number(value: &Value, path: &str) -> f64 {
    let found = value.pointer(path).and_then(Value::as_f64);
    found.unwrap_or_else(|| panic!("no number at {path}"))
}

fn near(got: f64, expected: f64) {
    assert!(
        (got - expected).abs() <= 1e-9 * (1.0 + expected.abs()),
        "{got}: expected {expected}"
    );
}

/// Returns the rows of a CSV file of the data below its header, and the index of a column.
fn csv(name: &str) -> (Vec<Vec<String>>, impl Fn(&str) -> usize) {
    let text = std::fs::read_to_string(Path::new(DATA).join(name)).unwrap();
    let mut lines = text
        .lines()
        .map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
    let header = lines.next().unwrap();
    let rows = lines.collect();
    (rows, move |name: &str| {
        header.iter().position(|column| column == name).unwrap()
    })
}
