//! The ends of the ranges: the largest sums, subnormals, NaN and infinities, no tokens and many.

use crate::{backends, gemm};
use half::bf16;
use test_support::{Kind, PlainWeight, WIDTHS, bits, rng};
use w4ax::cpu::{Cpu, Pool};
use w4ax::reference;
use w4ax::{Grouping, MatRef, ScaleType, Scheme, Width};

/// The largest integer sums: 65,536 k per channel, or with one scale per channel, with every value
/// at its extreme.
#[test]
fn largest_sums_do_not_overflow() {
    let (n, k) = (17, 65_536);
    let two_level = |grouping| move |q, step, zero| (grouping, q, Some(step), Some(zero));
    let (g32, g64, g128) = (
        two_level(Grouping::G32),
        two_level(Grouping::G64),
        two_level(Grouping::G128),
    );
    for (grouping, q, step, zero) in [
        (Grouping::PerChannel, -8i8, None, Some(8i8)),
        (Grouping::PerChannel, 7, None, Some(-8)),
        (Grouping::PerChannel, -8, None, Some(0)),
        // |w8| is 126, 126, 126, 120 and 112.
        g32(7, 9, -7),
        g128(-6, 9, 8),
        g64(7, 14, -2),
        g128(-8, 15, 0),
        (Grouping::G64, 7, Some(16), None),
    ] {
        let groups = n * grouping.groups(k);
        let plain = PlainWeight {
            n,
            k,
            grouping,
            q: vec![q; n * k],
            scales: w4ax::Scales::F32(vec![1.0; n]),
            steps: step.map(|step| vec![step; groups]),
            zeros: zero.map(|zero| vec![zero; groups]),
        };
        let w = plain.pack();
        // All at the top of the range (za = 0), all at the bottom (za = qmax), and both.
        for value in [
            |_: usize| 1f32,
            |_| -1.0,
            |k| if k % 2 == 0 { 1.0 } else { -1.0 },
        ] {
            // One token takes another way through the weights than seven.
            let data: Vec<bf16> = (0..7 * k).map(|k| bf16::from_f32(value(k))).collect();
            let one = MatRef::new(&data, 1, k).unwrap();
            let seven = MatRef::new(&data, 7, k).unwrap();
            for width in WIDTHS {
                let expected = bits(&reference::gemm(one, &w, width, None).unwrap());
                for cpu in backends() {
                    assert_eq!(bits(&gemm(&cpu, one, &w, width, None)), expected);
                    for y in bits(&gemm(&cpu, seven, &w, width, None)).chunks(17) {
                        assert_eq!(y, expected);
                    }
                }
            }
        }
    }
}

/// Neighboring tokens whose BF16 products need different factors (some have subnormals), in small
/// and large batches.
#[test]
fn tokens_have_independent_flush_factors() {
    let rng = &mut rng(8);
    let (n, k) = (50, 200);
    let schemes = Scheme::ALL.into_iter();
    for (scheme, grouping) in schemes.flat_map(|s| Grouping::ALL.map(|g| (s, g))) {
        let scales = ScaleType::Bf16;
        let w = PlainWeight::random_of(scheme, rng, (n, k), grouping, scales, false).pack();
        for (m, odd) in (1..=5).chain([17]).flat_map(|m| [(m, false), (m, true)]) {
            let mut x = Kind::Normal.fill(rng, m * k);
            for row in x.chunks_mut(k).skip(odd.into()).step_by(2) {
                row.copy_from_slice(&Kind::Traces.fill(rng, k));
            }
            let x = MatRef::new(&x, m, k).unwrap();
            let expected = reference::gemm(x, &w, Width::Bf16, None).unwrap();
            for cpu in backends() {
                let y = gemm(&cpu, x, &w, Width::Bf16, None);
                assert_eq!(bits(&y), bits(&expected), "{:?}, {m} tokens", cpu.isa());
            }
        }
    }
}

/// The largest sums of BF16 activations that are scaled because one of them is subnormal: 65,536
/// products with the largest `w8`. Neither side of the limit of the scaling overflows.
#[test]
fn largest_scaled_sums_do_not_overflow() {
    let (n, k, grouping) = (3, 65_536, Grouping::G128);
    let groups = n * grouping.groups(k);
    let plain = PlainWeight {
        n,
        k,
        grouping,
        q: vec![-6; n * k],
        scales: w4ax::Scales::F32(vec![2f32.powi(-20); n]),
        steps: Some(vec![9; groups]),
        zeros: Some(vec![8; groups]),
    };
    let w = plain.pack();
    for exponent in [86, 87, 88, 89, 90] {
        // The largest BF16 below the next power of two.
        let large = bf16::from_bits(((127 + exponent) << 7) + 127);
        for m in [1, 3] {
            let mut data = vec![large; m * k];
            data[5] = bf16::from_bits(1);
            let x = MatRef::new(&data, m, k).unwrap();
            let expected = reference::gemm(x, &w, Width::Bf16, None).unwrap();
            assert!(expected.iter().all(|y| y.is_finite()));
            for cpu in backends() {
                let y = gemm(&cpu, x, &w, Width::Bf16, None);
                assert_eq!(bits(&y), bits(&expected), "{:?} 2^{exponent}", cpu.isa());
            }
        }
    }
}

