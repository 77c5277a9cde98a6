//! The plain linear layer.

use crate::support::{TYPES, assert_close, on_all_threads, random, values};
use candle_core::{DType, Tensor};
use rand::Rng;
use w4ax_vla::ops::{Linear, generic};

/// `x * W^T + bias` in F64.
fn expected(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Vec<f64> {
    let (n, k) = weight.dims2().unwrap();
    let (x, weight) = (values(x), values(weight));
    let bias = bias.map_or(vec![0.0; n], values);
    x.chunks_exact(k)
        .flat_map(|x| {
            weight
                .chunks_exact(k)
                .zip(&bias)
                .map(move |(row, bias)| row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>() + bias)
        })
        .collect()
}

#[test]
fn matches_f64_sums_at_odd_shapes() {
    let mut rng = test_support::rng(190);
    let fixed = [
        (1, 1, 1),
        (4, 300, 40),
        (5, 129, 33),
        (261, 130, 64),
        (1, 257, 1030),
    ];
    let random_shapes: Vec<(usize, usize, usize)> = (0..20)
        .map(|_| {
            (
                rng.random_range(1..70),
                rng.random_range(1..300),
                rng.random_range(1..200),
            )
        })
        .collect();
    for (m, n, k) in fixed.into_iter().chain(random_shapes) {
        for (dtype, stored) in TYPES.into_iter().flat_map(|a| TYPES.map(|b| (a, b))) {
            let x = random(&mut rng, &[m, k], dtype);
            let weight = random(&mut rng, &[n, k], stored);
            let bias = rng.random_bool(0.5).then(|| random(&mut rng, &[n], stored));
            let layer = Linear::new(weight.clone(), bias.clone()).unwrap();
            let y = on_all_threads(|| layer.forward(&x).unwrap());
            assert_eq!(y.dims(), [m, n]);
            let what = format!("{m} x {n} x {k}, {dtype:?}, weight {stored:?}");
            let magnitude = (k as f64).sqrt() * 4.0;
            let expected = expected(&x, &weight, bias.as_ref());
            assert_close(&y, &expected, magnitude, dtype, &what);
            if dtype == DType::F32 {
                let y = generic::linear(&x, &weight, bias.as_ref()).unwrap();
                assert_close(&y, &expected, magnitude, dtype, &what);
            }
        }
    }
}

#[test]
fn keeps_leading_dimensions_and_takes_strided_inputs() {
    let mut rng = test_support::rng(191);
    let weight = random(&mut rng, &[9, 6], DType::BF16);
    let layer = Linear::new(weight.clone(), None).unwrap();
    let x = random(&mut rng, &[6, 2, 3], DType::F32)
        .permute((1, 2, 0))
        .unwrap(); // [2, 3, 6]
    let y = layer.forward(&x).unwrap();
    assert_eq!(y.dims(), [2, 3, 9]);
    let expected = expected(&x.contiguous().unwrap(), &weight, None);
    assert_close(&y, &expected, 10.0, DType::F32, "strided");
}

#[test]
fn reports_bytes_of_the_stored_types() {
    let mut rng = test_support::rng(192);
    let weight = random(&mut rng, &[9, 6], DType::BF16);
    let bias = random(&mut rng, &[9], DType::F32);
    let layer = Linear::new(weight, Some(bias)).unwrap();
    assert_eq!(
        (layer.n(), layer.k(), layer.bytes()),
        (9, 6, 9 * 6 * 2 + 9 * 4)
    );
}

#[test]
fn rejects_inputs_of_another_shape_or_type() {
    let mut rng = test_support::rng(193);
    let weight = random(&mut rng, &[9, 6], DType::BF16);
    let layer = Linear::new(weight.clone(), None).unwrap();
    let error = layer
        .forward(&random(&mut rng, &[2, 5], DType::F32))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "input of a linear layer is a tensor of shape [2, 5]: expected [.., 6]"
    );
    let error = layer
        .forward(&random(&mut rng, &[2, 6], DType::F64))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "input of a linear layer is a tensor of type F64: expected F32 or BF16"
    );
    let bias = random(&mut rng, &[6], DType::F32);
    let error = Linear::new(weight, Some(bias)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "bias of a linear layer is a tensor of shape [6]: expected [9]"
    );
}
