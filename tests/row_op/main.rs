//! The row operations and the activations that are quantized once, on the CPU: against the scalar
//! reference bit for bit, for every instruction set, and against f64.

use half::bf16;
use proptest::prelude::*;
use rand::Rng;
use test_support::{Kind, PlainWeight, bits, rng};
use w4ax::cpu::{ActivationLayout, Cpu, Isa, Serial};
use w4ax::{
    Error, Gemm, Grouping, HiddenState, KOrder, MatMut, MatRef, PackedWeight, RmsNorm, ScaleType,
    Scheme, SiluMul, Width, WidthFlag, reference,
};

const QUANTIZED: [Width; 3] = [Width::A2, Width::A4, Width::A8];

fn backends() -> Vec<Cpu> {
    (Isa::ALL.into_iter().filter(|isa| isa.is_available()))
        .map(|isa| Cpu::with_isa(isa).unwrap())
        .collect()
}

fn kind() -> impl Strategy<Value = Kind> {
    proptest::sample::select(Kind::ALL.to_vec())
}

/// Calls `run` with rows `[m, k]` that are `gap` elements apart, and returns the rows. What is
/// between them must not be written.
fn strided((m, k, gap): (usize, usize, usize), run: impl FnOnce(MatMut<'_, bf16>)) -> Vec<bf16> {
    let marker = bf16::from_bits(0x1234);
    let mut y = vec![marker; m * (k + gap)];
    run(MatMut::with_stride(&mut y, m, k, k + gap).unwrap());
    let mut rows = Vec::new();
    for y in y.chunks(k + gap) {
        rows.extend(&y[..k]);
        assert!(y[k..].iter().all(|v| *v == marker));
    }
    rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Random shapes, strides, types and values: every instruction set returns the bits of the
    /// reference.
    #[test]
    fn rows_match_reference(
        (m, k) in (1usize..12, 1usize..1300),
        gaps in (0usize..5, 0usize..5, 0usize..5),
        kinds in (kind(), kind(), kind()),
        (wide, eps) in (any::<bool>(), proptest::sample::select(vec![1e-5f32, 1e-6, 1e-30, 3.0])),
        seed in any::<u64>(),
    ) {
        let rng = &mut rng(seed);
        let a = kinds.0.fill(rng, m * (k + gaps.0));
        let b = kinds.1.fill(rng, m * (k + gaps.1));
        let g = kinds.2.fill(rng, k);
        let f32s: Vec<f32> = a.iter().map(|v| v.to_f32() * rng.random_range(0.5..1.5)).collect();
        let x = MatRef::with_stride(&a, m, k, k + gaps.0).unwrap();
        let up = MatRef::with_stride(&b, m, k, k + gaps.1).unwrap();
        let hidden = match wide {
            true => HiddenState::from(MatRef::with_stride(&f32s, m, k, k + gaps.0).unwrap()),
            false => x.into(),
        };
        let (norm, silu) = (RmsNorm::new(hidden, &g, eps), SiluMul::new(x, up));
        for cpu in backends() {
            let y = strided((m, k, gaps.2), |y| cpu.rms_norm(&norm, y).unwrap());
            prop_assert_eq!(bits(&y), bits(&reference::rms_norm(&norm).unwrap()), "{:?}", cpu.isa());
            let y = strided((m, k, gaps.2), |y| cpu.silu_mul(&silu, y).unwrap());
            prop_assert_eq!(bits(&y), bits(&reference::silu_mul(&silu).unwrap()), "{:?}", cpu.isa());
        }
    }

    /// A GEMM of quantized activations has the bits of the reference from the BF16 rows, for every
    /// layout and every number of tokens: GEMV path, panels, several chunks.
    #[test]
    fn gemms_of_quantized_activations_match_reference(
        (m, n, k) in prop_oneof![
            (1usize..6, 1usize..60, 1usize..400),
            (6usize..40, 1usize..60, 1usize..400),
            (250usize..300, 1usize..20, 1usize..70),
        ],
        scheme in proptest::sample::select(Scheme::ALL.to_vec()),
        grouping in proptest::sample::select(Grouping::ALL.to_vec()),
        width in proptest::sample::select(QUANTIZED.to_vec()),
        kinds in (kind(), kind()),
        (with_bias, with_order, seed) in any::<(bool, bool, u64)>(),
    ) {
        let rng = &mut rng(seed);
        let scales = ScaleType::Bf16;
        let mut w = PlainWeight::random_of(scheme, rng, (n, k), grouping, scales, false).pack();
        let (a, b) = (kinds.0.fill(rng, m * k), kinds.1.fill(rng, m * k));
        let (x, up) = (MatRef::new(&a, m, k).unwrap(), MatRef::new(&b, m, k).unwrap());
        let bias: Vec<f32> = (0..n).map(|_| rng.random_range(-3f32..3.0)).collect();
        let bias = with_bias.then_some(bias.as_slice());
        let ones = vec![bf16::ONE; k];
        let (norm, silu) = (RmsNorm::new(x, &ones, 1e-6), SiluMul::new(x, up));
        let results: Vec<Vec<bf16>> = [
            reference::rms_norm(&norm).unwrap(),
            reference::silu_mul(&silu).unwrap(),
            a.clone(),
        ].iter().map(|x| {
            reference::gemm(MatRef::new(x, m, k).unwrap(), &w, width, bias).unwrap()
        }).collect();
        for cpu in backends() {
            let mut workspace = cpu.workspace(m, k).unwrap();
            let mut activations = cpu.quantized_activations(m + 3, k + 5).unwrap();
            for (op, expected) in results.iter().enumerate() {
                match op {
                    0 => cpu.rms_norm_quantize(&norm, width, &w, &mut activations).unwrap(),
                    1 => cpu.silu_mul_quantize(&silu, width, &w, &mut activations).unwrap(),
                    _ => cpu.quantize(x, width, &w, &mut activations).unwrap(),
                }
                prop_assert_eq!(activations.contents(), Some((m, k, width)));
                // Twice: a GEMM does not change them.
                for _ in 0..2 {
                    let y = strided((m, n, 2), |y| {
                        cpu.run_quantized(&activations, &w, bias, y, &mut workspace).unwrap();
                    });
                    prop_assert_eq!(bits(&y), bits(expected), "{:?}, operation {}", cpu.isa(), op);
                }
            }
        }
        if with_order {
            let order = KOrder::new((0..k as u32).rev().collect()).unwrap();
            w = w.with_order(order.clone()).unwrap();
            let mut gathered = vec![bf16::ZERO; m * k];
            order.gather(x, MatMut::new(&mut gathered, m, k).unwrap()).unwrap();
            let gathered = MatRef::new(&gathered, m, k).unwrap();
            let expected = reference::gemm(x, &w, width, bias).unwrap();
            for cpu in backends() {
                let mut workspace = cpu.workspace(m, k).unwrap();
                let mut activations = cpu.quantized_activations(m, k).unwrap();
                cpu.quantize(gathered, width, &w, &mut activations).unwrap();
                let y = strided((m, n, 0), |y| {
                    cpu.run_quantized(&activations, &w, bias, y, &mut workspace).unwrap();
                });
                prop_assert_eq!(bits(&y), bits(&expected));
            }
        }
    }
}

/// A result differs from the exact one by its rounding to BF16 and a few units of f32.
#[test]
fn rows_are_near_f64() {
    let rng = &mut rng(41);
    let (m, k) = (7, 4096);
    let random = |rng: &mut rand_chacha::ChaCha8Rng, n: usize, scale: f32| -> Vec<bf16> {
        (0..n)
            .map(|_| bf16::from_f32(scale * rng.random_range(-1f32..1.0)))
            .collect()
    };
    let (a, b, g) = (
        random(rng, m * k, 20.0),
        random(rng, m * k, 3.0),
        random(rng, k, 2.0),
    );
    let (x, up) = (
        MatRef::new(&a, m, k).unwrap(),
        MatRef::new(&b, m, k).unwrap(),
    );
    let cpu = Cpu::new().unwrap();
    let near = |y: &[bf16], exact: &[f64]| {
        for (y, exact) in y.iter().zip(exact) {
            let error = (y.to_f64() - exact).abs();
            assert!(
                error <= (2f64.powi(-8) * 1.001) * exact.abs() + 1e-37,
                "{y}, {exact}"
            );
        }
    };
    let norm = RmsNorm::new(x, &g, 1e-5);
    let y = strided((m, k, 0), |y| cpu.rms_norm(&norm, y).unwrap());
    let wide = |v: &[bf16]| v.iter().map(|v| v.to_f64()).collect::<Vec<_>>();
    let (a, b, g) = (wide(&a), wide(&b), wide(&g));
    let exact: Vec<f64> = a
        .chunks(k)
        .flat_map(|x| {
            let mean = x.iter().map(|x| x * x).sum::<f64>() / k as f64;
            let root = (mean + f64::from(1e-5f32)).sqrt();
            x.iter()
                .zip(&g)
                .map(|(x, g)| x / root * g)
                .collect::<Vec<_>>()
        })
        .collect();
    near(&y, &exact);
    let y = strided((m, k, 0), |y| {
        cpu.silu_mul(&SiluMul::new(x, up), y).unwrap()
    });
    let exact: Vec<f64> = a
        .iter()
        .zip(&b)
        .map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up)
        .collect();
    near(&y, &exact);
}

