//! One decoder layer.

use super::cache::LayerCache;
use super::rotary::Rotation;
use crate::model::AnyLinear;
use crate::model::input::LinearInput;
use crate::model::probe::{LayerPart, Probe};
use crate::ops::{self, Mask};
use crate::{Result, VlaError};
use candle_core::{DType, Tensor};
use w4ax::Width;

/// The names of the linear layers, in the order of [`Layer::linears`].
pub(super) const LINEARS: [&str; 7] = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
];

/// A decoder layer: `x += o(attention(norm(x)))`, then `x += down(silu(gate) * up)` of `norm(x)`.
#[derive(Debug)]
pub(super) struct Layer {
    /// q, k, v, o, gate, up and down.
    pub linears: [AnyLinear; 7],
    /// Before attention and before the feed-forward part, `[hidden]` each.
    pub norms: [Tensor; 2],
    pub heads: usize,
    pub kv_heads: usize,
    pub eps: f64,
}

/// Which keys a token sees, and where they are.
pub(super) enum Attention<'a> {
    /// Each token sees itself and the tokens before it; the first `past` of them are in the cache,
    /// which is extended.
    Causal { cache: &'a LayerCache, past: usize },
    /// Each token sees every token of the pass. No cache is used.
    Bidirectional,
}

/// The input of linear layers, with its rows for a probe that reports them.
struct Input {
    input: LinearInput,
    rows: Option<Tensor>,
}

impl Input {
    /// `rows` computes the rows of a quantized input, if the probe reports them.
    fn new(
        input: LinearInput,
        probe: &Probe<'_>,
        rows: impl FnOnce() -> Result<Tensor>,
    ) -> Result<Self> {
        let rows = match &input {
            LinearInput::Rows(rows) => Some(rows.clone()),
            LinearInput::Quantized(_) if probe.has_stage() => Some(rows()?),
            LinearInput::Quantized(_) => None,
        };
        Ok(Self { input, rows })
    }

    fn of_rows(rows: Tensor) -> Self {
        Self {
            rows: Some(rows.clone()),
            input: LinearInput::Rows(rows),
        }
    }
}

impl Layer {
    /// Returns the output of the layer for the hidden state `x[M, hidden]`. All linear layers run
    /// at `width` if they are packed. Packed layers that read a norm or `silu(gate) * up` share its
    /// quantization.
    pub fn forward(
        &self,
        index: usize,
        x: &Tensor,
        rotation: &Rotation,
        attention: &Attention<'_>,
        width: Width,
        probe: &mut Probe<'_>,
    ) -> Result<Tensor> {
        let [q, k, v, o, gate, up, down] = &self.linears;
        let dtype = x.dtype();
        let linear = |at: usize, x: &Input, dtype: DType, probe: &mut Probe<'_>| {
            let layer = &self.linears[at];
            let y = probe.time(LayerPart::Gemm, || x.input.forward(layer, width, dtype))?;
            if let Some(rows) = &x.rows {
                probe.linear(index, LINEARS[at], [rows, &y]);
            }
            Ok::<_, VlaError>(y)
        };
        let (weight, eps) = (&self.norms[0], self.eps);
        let normed = probe.time(LayerPart::Norm, || {
            LinearInput::rms_norm(x, weight, eps, &[q, k, v], width)
        })?; // [M, hidden]
        let normed = Input::new(normed, probe, || ops::rms_norm(x, weight, eps))?;
        let q = linear(0, &normed, dtype, probe)?; // [M, heads * head_dim]
        let k = linear(1, &normed, dtype, probe)?; // [M, kv_heads * head_dim]
        let v = linear(2, &normed, dtype, probe)?; // [M, kv_heads * head_dim]
        let mixed = probe.time(LayerPart::Attention, || {
            self.attend(&q, &k, &v, rotation, attention)
        })?; // [M, heads * head_dim]
        let mixed = Input::of_rows(mixed);
        let addend_type = LinearInput::addend_type(o, &[gate, up], width, dtype);
        let mixed = linear(3, &mixed, addend_type, probe)?; // [M, hidden]
        let (weight, eps) = (&self.norms[1], self.eps);
        let (x, normed) = probe.time(LayerPart::Norm, || {
            LinearInput::add_rms_norm(x, &mixed, (weight, eps), &[gate, up], width)
        })?; // [M, hidden] both
        let normed = Input::new(normed, probe, || ops::rms_norm(&x, weight, eps))?;
        let inner_type = LinearInput::swiglu_type([gate, up, down], width, dtype);
        let gate = linear(4, &normed, inner_type, probe)?; // [M, intermediate]
        let up = linear(5, &normed, inner_type, probe)?; // [M, intermediate]
        let inner = probe.time(LayerPart::Elementwise, || {
            LinearInput::swiglu(&gate, &up, down, width, dtype)
        })?;
        let inner = Input::new(inner, probe, || {
            ops::swiglu(&ops::cast(&gate, dtype)?, &ops::cast(&up, dtype)?)
        })?; // [M, intermediate]
        let y = linear(6, &inner, dtype, probe)?; // [M, hidden]
        let x = probe.time(LayerPart::Elementwise, || Ok((x + y)?))?;
        probe.layer(index, &x);
        Ok(x)
    }

    /// Returns `[M, heads * head_dim]` of q, k and v, `[M, (kv_)heads * head_dim]`.
    fn attend(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        rotation: &Rotation,
        attention: &Attention<'_>,
    ) -> Result<Tensor> {
        let tokens = q.dim(0)?;
        let split = |x: &Tensor, heads: usize| {
            let head_dim = x.dim(1)? / heads;
            let split = x.reshape((tokens, heads, head_dim))?.transpose(0, 1)?;
            Ok::<_, VlaError>(split.contiguous()?)
        };
        let q = rotation.rotate(&split(q, self.heads)?)?; // [heads, M, head_dim]
        let k = rotation.rotate(&split(k, self.kv_heads)?)?; // [kv_heads, M, head_dim]
        let v = split(v, self.kv_heads)?; // [kv_heads, M, head_dim]
        let (k, v, mask) = match attention {
            Attention::Causal { cache, past } => {
                let (k, v) = cache.store(&k, &v, *past)?;
                (k, v, Mask::Causal { past: *past })
            }
            Attention::Bidirectional => (k, v, Mask::None),
        };
        ops::attention(&q, &k, &v, mask)
    }

    /// Returns the bytes of the linear layers and of the norms.
    pub fn bytes(&self) -> u64 {
        let norms = self
            .norms
            .iter()
            .map(|n| n.elem_count() * n.dtype().size_in_bytes());
        self.linears.iter().map(AnyLinear::bytes).sum::<u64>() + norms.sum::<usize>() as u64
    }
}
