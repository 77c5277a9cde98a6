//! The CPU backend against the scalar reference, bit for bit, for every instruction set.

use test_support as support;

use half::bf16;
use proptest::prelude::*;
use rand::Rng;
use rand::seq::SliceRandom;
use support::{Kind, PlainWeight, WIDTHS, bits, rng};
use w4ax::cpu::{Cpu, Isa, Pool, Serial};
use w4ax::reference;
use w4ax::{Gemm, Grouping, KOrder, MatMut, MatRef, PackedWeight, ScaleType, Scheme, Width};

/// One backend for each instruction set of this machine.
fn backends() -> Vec<Cpu> {
    (Isa::ALL.into_iter().filter(|isa| isa.is_available()))
        .map(|isa| Cpu::with_isa(isa).unwrap())
        .collect()
}

fn gemm(
    cpu: &Cpu,
    x: MatRef<'_, bf16>,
    w: &PackedWeight,
    width: Width,
    bias: Option<&[f32]>,
) -> Vec<bf16> {
    let mut y = vec![bf16::from_bits(0xDEAD); x.rows() * w.n()];
    let mut workspace = cpu.workspace(x.rows(), x.cols()).unwrap();
    let view = MatMut::new(&mut y, x.rows(), w.n()).unwrap();
    let gemm = Gemm::new(x, w, width).bias(bias);
    cpu.run(&gemm, view, &mut workspace).unwrap();
    y
}

fn scale_type() -> impl Strategy<Value = ScaleType> {
    prop_oneof![
        Just(ScaleType::F32),
        Just(ScaleType::F16),
        Just(ScaleType::Bf16)
    ]
}

fn grouping() -> impl Strategy<Value = Grouping> {
    proptest::sample::select(Grouping::ALL.to_vec())
}

fn scheme() -> impl Strategy<Value = Scheme> {
    proptest::sample::select(Scheme::ALL.to_vec())
}

fn width() -> impl Strategy<Value = Width> {
    proptest::sample::select(WIDTHS.to_vec())
}

