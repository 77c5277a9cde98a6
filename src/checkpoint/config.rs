//! The quantization configuration of a checkpoint.

use super::fields::Fields;
use super::scheme::Scheme;
use super::{awq, compressed, gptq};
use crate::{Error, Result};
use serde_json::Value;
use std::path::Path;

/// The quantization configuration of a checkpoint.
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
/// config["version"] = "gemv".into(); // Not supported.
/// let error = QuantizationConfig::parse(&config, "config.json").unwrap_err();
/// assert!(error.to_string().contains("awq version `gemv`"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuantizationConfig {
    /// How the weights are stored.
    pub scheme: Scheme,
    /// Modules that are not quantized (`modules_to_not_convert`, `ignore`), as the configuration
    /// lists them.
    pub unconverted: Vec<String>,
    /// The file of the configuration, or the folder if there is none.
    pub file: String,
}

/// The files that may hold the configuration, in the order of the search, with the keys of the
/// configuration in each. Without keys, the whole file is the configuration.
const LOCATIONS: [(&str, &[&str]); 3] = [
    (
        "config.json",
        &["quantization_config", "compression_config"],
    ),
    ("quantize_config.json", &[]),
    ("quant_config.json", &[]),
];

impl QuantizationConfig {
    /// Reads the configuration from the folder of a checkpoint. The scheme is [`Scheme::Plain`] if
    /// no file in the folder has a quantization configuration.
    ///
    /// # Errors
    /// - [`Error::Io`] if reading fails.
    /// - [`Error::Format`] if a file is not a JSON object, or a field is missing or has another
    ///   type.
    /// - [`Error::Unsupported`] with the field and value that this crate does not support.
    pub fn from_folder(folder: &Path) -> Result<Self> {
        for (name, keys) in LOCATIONS {
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
            // Vision-language models may keep the configuration with their language model.
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

    /// Parses a `quantization_config`. `file` is the name in errors.
    ///
    /// # Errors
    /// As [`QuantizationConfig::from_folder`].
    pub fn parse(value: &Value, file: &str) -> Result<Self> {
        let fields = Fields { value, file };
        if !value.is_object() {
            let reason = "quantization configuration: expected a JSON object";
            return Err(Error::format(file, reason));
        }
        let method = match fields.text(&["quant_method", "method"])? {
            Some(method) => method,
            // Old files do not have the field.
            None if value.get("w_bit").is_some() => "awq".into(),
            None if value.get("damp_percent").is_some() || value.get("desc_act").is_some() => {
                "gptq".into()
            }
            None => return Err(fields.missing("quant_method")),
        };
        let scheme = match method.as_str() {
            "awq" => awq::scheme(&fields)?,
            "gptq" => gptq::scheme(&fields)?,
            "compressed-tensors" => compressed::scheme(&fields)?,
            _ => {
                return Err(fields.unsupported(
                    &format!("quant_method `{method}`"),
                    "expected awq, gptq or compressed-tensors",
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

    /// Returns whether the configuration lists a module as not quantized.
    ///
    /// An entry matches if it is the module's name or some of its consecutive dotted parts. Regular
    /// expressions (`re:...`) are ignored: the tensors of a module show whether it is quantized.
    pub fn excludes(&self, module: &str) -> bool {
        let module = format!(".{module}.");
        let listed = |entry: &String| module.contains(&format!(".{entry}."));
        (self.unconverted.iter())
            .filter(|entry| !entry.is_empty() && !entry.starts_with("re:"))
            .any(listed)
    }
}
