//! Replays of the rules choose what a run of the policy chooses.

use std::path::PathBuf;

use w4ax::calibrate::{ReplayedStep, RuleReplay, replay_consistency, replay_dyq};
use w4ax::dispatch::{LayerFloors, StepCosts, WidthChoice};
use w4ax::{Error, Width};
use w4ax_robot::episode::rule::{Rule, RuleOptions, floors_of};
use w4ax_robot::episode::run::{self, Runs};
use w4ax_robot::policy::Policy;
use w4ax_robot::profiles::{ProfileRun, Profiles, first_block};
use w4ax_robot::rollouts::{RECORDED, Rollouts, action};
use w4ax_robot::setup::{QUANTIZE, Robot, Setup};
use w4ax_robot::weight_options::WeightOptions;

fn robot() -> (Robot, Rollouts) {
    let setup = Setup {
        policy: Some(w4ax_robot::checkpoint::TRAINED.into()),
        calibration: None,
        threads: 1,
        weights: WeightOptions::default(),
    };
    (setup.load().unwrap(), Rollouts::load(RECORDED).unwrap())
}

fn runs(robot: &mut Robot, rollouts: &Rollouts, rule: Rule) -> Runs {
    let options = RuleOptions {
        rule,
        costs: &StepCosts::BITS,
        online: false,
    };
    run::run(robot, rollouts, options, 0, &|| ()).unwrap()
}

/// Compares step by step: the same widths, errors and costs.
fn check(replay: &RuleReplay, run: &Runs) {
    let steps: Vec<&ReplayedStep> = replay.steps().collect();
    assert_eq!(steps.len(), run.dynamic.steps.len());
    for (row, (replayed, ran)) in steps.iter().zip(&run.dynamic.steps).enumerate() {
        assert_eq!(replayed.width, ran.width, "step {row}");
        assert_eq!(replayed.error, ran.error, "step {row}");
        assert_eq!(replayed.cost, run.dynamic.costs[row], "step {row}");
    }
    let again = steps.iter().filter(|step| step.twice).count();
    assert_eq!(again, run.dynamic.reruns);
    assert_eq!(replay.mean_error(), run.dynamic.mean_error());
}

#[test]
fn replay_of_dyq_equals_the_run() {
    let (mut robot, rollouts) = robot();
    let runs = runs(&mut robot, &rollouts, Rule::Dyq);
    let at_width = runs.fixed.each_ref().map(|steps| {
        let actions = steps.iter().map(|step| action(&step.tokens));
        actions.collect::<Vec<_>>()
    });
    let episodes = rollouts.calibration_episodes(&at_width);
    let configs: Vec<_> = robot.dispatchers.iter().map(|d| *d.config()).collect();
    let replay = replay_dyq(&configs, &episodes, &StepCosts::BITS).unwrap();
    check(&replay, &runs);
    assert!(replay.share(Width::A2) > 0.5 && replay.share(Width::Bf16) > 0.01);

    let error = replay_dyq(&configs[..1], &episodes, &StepCosts::BITS).unwrap_err();
    assert!(matches!(error, Error::Range { .. }), "{error}");
}

#[test]
fn replay_of_the_consistency_rule_equals_the_run() {
    let (mut robot, rollouts) = robot();
    let runs = runs(&mut robot, &rollouts, Rule::Consistency);
    let widths @ (low, high) = (Width::A2, Width::A4);
    assert_eq!(runs.dynamic.choice, WidthChoice::Dynamic { low, high });
    let floors = floors_of(&robot.calibration, robot.policy.floors().len(), widths);
    let mut policy = batch_policy(&rollouts);
    let profiles = Profiles::measure(&mut policy, &rollouts, widths, floors).unwrap();
    let config = |task: &String| {
        robot
            .calibration
            .consistency_config(task, low, high)
            .unwrap()
    };
    let configs: Vec<_> = robot.policy.tasks().iter().map(config).collect();
    let costs = profiles.costs(&StepCosts::BITS);
    let mut episodes = profiles.episodes(&rollouts);
    let replay = replay_consistency(&configs, &episodes, costs).unwrap();
    check(&replay, &runs);
    // The rule tries, runs again and is gated.
    assert!(replay.rerun_share() > 0.02 && replay.share(Width::A4) > 0.15);

    let error = replay_consistency(&configs[..1], &episodes, costs).unwrap_err();
    assert!(matches!(error, Error::Range { .. }), "{error}");
    episodes[3].actions[1].pop();
    let error = replay_consistency(&configs, &episodes, costs).unwrap_err();
    assert!(matches!(error, Error::Shape { .. }), "{error}");
}

fn batch_policy(rollouts: &Rollouts) -> Policy {
    let file = PathBuf::from(w4ax_robot::checkpoint::TRAINED);
    let checkpoint = w4ax_robot::checkpoint::Checkpoint::load(file).unwrap();
    let cpu = w4ax::cpu::Cpu::new().unwrap();
    Policy::new(&checkpoint, QUANTIZE, cpu, rollouts.len()).unwrap()
}

/// A run of all steps at once has the tokens of single steps, and leaves no floor behind.
#[test]
fn profile_run_equals_single_steps() {
    let (mut robot, rollouts) = robot();
    let mut policy = batch_policy(&rollouts);
    let floors = first_block(policy.floors().len(), Width::A4);
    let all = ProfileRun::measure(&mut policy, &rollouts, Width::A2, &floors).unwrap();
    assert_eq!(policy.floors(), &LayerFloors::none(floors.len()));
    robot.policy.set_floors(&floors).unwrap();
    for row in (0..rollouts.len()).step_by(97) {
        let tokens = robot
            .policy
            .forward(&rollouts.input[row], Width::A2)
            .unwrap();
        assert_eq!(all.tokens[row], tokens, "step {row}");
        let uncertainty = w4ax_robot::uncertainty::token_std(robot.policy.logits());
        assert_eq!(all.uncertainty[row], uncertainty, "step {row}");
    }
}
