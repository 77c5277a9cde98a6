//! Floors: the smallest widths of layers.

use half::bf16;
use proptest::prelude::*;
use w4ax::dispatch::LayerFloors;
use w4ax::step::StepPipeline;
use w4ax::{Error, Width};

use crate::{CHECKPOINT, ROLLOUTS, policy};
use w4ax_robot::compute::StepWidth;
use w4ax_robot::policy::Policy;
use w4ax_robot::steps::{AllLayers, PolicyEngine};

/// Returns the bits of the logits of a few inputs.
fn bits(policy: &mut Policy, width: Width) -> Vec<u16> {
    let logits = policy.logits_rows(&ROLLOUTS.input[..3], width).unwrap();
    logits.iter().copied().map(bf16::to_bits).collect()
}

fn with_floors(floors: &[Width]) -> Policy {
    let mut policy = policy(3);
    policy
        .set_floors(&LayerFloors::new(floors.to_vec()))
        .unwrap();
    assert_eq!(policy.floors().as_slice(), floors);
    policy
}

#[test]
fn floors_of_a2_change_no_bit() {
    let (mut plain, mut floored) = (policy(3), with_floors(&[Width::A2; 5]));
    for width in Width::ALL {
        assert_eq!(
            bits(&mut floored, width),
            bits(&mut plain, width),
            "{width}"
        );
    }
}

#[test]
fn floors_of_every_layer_are_the_width() {
    let mut plain = policy(3);
    for floor in Width::ALL {
        let mut floored = with_floors(&[floor; 5]);
        for width in Width::ALL {
            let expected = bits(&mut plain, width.max(floor));
            assert_eq!(
                bits(&mut floored, width),
                expected,
                "{width}, at least {floor}"
            );
        }
    }
}

/// Each layer runs at its own width, whether the width of the step is fixed or latched.
#[test]
fn layer_runs_at_the_larger_width() {
    let [a2, a4, a8, full] = Width::ALL;
    let floors = [a4, a2, full, a2, a8];
    let mut engine = PolicyEngine::new(with_floors(&floors), AllLayers);
    let mut pipeline = StepPipeline::new(&mut engine, None);
    let mut layers = policy(3);
    for width in Width::ALL {
        let input = &ROLLOUTS.input[0];
        layers.embed(&ROLLOUTS.input[..1]).unwrap();
        for (block, floor) in floors[..4].iter().enumerate() {
            layers
                .run_block(block, StepWidth::Fixed(width.max(*floor)))
                .unwrap();
        }
        let expected = layers.head(StepWidth::Fixed(width.max(a8))).unwrap();
        pipeline.request(width).unwrap();
        let report = pipeline.run(input).unwrap();
        assert_eq!(report.decode.width, width);
        assert_eq!(
            pipeline.engine().policy.logits(),
            expected,
            "latched {width}"
        );
        let mut fixed = with_floors(&floors);
        let logits = fixed.logits_rows(&ROLLOUTS.input[..1], width).unwrap();
        assert_eq!(logits, expected, "fixed {width}");
    }
}

#[test]
fn wrong_number_of_floors_is_an_error() {
    let mut policy = policy(1);
    for count in [0, 4, 6] {
        let error = policy
            .set_floors(&LayerFloors::new(vec![Width::A8; count]))
            .unwrap_err();
        assert!(matches!(error, Error::Shape { .. }), "{error}");
    }
    assert_eq!(*policy.floors(), LayerFloors::none(5));
    assert_eq!(CHECKPOINT.blocks.len(), 4);
}

fn width() -> impl Strategy<Value = Width> {
    prop::sample::select(&Width::ALL[..])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A floor never lowers the width, and the order of floors does not matter.
    #[test]
    fn width_is_at_least_every_floor(step in width(), a in width(), b in width()) {
        let fixed = StepWidth::Fixed(step);
        prop_assert_eq!(fixed.at_least(a).at_least(b), StepWidth::Fixed(step.max(a).max(b)));
        let latched = StepWidth::Latched;
        prop_assert_eq!(latched.at_least(a).at_least(b), latched.at_least(a.max(b)));
    }
}
