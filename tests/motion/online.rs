//! The motion scale from the observed actions.

use w4ax::Error;
use w4ax::dispatch::{
    ActionLayout, Dispatcher, MotionScale, MotionScaleEstimator, PercentileSketch,
};

use crate::{MOTION, config};

/// An arm that swings, up to `speed`.
fn action(t: usize, speed: f64) -> [f64; 7] {
    let phase = t as f64 * 0.3;
    [
        speed * phase.sin(),
        0.0,
        0.0,
        0.1 * phase.cos(),
        0.0,
        0.0,
        1.0,
    ]
}

#[test]
fn estimate_begins_with_enough_samples() {
    let mut estimator = MotionScaleEstimator::new(&ActionLayout::default());
    let enough = MotionScaleEstimator::MIN_SAMPLES as usize;
    for t in 0..enough {
        assert_eq!(estimator.scale(), None);
        estimator.observe(&action(t, 1.0)).unwrap();
    }
    // The first action has no change of rotation.
    assert_eq!(estimator.scale(), None);
    estimator.observe(&action(enough, 1.0)).unwrap();
    let scale = estimator.scale().unwrap();
    assert!((scale.mu_max - 0.997).abs() < 0.015, "{scale:?}");
    // |a_rot(t) - a_rot(t-1)| is at most .2 sin(.15).
    assert!(
        (scale.nu_max - 0.2 * 0.15_f64.sin()).abs() < 0.001,
        "{scale:?}"
    );
    // Neither an invalid action nor a new episode changes the percentiles.
    assert!(matches!(
        estimator.observe(&[f64::NAN; 7]),
        Err(Error::NotFinite { .. })
    ));
    assert!(matches!(
        estimator.observe(&[0.0; 6]),
        Err(Error::Shape { .. })
    ));
    assert!(matches!(
        estimator.observe(&[1e200; 7]),
        Err(Error::Range { .. })
    ));
    estimator.reset();
    assert_eq!(estimator.scale(), Some(scale));
    let samples = estimator.samples();
    estimator.observe(&action(0, 1.0)).unwrap();
    assert_eq!(
        estimator.samples(),
        samples,
        "the first action has no change"
    );
}

#[test]
fn no_motion_has_no_scale() {
    let mut estimator = MotionScaleEstimator::new(&ActionLayout::default());
    for _ in 0..400 {
        estimator
            .observe(&[0.5_f32, 0.0, 0.0, 0.2, 0.0, 0.0, 0.0])
            .unwrap();
    }
    assert_eq!(estimator.scale(), None, "the change of rotation is 0");
}

#[test]
fn dispatcher_keeps_the_scale_online() {
    let config = config("end-effector");
    let mut online = Dispatcher::new(&config).unwrap().with_online_scale();
    let mut plain = Dispatcher::new(&config).unwrap();
    let mut estimator = MotionScaleEstimator::new(config.layout());
    let mut scale = MOTION;
    let mut updates = vec![];
    for t in 0..1000 {
        // The robot becomes faster than its configuration.
        let action = action(t, 1.0 + t as f64 / 500.0);
        if t % 100 == 99 {
            online.reset();
            plain.reset();
            estimator.reset();
        }
        online.observe(&action).unwrap();
        plain.observe(&action).unwrap();
        let before = estimator.samples();
        estimator.observe(&action).unwrap();
        let more = estimator
            .samples()
            .checked_sub(MotionScaleEstimator::MIN_SAMPLES);
        if before < estimator.samples()
            && more.is_some_and(|more| more % Dispatcher::SCALE_PERIOD == 0)
        {
            scale = estimator.scale().unwrap();
            updates.push(t);
        }
        assert_eq!(online.motion(), scale, "{t}");
        let (online, plain) = (online.decide(), plain.decide());
        if updates.is_empty() {
            assert_eq!(online, plain, "{t}");
        }
    }
    assert_eq!(updates.len(), 13, "{updates:?}");
    assert_eq!(plain.motion(), MOTION);
    assert!(scale.mu_max > 2.0, "{scale:?}");
}

/// A scale from a configuration and a scale from the same actions lead to nearly the same S.
#[test]
fn online_scale_leads_to_the_sensitivity_of_the_calibration() {
    let exact = MotionScale {
        mu_max: 0.997,
        nu_max: 0.2 * 0.15_f64.sin(),
    };
    let mut calibrated = Dispatcher::new(&config("end-effector").with_motion(exact)).unwrap();
    let mut online = Dispatcher::new(&config("end-effector"))
        .unwrap()
        .with_online_scale();
    for t in 0..600 {
        calibrated.observe(&action(t, 1.0)).unwrap();
        online.observe(&action(t, 1.0)).unwrap();
        let (a, b) = (calibrated.decide().sensitivity, online.decide().sensitivity);
        let far = (a - b).abs() > 2.0 * PercentileSketch::RELATIVE_ERROR;
        assert!(t < 220 || !far, "{t}: {a} {b}");
    }
}