/// The number of threads does not change the bits.
#[test]
fn pools_do_not_change_bits() {
    let rng = &mut rng(42);
    let (m, n, k) = (300, 70, 2000);
    let (a, g) = (Kind::Normal.fill(rng, m * k), Kind::Normal.fill(rng, k));
    let x = MatRef::new(&a, m, k).unwrap();
    let w = PlainWeight::random_of(
        Scheme::Grouped,
        rng,
        (n, k),
        Grouping::G64,
        ScaleType::Bf16,
        false,
    );
    let w = w.pack();
    let run = |cpu: &Cpu| {
        let norm = RmsNorm::new(x, &g, 1e-6);
        let rows = strided((m, k, 0), |y| cpu.rms_norm(&norm, y).unwrap());
        let mut activations = cpu.quantized_activations(m, k).unwrap();
        cpu.rms_norm_quantize(&norm, Width::A4, &w, &mut activations)
            .unwrap();
        let mut workspace = cpu.workspace(m, k).unwrap();
        let y = strided((m, n, 0), |y| {
            cpu.run_quantized(&activations, &w, None, y, &mut workspace)
                .unwrap();
        });
        (bits(&rows), bits(&y))
    };
    let serial = run(&Cpu::new().unwrap().with_pool(Serial));
    for threads in [2, 5] {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        assert!(run(&Cpu::new().unwrap().with_pool(pool)) == serial);
    }
}

