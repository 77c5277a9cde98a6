//! The language model and OFT's head in F64, written from their description, with a switch per
//! peculiarity. They begin with the reference's projected patches.

use super::fixture::{data, values};
use candle_core::{DType, Device};
use std::collections::HashMap;
use std::path::PathBuf;

const HIDDEN: usize = 64;
const LAYERS: usize = 4;
const HEADS: usize = 4;
const HEAD: usize = HIDDEN / HEADS;
/// Numbers of an OFT chunk: 8 actions of 7.
const NUMBERS: usize = 56;
const EOS: u32 = 2;

/// What an implementation may get wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    NormEps,
    PatchesFirst,
    PatchesLast,
    BidirectionalPrefill,
    NoLastSpace,
    DecodePositionsWithoutPatches,
    PositionsFromOne,
    InterleavedRope,
    RoundedFrequencies,
    Causal,
    WindowAtFirstZero,
    BeforeFinalNorm,
    RearrangedRows,
    EmbeddingOfOne,
    NoEos,
    SwappedImages,
    ProprioBeforePatches,
    NoProprio,
    Gelu,
}

/// Tensors in F64 by name, with their shapes.
pub struct Weights(HashMap<String, (Vec<usize>, Vec<f64>)>);

impl Weights {
    fn read(files: &[PathBuf], prefix: &str) -> Self {
        let mut all = HashMap::new();
        for file in files {
            for (name, x) in candle_core::safetensors::load(file, &Device::Cpu).unwrap() {
                if let Some(name) = name.strip_prefix(prefix) {
                    let wide = x.to_dtype(DType::F32).unwrap();
                    all.insert(name.to_owned(), (x.dims().to_vec(), values(&wide)));
                }
            }
        }
        Self(all)
    }

    pub fn of_model() -> Self {
        let shard = |i| data().join(format!("openvla-tiny/model-0000{i}-of-00002.safetensors"));
        Self::read(&[shard(1), shard(2)], "language_model.")
    }

    pub fn of_head() -> Self {
        let file = "oft-tiny/action_head--150000_checkpoint.safetensors";
        Self::read(&[data().join(file)], "module.model.")
    }

    fn get(&self, name: &str) -> &[f64] {
        &self.0[name].1
    }

    fn linear(&self, module: &str, x: &[f64]) -> Vec<f64> {
        let (shape, weight) = &self.0[&format!("{module}.weight")];
        let bias = self.0.get(&format!("{module}.bias"));
        let mut y = Vec::with_capacity(x.len() / shape[1] * shape[0]);
        for x in x.chunks_exact(shape[1]) {
            for (n, row) in weight.chunks_exact(shape[1]).enumerate() {
                y.push(dot(row, x) + bias.map_or(0.0, |bias| bias.1[n]));
            }
        }
        y
    }

    fn rms_norm(&self, module: &str, x: &[f64], eps: f64) -> Vec<f64> {
        let weight = self.get(&format!("{module}.weight"));
        let rows = x.chunks_exact(weight.len()).flat_map(|x| {
            let scale = 1.0 / (dot(x, x) / x.len() as f64 + eps).sqrt();
            x.iter().zip(weight).map(move |(x, w)| w * x * scale)
        });
        rows.collect()
    }

    fn layer_norm(&self, module: &str, x: &[f64]) -> Vec<f64> {
        let weight = self.get(&format!("{module}.weight"));
        let bias = self.get(&format!("{module}.bias"));
        let n = weight.len() as f64;
        let rows = x.chunks_exact(weight.len()).flat_map(|x| {
            let mean = x.iter().sum::<f64>() / n;
            let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
            let scale = 1.0 / (variance + 1e-5).sqrt();
            let parts = x.iter().zip(weight).zip(bias);
            parts.map(move |((x, w), b)| (x - mean) * scale * w + b)
        });
        rows.collect()
    }

    fn embed(&self, ids: &[u32]) -> Vec<f64> {
        let table = self.get("model.embed_tokens.weight");
        let row = |id: &u32| &table[*id as usize * HIDDEN..][..HIDDEN];
        ids.iter().flat_map(row).copied().collect()
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 4];
    let (a4, b4) = (a.chunks_exact(4), b.chunks_exact(4));
    let rest = a4.remainder().iter().zip(b4.remainder());
    let rest: f64 = rest.map(|(a, b)| a * b).sum();
    for (a, b) in a4.zip(b4) {
        for i in 0..4 {
            sums[i] += a[i] * b[i];
        }
    }
    sums.iter().sum::<f64>() + rest
}

fn add(x: &mut [f64], y: &[f64]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

/// The decoder with the keys and values of the tokens that it has seen.
struct Decoder<'a> {
    w: &'a Weights,
    fault: Option<Fault>,
    /// By layer, `[tokens, HIDDEN]`.
    keys: Vec<Vec<f64>>,
    values: Vec<Vec<f64>>,
}

