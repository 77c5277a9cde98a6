//! Llama-2, the language model of OpenVLA.
//!
//! # Formulas
//! A layer is `x += o(attention(norm(x)))`, then `x += down(silu(gate(n)) * up(n))` of
//! `n = norm(x)`. norm is RMSNorm, `w * x / sqrt(mean(x^2) + eps)`. Attention has the scale
//! `head_dim^-0.5` and rotary embeddings of q and k.
//!
//! # Arithmetic
//! Every linear layer of the stack is a W4AX GEMM at the width of the pass, unless the model is
//! unquantized. The hidden state between them has the type of the stack: F32 in a quantized model,
//! so that only the input and the output of a GEMM are BF16; BF16 or F32 in an unquantized one.
//! At A2, A4 and A8 on the CPU, q, k and v share one quantization of their norm, gate and up
//! another, and down reads `silu(gate) * up` quantized, all without BF16 rows in memory
//! ([`w4ax::numerics`]).

mod cache;
mod layer;
mod rotary;

use super::probe::{LayerPart, Probe};
use super::{AnyLinear, Loader};
use crate::config::LlamaConfig;
use crate::{Result, VlaError, ops};
use cache::LayerCache;
use candle_core::{DType, Device, Tensor};
use layer::{Attention, LINEARS, Layer};
use rotary::Rotary;
use w4ax::Width;
use w4ax::dispatch::LayerFloors;

/// The prefix of the tensors of the language model.
const PREFIX: &str = "language_model";

/// Which tokens of a pass see each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// Each token sees the tokens before it: OpenVLA.
    Causal,
    /// Every token sees every token: OpenVLA-OFT.
    Bidirectional,
}

/// The rows of the head that are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadRows {
    /// The id of the first row.
    pub first: u32,
    /// The number of rows.
    pub count: usize,
}

/// The decoder stack with its embeddings, its head and its cache.
#[derive(Debug)]
pub struct Llama {
    /// `[vocab, hidden]`
    embeddings: Tensor,
    layers: Vec<Layer>,
    /// `[hidden]`
    norm: Tensor,
    head: Option<(HeadRows, ops::Linear)>,
    rotary: Rotary,
    /// By layer; empty for a bidirectional model.
    cache: Vec<LayerCache>,
    /// Tokens in the cache.
    past: usize,
    /// Tokens that the cache is allocated for.
    capacity: usize,
    /// Tokens of the longest sequence that the model was made for.
    context: usize,
    /// `(kv_heads, head_dim)`
    kv: (usize, usize),
    eps: f64,
    /// `[layers]`: the narrowest width of each layer.
    floors: LayerFloors,
    /// The type of the hidden state.
    hidden_type: DType,
    /// The type of the head's input and of the cache.
    plain_type: DType,
}

/// What to load, beside the shapes.
#[derive(Clone, Debug)]
pub(super) struct LlamaOptions {
    pub visibility: Visibility,
    /// The rows of the head, or `None` for a model with an action head.
    pub head: Option<HeadRows>,
    /// Tokens that the cache is allocated for.
    pub tokens: usize,
}

