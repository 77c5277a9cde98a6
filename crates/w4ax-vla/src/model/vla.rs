//! The whole model: from an observation to normalized actions.

use super::action_head::ActionHead;
use super::llama::Llama;
use super::load::ModelPart;
use super::observation::{Instruction, Observation};
use super::probe::Probe;
use super::projector::Projector;
use super::proprio::ProprioProjector;
use super::skipping::{self, Choice, LayerRun, SkipNetworks};
use super::vision::VisionTowers;
use crate::action::{self, ActionBins, RobotPlatform};
use crate::config::{DatasetStats, ModelConfig, NormStats};
use crate::image::ImageProcessor;
use crate::text::{PromptStyle, Tokenizer};
use crate::{Result, VlaError};
use candle_core::{DType, Device, Tensor};
use w4ax::Width;
use w4ax::dispatch::LayerFloors;
use w4ax::skip::{Fate, SkipFile};

/// The id of `</s>`, which ends OFT's sequence.
const EOS: u32 = 2;

/// How the actions leave the language model.
#[derive(Debug)]
pub(super) enum Output {
    /// OpenVLA: greedy decoding, one token per number of the action.
    Tokens,
    /// OpenVLA-OFT: all numbers of a chunk in one pass.
    Chunk(Box<Chunk>),
}

/// The parts of OpenVLA-OFT.
#[derive(Debug)]
pub(super) struct Chunk {
    pub platform: RobotPlatform,
    /// The L1 head, or `None` for discrete actions by the head of the language model.
    pub head: Option<ActionHead>,
    pub proprio: Option<ProprioProjector>,
}

/// OpenVLA or OpenVLA-OFT.
///
/// [`VlaRunner`](crate::step::VlaRunner) runs control steps. The methods here are the stages of a
/// step, for checks against a reference: [`prepare`](Self::prepare), [`see`](Self::see),
/// [`sequence`](Self::sequence), [`prefill`](Self::prefill), [`decode`](Self::decode).
#[derive(Debug)]
pub struct Vla {
    pub(super) config: ModelConfig,
    pub(super) stats: NormStats,
    pub(super) processor: ImageProcessor,
    pub(super) tokenizer: Option<Tokenizer>,
    pub(super) style: PromptStyle,
    pub(super) bins: ActionBins,
    pub(super) towers: VisionTowers,
    pub(super) projector: Projector,
    pub(super) llama: Llama,
    pub(super) output: Output,
    pub(super) images: usize,
    pub(super) skip: Option<SkipNetworks>,
    /// Bytes of the parts beside the language model.
    pub(super) loaded: Vec<(ModelPart, u64)>,
    pub(super) device: Device,
    /// The type of the towers' and heads' activations.
    pub(super) plain_type: DType,
}

/// The input of the networks.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// By image, `[6, 224, 224]`.
    pub pixel_values: Vec<Tensor>,
    /// The prompt, BOS first.
    pub ids: Vec<u32>,
    /// The normalized state, `[1, proprio_dim]`.
    pub proprio: Option<Tensor>,
    /// Numbers of an action.
    pub dims: usize,
}

/// What the prefill leaves for the decode.
#[derive(Clone, Debug)]
pub struct Prefilled {
    /// The normalized hidden states that give actions: `[1, hidden]` for OpenVLA, `[n * dims,
    /// hidden]` for OFT.
    pub hidden: Tensor,
    /// The layers that ran.
    pub runs: Vec<LayerRun>,
    /// `[layers]`: what happened to each layer.
    pub fates: Vec<Fate>,
    /// Tokens of the sequence.
    pub tokens: usize,
    /// Numbers of an action.
    pub dims: usize,
}

/// The actions of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// `[n, dims]`, as the policy outputs them: in [-1, 1], beyond it only from an action head.
    pub normalized: Vec<f64>,
    /// The tokens of the actions; empty with an action head.
    pub tokens: Vec<u32>,
    /// The uncertainty of the tokens in units of normalized actions: the norm of the standard
    /// deviations of the numbers, under the softmax of their action tokens' logits. `None` with an
    /// action head.
    pub token_std: Option<f64>,
}

impl Vla {
    /// Returns the configuration of the checkpoint.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Returns the statistics of the data sets.
    pub fn norm_stats(&self) -> &NormStats {
        &self.stats
    }

    /// Returns the language model.
    pub fn llama(&self) -> &Llama {
        &self.llama
    }

    /// Returns the actions of a chunk, 1 for OpenVLA.
    pub fn chunk(&self) -> usize {
        match &self.output {
            Output::Tokens => 1,
            Output::Chunk(chunk) => chunk.platform.chunk(),
        }
    }

    /// Returns whether the actions of a chunk come from one pass over all tokens.
    pub fn is_one_pass(&self) -> bool {
        matches!(self.output, Output::Chunk(_))
    }

