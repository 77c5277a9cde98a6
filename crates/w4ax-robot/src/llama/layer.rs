//! A decoder layer of Llama's shape on candle: norm, attention with a cache, norm, gated MLP. Its
//! projections are any candle modules.

use candle_core::{D, DType, Device, Module, Result, Tensor};
use candle_nn::{ops, rotary_emb};

/// The sizes of a layer.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Inner width of the MLP.
    pub intermediate: usize,
    /// Attention heads.
    pub heads: usize,
    /// The largest number of tokens of a sequence.
    pub max_tokens: usize,
}

/// OpenVLA's backbone, Llama-2-7B.
pub const OPENVLA: Sizes = Sizes {
    hidden: 4096,
    intermediate: 11008,
    heads: 32,
    max_tokens: 512,
};

impl Sizes {
    /// Returns the name in Llama's checkpoints and `[N, K]` of each projection.
    pub fn projections(&self) -> [(&'static str, usize, usize); 7] {
        let (hidden, inner) = (self.hidden, self.intermediate);
        [
            ("self_attn.q_proj", hidden, hidden),
            ("self_attn.k_proj", hidden, hidden),
            ("self_attn.v_proj", hidden, hidden),
            ("self_attn.o_proj", hidden, hidden),
            ("mlp.gate_proj", inner, hidden),
            ("mlp.up_proj", inner, hidden),
            ("mlp.down_proj", hidden, inner),
        ]
    }
}

/// Measures the parts of a layer.
pub trait Clock {
    /// Runs a part of the layer and returns its result.
    ///
    /// # Errors
    /// Those of the part.
    fn part<T>(&mut self, name: &'static str, run: impl FnOnce() -> Result<T>) -> Result<T>;
}

/// A clock that measures nothing.
pub struct NoClock;

impl Clock for NoClock {
    fn part<T>(&mut self, _: &'static str, run: impl FnOnce() -> Result<T>) -> Result<T> {
        run()
    }
}

/// Keys and values of the tokens so far, `[1, heads, tokens, head]`.
#[derive(Default)]
pub struct Cache(Option<(Tensor, Tensor)>);

impl Cache {
    /// Tokens in the cache.
    pub fn tokens(&self) -> usize {
        self.0.as_ref().map_or(0, |(k, _)| k.dims()[2])
    }
}

/// A decoder layer whose projections are `P`.
pub struct Layer<P> {
    sizes: Sizes,
    /// q, k, v, o, gate, up, down.
    projections: [P; 7],
    norms: [Tensor; 2],
    cos: Tensor,
    sin: Tensor,
}

impl<P: Module> Layer<P> {
    const EPS: f32 = 1e-5;

    /// Makes a layer. `projections` are in the order of [`Sizes::projections`]; `norms` are those
    /// before attention and before the MLP, `[hidden]` each.
    pub fn new(
        sizes: Sizes,
        projections: [P; 7],
        norms: [Tensor; 2],
        device: &Device,
    ) -> Result<Self> {
        let head = sizes.hidden / sizes.heads;
        let frequencies: Vec<f32> = (0..head)
            .step_by(2)
            .map(|i| 10_000f32.powf(-(i as f32) / head as f32))
            .collect();
        let frequencies = Tensor::new(frequencies, device)?.unsqueeze(0)?; // [1, head/2]
        let positions = Tensor::arange(0u32, sizes.max_tokens as u32, device)?
            .to_dtype(DType::F32)?
            .unsqueeze(1)?;
        let angles = positions.broadcast_mul(&frequencies)?; // [tokens, head/2]
        Ok(Self {
            sizes,
            projections,
            norms,
            cos: angles.cos()?,
            sin: angles.sin()?,
        })
    }

    /// Computes the layer, `[tokens, hidden]` BF16, for tokens that follow those in the cache.
    pub fn forward(&self, x: &Tensor, cache: &mut Cache, clock: &mut impl Clock) -> Result<Tensor> {
        let [q, k, v, o, gate, up, down] = &self.projections;
        let normed = clock.part("norms", || ops::rms_norm(x, &self.norms[0], Self::EPS))?;
        let (q, k, v) = clock.part("q, k, v", || {
            Ok((
                q.forward(&normed)?,
                k.forward(&normed)?,
                v.forward(&normed)?,
            ))
        })?;
        let mixed = clock.part("attention", || self.attention(&q, &k, &v, cache))?;
        let x = clock.part("o", || x + o.forward(&mixed)?)?;
        let normed = clock.part("norms", || ops::rms_norm(&x, &self.norms[1], Self::EPS))?;
        let (gate, up) = clock.part("gate, up", || {
            Ok((gate.forward(&normed)?, up.forward(&normed)?))
        })?;
        let inner = clock.part("silu", || gate.silu()? * up)?;
        clock.part("down", || x + down.forward(&inner)?)
    }

    /// Causal attention in f32: q, k and v are `[tokens, hidden]`.
    fn attention(&self, q: &Tensor, k: &Tensor, v: &Tensor, cache: &mut Cache) -> Result<Tensor> {
        let (tokens, past) = (q.dims()[0], cache.tokens());
        let head = self.sizes.hidden / self.sizes.heads;
        let heads = |x: &Tensor| -> Result<Tensor> {
            x.to_dtype(DType::F32)?
                .reshape((1, tokens, self.sizes.heads, head))?
                .transpose(1, 2)?
                .contiguous()
        };
        let rotated = |x: &Tensor| {
            let [cos, sin] = [&self.cos, &self.sin].map(|t| t.narrow(0, past, tokens));
            rotary_emb::rope(&heads(x)?, &cos?, &sin?)
        };
        let (q, mut k, mut v) = (rotated(q)?, rotated(k)?, heads(v)?); // [1, heads, tokens, head]
        if let Some((past_k, past_v)) = cache.0.take() {
            k = Tensor::cat(&[past_k, k], 2)?;
            v = Tensor::cat(&[past_v, v], 2)?;
        }
        // [1, heads, tokens, all]
        let scores = (q.matmul(&k.transpose(2, 3)?)? / (head as f64).sqrt())?;
        let masked = if tokens > 1 {
            let all = past + tokens;
            let hidden = (0..tokens * all).map(|i| {
                if i % all > past + i / all {
                    f32::NEG_INFINITY
                } else {
                    0.0
                }
            });
            scores.broadcast_add(&Tensor::from_iter(hidden, q.device())?.reshape((tokens, all))?)?
        } else {
            scores
        };
        let mixed = ops::softmax(&masked, D::Minus1)?.matmul(&v)?; // [1, heads, tokens, head]
        cache.0 = Some((k, v));
        mixed
            .transpose(1, 2)?
            .reshape((tokens, self.sizes.hidden))?
            .to_dtype(DType::BF16)
    }
}
