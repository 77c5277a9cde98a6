//! The `sensitivity` example: the built program on the recorded data beside what the data's READMEs say, and its parts.

#[allow(dead_code)] // The test takes its part, here and below.
#[path = "../../examples/sensitivity/answer.rs"]
mod answer;
#[allow(dead_code)]
#[path = "../../examples/sensitivity/continuity.rs"]
mod continuity;
#[path = "../../examples/sensitivity/correlation.rs"]
mod correlation;
#[path = "../support/example.rs"]
mod example;
#[allow(dead_code)]
#[path = "../../examples/sensitivity/expert.rs"]
mod expert;
#[allow(dead_code)]
#[path = "../../examples/sensitivity/motion.rs"]
mod motion;
#[allow(dead_code)]
#[path = "../../examples/sensitivity/perturb.rs"]
mod perturb;
#[path = "../../examples/robot/mod.rs"]
mod robot;

mod figures;
mod files;
mod parts;

use std::path::Path;
use std::process::{Command, Output};

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
