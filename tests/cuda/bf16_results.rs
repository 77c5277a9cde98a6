//! BF16 activations: exact where every order of summation is, otherwise within the bound; the same
//! bits for every M.

use crate::harness::{Call, Device, Inputs, Layer, check, run, scaled, some_channels};
use crate::kernels::weights;
use crate::support::{Kind, PlainWeight, bits, rng};
use rand::Rng;
use w4ax::cuda::{Family, GemmOptions, Problem};
use w4ax::{Grouping, ScaleType, Scales, Scheme, Width};

fn options(family: Family, tile: Option<u32>) -> GemmOptions {
    GemmOptions::default().with_family(family).with_tile(tile)
}

/// Elements after each row of x: wgmma needs rows that start at multiples of 16 bytes.
fn gap_for(family: Family, k: usize) -> usize {
    match family {
        Family::Wgmma => k.next_multiple_of(8) - k,
        _ => 0,
    }
}

/// With small integers in weights, scales and activations, every bit of every family matches on
/// model shapes.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn bf16_is_exact_on_integers() {
    let device = Device::new();
    for (n, k) in scaled(
        [(100, 100), (7392, 4096), (100, 10944)],
        [(100, 100), (232, 520), (20, 2736)],
    ) {
        for (scheme, grouping) in weights(n) {
            let rng = &mut rng(1);
            let plain =
                PlainWeight::random_of(scheme, rng, (n, k), grouping, ScaleType::F32, false);
            let layer = Layer::of(&device, plain.with_half_scales());
            for m in [1, 2, 3, 8, 16, 17, 33, scaled(290, 70)] {
                for family in Family::ALL {
                    if family == Family::Decode && m > Family::DECODE_MAX_M
                        || !device.gpu.has_family(family)
                    {
                        continue;
                    }
                    let call = Call {
                        options: options(family, None),
                        kind: Kind::Integers,
                        bias: m == 3,
                        gaps: (gap_for(family, k), 0),
                        ..Call::new(m, Width::Bf16)
                    };
                    check(&device, &layer, &call);
                }
            }
        }
    }
}

/// Other values are within the bound of `w4ax::numerics`, and then rounded once.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn bf16_is_within_error_bound() {
    let device = Device::new();
    for (n, k) in scaled(
        [(100, 100), (331, 1152), (4096, 4096), (256, 11008)],
        [(100, 100), (75, 392), (160, 512), (24, 2064)],
    ) {
        let symmetric = [true, false, true, false, false];
        for ((scheme, grouping), symmetric) in weights(n).zip(symmetric) {
            let rng = &mut rng(n as u64);
            let (weights, scales) = ((scheme, grouping), ScaleType::Bf16);
            let layer = Layer::of_scheme(&device, rng, (n, k), weights, scales, symmetric);
            let channels = some_channels(n, 100, 7);
            let back = layer.plain.rows(&channels).pack().dequantize();
            for kind in [Kind::Normal, Kind::Outlier, Kind::Offset, Kind::Zeros] {
                for (m, family) in [
                    (1, Family::Decode),
                    (16, Family::Decode),
                    (7, Family::Prefill),
                    (130, Family::Prefill),
                    (5, Family::Plain),
                    (130, Family::Wgmma),
                ] {
                    if !device.gpu.has_family(family) {
                        continue;
                    }
                    let call = Call {
                        options: options(family, None),
                        kind,
                        bias: m == 7,
                        gaps: (gap_for(family, k), 0),
                        ..Call::new(m, Width::Bf16)
                    };
                    let inputs = Inputs::new(&call, (n, k));
                    let (got, plan) = run(&device, &layer, &call, &inputs);
                    let tokens: Vec<usize> =
                        (0..m.min(8)).map(|_| rng.random_range(0..m)).collect();
                    for token in tokens {
                        let x = inputs.view(m, k);
                        for (w, &channel) in back.chunks(k).zip(&channels) {
                            let (mut exact, mut magnitude) = (0f64, 0f64);
                            for (w, x) in w.iter().zip(x.row(token)) {
                                let product = f64::from(*w) * x.to_f64();
                                exact += product;
                                magnitude += product.abs();
                            }
                            let roundings = match scheme {
                                Scheme::TwoLevel => k,
                                _ => grouping.size().unwrap_or(k) + grouping.groups(k),
                            };
                            let mut bound =
                                2f64.powi(-22) * roundings as f64 * magnitude * 1.000001;
                            if let Some(bias) = &inputs.bias {
                                exact += f64::from(bias[channel]);
                                bound += 2f64.powi(-23) * exact.abs();
                            }
                            let y = got[token * n + channel].to_f64();
                            assert!(
                                (y - exact).abs() <= bound + y.abs() / 256.0,
                                "{call:?}: {plan}: y[{token}][{channel}] is {y}: expected {exact} \
                                 within {bound}"
                            );
                        }
                    }
                }
            }
        }
    }
}

