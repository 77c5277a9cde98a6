//! Reads the checkpoints of other tools into packed weights, and quantizes plain checkpoints.
//!
//! ```text
//! safetensors (one file, or shards with an index) + config.json -> Checkpoint -> PackedWeight
//!                                                                       |
//!                                                                       v
//!                                                                    Convert -> PackedFile
//! ```
//!
//! # Formats
//! | format | written by | tensors of a module `x` |
//! |---|---|---|
//! | AWQ `gemm` | AutoAWQ, GPTQModel | `x.qweight`, `x.qzeros`, `x.scales` |
//! | GPTQ versions 1 and 2, with or without `desc_act` | AutoGPTQ, GPTQModel, optimum | the same and `x.g_idx` |
//! | compressed-tensors `pack-quantized` | llm-compressor | `x.weight_packed`, `x.weight_scale`, ... |
//! | plain BF16, F16, F32 | | `x.weight` |
//!
//! The configuration alone selects the format ([`QuantizationConfig`]). Quantized weights keep
//! their values: each `(qw - zw) * sw`, rounded to the type in which the format's own tool
//! multiplies, equals the value of that tool. No weight is quantized twice unless
//! [`Convert::requantize`] is set, and no scale changes its type. A group of 256 k becomes two
//! groups of 128 k with the same scale.
//!
//! # Order of calls
//! [`Checkpoint::open`] reads headers and the configuration. [`Checkpoint::weight`] reads and packs
//! one weight, [`Checkpoint::tensor`] reads one plain tensor. [`Convert::run`] writes all weights
//! to one file of this crate, which [`PackedFile`](crate::PackedFile) loads.
//!
//! # Failure behavior
//! A configuration value that this crate does not support is an [`Error::Unsupported`] with the
//! field and the value. A truncated or inconsistent file is an error that names the tensor. A
//! conversion that fails leaves no output file.
//!
//! # Cost
//! Files are read tensor by tensor, so the memory in use is that of one weight.
//!
//! ```no_run
//! use w4ax::checkpoint::Checkpoint;
//! # fn main() -> w4ax::Result<()> {
//! let checkpoint = Checkpoint::open("OpenVLA-7B-AWQ")?;
//! for module in checkpoint.quantized() {
//!     let weight = checkpoint.weight(module)?;
//!     println!("{module}: {} x {}", weight.n(), weight.k());
//! }
//! # Ok(())
//! # }
//! ```

mod awq;
mod compressed;
mod config;
mod convert;
mod fields;
mod gptq;
mod kind;
mod modules;
mod output;
mod plan;
mod scheme;
mod shards;
mod stored;

pub use config::QuantizationConfig;
pub use convert::{
    Convert, ConvertOutcome, ConvertProgress, ConvertSummary, QuantizedMatrix, RepackedWeight,
};
pub use kind::ModelKind;
pub use output::FolderSummary;
pub use scheme::{GptqZeros, Scheme};

use crate::tensors::PlainTensor;
use crate::{Error, PackedWeight, Result};
use safetensors::tensor::Dtype;
use shards::Shards;
use std::collections::BTreeSet;
use std::path::Path;

/// An open checkpoint. Headers and the configuration are in memory; weights are read on request.
#[derive(Debug)]
pub struct Checkpoint {
    shards: Shards,
    config: QuantizationConfig,
    kind: Option<&'static ModelKind>,
    /// Modules that hold packed weights.
    modules: Vec<String>,
}

/// The tensors that only packed weights have: of AWQ and GPTQ, and of compressed-tensors.
const PACKED: [&str; 2] = ["qweight", "weight_packed"];

