//! Norms, activation functions, rotary embedding and conversion.

use crate::support::{TYPES, assert_close, on_all_threads, random, round, values};
use candle_core::{DType, Tensor};
use rand::Rng;
use w4ax_vla::ops::{cast, gelu, generic, layer_norm, relu, rms_norm, rope, swiglu};

/// Checks a BF16 result that was rounded several times: at most one unit in the last place, and
/// equal in nearly all places.
#[track_caller]
fn assert_stepwise(got: &Tensor, expected: &[f64], dtype: DType, what: &str) {
    if dtype == DType::F32 {
        return assert_close(got, expected, 8.0, dtype, what);
    }
    let got = values(got);
    let mut unequal = 0;
    for (got, expected) in got.iter().zip(expected) {
        let error = (got - expected).abs();
        assert!(
            error <= expected.abs() * 2f64.powi(-6) + 1e-6,
            "{what}: {got}, {expected}"
        );
        unequal += usize::from(error > 0.0);
    }
    assert!(
        unequal * 100 <= got.len(),
        "{what}: {unequal} of {} differ",
        got.len()
    );
}

fn shapes() -> Vec<(usize, usize)> {
    let mut rng = test_support::rng(200);
    let mut shapes = vec![(1, 1), (1, 4096), (261, 64), (9, 33)];
    shapes.extend((0..12).map(|_| (rng.random_range(1..40), rng.random_range(2..700))));
    shapes
}

#[test]
fn layer_norm_matches_f64() {
    let mut rng = test_support::rng(201);
    for (m, n) in shapes() {
        for dtype in TYPES {
            // A mean that is not zero, and a variance near eps.
            let x = (random(&mut rng, &[m, n], dtype) * 1e-2).unwrap();
            let x = (x + 0.5).unwrap();
            let (weight, bias) = (random(&mut rng, &[n], dtype), random(&mut rng, &[n], dtype));
            let (w, b) = (values(&weight), values(&bias));
            let expected: Vec<f64> = values(&x)
                .chunks_exact(n)
                .flat_map(|x| {
                    let mean = x.iter().sum::<f64>() / n as f64;
                    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
                    let scale = 1.0 / (variance + 1e-5).sqrt();
                    let row = x.iter().zip(&w).zip(&b);
                    row.map(|((x, w), b)| (x - mean) * scale * w + b)
                        .collect::<Vec<_>>()
                })
                .collect();
            let what = format!("{m} x {n}, {dtype:?}");
            let y = on_all_threads(|| layer_norm(&x, &weight, &bias, 1e-5).unwrap());
            // The mean is 50 times the deviation from it.
            assert_close(&y, &expected, 100.0, dtype, &what);
            let y = generic::layer_norm(&x, &weight, &bias, 1e-5).unwrap();
            assert_close(&y, &expected, 100.0, dtype, &what);
        }
    }
}

#[test]
fn rms_norm_rounds_before_the_weight() {
    let mut rng = test_support::rng(202);
    for (m, n) in shapes() {
        for dtype in TYPES {
            let x = random(&mut rng, &[m, n], dtype);
            let weight = random(&mut rng, &[n], dtype);
            let w = values(&weight);
            let expected: Vec<f64> = values(&x)
                .chunks_exact(n)
                .flat_map(|x| {
                    let mean = x.iter().map(|x| x * x).sum::<f64>() / n as f64;
                    let scale = 1.0 / (mean + 1e-6).sqrt();
                    let row = x.iter().zip(&w);
                    row.map(|(x, w)| round(round(x * scale, dtype) * w, dtype))
                        .collect::<Vec<_>>()
                })
                .collect();
            let what = format!("{m} x {n}, {dtype:?}");
            let y = on_all_threads(|| rms_norm(&x, &weight, 1e-6).unwrap());
            assert_stepwise(&y, &expected, dtype, &what);
            let y = generic::rms_norm(&x, &weight, 1e-6).unwrap();
            assert_stepwise(&y, &expected, dtype, &what);
        }
    }
}

