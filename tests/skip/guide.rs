//! Continuity, allow-points and verification.

use proptest::prelude::*;
use w4ax::Error;
use w4ax::dispatch::{ACTION_DIM, Action};
use w4ax::skip::{Continuity, Guide, Layers, SkipConfig, Verify};

/// Returns an action of `x` along one axis.
fn along(x: f64) -> Action {
    [x, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
}

fn guide(config: SkipConfig) -> Guide {
    Guide::new(&config, &Layers::new(16, &[0, 1, 7]).unwrap()).unwrap()
}

#[test]
fn rejects_each_field_out_of_range_by_name() {
    let default = SkipConfig::default();
    let weight = |index: usize, value: f64| {
        let mut weights = default.weights();
        weights[index] = value;
        default.with_weights(weights)
    };
    let rejected = |config: SkipConfig, name: &str| {
        match config.validate() {
            Err(Error::Config { field, .. }) => assert_eq!(field, name),
            other => panic!("{name}: {other:?}"),
        }
        assert!(Continuity::new(&config).is_err());
    };
    assert!(default.validate().is_ok());
    rejected(default.with_window(0), "window");
    rejected(default.with_window(SkipConfig::MAX_WINDOW + 1), "window");
    rejected(default.with_weights([0.0; 7]), "weights");
    rejected(weight(3, -1.0), "weights");
    rejected(weight(6, f64::NAN), "weights");
    rejected(default.with_eta1(0.0), "eta1");
    rejected(default.with_eta1(f64::INFINITY), "eta1");
    rejected(default.with_eta2(-0.1), "eta2");
    rejected(default.with_eta(f64::NAN), "eta");
    rejected(default.with_threshold(1.5), "threshold");
    rejected(default.with_threshold(f32::NAN), "threshold");
}

/// k = 2, one axis: C_t = -(|A_t - A_{t-1}| + |A_{t-1} - A_{t-2}|) / 2.
#[test]
fn continuity_matches_hand_computed_values() {
    let config = SkipConfig::default().with_window(2);
    let mut continuity = Continuity::new(&config).unwrap();
    let steps = [
        // Action, C, delta.
        (0.0, 0.0, 0.0),
        (0.5, -0.5, -0.5), // The window holds one change.
        (0.5, -0.25, 0.25),
        (0.5, 0.0, 0.25), // The change has left the window.
        (-0.5, -0.5, -0.5),
        (0.0, -0.75, -0.25),
    ];
    for (x, value, delta) in steps {
        continuity.push(&along(x)).unwrap();
        assert_eq!((continuity.value(), continuity.delta()), (value, delta));
    }
    // Only the gripper has a weight, of one half.
    let mut weights = [0.0; ACTION_DIM];
    weights[6] = 0.5;
    let mut gripper = Continuity::new(&config.with_weights(weights)).unwrap();
    gripper.push(&[0.9; 7]).unwrap();
    gripper.push(&[-0.1; 7]).unwrap();
    assert_eq!(gripper.value(), -0.5);
    // A rejected action leaves the history unchanged.
    for bad in [along(f64::NAN), along(f64::INFINITY), along(1e200)] {
        assert!(continuity.push(&bad).is_err());
        assert_eq!(continuity.value(), -0.75);
    }
}

/// eta1 = .125, eta2 = .0625, k = 1, so delta is the decrease of the change. Gaps 2..7 and 8..16.
#[test]
fn allow_points_match_hand_computed_values() {
    let mut guide = guide(
        SkipConfig::default()
            .with_window(1)
            .with_eta1(0.125)
            .with_eta2(0.0625),
    );
    assert_eq!(guide.allow_points(), [2, 8]);
    let steps = [
        // Action, delta, allow-points.
        (0.0, 0.0, [2, 8]),
        (0.125, -0.125, [2, 8]), // Not below -eta1.
        (0.5, -0.25, [4, 10]),   // C from -.125 to -.375: ceil(2) layers.
        (0.890625, -0.015625, [4, 10]),
        (1.0, 0.28125, [3, 9]), // Back by one layer for a rise of any size.
        (1.0625, 0.046875, [3, 9]), // Not above eta2.
        (1.0625, 0.0625, [3, 9]),
        (1.359375, -0.296875, [6, 12]), // ceil(2.375)
        (2.359375, -0.703125, [7, 16]), // ceil(5.625) = 6, at most to the end of the gap.
        (2.359375, 1.0, [6, 15]),
    ];
    for (x, delta, points) in steps {
        let judged = guide.judge(&along(x)).unwrap();
        let seen = guide.observe(&along(x)).unwrap();
        assert_eq!(
            (seen.delta, guide.allow_points()),
            (delta, &points[..]),
            "{x}"
        );
        assert_eq!(judged, seen);
    }
    // A stride beyond the range of integers.
    guide.observe(&along(1e150)).unwrap();
    assert_eq!(guide.allow_points(), [7, 16]);
    guide.reset();
    assert_eq!(guide.allow_points(), [2, 8]);
}

#[test]
fn allow_points_stay_without_pre_skip() {
    let mut guide = guide(SkipConfig::default().with_pre_skip(false));
    for x in [0.0, 1.0, -1.0, 1.0] {
        guide.observe(&along(x)).unwrap();
        assert_eq!(guide.allow_points(), [2, 8]);
    }
}

/// k = 1, eta = .0625: a rise, a drop and a second drop, by each rule.
#[test]
fn verification_matches_hand_computed_values() {
    let drops = |verify| -> Vec<bool> {
        let mut guide = guide(
            SkipConfig::default()
                .with_window(1)
                .with_eta(0.0625)
                .with_verify(verify),
        );
        // Changes .5, .25, 1, 2, 2, 3: delta -.5 +.25 -.75 -1 0 -1.
        let actions = [0.0, 0.5, 0.75, 1.75, 3.75, 5.75, 8.75].map(along);
        let seen = actions.iter().map(|a| guide.observe(a).unwrap().drops);
        seen.collect()
    };
    let rise_then_drop = [false, false, false, true, false, false, false];
    assert_eq!(drops(Verify::RiseThenDrop), rise_then_drop);
    let first_drop = [false, true, false, true, false, false, true];
    assert_eq!(drops(Verify::FirstDrop), first_drop);
    assert_eq!(drops(Verify::Off), [false; 7]);
}

/// k = 1, eta = .25: deltas of exactly -eta, and deltas of exactly eta and -eta before a drop.
#[test]
fn verification_matches_hand_computed_values_at_its_edges() {
    let steps = [
        // Action, drop by the paper's rule, drop by the default rule.
        (0.0, false, false),
        (0.25, false, false), // -.25 after 0: -eta is not below -eta.
        (1.0, false, true),   // -.5 after -.25, which was not a drop.
        (1.5, false, false),  // .25.
        (2.5, false, true),   // -.5 after .25: eta is not above eta.
        (3.0, false, false),  // .5.
        (3.75, false, false), // -.25 after .5.
        (4.0, false, false),  // .5.
        (4.75, true, true),   // -.5 after .5.
    ];
    for (verify, at) in [(Verify::RiseThenDrop, 0), (Verify::FirstDrop, 1)] {
        let mut guide = guide(
            SkipConfig::default()
                .with_window(1)
                .with_eta(0.25)
                .with_verify(verify),
        );
        for (x, rise_then_drop, first_drop) in steps {
            let seen = guide.observe(&along(x)).unwrap();
            let expected = [rise_then_drop, first_drop][at];
            assert_eq!(seen.drops, expected, "{verify:?} at {x}: {}", seen.delta);
        }
    }
}

#[test]
fn chunk_moves_allow_points_once() {
    let config = SkipConfig::default()
        .with_window(1)
        .with_eta1(0.125)
        .with_eta2(0.0625);
    let (mut chunked, mut single) = (guide(config), guide(config));
    // Changes 0, 1, 1, 0: delta 0, -1, 0, 1. The drop decides although the chunk ends with a rise.
    let chunk = [0.0, 0.0, 1.0, 2.0, 2.0].map(along);
    let seen = chunked.observe(chunk.as_flattened()).unwrap();
    assert_eq!((seen.delta, seen.drops, seen.continuity), (-1.0, true, 0.0));
    assert_eq!(chunked.allow_points(), [7, 16]);
    // A rise of .25 in the chunk: back by one layer.
    chunked.observe(&along(2.25)).unwrap();
    let seen = chunked.observe([2.25, 2.25].map(along).as_flattened());
    assert_eq!(seen.unwrap().delta, 0.25);
    assert_eq!(chunked.allow_points(), [6, 15]);
    // The history does not depend on the chunks.
    for x in [0.0, 0.0, 1.0, 2.0, 2.0, 2.25, 2.25, 2.25] {
        single.observe(&along(x)).unwrap();
    }
    assert_eq!(single.continuity().value(), chunked.continuity().value());
    for bad in [0, 6, 8] {
        match chunked.judge(&vec![0.0; bad]) {
            Err(Error::Shape { what, .. }) => assert_eq!(what, "actions"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn invalid_action_disables_skipping_until_the_window_is_full() {
    let mut guide = guide(SkipConfig::default());
    guide.observe(&[0.0; 7]).unwrap();
    let mut chunk = [0.0; 14];
    chunk[9] = f64::NAN;
    match guide.judge(&chunk).unwrap_err() {
        Error::NotFinite { what, index, .. } => assert_eq!((what, index), ("action", 9)),
        other => panic!("{other}"),
    }
    assert!(!guide.in_fault());
    guide.observe(&chunk).unwrap_err();
    // k = 5 changes need 6 actions.
    for t in 0..6 {
        assert_eq!(guide.allow_points(), [7, 16], "{t}");
        assert!(guide.in_fault());
        guide.observe(&along(0.9 * f64::from(t % 2))).unwrap();
    }
    assert_eq!(
        (guide.in_fault(), guide.allow_points()),
        (false, &[2, 8][..])
    );
    guide.observe(&[f32::INFINITY; 7]).unwrap_err();
    guide.reset();
    assert_eq!(
        (guide.in_fault(), guide.allow_points()),
        (false, &[2, 8][..])
    );
}

/// k = 2, eta1 = .125: the action that ends a fault may be a drop, which forces layers as without
/// the fault.
#[test]
fn action_that_ends_a_fault_moves_allow_points() {
    let config = SkipConfig::default()
        .with_window(2)
        .with_eta1(0.125)
        .with_eta2(0.0625);
    let traces = [
        // Valid actions, delta of the last one, allow-points, allow-points if the actions are one
        // chunk.
        ([0.0, 0.0, 0.5], -0.25, [4, 10], [4, 10]), // Changes 0, .5: C from 0 to -.25.
        ([0.0, 0.25, 1.0], -0.25, [4, 10], [4, 10]), // .25, .75: from -.25 to -.5.
        ([0.0, 0.0, 8.0], -4.0, [7, 16], [7, 16]),
        ([0.0, 0.25, 0.5], 0.0, [2, 8], [4, 10]), // In the chunk the earlier drop counts.
        ([0.0, 0.5, 0.5], 0.25, [2, 8], [6, 12]), // A rise, with the points at the start.
    ];
    for (actions, delta, points, of_chunk) in traces {
        let actions = actions.map(along);
        let mut guide = guide(config);
        let mut chunked = guide.clone();
        guide.observe(&[f64::NAN; 7]).unwrap_err();
        for action in &actions[..2] {
            guide.observe(action).unwrap();
            assert!(guide.in_fault() && guide.allow_points() == [7, 16]);
        }
        let seen = guide.observe(&actions[2]).unwrap();
        assert!(!guide.in_fault());
        assert_eq!((seen.delta, guide.allow_points()), (delta, &points[..]));
        // The history before a fault has no effect.
        chunked.observe(&along(3.0)).unwrap();
        chunked.observe(&[f64::NAN; 7]).unwrap_err();
        chunked.observe(actions.as_flattened()).unwrap();
        assert_eq!(chunked.allow_points(), of_chunk);
    }
    // Without pre-skip the points stay.
    let mut guide = guide(config.with_pre_skip(false));
    guide.fail();
    for x in [0.0, 0.0, 8.0] {
        guide.observe(&along(x)).unwrap();
    }
    assert_eq!(
        (guide.in_fault(), guide.allow_points()),
        (false, &[2, 8][..])
    );
}

proptest! {
    /// C, delta, drops and allow-points equal their definitions on the whole history, also for
    /// short histories.
    #[test]
    fn random_actions_match_the_definitions(
        actions in prop::collection::vec(prop::array::uniform7(-1.0..1.0f64), 1..60),
        n in 1usize..24,
        statics in prop::collection::btree_set(0usize..24, 0..6),
        window in 1usize..8,
        eta1 in 0.01..0.5f64,
        eta2 in 0.0..0.5f64,
        eta in 0.0..0.5f64,
    ) {
        let statics: Vec<usize> = statics.into_iter().filter(|&l| l < n).collect();
        let layers = Layers::new(n, &statics).unwrap();
        // Every dynamic layer is in exactly one gap, no static layer is in a gap, and gaps do not
        // touch.
        for layer in 0..n {
            let of: Vec<usize> = (0..layers.gaps().len())
                .filter(|&g| (layers.gaps()[g].start..layers.gaps()[g].end).contains(&layer))
                .collect();
            let expected = layers.gap_of(layer).into_iter().collect::<Vec<_>>();
            prop_assert_eq!(&of, &expected);
            prop_assert_eq!(of.is_empty(), statics.contains(&layer));
        }
        for pair in layers.gaps().windows(2) {
            prop_assert!(pair[0].end < pair[1].start);
        }
        let config = SkipConfig::default()
            .with_window(window)
            .with_eta1(eta1)
            .with_eta2(eta2)
            .with_eta(eta);
        let mut guide = Guide::new(&config, &layers).unwrap();
        let (mut c, mut delta) = (0.0, 0.0);
        for t in 0..actions.len() {
            let before = guide.allow_points().to_vec();
            let seen = guide.observe(&actions[t]).unwrap();
            // The definition, from the whole history.
            let changes: Vec<f64> = (t.saturating_sub(window - 1).max(1)..=t)
                .map(|j| {
                    let squares = (0..7).map(|i| (actions[j][i] - actions[j - 1][i]).powi(2));
                    squares.sum::<f64>().sqrt()
                })
                .collect();
            let now = match changes.len() {
                0 => 0.0,
                len => -changes.iter().sum::<f64>() / len as f64,
            };
            prop_assert!((seen.continuity - now).abs() < 1e-12);
            prop_assert!((seen.delta - (now - c)).abs() < 1e-12);
            prop_assert_eq!(seen.drops, seen.delta < -eta && delta >= -eta);
            (c, delta) = (seen.continuity, seen.delta);
            for ((gap, &from), &to) in layers.gaps().iter().zip(&before).zip(guide.allow_points()) {
                prop_assert!((gap.start..=gap.end).contains(&to));
                let expected = if delta < -eta1 {
                    gap.end.min(from + (delta.abs() / eta1).ceil() as usize)
                } else if delta > eta2 {
                    gap.start.max(from.saturating_sub(1))
                } else {
                    from
                };
                prop_assert_eq!(to, expected);
            }
        }
    }
}
