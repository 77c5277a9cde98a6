//! Error bounds of the results against the exact product.

use test_support as support;

use half::bf16;
use proptest::prelude::*;
use rand::Rng;
use support::{Kind, PlainWeight, WIDTHS, rng};
use w4ax::cpu::Cpu;
use w4ax::reference::{self, QuantizedMatrix, matmul_f64};
use w4ax::{Gemm, Grouping, MatMut, MatRef, PackedWeight, ScaleType, Scheme, Width};

/// The error bound of one output at a quantized width, from the quantization steps.
///
/// The error of an activation is at most half the step of its group (plus the roundings of its
/// computation, below 2^-10 steps), or the activation itself if the group counts as zero. It is
/// multiplied with |w|. The f32 chain adds one rounding of `sa*sw`, one of `f32(d)` and one of the
/// fma for each group of the activations, each relative to at most the sum of the magnitudes; BF16
/// adds half a unit.
fn bound(
    a: &QuantizedMatrix,
    w: &PackedWeight,
    x: &[bf16],
    token: usize,
    row: usize,
    q: &[i8],
) -> f64 {
    let (k, groups) = (w.k(), w.activation_grouping().groups(w.k()));
    let (mut steps, mut magnitude) = (0.0, 0.0);
    for g in 0..w.groups() {
        let info = a.groups()[token * groups + g.min(groups - 1)];
        let (sw, sa) = (f64::from(w.scale(row, g)).abs(), f64::from(info.scale));
        for at in w.grouping().range(g, k) {
            let q = i32::from(q[row * k + at]) - i32::from(w.zero(row, g));
            let weight = sw * f64::from(q * i32::from(w.step(row, g))).abs();
            let code = f64::from(i32::from(a.values()[token * k + at]) - info.zero);
            let off = if sa == 0.0 {
                x[at].to_f64().abs()
            } else {
                sa * (0.5 + 2f64.powi(-10))
            };
            steps += weight * off;
            magnitude += weight * (code * sa).abs();
        }
    }
    steps + magnitude * 2f64.powi(-22) * (groups as f64 + 2.0) + f64::from(f32::MIN_POSITIVE)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// A2, A4 and A8 against the f64 product of the unquantized activations.
    #[test]
    fn quantized_results_are_within_error_bound(
        (m, n, k) in (1usize..5, 1usize..20, 1usize..400),
        width in proptest::sample::select(vec![Width::A2, Width::A4, Width::A8]),
        grouping in proptest::sample::select(Grouping::ALL.to_vec()),
        kind in proptest::sample::select(vec![Kind::Normal, Kind::Outlier, Kind::Offset, Kind::Zeros, Kind::Denormals, Kind::Threshold]),
        symmetric in any::<bool>(),
        scheme in proptest::sample::select(Scheme::ALL.to_vec()),
        seed in any::<u64>(),
    ) {
        let rng = &mut rng(seed);
        let w = PlainWeight::random_of(scheme, rng, (n, k), grouping, ScaleType::F32, symmetric).pack();
        let data = kind.fill(rng, m * k);
        let x = MatRef::new(&data, m, k).unwrap();
        let exact = matmul_f64(x, &w).unwrap();
        let got = reference::gemm(x, &w, width, None).unwrap();
        let a = QuantizedMatrix::new(x, width, w.activation_grouping()).unwrap();
        let q = w.unpack();
        for at in 0..m * n {
            let (y, exact) = (got[at].to_f64(), exact[at]);
            let bound = bound(&a, &w, x.row(at / n), at / n, at % n, &q) * 1.000001 + y.abs() / 256.0;
            prop_assert!((y - exact).abs() <= bound, "{} {} bound {}", y, exact, bound);
        }
    }

    /// BF16 against the f64 product: the bounds of `numerics`, then one rounding. Every instruction
    /// set has the bits of the reference (`tests/gemm`).
    #[test]
    fn bf16_results_are_within_error_bound(
        (m, n, k) in (1usize..5, 1usize..20, 1usize..600),
        grouping in proptest::sample::select(Grouping::ALL.to_vec()),
        kind in proptest::sample::select(vec![Kind::Normal, Kind::Outlier, Kind::Offset, Kind::Zeros]),
        (symmetric, with_bias) in any::<(bool, bool)>(),
        scheme in proptest::sample::select(Scheme::ALL.to_vec()),
        seed in any::<u64>(),
    ) {
        let rng = &mut rng(seed);
        let w = PlainWeight::random_of(scheme, rng, (n, k), grouping, ScaleType::Bf16, symmetric).pack();
        let data = kind.fill(rng, m * k);
        let x = MatRef::new(&data, m, k).unwrap();
        let product = matmul_f64(x, &w).unwrap();
        let bias: Vec<f32> = (0..n).map(|_| rng.random_range(-3f32..3.0)).collect();
        let bias = (with_bias && scheme == Scheme::TwoLevel).then_some(bias.as_slice());
        let got = reference::gemm(x, &w, Width::Bf16, bias).unwrap();
        let back = w.dequantize();
        let group = w.grouping().size().unwrap_or(k) as f64;
        for at in 0..m * n {
            let (token, row) = (at / n, at % n);
            let magnitude: f64 = (0..k)
                .map(|k_| x.row(token)[k_].to_f64().abs() * f64::from(back[row * k + k_]).abs())
                .sum();
            let exact = product[at] + bias.map_or(0.0, |bias| f64::from(bias[row]));
            let y = got[at].to_f64();
            let bound = 2f64.powi(-22) * 1.000001 * magnitude * match scheme {
                Scheme::TwoLevel => k as f64,
                _ => group + w.groups() as f64,
            } + y.abs() * 2f64.powi(-24) * 1.01;
            prop_assert!((y - exact).abs() <= bound + y.abs() / 256.0, "{} {}", y, exact);
        }
    }

    /// With small integers BF16 is exact, so every order of summation returns the same bits.
    #[test]
    fn bf16_is_exact_on_small_integers(
        (n, k) in (1usize..20, 1usize..300),
        grouping in proptest::sample::select(Grouping::ALL.to_vec()),
        scheme in proptest::sample::select(Scheme::ALL.to_vec()),
        seed in any::<u64>(),
    ) {
        let rng = &mut rng(seed);
        let mut plain = PlainWeight::random_of(scheme, rng, (n, k), grouping, ScaleType::Bf16, false);
        plain.scales = w4ax::Scales::F32(vec![0.5; plain.scales.len()]);
        let w = plain.pack();
        let data: Vec<bf16> = Kind::Normal.fill(rng, k).iter().map(|v| bf16::from_f32((v.to_f32() * 8.0).round())).collect();
        let x = MatRef::new(&data, 1, k).unwrap();
        let exact = matmul_f64(x, &w).unwrap();
        let got = reference::gemm(x, &w, Width::Bf16, None).unwrap();
        for (y, exact) in got.iter().zip(exact) {
            prop_assert_eq!(*y, bf16::from_f64(exact));
        }
    }

    /// `QuantizedMatrix` holds what the reference computes with: a weight of ones returns the sums.
    #[test]
    fn activation_error_is_at_most_half_a_step(
        k in 1usize..300,
        width in proptest::sample::select(vec![Width::A2, Width::A4, Width::A8]),
        grouping in proptest::sample::select(Grouping::ALL.to_vec()),
        kind in proptest::sample::select(vec![Kind::Normal, Kind::Outlier, Kind::Offset, Kind::Extremes]),
        seed in any::<u64>(),
    ) {
        let data = kind.fill(&mut rng(seed), k);
        let a = QuantizedMatrix::new(MatRef::new(&data, 1, k).unwrap(), width, grouping).unwrap();
        for (g, info) in a.groups().iter().enumerate() {
            let range = grouping.range(g, k);
            let sum: i32 = a.values()[range.clone()].iter().map(|&v| i32::from(v)).sum();
            prop_assert_eq!(sum, info.sum);
            prop_assert!(info.zero >= 0 && info.zero <= i32::from(width.qmax().unwrap()));
            for at in range {
                // In f64: the largest code times its step may round to beyond f32.
                let code = f64::from(i32::from(a.values()[at]) - info.zero);
                let off = (code * f64::from(info.scale) - data[at].to_f64()).abs();
                prop_assert!(off <= f64::from(info.scale) * (0.5 + 2f64.powi(-10)), "{} {}", off, info.scale);
            }
        }
    }
}

