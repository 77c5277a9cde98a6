//! Other tools' checkpoints: the values that those tools read from them, bit for bit; what is refused, and how it is named.

mod support;
#[path = "support/safetensors.rs"]
mod tensors;

use half::{bf16, f16};
use proptest::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use support::{Kind, bits, rng};
use tempfile::TempDir;
use w4ax::checkpoint::{Checkpoint, GptqZeros, LoadedWeight, Scheme};
use w4ax::cpu::Cpu;
use w4ax::{Error, Grouping, KOrder, MatMut, MatRef, Precision, Result, ScaleType};

fn folder(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/checkpoints")
        .join(case)
}

/// Every case and what is special about it: scheme, the first module's N and K, grouping, type of scales, activation order.
const CASES: [(&str, [usize; 2], Grouping, ScaleType, bool); 13] = [
    ("awq_gemm", [32, 192], Grouping::G64, ScaleType::F16, false),
    (
        "gptq_v1_sym",
        [24, 256],
        Grouping::G128,
        ScaleType::F16,
        false,
    ),
    (
        "gptq_v1_asym",
        [24, 192],
        Grouping::G64,
        ScaleType::F16,
        false,
    ),
    (
        "gptq_v1_autogptq",
        [32, 128],
        Grouping::G64,
        ScaleType::F16,
        false,
    ),
    (
        "gptq_v2_asym",
        [20, 100],
        Grouping::G32,
        ScaleType::F16,
        false,
    ),
    (
        "gptq_v2_desc_act",
        [20, 136],
        Grouping::G32,
        ScaleType::F16,
        true,
    ),
    (
        "gptq_v2_channel",
        [20, 100],
        Grouping::PerChannel,
        ScaleType::F16,
        false,
    ),
    (
        "gptq_v2_g256",
        [8, 512],
        Grouping::G128,
        ScaleType::F16,
        false,
    ),
    (
        "compressed_tensors_sym",
        [24, 256],
        Grouping::G128,
        ScaleType::Bf16,
        false,
    ),
    (
        "compressed_tensors_asym",
        [19, 96],
        Grouping::G32,
        ScaleType::F16,
        false,
    ),
    (
        "compressed_tensors_channel",
        [19, 70],
        Grouping::PerChannel,
        ScaleType::F32,
        false,
    ),
    (
        "compressed_tensors_channel_asym",
        [21, 77],
        Grouping::PerChannel,
        ScaleType::Bf16,
        false,
    ),
    (
        "compressed_tensors_act_order",
        [24, 128],
        Grouping::G32,
        ScaleType::Bf16,
        true,
    ),
];

