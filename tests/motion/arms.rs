//! Two arms: the arm that works precisely determines the motion, and an arm that rests does not.

use w4ax::dispatch::{ActionLayout, Kinematics};

use crate::{MOTION, assert_steps, config};

const TWO: &str = "xyz:delta,axis-angle:delta,gripper+xyz:delta,axis-angle:delta,gripper";

/// An action of two arms with these speeds along x and rotations about x.
fn action(arms: [(f64, f64); 2]) -> [f64; 14] {
    let mut action = [1.0; 14];
    for (arm, (speed, spin)) in arms.into_iter().enumerate() {
        action[7 * arm..7 * arm + 6].copy_from_slice(&[speed, 0.0, 0.0, spin, 0.0, 0.0]);
    }
    action
}

/// Returns M and J after each action, with windows of one action but that of M.
fn values(layout: &str, window_macro: usize, actions: &[[f64; 14]]) -> Vec<(f64, f64)> {
    let config = config(layout)
        .with_window_macro(window_macro)
        .with_window_micro(1);
    let mut kinematics = Kinematics::new(&config).unwrap();
    let value = |action: &[f64; 14]| {
        kinematics.push(action).unwrap();
        let (m, j) = (kinematics.macro_motion(), kinematics.micro_motion());
        (m.unwrap(), j.unwrap())
    };
    actions.iter().map(value).collect()
}

/// Each of M and J is the larger one.
#[test]
fn slower_arm_and_larger_change_determine_the_motion() {
    for swap in [false, true] {
        let both = |a, b| action(if swap { [b, a] } else { [a, b] });
        let actions = [
            both((0.5, 0.0), (0.1, 0.0)),
            both((0.3, 0.2), (0.4, 0.1)),
            both((0.3, 0.2), (0.2, 0.0)),
        ];
        let expected = [Some((0.1, 0.0)), Some((0.3, 0.2)), Some((0.2, 0.1))];
        assert_steps(TWO, &actions, &expected);
    }
}

#[test]
fn resting_arm_does_not_count() {
    // At rest from the start: only the first arm counts. Its M is 0, its J is 0.
    let moving = (MOTION.mu_max, 0.0);
    for rest in [0.0, 0.99 * Kinematics::REST] {
        let still = (rest * MOTION.mu_max, rest * MOTION.nu_max);
        for arms in [[moving, still], [still, moving]] {
            let actions = [action(arms); 20];
            assert!(values(TWO, 1, &actions).iter().all(|v| *v == (0.0, 0.0)));
        }
    }
    // Slow, but above the limit in translation or in rotation.
    let above = 1.01 * Kinematics::REST;
    for slow in [(above * MOTION.mu_max, 0.0), (0.0, above * MOTION.nu_max)] {
        let (m, _) = values(TWO, 1, &[action([moving, slow])])[0];
        assert!(m > 0.98, "{m}");
    }
}

/// A pause shorter than the window counts, as before a grasp. A longer one is a rest.
#[test]
fn arm_rests_after_a_window_without_motion() {
    let (moving, still) = ((MOTION.mu_max, 0.0), (0.0, 0.0));
    let mut actions = vec![action([moving, moving]); 4];
    actions.extend([action([moving, still]); 8]);
    actions.push(action([moving, (0.25, 0.0)]));
    // M of each action: the window of M has 4 actions, so the third still action counts.
    let m = [
        0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5,
    ];
    for (t, (got, _)) in values(TWO, 4, &actions).into_iter().enumerate() {
        let last = &m[(t + 1).saturating_sub(4)..=t];
        assert_eq!(got, last.iter().sum::<f64>() / last.len() as f64, "{t}");
    }
}

#[test]
fn all_arms_count_if_all_rest() {
    let slow = (0.005 * MOTION.mu_max, 0.0);
    let values = values(TWO, 1, &[action([slow, (0.0, 0.0)]); 5]);
    assert!(values.iter().all(|v| *v == (1.0, 0.0)), "{values:?}");
    // One arm that rests has its own motion.
    let mut kinematics = Kinematics::new(&config("xyz:delta")).unwrap();
    kinematics.push(&[slow.0, 0.0, 0.0]).unwrap();
    assert_eq!(kinematics.macro_motion(), Some(1.0 - 0.005));
}

/// An arm that works in one episode, or before a fault, may rest in the next.
#[test]
fn clearing_forgets_which_arms_rest() {
    let moving = (MOTION.mu_max, 0.0);
    let config = config(TWO).with_window_macro(2);
    let mut kinematics = Kinematics::new(&config).unwrap();
    kinematics.push(&action([moving, moving])).unwrap();
    kinematics.clear();
    // Without the motion before, the second arm rests. With it, its M of 1 would count.
    kinematics.push(&action([moving, (0.0, 0.0)])).unwrap();
    assert_eq!(kinematics.macro_motion(), Some(0.0));
}

#[test]
fn aloha_has_the_velocity_of_its_joints() {
    let mut actions = [[0.0; 14]; 4];
    actions[1][0] = 0.3; // Velocities .3 and .4, changes unknown.
    actions[1][7 + 5] = 0.4;
    actions[2] = actions[1]; // Velocities 0, changes .3 and .4.
    actions[3] = actions[1];
    (actions[3][6], actions[3][13]) = (9.0, -9.0); // Only the grippers move.
    let got = crate::steps("aloha", &actions);
    assert_eq!(ActionLayout::aloha().dims(), 14);
    assert_eq!(got[0], None);
    // The window of M has one action, so an arm rests at once.
    for (got, (speed, turn)) in got[1..].iter().zip([(0.3, 0.0), (0.0, 0.4), (0.0, 0.0)]) {
        let got = got.unwrap();
        assert!(
            (got.0 - speed).abs() < 1e-12 && (got.1 - turn).abs() < 1e-12,
            "{got:?}"
        );
    }
}