impl Checkpoint {
    /// Opens a safetensors file, an index (`model.safetensors.index.json`), or a folder with one of
    /// them.
    ///
    /// The configuration is read from the same folder: `config.json`, `quantize_config.json` or
    /// `quant_config.json`.
    ///
    /// # Errors
    /// - [`Error::Io`] if reading fails.
    /// - [`Error::Format`] or [`Error::MissingTensor`] if files are truncated, of another format or
    ///   inconsistent.
    /// - [`Error::Unsupported`] if the quantization is not supported, or the file is a packed file
    ///   of this crate.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let shards = Shards::open(path.as_ref())?;
        if let Some(file) = shards.with_format("w4ax") {
            let reason = "already converted; `PackedFile::load` reads it";
            return Err(Error::unsupported(
                file,
                "a w4ax file as a checkpoint",
                reason,
            ));
        }
        let config = QuantizationConfig::from_folder(&shards.folder)?;
        let module_of = |part: &'static str| {
            (shards.names())
                .filter_map(move |name| name.strip_suffix(part)?.strip_suffix('.'))
                .map(str::to_owned)
        };
        let own = match config.scheme {
            Scheme::Plain => None,
            Scheme::Awq { .. } | Scheme::Gptq { .. } => Some(PACKED[0]),
            Scheme::CompressedTensors { .. } => Some(PACKED[1]),
        };
        for part in PACKED {
            if let Some(module) = module_of(part).next()
                && own != Some(part)
            {
                let reason = match config.scheme {
                    Scheme::Plain => format!("expected a quantization_config in {}", config.file),
                    _ => format!("expected the format that {} configures", config.file),
                };
                let what = format!("the packed weight `{module}.{part}`");
                return Err(Error::unsupported(shards.file_of(""), what, reason));
            }
        }
        let modules: Vec<String> = own.map_or_else(Vec::new, |part| module_of(part).collect());
        if own.is_some() && modules.is_empty() {
            let reason = format!(
                "no quantized tensors: expected those that {} configures",
                config.file
            );
            return Err(Error::format(shards.file_of(""), reason));
        }
        if let Some(module) = modules.iter().find(|module| config.excludes(module)) {
            let reason = format!("quantized module, but {} excludes it", config.file);
            return Err(shards.tensor_error(module, reason));
        }
        Ok(Self {
            kind: ModelKind::from_folder(&shards.folder)?,
            shards,
            config,
            modules,
        })
    }

    /// Returns the quantization configuration.
    pub fn config(&self) -> &QuantizationConfig {
        &self.config
    }

    /// Returns the kind of the model. `None` if a plain checkpoint is quantized as a whole.
    pub fn kind(&self) -> Option<&'static ModelKind> {
        self.kind
    }

    /// Returns the names of the modules with packed weights, sorted.
    pub fn quantized(&self) -> impl Iterator<Item = &str> {
        self.modules.iter().map(String::as_str)
    }

    /// Returns the names of the tensors that are not part of a packed weight, sorted.
    pub fn plain(&self) -> impl Iterator<Item = &str> {
        let parts: BTreeSet<String> = (self.modules.iter())
            .flat_map(|module| self.parts().iter().map(move |p| format!("{module}.{p}")))
            .collect();
        self.shards
            .names()
            .filter(move |name| !parts.contains(*name))
    }

    /// Returns the names of a packed weight's tensors, without the name of the module.
    fn parts(&self) -> &'static [&'static str] {
        match self.config.scheme {
            Scheme::Plain => &[],
            Scheme::Awq { .. } => &awq::TENSORS,
            Scheme::Gptq { .. } => &gptq::TENSORS,
            Scheme::CompressedTensors { .. } => &compressed::TENSORS,
        }
    }

    /// Reads and packs the weight `[N, K]` of a module.
    ///
    /// # Errors
    /// - [`Error::Io`] if reading fails.
    /// - [`Error::MissingTensor`] if the module or one of its tensors does not exist.
    /// - [`Error::Tensor`] if a type, a shape or the groups (`g_idx`) are invalid, or a scale is
    ///   not finite.
    pub fn weight(&self, module: &str) -> Result<PackedWeight> {
        let shards = &self.shards;
        let stored = match self.config.scheme {
            Scheme::Plain => return Err(self.no_weight(module)),
            Scheme::Awq { group } => awq::read(shards, module, group)?,
            Scheme::Gptq {
                group,
                zeros,
                desc_act,
            } => gptq::read(shards, module, group, zeros, desc_act)?,
            Scheme::CompressedTensors {
                group,
                symmetric,
                act_order,
            } => compressed::read(shards, module, group, symmetric, act_order)?,
        };
        stored.pack(shards, module)
    }

    /// Returns the shape `[N, K]` of a quantized module.
    ///
    /// # Errors
    /// As [`weight`](Self::weight).
    pub fn weight_shape(&self, module: &str) -> Result<[usize; 2]> {
        let shards = &self.shards;
        match self.config.scheme {
            Scheme::Plain => Err(self.no_weight(module)),
            Scheme::Awq { .. } => awq::shape(shards, module),
            Scheme::Gptq { desc_act, .. } => gptq::shape(shards, module, desc_act),
            Scheme::CompressedTensors { .. } => compressed::shape(shards, module),
        }
    }

    fn no_weight(&self, module: &str) -> Error {
        Error::MissingTensor {
            file: self.shards.file_of(module),
            name: format!("{module}.{}", PACKED.join("` or `")),
        }
    }

    /// Reads a tensor in its stored type.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] if it does not exist; [`Error::Io`].
    pub fn tensor(&self, name: &str) -> Result<PlainTensor> {
        self.shards.tensor(name)
    }

    /// Returns the type and the shape of a tensor, or `None` if it does not exist.
    pub fn tensor_info(&self, name: &str) -> Option<(Dtype, &[usize])> {
        let info = self.shards.info(name)?;
        Some((info.dtype, &info.shape))
    }

    /// Returns the number of bytes of a tensor, or 0 if it does not exist.
    fn tensor_bytes(&self, tensor: &str) -> u64 {
        let info = self.shards.info(tensor);
        info.map_or(0, |i| (i.data_offsets.1 - i.data_offsets.0) as u64)
    }

    /// Returns the type, N and K of a tensor if it is a floating-point matrix, which can be
    /// quantized.
    fn matrix(&self, tensor: &str) -> Option<(Dtype, usize, usize)> {
        let info = self.shards.info(tensor)?;
        let float = [Dtype::BF16, Dtype::F16, Dtype::F32].contains(&info.dtype);
        match *info.shape.as_slice() {
            [n, k] if float && n > 0 && k > 0 => Some((info.dtype, n, k)),
            _ => None,
        }
    }
}
