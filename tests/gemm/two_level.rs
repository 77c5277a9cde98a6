//! Two-level weights: the borders of groups and tiles, and the last operation.

use crate::{backends, gemm};
use half::bf16;
use rand::Rng;
use test_support::{Kind, PlainWeight, WIDTHS, bits, rng};
use w4ax::reference::{self, QuantizedMatrix};
use w4ax::{Grouping, MatRef, ScaleType};

/// The bias of a two-level GEMM is the addend of its only fma. A bias that cancels the rounded
/// product leaves the rounding of the product, which a separate addition would have lost.
#[test]
fn two_level_bias_is_the_addend_of_the_fma() {
    let rng = &mut rng(17);
    let (n, k) = (37, 200);
    let plain = PlainWeight::random_two_level(rng, (n, k), Grouping::G64, ScaleType::F32, false);
    let w = plain.pack();
    let w8 = PlainWeight {
        scales: w4ax::Scales::F32(vec![1.0; n]),
        ..plain
    };
    let w8 = w8.pack().dequantize();
    for width in WIDTHS {
        for m in [1, 5] {
            let data = Kind::Normal.fill(rng, k).repeat(m);
            let x = MatRef::new(&data, m, k).unwrap();
            // The sum and the factor of each channel, by the formulas of `numerics`.
            let (factor, values) = match QuantizedMatrix::new(x, width, w.activation_grouping()) {
                Ok(a) => {
                    let group = a.groups()[0];
                    let code = |&v: &u8| (i32::from(v) - group.zero) as f32;
                    (group.scale, a.values()[..k].iter().map(code).collect())
                }
                Err(_) => (1.0, x.row(0).iter().map(|v| v.to_f32()).collect::<Vec<_>>()),
            };
            let (sums, factors): (Vec<f32>, Vec<f32>) = (0..n)
                .map(|row| {
                    let w8 = &w8[row * k..][..k];
                    let sum = values
                        .iter()
                        .zip(w8)
                        .fold(0f32, |sum, (x, w)| x.mul_add(*w, sum));
                    (sum, factor * w.scale(row, 0))
                })
                .unzip();
            let bias: Vec<f32> = sums.iter().zip(&factors).map(|(s, f)| -(s * f)).collect();
            let expected: Vec<bf16> = (0..n)
                .map(|row| bf16::from_f32(sums[row].mul_add(factors[row], bias[row])))
                .collect();
            assert!(expected.iter().filter(|y| y.to_f32() != 0.0).count() > n / 2);
            let bias = Some(&bias[..]);
            let reference = reference::gemm(x, &w, width, bias).unwrap();
            assert_eq!(bits(&reference), bits(&expected.repeat(m)), "{width}");
            for cpu in backends() {
                let y = gemm(&cpu, x, &w, width, bias);
                assert_eq!(bits(&y), bits(&reference), "{:?} {width}", cpu.isa());
            }
        }
    }
}

/// Every step and zero point of a two-level weight with the values that they allow, at every N up
/// to three tiles and at the borders of groups and tiles of K.
#[test]
fn two_level_matches_reference_at_every_border() {
    let rng = &mut rng(21);
    let ks = [
        1, 31, 32, 33, 63, 64, 65, 96, 100, 127, 128, 129, 161, 192, 333,
    ];
    for (case, k) in (0..4).flat_map(|_| ks).enumerate() {
        for grouping in [Grouping::G32, Grouping::G64, Grouping::G128] {
            let (n, m) = (1 + (case * 7 + k) % 40, [1, 2, 3, 4, 5, 13][case % 6]);
            let (scales, symmetric) = (ScaleType::F32, case % 3 == 0);
            let w = PlainWeight::random_two_level(rng, (n, k), grouping, scales, symmetric).pack();
            let kind = [Kind::Normal, Kind::Swings, Kind::Tops][case % 3];
            let data = kind.fill(rng, m * k);
            let x = MatRef::new(&data, m, k).unwrap();
            // As large as the products, so that another order of the last roundings shows.
            let bias: Vec<f32> = (0..n).map(|_| rng.random_range(-9f32..9.0)).collect();
            for (width, bias) in WIDTHS.map(|w| [(w, None), (w, Some(&bias[..]))]).concat() {
                let expected = reference::gemm(x, &w, width, bias).unwrap();
                for cpu in backends() {
                    let y = gemm(&cpu, x, &w, width, bias);
                    let what = format!("{:?} {width} m {m} n {n} k {k} {grouping}", cpu.isa());
                    assert_eq!(bits(&y), bits(&expected), "{what}");
                }
            }
        }
    }
}