/// A large outlier increases the error of its own group only.
#[test]
fn outliers_affect_only_their_group() {
    let mut data = vec![bf16::from_f32(0.5); 256];
    data[70] = bf16::from_f32(1e30);
    let x = MatRef::new(&data, 1, 256).unwrap();
    let a = QuantizedMatrix::new(x, Width::A8, Grouping::G64).unwrap();
    let back = a.dequantize();
    for (k, v) in back.iter().enumerate() {
        match k {
            70 => assert!((v / 1e30 - 1.0).abs() < 0.01),
            64..128 => assert_eq!(*v, 0.0),
            _ => assert!((v - 0.5).abs() < 1e-6),
        }
    }
}

/// The edge cases of `numerics`, through a GEMM.
#[test]
fn handles_zeros_denormals_and_thresholds() {
    let one = PlainWeight {
        n: 1,
        k: 32,
        grouping: Grouping::G32,
        q: vec![1; 32],
        scales: w4ax::Scales::F32(vec![1.0]),
        steps: None,
        zeros: None,
    }
    .pack();
    let cpu = Cpu::new().unwrap();
    let run = |x: &[bf16], width| {
        let mut y = [bf16::NAN];
        let mut workspace = cpu.workspace(1, 32).unwrap();
        let y_view = MatMut::new(&mut y, 1, 1).unwrap();
        let gemm = Gemm::new(MatRef::new(x, 1, 32).unwrap(), &one, width);
        cpu.run(&gemm, y_view, &mut workspace).unwrap();
        y[0]
    };
    for width in WIDTHS {
        assert_eq!(run(&[bf16::ZERO; 32], width).to_bits(), 0, "plus zero");
        assert_eq!(run(&[bf16::NEG_ZERO; 32], width).to_bits(), 0);
    }
    for width in [Width::A2, Width::A4, Width::A8] {
        let levels = f32::from(width.qmax().unwrap());
        assert_eq!(
            run(&[bf16::from_bits(0x7F); 32], width).to_bits(),
            0,
            "denormals"
        );
        // A step of exactly 2^-64 counts, the next smaller BF16 range does not.
        let mut x = [bf16::ZERO; 32];
        x[3] = bf16::from_f32(levels * 2f32.powi(-64));
        assert_eq!(run(&x, width), x[3]);
        x[3] = bf16::from_bits(x[3].to_bits() - 1);
        assert_eq!(run(&x, width).to_bits(), 0);
        // Both ends of BF16 in one group: the sum of codes cancels as well as the grid lets it.
        let mut x = [bf16::ZERO; 32];
        (x[0], x[1]) = (bf16::MAX, bf16::MIN);
        let y = run(&x, width).to_f64();
        assert!(
            y.abs() <= bf16::MAX.to_f64() * 2.0 / f64::from(levels),
            "{y}"
        );
    }
    // BF16 keeps what is small, and follows IEEE 754 for what is not finite.
    assert_eq!(
        run(&[bf16::from_bits(1); 32], Width::Bf16),
        bf16::from_bits(32)
    );
    let mut x = [bf16::ONE; 32];
    x[9] = bf16::INFINITY;
    assert_eq!(run(&x, Width::Bf16), bf16::INFINITY);
    x[10] = bf16::NEG_INFINITY;
    assert_eq!(run(&x, Width::Bf16).to_bits(), 0x7FFF);
}
