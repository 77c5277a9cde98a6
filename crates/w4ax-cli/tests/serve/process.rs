//! The process: its end, and files that it cannot read.

use std::io::{BufRead, Write};
use std::process::{Command, Stdio};

use w4ax_robot::checkpoint::TRAINED;
use w4ax_robot::rollouts::RECORDED;

use crate::server::Server;

#[test]
fn closed_input_or_output_ends_without_error() {
    Server::start("a8").end();

    // The last line may have no end.
    let mut server = Server::start("a8");
    server
        .input
        .write_all(b"{\"reset\": true, \"task\": 1}")
        .unwrap();
    let Server {
        mut process,
        input,
        mut output,
    } = server;
    drop(input);
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "{\"ok\":true}\n");
    assert_eq!(process.wait().unwrap().code(), Some(0));

    // The reader has closed its end.
    let Server {
        mut process,
        mut input,
        output,
    } = Server::start("a8");
    drop(output);
    while input.write_all(b"{}\n").is_ok() {}
    assert_eq!(process.wait().unwrap().code(), Some(0));
}

#[test]
fn bad_file_is_named() {
    for option in ["--policy", "--calibration", "--skip"] {
        let output = Command::new(env!("CARGO_BIN_EXE_w4ax"))
            .arg("serve")
            .args([option, RECORDED])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains("rollouts.safetensors"), "{error}");
    }
    // A missing calibration is not replaced by that of another policy.
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.safetensors");
    std::fs::copy(TRAINED, &policy).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_w4ax"))
        .arg("serve")
        .arg("--policy")
        .arg(&policy)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("calibration.json"), "{error}");
}
