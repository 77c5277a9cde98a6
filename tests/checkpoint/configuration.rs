//! Configurations: unsupported and invalid values are errors that name the field.

use serde_json::{Value, json};
use w4ax::Error;
use w4ax::checkpoint::{GptqZeros, Scheme};

use crate::case::Copy;

#[test]
fn rejects_unsupported_values_by_name() {
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

#[test]
fn rejects_missing_fields_and_wrong_types_by_name() {
    type Change = fn(&mut Value);
    let cases: Vec<(&str, Change, &str)> = vec![
        (
            "awq_gemm",
            |c| c["bits"] = json!("four"),
            "`bits` is \"four\"",
        ),
        (
            "awq_gemm",
            |c| c["bits"] = Value::Null,
            "missing field `bits`",
        ),
        (
            "awq_gemm",
            |c| c["version"] = Value::Null,
            "missing field `version`",
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
            "missing field `group_size`",
        ),
        (
            "compressed_tensors_sym",
            |c| c["format"] = Value::Null,
            "missing field `format`",
        ),
        (
            "compressed_tensors_sym",
            |c| c["config_groups"]["group_0"]["weights"]["group_size"] = Value::Null,
            "`group_0`: quantization configuration: missing field `group_size`",
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

#[test]
fn reads_configurations_of_other_writers_and_places() {
    let scheme = |copy: &Copy| copy.open().unwrap().config().scheme;
    let awq = Scheme::Awq { group: Some(64) };
    // The format of old AutoAWQ and llm-awq.
    let copy = Copy::of("awq_gemm");
    std::fs::remove_file(copy.path("config.json")).unwrap();
    let old = r#"{"zero_point": true, "q_group_size": 64, "w_bit": 4, "version": "GEMM"}"#;
    std::fs::write(copy.path("quant_config.json"), old).unwrap();
    assert_eq!(scheme(&copy), awq);
    // A vision-language model with the configuration in its language model.
    let copy = Copy::of("awq_gemm");
    let text = std::fs::read_to_string(copy.path("config.json")).unwrap();
    std::fs::write(
        copy.path("config.json"),
        format!("{{\"text_config\": {text}}}"),
    )
    .unwrap();
    assert_eq!(scheme(&copy), awq);
    // A model configuration without quantization: the next file is read.
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
    // Modules that `dynamic` excludes are plain.
    let out = |c: &mut Value| c["dynamic"] = json!({"-:.*head.*": {}});
    assert!(Copy::of("gptq_v2_asym").config(out).open().is_ok());
    // Activation order only during calibration.
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

/// Only the configuration selects the format.
#[test]
fn rejects_packed_tensors_without_a_matching_configuration() {
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
    // `a` is not a dotted part of these names.
    let unlisted = |c: &mut Value| c["modules_to_not_convert"] = json!(["mode", "re:.*a"]);
    assert!(Copy::of("awq_gemm").config(unlisted).open().is_ok());
}
