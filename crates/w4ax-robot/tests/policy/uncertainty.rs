//! The uncertainty of a step's tokens, from the engine.

use w4ax::Width;
use w4ax::step::StepPipeline;

use crate::{ROLLOUTS, policy};
use w4ax_robot::shapes::INPUT;
use w4ax_robot::steps::{AllLayers, PolicyEngine};
use w4ax_robot::uncertainty::{margin, token_std};

#[test]
fn engine_has_the_uncertainty_of_the_last_step() {
    let mut reference = policy(1);
    let mut pipeline = StepPipeline::new(PolicyEngine::new(policy(1), AllLayers), None);
    let mut run = |input: &[f32; INPUT], width| {
        pipeline.request(width).unwrap();
        let ran = pipeline.run(input).is_ok();
        let engine = pipeline.engine();
        // Each call computes the same values.
        let both = [(); 2].map(|()| (engine.token_std(), engine.margin()));
        assert_eq!(both[0], both[1]);
        (ran, both[0])
    };
    for (at, input) in ROLLOUTS.input.iter().take(8).enumerate() {
        let width = Width::ALL[at % 4];
        let inputs = std::slice::from_ref(input);
        let logits = reference.logits_rows(inputs, width).unwrap();
        let expected = (Some(token_std(logits)), Some(margin(logits)));
        assert_eq!(run(input, width), (true, expected), "{width}");
        // A step that fails has no logits to judge.
        assert_eq!(run(&[f32::NAN; INPUT], width), (false, (None, None)));
    }
}

#[test]
fn no_uncertainty_before_the_first_step() {
    let engine = PolicyEngine::new(policy(1), AllLayers);
    assert_eq!((engine.token_std(), engine.margin()), (None, None));
}

/// Coarse activations make the tokens less certain.
#[test]
fn two_bits_have_the_largest_std() {
    let mut policy = policy(ROLLOUTS.len());
    let stds = Width::ALL.map(|width| {
        let logits = policy.logits_rows(&ROLLOUTS.input, width).unwrap();
        let rows = logits.chunks(logits.len() / ROLLOUTS.len());
        rows.map(token_std).sum::<f64>() / ROLLOUTS.len() as f64
    });
    assert!(stds[1..].iter().all(|std| *std < stds[0]), "{stds:?}");
}