/// Activations that were allocated by a backend with fewer threads.
#[test]
fn activations_of_fewer_threads_are_enough() {
    let (m, k) = (64, 4096);
    let a = Kind::Normal.fill(&mut rng(43), m * k);
    let x = MatRef::new(&a, m, k).unwrap();
    let w = weight(16, k);
    let serial = Cpu::new().unwrap().with_pool(Serial);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(4)
        .build()
        .unwrap();
    let parallel = Cpu::new().unwrap().with_pool(pool);
    let mut activations = serial.quantized_activations(m, k).unwrap();
    let mut workspace = serial.workspace(m, k).unwrap();
    let silu = SiluMul::new(x, x);
    parallel
        .silu_mul_quantize(&silu, Width::A8, &w, &mut activations)
        .unwrap();
    let y = strided((m, 16, 0), |y| {
        parallel
            .run_quantized(&activations, &w, None, y, &mut workspace)
            .unwrap();
    });
    let rows = reference::silu_mul(&silu).unwrap();
    let expected = reference::gemm(MatRef::new(&rows, m, k).unwrap(), &w, Width::A8, None).unwrap();
    assert_eq!(bits(&y), bits(&expected));
}

fn weight(n: usize, k: usize) -> PackedWeight {
    let (scheme, grouping) = (Scheme::Grouped, Grouping::G32);
    PlainWeight::random_of(
        scheme,
        &mut rng(44),
        (n, k),
        grouping,
        ScaleType::Bf16,
        true,
    )
    .pack()
}

