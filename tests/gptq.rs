//! GPTQ: what it gains over round to nearest on a layer, on the robot's policy, and what it
//! refuses.

use test_support as support;

use half::bf16;
use rand::Rng;
use support::rng;
use w4ax::weights::{Gptq, Hessian};
use w4ax::{
    Clipping, Error, Grouping, MatRef, PackedWeight, Quantize, ScaleType, Scheme, Symmetry,
};

const QUANTIZE: Quantize = Quantize::new(Grouping::G64);

/// A layer, and activations with correlated inputs, as in a model.
struct Layer {
    n: usize,
    k: usize,
    w: Vec<f32>,
    x: Vec<bf16>,
}

impl Layer {
    fn random(seed: u64, (n, k, tokens): (usize, usize, usize)) -> Self {
        let rng = &mut rng(seed);
        let mut normal = || (0..4).map(|_| rng.random_range(-1f32..1.0)).sum::<f32>();
        let w = (0..n * k).map(|_| normal()).collect();
        let sources = k.div_ceil(4);
        let mixing: Vec<f32> = (0..k * sources).map(|_| normal()).collect();
        let mut x = Vec::with_capacity(tokens * k);
        for _ in 0..tokens {
            let source: Vec<f32> = (0..sources).map(|_| normal()).collect();
            for mixing in mixing.chunks(sources) {
                let mixed: f32 = mixing.iter().zip(&source).map(|(m, s)| m * s).sum();
                x.push(bf16::from_f32(mixed + 0.1 * normal()));
            }
        }
        Self { n, k, w, x }
    }

    fn weight(&self) -> MatRef<'_, f32> {
        MatRef::new(&self.w, self.n, self.k).unwrap()
    }

    fn tokens(&self) -> MatRef<'_, bf16> {
        MatRef::new(&self.x, self.x.len() / self.k, self.k).unwrap()
    }

    fn hessian(&self) -> Hessian {
        let mut hessian = Hessian::new(self.k);
        hessian.add(self.tokens()).unwrap();
        hessian
    }

    /// `|X (W - W')^T|^2 / |X W^T|^2`.
    fn output_error(&self, packed: &PackedWeight) -> f64 {
        let back = packed.dequantize();
        let (mut errors, mut outputs) = (0f64, 0f64);
        for x in self.x.chunks(self.k) {
            for (w, back) in self.w.chunks(self.k).zip(back.chunks(self.k)) {
                let (mut error, mut output) = (0f64, 0f64);
                for ((&w, &b), x) in w.iter().zip(back).zip(x) {
                    error += f64::from(w - b) * x.to_f64();
                    output += f64::from(w) * x.to_f64();
                }
                errors += error * error;
                outputs += output * output;
            }
        }
        errors / outputs
    }
}

/// With every grouping, symmetry and scale type and odd shapes, the output error is at most half
/// that of rounding.
#[test]
fn halves_output_error_of_rounding() {
    for grouping in Grouping::ALL {
        for symmetry in [Symmetry::Symmetric, Symmetry::Asymmetric] {
            for scale_type in [ScaleType::F32, ScaleType::F16, ScaleType::Bf16] {
                let quantize = Quantize::new(grouping)
                    .with_symmetry(symmetry)
                    .with_scale_type(scale_type);
                let layer = Layer::random(5, (19, 100, 400));
                let nearest = quantize.pack(layer.weight()).unwrap();
                let packed = Gptq::new(quantize)
                    .pack(layer.weight(), &layer.hessian())
                    .unwrap();
                let (before, after) = (layer.output_error(&nearest), layer.output_error(&packed));
                assert!(after < before / 2.0, "{quantize:?}: {before} {after}");
                assert_eq!(packed.is_symmetric(), symmetry == Symmetry::Symmetric);
                assert_eq!(packed.tiled_scales().scale_type(), scale_type);
            }
        }
    }
}

