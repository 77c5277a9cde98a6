//! Quantizing, packing, unpacking, saving and loading weights.

mod files;
mod two_level;

use test_support as support;

use half::{bf16, f16};
use proptest::prelude::*;
use rand::Rng;
use safetensors::SafeTensors;
use std::sync::Mutex;
use support::{PlainWeight, rng};
use w4ax::{
    Error, Grouping, KOrder, MatRef, PackedFile, PackedWeight, Quantize, ScaleType, Scales, Scheme,
    Symmetry,
};

fn quantize() -> impl Strategy<Value = Quantize> {
    let symmetry = prop_oneof![Just(Symmetry::Symmetric), Just(Symmetry::Asymmetric)];
    let scale_type = prop_oneof![
        Just(ScaleType::F32),
        Just(ScaleType::F16),
        Just(ScaleType::Bf16)
    ];
    let grouping = proptest::sample::select(Grouping::ALL.to_vec());
    (grouping, symmetry, scale_type).prop_map(|(grouping, symmetry, scale_type)| {
        Quantize::new(grouping)
            .with_symmetry(symmetry)
            .with_scale_type(scale_type)
    })
}

proptest! {
    /// Packing keeps values, scales and zero points bit for bit, and is deterministic.
    #[test]
    fn pack_and_unpack_round_trip(
        (n, k) in (1usize..100, 1usize..500),
        how in quantize(),
        seed in any::<u64>(),
    ) {
        let symmetric = how.symmetry() == Symmetry::Symmetric;
        let plain = PlainWeight::random(&mut rng(seed), (n, k), how.grouping(), how.scale_type(), symmetric);
        let packed = plain.pack();
        prop_assert_eq!(packed.unpack(), plain.q.clone());
        let groups = packed.groups();
        for row in 0..n {
            for g in 0..groups {
                let at = row * groups + g;
                prop_assert_eq!(packed.scale(row, g).to_bits(), plain.scales.get(at).to_bits());
                prop_assert_eq!(packed.zero(row, g), plain.zeros.as_ref().map_or(0, |z| z[at]));
            }
        }
        prop_assert_eq!(packed.is_symmetric(), symmetric);
        prop_assert_eq!(&plain.pack(), &packed);
    }

    /// No error exceeds half a step, which is absmax / 7 or range / 15.
    #[test]
    fn quantization_rounds_to_nearest(
        (n, k) in (1usize..40, 1usize..300),
        how in quantize(),
        (offset, magnitude) in (-1f32..1.0, -12i32..4),
        seed in any::<u64>(),
    ) {
        let rng = &mut rng(seed);
        let w: Vec<f32> = (0..n * k)
            .map(|_| (rng.random_range(-1f32..1.0) + offset) * 2f32.powi(magnitude))
            .collect();
        let packed = how.pack(MatRef::new(&w, n, k).unwrap()).unwrap();
        let back = packed.dequantize();
        for row in 0..n {
            for g in 0..packed.groups() {
                let range = how.grouping().range(g, k);
                let w = &w[row * k..][range.clone()];
                let hi = w.iter().fold(0f32, |a, &v| a.max(v));
                let lo = w.iter().fold(0f32, |a, &v| a.min(v));
                let exact = match how.symmetry() {
                    Symmetry::Symmetric => hi.max(-lo) / 7.0,
                    Symmetry::Asymmetric => (hi - lo) / 15.0,
                };
                let step = packed.scale(row, g);
                // The stored scale is the exact one rounded: 8 bits in BF16, 11 in F16 (or its
                // smallest step there).
                prop_assert!((step - exact).abs() <= exact / 256.0 + 2f32.powi(-24), "{step} {exact}");
                // Half a step, and a little for f32; at the ends of the grid also what the rounded
                // scale falls short of, at most 15 times (much of a step where F16 has few bits
                // left for it).
                let bound = step * 0.501 + 15.0 * (step - exact).abs() + 1e-30;
                for (a, b) in w.iter().zip(&back[row * k..][range]) {
                    prop_assert!((a - b).abs() <= bound, "{a} {b} {step} {exact}");
                }
            }
        }
    }

    /// Files with several weights load as they were saved.
    #[test]
    fn files_round_trip(
        shapes in proptest::collection::vec((1usize..40, 1usize..200, quantize()), 0..4),
        two_level in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let mut file = PackedFile::default();
        for (at, (n, k, how)) in shapes.into_iter().enumerate() {
            let symmetric = how.symmetry() == Symmetry::Symmetric;
            let plain = PlainWeight::random(&mut rng(seed), (n, k), how.grouping(), how.scale_type(), symmetric);
            file.weights.insert(format!("blocks.{at}.weight"), plain.pack());
            if at % 2 == 1 {
                let mut order: Vec<u32> = (0..k as u32).collect();
                order.rotate_left(k / 3);
                let ordered = plain.pack().with_order(KOrder::new(order).unwrap());
                file.weights.insert(format!("blocks.{at}.ordered"), ordered.unwrap());
            }
            if two_level {
                let shape = (n, k);
                let two_level = PlainWeight::random_of(Scheme::TwoLevel, &mut rng(seed), shape, how.grouping(), how.scale_type(), symmetric);
                let order = KOrder::new((0..k as u32).rev().collect()).unwrap();
                let ordered = two_level.pack().with_order(order).unwrap();
                file.weights.insert(format!("blocks.{at}.two_level"), two_level.pack());
                file.weights.insert(format!("blocks.{at}.two_level_ordered"), ordered);
            }
        }
        let bytes = file.to_bytes().unwrap();
        let has = |predicate: fn(&PackedWeight) -> bool| file.weights.values().any(predicate);
        let version = if has(|w| w.scheme() == Scheme::TwoLevel) {
            "3"
        } else if has(|w| w.order().is_some()) {
            "2"
        } else {
            "1"
        };
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        prop_assert_eq!(&header.metadata().as_ref().unwrap()["version"], version);
        prop_assert_eq!(PackedFile::from_bytes(&bytes, "memory").unwrap(), file);
    }
}

