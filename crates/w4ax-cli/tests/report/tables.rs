//! The tables, computed a second time from the policy.

use std::process::Command;

use serde_json::{Value, json};
use w4ax::Width;
use w4ax::calibrate::{Calibration, distance};
use w4ax::cpu::Cpu;
use w4ax::dispatch::{Dispatcher, LayerFloors};
use w4ax_robot::checkpoint::{Checkpoint, TRAINED};
use w4ax_robot::compute::StepWidth;
use w4ax_robot::policy::{Policy, tokens_of};
use w4ax_robot::rollouts::{RECORDED, Rollouts, action};
use w4ax_robot::setup::{QUANTIZE, default_calibration};
use w4ax_robot::shapes::Tokens;

use crate::{near, number, report};

/// Returns the recorded policy, quantized.
pub fn policy() -> Policy {
    let checkpoint = Checkpoint::load(TRAINED).unwrap();
    Policy::new(&checkpoint, QUANTIZE, Cpu::new().unwrap(), 1).unwrap()
}

/// Runs the recorded steps at the widths of the calibrated dispatcher. Each layer runs at the width
/// that `width` returns for its block, the last width and the decided one. Returns the mean error.
fn run(policy: &mut Policy, width: impl Fn(usize, Width, Width) -> Width) -> f64 {
    let rollouts = Rollouts::load(RECORDED).unwrap();
    let calibration = Calibration::load(default_calibration(TRAINED)).unwrap();
    let mut error = 0.0;
    for episode in rollouts.episodes() {
        let task = policy.tasks()[rollouts.task[episode.start]].clone();
        let config = calibration.dispatch_config(&task).unwrap();
        let mut dispatcher = Dispatcher::new(&config).unwrap();
        let mut last = Width::Bf16;
        for row in episode.clone() {
            let decided = dispatcher.decide().active;
            policy.embed(&[rollouts.input[row]]).unwrap();
            for block in 0..policy.blocks() {
                let at = width(block, last, decided);
                policy.run_block(block, StepWidth::Fixed(at)).unwrap();
            }
            let mut tokens = [Tokens::default()];
            let at = width(policy.blocks(), last, decided);
            tokens_of(policy.head(StepWidth::Fixed(at)).unwrap(), &mut tokens).unwrap();
            let ran = action(&tokens[0]);
            dispatcher.observe(&ran).unwrap();
            error += distance(&ran, &action(&rollouts.bf16[row]));
            last = decided;
        }
    }
    error / rollouts.len() as f64
}

fn named<'a>(list: &'a Value, field: &str, name: &str) -> &'a Value {
    let mut all = list.as_array().unwrap().iter();
    all.find(|entry| entry[field] == name)
        .unwrap_or_else(|| panic!("no {name}"))
}

/// A summary as `scripts/closed-loop analyze` writes it.
fn summary() -> Value {
    json!({
        "tasks": ["Lift"],
        "programs": ["w4ax"],
        "arms": [
            {"arm": "a4", "success": 81, "episodes": 263,
             "low": 0.255_288_5, "high": 0.366_209_6, "widths": {"a4": 1.0}},
            {"arm": "dyq", "success": 0, "episodes": 20, "low": 0.0, "high": 0.161_125_2},
        ],
        "pairs": [
            {"first": "a4", "second": "dyq", "pairs": 20, "only_first": 3, "only_second": 0,
             "difference": 0.15, "low": -0.02, "high": 0.36, "p": 0.25, "tasks": {}},
            {"first": "bf16", "second": "a2", "pairs": 20, "difference": 0.1,
             "low": -0.02, "high": 0.36, "p": 0.25},
        ],
    })
}

