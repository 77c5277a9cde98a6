//! Models that are recognized by their `config.json`, and which of their modules are quantized.

use crate::{Error, Result};
use serde_json::Value;
use std::path::Path;

/// A model whose plain checkpoint is quantized only in part.
///
/// The parts that are not quantized are what the model's runtime computes in the checkpoint's type.
/// To support another model, add an entry to the table in this module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelKind {
    /// `model_type` in `config.json`, and the name in messages.
    name: &'static str,
    /// An entry of `architectures` in `config.json`.
    architecture: &'static str,
    /// The module whose matrices are quantized.
    quantized: &'static str,
}

/// The models that are recognized. All others are quantized as a whole.
const KINDS: [ModelKind; 1] = [
    // OpenVLA and OpenVLA-OFT: vision towers, projector, embeddings and heads stay plain.
    ModelKind {
        name: "openvla",
        architecture: "OpenVLAForActionPrediction",
        quantized: "language_model.model.layers",
    },
];

impl ModelKind {
    /// Reads `config.json` of a folder. Returns `None` if there is none, or if it describes another
    /// model.
    ///
    /// # Errors
    /// [`Error::Io`] if reading fails, [`Error::Json`] if the file is not JSON.
    pub fn from_folder(folder: impl AsRef<Path>) -> Result<Option<&'static Self>> {
        let path = folder.as_ref().join("config.json");
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io(&path, e)),
        };
        let config: Value = serde_json::from_slice(&text)
            .map_err(|e| Error::json(path.display().to_string(), "configuration", e))?;
        Ok(KINDS.iter().find(|kind| kind.describes(&config)))
    }

    fn describes(&self, config: &Value) -> bool {
        let architectures = config["architectures"].as_array();
        config["model_type"] == self.name
            || architectures.is_some_and(|list| list.iter().any(|a| a == self.architecture))
    }

    /// Returns the name of the model.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the module whose matrices are quantized. All others stay plain.
    pub fn quantized(&self) -> &'static str {
        self.quantized
    }

    /// Returns whether the matrix of a module is quantized.
    pub fn quantizes(&self, module: &str) -> bool {
        let rest = module.strip_prefix(self.quantized);
        rest.is_some_and(|rest| rest.starts_with('.'))
    }
}

impl std::fmt::Display for ModelKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            name, quantized, ..
        } = self;
        write!(f, "{name}: quantizes {quantized}, keeps the rest plain")
    }
}
