//! Schemes and clippings on the policies' weights.

use w4ax::weights::{Clipping, Scheme};
use w4ax::{Grouping, Quantize, Symmetry};
use w4ax_robot::checkpoint::TRAINED;
use w4ax_robot::paths::{DEEP_POLICY, DEEP_ROLLOUTS};
use w4ax_robot::rollouts::RECORDED;

use crate::judge::{Judge, Rounding};

/// The searched two-level weights in groups of 64 lose nothing to the grouped ones that cover the
/// extremes, at W4A16 and at A8.
#[test]
fn two_level_weights_are_as_accurate_as_grouped_ones() {
    let judge = Judge::load(TRAINED, RECORDED);
    let grouped = Quantize::new(Grouping::G64);
    let two_level = grouped
        .with_scheme(Scheme::TwoLevel)
        .with_clipping(Clipping::SquaredError);
    let two_level = judge.accuracy(two_level, Rounding::Nearest);
    let grouped = judge.accuracy(grouped, Rounding::Nearest);
    assert!(two_level.bytes < grouped.bytes);
    assert!(two_level.weight_error < grouped.weight_error);
    for at in [2, 3] {
        let (two_level, grouped) = (two_level.errors[at], grouped.errors[at]);
        assert!(two_level < grouped, "{two_level} {grouped}");
    }
}

/// Prints the tables of `docs/results/accuracy.md`.
#[test]
#[ignore = "prints a table, in minutes"]
fn prints_accuracy_of_every_scheme() {
    for (policy, recorded) in [(TRAINED, RECORDED), (DEEP_POLICY, DEEP_ROLLOUTS)] {
        let judge = Judge::load(policy, recorded);
        println!("\n{policy}: mean action error over {} steps", judge.steps());
        println!("\n| weights | rounding | A2 | A4 | A8 | W4A16 | weights' error | MB |");
        println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
        for (quantize, rounding) in cases() {
            let accuracy = judge.accuracy(quantize, rounding);
            let [a2, a4, a8, bf16] = accuracy.errors;
            let (scheme, grouping) = (quantize.scheme(), quantize.grouping());
            let symmetry = match quantize.symmetry() {
                Symmetry::Symmetric => "sym",
                Symmetry::Asymmetric => "asym",
            };
            let rounding = match rounding {
                Rounding::Nearest => quantize.clipping().to_string(),
                Rounding::Gptq => "GPTQ".into(),
            };
            println!(
                "| {scheme} {grouping} {symmetry} | {rounding} | {a2:.4} | {a4:.4} | {a8:.4} | \
                 {bf16:.4} ± {:.4} | {:.2} % | {:.3} |",
                accuracy.deviation,
                100.0 * accuracy.weight_error,
                accuracy.bytes as f64 / 1e6
            );
        }
    }
}

/// Every scheme, grouping and symmetry, rounded to nearest with both clippings, and by GPTQ.
fn cases() -> Vec<(Quantize, Rounding)> {
    let mut cases = Vec::new();
    for scheme in Scheme::ALL {
        for symmetry in [Symmetry::Symmetric, Symmetry::Asymmetric] {
            for grouping in Grouping::ALL {
                if (scheme, grouping) == (Scheme::TwoLevel, Grouping::PerChannel) {
                    continue;
                }
                let quantize = Quantize::new(grouping)
                    .with_scheme(scheme)
                    .with_symmetry(symmetry);
                let search = quantize.with_clipping(Clipping::SquaredError);
                cases.extend([
                    (quantize, Rounding::Nearest),
                    (search, Rounding::Nearest),
                    (search, Rounding::Gptq),
                ]);
            }
        }
    }
    cases
}