/// A token with a NaN or an infinity is 0x7FFF in every channel. Its neighbors are not affected.
#[test]
fn non_finite_tokens_affect_only_themselves() {
    let rng = &mut rng(5);
    let (m, n, k) = (5, 40, 200);
    let clean = Kind::Normal.fill(rng, m * k);
    let bad = [
        bf16::NAN,
        bf16::INFINITY,
        bf16::NEG_INFINITY,
        bf16::from_bits(0xFFC1),
    ];
    for (scheme, bad) in Scheme::ALL.into_iter().flat_map(|s| bad.map(|b| (s, b))) {
        let (grouping, scales) = (Grouping::G64, ScaleType::Bf16);
        let w = PlainWeight::random_of(scheme, rng, (n, k), grouping, scales, false).pack();
        let mut data = clean.clone();
        data[2 * k + 150] = bad;
        let x = MatRef::new(&data, m, k).unwrap();
        for cpu in backends() {
            for width in [Width::A2, Width::A4, Width::A8] {
                let y = gemm(&cpu, x, &w, width, None);
                let before = gemm(&cpu, MatRef::new(&clean, m, k).unwrap(), &w, width, None);
                for token in 0..m {
                    let (y, before) = (&y[token * n..][..n], &before[token * n..][..n]);
                    match token {
                        2 => assert!(y.iter().all(|v| v.to_bits() == 0x7FFF)),
                        _ => assert_eq!(bits(y), bits(before)),
                    }
                }
            }
        }
    }
}

/// M = 0 does nothing. More tokens than a chunk are all computed.
#[test]
fn handles_zero_and_many_tokens() {
    let rng = &mut rng(6);
    let (n, k) = (50, 130);
    let many = [0, 255, 256, 257, 1100];
    for (scheme, m) in Scheme::ALL.into_iter().flat_map(|s| many.map(|m| (s, m))) {
        let (grouping, scales) = (Grouping::G128, ScaleType::F32);
        let w = PlainWeight::random_of(scheme, rng, (n, k), grouping, scales, true).pack();
        let data = Kind::Normal.fill(rng, m * k);
        let x = MatRef::new(&data, m, k).unwrap();
        for width in WIDTHS {
            let expected = reference::gemm(x, &w, width, None).unwrap();
            for cpu in backends() {
                assert_eq!(bits(&gemm(&cpu, x, &w, width, None)), bits(&expected));
            }
        }
    }
}

/// A pool is safe code of the caller. A pool that runs a piece twice, or too few pieces, must
/// neither share scratch memory between threads nor leave a result unwritten.
#[test]
fn incorrect_pool_panics() {
    struct Careless(fn(usize) -> Vec<usize>);
    impl Pool for Careless {
        fn threads(&self) -> usize {
            4
        }
        fn run(&self, pieces: usize, piece: &(dyn Fn(usize) + Sync)) {
            std::thread::scope(|scope| {
                // One alone is the preparation's: what comes after it is meant here as well.
                let numbers = if pieces == 1 {
                    vec![0]
                } else {
                    (self.0)(pieces)
                };
                for number in numbers {
                    scope.spawn(move || piece(number));
                }
            });
        }
    }
    for (m, n, k) in [(40, 512, 512), (200, 512, 512)] {
        let weight = PlainWeight::random(&mut rng(9), (n, k), Grouping::G128, ScaleType::F32, true);
        let weight = weight.pack();
        let x = vec![bf16::ONE; m * k];
        let x = MatRef::new(&x, m, k).unwrap();
        let expected = bits(&reference::gemm(x, &weight, Width::A8, None).unwrap());
        let run = |pieces: fn(usize) -> Vec<usize>| {
            let cpu = Cpu::new().unwrap().with_pool(Careless(pieces));
            let run = || gemm(&cpu, x, &weight, Width::A8, None);
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(run))
        };
        let kept = run(|pieces| (0..pieces).collect()).expect("a pool that does as it should");
        assert_eq!(bits(&kept), expected);
        // The numbers themselves do not matter.
        let same = run(|pieces| vec![0; pieces]).expect("as many pieces as there are");
        assert_eq!(bits(&same), expected);
        for pieces in [
            |pieces| (0..pieces).chain([0]).collect::<Vec<_>>(),
            |pieces| (1..pieces).collect::<Vec<_>>(),
            |_| vec![],
            |pieces| vec![pieces; 2 * pieces],
        ] {
            assert!(run(pieces).is_err());
        }
    }
}
