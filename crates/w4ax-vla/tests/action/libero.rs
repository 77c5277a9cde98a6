//! Actions and states of the LIBERO simulator.

use crate::{bits, cases, numbers};
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_PI_2, PI};
use w4ax_vla::action::{axis_angle, libero_gripper};

#[test]
fn gripper_equals_the_reference() {
    for case in cases("oft-tiny") {
        let actions = case["actions"].as_array().unwrap();
        let expected = case["libero_env_actions"].as_array().unwrap();
        assert_eq!(actions.len(), 8);
        for (action, expected) in actions.iter().zip(expected) {
            let mut action = numbers(action);
            libero_gripper(&mut action);
            assert_eq!(bits(&action), bits(&numbers(expected)));
        }
    }
}

#[test]
fn gripper_in_the_middle_is_zero() {
    for (value, expected) in [
        (0.5, 0.0),
        (0.0, 1.0),
        (1.0, -1.0),
        (0.51, -1.0),
        (-3.0, 1.0),
    ] {
        let mut action = [0.25, value];
        libero_gripper(&mut action);
        assert_eq!(action, [0.25, expected]);
    }
    libero_gripper(&mut []);
}

#[test]
fn axis_and_angle_of_quaternions() {
    let close = |q: [f64; 4], expected: [f64; 3]| {
        let vector = axis_angle(q);
        let near = vector
            .iter()
            .zip(expected)
            .all(|(a, b)| (a - b).abs() < 1e-12);
        assert!(near, "{q:?}: {vector:?}, expected {expected:?}");
    };
    close(
        [FRAC_1_SQRT_2, 0.0, 0.0, FRAC_1_SQRT_2],
        [FRAC_PI_2, 0.0, 0.0],
    );
    close([0.0, 0.0, 1.0, 0.0], [0.0, 0.0, PI]);
    close([0.0, -0.6, 0.0, 0.8], [0.0, -2.0 * 0.8f64.acos(), 0.0]);
    // The angle of a negative `w` is above pi.
    close([0.6, 0.0, 0.0, -0.8], [2.0 * (-0.8f64).acos(), 0.0, 0.0]);
}

#[test]
fn identity_has_no_rotation() {
    for w in [1.0, -1.0, 1.000_001, -1.000_001] {
        assert_eq!(axis_angle([1e-9, 0.0, 0.0, w]), [0.0; 3]);
    }
    // Only a denominator of exactly 0 is the identity.
    let small = axis_angle([1e-8, 0.0, 0.0, 1.0 - f64::EPSILON]);
    assert!(small[0] > 0.0);
}