#[test]
fn gelu_is_the_exact_one_and_relu_keeps_positive_values() {
    let large = Tensor::new(&[-1e3f32, 1e3, 0.0], &candle_core::Device::Cpu).unwrap();
    assert_eq!(values(&gelu(&large).unwrap()), [0.0, 1e3, 0.0]);
    for dtype in TYPES {
        let x: Vec<f32> = (-80_000..80_000).map(|i| i as f32 * 1e-4).collect();
        let x = Tensor::new(x, &candle_core::Device::Cpu)
            .unwrap()
            .to_dtype(dtype)
            .unwrap();
        let expected: Vec<f64> = values(&x)
            .into_iter()
            .map(|x| 0.5 * x * (1.0 + candle_core::cpu::erf::erf_f64(x * 0.5f64.sqrt())))
            .collect();
        let rounding = if dtype == DType::BF16 {
            2f64.powi(-8)
        } else {
            0.0
        };
        let own = on_all_threads(|| gelu(&x).unwrap());
        for y in [own, generic::gelu(&x).unwrap()] {
            for ((x, y), expected) in values(&x).iter().zip(values(&y)).zip(&expected) {
                let tolerance = 2.5e-7 * x.abs() + rounding * expected.abs();
                assert!(
                    (y - expected).abs() <= tolerance,
                    "gelu({x}) = {y}, not {expected}"
                );
            }
        }
        let relu = values(&relu(&x).unwrap());
        assert!(relu.iter().zip(values(&x)).all(|(y, x)| *y == x.max(0.0)));
    }
}

#[test]
fn swiglu_rounds_silu_before_the_product() {
    let mut rng = test_support::rng(203);
    for (m, n) in shapes() {
        for dtype in TYPES {
            let gate = (random(&mut rng, &[m, n], dtype) * 4.0).unwrap();
            let up = random(&mut rng, &[m, n], dtype);
            let expected: Vec<f64> = values(&gate)
                .iter()
                .zip(values(&up))
                .map(|(g, u)| round(round(g / (1.0 + (-g).exp()), dtype) * u, dtype))
                .collect();
            let what = format!("{m} x {n}, {dtype:?}");
            let y = on_all_threads(|| swiglu(&gate, &up).unwrap());
            assert_stepwise(&y, &expected, dtype, &what);
            assert_stepwise(
                &generic::swiglu(&gate, &up).unwrap(),
                &expected,
                dtype,
                &what,
            );
        }
    }
}

#[test]
fn rope_rounds_each_product() {
    let mut rng = test_support::rng(204);
    for (h, m, d) in [(1, 1, 2), (4, 37, 16), (3, 5, 128), (2, 70, 6)] {
        for dtype in TYPES {
            let x = random(&mut rng, &[m, h, d], dtype).transpose(0, 1).unwrap(); // [h, m, d]
            let angles: Vec<f32> = (0..m * d / 2).map(|_| rng.random_range(0.0..6.3)).collect();
            let table = |f: fn(f32) -> f32| {
                let values: Vec<f32> = angles.iter().map(|x| f(*x)).collect();
                Tensor::from_vec(values, (m, d / 2), &candle_core::Device::Cpu).unwrap()
            };
            let (cos, sin) = (table(f32::cos), table(f32::sin));
            let (c, s) = (values(&cos), values(&sin));
            let mut expected = vec![];
            for (row, x) in values(&x).chunks_exact(d).enumerate() {
                for j in 0..d {
                    let at = row % m * (d / 2) + j % (d / 2);
                    let other = if j < d / 2 {
                        -x[j + d / 2]
                    } else {
                        x[j - d / 2]
                    };
                    let product = |a: f64, b: f64| round(a * round(b, dtype), dtype);
                    expected.push(round(product(x[j], c[at]) + product(other, s[at]), dtype));
                }
            }
            let what = format!("{h} x {m} x {d}, {dtype:?}");
            let y = on_all_threads(|| rope(&x, &cos, &sin).unwrap());
            let exact = |y: &Tensor| match dtype {
                DType::BF16 => assert_eq!(values(y), expected, "{what}"),
                _ => assert_close(y, &expected, 2.0, dtype, &what),
            };
            exact(&y);
            exact(&generic::rope(&x, &cos, &sin).unwrap());
        }
    }
}

#[test]
fn cast_rounds_to_nearest_even() {
    let values = [
        1.0,
        -3.25,
        1.0 + 1.0 / 256.0,
        1.0 + 3.0 / 256.0,
        1.0 + 1.0 / 256.0 + 1e-6,
        f32::MAX,
        f32::INFINITY,
        f32::from_bits(0xffff_ffff),
        1e-40,
        -0.0,
    ];
    let x = Tensor::new(&values, &candle_core::Device::Cpu).unwrap();
    let y = cast(&x, DType::BF16).unwrap();
    let expected = values.map(|x| half::bf16::from_f32(x).to_bits());
    let got: Vec<half::bf16> = y.to_vec1().unwrap();
    assert_eq!(
        got.iter().map(|x| x.to_bits()).collect::<Vec<_>>(),
        expected
    );
    let wide: Vec<f32> = cast(&y, DType::F32).unwrap().to_vec1().unwrap();
    for (wide, bits) in wide.iter().zip(expected) {
        assert_eq!(wide.to_bits(), u32::from(bits) << 16);
    }
}