/// Both schemes and both clippings have at most half of the output error of rounding with the same
/// options. Every 8-bit value is in range, and the scale of a channel is that of the plain row.
#[test]
fn halves_output_error_of_two_level_weights() {
    let mut layer = Layer::random(5, (19, 100, 400));
    // Compensation moves errors far beyond the extremes of a row of zeros and one value.
    layer.w[3 * 100..4 * 100].fill(0.0);
    layer.w[3 * 100 + 7] = 1.0;
    layer.w[4 * 100..5 * 100].fill(0.0);
    for scheme in Scheme::ALL {
        for clipping in Clipping::ALL {
            for symmetry in [Symmetry::Symmetric, Symmetry::Asymmetric] {
                let quantize = Quantize::new(Grouping::G32)
                    .with_scheme(scheme)
                    .with_clipping(clipping)
                    .with_symmetry(symmetry)
                    .with_scale_type(ScaleType::F32);
                let nearest = quantize.pack(layer.weight()).unwrap();
                let packed = Gptq::new(quantize)
                    .pack(layer.weight(), &layer.hessian())
                    .unwrap();
                let (before, after) = (layer.output_error(&nearest), layer.output_error(&packed));
                assert!(after < before / 2.0, "{quantize:?}: {before} {after}");
                assert_eq!(packed.scheme(), scheme);
                let zeros = &packed.dequantize()[4 * 100..5 * 100];
                assert!(zeros.iter().all(|&w| w == 0.0));
                if scheme == Scheme::Grouped {
                    continue;
                }
                for (row, w) in layer.w.chunks(100).enumerate() {
                    let absmax = w.iter().fold(0f32, |a, w| a.max(w.abs()));
                    let tops = match clipping {
                        Clipping::AbsMax => 112..=112,
                        _ => 60..=127u8,
                    };
                    let mut scales = tops.map(|top| absmax / f32::from(top));
                    let scale = packed.scale(row, 0);
                    assert!(scales.any(|s| s == scale), "row {row}: {scale}");
                }
            }
        }
    }
    let channel = Quantize::new(Grouping::PerChannel).with_scheme(Scheme::TwoLevel);
    let error = Gptq::new(channel).pack(layer.weight(), &layer.hessian());
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("grouping of a two-level weight is channel"),
        "{error}"
    );
}

/// Errors are compensated by the formulas of the paper: a plain reference inverts the Hessian for
/// each column.
#[test]
fn matches_formulas() {
    // One group: its scale is chosen before any error is moved, and taken from the packed weight
    // here.
    let layer = Layer::random(6, (5, 40, 90));
    let quantize = Quantize::new(Grouping::PerChannel).with_scale_type(ScaleType::F32);
    let gptq = Gptq::new(quantize).with_damping(0.05);
    let hessian = layer.hessian();
    let packed = gptq.pack(layer.weight(), &hessian).unwrap();
    let k = layer.k;
    let mut h = vec![vec![0f64; k]; k];
    for x in layer.x.chunks(k) {
        for i in 0..k {
            for j in 0..k {
                h[i][j] += x[i].to_f64() * x[j].to_f64();
            }
        }
    }
    let mean = (0..k).map(|i| h[i][i]).sum::<f64>() / k as f64;
    (0..k).for_each(|i| h[i][i] += 0.05 * mean);
    let codes = packed.unpack();
    let rest = |column: usize| -> Vec<Vec<f64>> {
        (h[column..].iter()).map(|h| h[column..].to_vec()).collect()
    };
    let costs: Vec<f64> = (0..k)
        .map(|c| 1.0 / first_row_of_inverse(rest(c))[0])
        .collect();
    for (row, w) in layer.w.chunks(k).enumerate() {
        let scale = f64::from(packed.scale(row, 0));
        // Of the scales that are tried, the one whose errors, before any is moved, cost least.
        let most = w.iter().fold(0f32, |a, w| a.max(w.abs()));
        let tried = (0..20).map(|i| most * (1.0 - f64::from(i) / 40.0) as f32 / 7.0);
        let cost = |scale: f32| -> f64 {
            let errors = w.iter().zip(&costs).map(|(&w, cost)| {
                let code = f64::from(w / scale).round_ties_even().clamp(-8.0, 7.0);
                (f64::from(w) - code * f64::from(scale)).powi(2) * cost
            });
            errors.sum()
        };
        let best = tried.min_by(|a, b| cost(*a).total_cmp(&cost(*b))).unwrap();
        assert_eq!(packed.scale(row, 0), best, "row {row}");
        let mut w: Vec<f64> = w.iter().map(|&w| f64::from(w)).collect();
        for column in 0..k {
            let code = (w[column] / scale).round_ties_even().clamp(-8.0, 7.0);
            assert_eq!(
                f64::from(codes[row * k + column]),
                code,
                "row {row}, k {column}"
            );
            // Of the columns that are left: w -= (w_q - q) / [H^-1]_qq * [H^-1]_q,:
            let inverse = first_row_of_inverse(rest(column));
            let error = (w[column] - code * scale) / inverse[0];
            for (w, i) in w[column..].iter_mut().zip(&inverse) {
                *w -= error * i;
            }
        }
    }
}

