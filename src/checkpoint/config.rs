//! What a checkpoint's configuration says of its quantization: which format it is, and whether this crate reads it.

use super::fields::Fields;
use crate::{Error, Result};
use serde_json::Value;
use std::path::Path;

/// How the weights of a checkpoint are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scheme {
    /// BF16, F16 or F32: no quantization.
    Plain,
    /// AutoAWQ's `gemm`.
    Awq {
        /// k of a group, `None` if it is all of K.
        group: Option<usize>,
    },
    /// GPTQ.
    Gptq {
        /// k of a group, `None` if it is all of K.
        group: Option<usize>,
        /// How zero points are stored.
        zeros: GptqZeros,
        /// Whether the groups follow the order of the activations: `g_idx` must be there.
        desc_act: bool,
    },
    /// compressed-tensors' `pack-quantized`.
    CompressedTensors {
        /// k of a group, `None` if it is all of K.
        group: Option<usize>,
        /// Whether there are no zero points.
        symmetric: bool,
        /// Whether `weight_g_idx` says to which group a k belongs.
        act_order: bool,
    },
}

/// How a GPTQ checkpoint stores a zero point z.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GptqZeros {
    /// Version 1, a nibble `z - 1`, so that z is 1 to 16: AutoGPTQ and what follows it. Its unpackers for activation order,
    /// Triton, Marlin and ExLlama add 1 to the nibble and keep 16; the one for old CUDA kernels (0.7.1's `qlinear_cuda_old`)
    /// wraps 16 to 0.
    V1Nibbles,
    /// Version 1 by GPTQModel, which subtracts 0x11111111 from the word of eight z and adds it back when it reads: z is 0 to
    /// 15, and a 0 borrows from the nibble above it.
    V1Words,
    /// Version 2, a nibble z.
    V2,
}

/// The quantization of a checkpoint, as its configuration has it.
///
/// ```
/// use w4ax::checkpoint::{QuantizationConfig, Scheme};
/// # fn main() -> w4ax::Result<()> {
/// let mut config = serde_json::json!({
///     "quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm",
/// });
/// let read = QuantizationConfig::parse(&config, "config.json")?;
/// assert_eq!(read.scheme, Scheme::Awq { group: Some(128) });
///
/// config["version"] = "gemv".into(); // Not read: its name says why.
/// let refused = QuantizationConfig::parse(&config, "config.json").unwrap_err();
/// assert!(refused.to_string().contains("awq version `gemv` is not supported"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuantizationConfig {
    /// How the weights are stored.
    pub scheme: Scheme,
    /// Modules that are not quantized (`modules_to_not_convert`, `ignore`), as the configuration names them.
    pub unconverted: Vec<String>,
    /// The file that says so; the folder if none does.
    pub file: String,
}

/// The files that hold a configuration, in the order in which they are asked, and the keys under which it stands in each; no
/// key: the file is the configuration.
const PLACES: [(&str, &[&str]); 3] = [
    (
        "config.json",
        &["quantization_config", "compression_config"],
    ),
    ("quantize_config.json", &[]),
    ("quant_config.json", &[]),
];

impl QuantizationConfig {
    /// Reads it from the files beside a checkpoint. Without one, or without a word of quantization in them, the
    /// checkpoint is [`Scheme::Plain`].
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Format`] for a file that is no JSON object or lacks a field; [`Error::Unsupported`], by name, for
    /// what this crate does not read.
    pub fn of_folder(folder: &Path) -> Result<Self> {
        for (name, keys) in PLACES {
            let path = folder.join(name);
            let text = match std::fs::read(&path) {
                Ok(text) => text,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                Err(e) => return Err(Error::io(&path, e)),
            };
            let file = path.display().to_string();
            let value: Value =
                serde_json::from_slice(&text).map_err(|e| Error::format(&file, e.to_string()))?;
            if keys.is_empty() {
                return Self::parse(&value, &file);
            }
            // Models of vision and language may keep it with their language model.
            let nested = ["", "text_config", "llm_config", "language_config"];
            let found = (nested.iter())
                .filter_map(|part| match *part {
                    "" => Some(&value),
                    part => value.get(part),
                })
                .find_map(|v| keys.iter().find_map(|key| v.get(key)))
                .filter(|v| !v.is_null());
            if let Some(found) = found {
                return Self::parse(found, &file);
            }
        }
        Ok(Self {
            scheme: Scheme::Plain,
            unconverted: Vec::new(),
            file: folder.display().to_string(),
        })
    }

    /// Reads a `quantization_config`; `file` names it in errors.
    ///
    /// # Errors
    /// As [`QuantizationConfig::of_folder`].
    pub fn parse(value: &Value, file: &str) -> Result<Self> {
        let fields = Fields { value, file };
        if !value.is_object() {
            return Err(Error::format(
                file,
                "the quantization's configuration is no JSON object",
            ));
        }
        let method = match fields.text(&["quant_method", "method"])? {
            Some(method) => method,
            // Files from before there was such a field.
            None if value.get("w_bit").is_some() => "awq".into(),
            None if value.get("damp_percent").is_some() || value.get("desc_act").is_some() => {
                "gptq".into()
            }
            None => return Err(fields.missing("quant_method")),
        };
        let scheme = match method.as_str() {
            "awq" => fields.awq()?,
            "gptq" => fields.gptq()?,
            "compressed-tensors" => fields.compressed_tensors()?,
            _ => {
                return Err(fields.refuse(
                    &format!("quant_method `{method}`"),
                    "this crate reads awq, gptq and compressed-tensors",
                ));
            }
        };
        let mut unconverted = fields.names("modules_to_not_convert")?;
        unconverted.extend(fields.names("ignore")?);
        Ok(Self {
            scheme,
            unconverted,
            file: file.into(),
        })
    }

    /// Whether the configuration lists a module as not quantized: an entry that is one of its dotted parts, or a run of them.
    /// Regular expressions (`re:...`) are not evaluated: what is quantized, the tensors themselves say.
    pub fn lists(&self, module: &str) -> bool {
        let module = format!(".{module}.");
        let listed = |entry: &String| module.contains(&format!(".{entry}."));
        (self.unconverted.iter())
            .filter(|entry| !entry.is_empty() && !entry.starts_with("re:"))
            .any(listed)
    }
}
