//! The built program.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use test_support::random_skip_file;
use w4ax::skip::{Controller, SkipFile};

use crate::deep;

/// Runs the program in a folder that also gets its picture.
fn skip_episode(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_w4ax"))
        .arg("skip-episode")
        .args(["--plot", folder.join("episode.svg").to_str().unwrap()])
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap()
}

fn rows(json: &Path) -> Vec<Value> {
    let report: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    report["rows"].as_array().unwrap().clone()
}

fn number(row: &Value, field: &str) -> f64 {
    row[field]
        .as_f64()
        .unwrap_or_else(|| panic!("{field} of {row}"))
}

/// Returns the row of a method.
fn of<'a>(rows: &'a [Value], method: &str) -> &'a Value {
    let row = rows.iter().find(|row| row["method"] == method);
    row.unwrap_or_else(|| panic!("no {method}"))
}

/// Returns the rows of a successful run.
fn run(arguments: &[&str]) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("rows.json");
    let to = ["--repeats", "1", "--json", json.to_str().unwrap()];
    let output = skip_episode(folder.path(), &[arguments, &to].concat());
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let svg = std::fs::read_to_string(folder.path().join("episode.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    rows(&json)
}

/// All recorded steps.
#[test]
fn errors_at_half_and_three_tenths_of_the_layers_meet_their_targets() {
    let rows = run(&[
        "--widths",
        "bf16",
        "--only",
        "DySL, fewer layers",
        "random skip",
        "random skip of dynamic layers",
    ]);
    let [error, share] =
        ["action_error", "layers_share"].map(|field| move |row: &Value| number(row, field));
    let (half, few) = (of(&rows, "DySL"), of(&rows, "DySL, fewer layers"));
    assert!(share(half) <= 0.5 && error(half) <= 0.05, "{half}");
    assert!(share(few) <= 0.3 && error(few) <= 0.1, "{few}");
    for random in ["random skip", "random skip of dynamic layers"] {
        let random = of(&rows, random);
        assert!((share(random) - share(half)).abs() < 0.005, "{random}");
        assert!(error(half) < 0.5 * error(random), "{half} and {random}");
    }
}

/// Two episodes, as each share takes eleven runs. Methods that are set to DySL's share reach it by
/// their threshold, as nearly as its steps allow.
#[test]
fn adapters_beat_the_identity() {
    let rows = run(&[
        "--widths",
        "bf16",
        "--episodes",
        "2",
        "--only",
        "identity for adapters",
        "static ratio 10 %",
        "static ratio 30 %",
    ]);
    let dysl = of(&rows, "DySL");
    let share = number(dysl, "layers_share");
    for method in [
        "identity for adapters",
        "static ratio 10 %",
        "static ratio 30 %",
    ] {
        let row = of(&rows, method);
        assert!((number(row, "layers_share") - share).abs() < 0.005, "{row}");
    }
    let identity = of(&rows, "identity for adapters");
    let [error, of_identity] = [dysl, identity].map(|row| number(row, "action_error"));
    assert!(error < 0.5 * of_identity, "{dysl} and {identity}");
}

/// DySL with each `--verify`. Two episodes have a step that runs again by default.
#[test]
fn verification_option_selects_the_rule() {
    let dysl = |verify: &[&str]| {
        let short = [
            "--widths",
            "bf16",
            "--episodes",
            "2",
            "--only",
            "without verification",
        ];
        let rows = run(&[&short[..], verify].concat());
        let off = of(&rows, "without verification");
        let [off, dysl] = [off, of(&rows, "DySL")]
            .map(|row| (number(row, "action_error"), number(row, "reruns")));
        assert_eq!(off.1, 0.0);
        (dysl, off)
    };
    let (by_default, off) = dysl(&[]);
    assert!(by_default.1 > 0.0 && by_default != off, "{by_default:?}");
    assert_eq!(dysl(&["--verify", "first-drop"]).0, by_default);
    assert_eq!(dysl(&["--verify", "off"]).0, off);
}

/// One episode, once, with every method and width.
#[test]
fn reports_every_method_at_every_width() {
    let rows = run(&["--episodes", "1"]);
    let exit = SkipFile::load(deep("skip_exit.safetensors")).unwrap();
    let exit = exit.config.exit.unwrap() as f64 / 16.0;
    let main = SkipFile::load(deep("skip.safetensors")).unwrap();
    let controllers = main.controllers.values().map(Controller::parameters);
    let controllers = controllers.sum::<usize>() as f64;
    let stages = main.metrics["seconds"].as_array().unwrap();
    let seconds: f64 = stages.iter().map(|stage| stage.as_f64().unwrap()).sum();
    let widths = ["bf16", "w4a16", "w4a8", "w4ax"];
    assert_eq!(rows.len() % widths.len(), 0);
    for (rows, width) in rows.chunks(rows.len() / 4).zip(widths) {
        let of = |method: &str| of(rows, method);
        assert!(rows.iter().all(|row| row["width"] == width));
        let (full, dysl) = (of("full"), of("DySL"));
        assert_eq!(
            (number(full, "layers_share"), number(full, "speedup")),
            (1.0, 1.0)
        );
        assert_eq!(number(full, "trainable_parameters"), 0.0);
        let share = number(dysl, "layers_share");
        assert!((3.0 / 16.0..1.0).contains(&share), "{share}");
        assert_eq!(
            number(dysl, "trainable_parameters"),
            main.parameters() as f64
        );
        for (method, ratio) in [
            ("DySL", Some(0.2)),
            ("static ratio 10 %", Some(0.1)),
            ("static ratio 30 %", Some(0.3)),
            ("without static layers", None),
            ("uniform skip", None),
        ] {
            assert_eq!(of(method)["static_ratio"].as_f64(), ratio, "{method}");
        }
        let identity = of("identity for adapters");
        assert_eq!(number(identity, "trainable_parameters"), controllers);
        for row in [dysl, identity] {
            assert_eq!(number(row, "training_seconds"), seconds);
        }
        for method in ["full", "random skip", "uniform skip"] {
            assert_eq!(of(method)["training_seconds"], Value::Null, "{method}");
        }
        let [error, of_identity] = [dysl, identity].map(|row| number(row, "action_error"));
        // One episode shows nothing at the dispatcher's widths: an action changes the widths after
        // it.
        let more = if width == "w4ax" {
            of_identity != error
        } else {
            of_identity > 1.1 * error
        };
        assert!(more, "{identity} and {dysl}");
        assert_eq!(
            number(of("fixed exit, DySL's adapter"), "layers_share"),
            exit
        );
        for (blind, off) in [
            ("random skip", 0.25),
            ("random skip of dynamic layers", 0.25),
            // The nearest number of layers.
            ("uniform skip", 0.5),
        ] {
            let blind = number(of(blind), "layers_share");
            assert!(
                (blind - share).abs() <= off / 16.0,
                "{blind} against {share}"
            );
        }
        assert_eq!(number(of("without verification"), "reruns"), 0.0);
        for row in rows {
            assert!(number(row, "action_error") >= 0.0 && number(row, "micros") > 0.0);
            let speedup = number(full, "micros") / number(row, "micros");
            assert!((number(row, "speedup") - speedup).abs() < 1e-9);
        }
    }
}

#[test]
fn rejects_unusable_options_and_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, skip: &SkipFile| {
        let path = folder.path().join(name);
        skip.save(&path).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let other = file("other.safetensors", &random_skip_file(4, 192, &[0], 0.0));
    let mut no_exit = random_skip_file(16, 192, &[0], 0.0);
    (no_exit.exit, no_exit.config.exit) = (None, None);
    let no_exit = file("no_exit.safetensors", &no_exit);
    let foreign = deep("deep_policy.safetensors");
    let foreign = foreign.to_str().unwrap();
    let output = skip_episode(folder.path(), &["--half", "0.2,x,0.5"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(
        error.contains("--half") && error.contains("eta2 is `x`"),
        "{error}"
    );
    for (arguments, words) in [
        (["--skip", other.as_str()], "other.safetensors"),
        (["--skip-exit", no_exit.as_str()], "no_exit.safetensors"),
        (["--skip-joint", foreign], "deep_policy.safetensors"),
        (["--rollouts", foreign], "deep_policy.safetensors"),
        (["--episode", "99"], "--episode"),
        (["--only", "nothing"], "--only"),
    ] {
        let short = ["--episodes", "1", "--repeats", "1"];
        let output = skip_episode(folder.path(), &[&short[..], &arguments].concat());
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(words), "{error}");
    }
}
