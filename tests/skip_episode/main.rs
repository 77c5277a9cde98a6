//! Skipping on the robot's policy: the policy as a stack, and the `skip_episode` example.

#[path = "support/example.rs"]
mod example;
#[path = "support/networks.rs"]
mod networks;
#[path = "../examples/robot/mod.rs"]
mod robot;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use robot::checkpoint::Checkpoint;
use robot::networks::{AdapterWeights, Networks};
use robot::policy::Policy;
use robot::rollouts::Rollouts;
use robot::setup::QUANTIZE;
use robot::skipping::{Skipping, Substitute};
use serde_json::Value;
use w4ax::Precision;
use w4ax::cpu::Cpu;
use w4ax::skip::{Fate, SkipConfig, SkipFile, Verify};

fn deep(name: &str) -> PathBuf {
    Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/data/robot-deep"
    ))
    .join(name)
}

fn checkpoint() -> Checkpoint {
    Checkpoint::load(deep("deep_policy.safetensors")).unwrap()
}

fn rollouts() -> Rollouts {
    Rollouts::load(deep("deep_rollouts.safetensors")).unwrap()
}

fn skipping(
    file: &SkipFile,
    policy: &Policy,
    weights: AdapterWeights,
    config: SkipConfig,
) -> Skipping {
    let shape = (policy.blocks(), policy.width());
    let networks = Networks::new(
        file,
        "networks",
        shape,
        weights,
        QUANTIZE,
        &policy.compute(),
    )
    .unwrap();
    Skipping::new(&config, networks, Substitute::Adapter).unwrap()
}

/// The recorded tokens are f32 on BF16 weights; here activations are rounded to BF16 between the layers. Bounds with room: 1,779
/// tokens are equal, most others are neighbours.
#[test]
fn the_unquantised_policy_is_the_recorded_one() {
    let (checkpoint, rollouts) = (checkpoint(), rollouts());
    let mut policy = Policy::unquantised(&checkpoint, Cpu::new().unwrap(), 1).unwrap();
    let (mut equal, mut near) = (0, 0);
    for row in 0..300 {
        let input = &rollouts.input[row];
        let tokens = policy.forward(input, Precision::Bf16).unwrap();
        for (a, b) in tokens.iter().zip(&rollouts.bf16[row]) {
            equal += usize::from(a == b);
            near += usize::from(a.abs_diff(*b) <= 1);
        }
    }
    assert!(equal >= 1700 && near >= 2050, "{equal} and {near} of 2100");
    // The width is nothing to it.
    let a2 = policy.forward(&rollouts.input[0], Precision::A2).unwrap();
    assert_eq!(
        a2,
        policy.forward(&rollouts.input[0], Precision::Bf16).unwrap()
    );
    assert!(rollouts.tokens(Precision::A8).is_none());
}

/// With all controllers at "no" a step is the policy's, bit for bit; with all at "yes" only static layers run.
#[test]
fn controllers_decide() {
    let (checkpoint, rollouts) = (checkpoint(), rollouts());
    let cpu = Cpu::new().unwrap();
    let mut policies = [
        Policy::unquantised(&checkpoint, cpu.clone(), 1).unwrap(),
        Policy::new(&checkpoint, QUANTIZE, cpu, 1).unwrap(),
    ];
    for policy in &mut policies {
        for weights in [AdapterWeights::Bf16, AdapterWeights::Packed] {
            let no = networks::random(16, 192, &[0, 1, 7], -30.0);
            let mut no = skipping(&no, policy, weights, SkipConfig::default());
            let yes = networks::random(16, 192, &[0, 1, 7], 30.0);
            let config = SkipConfig {
                verify: Verify::Off,
                pre_skip: false,
                ..SkipConfig::default()
            };
            let mut yes = skipping(&yes, policy, weights, config);
            for row in 0..40 {
                let width = Precision::ALL[row % 4];
                let input = &rollouts.input[row];
                let whole = policy.step(input, width).unwrap();
                let (tokens, ran) = no.step(policy, input, width).unwrap();
                assert_eq!((tokens, ran.width), (whole.0, width));
                assert_eq!(no.skipper.report().layers_run, 16);
                let (_, ran) = yes.step(policy, input, width).unwrap();
                assert_eq!(ran.width, width);
                let report = yes.skipper.report();
                assert_eq!(report.layers_run, 3);
                assert!(matches!(report.fates[8], Fate::Skipped(p) if p > 0.99));
            }
        }
    }
}

#[test]
fn networks_of_another_stack_are_refused() {
    let policy = Policy::new(&checkpoint(), QUANTIZE, Cpu::new().unwrap(), 1).unwrap();
    for (layers, width) in [(4, 192), (16, 256)] {
        let file = networks::random(layers, width, &[0], 0.0);
        let shape = (policy.blocks(), policy.width());
        let compute = policy.compute();
        let error = Networks::new(
            &file,
            "that file",
            shape,
            AdapterWeights::Bf16,
            QUANTIZE,
            &compute,
        );
        let error = error.err().unwrap().to_string();
        assert!(
            error.contains("that file") && error.contains("16 of width 192"),
            "{error}"
        );
    }
}

/// Runs the program in a folder, with its picture there.
fn skip_episode(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(example::example("skip_episode"))
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

/// The shortest episode, once, through everything.
#[test]
fn every_method_at_every_width() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("rows.json");
    let output = skip_episode(
        folder.path(),
        &[
            "--episodes",
            "1",
            "--repeats",
            "1",
            "--json",
            json.to_str().unwrap(),
        ],
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let svg = std::fs::read_to_string(folder.path().join("episode.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));

    let rows = rows(&json);
    let widths = ["bf16", "w4a16", "w4a8", "w4ax"];
    assert_eq!(rows.len() % widths.len(), 0);
    for (rows, width) in rows.chunks(rows.len() / 4).zip(widths) {
        let of = |method: &str| {
            let row = rows.iter().find(|row| row["method"] == method);
            row.unwrap_or_else(|| panic!("no {method} at {width}"))
        };
        assert!(rows.iter().all(|row| row["width"] == width));
        let (full, dysl) = (of("full"), of("DySL"));
        assert_eq!(
            (number(full, "layers_share"), number(full, "speedup")),
            (1.0, 1.0)
        );
        assert_eq!(number(full, "trainable_parameters"), 0.0);
        let share = number(dysl, "layers_share");
        assert!((3.0 / 16.0..1.0).contains(&share), "{share}");
        assert!(number(dysl, "trainable_parameters") > 1e5);
        for blind in [
            "random skip",
            "random skip of dynamic layers",
            "uniform skip",
        ] {
            let blind = number(of(blind), "layers_share");
            assert!(
                (blind - share).abs() <= 1.0 / 16.0,
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
fn what_cannot_be_run_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, skip: &SkipFile| {
        let path = folder.path().join(name);
        skip.save(&path).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let other = file("other.safetensors", &networks::random(4, 192, &[0], 0.0));
    let mut no_exit = networks::random(16, 192, &[0], 0.0);
    (no_exit.exit, no_exit.config.exit) = (None, None);
    let no_exit = file("no_exit.safetensors", &no_exit);
    let foreign = deep("deep_policy.safetensors");
    let foreign = foreign.to_str().unwrap();
    for (arguments, words) in [
        (["--skip", other.as_str()], "other.safetensors"),
        (["--skip-exit", no_exit.as_str()], "--skip-exit"),
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
