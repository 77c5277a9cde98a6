//! The CPU backend against the scalar reference, bit for bit, for every instruction set.

mod limits;
mod two_level;

use test_support as support;

use half::bf16;
use proptest::prelude::*;
use rand::Rng;
use rand::seq::SliceRandom;
use support::{Kind, PlainWeight, WIDTHS, bits, rng};
use w4ax::cpu::{Cpu, Isa, Serial};
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
