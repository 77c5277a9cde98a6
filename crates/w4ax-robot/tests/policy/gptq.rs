//! GPTQ on the policy's weights.

use w4ax_robot::checkpoint::TRAINED;
use w4ax_robot::rollouts::RECORDED;
use w4ax_robot::setup::QUANTIZE;

use crate::judge::{Judge, Rounding};

/// The policy at W4A16. The weights that run on an episode were calibrated on the other episode of
/// its task.
#[test]
fn gptq_lowers_the_action_error() {
    let judge = Judge::load(TRAINED, RECORDED);
    let of = |rounding| {
        let accuracy = judge.accuracy(QUANTIZE, rounding);
        (accuracy.errors[3], accuracy.bytes)
    };
    let (error, bytes) = of(Rounding::Gptq);
    let (nearest, nearest_bytes) = of(Rounding::Nearest);
    println!(
        "mean action error over {} steps: GPTQ {error:.4}, round to nearest {nearest:.4}",
        judge.steps()
    );
    assert_eq!(bytes, nearest_bytes);
    assert!(
        error < 0.0380 && error < 0.75 * nearest,
        "{error} {nearest}"
    );
}