#[test]
fn table1_has_all_methods_and_their_success() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("loop.json"), summary().to_string()).unwrap();
    let arguments = ["--rounds", "1", "--closed-loop", "loop.json"];
    let (printed, table, svg) = report(folder.path(), "table1", &arguments);
    let (_, sweep, _) = report(folder.path(), "fig7", &[]);
    let method = |name| named(&table["methods"], "method", name);
    for (name, width) in [
        ("W4A2", "a2"),
        ("W4A4", "a4"),
        ("W4A8", "a8"),
        ("W4A16", "bf16"),
    ] {
        near(
            number(method(name), "/mean_action_error"),
            number(&sweep, &format!("/static/{width}")),
        );
        assert_eq!(number(method(name), &format!("/share/{width}")), 1.0);
    }
    let calibrated = number(&sweep, "/calibrated");
    let mut points = sweep["points"].as_array().unwrap().iter();
    let point = points
        .find(|p| (number(p, "/theta_fp") - calibrated).abs() < 1e-9)
        .unwrap();
    let (dyq, random) = (method("dyq"), method("random, shares of dyq"));
    near(
        number(dyq, "/mean_action_error"),
        number(point, "/mean_action_error"),
    );
    near(number(dyq, "/cost"), number(point, "/cost"));
    near(
        number(random, "/mean_action_error"),
        number(point, "/random"),
    );
    near(number(random, "/std"), number(point, "/random_std"));
    assert_eq!(random["share"], dyq["share"]);
    near(number(random, "/cost"), number(dyq, "/cost"));
    // A run again costs more than the widths of the last runs.
    let (rule, control) = (
        method("consistency"),
        method("random, shares of consistency"),
    );
    assert!(number(rule, "/cost") > number(control, "/cost"));
    let output = Command::new(env!("CARGO_BIN_EXE_w4ax"))
        .args(["episode", "--rule", "consistency", "--costs", "bits"])
        .args(["--plot", "episode.svg", "--json", "episode.json"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success());
    let episode = std::fs::read(folder.path().join("episode.json")).unwrap();
    let episode: Value = serde_json::from_slice(&episode).unwrap();
    for (name, run) in [
        ("consistency", "dynamic"),
        ("random widths, cost of consistency", "random_equal_cost"),
        (
            "random profiles, cost of consistency",
            "random_profiles_equal_cost",
        ),
    ] {
        for field in ["mean_action_error", "cost"] {
            near(
                number(method(name), &format!("/{field}")),
                number(&episode, &format!("/{run}/{field}")),
            );
        }
    }
    let bytes = |name| method(name)["weight_bytes"].as_u64().unwrap();
    let checkpoint = Checkpoint::load(TRAINED).unwrap();
    assert_eq!(bytes("unquantized"), checkpoint.bf16_bytes() as u64);
    assert_eq!(bytes("W4A4"), policy().packed_bytes() as u64);
    let error = number(method("unquantized"), "/mean_action_error");
    assert!(
        error < number(method("W4A16"), "/mean_action_error") / 4.0,
        "{error}"
    );

    assert_eq!(method("W4A4")["success"]["succeeded"], 81);
    assert_eq!(method("W4A8")["success"], Value::Null);
    assert_eq!(table["pairs"].as_array().unwrap().len(), 1);
    for part in [
        "81/263 = 30.8 % [25.5, 36.6]",
        "0/20 = 0.0 % [0.0, 16.1]",
        "has the arm of: unquantized; W4A16; W4A8; W4A2; random, shares of dyq; consistency;",
        "success of a4 minus dyq: +15.0 points",
    ] {
        assert!(printed.contains(part), "`{part}` is not in: {printed}");
    }
    assert!(
        svg.contains("success in closed loop"),
        "no success in the picture"
    );
}

#[test]
fn table1_without_a_summary_has_no_success() {
    let folder = tempfile::tempdir().unwrap();
    let (printed, table, svg) = report(folder.path(), "table1", &["--rounds", "1"]);
    let methods = table["methods"].as_array().unwrap();
    assert!(methods.iter().all(|method| method["success"].is_null()));
    assert!(
        printed.contains("-: no summary of --closed-loop"),
        "{printed}"
    );
    assert!(!svg.contains("success in closed loop"));
}

