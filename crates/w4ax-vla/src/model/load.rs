//! Loads a model, one tensor at a time.

use super::action_head::ActionHead;
use super::llama::{HeadRows, Llama, LlamaOptions, Visibility};
use super::loader::Loader;
use super::numerics::TypedSource;
use super::options::LoadOptions;
use super::plan::ModelPlan;
use super::projector::Projector;
use super::proprio::ProprioProjector;
use super::vision::VisionTowers;
use super::vla::{Chunk, Output, Vla};
use crate::Result;
use crate::action::ActionBins;
use crate::checkpoint::{StoredWeight, VlaFolder, WeightSource};
use crate::config::{ModelConfig, NormStats, ProcessorConfig};
use crate::image::ImageProcessor;
use crate::text::{PromptStyle, Tokenizer};
use candle_core::Tensor;
use std::cell::RefCell;
use std::path::Path;

/// The progress of a load, after each tensor.
#[derive(Clone, Copy, Debug)]
pub struct LoadProgress<'a> {
    /// The name of the tensor, or of the packed weight.
    pub name: &'a str,
    /// Numbers that are loaded.
    pub done: u64,
    /// Numbers of the model.
    pub total: u64,
}

/// A part of a model's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ModelPart {
    /// The vision towers.
    Vision,
    /// The projector of the patches.
    Projector,
    /// The layers of the language model.
    Layers,
    /// The embeddings of the tokens.
    Embeddings,
    /// The head of the language model.
    Head,
    /// Keys and values, and the tables of the positions.
    Cache,
    /// OFT: the action head and the projector of the state.
    ActionHead,
}

impl ModelPart {
    /// Returns the name, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vision => "vision",
            Self::Projector => "projector",
            Self::Layers => "layers",
            Self::Embeddings => "embeddings",
            Self::Head => "head",
            Self::Cache => "cache",
            Self::ActionHead => "action head",
        }
    }
}

impl std::fmt::Display for ModelPart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// What a checkpoint holds beside its weights.
#[derive(Debug)]
pub struct ModelFiles {
    /// `config.json`
    pub config: ModelConfig,
    /// `dataset_statistics.json`, or `norm_stats` of the configuration.
    pub stats: NormStats,
    /// `preprocessor_config.json`
    pub processor: ImageProcessor,
    /// `tokenizer.json`. Without it an instruction must be token ids.
    pub tokenizer: Option<Tokenizer>,
    /// The prompt that the model was trained on.
    pub style: PromptStyle,
    /// Whether the model is OpenVLA-OFT: one bidirectional pass, and chunks of actions.
    pub one_pass: bool,
}

