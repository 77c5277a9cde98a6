//! Percentiles from sketches against those of all values.

use proptest::prelude::*;
use w4ax::Error;
use w4ax::calibrate::{motion_scales, percentile};
use w4ax::dispatch::{Action, ActionLayout, MotionScaleEstimator, PercentileSketch};

fn sketch(values: &[f64]) -> PercentileSketch {
    let mut sketch = PercentileSketch::new();
    for &value in values {
        sketch.add(value).unwrap();
    }
    sketch
}

/// Values over the whole range, repeated values, and values that count as 0.
fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        6 => (-6.0..4.0_f64).prop_map(|exponent| 10.0_f64.powf(exponent)),
        2 => 0.0..2.0_f64,
        1 => Just(0.0),
        1 => Just(1e-9),
        1 => prop_oneof![Just(PercentileSketch::SMALLEST), Just(PercentileSketch::LARGEST)],
        1 => Just(0.25),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn percentiles_have_the_stated_error(
        values in prop::collection::vec(value(), 1..200),
        percent in prop_oneof![0.0..=100.0_f64, Just(95.0), Just(0.0), Just(100.0)],
    ) {
        let exact = percentile(&mut values.clone(), percent).unwrap();
        let got = sketch(&values).percentile(percent).unwrap();
        // A value below SMALLEST counts as 0.
        let bound = PercentileSketch::RELATIVE_ERROR * exact + PercentileSketch::SMALLEST;
        prop_assert!((got - exact).abs() <= bound, "{got} not {exact}");
    }

    /// Without values below SMALLEST, the error is relative only.
    #[test]
    fn single_values_have_the_stated_relative_error(exponent in -6.0..4.0_f64) {
        let value = 10.0_f64.powf(exponent).clamp(1e-6, 1e4);
        let got = sketch(&[value]).percentile(50.0).unwrap();
        prop_assert!((got / value - 1.0).abs() <= PercentileSketch::RELATIVE_ERROR, "{got} {value}");
    }

    #[test]
    fn merged_sketches_are_the_sketch_of_all_values(
        a in prop::collection::vec(value(), 0..50),
        b in prop::collection::vec(value(), 0..50),
    ) {
        let mut merged = sketch(&a);
        merged.merge(&sketch(&b));
        prop_assert_eq!(merged.len(), (a.len() + b.len()) as u64);
        prop_assert_eq!(merged, sketch(&[a, b].concat()));
    }
}

/// The rank lies between those of values that are 2 % smaller and larger.
#[test]
fn rank_is_the_share_of_values_at_most_as_large() {
    let values: Vec<f64> = (1..=1000).map(|i| f64::from(i) * 0.01).collect();
    let sketch = sketch(&values);
    for at in [0.01, 0.5, 3.0, 9.99] {
        let share = |most: f64| values.iter().filter(|x| **x <= most).count() as f64 / 1000.0;
        let rank = sketch.rank(at).unwrap();
        assert!(
            (share(at * 0.98)..=share(at * 1.02)).contains(&rank),
            "{at}: {rank}"
        );
    }
    assert_eq!(sketch.rank(1e9), Some(1.0));
    assert_eq!(
        (sketch.rank(0.0), sketch.rank(-1.0)),
        (Some(0.0), Some(0.0))
    );
    assert_eq!(
        (sketch.rank(f64::NAN), PercentileSketch::new().rank(1.0)),
        (None, None)
    );
    let mut zeros = PercentileSketch::new();
    zeros.add(0.0).unwrap();
    zeros.add(1.0).unwrap();
    assert_eq!((zeros.rank(0.0), zeros.rank(0.5)), (Some(0.5), Some(0.5)));
}

#[test]
fn limits_are_as_documented() {
    let mut empty = PercentileSketch::default();
    assert_eq!((empty.percentile(95.0), empty.is_empty()), (None, true));
    for bad in [f64::NAN, f64::INFINITY, -1e-300] {
        assert!(matches!(empty.add(bad), Err(Error::Range { .. })));
    }
    assert!(empty.is_empty());
    let tiny = sketch(&[1e-7; 3]);
    assert_eq!(tiny.percentile(50.0), Some(0.0));
    let huge = sketch(&[1e9]).percentile(50.0).unwrap();
    assert!((huge / PercentileSketch::LARGEST - 1.0).abs() < PercentileSketch::RELATIVE_ERROR);
    for percent in [-0.1, 100.1, f64::NAN] {
        assert_eq!(tiny.percentile(percent), None);
    }
    let mut cleared = sketch(&[0.0, 1.0]);
    cleared.clear();
    assert_eq!(cleared, PercentileSketch::new());
}

/// Returns the episodes of each task of the expert: `[episode][step]`.
fn recordings() -> Vec<(String, Vec<Vec<Action>>)> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/data/robot/trajectories_expert.csv"
    );
    let mut tasks: Vec<(String, Vec<Vec<Action>>)> = vec![];
    for record in csv::Reader::from_path(path).unwrap().records() {
        let record = record.unwrap();
        let action = std::array::from_fn(|i| record[4 + i].parse().unwrap());
        if tasks.last().is_none_or(|(task, _)| *task != record[0]) {
            tasks.push((record[0].to_owned(), vec![]));
        }
        let episodes = &mut tasks.last_mut().unwrap().1;
        if &record[2] == "0" {
            episodes.push(vec![]);
        }
        episodes.last_mut().unwrap().push(action);
    }
    tasks
}

#[test]
fn estimates_of_the_recordings_are_close_to_the_calibration() {
    let layout = ActionLayout::default();
    let tasks = recordings();
    assert!(tasks.len() >= 4);
    let mut all = MotionScaleEstimator::new(&layout);
    for (task, episodes) in &tasks {
        let mut estimator = MotionScaleEstimator::new(&layout);
        for episode in episodes {
            estimator.reset();
            for action in episode {
                estimator.observe(action).unwrap();
            }
        }
        let episodes: Vec<w4ax::calibrate::Episode> = episodes
            .iter()
            .map(|actions| w4ax::calibrate::Episode {
                task: 0,
                reference: actions.clone(),
                at_width: std::array::from_fn(|_| actions.clone()),
            })
            .collect();
        let exact = motion_scales(&[task], &episodes, &layout).unwrap()[0].motion;
        let got = estimator.scale().unwrap();
        for (got, exact) in [(got.mu_max, exact.mu_max), (got.nu_max, exact.nu_max)] {
            let apart = (got / exact - 1.0).abs();
            assert!(
                apart <= PercentileSketch::RELATIVE_ERROR,
                "{task}: {got} not {exact}"
            );
        }
        all.merge(&estimator);
    }
    let steps: usize = tasks
        .iter()
        .flat_map(|(_, episodes)| episodes)
        .map(Vec::len)
        .sum();
    let episodes: usize = tasks.iter().map(|(_, episodes)| episodes.len()).sum();
    // Each step but the first of an episode has a change of rotation.
    assert_eq!(all.samples(), (steps - episodes) as u64);
}
