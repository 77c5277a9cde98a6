//! Random weights of a model's shapes, for measurements.

use super::source::{StoredWeight, WeightSource, check_shape};
use crate::Result;
use candle_core::{Device, Tensor};
use half::bf16;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Elements that one random stream fills.
const CHUNK: usize = 1 << 16;

/// A source of random weights, all BF16, which depend on the name of the tensor only.
///
/// Matrices have a deviation of `1 / sqrt(K)`, so that activations keep their size through a layer.
/// The factors of norms are 1, biases are 0, and LayerScale is 0.1.
#[derive(Clone, Debug)]
pub struct RandomWeights {
    shapes: BTreeMap<String, Vec<usize>>,
}

impl RandomWeights {
    /// Creates a source of tensors of these shapes.
    pub fn new(shapes: BTreeMap<String, Vec<usize>>) -> Self {
        Self { shapes }
    }

    /// Returns the shapes of OpenVLA-7B's tensors, but for those of the attention pool of SigLIP,
    /// which is never run, and with `oft` also those of the action head and of the proprio
    /// projector for LIBERO.
    pub fn openvla_7b(oft: bool) -> Self {
        let mut shapes = BTreeMap::new();
        let mut add = |name: String, shape: &[usize]| {
            shapes.insert(name, shape.to_vec());
        };
        let backbone = "vision_backbone";
        for (tower, width, inner, blocks) in [
            ("featurizer", 1024, 4096, 24),
            ("fused_featurizer", 1152, 4304, 27),
        ] {
            let tower = format!("{backbone}.{tower}");
            add(format!("{tower}.pos_embed"), &[1, 256, width]);
            linear(
                &mut add,
                &format!("{tower}.patch_embed.proj"),
                &[width, 3, 14, 14],
            );
            for block in 0..blocks {
                let block = format!("{tower}.blocks.{block}");
                for norm in ["norm1", "norm2"] {
                    linear(&mut add, &format!("{block}.{norm}"), &[width]);
                }
                linear(&mut add, &format!("{block}.attn.qkv"), &[3 * width, width]);
                linear(&mut add, &format!("{block}.attn.proj"), &[width, width]);
                linear(&mut add, &format!("{block}.mlp.fc1"), &[inner, width]);
                linear(&mut add, &format!("{block}.mlp.fc2"), &[width, inner]);
                if width == 1024 {
                    add(format!("{block}.ls1.scale_factor"), &[width]);
                    add(format!("{block}.ls2.scale_factor"), &[width]);
                }
            }
            linear(&mut add, &format!("{tower}.norm"), &[width]);
        }
        add(format!("{backbone}.featurizer.cls_token"), &[1, 1, 1024]);
        add(format!("{backbone}.featurizer.reg_token"), &[1, 4, 1024]);
        linear(&mut add, "projector.fc1", &[8704, 2176]);
        linear(&mut add, "projector.fc2", &[4096, 8704]);
        linear(&mut add, "projector.fc3", &[4096, 4096]);
        let language = "language_model";
        add(
            format!("{language}.model.embed_tokens.weight"),
            &[32064, 4096],
        );
        add(format!("{language}.lm_head.weight"), &[32064, 4096]);
        add(format!("{language}.model.norm.weight"), &[4096]);
        for layer in 0..32 {
            let layer = format!("{language}.model.layers.{layer}");
            for module in ["q_proj", "k_proj", "v_proj", "o_proj"] {
                add(format!("{layer}.self_attn.{module}.weight"), &[4096, 4096]);
            }
            for module in ["gate_proj", "up_proj"] {
                add(format!("{layer}.mlp.{module}.weight"), &[11008, 4096]);
            }
            add(format!("{layer}.mlp.down_proj.weight"), &[4096, 11008]);
            for norm in ["input_layernorm", "post_attention_layernorm"] {
                add(format!("{layer}.{norm}.weight"), &[4096]);
            }
        }
        if oft {
            let head = "action_head.model";
            linear(&mut add, &format!("{head}.layer_norm1"), &[28672]);
            linear(&mut add, &format!("{head}.fc1"), &[4096, 28672]);
            for block in 0..2 {
                let block = format!("{head}.mlp_resnet_blocks.{block}.ffn");
                linear(&mut add, &format!("{block}.0"), &[4096]);
                linear(&mut add, &format!("{block}.1"), &[4096, 4096]);
            }
            linear(&mut add, &format!("{head}.layer_norm2"), &[4096]);
            linear(&mut add, &format!("{head}.fc2"), &[7, 4096]);
            linear(&mut add, "proprio_projector.fc1", &[4096, 8]);
            linear(&mut add, "proprio_projector.fc2", &[4096, 4096]);
        }
        Self { shapes }
    }

    /// Returns the shapes by name.
    pub fn shapes(&self) -> &BTreeMap<String, Vec<usize>> {
        &self.shapes
    }
}

/// Adds `{module}.weight` of this shape and `{module}.bias` of its first dimension.
fn linear(add: &mut impl FnMut(String, &[usize]), module: &str, weight: &[usize]) {
    add(format!("{module}.weight"), weight);
    add(format!("{module}.bias"), &weight[..1]);
}

impl WeightSource for RandomWeights {
    fn name(&self) -> String {
        "random weights".into()
    }

    fn shape(&self, tensor: &str) -> Option<Vec<usize>> {
        self.shapes.get(tensor).cloned()
    }

    fn tensor(&self, tensor: &str, shape: &[usize]) -> Result<Tensor> {
        check_shape(|| self.name(), tensor, self.shape(tensor), shape)?;
        let count = shape.iter().product();
        let values = if tensor.ends_with(".bias") {
            vec![bf16::ZERO; count]
        } else if tensor.ends_with(".scale_factor") {
            vec![bf16::from_f32(0.1); count]
        } else if shape.len() == 1 {
            vec![bf16::ONE; count]
        } else {
            let k = shape[1..].iter().product::<usize>() as f32;
            let mut hasher = DefaultHasher::new();
            tensor.hash(&mut hasher);
            random(count, k.sqrt().recip(), hasher.finish())
        };
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
    }

    fn weight(&self, module: &str, n: usize, k: usize) -> Result<StoredWeight> {
        let tensor = self.tensor(&format!("{module}.weight"), &[n, k])?;
        Ok(StoredWeight::Plain(tensor))
    }
}

/// Returns numbers of this deviation: sums of four uniform numbers, which are close to normal and
/// quick to draw.
fn random(count: usize, deviation: f32, seed: u64) -> Vec<bf16> {
    // The sum of four uniform integers below 2^16 has this deviation.
    let scale = deviation / (65536.0 * (4f32 / 12.0).sqrt());
    let mut values = vec![bf16::ZERO; count];
    let chunks = values.par_chunks_mut(CHUNK).enumerate();
    chunks.for_each(|(index, chunk)| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(index as u64);
        for value in chunk {
            let bits: u64 = rng.random();
            let sum: u64 = (0..4).map(|i| bits >> (16 * i) & 0xffff).sum();
            *value = bf16::from_f32((sum as f32 - 2.0 * 65535.0) * scale);
        }
    });
    values
}
