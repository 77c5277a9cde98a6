//! Steps that skip layers, one after the other: verification, errors, episodes, widths.

use super::fixture::{Fixture, values};
use super::quantized::bits;
use super::skipping::{
    BLIND, LAYERS, NO, YES, guide, names, networks, quantized, run_step, sequence, skipping,
};
use super::{oft, stages};
use std::path::Path;
use test_support::dispatcher;
use w4ax::Width;
use w4ax::skip::{SkipConfig, SkipFile, Verdict};
use w4ax::step::StepOptions;
use w4ax_vla::Result;
use w4ax_vla::model::{Observation, Probe, Vla};
use w4ax_vla::step::VlaRunner;

/// The two models and an observation of each.
fn both(file: &SkipFile) -> [(Vla, Vla, Vec<Observation>); 2] {
    let fixture = Fixture::new("openvla-tiny");
    let of = |case| stages::observation(&fixture, case);
    let openvla = vec![of(0), of(1), of(2)];
    let chunks = Fixture::new("oft-tiny");
    let folder = test_support::oft_folder();
    let oft = vec![oft::observation(&chunks, 0), oft::observation(&chunks, 1)];
    let pair = |folder: &Path| (skipping(folder, file), quantized(folder));
    let (a, b) = (pair(&fixture.folder), pair(folder.path()));
    [(a.0, a.1, openvla), (b.0, b.1, oft)]
}

#[test]
fn controllers_that_decline_leave_the_step_unchanged() -> Result<()> {
    for (vla, plain, observations) in both(&networks(&[0, 3], NO)) {
        let options = StepOptions::default();
        let mut runner = VlaRunner::skipping(vla, &SkipConfig::default(), None, options)?;
        let mut whole = VlaRunner::new(plain, None, options)?;
        for observation in &observations {
            for runner in [&mut runner, &mut whole] {
                runner.request(Width::A8)?;
            }
            let (step, expected) = (runner.step(observation)?, whole.step(observation)?);
            assert_eq!(step.tokens, expected.tokens);
            assert_eq!(step.normalized, expected.normalized);
            assert_eq!(step.actions, expected.actions);
            assert!(expected.skip.is_none());
            let report = step.skip.unwrap();
            assert!(report.fates.iter().all(|fate| fate.ran()));
            assert_eq!(report.layers_run, LAYERS);
            assert_ne!(report.verdict, Verdict::RanAgain);
        }
    }
    Ok(())
}

/// A step whose actions drop runs again with all layers.
#[test]
fn verified_step_equals_the_whole_model() -> Result<()> {
    let config = SkipConfig::new().with_pre_skip(false);
    for (vla, plain, observations) in both(&networks(&[0, 3], YES)) {
        let options = StepOptions::default();
        let mut runner = VlaRunner::skipping(vla, &config, None, options)?;
        let mut whole = VlaRunner::new(plain, None, options)?;
        let mut again = 0;
        for observation in observations.iter().cycle().take(6) {
            runner.request(Width::A4)?;
            let step = runner.step(observation)?;
            let report = step.skip.unwrap();
            assert_eq!(names(&report.fates), "static skipped covered static");
            let ran_again = report.verdict == Verdict::RanAgain;
            assert_eq!(report.layers_run, if ran_again { 2 + LAYERS } else { 2 });
            if ran_again {
                again += 1;
                whole.request(Width::A4)?;
                let expected = whole.step(observation)?;
                assert_eq!(step.normalized, expected.normalized);
                assert_eq!(step.tokens, expected.tokens);
            }
        }
        println!("{again} of 6 steps ran again");
        assert!(again > 0);
    }
    Ok(())
}

/// Skipped layers store no keys; the next step reads none of an earlier one.
#[test]
fn step_after_a_skipped_one_equals_that_of_a_fresh_model() -> Result<()> {
    let fixture = Fixture::new("openvla-tiny");
    let of = |case| stages::observation(&fixture, case);
    let mut fresh = quantized(&fixture.folder);
    let mut used = skipping(&fixture.folder, &networks(&[0, 3], YES));
    for case in [2, 1] {
        let (step, model) = run_step(used, Width::A8, &of(case))?;
        assert_eq!(step.skip.unwrap().layers_run, 2);
        used = model;
    }
    // A shorter sequence than those before.
    let expected = stages::run_at(&mut fresh, &of(0), Width::A8);
    let got = stages::run_at(&mut used, &of(0), Width::A8);
    assert_eq!(got.tokens, expected.tokens);
    for (stage, value) in &expected.stages {
        assert!(values(value) == values(&got.stages[stage]), "{stage}");
    }
    for layer in 0..LAYERS {
        let (a, b) = (fresh.llama().cached(layer)?, used.llama().cached(layer)?);
        assert!(
            bits(&a.0) == bits(&b.0) && bits(&a.1) == bits(&b.1),
            "{layer}"
        );
    }
    Ok(())
}