/// The tool's own values of each module: rounded products, in the type in which it multiplies.
fn expected(case: &str) -> Vec<(String, Dtype, Vec<usize>, Vec<u8>)> {
    let bytes = std::fs::read(folder(case).join("expected.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let owned = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
        (
            name,
            view.dtype(),
            view.shape().to_vec(),
            view.data().to_vec(),
        )
    };
    tensors.tensors().into_iter().map(owned).collect()
}

/// Our f32 products in another type.
fn rounded(values: &[f32], dtype: Dtype) -> Vec<u8> {
    match dtype {
        Dtype::F16 => values
            .iter()
            .flat_map(|&v| f16::from_f32(v).to_le_bytes())
            .collect(),
        Dtype::BF16 => values
            .iter()
            .flat_map(|&v| bf16::from_f32(v).to_le_bytes())
            .collect(),
        Dtype::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        other => panic!("no tool multiplies in {other:?}"),
    }
}

#[test]
fn values_are_the_tools_own() {
    for (case, [n, k], grouping, scale_type, act_order) in CASES {
        let checkpoint = Checkpoint::open(folder(case)).unwrap();
        let expected = expected(case);
        let modules: Vec<&str> = checkpoint.quantized().collect();
        let mut names: Vec<&str> = expected.iter().map(|e| e.0.as_str()).collect();
        names.sort_unstable();
        assert_eq!(modules, names, "{case}");
        for (module, dtype, shape, bytes) in &expected {
            let loaded = checkpoint.weight(module).unwrap();
            let weight = loaded.weight();
            assert_eq!([weight.n(), weight.k()], **shape, "{case} {module}");
            assert!(
                rounded(&loaded.dequantize(), *dtype) == *bytes,
                "{case} {module}"
            );
            assert_eq!(weight.grouping(), grouping, "{case} {module}");
            assert_eq!(
                weight.tiled_scales().scale_type(),
                scale_type,
                "{case} {module}"
            );
            assert_eq!(
                matches!(loaded, LoadedWeight::ActOrder(_)),
                act_order,
                "{case} {module}"
            );
        }
        let first = checkpoint.weight("model.a").unwrap();
        assert_eq!([first.weight().n(), first.weight().k()], [n, k], "{case}");
    }
    let cases = std::fs::read_dir(folder("")).unwrap();
    let cases = cases
        .filter(|e| e.as_ref().unwrap().path().is_dir())
        .count();
    assert_eq!(cases, CASES.len(), "each folder of fixtures is read");
}

/// Zero points at the ends of their range, and which schemes they come from.
#[test]
fn zero_points_reach_both_ends() {
    let zeros = |case: &str| {
        let checkpoint = Checkpoint::open(folder(case)).unwrap();
        let loaded = checkpoint.weight("model.a").unwrap();
        let zeros = loaded.weight().tiled_zeros().expect("zero points").to_vec();
        (
            checkpoint.config().scheme,
            *zeros.iter().min().unwrap(),
            *zeros.iter().max().unwrap(),
        )
    };
    let gptq = |zeros, desc_act| Scheme::Gptq {
        group: Some(64),
        zeros,
        desc_act,
    };
    // AutoGPTQ's writer spoils a word with a zero point of 0: 15 is stored, which its unpacker reads as 16.
    let (scheme, _, highest) = zeros("gptq_v1_autogptq");
    assert_eq!((scheme, highest), (gptq(GptqZeros::V1Nibbles, true), 8));
    // GPTQModel's borrows from the next column, and its reader gives it back.
    let (scheme, lowest, _) = zeros("gptq_v1_asym");
    assert_eq!((scheme, lowest), (gptq(GptqZeros::V1Words, false), -8));
    for symmetric in ["gptq_v1_sym", "gptq_v2_g256", "compressed_tensors_sym"] {
        let checkpoint = Checkpoint::open(folder(symmetric)).unwrap();
        let loaded = checkpoint.weight("model.a").unwrap();
        assert!(loaded.weight().is_symmetric(), "{symmetric}");
    }
}

/// A weight in activation order multiplies as the matrix does: gathered by the call, or by hand.
#[test]
fn act_order_gathers_the_activations() {
    for case in ["gptq_v2_desc_act", "compressed_tensors_act_order"] {
        let loaded = Checkpoint::open(folder(case))
            .unwrap()
            .weight("model.a")
            .unwrap();
        let LoadedWeight::ActOrder(w) = loaded else {
            panic!("{case} has an order");
        };
        let (m, n, k) = (5, w.weight().n(), w.weight().k());
        let x = Kind::Integers.fill(&mut rng(3), m * k);
        let x = MatRef::new(&x, m, k).unwrap();
        let cpu = Cpu::new().unwrap();
        let mut workspace = cpu.workspace(m, k);
        let mut y = vec![bf16::ZERO; m * n];
        let mut gathered = vec![bf16::ZERO; m * k];
        let out = MatMut::new(&mut y, m, n).unwrap();
        cpu.gemm_act_order(
            x,
            &w,
            Precision::Bf16,
            None,
            out,
            &mut gathered,
            &mut workspace,
        )
        .unwrap();
        // The plain matrix in f64: the order of k does not matter to it.
        let dense = w.dequantize();
        for row in 0..m {
            for column in 0..n {
                let terms = x.row(row).iter().zip(&dense[column * k..][..k]);
                let terms: Vec<f64> = terms.map(|(x, &w)| x.to_f64() * f64::from(w)).collect();
                let (sum, size): (f64, f64) =
                    (terms.iter().sum(), terms.iter().map(|t| t.abs()).sum());
                let got = y[row * n + column].to_f64();
                let bound = sum.abs() / 256.0 + size * 2f64.powi(-18);
                assert!(
                    (got - sum).abs() <= bound,
                    "{case} {row} {column}: {got} {sum}"
                );
            }
        }
        for precision in Precision::ALL {
            let mut by_hand = vec![bf16::ZERO; m * n];
            let mut by_call = by_hand.clone();
            let mut copy = vec![bf16::ZERO; m * k];
            w.order()
                .gather(x, MatMut::new(&mut copy, m, k).unwrap())
                .unwrap();
            let view = MatRef::new(&copy, m, k).unwrap();
            let out = MatMut::new(&mut by_hand, m, n).unwrap();
            cpu.gemm(view, w.weight(), precision, None, out, &mut workspace)
                .unwrap();
            let out = MatMut::new(&mut by_call, m, n).unwrap();
            cpu.gemm_act_order(x, &w, precision, None, out, &mut gathered, &mut workspace)
                .unwrap();
            assert_eq!(bits(&by_hand), bits(&by_call), "{case} {precision}");
        }
        let mut y = vec![bf16::ZERO; m * n];
        let out = MatMut::new(&mut y, m, n).unwrap();
        let short = &mut gathered[1..];
        let error = cpu.gemm_act_order(x, &w, Precision::A4, None, out, short, &mut workspace);
        assert!(matches!(error, Err(Error::Buffer { .. })), "{error:?}");
    }
}

#[test]
fn an_order_is_a_permutation() {
    for bad in [vec![0, 0], vec![1, 2], vec![2, 0, 3]] {
        assert!(matches!(KOrder::new(bad), Err(Error::Range { .. })));
    }
    let order = KOrder::new(vec![2, 0, 1]).unwrap();
    let mut out = [0; 6];
    let x = MatRef::new(&[1, 2, 3, 4, 5, 6], 2, 3).unwrap();
    order
        .gather(x, MatMut::new(&mut out, 2, 3).unwrap())
        .unwrap();
    assert_eq!(out, [3, 1, 2, 6, 4, 5]);
    let narrow = MatRef::new(&[1, 2], 1, 2).unwrap();
    assert!(
        order
            .gather(narrow, MatMut::new(&mut out, 1, 2).unwrap())
            .is_err()
    );
}

/// A copy of a case, to break.
struct Copy {
    folder: TempDir,
}

impl Copy {
    fn of(case: &str) -> Self {
        let copy = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(folder(case)).unwrap() {
            let path = entry.unwrap().path();
            if !path.ends_with("expected.safetensors") {
                std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
            }
        }
        Self { folder: copy }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Changes the quantisation's configuration, wherever it stands.
    fn config(self, change: impl Fn(&mut Value)) -> Self {
        for (name, nested) in [("config.json", true), ("quantize_config.json", false)] {
            let Ok(text) = std::fs::read(self.path(name)) else {
                continue;
            };
            let mut value: Value = serde_json::from_slice(&text).unwrap();
            change(if nested {
                &mut value["quantization_config"]
            } else {
                &mut value
            });
            std::fs::write(self.path(name), value.to_string()).unwrap();
        }
        self
    }

    /// Changes the tensors of the one file.
    fn tensors(self, change: impl FnOnce(&mut tensors::TensorFile)) -> Self {
        let path = self.path("model.safetensors");
        let mut file = tensors::TensorFile::read(path.to_str().unwrap());
        change(&mut file);
        std::fs::write(path, file.bytes()).unwrap();
        self
    }

    fn open(&self) -> Result<Checkpoint> {
        Checkpoint::open(self.folder.path())
    }
}

/// What the configuration says that this crate cannot read is refused by its name, in the file that says so.
#[test]
fn unsupported_formats_are_refused_by_name() {
    type Change = fn(&mut Value);
    fn weights(c: &mut Value) -> &mut Value {
        &mut c["config_groups"]["group_0"]["weights"]
    }
    let cases: Vec<(&str, Change, &str)> = vec![
        ("awq_gemm", |c| c["bits"] = json!(3), "bits 3"),
        (
            "awq_gemm",
            |c| c["version"] = json!("gemv"),
            "awq version `gemv`",
        ),
        (
            "awq_gemm",
            |c| c["version"] = json!("gemv_fast"),
            "`gemv_fast`",
        ),
        ("awq_gemm", |c| c["group_size"] = json!(48), "group_size 48"),
        ("awq_gemm", |c| c["group_size"] = json!(0), "group_size 0"),
        (
            "awq_gemm",
            |c| c["quant_method"] = json!("fp8"),
            "quant_method `fp8`",
        ),
        (
            "awq_gemm",
            |c| c["quant_method"] = json!("bitsandbytes"),
            "`bitsandbytes`",
        ),
        ("gptq_v1_asym", |c| c["bits"] = json!(3), "bits 3"),
        ("gptq_v1_asym", |c| c["bits"] = json!(8), "bits 8"),
        (
            "gptq_v1_asym",
            |c| {
                c["checkpoint_format"] = json!("marlin");
                c["format"] = json!("marlin");
            },
            "checkpoint_format `marlin`",
        ),
        (
            "gptq_v1_asym",
            |c| c["format"] = json!("gptq_v2"),
            "format `gptq_v2`",
        ),
        (
            "gptq_v1_sym",
            |c| c["is_marlin_format"] = json!(true),
            "is_marlin_format",
        ),
        (
            "gptq_v2_asym",
            |c| c["dynamic"] = json!({"+:.*down.*": {"bits": 8}}),
            "dynamic",
        ),
        (
            "gptq_v2_asym",
            |c| c["pack_dtype"] = json!("int16"),
            "pack_dtype `int16`",
        ),
        (
            "gptq_v2_asym",
            |c| c["rotation"] = json!("hadamard"),
            "rotation",
        ),
        (
            "gptq_v2_asym",
            |c| c["adapter"] = json!({"name": "lora"}),
            "adapter",
        ),
        (
            "gptq_v2_asym",
            |c| c["group_size"] = json!(16),
            "group_size 16",
        ),
        (
            "compressed_tensors_sym",
            |c| c["format"] = json!("marlin-24"),
            "format `marlin-24`",
        ),
        (
            "compressed_tensors_sym",
            |c| c["config_groups"]["group_0"]["format"] = json!("int-quantized"),
            "`group_0`: format `int-quantized`",
        ),
        (
            "compressed_tensors_sym",
            |c| weights(c)["num_bits"] = json!(8),
            "num_bits 8",
        ),
        (
            "compressed_tensors_sym",
            |c| weights(c)["type"] = json!("float"),
            "type `float`",
        ),
        (
            "compressed_tensors_sym",
            |c| weights(c)["strategy"] = json!("block"),
            "`block`",
        ),
        (
            "compressed_tensors_sym",
            |c| weights(c)["actorder"] = json!("spiral"),
            "`spiral`",
        ),
        (
            "compressed_tensors_sym",
            |c| c["config_groups"]["group_0"]["input_activations"] = json!({"num_bits": 8}),
            "input_activations",
        ),
        (
            "compressed_tensors_sym",
            |c| {
                let mut other = c["config_groups"]["group_0"].clone();
                other["weights"]["group_size"] = json!(64);
                c["config_groups"]["group_1"] = other;
            },
            "`group_0` and `group_1`",
        ),
        (
            "compressed_tensors_sym",
            |c| c["config_groups"] = json!({}),
            "config_groups",
        ),
        (
            "compressed_tensors_sym",
            |c| c["quantization_status"] = json!("frozen"),
            "quantization_status `frozen`",
        ),
        (
            "compressed_tensors_sym",
            |c| c["transform_config"] = json!({"config_groups": {"u": {}}}),
            "transform_config",
        ),
        (
            "compressed_tensors_sym",
            |c| c["sparsity_config"] = json!({"format": "sparse-24-bitmask"}),
            "sparsity_config",
        ),
    ];
    for (case, change, expected) in cases {
        match Copy::of(case).config(change).open() {
            Err(Error::Unsupported { file, what, .. }) => {
                assert!(
                    what.contains(expected),
                    "{case}: `{expected}` is not in {what}"
                );
                assert!(file.ends_with("config.json"), "{file}");
            }
            other => panic!("{case} {expected}: {other:?}"),
        }
    }
}

/// A configuration that lacks something, or says something of another type.
#[test]
fn configurations_that_make_no_sense_are_named() {
    type Change = fn(&mut Value);
    let cases: Vec<(&str, Change, &str)> = vec![
        (
            "awq_gemm",
            |c| c["bits"] = json!("four"),
            "`bits` is \"four\"",
        ),
        ("awq_gemm", |c| c["bits"] = Value::Null, "no field `bits`"),
        (
            "awq_gemm",
            |c| c["version"] = Value::Null,
            "no field `version`",
        ),
        (
            "awq_gemm",
            |c| c["group_size"] = json!(12.5),
            "`group_size` is 12.5",
        ),
        (
            "awq_gemm",
            |c| c["quant_method"] = json!(4),
            "`quant_method` is 4",
        ),
        (
            "awq_gemm",
            |c| c["modules_to_not_convert"] = json!("head"),
            "modules_to_not_convert",
        ),
        (
            "gptq_v2_asym",
            |c| c["desc_act"] = json!("yes"),
            "`desc_act` is \"yes\"",
        ),
        (
            "gptq_v2_asym",
            |c| c["group_size"] = Value::Null,
            "no field `group_size`",
        ),
        (
            "compressed_tensors_sym",
            |c| c["format"] = Value::Null,
            "no field `format`",
        ),
        (
            "compressed_tensors_sym",
            |c| c["config_groups"]["group_0"]["weights"]["group_size"] = Value::Null,
            "`group_0`: the quantisation's configuration has no field `group_size`",
        ),
    ];
    for (case, change, expected) in cases {
        match Copy::of(case).config(change).open() {
            Err(error @ Error::Format { .. }) => {
                assert!(error.to_string().contains(expected), "{expected}: {error}")
            }
            other => panic!("{case} {expected}: {other:?}"),
        }
    }
    let copy = Copy::of("awq_gemm");
    std::fs::write(copy.path("config.json"), "{").unwrap();
    assert!(matches!(copy.open(), Err(Error::Format { .. })));
}

/// Configurations that other writers leave: they mean the same.
#[test]
fn configurations_may_stand_elsewhere() {
    let scheme = |copy: &Copy| copy.open().unwrap().config().scheme;
    let awq = Scheme::Awq { group: Some(64) };
    // Old AutoAWQ and llm-awq.
    let copy = Copy::of("awq_gemm");
    std::fs::remove_file(copy.path("config.json")).unwrap();
    let old = r#"{"zero_point": true, "q_group_size": 64, "w_bit": 4, "version": "GEMM"}"#;
    std::fs::write(copy.path("quant_config.json"), old).unwrap();
    assert_eq!(scheme(&copy), awq);
    // A model of vision and language that keeps it with its language model.
    let copy = Copy::of("awq_gemm");
    let text = std::fs::read_to_string(copy.path("config.json")).unwrap();
    std::fs::write(
        copy.path("config.json"),
        format!("{{\"text_config\": {text}}}"),
    )
    .unwrap();
    assert_eq!(scheme(&copy), awq);
    // A model's configuration without a word of it: the next file is asked.
    let copy = Copy::of("gptq_v1_sym");
    std::fs::write(copy.path("config.json"), r#"{"model_type": "llama"}"#).unwrap();
    let gptq = |zeros| Scheme::Gptq {
        group: Some(128),
        zeros,
        desc_act: false,
    };
    assert_eq!(scheme(&copy), gptq(GptqZeros::V1Nibbles));
    let by_gptqmodel = |c: &mut Value| c["meta"] = json!({"quantizer": "gptqmodel:1.0"});
    let copy = Copy::of("gptq_v1_sym").config(by_gptqmodel);
    assert_eq!(scheme(&copy), gptq(GptqZeros::V1Words));
    // Modules that `dynamic` leaves out are plain.
    let out = |c: &mut Value| c["dynamic"] = json!({"-:.*head.*": {}});
    assert!(Copy::of("gptq_v2_asym").config(out).open().is_ok());
    // Activation order at calibration only.
    let calibrated = |c: &mut Value| {
        c["config_groups"]["group_0"]["weights"]["actorder"] = json!("weight");
    };
    assert!(
        Copy::of("compressed_tensors_sym")
            .config(calibrated)
            .open()
            .is_ok()
    );
}

/// The configuration alone says what a file is: packed tensors without one, or with another's, are refused.
#[test]
fn tensors_do_not_stand_in_for_a_configuration() {
    let copy = Copy::of("gptq_v1_sym");
    std::fs::remove_file(copy.path("quantize_config.json")).unwrap();
    let error = copy.open().unwrap_err();
    assert!(
        matches!(&error, Error::Unsupported { what, .. } if what.contains("model.a.qweight")),
        "{error}"
    );
    let awq = Copy::of("awq_gemm");
    let compressed = Copy::of("compressed_tensors_sym");
    std::fs::copy(awq.path("config.json"), compressed.path("config.json")).unwrap();
    let error = compressed.open().unwrap_err();
    assert!(error.to_string().contains("weight_packed"), "{error}");
    let listed = |c: &mut Value| c["modules_to_not_convert"] = json!(["a"]);
    let error = Copy::of("awq_gemm").config(listed).open().unwrap_err();
    assert!(
        matches!(&error, Error::Tensor { tensor, .. } if tensor == "model.a"),
        "{error}"
    );
    // `a` is no part of these names.
    let unlisted = |c: &mut Value| c["modules_to_not_convert"] = json!(["mode", "re:.*a"]);
    assert!(Copy::of("awq_gemm").config(unlisted).open().is_ok());
}

/// Tensors that are missing, of another type or shape, or hold what cannot be: file and tensor are named.
#[test]
fn broken_tensors_are_named() {
    type Change = fn(&mut tensors::TensorFile);
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
            "scales: element 0 is inf",
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
            "there are 2",
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
            "group 0 has 101 k, the group size makes it 128",
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
    // Without an order, groups are runs: it may be missing where it says no more, not where it counts.
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
    // compressed-tensors writes -1 where there is no order.
    let none = |t: &mut tensors::TensorFile| {
        t.set("model.a.weight_g_idx", Dtype::I32, &[256], i32s([-1; 256]));
    };
    let copy = Copy::of("compressed_tensors_sym").tensors(none);
    assert!(matches!(
        copy.open().unwrap().weight("model.a"),
        Ok(LoadedWeight::Packed(_))
    ));
    let error = Checkpoint::open(folder("awq_gemm"))
        .unwrap()
        .weight("model.c");
    assert!(matches!(error, Err(Error::MissingTensor { name, .. }) if name == "model.c.qweight"));
}

/// Files, shards and indices that are not what they must be.
#[test]
fn broken_files_are_named() {
    let copy = Copy::of("awq_gemm");
    let path = copy.path("model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    for (bytes, expected) in [
        (&whole[..whole.len() - 1], "the file at byte"),
        (&whole[..100], "truncated"),
        (&whole[..5], "no room for a header"),
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
            "beside the index",
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
    // By the index itself, and a folder without it: which of two files is meant, nobody says.
    std::fs::write(&index, &text).unwrap();
    let by_index = Checkpoint::open(&index).unwrap();
    assert_eq!(by_index.quantized().count(), 2);
    std::fs::remove_file(&index).unwrap();
    assert!(matches!(copy.open(), Err(Error::Format { reason, .. }) if reason.contains("found 2")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// A file with bytes changed or cut off is refused, or gives weights; it never panics.
    #[test]
    fn mutated_checkpoints_never_panic(
        case in proptest::sample::select(vec!["awq_gemm", "gptq_v1_asym", "compressed_tensors_act_order"]),
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

/// The tensors that are no weights are listed, those of weights are not.
#[test]
fn plain_tensors_are_listed() {
    let checkpoint = Checkpoint::open(folder("awq_gemm")).unwrap();
    let plain: Vec<&str> = checkpoint.plain().collect();
    let expected = [
        "lm_head.weight",
        "model.a.bias",
        "model.flags",
        "model.norm.weight",
        "model.steps",
    ];
    assert_eq!(plain, expected);
}
