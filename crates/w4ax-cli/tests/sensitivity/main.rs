//! `w4ax sensitivity`: the built program on the recorded data, with the figures of the data's
//! READMEs, and its parts.

mod figures;
mod files;
mod parts;

use std::path::Path;
use std::process::{Command, Output};

const DATA: &str = w4ax_robot::paths::ROBOT;

fn data(name: &str) -> String {
    std::fs::read_to_string(Path::new(DATA).join(name)).unwrap()
}

/// Runs the program in a folder outside the workspace.
fn sensitivity(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_w4ax"))
        .arg("sensitivity")
        .args(["--plot", "picture.svg"])
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap()
}

/// Returns the standard output and the JSON.
fn report(folder: &Path, arguments: &[&str]) -> (String, String) {
    let arguments = [&["--json", "report.json"], arguments].concat();
    let output = sensitivity(folder, &arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert_eq!(stderr, "");
    let json = std::fs::read_to_string(folder.join("report.json")).unwrap();
    (String::from_utf8(output.stdout).unwrap(), json)
}
