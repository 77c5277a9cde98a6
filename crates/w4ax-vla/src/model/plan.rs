//! The size of a model by part, before anything is loaded.

use super::load::ModelPart;
use super::options::LoadOptions;
use crate::checkpoint::{MemoryPlan, WeightSource};
use crate::config::LlamaConfig;
use w4ax::Quantize;

/// The numbers of a model, and its bytes by part.
#[derive(Clone, Debug, Default)]
pub(super) struct ModelPlan {
    pub numbers: u64,
    pub memory: MemoryPlan,
}

/// The linear layers of a block of a vision tower, and its other modules.
const BLOCK_LINEARS: [&str; 4] = ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"];
const BLOCK_NORMS: [&str; 2] = ["norm1", "norm2"];

/// The modules of OpenVLA-OFT. Those that a checkpoint lacks take nothing.
const ONE_PASS: [&str; 10] = [
    "action_head.model.layer_norm1",
    "action_head.model.fc1",
    "action_head.model.mlp_resnet_blocks.0.ffn.0",
    "action_head.model.mlp_resnet_blocks.0.ffn.1",
    "action_head.model.mlp_resnet_blocks.1.ffn.0",
    "action_head.model.mlp_resnet_blocks.1.ffn.1",
    "action_head.model.layer_norm2",
    "action_head.model.fc2",
    "proprio_projector.fc1",
    "proprio_projector.fc2",
];

impl ModelPlan {
    /// Plans a model. `head` is the number of rows of the head.
    pub fn new(
        source: &dyn WeightSource,
        llama: &LlamaConfig,
        options: &LoadOptions,
        one_pass: bool,
        head: usize,
    ) -> Self {
        let mut plan = Self::default();
        let quantize = options.numerics().quantize();
        let vision = quantize.filter(|_| options.packed_vision());
        for tower in ["featurizer", "fused_featurizer"] {
            let tower = format!("vision_backbone.{tower}");
            plan.tensor(source, ModelPart::Vision, &format!("{tower}.pos_embed"));
            plan.linear(
                source,
                ModelPart::Vision,
                &format!("{tower}.patch_embed.proj"),
                None,
            );
            let has = |block: usize| {
                source
                    .shape(&format!("{tower}.blocks.{block}.attn.qkv.weight"))
                    .is_some()
            };
            // The last block is not loaded.
            for block in (0..).take_while(|block| has(block + 1)) {
                let block = format!("{tower}.blocks.{block}");
                for linear in BLOCK_LINEARS {
                    plan.linear(
                        source,
                        ModelPart::Vision,
                        &format!("{block}.{linear}"),
                        vision,
                    );
                }
                for norm in BLOCK_NORMS {
                    plan.linear(source, ModelPart::Vision, &format!("{block}.{norm}"), None);
                }
            }
        }
        for linear in ["fc1", "fc2", "fc3"] {
            plan.linear(
                source,
                ModelPart::Projector,
                &format!("projector.{linear}"),
                vision,
            );
        }
        let (hidden, inner) = (llama.hidden, llama.intermediate);
        let kv = llama.kv_heads * llama.head_dim();
        for (n, k, count) in [
            (hidden, hidden, 2),
            (kv, hidden, 2),
            (inner, hidden, 2),
            (hidden, inner, 1),
        ] {
            for _ in 0..count * llama.layers {
                plan.matrix(ModelPart::Layers, (n, k), quantize);
            }
        }
        plan.matrix(ModelPart::Embeddings, (llama.vocab, hidden), None);
        plan.matrix(ModelPart::Head, (head, hidden), None);
        if !one_pass {
            let size = options.numerics().plain_type().size_in_bytes();
            let tokens = options.tokens().min(llama.max_positions);
            plan.add(ModelPart::Cache, 0, 2 * llama.layers * kv * tokens * size);
        }
        if one_pass {
            for module in ONE_PASS {
                plan.linear(source, ModelPart::ActionHead, module, None);
            }
        }
        plan
    }

    fn add(&mut self, part: ModelPart, numbers: usize, bytes: usize) {
        self.numbers += numbers as u64;
        let memory = std::mem::take(&mut self.memory);
        self.memory = memory.add(part.name(), bytes as u64);
    }

    /// Adds a tensor, if it exists.
    fn tensor(&mut self, source: &dyn WeightSource, part: ModelPart, name: &str) {
        let shape = source.shape(name);
        let numbers = shape.map_or(0, |shape| shape.iter().product());
        self.add(part, numbers, 2 * numbers);
    }

    /// Adds the weight and the bias of a module, if they exist.
    fn linear(
        &mut self,
        source: &dyn WeightSource,
        part: ModelPart,
        module: &str,
        pack: Option<Quantize>,
    ) {
        self.tensor(source, part, &format!("{module}.bias"));
        let name = format!("{module}.weight");
        match source.shape(&name).as_deref() {
            Some(&[n, k]) => self.matrix(part, (n, k), pack),
            _ => self.tensor(source, part, &name),
        }
    }

    /// Adds a weight `[n, k]`.
    fn matrix(&mut self, part: ModelPart, (n, k): (usize, usize), pack: Option<Quantize>) {
        let bytes = match pack {
            Some(quantize) => quantize.packed_bytes(n, k),
            None => 2 * n * k,
        };
        self.add(part, n * k, bytes);
    }
}