#[test]
fn no_tokens_are_allowed() {
    let cpu = Cpu::new().unwrap();
    let (w, g) = (weight(8, 64), [bf16::ONE; 64]);
    let x = MatRef::<bf16>::new(&[], 0, 64).unwrap();
    let mut activations = cpu.quantized_activations(0, 64).unwrap();
    let mut workspace = cpu.workspace(0, 64).unwrap();
    cpu.rms_norm(
        &RmsNorm::new(x, &g, 1.0),
        MatMut::new(&mut [], 0, 64).unwrap(),
    )
    .unwrap();
    cpu.rms_norm_quantize(&RmsNorm::new(x, &g, 1.0), Width::A2, &w, &mut activations)
        .unwrap();
    let y = MatMut::new(&mut [], 0, 8).unwrap();
    cpu.run_quantized(&activations, &w, None, y, &mut workspace)
        .unwrap();
}

#[test]
fn rejects_operands_that_do_not_fit() {
    let cpu = Cpu::new().unwrap();
    let (m, k) = (3, 64);
    let data = vec![bf16::ONE; 2 * m * k];
    let x = MatRef::new(&data, m, k).unwrap();
    let mut y = vec![bf16::ZERO; m * k];
    let g = vec![bf16::ONE; k];
    let text = |error: Error| error.to_string();

    let short = RmsNorm::new(x, &g[1..], 1e-6);
    let error = cpu
        .rms_norm(&short, MatMut::new(&mut y, m, k).unwrap())
        .unwrap_err();
    assert_eq!(
        text(error),
        "weight of an RMSNorm has shape [63]: expected [64]"
    );
    for eps in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let norm = RmsNorm::new(x, &g, eps);
        let error = cpu
            .rms_norm(&norm, MatMut::new(&mut y, m, k).unwrap())
            .unwrap_err();
        assert!(
            matches!(
                error,
                Error::Range {
                    what: "eps of an RMSNorm",
                    ..
                }
            ),
            "{eps}"
        );
        assert!(reference::rms_norm(&norm).is_err());
    }
    let norm = RmsNorm::new(x, &g, 1e-6);
    let error = cpu
        .rms_norm(&norm, MatMut::new(&mut y, m, k - 1).unwrap())
        .unwrap_err();
    assert_eq!(text(error), "y has shape [3, 63]: expected [3, 64]");
    let silu = SiluMul::new(x, MatRef::new(&data, 2 * m, k).unwrap());
    let error = cpu
        .silu_mul(&silu, MatMut::new(&mut y, m, k).unwrap())
        .unwrap_err();
    assert_eq!(text(error), "up has shape [6, 64]: expected [3, 64]");
    assert!(y.iter().all(|v| *v == bf16::ZERO));

    let layout = ActivationLayout::new(Scheme::Grouped, Grouping::G32);
    let mut activations = cpu.quantized_activations(m, k).unwrap();
    let error = cpu
        .quantize(x, Width::Bf16, layout, &mut activations)
        .unwrap_err();
    assert_eq!(
        text(error),
        "width of quantized activations is bf16: expected a2, a4, a8"
    );
    let flag = WidthFlag::new();
    assert!(
        cpu.quantize(x, (&flag, 3), layout, &mut activations)
            .is_err()
    );
    flag.store(3, Width::A4);
    cpu.quantize(x, (&flag, 3), layout, &mut activations)
        .unwrap();
    assert_eq!(activations.contents(), Some((m, k, Width::A4)));
    let more = MatRef::new(&data, m + 1, k).unwrap();
    let error = cpu
        .quantize(more, Width::A4, layout, &mut activations)
        .unwrap_err();
    assert!(matches!(
        error,
        Error::Buffer {
            needed: 4,
            got: 3,
            ..
        }
    ));
    let error = cpu.rms_norm_quantize(
        &norm,
        Width::A4,
        layout.with_gathered(true),
        &mut activations,
    );
    assert!(matches!(error, Err(Error::Mismatch { .. })));

    let mut workspace = cpu.workspace(m, k).unwrap();
    let w = weight(8, k);
    let mut run = |activations: &_, w: &PackedWeight| {
        let mut y = vec![bf16::ZERO; m * w.n()];
        let y = MatMut::new(&mut y, m, w.n()).unwrap();
        cpu.run_quantized(activations, w, None, y, &mut workspace)
    };
    run(&activations, &w).unwrap();
    let empty = cpu.quantized_activations(m, k).unwrap();
    let mismatch = |result: w4ax::Result<()>| match result.unwrap_err() {
        Error::Mismatch {
            what,
            expected,
            got,
        } => {
            assert_eq!(what, "quantized activations");
            (expected, got)
        }
        other => panic!("{other}"),
    };
    let (_, got) = mismatch(run(&empty, &w));
    assert_eq!(got, "an empty buffer");
    let other = PlainWeight::random_of(
        Scheme::TwoLevel,
        &mut rng(45),
        (8, k),
        Grouping::G32,
        ScaleType::Bf16,
        true,
    )
    .pack();
    assert_ne!(
        mismatch(run(&activations, &other)).0,
        mismatch(run(&empty, &w)).0
    );
    let order = KOrder::new((0..k as u32).rev().collect()).unwrap();
    let ordered = weight(8, k).with_order(order).unwrap();
    assert!(mismatch(run(&activations, &ordered)).0.contains("gathered"));
    let wide = run(&activations, &weight(8, k + 32)).unwrap_err();
    assert!(matches!(wide, Error::Shape { .. }));
    let scalar = Cpu::with_isa(Isa::Scalar).unwrap();
    if cpu.isa() != Isa::Scalar {
        let mut y = vec![bf16::ZERO; m * 8];
        let y = MatMut::new(&mut y, m, 8).unwrap();
        let result = scalar.run_quantized(&activations, &w, None, y, &mut workspace);
        assert_eq!(mismatch(result).0, "scalar");
    }
}

