//! `config.json`: the sizes of the model.

use super::json::{self, Fields};
use crate::Result;
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;

/// The only pair of vision towers that is supported, as timm names them: DINOv2, SigLIP.
const TOWERS: [&str; 2] = [
    "vit_large_patch14_reg4_dinov2.lvd142m",
    "vit_so400m_patch14_siglip_224",
];

/// The name of this pair in the training code.
const BACKBONE: &str = "dinosiglip-vit-so-224px";

/// Side of an input image, in pixels.
const IMAGE_SIZE: usize = 224;

/// Sizes and constants of the language model.
///
/// A configuration file holds only what differs from the defaults of Transformers' `LlamaConfig`.
/// These defaults are [`LlamaConfig::default`], the sizes of Llama-2 7B.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LlamaConfig {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the MLP.
    pub intermediate: usize,
    /// Number of layers.
    pub layers: usize,
    /// Number of heads of the queries.
    pub heads: usize,
    /// Number of heads of keys and values. It divides `heads`.
    pub kv_heads: usize,
    /// Rows of the embedding table and of the head.
    pub vocab: usize,
    /// The epsilon of RMSNorm. The default is 1e-6, not the 1e-5 of Llama-2's own configuration.
    pub rms_norm_eps: f64,
    /// The base of the rotary embedding's frequencies.
    pub rope_theta: f64,
    /// Length of the context, in tokens.
    pub max_positions: usize,
    /// The id of the token that begins a sequence.
    pub bos_token: u32,
    /// The id of the token that ends a sequence.
    pub eos_token: u32,
}

impl Default for LlamaConfig {
    fn default() -> Self {
        Self {
            hidden: 4096,
            intermediate: 11008,
            layers: 32,
            heads: 32,
            kv_heads: 32,
            vocab: 32000,
            rms_norm_eps: 1e-6,
            rope_theta: 1e4,
            max_positions: 2048,
            bos_token: 1,
            eos_token: 2,
        }
    }
}

impl LlamaConfig {
    /// Width of one head, `hidden / heads`.
    pub fn head_dim(&self) -> usize {
        self.hidden / self.heads
    }
}

/// What `config.json` defines of a model.
///
/// The sizes of the vision towers are not part of the file: they follow from the shapes of the
/// tensors.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ModelConfig {
    /// The language model.
    pub llama: LlamaConfig,
    /// Edges of the bins of one action dimension. They bound `n_action_bins - 1` bins.
    pub n_action_bins: usize,
    /// Rows by which the vocabulary was padded. The last ids before the padding are actions.
    pub pad_to_multiple_of: usize,
    /// Side of an input image, in pixels.
    pub image_size: usize,
}

impl ModelConfig {
    /// Returns the configuration of the released OpenVLA-7B, which OpenVLA-OFT shares.
    pub fn openvla_7b() -> Self {
        Self {
            llama: LlamaConfig {
                vocab: 32064,
                ..LlamaConfig::default()
            },
            n_action_bins: 256,
            pad_to_multiple_of: 64,
            image_size: IMAGE_SIZE,
        }
    }

    /// Reads `config.json` of a checkpoint's folder.
    ///
    /// # Errors
    /// [`Io`](crate::VlaError::Io) and [`Json`](crate::VlaError::Json) for a file that cannot be
    /// read, [`Field`](crate::VlaError::Field) for a value that this crate does not support: other
    /// vision towers, another language model, biases, a scaled rotary embedding, tied embeddings.
    pub fn load(folder: impl AsRef<Path>) -> Result<Self> {
        let file = folder.as_ref().join("config.json");
        Self::check(json::read(&file)?, &file.display().to_string())
    }

