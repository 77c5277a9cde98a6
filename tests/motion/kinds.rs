//! Hand-computed motion of each kind of part.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use w4ax::dispatch::{Dispatcher, Kinematics, Reason};
use w4ax::{Error, Width};

use crate::{assert_steps, config};

#[test]
fn translations_match_hand_computed_values() {
    // Without a rotation, the change is that of the velocity.
    let deltas = [[0.3, 0.4, 0.0], [0.0, 0.0, 0.1], [0.0, 0.0, 0.1]];
    let sum = (0.09_f64 + 0.16 + 0.01).sqrt();
    let expected = [Some((0.5, 0.0)), Some((0.1, sum)), Some((0.1, 0.0))];
    assert_steps("xyz:delta", &deltas, &expected);
    // The same path as positions.
    let positions = [
        [1.0, 1.0, 1.0],
        [1.3, 1.4, 1.0],
        [1.3, 1.4, 1.1],
        [1.3, 1.4, 1.2],
    ];
    let expected = [&[None], expected.as_slice()].concat();
    assert_steps("xyz:absolute", &positions, &expected);
    let grip = positions.map(|[x, y, z]| [z * 9.0, x, y, z, x - y]);
    assert_steps("ignored,xyz:absolute,gripper", &grip, &expected);
}

#[test]
fn joints_match_hand_computed_values() {
    let deltas = [[0.3, 0.4], [0.3, 0.0], [0.0, 0.0]];
    let expected = [Some((0.5, 0.0)), Some((0.3, 0.4)), Some((0.0, 0.3))];
    assert_steps("joints2:delta", &deltas, &expected);
    let positions = [[0.0, 2.0], [0.3, 2.4], [0.6, 2.4], [0.6, 2.4]];
    let expected = [&[None], expected.as_slice()].concat();
    assert_steps("joints2:absolute", &positions, &expected);
}

#[test]
fn delta_rotations_match_hand_computed_values() {
    let [still, fast] = [[0.0, 0.0, 0.0], [0.0, 0.5, 0.0]];
    let action = |xyz: [f64; 3], rotation: &[f64]| [&xyz, rotation].concat();
    // Rotations about x by .2, then by .5, then about y by .5.
    let expected = [
        Some((0.0, 0.0)),
        Some((0.5, 0.3)),
        Some((0.0, 0.5 * 2.0_f64.sqrt())),
    ];
    let with = |rotations: [&[f64]; 3]| {
        let [a, b, c] = rotations;
        [action(still, a), action(fast, b), action(still, c)]
    };
    let vectors = [[0.2, 0.0, 0.0], [0.5, 0.0, 0.0], [0.0, 0.5, 0.0]];
    assert_steps(
        "xyz:delta,axis-angle:delta",
        &with(vectors.each_ref().map(|v| &v[..])),
        &expected,
    );
    assert_steps(
        "xyz:delta,euler:delta",
        &with(vectors.each_ref().map(|v| &v[..])),
        &expected,
    );
    let half = |angle: f64| (angle / 2.0).sin_cos();
    let ((s2, c2), (s5, c5)) = (half(0.2), half(0.5));
    let xyzw = [
        [s2, 0.0, 0.0, c2],
        [-s5, 0.0, 0.0, -c5],
        [0.0, 2.0 * s5, 0.0, 2.0 * c5],
    ];
    let layout = "xyz:delta,quaternion-xyzw:delta";
    assert_steps(layout, &with(xyzw.each_ref().map(|q| &q[..])), &expected);
    let wxyz = xyzw.map(|[x, y, z, w]| [w, x, y, z]);
    let layout = "xyz:delta,quaternion-wxyz:delta";
    assert_steps(layout, &with(wxyz.each_ref().map(|q| &q[..])), &expected);
    let ((s2, c2), (s5, c5)) = (0.2_f64.sin_cos(), 0.5_f64.sin_cos());
    let six = [
        [1.0, 0.0, 0.0, 0.0, c2, s2],
        [1.0, 0.0, 0.0, 0.0, c5, s5],
        [c5, 0.0, -s5, 0.0, 1.0, 0.0],
    ];
    assert_steps(
        "xyz:delta,6d:delta",
        &with(six.each_ref().map(|r| &r[..])),
        &expected,
    );
}

/// Euler angles that pass pi are close to those that have passed it.
#[test]
fn delta_euler_angles_wrap() {
    let actions = [
        [0.0, 0.0, 0.0, 3.1, 0.0, 0.0],
        [0.0, 0.0, 0.0, -3.1, 0.0, 0.0],
    ];
    let expected = [Some((0.0, 0.0)), Some((0.0, 2.0 * PI - 6.2))];
    assert_steps("xyz:delta,euler:delta", &actions, &expected);
    let expected = [Some((0.0, 0.0)), Some((0.0, 6.2))];
    assert_steps("xyz:delta,axis-angle:delta", &actions, &expected);
}

