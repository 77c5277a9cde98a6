//! Tokens of action bins.

use crate::{bits, cases, numbers};
use proptest::prelude::*;
use w4ax_vla::action::ActionBins;
use w4ax_vla::config::ModelConfig;

fn openvla() -> ActionBins {
    ActionBins::of_model(&ModelConfig::openvla_7b()).unwrap()
}

#[test]
fn values_equal_the_reference_to_the_bit() {
    let bins = openvla();
    for case in cases("openvla-tiny") {
        let tokens = case["tokens_f32"].as_array().unwrap();
        let values: Vec<f64> = tokens
            .iter()
            .map(|token| bins.decode(token.as_u64().unwrap() as u32))
            .collect();
        assert_eq!(bits(&values), bits(&numbers(&case["normalized_actions"])));
    }
}

#[test]
fn ids_outside_the_bins_saturate() {
    let bins = openvla();
    let top = 254.0 / 255.0;
    let near = |value: f64, expected: f64| (value - expected).abs() < 1e-15;
    assert!(near(bins.decode(31999), -top), "{}", bins.decode(31999));
    assert!(near(bins.decode(31745), top), "{}", bins.decode(31745));
    // 256 edges bound 255 bins: no bin follows the last edge.
    assert_eq!(bins.decode(31744), bins.decode(31745));
    assert_ne!(bins.decode(31746), bins.decode(31745));
    for low in [0, 2, 29871, 31743] {
        assert_eq!(bins.decode(low), bins.decode(31745), "{low}");
    }
    for high in [32000, 32063, u32::MAX] {
        assert_eq!(bins.decode(high), bins.decode(31999), "{high}");
    }
    assert_eq!(bins.tokens(), 31744..32000);
}

#[test]
fn values_outside_the_range_have_the_outer_tokens() {
    let bins = openvla();
    for (value, token) in [
        (-1.0, 31999),
        (-7.0, 31999),
        (1.0, 31744),
        (7.0, 31744),
        (0.999, 31745),
        (-0.999, 31999),
        (0.0, 31872),
    ] {
        assert_eq!(bins.token(value), token, "{value}");
    }
}

#[test]
fn rejects_bins_that_do_not_fit() {
    for (end, n) in [(32000, 1), (32000, 0), (255, 256)] {
        let error = ActionBins::new(end, n).unwrap_err().to_string();
        assert!(error.contains(&format!("action bins is {n}")), "{error}");
    }
    assert!(ActionBins::new(256, 256).is_ok());
    assert!(ActionBins::new(1 << 40, 256).is_err());
}

proptest! {
    #[test]
    fn token_of_a_value_is_its_nearest_bin(value in -1.0..1.0) {
        let bins = openvla();
        let decoded = bins.decode(bins.token(value));
        prop_assert!((decoded - value).abs() <= 1.0 / 255.0 + 1e-15);
    }

    #[test]
    fn token_of_a_bin_is_the_bin(token in 31745u32..32000) {
        let bins = openvla();
        prop_assert_eq!(bins.token(bins.decode(token)), token);
    }
}

/// Equal logits of two bins: the variance is the square of half of their distance.
#[test]
fn variance_counts_action_tokens_only() {
    let bins = ActionBins::new(1000, 256).unwrap();
    let tokens = bins.tokens();
    let logits = |chosen: &[u32], first: u32| -> Vec<f32> {
        let logit = |id| if chosen.contains(&id) { 3.0 } else { -1e4 };
        (first..tokens.end + 8).map(logit).collect()
    };
    let (low, high) = (bins.token(-0.5), bins.token(0.5));
    let half = (bins.decode(high) - bins.decode(low)) / 2.0;
    for first in [0, tokens.start, low] {
        let expected = if first <= high.min(low) {
            half * half
        } else {
            0.0
        };
        let variance = bins.variance(first, &logits(&[low, high], first));
        assert!(
            (variance - expected).abs() < 1e-12,
            "{first}: {variance}, {expected}"
        );
    }
    // The logit of another token, however large, changes nothing.
    let mut with_text = logits(&[low, high], 0);
    with_text[3] = 1e4;
    assert!((bins.variance(0, &with_text) - half * half).abs() < 1e-12);
    assert_eq!(bins.variance(0, &logits(&[low], 0)), 0.0);
    assert_eq!(bins.variance(0, &[1.0; 5]), 0.0);
}
