//! The motion of actions of any layout: the default layout against the formulas of the paper, each
//! kind of rotation, two arms, calibrations, percentiles from sketches, and skipping.

mod arms;
mod calibration;
mod default_layout;
mod kinds;
mod online;
mod paths;
mod sketch;
mod skipping;

use w4ax::dispatch::{ActionLayout, DispatchConfig, Kinematics, MotionScale, Thresholds};

const MOTION: MotionScale = MotionScale {
    mu_max: 0.5,
    nu_max: 0.25,
};

/// Returns a configuration with [`MOTION`].
fn config(layout: &str) -> DispatchConfig {
    let thresholds = Thresholds {
        theta_24: 0.1,
        theta_48: 0.3,
        theta_fp: 0.5,
    };
    DispatchConfig::new(MOTION, thresholds).with_layout(parsed(layout))
}

fn parsed(layout: &str) -> ActionLayout {
    layout.parse().unwrap()
}

/// Returns the speed and the change of rotation of each step, in action units, from M and J of
/// windows of one action. `None` without a speed.
fn steps<A: AsRef<[f64]>>(layout: &str, actions: &[A]) -> Vec<Option<(f64, f64)>> {
    let single = config(layout).with_window_macro(1).with_window_micro(1);
    let mut kinematics = Kinematics::new(&single).unwrap();
    let step = |action: &A| {
        kinematics.push(action.as_ref()).unwrap();
        let (m, j) = (kinematics.macro_motion()?, kinematics.micro_motion()?);
        Some(((1.0 - m) * MOTION.mu_max, j * MOTION.nu_max))
    };
    actions.iter().map(step).collect()
}

/// Checks the speed and the change of rotation of each step to 1e-12.
#[track_caller]
fn assert_steps<A: AsRef<[f64]>>(layout: &str, actions: &[A], expected: &[Option<(f64, f64)>]) {
    let got = steps(layout, actions);
    assert_eq!(got.len(), expected.len());
    for (t, pair) in got.iter().zip(expected).enumerate() {
        match pair {
            (None, None) => (),
            (Some(got), Some(expected)) => {
                let apart = (got.0 - expected.0).abs().max((got.1 - expected.1).abs());
                assert!(apart < 1e-12, "{layout} step {t}: {got:?} not {expected:?}");
            }
            _ => panic!("{layout} step {t}: {pair:?}"),
        }
    }
}