fn kind() -> impl Strategy<Value = Kind> {
    // The last two need f32 in place of BF16 products, which flush denormals.
    let kinds = Kind::ALL.into_iter().chain([Kind::Traces, Kind::Spread]);
    proptest::sample::select(kinds.collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    /// Random shapes, strides, widths, schemes, groupings, zero points, scale types, orders of k,
    /// activations and biases: every instruction set returns the bits of the reference.
    #[test]
    fn every_instruction_set_matches_reference(
        (m, n, k) in (1usize..40, 1usize..90, 1usize..600),
        (x_gap, y_gap) in (0usize..9, 0usize..9),
        (width, scheme, grouping, scale_type) in (width(), scheme(), grouping(), scale_type()),
        // Of even and of odd tokens: neighbors share registers, but neither grids nor factors.
        kinds in (kind(), kind()),
        (symmetric, with_bias, with_order) in any::<(bool, bool, bool)>(),
        seed in any::<u64>(),
    ) {
        let rng = &mut rng(seed);
        let mut w = PlainWeight::random_of(scheme, rng, (n, k), grouping, scale_type, symmetric).pack();
        if with_order {
            let mut order: Vec<u32> = (0..k as u32).collect();
            order.shuffle(rng);
            w = w.with_order(KOrder::new(order).unwrap()).unwrap();
        }
        let mut data = kinds.0.fill(rng, m * (k + x_gap));
        let odd = kinds.1.fill(rng, data.len());
        for (row, odd) in (data.chunks_mut(k + x_gap).zip(odd.chunks(k + x_gap))).skip(1).step_by(2) {
            row.copy_from_slice(odd);
        }
        let x = MatRef::with_stride(&data, m, k, k + x_gap).unwrap();
        let bias: Vec<f32> = (0..n).map(|_| rng.random_range(-3f32..3.0)).collect();
        let bias = with_bias.then_some(bias.as_slice());
        let expected = reference::gemm(x, &w, width, bias).unwrap();
        let marker = bf16::from_bits(0x1234);
        for cpu in backends() {
            let mut y = vec![marker; m * (n + y_gap)];
            let mut workspace = cpu.workspace(m, k).unwrap();
            let view = MatMut::with_stride(&mut y, m, n, n + y_gap).unwrap();
            let gemm = Gemm::new(x, &w, width).bias(bias);
            cpu.run(&gemm, view, &mut workspace).unwrap();
            for (token, y) in y.chunks(n + y_gap).enumerate() {
                prop_assert_eq!(bits(&y[..n]), bits(&expected[token * n..][..n]), "{:?} token {}", cpu.isa(), token);
                prop_assert!(y[n..].iter().all(|&v| v == marker), "{:?} wrote between the rows", cpu.isa());
            }
        }
    }

    /// The result of a token is the same alone and at any position of any batch.
    #[test]
    fn rows_are_independent_of_batch(
        (m, n, k) in (2usize..60, 1usize..70, 1usize..400),
        (width, scheme, grouping, kind) in (width(), scheme(), grouping(), kind()),
        symmetric in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let rng = &mut rng(seed);
        let w = PlainWeight::random_of(scheme, rng, (n, k), grouping, ScaleType::Bf16, symmetric).pack();
        let x = kind.fill(rng, m * k);
        for cpu in backends() {
            let whole = gemm(&cpu, MatRef::new(&x, m, k).unwrap(), &w, width, None);
            let token = rng.random_range(0..m);
            let alone = gemm(&cpu, MatRef::new(&x[token * k..], 1, k).unwrap(), &w, width, None);
            prop_assert_eq!(bits(&alone), bits(&whole[token * n..][..n]));
        }
    }
}

/// Shapes of real models and odd shapes, with every width, grouping and symmetry. The instruction
/// sets agree on the whole result, and with the reference on random tokens and channels of it (rows
/// are independent).
#[test]
fn matches_reference_on_model_shapes() {
    let mut fast = backends();
    let scalar = fast.remove(0);
    // The scalar path is too slow for the largest products: where there is no other, they are left
    // to machines that have one.
    let mut most = usize::MAX;
    if fast.is_empty() {
        fast.push(scalar.clone());
        most = 130_000_000;
    }
    let rng = &mut rng(11);
    for (n, k) in [
        (100, 100),
        (100, 7392),
        (100, 11008),
        (10944, 100),
        (10944, 7392),
        (10944, 11008),
    ] {
        for (scheme, grouping, symmetric) in Grouping::ALL
            .into_iter()
            .zip([true, false, true, false])
            .chain(
                // The other symmetry of each, on the small N only: same code, other zero points.
                Grouping::ALL
                    .into_iter()
                    .zip([false, true, false, true])
                    .filter(|_| n == 100),
            )
            .map(|(grouping, symmetric)| (Scheme::Grouped, grouping, symmetric))
            .chain(
                [
                    (Grouping::G128, true),
                    (Grouping::G64, false),
                    (Grouping::G32, false),
                ]
                .into_iter()
                .take(if n == 100 { 3 } else { usize::from(k < 11008) })
                .map(|(grouping, symmetric)| (Scheme::TwoLevel, grouping, symmetric)),
            )
        {
            let scales = ScaleType::F16;
            let plain = PlainWeight::random_of(scheme, rng, (n, k), grouping, scales, symmetric);
            let w = plain.pack();
            for m in [1, 7, 17, 290] {
                if m * n * k > most {
                    continue;
                }
                if m == 290
                    && n == 10944
                    && k > 100
                    && (grouping != Grouping::G128 || scheme == Scheme::TwoLevel)
                {
                    continue; // 35 G multiplications: one grouping of them.
                }
                let data = Kind::Normal.fill(rng, m * k);
                let x = MatRef::new(&data, m, k).unwrap();
                let tokens: Vec<usize> = (0..m.min(3)).map(|_| rng.random_range(0..m)).collect();
                let channels: Vec<usize> = (0..60).map(|_| rng.random_range(0..n)).collect();
                let some_w = plain.rows(&channels).pack();
                for width in WIDTHS {
                    let results: Vec<Vec<bf16>> = fast
                        .iter()
                        .map(|cpu| gemm(cpu, x, &w, width, None))
                        .collect();
                    let what = format!("{scheme} {width} m {m} n {n} k {k} {grouping} {symmetric}");
                    assert!(results.iter().all(|y| *y == results[0]), "{what}");
                    for &token in &tokens {
                        let x = MatRef::new(x.row(token), 1, k).unwrap();
                        let expected = reference::gemm(x, &some_w, width, None).unwrap();
                        let got: Vec<bf16> =
                            channels.iter().map(|c| results[0][token * n + c]).collect();
                        assert_eq!(bits(&got), bits(&expected), "{what} token {token}");
                        if n == 100 {
                            let plain = gemm(&scalar, x, &w, width, None);
                            assert_eq!(bits(&plain), bits(&results[0][token * n..][..n]), "{what}");
                        }
                    }
                }
            }
        }
    }
}

/// The number of threads and the pool do not change the bits.
#[test]
fn pools_do_not_change_bits() {
    let rng = &mut rng(3);
    // Enough work for seven threads, in panels and in streams.
    let shapes = [(350, 500, 700), (3, 3500, 700)];
    for (scheme, (m, n, k)) in Scheme::ALL.into_iter().flat_map(|s| shapes.map(|m| (s, m))) {
        let (grouping, scales) = (Grouping::G32, ScaleType::Bf16);
        let w = PlainWeight::random_of(scheme, rng, (n, k), grouping, scales, false).pack();
        let data = Kind::Normal.fill(rng, m * k);
        let x = MatRef::new(&data, m, k).unwrap();
        for width in WIDTHS {
            let with = |cpu: Cpu| bits(&gemm(&cpu, x, &w, width, None));
            let serial = with(Cpu::new().unwrap().with_pool(Serial));
            assert_eq!(with(Cpu::new().unwrap()), serial);
            for threads in [1, 2, 3, 7] {
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap();
                let inside = pool.install(|| with(Cpu::new().unwrap()));
                assert_eq!(inside, serial);
                assert_eq!(with(Cpu::new().unwrap().with_pool(pool)), serial);
            }
        }
    }
}

/// The contents of a workspace do not matter: other shapes, other widths, NaN.
#[test]
fn workspace_contents_do_not_matter() {
    let rng = &mut rng(8);
    for cpu in backends() {
        let mut workspace = cpu.workspace(20, 700).unwrap();
        for case in 0..100 {
            let (m, n, k) = (
                rng.random_range(1..=20),
                rng.random_range(1..=70),
                rng.random_range(1..=700),
            );
            let grouping = Grouping::ALL[rng.random_range(0..4)];
            let (scheme, scales) = (Scheme::ALL[case / 2 % 2], ScaleType::Bf16);
            let w = PlainWeight::random_of(scheme, rng, (n, k), grouping, scales, false).pack();
            let kind = [Kind::AnyBits, Kind::Normal][case % 2];
            let data = kind.fill(rng, m * k);
            let x = MatRef::new(&data, m, k).unwrap();
            let width = WIDTHS[rng.random_range(0..4)];
            let mut y = vec![bf16::ZERO; m * n];
            let view = MatMut::new(&mut y, m, n).unwrap();
            cpu.run(&Gemm::new(x, &w, width), view, &mut workspace)
                .unwrap();
            let expected = reference::gemm(x, &w, width, None).unwrap();
            assert_eq!(bits(&y), bits(&expected), "{:?} case {case}", cpu.isa());
        }
    }
}

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

/// Every step and zero point of a two-level weight with the values that they allow, at every N up to
/// three tiles and at the borders of groups and tiles of K.
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
