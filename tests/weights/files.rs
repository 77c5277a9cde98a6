//! Files of packed weights: versions, and what is rejected.

use half::{bf16, f16};
use proptest::prelude::*;
use test_support::{PlainWeight, rng};
use w4ax::{Error, Grouping, KOrder, MatRef, PackedFile, PackedWeight, ScaleType, Scales, Scheme};

/// A small valid file.
fn small_file() -> PackedFile {
    small_file_of(Scheme::Grouped)
}

/// A small valid file with a weight of a scheme.
pub fn small_file_of(scheme: Scheme) -> PackedFile {
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
pub fn with_header(bytes: &[u8], change: impl Fn(&mut serde_json::Value)) -> Vec<u8> {
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
