//! The policy as a stack of layers.

use test_support::random_skip_file;
use w4ax::Width;
use w4ax::cpu::Cpu;
use w4ax::skip::{Fate, SkipConfig, SkipFile, Verify};
use w4ax::step::StepPipeline;

use crate::{checkpoint, rollouts};
use w4ax_robot::networks::{AdapterWeights, Networks};
use w4ax_robot::policy::Policy;
use w4ax_robot::setup::QUANTIZE;
use w4ax_robot::shapes::{INPUT, Tokens};
use w4ax_robot::skipping::{Skipping, Substitute};
use w4ax_robot::steps::{AllLayers, PolicyEngine, RunLayers};

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

/// The recorded tokens are f32 on BF16 weights. Here activations are rounded to BF16 between the
/// layers. The bounds have room: 1,779 tokens are equal, and most others are neighbors.
#[test]
fn unquantized_policy_reproduces_the_recorded_tokens() {
    let (checkpoint, rollouts) = (checkpoint(), rollouts());
    let mut policy = Policy::unquantized(&checkpoint, Cpu::new().unwrap(), 1).unwrap();
    let (mut equal, mut near) = (0, 0);
    for row in 0..300 {
        let input = &rollouts.input[row];
        let tokens = policy.forward(input, Width::Bf16).unwrap();
        for (a, b) in tokens.iter().zip(&rollouts.bf16[row]) {
            equal += usize::from(a == b);
            near += usize::from(a.abs_diff(*b) <= 1);
        }
    }
    assert!(equal >= 1700 && near >= 2050, "{equal} and {near} of 2100");
    // The width has no effect.
    let a2 = policy.forward(&rollouts.input[0], Width::A2).unwrap();
    assert_eq!(a2, policy.forward(&rollouts.input[0], Width::Bf16).unwrap());
    assert!(rollouts.tokens(Width::A8).is_none());
}

/// Returns the tokens of one step, which ran at `width`.
fn step(policy: &mut Policy, layers: impl RunLayers, input: &[f32; INPUT], width: Width) -> Tokens {
    let mut pipeline = StepPipeline::new(PolicyEngine::new(policy, layers), None);
    pipeline.request(width).unwrap();
    assert_eq!(pipeline.run(input).unwrap().decode.width, width);
    pipeline.engine().tokens()
}

/// If no controller skips, a step equals the policy's, bit for bit. If all skip, only static layers
/// run.
#[test]
fn controllers_decide_which_layers_run() {
    let (checkpoint, rollouts) = (checkpoint(), rollouts());
    let cpu = Cpu::new().unwrap();
    let mut policies = [
        Policy::unquantized(&checkpoint, cpu.clone(), 1).unwrap(),
        Policy::new(&checkpoint, QUANTIZE, cpu, 1).unwrap(),
    ];
    for policy in &mut policies {
        for weights in [AdapterWeights::Bf16, AdapterWeights::Packed] {
            let no = random_skip_file(16, 192, &[0, 1, 7], -30.0);
            let mut no = skipping(&no, policy, weights, SkipConfig::default());
            let yes = random_skip_file(16, 192, &[0, 1, 7], 30.0);
            let config = SkipConfig::default()
                .with_verify(Verify::Off)
                .with_pre_skip(false);
            let mut yes = skipping(&yes, policy, weights, config);
            for row in 0..40 {
                let width = Width::ALL[row % 4];
                let input = &rollouts.input[row];
                let whole = step(policy, AllLayers, input, width);
                assert_eq!(step(policy, &mut no, input, width), whole);
                assert_eq!(no.skipper.report().layers_run, 16);
                step(policy, &mut yes, input, width);
                let report = yes.skipper.report();
                assert_eq!(report.layers_run, 3);
                assert!(matches!(report.fates[8], Fate::Skipped(p) if p > 0.99));
            }
        }
    }
}

#[test]
fn rejects_networks_of_another_stack() {
    let policy = Policy::new(&checkpoint(), QUANTIZE, Cpu::new().unwrap(), 1).unwrap();
    for (layers, width) in [(4, 192), (16, 256)] {
        let file = random_skip_file(layers, width, &[0], 0.0);
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
