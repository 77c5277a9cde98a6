//! Steps under the consistency rule, and floors of layers.

use super::fixture::Fixture;
use super::skipping::{LAYERS, YES, networks, quantized, skipping};
use super::{oft, stages};
use w4ax::Width;
use w4ax::dispatch::{
    ActionLayout, ConsistencyConfig, ConsistencyReason, ConsistencyRule, LayerFloors, MotionScale,
    Profile, Tolerance,
};
use w4ax::skip::{SkipConfig, Verdict};
use w4ax::step::StepOptions;
use w4ax_vla::Result;
use w4ax_vla::model::{Observation, Vla};
use w4ax_vla::step::{StepPart, VlaRunner};

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn rule(tau: f64, chunk: usize) -> ConsistencyRule {
    let motion = MotionScale {
        mu_max: 1.0,
        nu_max: 1.0,
    };
    let config = ConsistencyConfig::new(motion)
        .with_tolerance(Tolerance::Constant(tau))
        .with_max_chunk(chunk);
    ConsistencyRule::new(&config).unwrap()
}

fn runner(vla: Vla) -> VlaRunner {
    VlaRunner::new(vla, None, StepOptions::default()).unwrap()
}

/// The two models with an observation of each.
fn both() -> [(Vla, Vla, Observation); 2] {
    let fixture = Fixture::new("openvla-tiny");
    let observation = stages::observation(&fixture, 0);
    let openvla = (
        quantized(&fixture.folder),
        quantized(&fixture.folder),
        observation,
    );
    let chunks = Fixture::new("oft-tiny");
    let folder = test_support::oft_folder();
    let of = || quantized(folder.path());
    [openvla, (of(), of(), oft::observation(&chunks, 0))]
}

#[test]
fn accepted_step_has_the_bits_of_the_low_width_and_rejected_one_those_of_the_high() -> Result<()> {
    assert_eq!(ActionLayout::default().dims(), 7);
    for (vla, plain, observation) in both() {
        let chunk = vla.chunk();
        let (mut runner, mut plain) = (runner(vla), runner(plain));
        let mut at = |width| {
            plain.request(width)?;
            plain.step(&observation)
        };
        let (low, high) = (at(Width::A2)?, at(Width::A4)?);
        assert_ne!(bits(&low.normalized), bits(&high.normalized));
        for (tau, profile, runs) in [(1e3, Profile::Low, 1), (1e-9, Profile::High, 2)] {
            let mut rule = rule(tau, chunk);
            let start = runner.step_consistent(&mut rule, &observation)?;
            assert_eq!(start.decision.reason, ConsistencyReason::Start);
            assert_eq!(bits(&start.step.normalized), bits(&high.normalized));
            rule.observe_chunk(
                &start.step.normalized,
                1,
                start.profile,
                start.step.token_std,
            )?;
            let next = runner.step_consistent(&mut rule, &observation)?;
            assert_eq!(
                (next.profile, 1 + usize::from(next.first.is_some())),
                (profile, runs)
            );
            let expected = if runs == 1 { &low } else { &high };
            assert_eq!(bits(&next.step.normalized), bits(&expected.normalized));
            assert_eq!(next.step.tokens, expected.tokens);
            assert_eq!(next.step.token_std.is_some(), chunk == 1);
            assert_eq!(next.step.token_std, expected.token_std);
            if let Some(first) = next.first {
                assert_eq!(bits(&first.normalized), bits(&low.normalized));
                // The second run looks at no image again.
                assert!(first.times.contains_key(&StepPart::Vision));
                assert!(!next.step.times.contains_key(&StepPart::Vision));
            }
        }
    }
    Ok(())
}

#[test]
fn layer_runs_at_its_floor_if_that_is_wider() -> Result<()> {
    for (mut vla, plain, observation) in both() {
        let layers = vla.config().llama.layers;
        vla.set_floors(&LayerFloors::new(vec![Width::A8; layers]))?;
        assert!(vla.set_floors(&LayerFloors::none(layers + 1)).is_err());
        let (mut floored, mut plain) = (runner(vla), runner(plain));
        let run = |runner: &mut VlaRunner, width| {
            runner.request(width)?;
            runner.step(&observation)
        };
        let expected = bits(&run(&mut plain, Width::A8)?.normalized);
        for width in [Width::A2, Width::A4, Width::A8] {
            assert_eq!(bits(&run(&mut floored, width)?.normalized), expected);
        }
        // Floors raise, they never lower.
        let wide = bits(&run(&mut floored, Width::Bf16)?.normalized);
        assert_eq!(wide, bits(&run(&mut plain, Width::Bf16)?.normalized));
        let mut one = floored.into_model();
        let mut floors = LayerFloors::none(layers);
        floors.set(0, Width::A8);
        one.set_floors(&floors)?;
        let mixed = bits(&run(&mut runner(one), Width::A2)?.normalized);
        assert_ne!(mixed, expected);
        assert_ne!(mixed, bits(&run(&mut plain, Width::A2)?.normalized));
    }
    Ok(())
}

/// A failed verification of skipped layers and a rejected action share one second run, with all
/// layers at the high width.
#[test]
fn skipped_layers_that_fail_their_verification_run_once_more_at_the_high_width() -> Result<()> {
    let fixture = Fixture::new("openvla-tiny");
    let observations: Vec<Observation> = (0..3)
        .map(|case| stages::observation(&fixture, case))
        .collect();
    let config = SkipConfig::new().with_pre_skip(false);
    let vla = skipping(&fixture.folder, &networks(&[0, 3], YES));
    let mut skipper = VlaRunner::skipping(vla, &config, None, StepOptions::default())?;
    let mut whole = runner(quantized(&fixture.folder));
    let mut rule = rule(1e3, 1);
    let mut failed = 0;
    for observation in observations.iter().cycle().take(6) {
        let step = skipper.step_consistent(&mut rule, observation)?;
        if let Some(first) = &step.first {
            assert_eq!(first.skip.as_ref().unwrap().verdict, Verdict::MustRunAgain);
            let report = step.step.skip.as_ref().unwrap();
            assert_eq!(report.layers_run, LAYERS);
            whole.request(Width::A4)?;
            let expected = whole.step(observation)?;
            assert_eq!(bits(&step.step.normalized), bits(&expected.normalized));
            assert_eq!(step.profile, Profile::High);
            failed += 1;
        }
        rule.observe(&step.step.normalized, step.profile, None)?;
    }
    assert!(failed > 0);
    Ok(())
}