/// A row has the same bits alone, in every batch and in every tile variant of its family.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn bf16_bits_are_independent_of_batch() {
    let device = Device::new();
    let (n, k) = scaled((300, 1400), (100, 440));
    for (scheme, grouping) in weights(2) {
        let layer = Layer::of_scheme(
            &device,
            &mut rng(2),
            (n, k),
            (scheme, grouping),
            ScaleType::F16,
            false,
        );
        for (family, m) in [
            (Family::Decode, 16),
            (Family::Prefill, 150),
            (Family::Plain, 20),
            (Family::Wgmma, 150),
        ] {
            if !device.gpu.has_family(family) {
                continue;
            }
            let call = Call {
                options: options(family, None),
                ..Call::new(m, Width::Bf16)
            };
            let inputs = Inputs::new(&call, (n, k));
            let (whole, _) = run(&device, &layer, &call, &inputs);
            for tile in 1..=family.tiles() {
                for part in [1, 2, 3, 8, 9, m] {
                    let call = Call {
                        m: part,
                        options: options(family, Some(tile)),
                        ..call
                    };
                    let rows = Inputs {
                        x: inputs.x[(m - part) * k..].to_vec(),
                        stride: k,
                        bias: None,
                    };
                    let problem = Problem::new((part, n, k), Width::Bf16, grouping)
                        .with_scheme(scheme)
                        .with_options(call.options);
                    if device.gpu.plan_problem(&problem).is_err() {
                        continue; // A decode tile for fewer tokens.
                    }
                    let (got, plan) = run(&device, &layer, &call, &rows);
                    assert_eq!(
                        bits(&got),
                        bits(&whole[(m - part) * n..]),
                        "{call:?}: {plan}"
                    );
                }
            }
        }
    }
}

/// NaN and infinities follow IEEE 754: a NaN becomes 0x7FFF, and the sign of an infinity is
/// multiplied by that of the weight.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn bf16_propagates_non_finite_values() {
    let device = Device::new();
    let (n, k) = (40, 200);
    let mut plain = PlainWeight::random(&mut rng(8), (n, k), Grouping::G64, ScaleType::F32, true);
    plain.scales = Scales::F32(vec![0.25; plain.scales.len()]);
    for row in 0..n {
        plain.q[row * k + 150] = if row % 2 == 0 { 3 } else { -3 };
    }
    let layer = Layer::of(&device, plain);
    for (family, m) in [
        (Family::Decode, 1),
        (Family::Decode, 9),
        (Family::Prefill, 20),
        (Family::Plain, 3),
        (Family::Wgmma, 20),
    ] {
        if !device.gpu.has_family(family) {
            continue;
        }
        let call = Call {
            options: options(family, None),
            ..Call::new(m, Width::Bf16)
        };
        let clean = Inputs::new(&call, (n, k));
        let (before, _) = run(&device, &layer, &call, &clean);
        for (value, of) in [
            (half::bf16::NAN, [0x7FFF, 0x7FFF]),
            (half::bf16::INFINITY, [0x7F80, 0xFF80]),
            (half::bf16::NEG_INFINITY, [0xFF80, 0x7F80]),
        ] {
            let mut inputs = Inputs::new(&call, (n, k));
            inputs.x[(m - 1) * k + 150] = value;
            let (got, plan) = run(&device, &layer, &call, &inputs);
            for (at, y) in got.iter().enumerate() {
                let (token, row) = (at / n, at % n);
                let expected = if token == m - 1 {
                    of[row % 2]
                } else {
                    before[at].to_bits()
                };
                assert_eq!(
                    y.to_bits(),
                    expected,
                    "{call:?}: {plan}: token {token} row {row}"
                );
            }
        }
    }
}
