//! Quantizing, packing, unpacking, saving and loading weights.

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

/// A small valid file.
fn small_file() -> PackedFile {
    small_file_of(Scheme::Grouped)
}

/// A small valid file with a weight of a scheme.
fn small_file_of(scheme: Scheme) -> PackedFile {
    let (grouping, scales) = (Grouping::G32, ScaleType::F16);
    let plain = PlainWeight::random_of(scheme, &mut rng(1), (20, 70), grouping, scales, false);
    PackedFile {
        weights: [("w".to_string(), plain.pack())].into(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// A file with changed or missing bytes is rejected or valid, and never panics.
    #[test]
    fn mutated_files_never_panic(
        scheme in proptest::sample::select(Scheme::ALL.to_vec()),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        header_only in any::<bool>(),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = small_file_of(scheme).to_bytes().unwrap();
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let range = if header_only { header } else { bytes.len() };
        for (at, value) in changes {
            bytes[at.index(range)] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(file) = PackedFile::from_bytes(&bytes, "mutated") {
            for w in file.weights.values() {
                w.dequantize();
            }
        }
    }
}

/// An order that is missing, has another length or is not a permutation.
#[test]
fn rejects_invalid_orders() {
    let w = small_file().weights["w"].clone();
    let order = |order: Vec<u32>| KOrder::new(order).unwrap();
    assert!(w.clone().with_order(order((0..69).collect())).is_err());
    let same = w.clone().with_order(order((0..70).collect())).unwrap();
    assert_eq!(same, w, "the order of the matrix is no order");
    let ordered = w.with_order(order((0..70).rev().collect())).unwrap();
    let file = PackedFile {
        weights: [("w".to_string(), ordered)].into(),
    };
    let bytes = file.to_bytes().unwrap();
    let missing = with_header(&bytes, |h| {
        let order = h.as_object_mut().unwrap().remove("w.order").unwrap();
        h["other"] = order;
    });
    let error = PackedFile::from_bytes(&missing, "some").unwrap_err();
    assert!(
        matches!(&error, Error::MissingTensor { name, .. } if name == "w.order"),
        "{error}"
    );
    let shape = with_header(&bytes, |h| {
        h["w.order"]["shape"] = serde_json::json!([35, 2])
    });
    let error = PackedFile::from_bytes(&shape, "some")
        .unwrap_err()
        .to_string();
    assert!(error.contains("`w.order` is U32 [35, 2]"), "{error}");
    // The order is written as 69, 68, ...: the second becomes the first.
    let mut twice = bytes.clone();
    let at = twice
        .windows(8)
        .position(|b| b == [69, 0, 0, 0, 68, 0, 0, 0])
        .unwrap();
    twice[at + 4] = 69;
    let error = PackedFile::from_bytes(&twice, "some")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("weight `w`") && error.contains("order of k"),
        "{error}"
    );
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

/// `tests/data/packed` contains a file of each version, written by the crate before it had
/// [`PackedWeight::order`].
#[test]
fn loads_files_of_every_version() {
    let weight = |n: usize, k: usize, grouping: Grouping, scale_type, zeros: bool| {
        let q: Vec<i8> = (0..n * k).map(|i| (i * 7 % 16) as i8 - 8).collect();
        let count = n * grouping.groups(k);
        let values = (0..count).map(|i| (1 + i % 5) as f32 / 8.0);
        let scales = match scale_type {
            ScaleType::F32 => Scales::F32(values.collect()),
            ScaleType::F16 => Scales::F16(values.map(f16::from_f32).collect()),
            ScaleType::Bf16 => Scales::Bf16(values.map(bf16::from_f32).collect()),
        };
        let zeros: Option<Vec<i8>> =
            zeros.then(|| (0..count).map(|i| (i % 17) as i8 - 8).collect());
        let q = MatRef::new(&q, n, k).unwrap();
        PackedWeight::from_quantized(q, grouping, &scales, zeros.as_deref()).unwrap()
    };
    let symmetric = weight(20, 100, Grouping::G32, ScaleType::F16, false);
    let asymmetric = weight(17, 70, Grouping::PerChannel, ScaleType::F32, true);
    let order = KOrder::new((0..136).map(|i| i * 5 % 136).collect()).unwrap();
    let ordered = weight(18, 136, Grouping::G64, ScaleType::Bf16, true).with_order(order);
    let ordered = ordered.unwrap();
    for (version, weights) in [
        (
            1,
            [("asymmetric", &asymmetric), ("symmetric", &symmetric)].as_slice(),
        ),
        (
            2,
            &[
                ("asymmetric", &asymmetric),
                ("ordered", &ordered),
                ("symmetric", &symmetric),
            ],
        ),
    ] {
        let path = format!("tests/data/packed/version_{version}.safetensors");
        let file = PackedFile::load(&path).unwrap();
        let loaded: Vec<(&str, &PackedWeight)> = file
            .weights
            .iter()
            .map(|(name, w)| (name.as_str(), w))
            .collect();
        assert_eq!(loaded, weights, "{path}");
        assert_eq!(
            file.to_bytes().unwrap().len(),
            std::fs::read(&path).unwrap().len()
        );
    }
}

/// Rewrites the header of a file.
fn with_header(bytes: &[u8], change: impl Fn(&mut serde_json::Value)) -> Vec<u8> {
    let len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + len]).unwrap();
    change(&mut header);
    let mut text = serde_json::to_vec(&header).unwrap();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut out = (text.len() as u64).to_le_bytes().to_vec();
    out.extend(text);
    out.extend(&bytes[8 + len..]);
    out
}

/// Truncated, foreign, newer and inconsistent files are rejected by specific errors.
#[test]
fn rejects_invalid_files() {
    let good = small_file().to_bytes().unwrap();
    let weights = |json: &str| {
        let json = json.to_string();
        with_header(&good, move |h| {
            h["__metadata__"]["weights"] = json.clone().into()
        })
    };
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (good[..good.len() - 1].to_vec(), "file not fully covered"),
        (good[..40].to_vec(), "header"),
        (Vec::new(), "header"),
        (b"PK\x03\x04 something else entirely".to_vec(), "header"),
        (
            with_header(&good, |h| h["__metadata__"]["format"] = "pt".into()),
            "not a w4ax file",
        ),
        (
            with_header(&good, |h| h["__metadata__"]["version"] = "4".into()),
            "format version Some(\"4\")",
        ),
        (
            with_header(&good, |h| h["__metadata__"]["version"] = "one".into()),
            "format version",
        ),
        (weights("{"), "metadata `weights`"),
        (weights(r#"{"w":{"n":20,"k":70,"group":48}}"#), "group size"),
        (
            weights(r#"{"w":{"n":20,"k":70,"group":32,"scheme":"three-level"}}"#),
            "scheme is `three-level`",
        ),
        (
            weights(r#"{"w":{"n":20,"k":70,"group":32,"scheme":"two-level"}}"#),
            "`w.scales` is F16 [2, 3, 16]",
        ),
        (weights(r#"{"w":{"n":20,"k":170,"group":32}}"#), "w.tiles"),
        (weights(r#"{"w":{"n":20,"k":66,"group":32}}"#), "pad"),
        (weights(r#"{"w":{"n":0,"k":70,"group":32}}"#), "weight"),
        (weights(r#"{"v":{"n":20,"k":70,"group":32}}"#), "v.tiles"),
        (
            weights(r#"{"w":{"n":18446744073709551615,"k":70,"group":32}}"#),
            "w.tiles",
        ),
    ];
    for (bytes, expected) in cases {
        let error = PackedFile::from_bytes(&bytes, "some.safetensors")
            .unwrap_err()
            .to_string();
        assert!(error.contains("some.safetensors"), "{error}");
        assert!(error.contains(expected), "`{expected}` is not in: {error}");
    }
}

#[test]
fn saves_and_loads_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let file = small_file();
    file.save(&path).unwrap();
    file.save(&path).unwrap();
    assert_eq!(PackedFile::load(&path).unwrap(), file);
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        1,
        "no temporary file stays"
    );
    let missing = folder.path().join("nowhere/w.safetensors");
    for error in [
        file.save(&missing).unwrap_err(),
        PackedFile::load(&missing).unwrap_err(),
    ] {
        assert!(
            matches!(&error, Error::Io { file, .. } if file.contains("nowhere")),
            "{error}"
        );
    }
    assert!(matches!(file.get("x"), Err(Error::MissingTensor { name, .. }) if name == "x"));
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

/// Values, steps, scales and zero points of a two-level weight are kept bit for bit.
#[test]
fn two_level_weights_round_trip() {
    let rng = &mut rng(12);
    for ((n, k), grouping, scale_type, symmetric) in [
        ((1, 1), Grouping::G32, ScaleType::F32, true),
        ((16, 64), Grouping::G64, ScaleType::Bf16, true),
        ((37, 333), Grouping::G32, ScaleType::F16, false),
        ((40, 300), Grouping::G128, ScaleType::F32, false),
    ] {
        let plain = PlainWeight::random_two_level(rng, (n, k), grouping, scale_type, symmetric);
        let (packed, groups) = (plain.pack(), grouping.groups(k));
        assert_eq!(packed.scheme(), Scheme::TwoLevel);
        assert_eq!(packed.activation_grouping(), Grouping::PerChannel);
        assert_eq!(packed.unpack(), plain.q);
        let steps = plain.steps.as_ref().unwrap();
        let tiled = packed.tiled_steps().unwrap();
        assert_eq!(tiled.len(), n.next_multiple_of(16) * groups);
        let sum = |steps: &[u8]| steps.iter().map(|&s| usize::from(s)).sum::<usize>();
        assert_eq!(sum(tiled), sum(steps), "the padding is 0");
        let back = packed.dequantize();
        for (i, &q) in plain.q.iter().enumerate() {
            let (row, group) = (i / k, grouping.size().map_or(0, |size| i % k / size));
            let at = row * groups + group;
            let zero = plain.zeros.as_ref().map_or(0, |zeros| zeros[at]);
            assert_eq!(packed.step(row, group), steps[at]);
            assert_eq!(packed.zero(row, group), zero);
            assert_eq!(packed.scale(row, group), plain.scales.get(row));
            let w8 = (i32::from(q) - i32::from(zero)) * i32::from(steps[at]);
            assert_eq!(back[i], w8 as f32 * plain.scales.get(row));
        }
        let grouped = PlainWeight {
            steps: None,
            ..plain.clone()
        };
        let scales = PlainWeight::random(rng, (n, k), grouping, scale_type, symmetric).scales;
        let grouped = PlainWeight { scales, ..grouped }.pack();
        assert_eq!(
            grouped.tiles(),
            packed.tiles(),
            "the bytes of the tiles are those of INT4"
        );
        assert_eq!((grouped.scheme(), grouped.step(0, 0)), (Scheme::Grouped, 1));
        assert_eq!(grouped.tiled_steps(), None);
    }
}

/// Every constructor rejects a two-level weight that its arithmetic does not support.
#[test]
fn rejects_invalid_two_level_weights() {
    let (n, k) = (10, 70);
    let scales = |n: usize| Scales::F32(vec![1.0; n]);
    let mut q = vec![0i8; n * k];
    let pack = |q: &[i8], grouping, steps: &[u8], scales: &Scales, zeros: Option<&[i8]>| {
        let k = q.len() / n;
        PackedWeight::from_two_level(
            MatRef::new(q, n, k).unwrap(),
            grouping,
            steps,
            scales,
            zeros,
        )
    };
    let error = |q: &[i8], grouping, steps: &[u8], scales: &Scales, zeros: Option<&[i8]>| {
        pack(q, grouping, steps, scales, zeros)
            .unwrap_err()
            .to_string()
    };
    let (g32, steps) = (Grouping::G32, [1; 30]);
    let text = error(&q, g32, &steps, &scales(30), None);
    assert!(
        text.contains("scales has shape [30]: expected [10]"),
        "{text}"
    );
    assert!(error(&q, g32, &[1; 29], &scales(10), None).contains("group steps"));
    assert!(error(&q, g32, &steps, &scales(10), Some(&[0; 29])).contains("zero points"));
    assert!(error(&q, g32, &steps, &scales(10), Some(&[9; 30])).contains("zero point is 9"));
    assert!(error(&q, g32, &[0; 30], &scales(10), None).contains("group step is 0"));
    assert!(error(&q, g32, &[17; 30], &scales(10), None).contains("group step is 17"));
    let channel = error(&q, Grouping::PerChannel, &[1; 10], &scales(10), None);
    assert!(
        channel.contains("grouping of a two-level weight is channel"),
        "{channel}"
    );
    assert!(matches!(
        pack(&q, g32, &steps, &Scales::F32(vec![f32::NAN; 10]), None),
        Err(Error::NotFinite { .. })
    ));
    let long = vec![0i8; n * 65_537];
    let text = error(&long, Grouping::G128, &vec![1; n * 513], &scales(10), None);
    assert!(text.contains("K of a two-level weight is 65537"), "{text}");

    // The first bad value is named, and its neighbors at the limit are valid.
    let mut steps = [16; 30];
    q[3 * k + 69] = -8;
    q[5 * k] = -8;
    let found = pack(&q, g32, &steps, &scales(10), None).unwrap_err();
    assert!(
        matches!(
            found,
            Error::Weight8 {
                row: 3,
                k: 69,
                value: -128
            }
        ),
        "{found}"
    );
    assert_eq!(
        found.to_string(),
        "8-bit weight of row 3, k 69 is -128: expected -127..=127"
    );
    (steps[3 * 3 + 2], steps[5 * 3]) = (15, 1);
    assert!(pack(&q, g32, &steps, &scales(10), None).is_ok());
    let mut zeros = [0; 30];
    zeros[3 * 3 + 2] = 1;
    assert!(matches!(
        pack(&q, g32, &steps, &scales(10), Some(&zeros)),
        Err(Error::Weight8 {
            row: 3,
            k: 69,
            value: -135
        })
    ));
}

/// A file of a two-level weight without its steps, or with a value that the arithmetic does not
/// support, is rejected by name.
#[test]
fn rejects_invalid_two_level_files() {
    let good = small_file_of(Scheme::TwoLevel).to_bytes().unwrap();
    let data = 8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    let (_, header) = SafeTensors::read_metadata(&good).unwrap();
    let start = |name: &str| data + header.info(name).unwrap().data_offsets.0;
    let set = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let error = |bytes: &[u8]| PackedFile::from_bytes(bytes, "some").unwrap_err();
    let missing = with_header(&good, |h| {
        let steps = h.as_object_mut().unwrap().remove("w.steps").unwrap();
        h["other"] = steps;
    });
    assert!(matches!(error(&missing), Error::MissingTensor { name, .. } if name == "w.steps"));
    // Row 0 of group 0, and row 20 of [2][3 groups][16], which is beyond N.
    let (steps, pad) = (start("w.steps"), 3 * 16 + 4);
    for (bytes, expected) in [
        (set(steps, 0), "group step is 0"),
        (set(steps, 17), "group step is 17"),
        (
            set(steps + pad, 1),
            "the padding of `w.steps` at row 20 is not 0",
        ),
        (
            set(start("w.zeros") + pad, 1),
            "the padding of `w.zeros` at row 20 is not 0",
        ),
        // Row 20 of [2][16], two bytes each.
        (
            set(start("w.scales") + 2 * 20, 1),
            "the padding of `w.scales` at row 20 is not 0",
        ),
        (set(start("w.zeros"), 9), "zero point is 9"),
    ] {
        let error = error(&bytes).to_string();
        assert!(
            error.contains("weight `w`") && error.contains(expected),
            "{error}"
        );
    }
    // -8 at row 0, k 0 with the zero point 8: |w8| is 16 times the step.
    let mut bytes = good.clone();
    bytes[start("w.tiles")] = bytes[start("w.tiles")] & 0xF0 | 8;
    bytes[start("w.zeros")] = 8;
    bytes[steps] = 8;
    let error = error(&bytes).to_string();
    assert!(
        error.contains("8-bit weight of row 0, k 0 is -128"),
        "{error}"
    );
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