/// Every output of a token with a NaN or an infinity is NaN, and the other tokens are unchanged.
#[test]
fn a_nan_or_an_infinity_reaches_every_output_of_its_token() {
    let (m, n, k) = (4, 10, 200);
    let rng = &mut rng(46);
    let mut a = Kind::Normal.fill(rng, m * k);
    let g = Kind::Normal.fill(rng, k);
    a[k + 7] = bf16::NAN;
    a[3 * k + 190] = bf16::NEG_INFINITY;
    let x = MatRef::new(&a, m, k).unwrap();
    let w = weight(n, k);
    for cpu in backends() {
        let mut activations = cpu.quantized_activations(m, k).unwrap();
        let mut workspace = cpu.workspace(m, k).unwrap();
        for op in 0..2 {
            match op {
                0 => cpu.rms_norm_quantize(
                    &RmsNorm::new(x, &g, 1e-6),
                    Width::A8,
                    &w,
                    &mut activations,
                ),
                _ => cpu.silu_mul_quantize(&SiluMul::new(x, x), Width::A8, &w, &mut activations),
            }
            .unwrap();
            let y = strided((m, n, 0), |y| {
                cpu.run_quantized(&activations, &w, None, y, &mut workspace)
                    .unwrap();
            });
            for (token, y) in y.chunks(n).enumerate() {
                assert!(
                    y.iter().all(|v| v.is_nan() == (token % 2 == 1)),
                    "token {token}"
                );
            }
        }
    }
    // A GEMM of the BF16 rows agrees.
    let rows = reference::rms_norm(&RmsNorm::new(x, &g, 1e-6)).unwrap();
    let cpu = Cpu::new().unwrap();
    let mut workspace = cpu.workspace(m, k).unwrap();
    let gemm = Gemm::new(MatRef::new(&rows, m, k).unwrap(), &w, Width::A8);
    let y = strided((m, n, 0), |y| cpu.run(&gemm, y, &mut workspace).unwrap());
    assert!(y[n..2 * n].iter().all(|v| v.is_nan()));
}