impl Llama {
    /// Loads the model, one tensor at a time: its linear layers by `linears`, whose type is that of
    /// the hidden state, and everything else by `plain`.
    pub(super) fn load(
        plain: &Loader<'_>,
        linears: &Loader<'_>,
        config: &LlamaConfig,
        options: &LlamaOptions,
    ) -> Result<Self> {
        let (hidden, device) = (config.hidden, plain.device());
        let (head_dim, kv_heads) = (hidden / config.heads, config.kv_heads);
        let norm = |name: &str| plain.tensor(name, &[hidden]);
        let name = format!("{PREFIX}.model.embed_tokens.weight");
        let embeddings = plain.tensor(&name, &[config.vocab, hidden])?;
        let mut layers = Vec::with_capacity(config.layers);
        for index in 0..config.layers {
            let prefix = format!("{PREFIX}.model.layers.{index}");
            let (inner, kv) = (config.intermediate, kv_heads * head_dim);
            let shapes = [
                (hidden, hidden),
                (kv, hidden),
                (kv, hidden),
                (hidden, hidden),
                (inner, hidden),
                (inner, hidden),
                (hidden, inner),
            ];
            let loaded = LINEARS
                .into_iter()
                .zip(shapes)
                .map(|(linear, (n, k))| linears.linear(&format!("{prefix}.{linear}"), n, k, false));
            let loaded = loaded.collect::<Result<Vec<AnyLinear>>>()?;
            layers.push(Layer {
                linears: loaded.try_into().map_err(|_| VlaError::InvalidState {
                    call: "load",
                    reason: "a layer has seven linear layers".into(),
                })?,
                norms: [
                    norm(&format!("{prefix}.input_layernorm.weight"))?,
                    norm(&format!("{prefix}.post_attention_layernorm.weight"))?,
                ],
                heads: config.heads,
                kv_heads,
                eps: config.rms_norm_eps,
            });
        }
        let head = match options.head {
            Some(rows) => {
                let name = format!("{PREFIX}.lm_head.weight");
                let all = plain.tensor(&name, &[config.vocab, hidden])?;
                let weight = if rows.count == config.vocab {
                    all
                } else {
                    // A copy: a view would keep all rows in memory.
                    all.narrow(0, rows.first as usize, rows.count)?
                        .force_contiguous()?
                };
                Some((rows, ops::Linear::new(weight, None)?))
            }
            None => None,
        };
        let (kv, capacity) = (
            (kv_heads, head_dim),
            options.tokens.min(config.max_positions),
        );
        let cache = match options.visibility {
            Visibility::Causal => allocate(config.layers, kv, capacity, (plain.dtype(), device))?,
            Visibility::Bidirectional => Vec::new(),
        };
        Ok(Self {
            embeddings,
            floors: LayerFloors::none(layers.len()),
            layers,
            norm: norm(&format!("{PREFIX}.model.norm.weight"))?,
            head,
            rotary: Rotary::new(config.rope_theta, head_dim, config.max_positions, device)?,
            cache,
            past: 0,
            capacity,
            context: config.max_positions,
            kv,
            eps: config.rms_norm_eps,
            hidden_type: linears.dtype(),
            plain_type: plain.dtype(),
        })
    }

    /// Sets the narrowest width of each layer, `[layers]`.
    ///
    /// # Errors
    /// [`w4ax::Error::Shape`] for another number of floors.
    pub fn set_floors(&mut self, floors: &LayerFloors) -> Result<()> {
        if floors.len() != self.layers.len() {
            return Err(w4ax::Error::Shape {
                what: "floors",
                expected: [self.layers.len()].into(),
                got: [floors.len()].into(),
            }
            .into());
        }
        self.floors = floors.clone();
        Ok(())
    }

    /// Returns the number of layers.
    pub fn layers(&self) -> usize {
        self.layers.len()
    }

    /// Returns the width of the hidden state.
    pub fn hidden(&self) -> usize {
        self.norm.elem_count()
    }

    /// Forgets all tokens, and makes room for a sequence of `tokens`.
    ///
    /// # Errors
    /// [`VlaError::Context`] if the model was not made for so many tokens.
    pub fn begin(&mut self, tokens: usize) -> Result<()> {
        self.check_context(tokens)?;
        self.past = 0;
        if tokens > self.capacity && !self.cache.is_empty() {
            let of = (self.plain_type, &self.norm.device().clone());
            let capacity = tokens.next_multiple_of(32).min(self.context);
            self.cache.clear(); // Frees the old cache first.
            self.cache = allocate(self.layers.len(), self.kv, capacity, of)?;
            self.capacity = capacity;
        }
        Ok(())
    }

    /// Returns the embeddings of tokens, `[len, hidden]`, in the type of the stack.
    ///
    /// # Errors
    /// If an id is not in the vocabulary.
    pub fn embed(&self, ids: &[u32]) -> Result<Tensor> {
        let vocab = self.embeddings.dim(0)?;
        if let Some(id) = ids.iter().find(|id| **id as usize >= vocab) {
            return Err(VlaError::Input {
                what: "token id",
                got: id.to_string(),
                expected: format!("less than {vocab}"),
            });
        }
        let ids = Tensor::new(ids, self.embeddings.device())?;
        let rows = self.embeddings.index_select(&ids, 0)?;
        Ok(rows.to_dtype(self.hidden_type)?)
    }