impl<'a> Decoder<'a> {
    fn new(w: &'a Weights, fault: Option<Fault>) -> Self {
        let empty = vec![Vec::new(); LAYERS];
        Self {
            w,
            fault,
            keys: empty.clone(),
            values: empty,
        }
    }

    fn eps(&self) -> f64 {
        match self.fault {
            Some(Fault::NormEps) => 1e-5,
            _ => 1e-6,
        }
    }

    /// Rotates the heads of tokens from position `first` on.
    fn rotate(&self, x: &mut [f64], first: usize) {
        for (token, x) in x.chunks_exact_mut(HIDDEN).enumerate() {
            for x in x.chunks_exact_mut(HEAD) {
                for j in 0..HEAD / 2 {
                    let mut frequency = 1e4f64.powf(-2.0 * j as f64 / HEAD as f64);
                    if self.fault == Some(Fault::RoundedFrequencies) {
                        frequency = half::bf16::from_f64(frequency).to_f64();
                    }
                    let (sin, cos) = ((first + token) as f64 * frequency).sin_cos();
                    let (a, b) = match self.fault {
                        Some(Fault::InterleavedRope) => (2 * j, 2 * j + 1),
                        _ => (j, j + HEAD / 2),
                    };
                    (x[a], x[b]) = (x[a] * cos - x[b] * sin, x[b] * cos + x[a] * sin);
                }
            }
        }
    }

    /// Runs the tokens `x[M, HIDDEN]` from position `first` on. Returns the hidden state after each
    /// layer.
    fn pass(&mut self, mut x: Vec<f64>, first: usize, causal: bool) -> Vec<Vec<f64>> {
        let mut outputs = Vec::with_capacity(LAYERS);
        let (w, eps) = (self.w, self.eps());
        for layer in 0..LAYERS {
            let name = |module: &str| format!("model.layers.{layer}.{module}");
            let linear = |module: &str, x: &[f64]| w.linear(&name(module), x);
            let norm = |module: &str, x: &[f64]| w.rms_norm(&name(module), x, eps);
            let normed = norm("input_layernorm", &x);
            let mut q = linear("self_attn.q_proj", &normed);
            let mut k = linear("self_attn.k_proj", &normed);
            let v = linear("self_attn.v_proj", &normed);
            self.rotate(&mut q, first);
            self.rotate(&mut k, first);
            let past = self.keys[layer].len() / HIDDEN;
            self.keys[layer].extend(k);
            self.values[layer].extend(v);
            let kv = [&self.keys[layer][..], &self.values[layer][..]];
            let mixed = attention(&q, kv, causal.then_some(past));
            add(&mut x, &linear("self_attn.o_proj", &mixed));
            let normed = norm("post_attention_layernorm", &x);
            let mut inner = linear("mlp.gate_proj", &normed);
            for (gate, up) in inner.iter_mut().zip(linear("mlp.up_proj", &normed)) {
                *gate = *gate / (1.0 + (-*gate).exp()) * up;
            }
            add(&mut x, &linear("mlp.down_proj", &inner));
            outputs.push(x.clone());
        }
        outputs
    }

    fn final_norm(&self, x: &[f64]) -> Vec<f64> {
        self.w.rms_norm("model.norm", x, self.eps())
    }
}

/// A token sees the first `past` tokens, those before it in `q`, and itself, or, if `past` is
/// `None`, every token.
fn attention(q: &[f64], [keys, values]: [&[f64]; 2], past: Option<usize>) -> Vec<f64> {
    let all = keys.len() / HIDDEN;
    let mut y = vec![0.0; q.len()];
    for (i, q) in q.chunks_exact(HIDDEN).enumerate() {
        let seen = past.map_or(all, |past| past + i + 1);
        for h in 0..HEADS {
            let of = |x: &'_ [f64], j: usize| -> [f64; HEAD] {
                x[j * HIDDEN + h * HEAD..][..HEAD].try_into().unwrap()
            };
            let q = &q[h * HEAD..][..HEAD];
            let scale = (HEAD as f64).powf(-0.5);
            let mut weights: Vec<f64> = (0..seen).map(|j| dot(q, &of(keys, j)) * scale).collect();
            let max = weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            weights.iter_mut().for_each(|w| *w = (*w - max).exp());
            let total: f64 = weights.iter().sum();
            let y = &mut y[i * HIDDEN + h * HEAD..][..HEAD];
            for (j, weight) in weights.iter().enumerate() {
                for (y, v) in y.iter_mut().zip(of(values, j)) {
                    *y += weight / total * v;
                }
            }
        }
    }
    y
}

/// A step of OpenVLA.
pub struct Decoded {
    /// `[S, HIDDEN]`: the hidden state after the first layer.
    pub layer0: Vec<f64>,
    /// Of each of the seven tokens.
    pub logits: Vec<Vec<f64>>,
    pub tokens: Vec<u32>,
}