/// Values and dequantized values of a weight with an order are in the order of the matrix.
#[test]
fn unpacks_in_the_order_of_the_matrix() {
    let plain = PlainWeight::random(&mut rng(4), (20, 70), Grouping::G32, ScaleType::F16, true);
    let k: Vec<u32> = (0..70).map(|i| i * 3 % 70).collect();
    let packed = plain.pack();
    let ordered = (packed.clone())
        .with_order(KOrder::new(k.clone()).unwrap())
        .unwrap();
    let mut row = vec![0.0; 70];
    for n in 0..20 {
        ordered.dequantize_row(n, &mut row);
        for (position, &k) in k.iter().enumerate() {
            let (at, to) = (n * 70 + position, n * 70 + k as usize);
            assert_eq!(ordered.unpack()[to], packed.unpack()[at]);
            assert_eq!(ordered.dequantize()[to], packed.dequantize()[at]);
            assert_eq!(row[k as usize], packed.dequantize()[at]);
        }
    }
}

/// Invalid shapes and values are errors; nothing is clamped.
#[test]
fn rejects_invalid_weights() {
    let scales = |n: usize| Scales::F32(vec![1.0; n]);
    let q = vec![0i8; 10 * 70];
    let view = MatRef::new(&q, 10, 70).unwrap();
    let pack = |q: MatRef<'_, i8>, scales: &Scales, zeros: Option<&[i8]>| {
        w4ax::PackedWeight::from_quantized(q, Grouping::G32, scales, zeros)
            .unwrap_err()
            .to_string()
    };
    assert!(pack(view, &scales(29), None).contains("scales"));
    assert!(pack(view, &scales(30), Some(&[0; 29])).contains("zero points"));
    assert!(pack(view, &scales(30), Some(&[9; 30])).contains("zero point is 9"));
    assert!(pack(view, &Scales::F16(vec![f16::NAN; 30]), None).contains("scales"));
    for bad in [8i8, -9] {
        let q = vec![bad; 700];
        let error = pack(MatRef::new(&q, 10, 70).unwrap(), &scales(30), None);
        assert!(
            error.contains(&format!("quantized weight is {bad}")),
            "{error}"
        );
    }
    let long = vec![0i8; 65_537];
    let long = MatRef::new(&long, 1, 65_537).unwrap();
    let error = w4ax::PackedWeight::from_quantized(long, Grouping::PerChannel, &scales(1), None);
    assert!(error.unwrap_err().to_string().contains("65537"));
    assert!(w4ax::PackedWeight::from_quantized(long, Grouping::G128, &scales(513), None).is_ok());

    let how = Quantize::new(Grouping::G64);
    let mut w = vec![0.5f32; 3 * 100];
    w[217] = f32::NEG_INFINITY;
    let error = how.pack(MatRef::new(&w, 3, 100).unwrap()).unwrap_err();
    assert!(
        matches!(error, Error::NotFinite { index: 217, .. }),
        "{error}"
    );
    w[217] = 1e30;
    let f16 = how.with_scale_type(ScaleType::F16);
    let error = f16.pack(MatRef::new(&w, 3, 100).unwrap()).unwrap_err();
    assert!(error.to_string().contains("scale"), "{error}");
    assert!(how.pack(MatRef::new(&w, 3, 100).unwrap()).is_ok());
    let empty: [f32; 0] = [];
    assert!(how.pack(MatRef::new(&empty, 0, 100).unwrap()).is_err());
    assert!(how.pack(MatRef::new(&empty, 4, 0).unwrap()).is_err());
}