#[test]
fn reset_starts_an_episode_with_all_allow_points() -> Result<()> {
    let fixture = Fixture::new("oft-tiny");
    let folder = test_support::oft_folder();
    let vla = skipping(folder.path(), &networks(&[0, 3], YES));
    let config = SkipConfig::default();
    let mut mirror = guide(&vla, &config);
    let mut runner = VlaRunner::skipping(vla, &config, None, StepOptions::default())?;
    let mut moved = false;
    for step in 0..4 {
        if step == 3 {
            runner.reset()?;
            mirror.reset();
            assert_eq!(mirror.allow_points(), [1]);
        }
        runner.request(Width::A8)?;
        let step = runner.step(&oft::observation(&fixture, step % 2))?;
        let report = step.skip.unwrap();
        assert_eq!(report.allow_points, mirror.allow_points());
        assert_eq!(report.judgment, mirror.observe(&step.normalized)?);
        moved |= mirror.allow_points() != [1];
    }
    assert!(moved, "no allow-point moved");
    Ok(())
}

/// After an error the window must fill up before a layer is skipped again.
#[test]
fn failed_step_disables_skipping_until_the_window_is_full() -> Result<()> {
    let fixture = Fixture::new("openvla-tiny");
    let good = stages::observation(&fixture, 0);
    let vla = skipping(&fixture.folder, &networks(&[0, 3], YES));
    let config = BLIND.with_window(2);
    let mut mirror = guide(&vla, &config);
    let mut runner = VlaRunner::skipping(vla, &config, None, StepOptions::default())?;
    let mut ran = Vec::new();
    for step in 0..6 {
        runner.request(Width::A8)?;
        if step == 1 {
            let bad = Observation::new(good.images().to_vec(), vec![1, 2]).with_unnorm_key("none");
            runner.step(&bad).unwrap_err();
            mirror.fail();
            continue;
        }
        let step = runner.step(&good)?;
        let report = step.skip.unwrap();
        assert_eq!(report.allow_points, mirror.allow_points());
        mirror.observe(&step.normalized)?;
        ran.push(report.layers_run);
    }
    // A window of two changes takes three actions.
    assert_eq!(ran, [2, LAYERS, LAYERS, LAYERS, 2]);
    Ok(())
}

/// Skipping and the dispatcher: the layers that run have the width of the step.
#[test]
fn dispatched_step_skips_at_its_width() -> Result<()> {
    let fixture = Fixture::new("openvla-tiny");
    let observation = stages::observation(&fixture, 2);
    let file = networks(&[0, 3], YES);
    let mut direct = skipping(&fixture.folder, &file);
    let guide = guide(&direct, &BLIND);
    let (prepared, sequence) = sequence(&direct, &observation);
    let vla = skipping(&fixture.folder, &file);
    let mut runner = VlaRunner::skipping(vla, &BLIND, dispatcher(), StepOptions::default())?;
    let mut widths = Vec::new();
    // The robot moves fast and steadily, then turns.
    for action in [[0.0; 7], [0.3, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], [0.9; 7]] {
        for _ in 0..3 {
            let decision = runner.decide(&action, 7)?;
            let step = runner.step(&observation)?;
            let width = decision.active;
            assert_eq!(step.report.prefill, width);
            let mut probe = Probe::default();
            let prefilled =
                direct.prefill(&sequence, prepared.dims, width, Some(&guide), &mut probe)?;
            assert_eq!(
                step.tokens,
                direct.decode(&prefilled, width, &mut probe)?.tokens
            );
            assert_eq!(step.skip.unwrap().layers_run, 2);
            widths.push(width);
        }
    }
    println!("{widths:?}");
    assert!(
        widths.windows(2).any(|pair| pair[0] != pair[1]),
        "{widths:?}"
    );
    Ok(())
}
