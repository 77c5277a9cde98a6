//! Control steps of a decoder that skips layers, bit for bit against calls of its layers.

use candle_core::{DType, Result, Tensor};
use std::sync::Arc;
use w4ax::Width;
use w4ax::dispatch::ACTION_DIM;
use w4ax::skip::{Fate, Layers, SkipConfig, Skipper, Verdict, Verify};
use w4ax::step::StepFlag;

use crate::stack::{ACTIONS, LAYERS, Stack};
use crate::{CPU, bits};

/// Biases of the controllers.
const NO: f32 = -30.0;
const YES: f32 = 30.0;

/// Layers 0 and 3 are static: the gaps are 1..3 and 4..6.
fn skipper(config: SkipConfig) -> Skipper {
    Skipper::new(&config, Layers::new(LAYERS, &[0, 3]).unwrap()).unwrap()
}

/// Only the controllers decide which layers are skipped.
const BLIND: SkipConfig = SkipConfig::new()
    .with_pre_skip(false)
    .with_verify(Verify::Off);

/// Runs one step. Returns its hidden state and its chunk.
fn step(skipper: &mut Skipper, stack: &mut Stack) -> Result<(Vec<u16>, Vec<f64>)> {
    let mut actions = vec![f64::NAN; ACTIONS * ACTION_DIM];
    skipper.step(stack, &mut actions)?;
    Ok((bits(&stack.hidden), actions))
}

/// Runs the decoder without networks.
fn plainly(stack: &Stack) -> Result<(Vec<u16>, Vec<f64>)> {
    let mut x = stack.input.clone();
    for layer in 0..LAYERS {
        x = stack.through(layer, &x)?;
    }
    Ok((bits(&x), stack.head(&x)?))
}

/// Runs the static layers, and an adapter for each gap.
fn around_the_gaps(stack: &Stack) -> Result<(Vec<u16>, Vec<f64>)> {
    let x = stack.through(0, &stack.input)?;
    let x = stack.around(1, &x)?;
    let x = stack.through(3, &x)?;
    let x = stack.around(4, &x)?;
    Ok((bits(&x), stack.head(&x)?))
}

/// The width of each step comes from the [`StepFlag`]. The expected result uses a fixed width.
#[test]
fn controllers_decide_at_every_width() -> Result<()> {
    let flag = Arc::new(StepFlag::new());
    let mut no = Stack::new(11, NO, flag.clone())?;
    let mut yes = Stack::new(11, YES, flag.clone())?;
    let mut skippers = [SkipConfig::default(), BLIND].map(skipper);
    let mut seen = Vec::new();
    for width in Width::ALL {
        let expected = Stack::new(11, NO, width)?;
        flag.record_by_host(0, width);
        let whole = plainly(&expected)?;
        assert_eq!(step(&mut skippers[0], &mut no)?, whole, "{width}");
        let report = skippers[0].report();
        assert_eq!(report.layers_run, LAYERS);

        let shortened = around_the_gaps(&expected)?;
        assert_eq!(step(&mut skippers[1], &mut yes)?, shortened, "{width}");
        let report = skippers[1].report();
        let ran: Vec<usize> = (0..LAYERS).filter(|&l| report.fates[l].ran()).collect();
        assert_eq!((ran, report.layers_run), (vec![0, 3], 2));
        assert!(matches!(report.fates[1], Fate::Skipped(p) if p > 0.99));
        assert_eq!(report.fates[2], Fate::Covered(1));
        assert_ne!(shortened, whole);
        seen.push(whole);
    }
    // The same input gives another result at each width.
    assert!(seen.windows(2).all(|pair| pair[0] != pair[1]));
    Ok(())
}

/// The actions of random weights jump: the chunk has a first drop, and the whole step runs again.
#[test]
fn verified_step_equals_the_whole_decoder() -> Result<()> {
    let mut stack = Stack::new(12, YES, Width::A4)?;
    let mut skipper = skipper(SkipConfig::default());
    let made = step(&mut skipper, &mut stack)?;
    assert_eq!(skipper.report().verdict, Verdict::RanAgain);
    assert_eq!(skipper.report().layers_run, 2 + LAYERS);
    assert_eq!(made, plainly(&stack)?);
    Ok(())
}

#[test]
fn candle_error_fails_the_step_and_disables_skipping() -> Result<()> {
    let mut stack = Stack::new(13, YES, Width::A8)?;
    let mut skipper = skipper(BLIND);
    step(&mut skipper, &mut stack)?;
    let good = stack.input.clone();
    let short = good.narrow(1, 0, 32)?.contiguous()?;
    for (bad, says) in [
        (good.to_dtype(DType::F32)?, "dtype"),
        (short, "shape"),
        // All tokens are NaN: an error of this crate, as a candle error.
        (
            Tensor::full(f32::NAN, good.dims(), CPU)?.to_dtype(DType::BF16)?,
            "NaN",
        ),
    ] {
        stack.input = bad;
        let error: candle_core::Error = step(&mut skipper, &mut stack).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert!(skipper.guide().in_fault());
        stack.input = good.clone();
        assert_eq!(step(&mut skipper, &mut stack)?, plainly(&stack)?);
        assert_eq!(skipper.report().layers_run, LAYERS);
        // A chunk of 8 fills a window of 5.
        assert_eq!(step(&mut skipper, &mut stack)?, around_the_gaps(&stack)?);
    }
    let error = skipper.step(&mut stack, &mut [0.0; 8]).unwrap_err();
    assert!(error.to_string().contains("actions"), "{error}");
    assert!(!skipper.guide().in_fault());
    Ok(())
}