/// Returns row 0 of the inverse of a symmetric matrix, by Gauss-Jordan elimination on `A x = e_0`.
fn first_row_of_inverse(mut a: Vec<Vec<f64>>) -> Vec<f64> {
    let n = a.len();
    let mut x = vec![0f64; n];
    x[0] = 1.0;
    for i in 0..n {
        let pivot = a[i][i];
        a[i].iter_mut().for_each(|v| *v /= pivot);
        x[i] /= pivot;
        let (row, value) = (a[i].clone(), x[i]);
        for j in (0..n).filter(|&j| j != i) {
            let factor = a[j][i];
            a[j].iter_mut()
                .zip(&row)
                .for_each(|(v, r)| *v -= factor * r);
            x[j] -= factor * value;
        }
    }
    x
}

/// With uncorrelated inputs, columns are rounded to nearest. An empty calibration is an error.
#[test]
fn rounds_independent_inputs_to_nearest() {
    let layer = Layer::random(7, (20, 70, 1));
    let mut identity = vec![bf16::ZERO; 70 * 70];
    (0..70).for_each(|i| identity[71 * i] = bf16::from_f32(2.0));
    let mut independent = Hessian::new(70);
    independent
        .add(MatRef::new(&identity, 70, 70).unwrap())
        .unwrap();
    assert_eq!((independent.k(), independent.tokens()), (70, 70));
    let gptq = Gptq::new(QUANTIZE);
    let packed = gptq.pack(layer.weight(), &independent).unwrap();
    let codes = packed.unpack();
    for (at, (&w, code)) in layer.w.iter().zip(codes).enumerate() {
        let scale = packed.scale(at / 70, at % 70 / 64);
        let nearest = (w / scale).round_ties_even().clamp(-8.0, 7.0);
        assert_eq!(f32::from(code), nearest, "{at}");
    }
    let error = gptq.pack(layer.weight(), &Hessian::new(70)).unwrap_err();
    assert!(error.to_string().contains("no activations"), "{error}");
}

/// Activations are added in batches, and their sums accumulate.
#[test]
fn accumulates_batches() {
    let layer = Layer::random(8, (17, 48, 60));
    let mut parts = Hessian::new(48);
    for x in layer.x.chunks(7 * 48) {
        parts
            .add(MatRef::new(x, x.len() / 48, 48).unwrap())
            .unwrap();
    }
    assert_eq!(parts.tokens(), 60);
    let gptq = Gptq::new(Quantize::new(Grouping::G32));
    let whole = gptq.pack(layer.weight(), &layer.hessian()).unwrap();
    let (a, b) = (
        layer.output_error(&gptq.pack(layer.weight(), &parts).unwrap()),
        layer.output_error(&whole),
    );
    assert!((a / b - 1.0).abs() < 0.05, "{a} {b}");
}

#[test]
fn rejects_invalid_calibration() {
    let layer = Layer::random(9, (8, 64, 20));
    let mut hessian = layer.hessian();
    let wide = [bf16::ONE; 65];
    let error = hessian.add(MatRef::new(&wide, 1, 65).unwrap()).unwrap_err();
    assert!(matches!(error, Error::Shape { what: "x", .. }), "{error}");
    let mut x = [bf16::ONE; 128];
    x[100] = bf16::NAN;
    let error = hessian.add(MatRef::new(&x, 2, 64).unwrap()).unwrap_err();
    assert!(
        matches!(error, Error::NotFinite { index: 100, .. }),
        "{error}"
    );
    assert_eq!(hessian.tokens(), 20);
    let gptq = Gptq::new(QUANTIZE);
    let error = gptq.pack(layer.weight(), &Hessian::new(63)).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Shape {
                what: "hessian",
                ..
            }
        ),
        "{error}"
    );
    // Twenty tokens say too little of 64 inputs.
    for damping in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let error = gptq
            .with_damping(damping)
            .pack(layer.weight(), &hessian)
            .unwrap_err();
        assert!(
            matches!(
                error,
                Error::Config {
                    field: "damping",
                    ..
                }
            ),
            "{error}"
        );
    }
    let mut w = layer.w.clone();
    w[3 * 64 + 5] = f32::INFINITY;
    let error = gptq
        .pack(MatRef::new(&w, 8, 64).unwrap(), &hessian)
        .unwrap_err();
    assert!(
        matches!(error, Error::NotFinite { index: 197, .. }),
        "{error}"
    );
}
