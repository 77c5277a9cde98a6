//! A policy's control step does not allocate. A counting global allocator needs its own test
//! binary.

use test_support::{CountingAllocator, allocations_of, dispatcher, random_skip_file};
use w4ax::Width;
use w4ax::cpu::{Cpu, Serial};
use w4ax::skip::{SkipConfig, Verdict};
use w4ax::step::StepPipeline;
use w4ax_robot::checkpoint::{Checkpoint, TRAINED};
use w4ax_robot::networks::{AdapterWeights, Networks};
use w4ax_robot::policy::Policy;
use w4ax_robot::setup::QUANTIZE;
use w4ax_robot::shapes::INPUT;
use w4ax_robot::skipping::{Skipping, Substitute};
use w4ax_robot::steps::PolicyEngine;

#[global_allocator]
static COUNTING: CountingAllocator = CountingAllocator;

#[test]
fn allocator_counts() {
    let counted = allocations_of(|| drop(std::hint::black_box(Box::new(1))));
    assert!(counted > 0);
}

/// The policy with its networks skips layers; some steps run again.
#[test]
fn skipping_step_does_not_allocate() {
    let checkpoint = Checkpoint::load(TRAINED).unwrap();
    for weights in [AdapterWeights::Bf16, AdapterWeights::Packed] {
        let cpu = Cpu::new().unwrap().with_pool(Serial);
        let mut policy = Policy::new(&checkpoint, QUANTIZE, cpu, 1).unwrap();
        let file = random_skip_file(policy.blocks(), policy.width(), &[0], 30.0);
        let shape = (policy.blocks(), policy.width());
        let compute = policy.compute();
        let networks = Networks::new(&file, "", shape, weights, QUANTIZE, &compute).unwrap();
        let config = SkipConfig::default().with_eta(0.0);
        let mut skipping = Skipping::new(&config, networks, Substitute::Adapter).unwrap();
        let engine = PolicyEngine::new(&mut policy, &mut skipping);
        let mut pipeline = StepPipeline::new(engine, dispatcher());
        let mut verdicts = [0; 2];
        for step in 0..40_u8 {
            let width = Width::ALL[usize::from(step % 4)];
            let input = [f32::from(step).sin(); INPUT];
            let counted = allocations_of(|| {
                if width == Width::Bf16 {
                    pipeline.decide(&[[0.1; 7]]).unwrap();
                } else {
                    pipeline.request(width).unwrap();
                }
                pipeline.run(&input).unwrap();
                let engine = pipeline.engine();
                assert!(engine.token_std().is_some() && engine.margin().is_some());
            });
            assert_eq!(counted, 0, "{width}");
            let again = pipeline.engine().layers.skipper.report().verdict == Verdict::RanAgain;
            verdicts[usize::from(again)] += 1;
        }
        assert!(verdicts.iter().all(|&steps| steps > 0), "{verdicts:?}");
    }
}

/// The policy from the input to the tokens.
#[test]
fn policy_step_does_not_allocate() {
    let checkpoint = Checkpoint::load(TRAINED).unwrap();
    let cpu = Cpu::new().unwrap().with_pool(Serial);
    let mut policy = Policy::new(&checkpoint, QUANTIZE, cpu, 1).unwrap();
    for width in Width::ALL {
        let counted = allocations_of(|| {
            policy.forward(&[0.5; INPUT], width).unwrap();
        });
        assert_eq!(counted, 0, "{width}");
    }
}
