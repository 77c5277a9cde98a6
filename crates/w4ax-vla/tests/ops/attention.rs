//! Attention.

use crate::support::{TYPES, assert_close, on_all_threads, random, values};
use candle_core::{DType, Tensor};
use rand::Rng;
use w4ax_vla::ops::{Mask, attention, generic};

/// Attention in F64, `[M, H * d]`.
fn expected(q: &Tensor, k: &Tensor, v: &Tensor, mask: Mask) -> Vec<f64> {
    let (h, m, d) = q.dims3().unwrap();
    let t = k.dim(1).unwrap();
    let (q, k, v) = (values(q), values(k), values(v));
    let row = |x: &[f64], rows: usize, head: usize, row: usize| -> Vec<f64> {
        x[(head * rows + row) * d..][..d].to_vec()
    };
    let mut y = vec![];
    for i in 0..m {
        for head in 0..h {
            let visible = match mask {
                Mask::None => t,
                Mask::Causal { past } => past + i + 1,
            };
            let q = row(&q, m, head, i);
            let weights: Vec<f64> = (0..visible)
                .map(|j| {
                    let k = row(&k, t, head, j);
                    let score: f64 = q.iter().zip(&k).map(|(q, k)| q * k).sum();
                    (score / (d as f64).sqrt()).exp()
                })
                .collect();
            let total: f64 = weights.iter().sum();
            for c in 0..d {
                let sum: f64 = (0..visible)
                    .map(|j| weights[j] * row(&v, t, head, j)[c])
                    .sum();
                y.push(sum / total);
            }
        }
    }
    y
}

#[test]
fn matches_f64_sums_for_each_head_size_mask_and_type() {
    let mut rng = test_support::rng(194);
    for d in [4, 5, 16, 64, 72, 128] {
        for _ in 0..4 {
            let h = rng.random_range(1..4);
            let m = [1, 2, 5, 63, 64, 65, 140][rng.random_range(0..7)];
            let past = rng.random_range(0..40);
            let spare = rng.random_range(0..3);
            for (q_type, kv_type) in TYPES.into_iter().flat_map(|a| TYPES.map(|b| (a, b))) {
                let q = random(&mut rng, &[h, m, d], q_type);
                // A cache with room for more keys, and before the first.
                let view = |x: Tensor| x.narrow(1, 2, past + m + spare).unwrap();
                let k = view(random(&mut rng, &[h, past + m + spare + 5, d], kv_type));
                let v = view(random(&mut rng, &[h, past + m + spare + 5, d], kv_type));
                for mask in [Mask::None, Mask::Causal { past }] {
                    let what = format!("{h} x {m} x {d}, {q_type:?}, {kv_type:?}, {mask:?}");
                    let y = on_all_threads(|| attention(&q, &k, &v, mask).unwrap());
                    assert_eq!(y.dims(), [m, h * d]);
                    let expected = expected(&q, &k, &v, mask);
                    assert_close(&y, &expected, 4.0, q_type, &what);
                    let y = generic::attention(&q, &k, &v, mask).unwrap();
                    assert_close(&y, &expected, 4.0, q_type, &what);
                }
            }
        }
    }
}

#[test]
fn takes_heads_that_are_interleaved_in_a_row() {
    let mut rng = test_support::rng(195);
    let (h, m, d) = (3, 70, 8);
    let qkv = random(&mut rng, &[m, 3, h, d], DType::F32);
    let part = |i: usize| {
        qkv.narrow(1, i, 1)
            .unwrap()
            .squeeze(1)
            .unwrap()
            .transpose(0, 1)
            .unwrap()
    };
    let (q, k, v) = (part(0), part(1), part(2)); // [h, m, d], strided
    let y = attention(&q, &k, &v, Mask::None).unwrap();
    assert_close(
        &y,
        &expected(&q, &k, &v, Mask::None),
        4.0,
        DType::F32,
        "views",
    );
    let d_first = v
        .transpose(1, 2)
        .unwrap()
        .contiguous()
        .unwrap()
        .transpose(1, 2)
        .unwrap();
    let y = attention(&q, &k, &d_first, Mask::None).unwrap();
    assert_close(
        &y,
        &expected(&q, &k, &v, Mask::None),
        4.0,
        DType::F32,
        "d not contiguous",
    );
}

#[test]
fn large_scores_do_not_overflow() {
    let mut rng = test_support::rng(196);
    let (h, m, d) = (2, 66, 16);
    let q = (random(&mut rng, &[h, m, d], DType::F32) * 40.0).unwrap();
    let k = random(&mut rng, &[h, m, d], DType::F32);
    let v = random(&mut rng, &[h, m, d], DType::F32);
    for rows in [1, m] {
        let q = q.narrow(1, 0, rows).unwrap();
        let y = values(&attention(&q, &k, &v, Mask::None).unwrap());
        for (got, expected) in y.iter().zip(expected(&q, &k, &v, Mask::None)) {
            assert!((got - expected).abs() < 1e-4, "{got}, expected {expected}");
        }
    }
}

#[test]
fn rejects_a_mask_beyond_the_keys() {
    let mut rng = test_support::rng(197);
    let q = random(&mut rng, &[1, 3, 4], DType::F32);
    let k = random(&mut rng, &[1, 6, 4], DType::F32);
    assert!(attention(&q, &k, &k, Mask::Causal { past: 3 }).is_ok());
    let error = attention(&q, &k, &k, Mask::Causal { past: 4 }).unwrap_err();
    assert_eq!(
        error.to_string(),
        "number of keys of attention is 6: expected at least 7"
    );
    let v = random(&mut rng, &[1, 5, 4], DType::F32);
    assert!(attention(&q, &k, &v, Mask::None).is_err());
}
