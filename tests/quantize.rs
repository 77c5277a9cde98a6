//! The choice of scales, group steps and zero points, with and without a search.

use test_support as support;

use proptest::prelude::*;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use support::rng;
use w4ax::{
    Clipping, Error, Grouping, MatRef, PackedWeight, Quantize, ScaleType, Scheme, Symmetry,
};

const SYMMETRIES: [Symmetry; 2] = [Symmetry::Symmetric, Symmetry::Asymmetric];

/// The two-level symmetric quantization with F32 scales.
fn two_level(clipping: Clipping) -> Quantize {
    Quantize::new(Grouping::G32)
        .with_scheme(Scheme::TwoLevel)
        .with_clipping(clipping)
        .with_scale_type(ScaleType::F32)
}

fn pack(how: Quantize, w: &[f32], n: usize) -> PackedWeight {
    how.pack(MatRef::new(w, n, w.len() / n).unwrap()).unwrap()
}

/// Values of about a normal distribution.
fn normal(rng: &mut ChaCha8Rng, len: usize) -> Vec<f32> {
    let mut value = || (0..4).map(|_| rng.random_range(-1f32..1.0)).sum();
    (0..len).map(|_| value()).collect()
}

/// `sg * sw` of a row and group.
fn pitch(packed: &PackedWeight, row: usize, group: usize) -> f64 {
    f64::from(packed.step(row, group)) * f64::from(packed.scale(row, group))
}

/// The squared error of a row.
fn squared_error(packed: &PackedWeight, w: &[f32], row: usize) -> f64 {
    let (k, q) = (packed.k(), packed.unpack());
    let error = |at: usize| {
        let group = packed.grouping().size().map_or(0, |size| at / size);
        let steps = f64::from(q[row * k + at]) - f64::from(packed.zero(row, group));
        f64::from(w[row * k + at]) - steps * pitch(packed, row, group)
    };
    (0..k).map(|at| error(at).powi(2)).sum()
}

/// The least squared error of a group over the INT4 codes of a grid.
fn least_error(w: &[f32], scale: f32, step: i32, zero: i32) -> f64 {
    let values: Vec<f64> = (-8..8)
        .map(|code| (code - zero) * step)
        .filter(|w8: &i32| w8.abs() <= 127)
        .map(|w8| f64::from(w8) * f64::from(scale))
        .collect();
    let nearest = |w: f32| {
        values
            .iter()
            .map(|v| (f64::from(w) - v).powi(2))
            .reduce(f64::min)
    };
    w.iter().filter_map(|&w| nearest(w)).sum()
}

