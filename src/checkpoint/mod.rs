//! Other tools' checkpoints, read into packed weights; plain ones, quantized.
//!
//! ```text
//! safetensors (one file, or shards and an index) + config.json -> Checkpoint -> PackedWeight -> device
//!                                                                     |
//!                                                                  Convert -> this crate's packed file
//! ```
//!
//! | format | by | weights of a module `x` |
//! |---|---|---|
//! | AWQ `gemm` | AutoAWQ, GPTQModel | `x.qweight`, `x.qzeros`, `x.scales` |
//! | GPTQ version 1 and 2, `desc_act` too | AutoGPTQ, GPTQModel, optimum | those and `x.g_idx` |
//! | compressed-tensors `pack-quantized` | llm-compressor | `x.weight_packed`, `x.weight_scale`, ... |
//! | plain BF16, F16, F32 | | `x.weight` |
//!
//! The configuration alone says which it is ([`QuantizationConfig`]); what this crate does not read is refused by name
//! ([`Error::Unsupported`]). Quantized weights keep their values: each `(qw - zw) * sw` is the one that the format's own tool
//! computes, once it is rounded to the type in which that tool multiplies. Nothing is quantized twice, no scale changes its
//! type, and a group of 256 k becomes two of 128 with one scale.
//!
//! Files are read tensor by tensor: the memory that is needed is that of one weight.
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
mod shards;
mod stored;

pub use config::{GptqZeros, QuantizationConfig, Scheme};
pub use convert::{Convert, Outcome, Quantized, Repacked, Step, Summary};

use crate::{Error, PackedWeight, Result};
use safetensors::tensor::Dtype;
use shards::Shards;
use std::collections::BTreeSet;
use std::path::Path;

/// An open checkpoint: headers and configuration are read, weights when they are asked for.
#[derive(Debug)]
pub struct Checkpoint {
    shards: Shards,
    config: QuantizationConfig,
    /// Modules that hold packed weights.
    modules: Vec<String>,
}

/// The tensors by which packed weights are known, whatever the configuration says.
const PACKED: [&str; 2] = ["qweight", "weight_packed"];

impl Checkpoint {
    /// Opens a safetensors file, an index (`model.safetensors.index.json`), or a folder with one of them. The configuration is
    /// read from the same folder: `config.json`, `quantize_config.json` or `quant_config.json`.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] or [`Error::MissingTensor`] for files that are truncated, foreign or do not fit
    /// together; [`Error::Unsupported`] for a quantization that this crate does not read, and for its own packed files.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let shards = Shards::open(path.as_ref())?;
        if let Some(file) = shards.of_format("w4ax") {
            let reason = "it is converted already; `PackedFile::load` reads it";
            return Err(Error::unsupported(
                file,
                "a w4ax file as a checkpoint",
                reason,
            ));
        }
        let config = QuantizationConfig::of_folder(&shards.folder)?;
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
                    Scheme::Plain => format!("no quantization_config beside it ({})", config.file),
                    _ => format!("{} names another format", config.file),
                };
                let what = format!("the packed weight `{module}.{part}`");
                return Err(Error::unsupported(shards.file_of(""), what, reason));
            }
        }
        let modules: Vec<String> = own.map_or_else(Vec::new, |part| module_of(part).collect());
        if own.is_some() && modules.is_empty() {
            let reason = format!(
                "{} names a quantization, the tensors hold none",
                config.file
            );
            return Err(Error::format(shards.file_of(""), reason));
        }
        if let Some(module) = modules.iter().find(|module| config.lists(module)) {
            let reason = format!("{} lists the module as not quantized", config.file);
            return Err(shards.bad(module, reason));
        }
        Ok(Self {
            shards,
            config,
            modules,
        })
    }

    /// What the configuration says.
    pub fn config(&self) -> &QuantizationConfig {
        &self.config
    }

    /// The modules with packed weights, by name.
    pub fn quantized(&self) -> impl Iterator<Item = &str> {
        self.modules.iter().map(String::as_str)
    }

    /// The tensors that are not part of a packed weight, by name.
    pub fn plain(&self) -> impl Iterator<Item = &str> {
        let parts: BTreeSet<String> = (self.modules.iter())
            .flat_map(|module| self.parts().iter().map(move |p| format!("{module}.{p}")))
            .collect();
        self.shards
            .names()
            .filter(move |name| !parts.contains(*name))
    }

    /// The tensors of a packed weight, after the module's name.
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
    /// [`Error::MissingTensor`]; [`Error::Tensor`] for a type, a shape or groups (`g_idx`) that do not fit, or a scale that is
    /// not finite; [`Error::Io`].
    pub fn weight(&self, module: &str) -> Result<PackedWeight> {
        let shards = &self.shards;
        let stored = match self.config.scheme {
            Scheme::Plain => {
                return Err(Error::MissingTensor {
                    file: shards.file_of(module),
                    name: format!("{module}.{}", PACKED.join("` or `")),
                });
            }
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

    /// Whether a tensor is a matrix of plain numbers that can be quantized: its type and sides.
    fn matrix(&self, tensor: &str) -> Option<(Dtype, usize, usize)> {
        let info = self.shards.info(tensor)?;
        let float = [Dtype::BF16, Dtype::F16, Dtype::F32].contains(&info.dtype);
        match *info.shape.as_slice() {
            [n, k] if float && n > 0 && k > 0 => Some((info.dtype, n, k)),
            _ => None,
        }
    }
}
