//! Control steps: decision, flag, latch, prefill, decode, action.

use super::fixture::{Fixture, load, values};
use super::oft;
use super::stages::{observation, run_at};
use std::time::Duration;
use test_support::dispatcher;
use w4ax::Width;
use w4ax::step::{Decide, Outcome, PrefillWidth, StepOptions};
use w4ax_vla::model::{LoadOptions, Observation, Probe, Vla};
use w4ax_vla::step::{StepPart, VlaRunner};
use w4ax_vla::{Result, VlaError};

fn quantized(folder: &std::path::Path) -> Vla {
    load(folder, LoadOptions::default().numerics())
}

#[test]
fn requested_width_governs_prefill_and_decode() -> Result<()> {
    let fixture = Fixture::new("openvla-tiny");
    let observation = observation(&fixture, 0);
    let mut direct = quantized(&fixture.folder);
    let mut runner = VlaRunner::new(quantized(&fixture.folder), None, StepOptions::default())?;
    for width in Width::ALL {
        let expected = run_at(&mut direct, &observation, width);
        runner.request(width)?;
        let step = runner.step(&observation)?;
        assert_eq!(
            (step.report.prefill, step.report.decode.width),
            (width, width)
        );
        assert_eq!(step.report.decode.outcome, Outcome::OnTime);
        assert_eq!(
            (&step.tokens, &step.normalized),
            (&expected.tokens, &expected.normalized)
        );
        assert_eq!(
            step.actions,
            direct.unnormalize(&expected.normalized, Some("bridge_tiny"))?
        );
        assert_eq!(step.dims, 7);
        let parts: Vec<StepPart> = step.times.keys().copied().collect();
        let expected = [
            StepPart::Preprocess,
            StepPart::Vision,
            StepPart::Projector,
            StepPart::Prefill,
            StepPart::Decode,
        ];
        assert_eq!(parts, expected);
        assert!(step.layer_times.total() <= step.times[&StepPart::Prefill]);
        assert!(step.layer_times.total() > Duration::ZERO);
    }
    Ok(())
}

#[test]
fn dispatcher_decides_from_the_actions_of_the_model() -> Result<()> {
    let fixture = Fixture::new("openvla-tiny");
    let observation = observation(&fixture, 2);
    let options = StepOptions::default();
    let mut runner = VlaRunner::new(quantized(&fixture.folder), dispatcher(), options)?;
    let mut mirror = dispatcher();
    let mut step = runner.step(&observation)?;
    assert_eq!(step.report.decision, Some(mirror.decide()));
    assert_eq!(step.report.prefill, Width::Bf16);
    for _ in 0..5 {
        let decision = runner.decide(&step.normalized, step.dims)?;
        mirror.observe(&step.normalized)?;
        assert_eq!(decision, mirror.decide());
        step = runner.step(&observation)?;
        assert_eq!(step.report.decision, Some(decision));
        assert!(step.report.as_decided());
        assert_eq!(step.report.prefill, decision.active);
    }
    runner.reset()?;
    assert_eq!(runner.step(&observation)?.report.prefill, Width::Bf16);
    Ok(())
}

#[test]
fn decision_during_the_prefill_governs_the_decode() -> Result<()> {
    let fixture = Fixture::new("openvla-tiny");
    let observation = observation(&fixture, 1);
    let decide = Decide::DuringPrefill(PrefillWidth::Fixed(Width::A8));
    let options = StepOptions::default()
        .with_decide(decide)
        .with_spin(Duration::from_secs(1));
    let mut runner = VlaRunner::new(quantized(&fixture.folder), None, options)?;
    runner.begin(&observation)?;
    runner.request(Width::A4)?;
    let step = runner.finish()?;
    assert_eq!(
        (step.report.prefill, step.report.decode.width),
        (Width::A8, Width::A4)
    );
    let mut direct = quantized(&fixture.folder);
    let mut probe = Probe::default();
    let prepared = direct.prepare(&observation)?;
    let features = direct.see(&prepared, &mut probe)?;
    let sequence = direct.sequence(&prepared, &features, &mut probe)?;
    let prefilled = direct.prefill(&sequence, 7, Width::A8, None, &mut probe)?;
    let decoded = direct.decode(&prefilled, Width::A4, &mut probe)?;
    assert_eq!(step.tokens, decoded.tokens);
    Ok(())
}

