//! Invalid tensors, files and indices: errors name the tensor or the file, and nothing panics.

use proptest::prelude::*;
use safetensors::tensor::Dtype;
use w4ax::Error;
use w4ax::checkpoint::Checkpoint;

use crate::case::{Copy, folder};

/// Tensors that are missing, have another type or shape, or hold invalid values.
#[test]
fn rejects_invalid_tensors_by_file_and_name() {
    type Change = fn(&mut test_support::TensorFile);
    fn i32s(values: impl IntoIterator<Item = i32>) -> Vec<u8> {
        values.into_iter().flat_map(i32::to_le_bytes).collect()
    }
    let cases: Vec<(&str, Change, &str, &str)> = vec![
        (
            "awq_gemm",
            |t| t.remove("model.a.scales"),
            "model.a.scales",
            "no tensor",
        ),
        (
            "awq_gemm",
            |t| t.set("model.a.qweight", Dtype::I64, &[192, 2], vec![0; 192 * 16]),
            "model.a.qweight",
            "I64",
        ),
        (
            "awq_gemm",
            |t| t.set("model.a.scales", Dtype::F64, &[3, 32], vec![0; 768]),
            "model.a.scales",
            "F64",
        ),
        (
            "awq_gemm",
            |t| t.set("model.a.qzeros", Dtype::I32, &[2, 4], vec![0; 32]),
            "model.a.qzeros",
            "[2, 4]",
        ),
        (
            "awq_gemm",
            |t| {
                t.set(
                    "model.a.scales",
                    Dtype::F16,
                    &[3, 32],
                    [0x00, 0x7C].repeat(96),
                )
            },
            "model.a",
            "element 0 of weight scales is inf",
        ),
        (
            "gptq_v1_sym",
            |t| t.set("model.a.g_idx", Dtype::I32, &[270], i32s(0..270)),
            "model.a.qweight",
            "270 k",
        ),
        (
            "gptq_v1_sym",
            |t| t.set("model.a.g_idx", Dtype::I32, &[256], i32s(0..256)),
            "model.a.g_idx",
            "expected 0 to 1",
        ),
        (
            "gptq_v1_sym",
            |t| {
                t.set(
                    "model.a.g_idx",
                    Dtype::I32,
                    &[256],
                    i32s((0..256).map(|_| -2)),
                )
            },
            "model.a.g_idx",
            "group -2",
        ),
        (
            "gptq_v1_sym",
            |t| {
                t.set(
                    "model.a.g_idx",
                    Dtype::I32,
                    &[256],
                    i32s((0..256).map(|k| i32::from(k > 100))),
                )
            },
            "model.a.g_idx",
            "group 0 has 101 k: expected 128",
        ),
        (
            "compressed_tensors_asym",
            |t| t.remove("model.a.weight_zero_point"),
            "model.a.weight_zero_point",
            "no tensor",
        ),
        (
            "compressed_tensors_asym",
            |t| t.remove("model.a.weight_shape"),
            "model.a.weight_shape",
            "no tensor",
        ),
        (
            "compressed_tensors_asym",
            |t| t.set("model.a.weight_shape", Dtype::I32, &[2], i32s([19, 97])),
            "model.a.weight_shape",
            "[19, 97] does not fit",
        ),
        (
            "compressed_tensors_asym",
            |t| t.set("model.a.weight_shape", Dtype::I32, &[2], i32s([19, -96])),
            "model.a.weight_shape",
            "[19, -96]",
        ),
        (
            "compressed_tensors_sym",
            |t| {
                t.set(
                    "model.a.weight_zero_point",
                    Dtype::I32,
                    &[3, 2],
                    vec![0; 24],
                )
            },
            "model.a.weight_zero_point",
            "symmetric",
        ),
        (
            "compressed_tensors_act_order",
            |t| {
                t.set(
                    "model.a.weight_g_idx",
                    Dtype::I32,
                    &[128],
                    i32s((0..128).map(|k| k % 3)),
                )
            },
            "model.a.weight_g_idx",
            "group 0 has 43 k",
        ),
    ];
    for (case, change, tensor, reason) in cases {
        let copy = Copy::of(case).tensors(change);
        let error = copy.open().unwrap().weight("model.a").unwrap_err();
        let named = match &error {
            Error::Tensor { tensor, .. } => tensor,
            Error::MissingTensor { name, .. } => name,
            other => panic!("{case}: {other}"),
        };
        let text = error.to_string();
        assert_eq!(named, tensor, "{case}: {text}");
        assert!(
            text.contains("model.safetensors") && text.contains(reason),
            "`{reason}`: {text}"
        );
    }
    // `g_idx` is optional if the groups are contiguous, and required otherwise.
    let without = |copy: Copy| copy.tensors(|t| t.remove("model.a.g_idx"));
    let loaded = without(Copy::of("gptq_v1_sym"))
        .open()
        .unwrap()
        .weight("model.a")
        .unwrap();
    let full = Checkpoint::open(folder("gptq_v1_sym"))
        .unwrap()
        .weight("model.a")
        .unwrap();
    assert_eq!(loaded, full);
    let error = without(Copy::of("gptq_v1_autogptq"))
        .open()
        .unwrap()
        .weight("model.a");
    assert!(matches!(error, Err(Error::MissingTensor { .. })));
    // compressed-tensors writes -1 for contiguous groups.
    let none = |t: &mut test_support::TensorFile| {
        t.set("model.a.weight_g_idx", Dtype::I32, &[256], i32s([-1; 256]));
    };
    let copy = Copy::of("compressed_tensors_sym").tensors(none);
    assert!(matches!(
        copy.open().unwrap().weight("model.a"),
        Ok(weight) if weight.order().is_none()
    ));
    let error = Checkpoint::open(folder("awq_gemm"))
        .unwrap()
        .weight("model.c");
    assert!(matches!(error, Err(Error::MissingTensor { name, .. }) if name == "model.c.qweight"));
}

