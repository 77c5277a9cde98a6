//! `config.json`.

use crate::{folder, json};
use serde_json::{Value, json};
use w4ax_vla::config::ModelConfig;
use w4ax_vla::{Result, VlaError};

/// Parses the configuration of the small checkpoint with one field replaced.
fn with(pointer: &str, value: Value) -> Result<ModelConfig> {
    let mut config = json("config.json");
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    config.pointer_mut(parent).unwrap()[field] = value;
    ModelConfig::from_json("config.json", &config.to_string())
}

fn without(pointer: &str) -> Result<ModelConfig> {
    with(pointer, Value::Null)
}

#[test]
fn loads_the_small_checkpoint() {
    let config = ModelConfig::load(folder("openvla-tiny")).unwrap();
    let llama = &config.llama;
    assert_eq!(
        (llama.hidden, llama.intermediate, llama.layers),
        (64, 172, 4)
    );
    assert_eq!((llama.heads, llama.kv_heads, llama.head_dim()), (4, 4, 16));
    assert_eq!((llama.vocab, llama.max_positions), (32064, 2048));
    assert_eq!((llama.bos_token, llama.eos_token), (1, 2));
    assert_eq!((config.n_action_bins, config.pad_to_multiple_of), (256, 64));
    assert_eq!(config.action_token_end(), 32000);
    assert_eq!(config.image_size, 224);
}

#[test]
fn missing_constants_are_those_of_transformers() {
    let stored = json("config.json");
    assert_eq!(stored["text_config"].get("rms_norm_eps"), None);
    assert_eq!(stored["text_config"].get("rope_theta"), None);
    let llama = ModelConfig::load(folder("openvla-tiny")).unwrap().llama;
    assert_eq!(llama.rms_norm_eps, 1e-6);
    assert_eq!(llama.rope_theta, 10000.0);
}

#[test]
fn missing_sizes_are_those_of_the_released_model() {
    let text_config = json!({"model_type": "llama", "pad_token_id": 32000, "vocab_size": 32064});
    let config = with("/text_config", text_config).unwrap();
    assert_eq!(config, ModelConfig::openvla_7b());
    assert_eq!(config.llama.hidden, 4096);
    assert_eq!(config.llama.intermediate, 11008);
    assert_eq!((config.llama.layers, config.llama.heads), (32, 32));
    assert_eq!(config.llama.kv_heads, 32);
    // The number of heads of keys and values defaults to that of the queries.
    let config = with("/text_config/num_key_value_heads", Value::Null).unwrap();
    assert_eq!(config.llama.kv_heads, 4);
}

#[test]
fn stored_constants_replace_the_defaults() {
    let llama = |field: &str, value| with(&format!("/text_config/{field}"), value).unwrap().llama;
    assert_eq!(llama("rms_norm_eps", json!(1e-5)).rms_norm_eps, 1e-5);
    assert_eq!(llama("rope_theta", json!(5e5)).rope_theta, 5e5);
    assert_eq!(
        llama("max_position_embeddings", json!(4096)).max_positions,
        4096
    );
    assert_eq!(llama("eos_token_id", json!(5)).eos_token, 5);
    let rope = json!({"rope_type": "default", "rope_theta": 20000.0});
    assert_eq!(llama("rope_parameters", rope).rope_theta, 20000.0);
}

