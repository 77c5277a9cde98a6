//! The default layout has the bits of the formulas of the paper.

use proptest::prelude::*;
use w4ax::dispatch::{ActionLayout, Dispatcher, Kinematics};

use crate::{MOTION, config};

fn norm(v: [f64; 3]) -> f64 {
    v.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// The kinematics of an action of 7 numbers, literally.
#[derive(Default)]
struct Literal {
    m: Vec<f64>,
    j: Vec<f64>,
    rotation: Option<[f64; 3]>,
}

impl Literal {
    fn push(&mut self, action: &[f64; 7]) {
        let [x, y, z, rx, ry, rz, _gripper] = *action;
        let rotated = self
            .rotation
            .map_or(0.0, |[px, py, pz]| norm([rx - px, ry - py, rz - pz]));
        self.m.push(1.0 - norm([x, y, z]) / MOTION.mu_max);
        self.j.push(rotated / MOTION.nu_max);
        self.rotation = Some([rx, ry, rz]);
    }

    fn mean(values: &[f64], window: usize) -> f64 {
        let last = &values[values.len().saturating_sub(window)..];
        last.iter().sum::<f64>() / last.len() as f64
    }
}

proptest! {
    #[test]
    fn kinematics_have_the_bits_of_the_formulas(
        actions in prop::collection::vec(
            prop_oneof![
                9 => prop::array::uniform7(-1.0..=1.0_f64),
                1 => Just([0.0; 7]),
                1 => prop::array::uniform7(prop_oneof![Just(0.0), Just(-0.0), Just(1e-308), Just(1e100)]),
            ],
            1..60,
        ),
        (window_macro, window_micro) in (1..=12_usize, 1..=12_usize),
        lambda in 0.0..=1.0_f64,
    ) {
        let config = config("end-effector")
            .with_window_macro(window_macro)
            .with_window_micro(window_micro)
            .with_lambda(lambda);
        let (mut kinematics, mut literal) = (Kinematics::new(&config).unwrap(), Literal::default());
        for action in &actions {
            kinematics.push(action).unwrap();
            literal.push(action);
            let m = Literal::mean(&literal.m, window_macro);
            let j = Literal::mean(&literal.j, window_micro);
            let s = lambda * m + (1.0 - lambda) * j;
            let s = if s < 0.0 { 0.0 } else { s };
            prop_assert_eq!(kinematics.macro_motion().unwrap().to_bits(), m.to_bits());
            prop_assert_eq!(kinematics.micro_motion().unwrap().to_bits(), j.to_bits());
            prop_assert_eq!(kinematics.sensitivity().to_bits(), s.to_bits());
        }
    }
}

#[test]
fn default_layout_is_that_of_7_numbers() {
    let dispatcher = Dispatcher::new(&config("end-effector")).unwrap();
    assert_eq!(dispatcher.config().layout(), &ActionLayout::default());
    assert_eq!(ActionLayout::default().dims(), w4ax::dispatch::ACTION_DIM);
    assert!(!ActionLayout::default().has_positions());
}
