//! Quantized runs against a mirror: the same decoder, each linear layer computed by the scalar
//! reference.

use super::fixture::{Fixture, data, load, values};
use super::stages::{Seen, observation, run_at};
use candle_core::{DType, Device, Tensor};
use half::bf16;
use std::collections::HashMap;
use w4ax::reference;
use w4ax::{Grouping, MatRef, PackedWeight, Quantize, ScaleType, Width};
use w4ax_vla::model::Numerics;
use w4ax_vla::ops::{self, Mask};

const HIDDEN: usize = 64;
const HEADS: usize = 4;
const LAYERS: usize = 4;
const EPS: f64 = 1e-6;

pub fn quantize() -> Quantize {
    Quantize::new(Grouping::G32).with_scale_type(ScaleType::Bf16)
}

/// The decoder of the small checkpoint.
pub struct Mirror {
    tensors: HashMap<String, Tensor>,
    weights: HashMap<String, PackedWeight>,
}

impl Mirror {
    pub fn new() -> Self {
        let mut tensors = HashMap::new();
        for shard in 1..=2 {
            let file = format!("openvla-tiny/model-0000{shard}-of-00002.safetensors");
            tensors
                .extend(candle_core::safetensors::load(data().join(file), &Device::Cpu).unwrap());
        }
        let mut weights = HashMap::new();
        for (name, tensor) in &tensors {
            let Some(module) = name.strip_suffix(".weight") else {
                continue;
            };
            if name.contains(".layers.") && tensor.rank() == 2 {
                let (n, k) = tensor.dims2().unwrap();
                let plain: Vec<bf16> = tensor.flatten_all().unwrap().to_vec1().unwrap();
                let packed = quantize().pack(MatRef::new(&plain, n, k).unwrap()).unwrap();
                weights.insert(module.to_owned(), packed);
            }
        }
        assert_eq!(weights.len(), LAYERS * 7);
        Self { tensors, weights }
    }

    fn linear(&self, layer: usize, name: &str, x: &Tensor, width: Width) -> Tensor {
        let weight = &self.weights[&format!("language_model.model.layers.{layer}.{name}")];
        let (m, k) = x.dims2().unwrap();
        let x: Vec<bf16> = x
            .to_dtype(DType::BF16)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap();
        let x = MatRef::new(&x, m, k).unwrap();
        let y = reference::gemm(x, weight, width, None).unwrap();
        let y = Tensor::from_vec(y, (m, weight.n()), &Device::Cpu).unwrap();
        y.to_dtype(DType::F32).unwrap()
    }

    fn norm(&self, layer: usize, name: &str, x: &Tensor) -> Tensor {
        let weight = &self.tensors[&format!("language_model.model.layers.{layer}.{name}.weight")];
        ops::rms_norm(x, weight, EPS).unwrap()
    }

    /// Runs a layer. With a cache, a token sees those of the cache and those before it; without
    /// one, it sees all tokens of `x`.
    pub fn layer(
        &self,
        layer: usize,
        x: &Tensor,
        cache: Option<&mut Option<[Tensor; 2]>>,
        width: Width,
    ) -> Tensor {
        let tokens = x.dim(0).unwrap();
        let past = match &cache {
            Some(Some([k, _])) => k.dim(1).unwrap(),
            _ => 0,
        };
        let head = HIDDEN / HEADS;
        let angle =
            |p: usize, j: usize| p as f32 * (1.0 / 1e4f32.powf((2 * j) as f32 / head as f32));
        let table = |f: fn(f32) -> f32| {
            let values: Vec<f32> = (past..past + tokens)
                .flat_map(|p| (0..head / 2).map(move |j| f(angle(p, j))))
                .collect();
            Tensor::from_vec(values, (tokens, head / 2), &Device::Cpu).unwrap()
        };
        let (cos, sin) = (table(f32::cos), table(f32::sin));
        let normed = self.norm(layer, "input_layernorm", x);
        let part = |name: &str| {
            let x = self.linear(layer, name, &normed, width);
            let x = x.reshape((tokens, HEADS, head)).unwrap();
            x.transpose(0, 1).unwrap().contiguous().unwrap()
        };
        let q = ops::rope(&part("self_attn.q_proj"), &cos, &sin).unwrap();
        let k = ops::rope(&part("self_attn.k_proj"), &cos, &sin).unwrap();
        let mut kv = [k, part("self_attn.v_proj")];
        let mut mask = Mask::None;
        if let Some(cache) = cache {
            // The cache holds BF16.
            kv = kv.map(|x| x.to_dtype(DType::BF16).unwrap());
            if let Some(old) = cache {
                kv = [0, 1].map(|i| Tensor::cat(&[&old[i], &kv[i]], 1).unwrap());
            }
            *cache = Some(kv.clone());
            mask = Mask::Causal { past };
        }
        let mixed = ops::attention(&q, &kv[0], &kv[1], mask).unwrap();
        let x = (x + self.linear(layer, "self_attn.o_proj", &mixed, width)).unwrap();
        let normed = self.norm(layer, "post_attention_layernorm", &x);
        let gate = self.linear(layer, "mlp.gate_proj", &normed, width);
        let up = self.linear(layer, "mlp.up_proj", &normed, width);
        let inner = ops::swiglu(&gate, &up).unwrap();
        (x + self.linear(layer, "mlp.down_proj", &inner, width)).unwrap()
    }