/// At the ends of the range of f32, no BF16 or F32 scale overflows or vanishes.
#[test]
fn quantizes_extreme_weights() {
    let rows: [[f32; 2]; 6] = [
        // The end of a grid lies up to half a step beyond the extreme: 0.9 leaves room for it in
        // f32.
        [0.9 * f32::MAX, 0.9 * f32::MIN],
        [0.9 * f32::MAX, 0.0],
        [1e-40, -1e-40],
        [f32::from_bits(1), 0.0],
        [0.0, -0.0],
        [bf16::MAX.to_f32(), 1.0],
    ];
    for scale_type in [ScaleType::F32, ScaleType::Bf16] {
        for symmetry in [Symmetry::Symmetric, Symmetry::Asymmetric] {
            let how = Quantize::new(Grouping::G32)
                .with_scale_type(scale_type)
                .with_symmetry(symmetry);
            let packed = how
                .pack(MatRef::new(rows.as_flattened(), 6, 2).unwrap())
                .unwrap();
            for (row, back) in rows.iter().zip(packed.dequantize().chunks(2)) {
                let span =
                    f64::from(row[0].max(row[1]).max(0.0)) - f64::from(row[0].min(row[1]).min(0.0));
                for (&a, &b) in row.iter().zip(back) {
                    // A subnormal scale has few bits: a whole step there.
                    let bound = span / 7.0 * 0.55 + 1e-40;
                    assert!(
                        (f64::from(a) - f64::from(b)).abs() <= bound,
                        "{a:e} {b:e} {how:?}"
                    );
                }
            }
        }
    }
}

/// Progress counts each row once and reaches the number of rows once.
#[test]
fn reports_progress() {
    let (n, k) = (1003, 200);
    let w = vec![bf16::ONE; n * k];
    let seen = Mutex::new(Vec::new());
    Quantize::new(Grouping::G128)
        .pack_with_progress(MatRef::new(&w, n, k).unwrap(), |done, all| {
            assert_eq!(all, n);
            seen.lock().unwrap().push(done);
        })
        .unwrap();
    let mut seen = seen.into_inner().unwrap();
    seen.sort_unstable();
    assert_eq!(seen.len(), n.div_ceil(16));
    assert_eq!(seen.last(), Some(&n));
    assert!(seen.windows(2).all(|w| w[0] < w[1]));
}
