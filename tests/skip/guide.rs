//! Continuity, allow-points, verification.

use proptest::prelude::*;
use w4ax::Error;
use w4ax::dispatch::{ACTION_DIM, Action};
use w4ax::skip::{Continuity, Guide, Layers, SkipConfig, Verify};

/// An action that is `x` along one axis and nothing else.
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
fn continuity_by_hand() {
    let config = SkipConfig::default().with_window(2);
    let mut continuity = Continuity::new(&config).unwrap();
    let steps = [
        // The action, C, delta.
        (0.0, 0.0, 0.0),
        (0.5, -0.5, -0.5), // One change: the mean is over what there is.
        (0.5, -0.25, 0.25),
        (0.5, 0.0, 0.25), // The change has left the window.
        (-0.5, -0.5, -0.5),
        (0.0, -0.75, -0.25),
    ];
    for (x, value, delta) in steps {
        continuity.push(&along(x)).unwrap();
        assert_eq!((continuity.value(), continuity.delta()), (value, delta));
    }
    // Weights: only the gripper counts, and half.
    let mut weights = [0.0; ACTION_DIM];
    weights[6] = 0.5;
    let mut gripper = Continuity::new(&config.with_weights(weights)).unwrap();
    gripper.push(&[0.9; 7]).unwrap();
    gripper.push(&[-0.1; 7]).unwrap();
    assert_eq!(gripper.value(), -0.5);
    // A refused action leaves the history.
    for bad in [along(f64::NAN), along(f64::INFINITY), along(1e200)] {
        assert!(continuity.push(&bad).is_err());
        assert_eq!(continuity.value(), -0.75);
    }
}

/// eta1 = .1, eta2 = .05, k = 1 (so delta is the fall of the change), gaps 2..7 and 8..16.
#[test]
fn allow_points_by_hand() {
    let mut guide = guide(
        SkipConfig::default()
            .with_window(1)
            .with_eta1(0.125)
            .with_eta2(0.0625),
    );
    assert_eq!(guide.allow_points(), [2, 8]);
    let steps = [
        // The action, delta, the points.
        (0.0, 0.0, [2, 8]),
        (0.125, -0.125, [2, 8]), // Not below -eta1.
        (0.5, -0.25, [4, 10]),   // C from -.125 to -.375; ceil(2) layers.
        (0.890625, -0.015625, [4, 10]),
        (1.0, 0.28125, [3, 9]),     // Back by one, however large the rise is.
        (1.0625, 0.046875, [3, 9]), // Not above eta2.
        (1.0625, 0.0625, [3, 9]),
        (1.359375, -0.296875, [6, 12]), // ceil(2.375)
        (2.359375, -0.703125, [7, 16]), // ceil(5.625) = 6: each at its gap's end at most.
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
    // A stride beyond any integer.
    guide.observe(&along(1e150)).unwrap();
    assert_eq!(guide.allow_points(), [7, 16]);
    guide.reset();
    assert_eq!(guide.allow_points(), [2, 8]);
}

#[test]
fn without_pre_skip_the_points_stay() {
    let mut guide = guide(SkipConfig::default().with_pre_skip(false));
    for x in [0.0, 1.0, -1.0, 1.0] {
        guide.observe(&along(x)).unwrap();
        assert_eq!(guide.allow_points(), [2, 8]);
    }
}

/// k = 1, eta = .0625: a rise, a drop, a second drop, as each rule sees them.
#[test]
fn verification_by_hand() {
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

/// k = 1, eta = .25: deltas of exactly -eta, and of exactly eta and -eta before one that is below.
#[test]
fn the_edges_of_verification_by_hand() {
    let steps = [
        // The action; by its delta and the one before it: the paper's rule, the first drop.
        (0.0, false, false),
        (0.25, false, false), // -.25 after 0: -eta is not below -eta.
        (1.0, false, true),   // -.5 after -.25: the drop before was none.
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
fn a_chunk_is_one_step() {
    let config = SkipConfig::default()
        .with_window(1)
        .with_eta1(0.125)
        .with_eta2(0.0625);
    let (mut chunked, mut single) = (guide(config), guide(config));
    // Changes 0, 1, 1, 0: delta 0, -1, 0, 1. The drop decides, though the chunk ends in a rise.
    let chunk = [0.0, 0.0, 1.0, 2.0, 2.0].map(along);
    let seen = chunked.observe(chunk.as_flattened()).unwrap();
    assert_eq!((seen.delta, seen.drops, seen.continuity), (-1.0, true, 0.0));
    assert_eq!(chunked.allow_points(), [7, 16]);
    // A rise of .25, then none: back by one for the whole chunk.
    chunked.observe(&along(2.25)).unwrap();
    let seen = chunked.observe([2.25, 2.25].map(along).as_flattened());
    assert_eq!(seen.unwrap().delta, 0.25);
    assert_eq!(chunked.allow_points(), [6, 15]);
    // The history is the actions', however they came.
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
fn after_a_bad_action_nothing_is_skipped_until_the_window_is_full() {
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
    // k = 5 changes are 6 actions.
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

/// k = 2, eta1 = .125: what ends a fault may itself be a drop, and forces layers as it would without the fault.
#[test]
fn the_action_that_ends_a_fault_moves_the_points() {
    let config = SkipConfig::default()
        .with_window(2)
        .with_eta1(0.125)
        .with_eta2(0.0625);
    let traces = [
        // The good actions, the last one's delta, the points; those of the actions as one chunk.
        ([0.0, 0.0, 0.5], -0.25, [4, 10], [4, 10]), // Changes 0, .5: C from 0 to -.25; ceil(2) layers.
        ([0.0, 0.25, 1.0], -0.25, [4, 10], [4, 10]), // .25, .75: from -.25 to -.5.
        ([0.0, 0.0, 8.0], -4.0, [7, 16], [7, 16]),
        ([0.0, 0.25, 0.5], 0.0, [2, 8], [4, 10]), // In the chunk the drop before it counts.
        ([0.0, 0.5, 0.5], 0.25, [2, 8], [6, 12]), // A rise: they are at the start as it is.
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
        // What came before a fault is forgotten.
        chunked.observe(&along(3.0)).unwrap();
        chunked.observe(&[f64::NAN; 7]).unwrap_err();
        chunked.observe(actions.as_flattened()).unwrap();
        assert_eq!(chunked.allow_points(), of_chunk);
    }
    // Without pre-skip they stay.
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
    /// Points stay in their gaps and move as written; C is the mean over what there is, also for short histories.
    #[test]
    fn points_move_as_written(
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
        // Every dynamic layer lies in exactly one gap, no static one does, gaps do not touch.
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
        let config = SkipConfig::default().with_window(window).with_eta1(eta1).with_eta2(eta2).with_eta(eta);
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