    /// Parses the text of a `config.json`. `file` is its name for errors.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn from_json(file: &str, text: &str) -> Result<Self> {
        Self::check(json::parse(file, text)?, file)
    }

    /// The id after the last action token: the vocabulary without its padding.
    pub fn action_token_end(&self) -> usize {
        self.llama.vocab - self.pad_to_multiple_of
    }

    fn check(stored: StoredModel, file: &str) -> Result<Self> {
        let fields = Fields { file };
        check_architecture(&fields, &stored)?;
        check_vision(&fields, &stored)?;
        let llama = check_llama(&fields, stored.text_config.unwrap_or_default())?;
        let n_action_bins = stored.n_action_bins.unwrap_or(256);
        let pad_to_multiple_of = stored.pad_to_multiple_of.unwrap_or(64);
        fields.check(
            pad_to_multiple_of < llama.vocab,
            "pad_to_multiple_of",
            pad_to_multiple_of,
            "a number below text_config.vocab_size",
        )?;
        fields.check(
            (2..=llama.vocab - pad_to_multiple_of).contains(&n_action_bins),
            "n_action_bins",
            n_action_bins,
            "at least 2 and at most the size of the vocabulary",
        )?;
        Ok(Self {
            llama,
            n_action_bins,
            pad_to_multiple_of,
            image_size: IMAGE_SIZE,
        })
    }
}

/// The fields of `config.json`, as stored. `null` is a missing field.
#[derive(Deserialize)]
struct StoredModel {
    model_type: Option<String>,
    architectures: Option<Vec<String>>,
    llm_backbone_id: Option<String>,
    vision_backbone_id: Option<String>,
    timm_model_ids: Option<Vec<String>>,
    timm_override_act_layers: Option<Vec<Value>>,
    use_fused_vision_backbone: Option<bool>,
    image_sizes: Option<Vec<usize>>,
    n_action_bins: Option<usize>,
    pad_to_multiple_of: Option<usize>,
    text_config: Option<StoredLlama>,
}

/// The fields of `text_config`, as stored.
#[derive(Default, Deserialize)]
struct StoredLlama {
    model_type: Option<String>,
    hidden_size: Option<usize>,
    intermediate_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    vocab_size: Option<usize>,
    rms_norm_eps: Option<f64>,
    rope_theta: Option<f64>,
    rope_scaling: Option<Value>,
    rope_parameters: Option<StoredRope>,
    max_position_embeddings: Option<usize>,
    bos_token_id: Option<u32>,
    eos_token_id: Option<u32>,
    hidden_act: Option<String>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    tie_word_embeddings: Option<bool>,
}

/// `rope_parameters`, which newer releases of Transformers write instead of `rope_theta`.
#[derive(Deserialize)]
struct StoredRope {
    rope_type: Option<String>,
    rope_theta: Option<f64>,
}

fn check_architecture(fields: &Fields, stored: &StoredModel) -> Result<()> {
    if let Some(kind) = &stored.model_type {
        fields.check(kind == "openvla", "model_type", kind, "openvla")?;
    }
    if let Some(names) = &stored.architectures {
        let accepted = "OpenVLAForActionPrediction";
        let valid = names.iter().any(|name| name == accepted);
        fields.check(valid, "architectures", names.join(", "), accepted)?;
    }
    if let Some(id) = &stored.llm_backbone_id {
        let valid = id.starts_with("llama2-") || id.starts_with("vicuna-v15-");
        let accepted = "a Llama-2 or Vicuna 1.5 model (llama2-*, vicuna-v15-*)";
        fields.check(valid, "llm_backbone_id", id, accepted)?;
    }
    Ok(())
}

fn check_vision(fields: &Fields, stored: &StoredModel) -> Result<()> {
    if let Some(id) = &stored.vision_backbone_id {
        fields.check(id == BACKBONE, "vision_backbone_id", id, BACKBONE)?;
    }
    let accepted = TOWERS.join(", ");
    match &stored.timm_model_ids {
        Some(ids) => fields.check(
            *ids == TOWERS,
            "timm_model_ids",
            ids.join(", "),
            &format!("the two fused towers {accepted}"),
        )?,
        None => fields.check(
            stored.vision_backbone_id.is_some(),
            "timm_model_ids",
            "missing",
            &accepted,
        )?,
    }
    if let Some(fused) = stored.use_fused_vision_backbone {
        let accepted = format!("true, for the two fused towers {accepted}");
        fields.check(fused, "use_fused_vision_backbone", fused, &accepted)?;
    }
    for activation in stored.timm_override_act_layers.iter().flatten() {
        let field = "timm_override_act_layers";
        fields.check(activation.is_null(), field, activation, "null per tower")?;
    }
    if let Some(sizes) = &stored.image_sizes {
        let valid = sizes.iter().all(|&size| size == IMAGE_SIZE);
        let expected = format!("{IMAGE_SIZE} per tower");
        fields.check(valid, "image_sizes", format!("{sizes:?}"), &expected)?;
    }
    Ok(())
}

