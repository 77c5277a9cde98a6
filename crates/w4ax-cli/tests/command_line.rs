//! Help, completions and exit codes of all subcommands.

use std::process::{Command, Output};

const COMMANDS: [&str; 11] = [
    "episode",
    "convert",
    "calibrate",
    "sensitivity",
    "skip-episode",
    "distill",
    "serve",
    "llama-block",
    "vla",
    "doctor",
    "completions",
];

fn w4ax(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_w4ax"))
        .args(arguments)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn help_names_every_command_with_examples() {
    let help = stdout(&w4ax(&["--help"]));
    for command in COMMANDS {
        assert!(help.contains(command), "{command} is not in: {help}");
        let left_out = command == "distill" && !cfg!(feature = "train")
            || command == "llama-block" && !cfg!(feature = "candle")
            || command == "vla" && !cfg!(feature = "vla");
        if !left_out {
            let help = stdout(&w4ax(&[command, "--help"]));
            let example = format!("Examples:\n  w4ax {command}");
            assert!(help.contains(&example), "{help}");
        }
    }
}

#[test]
fn completions_name_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = stdout(&w4ax(&["completions", shell]));
        for command in COMMANDS {
            assert!(script.contains(command), "{command} is not in {shell}'s");
        }
        assert!(script.contains("rollouts"), "options are not in {shell}'s");
    }
}

#[test]
fn bad_options_exit_with_2() {
    for arguments in [
        &["teach"][..],
        &["episode", "--no-such-option"],
        &["completions", "dos"],
        &[],
    ] {
        let output = w4ax(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty());
    }
}

/// The error names the feature whatever the options are.
#[test]
fn missing_feature_is_named() {
    for (command, feature, present) in [
        ("distill", "train", cfg!(feature = "train")),
        ("llama-block", "candle", cfg!(feature = "candle")),
        ("vla", "vla", cfg!(feature = "vla")),
    ] {
        if !present {
            let output = w4ax(&[command, "--out", "file"]);
            let error = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{error}");
            assert!(error.contains(&format!("--features {feature}")), "{error}");
        }
    }
}

/// Defaults in the source folder of the program are reported by their option if they do not exist.
#[test]
fn missing_path_names_its_option() {
    for arguments in [
        &["episode", "--rollouts"][..],
        &["calibrate", "--rollouts"],
        &["calibrate", "--validation"],
        &["sensitivity", "--data"],
        &["skip-episode", "--policy"],
        &["skip-episode", "--rollouts"],
        &["skip-episode", "--validation"],
        &["skip-episode", "--skip-exit"],
    ] {
        let output = w4ax(&[arguments, &["nowhere"]].concat());
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{error}");
        let named = format!("error: {} is `nowhere`, which does not exist", arguments[1]);
        assert!(error.starts_with(&named), "{error}");
    }
}

/// The server needs no file: its policy is in the program.
#[test]
fn server_has_no_default_paths() {
    let help = stdout(&w4ax(&["serve", "--help"]));
    assert!(help.contains("--policy"), "{help}");
    let root = w4ax_robot::paths::ROBOT
        .strip_suffix("tests/data/robot")
        .unwrap();
    assert!(!help.contains(root), "{help}");
    assert!(stdout(&w4ax(&["episode", "--help"])).contains(root));
}