/// About z: by .1, then by .3, then back by .1. The rates are .1, .3 and -.1.
#[test]
fn absolute_rotations_match_hand_computed_values() {
    let angles = [3.0, 3.1, 3.4, 3.3];
    let expected = [None, Some((0.0, 0.0)), Some((0.0, 0.2)), Some((0.0, 0.4))];
    let with = |rotation: &dyn Fn(f64) -> Vec<f64>| {
        angles.map(|angle| [vec![0.7, 0.8, 0.9], rotation(angle)].concat())
    };
    let vector = with(&|a| vec![0.0, 0.0, a]);
    assert_steps("xyz:absolute,axis-angle:absolute", &vector, &expected);
    // Angles above pi, as a controller reports them.
    let vector = with(&|a| vec![0.0, 0.0, if a > PI { a - 2.0 * PI } else { a }]);
    assert_steps("xyz:absolute,axis-angle:absolute", &vector, &expected);
    assert_steps("xyz:absolute,euler:absolute", &vector, &expected);
    // q and -q are the same rotation.
    let quaternion = with(&|a| {
        let sign = if a > 3.2 { -2.0 } else { 1.0 };
        vec![0.0, 0.0, sign * (a / 2.0).sin(), sign * (a / 2.0).cos()]
    });
    assert_steps(
        "xyz:absolute,quaternion-xyzw:absolute",
        &quaternion,
        &expected,
    );
    let six = with(&|a| vec![a.cos(), a.sin(), 0.0, -a.sin(), a.cos(), 0.0]);
    assert_steps("xyz:absolute,6d:absolute", &six, &expected);
}

/// Each part has its own mode.
#[test]
fn modes_mix_within_an_action() {
    let quarter = [0.0, 0.0, FRAC_1_SQRT_2, FRAC_1_SQRT_2];
    let none = [0.0, 0.0, 0.0, 1.0];
    let actions = [none, quarter, quarter].map(|q| [&[0.0, 0.3, 0.4][..], &q].concat());
    let expected = [None, Some((0.5, 0.0)), Some((0.5, PI / 2.0))];
    assert_steps("xyz:delta,quaternion-xyzw:absolute", &actions, &expected);
}

#[test]
fn numbers_that_are_no_rotation_are_a_fault() {
    let good = [0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0];
    let zero = [0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    let layout = "xyz:delta,quaternion-xyzw:delta";
    let mut kinematics = Kinematics::new(&config(layout)).unwrap();
    kinematics.push(&good).unwrap();
    let before = kinematics.sensitivity();
    assert!(matches!(kinematics.push(&zero), Err(Error::Range { .. })));
    assert_eq!(kinematics.sensitivity(), before, "an error changes nothing");

    let fast = [0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0];
    let mut dispatcher = Dispatcher::new(&config(layout).with_k(1)).unwrap();
    dispatcher.observe(&fast).unwrap();
    assert_eq!(dispatcher.decide().active, Width::A2);
    let error = dispatcher.observe(&zero).unwrap_err();
    assert!(
        error.to_string().contains("a quaternion that is not 0"),
        "{error}"
    );
    assert_eq!(dispatcher.active(), Width::Bf16);
    assert_eq!(dispatcher.decide().reason, Reason::Fault);

    // The first action of an absolute layout is checked as well.
    let layout = "xyz:absolute,6d:absolute";
    let mut dispatcher = Dispatcher::new(&config(layout)).unwrap();
    let parallel = [0.1, 0.0, 0.0, 1.0, 1.0, 0.0, -2.0, -2.0, 0.0];
    let error = dispatcher.observe(&parallel).unwrap_err();
    assert!(
        error.to_string().contains("neither 0 nor parallel"),
        "{error}"
    );
}

/// Positions have no speed at the first action, so the width stays BF16.
#[test]
fn first_position_leaves_the_width_at_bf16() {
    let layout = "joints2:absolute,gripper";
    let mut dispatcher = Dispatcher::new(&config(layout).with_k(1)).unwrap();
    for _ in 0..2 {
        dispatcher.observe(&[0.1, 0.2, 1.0]).unwrap();
        let first = dispatcher.decide();
        assert_eq!((first.active, first.reason), (Width::Bf16, Reason::Start));
        dispatcher.observe(&[0.5, 0.5, 1.0]).unwrap();
        assert_eq!(dispatcher.decide().active, Width::A2);
        dispatcher.reset();
    }
    // A jump to the first action after a fault is not a speed.
    dispatcher.observe(&[0.1, 0.2, 1.0]).unwrap();
    assert!(dispatcher.observe(&[f64::NAN; 3]).is_err());
    dispatcher.observe(&[9.0, 9.0, 1.0]).unwrap();
    assert_eq!(dispatcher.decide().sensitivity, 1.0);
}

#[test]
fn lengths_are_those_of_the_layout() {
    let mut dispatcher = Dispatcher::new(&config("aloha")).unwrap();
    for length in [0, 7, 13, 15, 28] {
        let error = dispatcher
            .observe(&vec![0.1; length])
            .unwrap_err()
            .to_string();
        assert_eq!(error, format!("action has shape [{length}]: expected [14]"));
    }
    dispatcher.observe_chunk(&[0.1_f32; 14 * 3]).unwrap();
    let error = dispatcher
        .observe_chunk(&[0.1; 27])
        .unwrap_err()
        .to_string();
    assert_eq!(error, "action has shape [27]: expected [2, 14]");
    let mut chunk = [0.1; 28];
    chunk[14 + 13] = f64::NAN;
    match dispatcher.observe_chunk(&chunk).unwrap_err() {
        Error::NotFinite { index, .. } => assert_eq!(index, 27),
        other => panic!("{other}"),
    }
}