#[test]
fn rejects_values_that_change_the_model() {
    for (pointer, value, got, expected) in [
        ("/model_type", json!("llava"), "llava", "openvla"),
        (
            "/architectures",
            json!(["LlavaForX"]),
            "LlavaForX",
            "OpenVLAForActionPrediction",
        ),
        (
            "/llm_backbone_id",
            json!("phi-2-3b"),
            "phi-2-3b",
            "llama2-*",
        ),
        (
            "/vision_backbone_id",
            json!("siglip-vit-so400m"),
            "siglip-vit-so400m",
            "dinosiglip",
        ),
        ("/use_fused_vision_backbone", json!(false), "false", "true"),
        (
            "/timm_override_act_layers",
            json!(["quick_gelu", null]),
            "quick_gelu",
            "null",
        ),
        ("/image_sizes", json!([384, 384]), "384", "224"),
        ("/n_action_bins", json!(1), "1", "at least 2"),
        ("/n_action_bins", json!(40000), "40000", "at most"),
        ("/pad_to_multiple_of", json!(32064), "32064", "below"),
        (
            "/text_config/model_type",
            json!("mistral"),
            "mistral",
            "llama",
        ),
        ("/text_config/hidden_act", json!("gelu"), "gelu", "silu"),
        ("/text_config/attention_bias", json!(true), "true", "false"),
        ("/text_config/mlp_bias", json!(true), "true", "false"),
        (
            "/text_config/tie_word_embeddings",
            json!(true),
            "true",
            "false",
        ),
        (
            "/text_config/rope_scaling",
            json!({"type": "linear"}),
            "linear",
            "null",
        ),
        (
            "/text_config/rope_parameters",
            json!({"rope_type": "yarn"}),
            "yarn",
            "default",
        ),
        ("/text_config/hidden_size", json!(66), "66", "multiple"),
        ("/text_config/hidden_size", json!(0), "0", "at least 1"),
        (
            "/text_config/num_attention_heads",
            json!(0),
            "0",
            "at least 1",
        ),
        ("/text_config/num_key_value_heads", json!(3), "3", "divisor"),
        (
            "/text_config/head_dim",
            json!(32),
            "32",
            "hidden_size / num_attention_heads",
        ),
        ("/text_config/rms_norm_eps", json!(0.0), "0", "above 0"),
        ("/text_config/rope_theta", json!(-1.0), "-1", "above 0"),
        ("/text_config/eos_token_id", json!(32064), "32064", "below"),
    ] {
        let error = with(pointer, value).unwrap_err();
        let text = error.to_string();
        let VlaError::Field { file, field, .. } = error else {
            panic!("{text}");
        };
        assert_eq!(file, "config.json");
        let path = pointer[1..].replace('/', ".");
        assert!(field.starts_with(&path), "{field} is not {path}");
        let (found, accepted) = text.split_once(": expected ").unwrap();
        assert!(found.contains(got), "{text}");
        assert!(accepted.contains(expected), "{text}");
    }
}

#[test]
fn names_an_unsupported_vision_tower_and_the_supported_ones() {
    for ids in [
        json!(["vit_so400m_patch14_siglip_224"]),
        json!([
            "vit_large_patch14_clip_336.openai",
            "vit_so400m_patch14_siglip_224"
        ]),
        json!([
            "vit_so400m_patch14_siglip_224",
            "vit_large_patch14_reg4_dinov2.lvd142m"
        ]),
    ] {
        let text = with("/timm_model_ids", ids.clone())
            .unwrap_err()
            .to_string();
        let (found, accepted) = text.split_once(": expected ").unwrap();
        assert!(found.contains(ids[0].as_str().unwrap()), "{text}");
        for id in [
            "vit_large_patch14_reg4_dinov2.lvd142m",
            "vit_so400m_patch14_siglip_224",
        ] {
            assert!(accepted.contains(id), "{text}");
        }
    }
}

#[test]
fn towers_follow_from_the_backbone_if_they_are_not_stored() {
    assert!(without("/timm_model_ids").is_ok());
    assert!(without("/vision_backbone_id").is_ok());
    assert!(without("/use_fused_vision_backbone").is_ok());
    let mut config = json("config.json");
    config["timm_model_ids"] = Value::Null;
    config["vision_backbone_id"] = Value::Null;
    let error = ModelConfig::from_json("config.json", &config.to_string()).unwrap_err();
    assert!(
        error.to_string().contains("`timm_model_ids` is missing"),
        "{error}"
    );
}

#[test]
fn rejects_files_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let error = ModelConfig::load(folder.path()).unwrap_err();
    assert!(matches!(&error, VlaError::Io { file, .. } if file.ends_with("config.json")));
    std::fs::write(
        folder.path().join("config.json"),
        "{\"n_action_bins\": \"many\"}",
    )
    .unwrap();
    let error = ModelConfig::load(folder.path()).unwrap_err();
    assert!(matches!(&error, VlaError::Json { file, .. } if file.ends_with("config.json")));
}