    /// Waits for the operations that are enqueued on the device.
    ///
    /// # Errors
    /// If one of them failed.
    pub fn synchronize(&self) -> Result<()> {
        Ok(self.device.synchronize()?)
    }

    /// Sets the networks that skip layers. `name` is the name of their file in errors.
    ///
    /// # Errors
    /// [`VlaError::Field`] for networks of another number of layers or another width.
    pub fn with_skip_networks(mut self, file: &SkipFile, name: &str) -> Result<Self> {
        self.skip = Some(SkipNetworks::new(file, name, &self.llama, &self.device)?);
        Ok(self)
    }

    /// Sets the narrowest width of each layer of the language model, `[layers]`: a layer runs at
    /// the width of the step or at its floor, whichever is wider. A model that is not quantized has
    /// no widths, and floors have no effect.
    ///
    /// # Errors
    /// [`w4ax::Error::Shape`] for another number of floors.
    pub fn set_floors(&mut self, floors: &LayerFloors) -> Result<()> {
        self.llama.set_floors(floors)
    }

    /// Returns the bytes of each part: weights, and the cache.
    pub fn bytes(&self) -> Vec<(ModelPart, u64)> {
        let [layers, embeddings, head, cache] = self.llama.bytes();
        let mut parts = self.loaded.clone();
        parts.extend([
            (ModelPart::Layers, layers),
            (ModelPart::Embeddings, embeddings),
            (ModelPart::Head, head),
            (ModelPart::Cache, cache),
        ]);
        parts
    }

    /// Returns the networks that skip layers, if there are any.
    pub fn skip_networks(&self) -> Option<&SkipNetworks> {
        self.skip.as_ref()
    }

    /// Resizes and normalizes the images, encodes the prompt, and normalizes the state.
    ///
    /// # Errors
    /// - [`VlaError::Input`] for another number of images, a state of another length, or a missing
    ///   one.
    /// - [`VlaError::NormStats`] for an unknown data set.
    /// - [`VlaError::Tokenizer`], if the checkpoint has no tokenizer and the instruction is a text.
    pub fn prepare(&self, observation: &Observation) -> Result<Prepared> {
        if observation.images().len() != self.images {
            return Err(VlaError::Input {
                what: "number of images",
                got: observation.images().len().to_string(),
                expected: self.images.to_string(),
            });
        }
        let ids = match observation.instruction() {
            Instruction::Tokens(ids) if ids.is_empty() => {
                return Err(VlaError::Input {
                    what: "prompt",
                    got: "empty".into(),
                    expected: "token ids, BOS first".into(),
                });
            }
            Instruction::Tokens(ids) => ids.clone(),
            Instruction::Text(text) => match &self.tokenizer {
                Some(tokenizer) => tokenizer.encode_prompt(text, self.style)?,
                None => {
                    return Err(VlaError::Tokenizer {
                        file: "tokenizer.json".into(),
                        reason: "missing: expected the token ids of the prompt".into(),
                    });
                }
            },
        };
        let (key, dataset) = self.stats.get(observation.unnorm_key())?;
        let (dims, proprio) = match &self.output {
            Output::Tokens => (dataset.action.dims(), None),
            Output::Chunk(chunk) => {
                let dims = chunk.platform.action_dims();
                if dataset.action.dims() != dims {
                    return Err(VlaError::Input {
                        what: "numbers of an action in the statistics",
                        got: dataset.action.dims().to_string(),
                        expected: format!("{dims}, as {} has", chunk.platform),
                    });
                }
                let proprio = match &chunk.proprio {
                    Some(_) => Some(self.state(observation, key, dataset, chunk.platform)?),
                    None => None,
                };
                (dims, proprio)
            }
        };
        let pixels = |image| {
            let size = self.processor.size();
            let dims = (self.processor.channels(), size, size);
            let values = Tensor::from_vec(self.processor.pixel_values(image), dims, &self.device)?;
            values.to_dtype(self.plain_type)
        };
        Ok(Prepared {
            pixel_values: (observation.images().iter())
                .map(pixels)
                .collect::<candle_core::Result<_>>()?,
            ids,
            proprio,
            dims,
        })
    }

    /// Returns the normalized state, `[1, proprio_dim]`.
    fn state(
        &self,
        observation: &Observation,
        key: &str,
        dataset: &DatasetStats,
        platform: RobotPlatform,
    ) -> Result<Tensor> {
        let Some(stats) = &dataset.proprio else {
            return Err(VlaError::Input {
                what: "statistics of the state",
                got: "missing".into(),
                expected: format!("`proprio` of `{key}`"),
            });
        };
        let dims = platform.proprio_dims();
        let given = observation.proprio();
        let Some(state) = given.filter(|state| state.len() == dims) else {
            return Err(VlaError::Input {
                what: "state of the robot (proprio)",
                got: given.map_or("missing".into(), |state| format!("{} numbers", state.len())),
                expected: format!("{dims} numbers"),
            });
        };
        let normalized = action::normalize_proprio(state, stats, platform.bounds())?;
        let values: Vec<f32> = normalized.iter().map(|x| *x as f32).collect();
        let state = Tensor::from_vec(values, (1, dims), &self.device)?;
        Ok(state.to_dtype(self.plain_type)?)
    }