#[test]
fn rejects_invalid_files_shards_and_indices_by_name() {
    let copy = Copy::of("awq_gemm");
    let path = copy.path("model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    for (bytes, expected) in [
        (&whole[..whole.len() - 1], "the file ends at byte"),
        (&whole[..100], "truncated"),
        (&whole[..5], "too short for a header"),
        (
            b"PK\x03\x04 something else entirely".as_slice(),
            "not a safetensors file",
        ),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let error = copy.open().unwrap_err().to_string();
        assert!(
            error.contains("model.safetensors") && error.contains(expected),
            "{error}"
        );
    }
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(copy.open(), Err(Error::Format { reason, .. }) if reason.contains("found 0")));
    assert!(matches!(Checkpoint::open(&path), Err(Error::Io { .. })));

    let copy = Copy::of("gptq_v2_desc_act");
    let index = copy.path("model.safetensors.index.json");
    let text = std::fs::read_to_string(&index).unwrap();
    let shard = "model-00002-of-00002.safetensors";
    for (change, expected) in [
        (
            text.replace("model.a.qweight", "model.z.qweight"),
            "model.z.qweight",
        ),
        (
            text.replace(shard, "../model.safetensors"),
            "in the folder of the index",
        ),
        (
            text.replace(shard, "model-3.safetensors"),
            "model-3.safetensors",
        ),
        (text.replace("weight_map", "map"), "weight_map"),
    ] {
        std::fs::write(&index, change).unwrap();
        let error = copy.open().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    // Opens the index itself, but not a folder of two files without an index.
    std::fs::write(&index, &text).unwrap();
    let by_index = Checkpoint::open(&index).unwrap();
    assert_eq!(by_index.quantized().count(), 2);
    std::fs::remove_file(&index).unwrap();
    assert!(matches!(copy.open(), Err(Error::Format { reason, .. }) if reason.contains("found 2")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// A file with changed or missing bytes gives an error or weights.
    #[test]
    fn mutated_checkpoints_never_panic(
        case in proptest::sample::select(vec![
            "awq_gemm", "gptq_v1_asym", "compressed_tensors_act_order",
        ]),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        header_only in any::<bool>(),
        cut in proptest::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let copy = Copy::of(case);
        let path = copy.path("model.safetensors");
        let mut bytes = std::fs::read(&path).unwrap();
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let range = if header_only { header } else { bytes.len() };
        for (at, value) in changes {
            bytes[at.index(range)] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        std::fs::write(&path, bytes).unwrap();
        if let Ok(checkpoint) = copy.open() {
            for module in checkpoint.quantized() {
                if let Ok(weight) = checkpoint.weight(module) {
                    weight.dequantize();
                }
            }
        }
    }
}