    pub fn final_norm(&self, x: &Tensor) -> Tensor {
        ops::rms_norm(x, &self.tensors["language_model.model.norm.weight"], EPS).unwrap()
    }

    pub fn embed(&self, token: u32) -> Tensor {
        let table = &self.tensors["language_model.model.embed_tokens.weight"];
        let row = table.narrow(0, token as usize, 1).unwrap();
        row.to_dtype(DType::F32).unwrap()
    }

    /// Returns the logits of a normalized hidden state `[1, HIDDEN]`.
    pub fn logits(&self, x: &Tensor) -> Vec<f32> {
        let head = self.tensors["language_model.lm_head.weight"].clone();
        let x = x.to_dtype(DType::BF16).unwrap();
        let y = ops::Linear::new(head, None).unwrap().forward(&x).unwrap();
        let y = y.to_dtype(DType::F32).unwrap().flatten_all().unwrap();
        y.to_vec1().unwrap()
    }

    /// Returns the hidden state after each layer of an empty cache.
    fn layers(&self, sequence: &Tensor, width: Width) -> Vec<Tensor> {
        let mut x = sequence.clone();
        let run = |layer| {
            x = self.layer(layer, &x, Some(&mut None), width);
            x.clone()
        };
        (0..LAYERS).map(run).collect()
    }
}

pub fn bits(tensor: &Tensor) -> Vec<u64> {
    values(tensor).into_iter().map(f64::to_bits).collect()
}

#[test]
fn quantized_layers_have_the_bits_of_the_mirror_at_every_width() {
    let fixture = Fixture::new("openvla-tiny");
    let mirror = Mirror::new();
    let mut vla = load(&fixture.folder, Numerics::Quantized(quantize()));
    let mut previous: Option<Vec<u64>> = None;
    for width in [Width::A2, Width::A4, Width::A8] {
        let seen: Seen = run_at(&mut vla, &observation(&fixture, 0), width);
        let expected = mirror.layers(&seen.stages["multimodal_embeddings"], width);
        for (layer, expected) in expected.iter().enumerate() {
            let got = &seen.stages[&format!("llama_layer{layer}_out")];
            assert!(bits(got) == bits(expected), "{width}, layer {layer}");
        }
        let last = bits(&expected[LAYERS - 1]);
        assert_ne!(previous.as_ref(), Some(&last), "{width}");
        previous = Some(last);
    }
}

/// BF16 sums have another order in each backend, within the bound of `w4ax::numerics`; each GEMM
/// is compared on its own input.
#[test]
fn each_gemm_has_the_bits_of_the_reference() {
    let fixture = Fixture::new("openvla-tiny");
    let mirror = Mirror::new();
    let mut vla = load(&fixture.folder, Numerics::Quantized(quantize()));
    for width in [Width::A2, Width::A4, Width::A8] {
        let seen = run_at(&mut vla, &observation(&fixture, 1), width);
        let mut compared = 0;
        for layer in 0..LAYERS {
            for name in [
                "self_attn.q_proj",
                "self_attn.k_proj",
                "self_attn.v_proj",
                "self_attn.o_proj",
                "mlp.gate_proj",
                "mlp.up_proj",
                "mlp.down_proj",
            ] {
                let x = &seen.stages[&format!("llama_layer{layer}.{name}.in")];
                let y = &seen.stages[&format!("llama_layer{layer}.{name}.out")];
                let expected = mirror.linear(layer, name, x, width);
                assert!(bits(y) == bits(&expected), "{width}, layer {layer}, {name}");
                compared += 1;
            }
        }
        assert_eq!(compared, 28);
    }
}

/// The hidden state of W4A16 is near the unquantized one, and that of A2 is not: the width reaches
/// the layers.
#[test]
fn error_grows_as_the_width_shrinks() {
    let fixture = Fixture::new("openvla-tiny");
    let mut vla = load(&fixture.folder, Numerics::Quantized(quantize()));
    let expected = fixture.tensor(0, "llama_layer3_out").unwrap();
    let errors = Width::ALL.map(|width| {
        let seen = run_at(&mut vla, &observation(&fixture, 0), width);
        super::fixture::distance(&seen.stages["llama_layer3_out"], expected)
    });
    println!("A2, A4, A8, BF16: {errors:?}");
    assert!(
        errors.windows(2).all(|pair| pair[0] > 0.95 * pair[1]),
        "{errors:?}"
    );
    assert!(errors[0] > 1.2 * errors[3], "{errors:?}");
}
