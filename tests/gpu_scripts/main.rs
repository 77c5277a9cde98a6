//! Tests the scripts around the GPU programs: the kit's `run`, the peers' bench and the report. The
//! programs of the kit are fakes, and the figures are made up.

mod kit;
mod peers;
mod report;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("scripts")
        .join(name)
}

fn read_json(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}\n{text}", path.display()))
}

/// Returns stdout and stderr of a program.
fn text_of(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// Writes an executable script.
fn write_program(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Returns a command of Python 3; `None` if it is missing and the test is left out.
fn python3(test: &str) -> Option<Command> {
    match Command::new("python3").arg("--version").output() {
        Ok(_) => Some(Command::new("python3")),
        Err(error) => {
            test_support::leave_out(test, &format!("python3 could not be started: {error}"));
            None
        }
    }
}
