//! Between normalized values and the units of a data set.

use crate::{bits, cases, folder, numbers, rows};
use w4ax_vla::action::{Bounds, RobotPlatform, Unnormalize, normalize_proprio};
use w4ax_vla::config::{NormStats, Stats};

const LIBERO: &str = "libero_spatial_no_noops";

#[test]
fn openvla_actions_equal_the_reference_to_the_bit() {
    let stats = NormStats::load(folder("openvla-tiny")).unwrap();
    for case in cases("openvla-tiny") {
        let normalized = numbers(&case["normalized_actions"]);
        let actions = case["actions"].as_object().unwrap();
        assert_eq!(actions.len(), 3);
        for (key, expected) in actions {
            let (_, dataset) = stats.get(Some(key)).unwrap();
            let action = Unnormalize::openvla(&dataset.action)
                .apply(&normalized)
                .unwrap();
            assert_eq!(bits(&action), bits(&numbers(expected)), "{key}");
        }
    }
}

#[test]
fn oft_actions_equal_the_reference_to_the_bit() {
    let stats = NormStats::load(folder("oft-tiny")).unwrap();
    let (_, dataset) = stats.get(Some(LIBERO)).unwrap();
    let unnormalize = Unnormalize::oft(&dataset.action, RobotPlatform::Libero.bounds()).unwrap();
    for case in cases("oft-tiny") {
        let normalized = rows(&case["normalized_actions"]);
        let normalized: Vec<f32> = normalized.iter().map(|&n| n as f32).collect();
        let actions = unnormalize.apply_f32(&normalized).unwrap();
        assert_eq!(actions.len(), 56);
        assert_eq!(bits(&actions), bits(&rows(&case["actions"])));
        // Values beyond the bounds are not clamped.
        assert!(normalized.iter().any(|n| n.abs() > 1.0));
    }
}

#[test]
fn states_equal_the_reference_to_the_bit() {
    let stats = NormStats::load(folder("oft-tiny")).unwrap();
    let (_, dataset) = stats.get(None).unwrap();
    let proprio = dataset.proprio.as_ref().unwrap();
    let mut clamped = 0;
    for case in cases("oft-tiny") {
        let state = numbers(&case["state"]);
        let normalized = normalize_proprio(&state, proprio, Bounds::Quantiles).unwrap();
        assert_eq!(
            bits(&normalized),
            bits(&numbers(&case["proprio_normalized"]))
        );
        clamped += normalized.iter().filter(|p| p.abs() == 1.0).count();
    }
    assert!(clamped > 0);
}

fn two_dimensions() -> Stats {
    Stats::new(vec![0.0, 1.0], vec![2.0, 3.0])
        .unwrap()
        .with_min_max(vec![-4.0, -5.0], vec![4.0, 5.0])
        .unwrap()
        .with_mask(vec![true, false])
        .unwrap()
}

#[test]
fn bounds_are_percentiles_or_extremes() {
    let stats = two_dimensions();
    let action = |bounds| {
        let unnormalize = Unnormalize::oft(&stats, bounds).unwrap();
        unnormalize.apply(&[1.0, 0.25]).unwrap()
    };
    assert_eq!(action(Bounds::Quantiles), [2.0 + 1e-8, 0.25]);
    assert_eq!(action(Bounds::MinMax), [(8.0 + 1e-8) - 4.0, 0.25]);
    assert_eq!(
        Unnormalize::openvla(&stats).apply(&[1.0, 0.25]).unwrap(),
        [2.0, 0.25]
    );
}

#[test]
fn states_outside_the_mask_are_clamped_only() {
    let stats = two_dimensions();
    let state = |state: [f64; 2]| normalize_proprio(&state, &stats, Bounds::MinMax).unwrap();
    assert_eq!(state([0.0, 0.5])[1], 0.5);
    assert_eq!(state([9.0, 9.0]), [1.0, 1.0]);
    assert_eq!(state([-9.0, -9.0]), [-1.0, -1.0]);
}

#[test]
fn dimension_without_a_range_is_defined() {
    let stats = Stats::new(vec![0.5], vec![0.5]).unwrap();
    let state = |s: f64| normalize_proprio(&[s], &stats, Bounds::Quantiles).unwrap();
    assert_eq!(state(0.5), [-1.0]);
    assert_eq!(state(0.6), [1.0]);
}

#[test]
fn maps_rows_by_the_dimensions_of_the_statistics() {
    let unnormalize = Unnormalize::openvla(&two_dimensions());
    assert_eq!(unnormalize.dims(), 2);
    let actions = unnormalize.apply(&[-1.0, 0.0, 0.0, 1.0, 1.0, 2.0]).unwrap();
    assert_eq!(actions, [0.0, 0.0, 1.0, 1.0, 2.0, 2.0]);
}

#[test]
fn rejects_inputs_of_another_size() {
    let stats = two_dimensions();
    let error = Unnormalize::openvla(&stats).apply(&[0.0; 3]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "normalized action is 3 values: expected a multiple of 2, as in the statistics"
    );
    let error = normalize_proprio(&[0.0; 3], &stats, Bounds::Quantiles).unwrap_err();
    assert_eq!(
        error.to_string(),
        "state of the robot is 3 values: expected 2, as in the statistics"
    );
    for value in [f64::NAN, f64::INFINITY] {
        assert!(normalize_proprio(&[0.0, value], &stats, Bounds::Quantiles).is_err());
    }
}

#[test]
fn rejects_extremes_that_do_not_exist() {
    let stats = Stats::new(vec![0.0], vec![1.0]).unwrap();
    assert!(Unnormalize::oft(&stats, Bounds::MinMax).is_err());
    assert!(normalize_proprio(&[0.0], &stats, Bounds::MinMax).is_err());
}

#[test]
fn platforms_have_the_constants_of_the_reference() {
    for (name, chunk, action, proprio, bounds) in [
        ("libero", 8, 7, 8, Bounds::Quantiles),
        ("ALOHA", 25, 14, 14, Bounds::MinMax),
        ("bridge", 5, 7, 7, Bounds::Quantiles),
    ] {
        let platform: RobotPlatform = name.parse().unwrap();
        assert_eq!(platform.chunk(), chunk);
        assert_eq!(platform.action_dims(), action);
        assert_eq!(platform.proprio_dims(), proprio);
        assert_eq!(platform.bounds(), bounds);
    }
    assert_eq!(RobotPlatform::default(), RobotPlatform::Libero);
    let error = "franka".parse::<RobotPlatform>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "robot platform is franka: expected libero, aloha or bridge"
    );
}