/// All grouped and two-level quantizations of plain weights.
fn quantize() -> impl Strategy<Value = Quantize> {
    let grouping = proptest::sample::select(Grouping::ALL.to_vec());
    let scheme = proptest::sample::select(Scheme::ALL.to_vec());
    let symmetry = proptest::sample::select(SYMMETRIES.to_vec());
    let types = vec![ScaleType::F32, ScaleType::F16, ScaleType::Bf16];
    let all = (grouping, scheme, symmetry, proptest::sample::select(types));
    all.prop_map(|(grouping, scheme, symmetry, scale_type)| {
        let grouping = match (scheme, grouping) {
            (Scheme::TwoLevel, Grouping::PerChannel) => Grouping::G128,
            _ => grouping,
        };
        Quantize::new(grouping)
            .with_scheme(scheme)
            .with_symmetry(symmetry)
            .with_scale_type(scale_type)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The search is never worse than covering the extremes. Every code is the nearest with an
    /// 8-bit value in range, zero is exact, and the threads do not matter.
    #[test]
    fn search_is_never_worse_and_codes_are_nearest(
        (n, k) in (1usize..20, 1usize..300),
        how in quantize(),
        (offset, magnitude) in (-1f32..1.0, -10i32..4),
        seed in any::<u64>(),
    ) {
        let rng = &mut rng(seed);
        let mut w = normal(rng, n * k);
        w.iter_mut().for_each(|w| *w = (*w + offset) * 2f32.powi(magnitude));
        w[rng.random_range(0..n * k)] *= 8.0;
        w[rng.random_range(0..n * k)] = 0.0;
        let covering = pack(how, &w, n);
        let search = how.with_clipping(Clipping::SquaredError);
        let packed = pack(search, &w, n);
        prop_assert_eq!(packed.scheme(), how.scheme());
        prop_assert_eq!(packed.packed_bytes(), how.packed_bytes(n, k));
        prop_assert_eq!(packed.is_symmetric(), how.symmetry() == Symmetry::Symmetric);
        let threads = rayon::ThreadPoolBuilder::new().num_threads(1 + seed as usize % 4);
        prop_assert_eq!(&threads.build().unwrap().install(|| pack(search, &w, n)), &packed);
        for row in 0..n {
            let (before, after) = (squared_error(&covering, &w, row), squared_error(&packed, &w, row));
            prop_assert!(after <= before * (1.0 + 1e-12), "row {row}: {before:e} {after:e}");
        }
        for packed in [&covering, &packed] {
            let back = packed.dequantize();
            for row in 0..n {
                let mut least = 0.0;
                for g in 0..packed.groups() {
                    let w = &w[row * k..][how.grouping().range(g, k)];
                    let (step, zero) = (packed.step(row, g).into(), packed.zero(row, g).into());
                    least += least_error(w, packed.scale(row, g), step, zero);
                }
                let error = squared_error(packed, &w, row);
                prop_assert!((error - least).abs() <= 1e-9 * least, "row {row}: {error:e} {least:e}");
            }
            for (at, _) in w.iter().enumerate().filter(|(_, w)| **w == 0.0) {
                prop_assert_eq!(back[at], 0.0);
            }
        }
    }

    /// A grouped weight has, per group, the best of the candidates, which are tried one by one
    /// here.
    #[test]
    fn grouped_search_finds_the_best_candidate(
        k in 1usize..200,
        (symmetry, offset) in (proptest::sample::select(SYMMETRIES.to_vec()), -1f32..1.0),
        seed in any::<u64>(),
    ) {
        let w: Vec<f32> = normal(&mut rng(seed), k).iter().map(|w| w + offset).collect();
        let how = Quantize::new(Grouping::G64)
            .with_symmetry(symmetry)
            .with_scale_type(ScaleType::F32);
        let packed = pack(how.with_clipping(Clipping::SquaredError), &w, 1);
        let mut least = 0.0;
        for w in w.chunks(64) {
            let lo = w.iter().fold(0f32, |a, &v| a.min(v));
            let hi = w.iter().fold(0f32, |a, &v| a.max(v));
            let tried = (0..20).flat_map(|i| {
                let share = (1.0 - f64::from(i) / 40.0) as f32;
                let (lo, hi) = (lo * share, hi * share);
                let (scale, zeros) = match symmetry {
                    Symmetry::Symmetric => (hi.max(-lo) / 7.0, 0..=0),
                    Symmetry::Asymmetric => {
                        let scale = hi / 15.0 - lo / 15.0;
                        let zero = (-lo / scale).round_ties_even() as i32 - 8;
                        (scale, zero - 1..=zero + 1)
                    }
                };
                let zeros = zeros.filter(|zero| (-8..=7).contains(zero));
                zeros.map(move |zero| least_error(w, scale, 1, zero))
            });
            least += tried.fold(f64::INFINITY, f64::min);
        }
        let error = squared_error(&packed, &w, 0);
        prop_assert!((error - least).abs() <= 1e-6 * least, "{error:e} {least:e}");
    }

    /// A two-level weight has, per channel, about the best of all tops, and per group exactly the
    /// best of all steps and zero points around the center below the scale that was chosen.
    #[test]
    fn two_level_search_finds_the_best_steps(
        k in 1usize..300,
        (symmetry, offset) in (proptest::sample::select(SYMMETRIES.to_vec()), -1f32..1.0),
        seed in any::<u64>(),
    ) {
        let w: Vec<f32> = normal(&mut rng(seed), k).iter().map(|w| w + offset).collect();
        let absmax = w.iter().fold(0f32, |a, w| a.max(w.abs()));
        let packed = pack(two_level(Clipping::SquaredError).with_symmetry(symmetry), &w, 1);
        let best_at = |scale: f32| -> f64 {
            let best = |w: &[f32]| {
                let zeros = match symmetry {
                    Symmetry::Symmetric => 0..=0,
                    Symmetry::Asymmetric => -8..=7,
                };
                let grids = (1..=16).flat_map(|step| zeros.clone().map(move |zero| (step, zero)));
                let errors = grids.map(|(step, zero)| least_error(w, scale, step, zero));
                errors.fold(f64::INFINITY, f64::min)
            };
            w.chunks(32).map(best).sum()
        };
        let error = squared_error(&packed, &w, 0);
        let at_scale = best_at(packed.scale(0, 0));
        let least = (60..=127u8).map(|top| best_at(absmax / f32::from(top)));
        let least = least.fold(f64::INFINITY, f64::min);
        // Short groups are often exact; an unbounded search has far more zero points for them.
        let scale = f64::from(absmax).powi(2) * k as f64 * 1e-4;
        prop_assert!(error <= 1.15 * at_scale + scale, "{error:e} {at_scale:e}");
        // The error of a few values jumps from one top to the next, and only some are tried.
        if k >= 64 {
            prop_assert!(error <= 1.3 * least + scale, "{error:e} {least:e}");
        }
    }
}

/// Values on a grid are found exactly: `sw` 1, steps 16 and 3.
#[test]
fn finds_an_exact_two_level_grid() {
    let mut w: Vec<f32> = (0..32).map(|i| 16.0 * (i % 15 - 7) as f32).collect();
    w.extend((0..24).map(|i| 3.0 * (i % 15 - 7) as f32)); // A short group.
    for clipping in Clipping::ALL {
        for scale_type in [ScaleType::F32, ScaleType::F16, ScaleType::Bf16] {
            let packed = pack(two_level(clipping).with_scale_type(scale_type), &w, 1);
            assert_eq!(packed.dequantize(), w, "{clipping} {scale_type:?}");
            assert_eq!(packed.scale(0, 0), 1.0);
            assert_eq!([packed.step(0, 0), packed.step(0, 1)], [16, 3]);
        }
    }
    // The tops 84 and 112, with 7 times the steps 12 and 16, are exact: the larger scale is taken.
    let packed = pack(two_level(Clipping::SquaredError), &[126.0], 1);
    assert_eq!((packed.scale(0, 0), packed.step(0, 0)), (1.5, 12));
    // With zero points: 0..=105 in steps of 7, and -45..=0 in steps of 3. The largest |w8| is 105,
    // the top that the search finds.
    let mut w: Vec<f32> = (0..32).map(|i| 7.0 * (i % 16) as f32).collect();
    w.extend((0..32).map(|i| -3.0 * (i % 16) as f32));
    let how = two_level(Clipping::SquaredError).with_symmetry(Symmetry::Asymmetric);
    let packed = pack(how, &w, 1);
    assert_eq!(packed.dequantize(), w);
    assert_eq!([packed.step(0, 0), packed.step(0, 1)], [7, 3]);
    assert_eq!([packed.zero(0, 0), packed.zero(0, 1)], [-8, 7]);
}

/// One value of 10 among ones costs less to clip than to cover.
#[test]
fn clips_an_outlier() {
    let mut w = vec![1f32; 128];
    w.iter_mut().step_by(2).for_each(|w| *w = -1.0);
    w[5] = 10.0;
    let how = Quantize::new(Grouping::G128).with_scale_type(ScaleType::F32);
    let covering = pack(how, &w, 1);
    assert_eq!(covering.scale(0, 0), 10.0 / 7.0);
    // 127 errors of 3/7 and none of the outlier: 23.3.
    let before = squared_error(&covering, &w, 0);
    assert!(
        (before - 127.0 * (3f64 / 7.0).powi(2)).abs() < 1e-4,
        "{before}"
    );
    // At 0.775 of that scale, 127 errors of 3/28 and 2.25 of the outlier: 6.5, the least.
    let packed = pack(how.with_clipping(Clipping::SquaredError), &w, 1);
    let after = squared_error(&packed, &w, 0);
    let expected = 127.0 * (3f64 / 28.0).powi(2) + 2.25 * 2.25;
    assert_eq!(packed.scale(0, 0), 7.75 / 7.0);
    assert!((after - expected).abs() < 1e-4, "{after} {expected}");
}

/// A channel of zeros has scale 0, a group of zeros step 1, and both are zeros again.
#[test]
fn quantizes_zeros() {
    let (n, k) = (3, 75);
    let mut w = normal(&mut rng(3), n * k);
    w[k..2 * k].fill(0.0);
    w[2 * k + 32..2 * k + 64].fill(-0.0);
    for symmetry in SYMMETRIES {
        for clipping in Clipping::ALL {
            let packed = pack(two_level(clipping).with_symmetry(symmetry), &w, n);
            let back = packed.dequantize();
            assert!(back[k..2 * k].iter().all(|&w| w == 0.0));
            assert!(back[2 * k + 32..][..32].iter().all(|&w| w == 0.0));
            assert_eq!(packed.scale(1, 0), 0.0);
            assert_eq!((packed.step(1, 2), packed.step(2, 1)), (1, 1));
            assert!(packed.scale(0, 0) > 0.0 && packed.scale(2, 0) > 0.0);
        }
    }
}

/// At the ends of the range of a scale type, nothing overflows or vanishes, or the error is typed.
#[test]
fn quantizes_extreme_two_level_weights() {
    let rows = [
        [0.9 * f32::MAX, 0.9 * f32::MIN],
        [0.9 * f32::MAX, 0.0],
        [1e-40, -1e-40],
        [f32::from_bits(1), 0.0],
    ];
    for scale_type in [ScaleType::F32, ScaleType::Bf16] {
        for symmetry in SYMMETRIES {
            for clipping in Clipping::ALL {
                let how = two_level(clipping)
                    .with_symmetry(symmetry)
                    .with_scale_type(scale_type);
                let back = pack(how, rows.as_flattened(), 4).dequantize();
                for (&w, back) in rows.as_flattened().iter().zip(back) {
                    let error = (f64::from(w) - f64::from(back)).abs();
                    // Half of the largest step, and a subnormal scale has few bits.
                    assert!(error <= f64::from(w).abs() / 13.0 + 1e-40, "{w:e} {back:e}");
                }
            }
        }
    }
    // A scale of F16 is at most 65504: the largest weights are 127 times that, or 112 times.
    for (clipping, most) in [(Clipping::AbsMax, 112.0), (Clipping::SquaredError, 127.0)] {
        let how = two_level(clipping).with_scale_type(ScaleType::F16);
        let fits = [65504.0 * most];
        assert!(
            how.pack(MatRef::new(&fits, 1, 1).unwrap()).is_ok(),
            "{clipping}"
        );
        let large = [65504.0 * most * 1.001];
        let error = how.pack(MatRef::new(&large, 1, 1).unwrap()).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Range {
                    what: "weight scale",
                    ..
                }
            ),
            "{error}"
        );
        assert!(
            error.to_string().contains("at most 65504 for F16"),
            "{error}"
        );
        // Below the smallest scale, the code is the nearest.
        let small = [2f32.powi(-24) * 3.4];
        assert_eq!(pack(how, &small, 1).dequantize(), [2f32.powi(-24) * 3.0]);
    }
}

#[test]
fn rejects_invalid_two_level_requests() {
    let how = two_level(Clipping::SquaredError);
    let mut w = vec![1f32; 3 * 40];
    w[2 * 40 + 37] = f32::NAN;
    let error = how.pack(MatRef::new(&w, 3, 40).unwrap()).unwrap_err();
    assert!(
        matches!(error, Error::NotFinite { index: 117, .. }),
        "{error}"
    );
    let channel = Quantize::new(Grouping::PerChannel).with_scheme(Scheme::TwoLevel);
    let error = channel
        .pack(MatRef::new(&[1f32; 4], 2, 2).unwrap())
        .unwrap_err();
    let expected = "grouping of a two-level weight is channel: expected g32, g64, g128";
    assert_eq!(error.to_string(), expected);
    let long = vec![0f32; 65_537];
    let error = how
        .pack(MatRef::new(&long, 1, 65_537).unwrap())
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("K of a two-level weight is 65537"),
        "{error}"
    );
    assert!(
        "search"
            .parse::<Clipping>()
            .is_ok_and(|c| c == Clipping::SquaredError)
    );
    let error = "minmax".parse::<Clipping>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "clipping is `minmax`: expected absmax, search"
    );
}