fn check_llama(fields: &Fields, stored: StoredLlama) -> Result<LlamaConfig> {
    let check = |valid: bool, field: &str, got: &dyn std::fmt::Display, expected: &str| {
        fields.check(valid, &format!("text_config.{field}"), got, expected)
    };
    if let Some(kind) = &stored.model_type {
        check(kind == "llama", "model_type", kind, "llama")?;
    }
    if let Some(activation) = &stored.hidden_act {
        check(activation == "silu", "hidden_act", activation, "silu")?;
    }
    for (field, value) in [
        ("attention_bias", stored.attention_bias),
        ("mlp_bias", stored.mlp_bias),
        ("tie_word_embeddings", stored.tie_word_embeddings),
    ] {
        if let Some(value) = value {
            check(!value, field, &value, "false")?;
        }
    }
    if let Some(scaling) = &stored.rope_scaling {
        check(false, "rope_scaling", scaling, "null")?;
    }
    let mut rope_theta = stored.rope_theta;
    if let Some(rope) = stored.rope_parameters {
        let kind = rope.rope_type.unwrap_or_else(|| "default".to_owned());
        check(
            kind == "default",
            "rope_parameters.rope_type",
            &kind,
            "default",
        )?;
        rope_theta = rope_theta.or(rope.rope_theta);
    }

    let default = LlamaConfig::default();
    let heads = stored.num_attention_heads.unwrap_or(default.heads);
    let config = LlamaConfig {
        hidden: stored.hidden_size.unwrap_or(default.hidden),
        intermediate: stored.intermediate_size.unwrap_or(default.intermediate),
        layers: stored.num_hidden_layers.unwrap_or(default.layers),
        heads,
        // As in `LlamaConfig`, the default is the number of query heads.
        kv_heads: stored.num_key_value_heads.unwrap_or(heads),
        vocab: stored.vocab_size.unwrap_or(default.vocab),
        rms_norm_eps: stored.rms_norm_eps.unwrap_or(default.rms_norm_eps),
        rope_theta: rope_theta.unwrap_or(default.rope_theta),
        max_positions: stored
            .max_position_embeddings
            .unwrap_or(default.max_positions),
        bos_token: stored.bos_token_id.unwrap_or(default.bos_token),
        eos_token: stored.eos_token_id.unwrap_or(default.eos_token),
    };
    for (field, value) in [
        ("hidden_size", config.hidden),
        ("intermediate_size", config.intermediate),
        ("num_hidden_layers", config.layers),
        ("num_attention_heads", config.heads),
        ("num_key_value_heads", config.kv_heads),
        ("vocab_size", config.vocab),
        ("max_position_embeddings", config.max_positions),
    ] {
        check(value > 0, field, &value, "at least 1")?;
    }
    for (field, value) in [
        ("rms_norm_eps", config.rms_norm_eps),
        ("rope_theta", config.rope_theta),
    ] {
        check(value > 0.0, field, &value, "a number above 0")?;
    }
    for (field, id) in [
        ("bos_token_id", config.bos_token),
        ("eos_token_id", config.eos_token),
    ] {
        check(
            (id as usize) < config.vocab,
            field,
            &id,
            "an id below vocab_size",
        )?;
    }
    let valid = config.hidden.is_multiple_of(2 * config.heads);
    check(
        valid,
        "hidden_size",
        &config.hidden,
        "an even multiple of num_attention_heads",
    )?;
    let valid = config.heads.is_multiple_of(config.kv_heads);
    check(
        valid,
        "num_key_value_heads",
        &config.kv_heads,
        "a divisor of num_attention_heads",
    )?;
    if let Some(dim) = stored.head_dim {
        check(
            dim == config.head_dim(),
            "head_dim",
            &dim,
            "hidden_size / num_attention_heads",
        )?;
    }
    Ok(config)
}
