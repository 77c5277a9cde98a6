//! The consistency rule of dynamic steps.

use std::path::PathBuf;

use serde_json::{Value, json};
use w4ax::Width;
use w4ax::calibrate::Calibration;
use w4ax::cpu::Cpu;
use w4ax::dispatch::{ConsistencyReason, ConsistencyRule};
use w4ax::step::StepPipeline;
use w4ax_robot::checkpoint::{Checkpoint, TRAINED};
use w4ax_robot::episode::rule::floors_of;
use w4ax_robot::policy::Policy;
use w4ax_robot::setup::{QUANTIZE, default_calibration};
use w4ax_robot::steps::{AllLayers, PolicyEngine};

use crate::rollouts;
use crate::server::Server;
use crate::twin::action_of;

/// Costs under which the rule chooses between A2 and A4.
fn bits() -> String {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/costs/bits.json");
    root.display().to_string()
}

fn start(costs: &str) -> Server {
    Server::start_with(&["--rule", "consistency", "--costs", costs])
}

#[test]
fn steps_equal_those_of_the_library() {
    let (rollouts, checkpoint) = (rollouts(), Checkpoint::load(TRAINED).unwrap());
    let mut policy = Policy::new(&checkpoint, QUANTIZE, Cpu::new().unwrap(), 1).unwrap();
    let calibration = Calibration::load(default_calibration(TRAINED)).unwrap();
    let floors = floors_of(&calibration, policy.blocks() + 1, (Width::A2, Width::A4));
    assert_eq!(floors.as_slice()[0], Width::A4);
    policy.set_floors(&floors).unwrap();
    let mut pipeline = StepPipeline::new(PolicyEngine::new(policy, AllLayers), None);
    let config = calibration.consistency_config(&checkpoint.tasks[0], Width::A2, Width::A4);
    let mut rule = ConsistencyRule::new(&config.unwrap()).unwrap();
    let mut server = start(&bits());
    server.reset(0);
    let (mut accepted, mut ran_again) = (0, 0);
    for obs in &rollouts.obs[..rollouts.episodes()[0].len()] {
        let reply = server.step(obs);
        let sensitivity = rule.sensitivity();
        let input = pipeline.engine().policy.input(obs, 0).unwrap();
        let step = pipeline.run_consistent(&mut rule, &input).unwrap();
        assert_eq!(action_of(&reply), step.actions);
        assert_eq!(reply["width"], step.report().decode.width.bits());
        assert_eq!(reply["target"], step.decision.width.bits());
        assert_eq!(reply["runs"], step.runs());
        assert_eq!(reply["sensitivity"], json!(sensitivity));
        assert_eq!(reply["token_std"], json!(step.uncertainty));
        let reason = match (step.decision.reason, step.runs()) {
            (ConsistencyReason::Start, _) => "start",
            (ConsistencyReason::Gate, _) => "gate",
            (ConsistencyReason::Try, 1) => "accepted",
            (ConsistencyReason::Try, _) => "ran-again",
            other => panic!("{other:?}"),
        };
        assert_eq!(reply["reason"], reason);
        accepted += usize::from(reason == "accepted");
        ran_again += usize::from(reason == "ran-again");
        rule.observe(&step.actions, step.profile, step.uncertainty)
            .unwrap();
    }
    assert!(accepted > 10 && ran_again > 0, "{accepted}, {ran_again}");
    server.end();
}

/// The robot executes something else than the accepted action: the next step is compared with that.
#[test]
fn rule_compares_with_the_executed_action() {
    let rollouts = rollouts();
    let mut server = start(&bits());
    server.reset(0);
    for obs in &rollouts.obs[..6] {
        server.step(obs);
    }
    let far = json!([-1, -1, -1, 1, 1, 1, -1]);
    let reply = server.step_of(&json!({"obs": rollouts.obs[6], "executed": far}));
    assert_eq!(reply["width"], 4, "{reply}");
    assert!(
        ["ran-again", "gate"].contains(&reply["reason"].as_str().unwrap()),
        "{reply}"
    );
    server.end();
}

#[test]
fn costs_have_names() {
    let describe = |costs: &str| {
        let mut server = start(costs);
        let description = server.send(&json!({"describe": true}));
        server.end();
        description
    };
    assert_eq!(describe("bits"), describe(&bits()));
    let measured = describe("measured");
    for width in ["a2", "a4", "a8", "bf16"] {
        let cost = measured["costs"][width].as_f64();
        assert!(cost.is_some_and(|cost| cost > 0.0), "{measured}");
    }
}

#[test]
fn costs_without_a_useful_narrow_width_are_static() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("costs.json");
    std::fs::write(&file, r#"{"a2": 1, "a4": 1, "a8": 1, "bf16": 1}"#).unwrap();
    let mut server = start(&file.display().to_string());
    let description = server.send(&json!({"describe": true}));
    assert_eq!(description["rule"], "consistency");
    assert_eq!(description["rule_widths"], json!([16]));
    assert_eq!(description["costs"]["a2"], 1.0);
    server.reset(0);
    for (at, obs) in rollouts().obs[..5].iter().enumerate() {
        let reply = server.step(obs);
        let reason = if at == 0 { "start" } else { "static" };
        assert_eq!(
            (&reply["width"], &reply["reason"]),
            (&json!(16), &json!(reason))
        );
    }
    server.end();
}

/// `dyq` with costs never chooses a dominated width, and without costs is the published rule.
#[test]
fn dyq_leaves_out_dominated_widths_only_with_costs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("costs.json");
    std::fs::write(&file, r#"{"a2": 1, "a4": 1, "a8": 1, "bf16": 2}"#).unwrap();
    let mut with = Server::start_with(&["--costs", &file.display().to_string()]);
    let mut without = Server::start("dynamic");
    assert_eq!(
        with.send(&json!({"describe": true}))["rule_widths"],
        json!([8, 16])
    );
    with.reset(0);
    without.reset(0);
    let (mut narrow, mut dominated) = (0, 0);
    for obs in &rollouts().obs[..60] {
        dominated += usize::from(with.step(obs)["width"].as_u64() < Some(8));
        narrow += usize::from(without.step(obs)["width"].as_u64() < Some(8));
    }
    assert_eq!(dominated, 0);
    assert!(narrow > 0);
    with.end();
    without.end();
}

#[test]
fn invalid_costs_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("costs.json");
    std::fs::write(&file, r#"{"a2": 1, "a4": -1, "a8": 1, "bf16": 2}"#).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_w4ax"))
        .args(["serve", "--costs", &file.display().to_string()])
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        error.contains("a4") && error.contains("costs.json"),
        "{error}"
    );
}

/// A step at a requested width counts as low or high by that width.
#[test]
fn requested_width_does_not_end_the_episode_of_the_rule() {
    let rollouts = rollouts();
    let mut server = start(&bits());
    server.reset(0);
    let reply = server.step_of(&json!({"obs": rollouts.obs[0], "width": "plain"}));
    assert_eq!(
        (&reply["width"], &reply["target"]),
        (&json!(32), &Value::Null)
    );
    let reply = server.step(&rollouts.obs[1]);
    assert_ne!(reply["reason"], "start");
    server.end();
}