    /// Runs the vision towers on each image. Returns the features of the patches, `[256 * images,
    /// 2176]`.
    ///
    /// # Errors
    /// If pixel values have another shape.
    pub fn see(&self, prepared: &Prepared, probe: &mut Probe<'_>) -> Result<Tensor> {
        let features = (prepared.pixel_values.iter())
            .map(|pixels| {
                self.towers
                    .forward(pixels, &mut |name, value| probe.stage(name, value))
            })
            .collect::<Result<Vec<_>>>()?;
        let features = Tensor::cat(&features, 0)?;
        probe.stage("patch_features", &features);
        Ok(features)
    }

    /// Projects the patches and assembles the sequence, `[S, hidden]`.
    ///
    /// OpenVLA: `[BOS] [patches] [prompt after BOS]`. OFT: `[BOS] [patches] [state] [prompt after
    /// BOS] [a zero vector per number of the chunk] [</s>]`.
    ///
    /// # Errors
    /// [`VlaError::Input`] for a token id that is not in the vocabulary; [`VlaError::Context`] for
    /// a sequence that is too long.
    pub fn sequence(
        &self,
        prepared: &Prepared,
        features: &Tensor,
        probe: &mut Probe<'_>,
    ) -> Result<Tensor> {
        let patches = self.projector.forward(features)?; // [256 * images, hidden]
        probe.stage("projector_output", &patches);
        let text = self.llama.embed(&prepared.ids)?; // [L, hidden]
        let hidden_type = text.dtype();
        let length = prepared.ids.len();
        let mut parts = vec![text.narrow(0, 0, 1)?, patches.to_dtype(hidden_type)?];
        if let Output::Chunk(chunk) = &self.output
            && let (Some(projector), Some(state)) = (&chunk.proprio, &prepared.proprio)
        {
            let state = projector.forward(state)?; // [1, hidden]
            probe.stage("proprio_embedding", &state);
            parts.push(state.to_dtype(hidden_type)?);
        }
        if length > 1 {
            parts.push(text.narrow(0, 1, length - 1)?);
        }
        if let Output::Chunk(chunk) = &self.output {
            let numbers = chunk.platform.chunk() * prepared.dims;
            let dims = (numbers, self.llama.hidden());
            parts.push(Tensor::zeros(dims, hidden_type, &self.device)?);
            parts.push(self.llama.embed(&[EOS])?);
        }
        let sequence = Tensor::cat(&parts, 0)?; // [S, hidden]
        let decoded = match &self.output {
            Output::Tokens => prepared.dims - 1,
            Output::Chunk(_) => 0,
        };
        self.llama.check_context(sequence.dim(0)? + decoded)?;
        probe.stage("multimodal_embeddings", &sequence);
        Ok(sequence)
    }

    /// Runs the sequence through the language model, from an empty cache.
    ///
    /// # Errors
    /// If the sequence does not fit the memory.
    pub fn prefill(
        &mut self,
        sequence: &Tensor,
        dims: usize,
        width: Width,
        choice: Option<&w4ax::skip::Guide>,
        probe: &mut Probe<'_>,
    ) -> Result<Prefilled> {
        let tokens = sequence.dim(0)?;
        let more = if self.is_one_pass() { 0 } else { dims - 1 };
        self.llama.begin(tokens + more)?;
        let choice = match (choice, &self.skip) {
            (Some(guide), Some(networks)) => Some(Choice { networks, guide }),
            _ => None,
        };
        let (x, runs, fates) =
            skipping::run_layers(&self.llama, sequence, width, choice.as_ref(), probe)?;
        self.llama.advance(tokens);
        let hidden = match &self.output {
            Output::Tokens => {
                let last = self.llama.final_norm(&x.narrow(0, tokens - 1, 1)?, probe)?;
                if probe.has_stage() {
                    probe.stage(
                        "llama_final_norm",
                        &self.llama.final_norm(&x, &mut Probe::default())?,
                    );
                }
                last
            }
            Output::Chunk(chunk) => {
                let all = self.llama.final_norm(&x, probe)?;
                probe.stage("llama_final_norm", &all);
                // One position before the first zero vector: as in the prediction of the next
                // token, each position gives what the next one holds.
                let numbers = chunk.platform.chunk() * dims;
                all.narrow(0, tokens - numbers - 2, numbers)?
            }
        };
        Ok(Prefilled {
            hidden,
            runs,
            fates,
            tokens,
            dims,
        })
    }
}