impl Vla {
    /// Loads a checkpoint: a folder of Hugging Face, or one that `w4ax convert` made. `progress` is
    /// called after each tensor.
    ///
    /// The model is OpenVLA-OFT if the folder has an action head (`action_head--*_checkpoint.pt`).
    ///
    /// Memory in use is that of the model and of one tensor.
    ///
    /// # Errors
    /// The variants of [`VlaError`](crate::VlaError):
    /// - `Memory` if the model does not fit the available memory. Nothing is loaded.
    /// - `Files`, `Io`, `Json`, `Field` and `Tokenizer` for missing or invalid files.
    /// - `MissingTensor`, `TensorShape` and `TensorType`.
    /// - `InvalidState` for an unquantized model of packed weights.
    pub fn load(
        folder: impl AsRef<Path>,
        options: &LoadOptions,
        progress: &mut dyn FnMut(LoadProgress<'_>),
    ) -> Result<Self> {
        let folder = folder.as_ref();
        let source = VlaFolder::open(folder)?;
        let files = ModelFiles {
            config: ModelConfig::load(folder)?,
            stats: NormStats::load(folder)?,
            processor: ProcessorConfig::load(folder)?.processor()?,
            tokenizer: if folder.join("tokenizer.json").is_file() {
                Some(Tokenizer::load(folder)?)
            } else {
                None
            },
            style: PromptStyle::of_folder(folder),
            one_pass: source.has_component("action_head"),
        };
        Self::from_source(&source, files, options, progress)
    }

    /// Loads a model from any source of weights, see [`Vla::load`].
    ///
    /// # Errors
    /// As [`Vla::load`], but for the files.
    pub fn from_source(
        source: &dyn WeightSource,
        files: ModelFiles,
        options: &LoadOptions,
        progress: &mut dyn FnMut(LoadProgress<'_>),
    ) -> Result<Self> {
        let one_pass = options.one_pass().unwrap_or(files.one_pass);
        let config = &files.config;
        let vocab = config.llama.vocab;
        let actions = vocab - config.pad_to_multiple_of;
        let has_action_head = source.shape(ACTION_HEAD).is_some();
        let head = match (one_pass && has_action_head, options.action_rows_only()) {
            (true, _) => None,
            (false, false) => Some(HeadRows {
                first: 0,
                count: vocab,
            }),
            (false, true) => Some(HeadRows {
                first: (actions - config.n_action_bins) as u32,
                count: config.n_action_bins,
            }),
        };
        let rows = head.map_or(0, |rows: HeadRows| rows.count);
        let plan = ModelPlan::new(source, &config.llama, options, one_pass, rows);
        plan.memory.check("the model")?;
        let source = Counted {
            source,
            progress: RefCell::new((0, progress)),
            total: plan.numbers,
        };
        let numerics = options.numerics();
        let (plain_type, device) = (numerics.plain_type(), options.device());
        let typed = |pack| TypedSource {
            source: &source,
            numerics,
            pack,
        };
        let (plain, language) = (typed(None), typed(numerics.quantize()));
        let vision = typed(numerics.quantize().filter(|_| options.packed_vision()));
        let plain = Loader::new(&plain, device, plain_type)?;
        let vision = Loader::new(&vision, device, plain_type)?;
        let language = Loader::new(&language, device, numerics.hidden_type())?;
        let llama = LlamaOptions {
            visibility: if one_pass {
                Visibility::Bidirectional
            } else {
                Visibility::Causal
            },
            head,
            tokens: options.tokens(),
        };
        let platform = options.platform();
        let output = if one_pass {
            Output::Chunk(Box::new(Chunk {
                platform,
                head: (has_action_head)
                    .then(|| ActionHead::load(&plain))
                    .transpose()?,
                proprio: (source.shape(PROPRIO).is_some())
                    .then(|| ProprioProjector::load(&plain))
                    .transpose()?,
            }))
        } else {
            Output::Tokens
        };
        let images = if one_pass { platform.images() } else { 1 };
        let mut loaded = Vec::new();
        if one_pass {
            loaded.push((ModelPart::ActionHead, plain.bytes()));
        }
        let towers = VisionTowers::load(&vision)?;
        let seen = vision.bytes();
        loaded.push((ModelPart::Vision, seen));
        let projector = Projector::load(&vision, towers.features())?;
        loaded.push((ModelPart::Projector, vision.bytes() - seen));
        Ok(Self {
            towers,
            projector,
            loaded,
            llama: Llama::load(&plain, &language, &config.llama, &llama)?,
            output,
            images: options.images().unwrap_or(images),
            skip: None,
            bins: ActionBins::of_model(config)?,
            device: device.clone(),
            plain_type,
            config: files.config,
            stats: files.stats,
            processor: files.processor,
            tokenizer: files.tokenizer,
            style: files.style,
        })
    }
}

/// A tensor of the action head.
const ACTION_HEAD: &str = "action_head.model.fc1.weight";
/// A tensor of the projector of the state.
const PROPRIO: &str = "proprio_projector.fc1.weight";

/// Receives the progress.
type Progress<'a> = &'a mut dyn FnMut(LoadProgress<'_>);

/// A source that reports its progress.
struct Counted<'a> {
    source: &'a dyn WeightSource,
    progress: RefCell<(u64, Progress<'a>)>,
    total: u64,
}

impl Counted<'_> {
    fn report(&self, name: &str, count: usize) {
        let (done, progress) = &mut *self.progress.borrow_mut();
        // The total is an estimate for towers of unusual shapes.
        *done = (*done + count as u64).min(self.total);
        progress(LoadProgress {
            name,
            done: *done,
            total: self.total,
        });
    }
}

impl WeightSource for Counted<'_> {
    fn name(&self) -> String {
        self.source.name()
    }

    fn shape(&self, tensor: &str) -> Option<Vec<usize>> {
        self.source.shape(tensor)
    }

    fn tensor(&self, tensor: &str, shape: &[usize]) -> Result<Tensor> {
        let read = self.source.tensor(tensor, shape)?;
        self.report(tensor, read.elem_count());
        Ok(read)
    }

    fn weight(&self, module: &str, n: usize, k: usize) -> Result<StoredWeight> {
        let read = self.source.weight(module, n, k)?;
        self.report(module, n * k);
        Ok(read)
    }
}