    /// Checks that the model was made for a sequence of `tokens`.
    ///
    /// # Errors
    /// [`VlaError::Context`] if it was not.
    pub fn check_context(&self, tokens: usize) -> Result<()> {
        if tokens > self.context {
            return Err(VlaError::Context {
                tokens,
                max: self.context,
            });
        }
        Ok(())
    }

    /// Runs one layer, at `width` or its floor, on the hidden state `x[M, hidden]` of the tokens
    /// that follow those in the cache. Call [`advance`](Self::advance) after the last layer.
    ///
    /// # Errors
    /// If the tokens do not fit the cache that [`begin`](Self::begin) made room for.
    pub fn run_layer(
        &self,
        layer: usize,
        x: &Tensor,
        width: Width,
        probe: &mut Probe<'_>,
    ) -> Result<Tensor> {
        let tokens = x.dim(0)?;
        let rotation = self.rotary.at(self.past, tokens)?;
        let attention = match self.cache.get(layer) {
            Some(cache) => Attention::Causal {
                cache,
                past: self.past,
            },
            None => Attention::Bidirectional,
        };
        let width = self.floors.width(layer, width);
        let run = &self.layers[layer];
        run.forward(layer, x, &rotation, &attention, width, probe)
    }

    /// Counts `tokens` tokens whose keys and values every layer that ran has stored.
    pub fn advance(&mut self, tokens: usize) {
        if !self.cache.is_empty() {
            self.past += tokens;
        }
    }

    /// Returns RMSNorm of the hidden state `x[M, hidden]` after the last layer.
    ///
    /// # Errors
    /// If x has another width.
    pub fn final_norm(&self, x: &Tensor, probe: &mut Probe<'_>) -> Result<Tensor> {
        probe.time(LayerPart::Norm, || ops::rms_norm(x, &self.norm, self.eps))
    }

    /// Returns the logits of normalized hidden states `[M, hidden]`, `[M][rows]` in F32, and the
    /// id of the first.
    ///
    /// # Errors
    /// [`VlaError::InvalidState`] if the model was loaded without a head.
    pub fn logits(&self, x: &Tensor) -> Result<(u32, Vec<Vec<f32>>)> {
        let Some((rows, head)) = &self.head else {
            return Err(VlaError::InvalidState {
                call: "logits",
                reason: "the model has an action head in place of the head of the language model"
                    .into(),
            });
        };
        let x = x.to_dtype(self.plain_type)?;
        let logits = head.forward(&x)?.to_dtype(DType::F32)?;
        Ok((rows.first, logits.to_vec2()?))
    }

    /// Returns the keys and values in the cache of a layer, `[kv_heads, past, head_dim]` each; keys
    /// after their rotary embedding.
    ///
    /// # Errors
    /// [`VlaError::InvalidState`] for a bidirectional model, which has no cache.
    pub fn cached(&self, layer: usize) -> Result<(Tensor, Tensor)> {
        match self.cache.get(layer) {
            Some(cache) => Ok(cache.first(self.past)?),
            None => Err(VlaError::InvalidState {
                call: "cached",
                reason: "a bidirectional model has no cache".into(),
            }),
        }
    }

    /// Returns the bytes of the layers, the embeddings, the head, and the cache with the tables of
    /// the positions.
    pub(super) fn bytes(&self) -> [u64; 4] {
        let tensor = |t: &Tensor| (t.elem_count() * t.dtype().size_in_bytes()) as u64;
        [
            self.layers.iter().map(Layer::bytes).sum::<u64>() + tensor(&self.norm),
            tensor(&self.embeddings),
            self.head
                .as_ref()
                .map_or(0, |(_, head)| head.bytes() as u64),
            self.cache.iter().map(LayerCache::bytes).sum::<u64>() + self.rotary.bytes(),
        ]
    }
}

/// Allocates the cache of `layers` layers for `tokens` tokens.
fn allocate(
    layers: usize,
    (kv_heads, head_dim): (usize, usize),
    tokens: usize,
    (dtype, device): (DType, &Device),
) -> Result<Vec<LayerCache>> {
    let dims = (kv_heads, tokens, head_dim);
    let cache = |_| LayerCache::new(dims, dtype, device);
    Ok((0..layers).map(cache).collect::<candle_core::Result<_>>()?)
}