pub fn openvla(w: &Weights, patches: &[f64], ids: &[u32], fault: Option<Fault>) -> Decoded {
    let ids = match fault {
        Some(Fault::NoLastSpace) => &ids[..ids.len() - 1],
        _ => ids,
    };
    let text = w.embed(ids);
    let (first, rest) = text.split_at(HIDDEN);
    let sequence = match fault {
        Some(Fault::PatchesFirst) => [patches, first, rest],
        Some(Fault::PatchesLast) => [first, rest, patches],
        _ => [first, patches, rest],
    };
    let sequence = sequence.concat();
    let mut next = sequence.len() / HIDDEN;
    let mut decoder = Decoder::new(w, fault);
    let start = usize::from(fault == Some(Fault::PositionsFromOne));
    let causal = fault != Some(Fault::BidirectionalPrefill);
    let outputs = decoder.pass(sequence, start, causal);
    next += start;
    if fault == Some(Fault::DecodePositionsWithoutPatches) {
        next = ids.len();
    }
    let mut decoded = Decoded {
        layer0: outputs[0].clone(),
        logits: Vec::new(),
        tokens: Vec::new(),
    };
    let last = &outputs[LAYERS - 1];
    let mut hidden = last[last.len() - HIDDEN..].to_vec();
    loop {
        let logits = w.linear("lm_head", &decoder.final_norm(&hidden));
        let best = (0..logits.len())
            .rev()
            .max_by(|a, b| logits[*a].total_cmp(&logits[*b]));
        let token = best.unwrap() as u32;
        decoded.logits.push(logits);
        decoded.tokens.push(token);
        if decoded.tokens.len() == 7 {
            return decoded;
        }
        let mut outputs = decoder.pass(w.embed(&[token]), next, true);
        hidden = outputs.swap_remove(LAYERS - 1);
        next += 1;
    }
}

/// The input of a step of OFT.
pub struct OftInput {
    /// `[512, HIDDEN]`: of two images.
    pub patches: Vec<f64>,
    /// `[1, HIDDEN]`
    pub proprio: Vec<f64>,
    /// BOS first, 29871 last.
    pub ids: Vec<u32>,
}

/// Returns the normalized actions of a step of OFT, `[8, 7]`.
pub fn oft(w: &Weights, head: &Weights, input: &OftInput, fault: Option<Fault>) -> Vec<f64> {
    let text = w.embed(&input.ids);
    let (bos, prompt) = text.split_at(HIDDEN);
    let (third, wrist) = input.patches.split_at(input.patches.len() / 2);
    let state = &input.proprio[..];
    let zeros = match fault {
        Some(Fault::EmbeddingOfOne) => w.embed(&[1]).repeat(NUMBERS),
        _ => vec![0.0; NUMBERS * HIDDEN],
    };
    let eos = match fault {
        Some(Fault::NoEos) => Vec::new(),
        _ => w.embed(&[EOS]),
    };
    let before = match fault {
        Some(Fault::SwappedImages) => [bos, wrist, third, state, prompt],
        Some(Fault::ProprioBeforePatches) => [bos, state, third, wrist, prompt],
        Some(Fault::NoProprio) => [bos, third, wrist, &[], prompt],
        _ => [bos, third, wrist, state, prompt],
    };
    let before = before.concat();
    let mut window = before.len() / HIDDEN - 1;
    if fault == Some(Fault::WindowAtFirstZero) {
        window += 1;
    }
    let sequence = [before, zeros, eos].concat();
    let mut decoder = Decoder::new(w, fault);
    let mut outputs = decoder.pass(sequence, 0, fault == Some(Fault::Causal));
    let mut x = outputs.swap_remove(LAYERS - 1);
    if fault != Some(Fault::BeforeFinalNorm) {
        x = decoder.final_norm(&x);
    }
    action_head(head, &x[window * HIDDEN..][..NUMBERS * HIDDEN], fault)
}

fn action_head(w: &Weights, hidden: &[f64], fault: Option<Fault>) -> Vec<f64> {
    let activation = |x: Vec<f64>| -> Vec<f64> {
        let gelu = |x: f64| 0.5 * x * (1.0 + candle_core::cpu::erf::erf_f64(x / 2f64.sqrt()));
        let each = x.into_iter();
        match fault {
            Some(Fault::Gelu) => each.map(gelu).collect(),
            _ => each.map(|x| x.max(0.0)).collect(),
        }
    };
    let rows: Vec<f64> = match fault {
        // Number d of action a from position d * 8 + a.
        Some(Fault::RearrangedRows) => (0..NUMBERS)
            .flat_map(|i| &hidden[(i % 7 * 8 + i / 7) * HIDDEN..][..HIDDEN])
            .copied()
            .collect(),
        _ => hidden.to_vec(),
    };
    let mut x = activation(w.linear("fc1", &w.layer_norm("layer_norm1", &rows)));
    for block in 0..2 {
        let name = |part: usize| format!("mlp_resnet_blocks.{block}.ffn.{part}");
        let y = activation(w.linear(&name(1), &w.layer_norm(&name(0), &x)));
        add(&mut x, &y);
    }
    w.linear("fc2", &w.layer_norm("layer_norm2", &x))
}