#[test]
fn rungs_of_table3_match_a_plain_loop() {
    let folder = tempfile::tempdir().unwrap();
    let sizes = [
        "--hidden",
        "64",
        "--layers",
        "1",
        "--prefill",
        "3",
        "--decode",
        "2",
    ];
    let runs = ["--steps", "9", "--rounds", "2", "--delay", "1"];
    let (printed, table, svg) = report(folder.path(), "table3", &[&sizes[..], &runs].concat());
    let rung = |name| named(&table["rungs"], "rung", name);
    let mut policy = policy();
    let half = policy.blocks() / 2;
    for (name, error) in [
        ("static_a4", run(&mut policy, |_, _, _| Width::A4)),
        ("mixed_precision", run(&mut policy, |_, _, decided| decided)),
        (
            "asynchronous",
            run(&mut policy, |block, last, decided| match block < half {
                true => last,
                false => decided,
            }),
        ),
        (
            "floors",
            run(&mut policy, |block, _, decided| match block {
                0 => decided.max(Width::A4),
                _ => decided,
            }),
        ),
    ] {
        near(number(rung(name), "/mean_action_error"), error);
    }
    assert_eq!(policy.floors(), &LayerFloors::none(policy.blocks() + 1));
    let two = rung("two_widths");
    near(number(two, "/share/a4") + number(two, "/share/bf16"), 1.0);
    assert!(number(two, "/share/bf16") > 0.0);

    let timed = |name| named(&table["latency"]["rungs"], "rung", name);
    assert_eq!(table["latency"]["steps"], 9);
    assert_eq!(number(timed("static_a4"), "/share/a4"), 1.0);
    assert_eq!(timed("static_a4")["decide_nanos"], Value::Null);
    // The same decisions, on time in each order.
    assert_eq!(
        timed("asynchronous")["share"],
        timed("mixed_precision")["share"]
    );
    assert_eq!(timed("asynchronous")["order"], "during_prefill");
    let delays = table["latency"]["overlaps"].as_array().unwrap().iter();
    let delays: Vec<f64> = delays
        .map(|overlap| number(overlap, "/delay_micros"))
        .collect();
    assert_eq!(delays, [0.0, 1.0]);
    assert_eq!(
        number(&table, "/latency/overlaps/0/saved_micros/count"),
        9.0
    );
    // The longer decision is on the critical path if it is made before the prefill.
    let before = |at: usize| format!("/latency/overlaps/{at}/critical_before/low");
    assert!(number(&table, &before(1)) >= 1.0);
    assert_eq!(
        number(&table, "/latency/overlaps/1/critical_during/count"),
        18.0
    );
    for part in ["+ asynchronous decision", "decision longer by"] {
        assert!(printed.contains(part), "`{part}` is not in: {printed}");
    }
    assert!(svg.contains("before the prefill, 1 us longer"), "{svg}");
}

#[test]
fn table4_has_every_part_and_its_share_of_a_step() {
    let folder = tempfile::tempdir().unwrap();
    let (printed, table, svg) = report(folder.path(), "table4", &["--budget", "1"]);
    let steps = ["a2", "a4", "a8", "bf16"].map(|w| number(&table, &format!("/step_micros/{w}")));
    let fastest = 1e3 * steps.into_iter().fold(f64::INFINITY, f64::min);
    let parts = table["parts"].as_array().unwrap();
    for part in [
        "dyq: observe + decide",
        "consistency: observe + decide + verify",
        "consistency: verify (the difference)",
        "flag: store",
        "flag: store, latch and record",
        "token standard deviation, 1,792 logits",
    ] {
        let found = named(&table["parts"], "part", part);
        near(number(found, "/share"), number(found, "/nanos") / fastest);
        assert!(svg.contains(part), "`{part}` is not in the picture");
        assert!(printed.contains(part), "{printed}");
    }
    assert!(parts.iter().all(|part| number(part, "/nanos") >= 0.0));
}