#[test]
fn results_are_the_same_on_one_two_and_three_threads() {
    let fixture = Fixture::new("openvla-tiny");
    let observation = observation(&fixture, 0);
    let seen = [1, 2, 3].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let mut vla = quantized(&fixture.folder);
            run_at(&mut vla, &observation, Width::A8)
        })
    });
    for other in &seen[1..] {
        assert_eq!(other.tokens, seen[0].tokens);
        for (stage, value) in &seen[0].stages {
            assert!(values(value) == values(&other.stages[stage]), "{stage}");
        }
    }
}

#[test]
fn chunk_of_one_pass_reports_the_head_in_place_of_the_decode() -> Result<()> {
    let fixture = Fixture::new("oft-tiny");
    let folder = test_support::oft_folder();
    let mut runner = VlaRunner::new(quantized(folder.path()), None, StepOptions::default())?;
    runner.request(Width::A8)?;
    let step = runner.step(&oft::observation(&fixture, 0))?;
    assert_eq!(
        (step.actions.len(), step.dims, step.tokens.len()),
        (56, 7, 0)
    );
    assert!(step.times.contains_key(&StepPart::Head));
    assert!(!step.times.contains_key(&StepPart::Decode));
    Ok(())
}

#[test]
fn failed_step_names_its_error_and_the_next_one_runs() -> Result<()> {
    let fixture = Fixture::new("openvla-tiny");
    let good = observation(&fixture, 0);
    let mut runner = VlaRunner::new(quantized(&fixture.folder), None, StepOptions::default())?;
    let image = || vec![good.images()[0].clone()];
    let ids = |count| [vec![1], vec![512; count]].concat();
    let cases: [(Observation, &str); 5] = [
        (
            Observation::new(image(), ids(5)).with_unnorm_key("bridge_huge"),
            "bridge_tiny, fractal_tiny, nomask_tiny",
        ),
        (
            Observation::new(image(), ids(5)),
            "bridge_tiny, fractal_tiny, nomask_tiny",
        ),
        (
            Observation::new(Vec::new(), ids(5)).with_unnorm_key("bridge_tiny"),
            "number of images is 0: expected 1",
        ),
        (
            Observation::new(image(), ids(2000)).with_unnorm_key("bridge_tiny"),
            "sequence of 2263 tokens: expected at most 2048",
        ),
        (
            Observation::new(image(), vec![1, 40_000]).with_unnorm_key("bridge_tiny"),
            "token id is 40000: expected less than 32064",
        ),
    ];
    for (bad, expected) in cases {
        runner.request(Width::A8)?;
        let error = runner.step(&bad).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!matches!(error, VlaError::W4ax(_)), "{error:?}");
        runner.request(Width::A8)?;
        assert_eq!(runner.step(&good)?.tokens.len(), 7);
    }
    // A text needs the tokenizer, which this checkpoint lacks.
    runner.request(Width::A8)?;
    let text = Observation::new(image(), "put the spoon down").with_unnorm_key("bridge_tiny");
    assert!(matches!(
        runner.step(&text),
        Err(VlaError::Tokenizer { .. })
    ));
    Ok(())
}

/// A sequence beyond the allocated cache reallocates it.
#[test]
fn long_prompt_gives_the_same_tokens_with_a_small_cache() {
    let fixture = Fixture::new("openvla-tiny");
    let observation = observation(&fixture, 1);
    let mut tokens = Vec::new();
    for capacity in [1, 260, 320, 2048] {
        let options = LoadOptions::default().with_tokens(capacity);
        let mut vla = Vla::load(&fixture.folder, &options, &mut |_| ()).unwrap();
        tokens.push(run_at(&mut vla, &observation, Width::A8).tokens);
    }
    assert!(
        tokens.windows(2).all(|pair| pair[0] == pair[1]),
        "{tokens:?}"
    );
}
