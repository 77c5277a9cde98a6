//! The adapters and controllers of the policy's blocks.
//!
//! # Arithmetic
//! As in the policy: the input of a network is rms of the residual stream, rounded to BF16. silu
//! and sums are f32. Matrix products use the backend's GEMM, packed or plain. Adapters run at the
//! width of the step. Controllers run at 8 bits, so that skips do not depend on the width.

use std::path::Path;
use std::sync::Arc;

use half::bf16;
use w4ax::skip::{Adapter, Controller, Layers, SkipFile};
use w4ax::{Error, MatRef, Quantize, Result, Width};

use super::compute::{Compute, Engine, Layer, StepWidth};
use super::hidden::Hidden;
use super::policy::{Policy, silu};
use super::setup::QUANTIZE;

/// The type of an adapter's weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum AdapterWeights {
    /// INT4, by the packed GEMMs at the width of the step.
    Packed,
    /// BF16, as trained.
    Bf16,
}

/// The networks of a skip file. A step does not allocate. Clones share the weights.
#[derive(Clone)]
pub struct Networks {
    weights: Arc<Weights>,
    /// `[d]`: rms(x).
    normed: Vec<bf16>,
    /// `[max(ha, hc)]`.
    inner: Vec<bf16>,
    /// `[d]`.
    out: Vec<bf16>,
}

struct Weights {
    layers: Layers,
    /// By layer.
    adapters: Vec<Option<AdapterLayers>>,
    controllers: Vec<Option<ControllerLayers>>,
    /// The layer of the exit, and its adapter.
    exit: Option<(usize, AdapterLayers)>,
}

struct AdapterLayers {
    norm: Vec<f32>,
    up: Layer,
    down: Layer,
}

struct ControllerLayers {
    norm: Vec<f32>,
    /// `[hc, d]`.
    hidden: Layer,
    out: Vec<f32>,
    bias: f32,
}

impl Networks {
    /// Prepares the networks for a policy of `shape` (blocks, width). `name` is the file's name in
    /// errors.
    ///
    /// # Errors
    /// [`Error::Format`] for networks of another stack. As [`Quantize::pack`] and
    /// [`Compute::layer`].
    pub fn new(
        file: &SkipFile,
        name: &str,
        (blocks, width): (usize, usize),
        weights: AdapterWeights,
        quantize: Quantize,
        compute: &Compute,
    ) -> Result<Self> {
        let c = &file.config;
        if (c.layers, c.width) != (blocks, width) {
            return Err(Error::Format {
                file: name.into(),
                reason: format!(
                    "the networks are for {} layers of width {}: expected {blocks} of width \
                     {width}",
                    c.layers, c.width
                ),
            });
        }
        let layer = |data: &[bf16], n: usize, k: usize| {
            let matrix = MatRef::new(data, n, k)?;
            match weights {
                AdapterWeights::Packed => compute.layer(quantize.pack(matrix)?),
                AdapterWeights::Bf16 => Ok(Layer::plain(matrix)),
            }
        };
        let adapter = |adapter: &Adapter| {
            Ok(AdapterLayers {
                norm: adapter.norm.clone(),
                up: layer(&adapter.up, c.adapter_hidden, width)?,
                down: layer(&adapter.down, width, c.adapter_hidden)?,
            })
        };
        let adapters = (0..blocks).map(|layer| file.adapters.get(&layer).map(adapter).transpose());
        let controller = |controller: &Controller| {
            Ok(ControllerLayers {
                norm: controller.norm.clone(),
                hidden: layer(&controller.hidden, c.controller_hidden, width)?,
                out: controller.out.clone(),
                bias: controller.bias,
            })
        };
        let controllers =
            (0..blocks).map(|at| file.controllers.get(&at).map(controller).transpose());
        let exit = match (c.exit, &file.exit) {
            (Some(from), Some(exit)) => Some((from, adapter(exit)?)),
            _ => None,
        };
        let weights = Weights {
            layers: c.skip_layers()?,
            adapters: adapters.collect::<Result<_>>()?,
            controllers: controllers.collect::<Result<_>>()?,
            exit,
        };
        Ok(Self {
            weights: Arc::new(weights),
            normed: vec![bf16::ZERO; width],
            inner: vec![bf16::ZERO; c.adapter_hidden.max(c.controller_hidden)],
            out: vec![bf16::ZERO; width],
        })
    }

    /// Loads the networks of a policy from a file.
    ///
    /// # Errors
    /// As [`SkipFile::load`] and [`Networks::new`].
    pub fn load(path: &Path, policy: &Policy, weights: AdapterWeights) -> Result<Self> {
        let (file, name) = (SkipFile::load(path)?, path.display().to_string());
        let shape = (policy.blocks(), policy.width());
        Self::new(&file, &name, shape, weights, QUANTIZE, &policy.compute())
    }

    /// Returns the stack's static layers and gaps.
    pub fn layers(&self) -> &Layers {
        &self.weights.layers
    }

    /// Returns the layer of the early exit, if there is one.
    pub fn exit(&self) -> Option<usize> {
        self.weights.exit.as_ref().map(|(from, _)| *from)
    }

    /// Returns the probability of a skip from `layer` with the input `x`.
    ///
    /// # Errors
    /// [`Error::Range`] for a layer without a controller. As [`Engine::gemm`].
    pub fn skip_probability(
        &mut self,
        layer: usize,
        engine: &mut Engine,
        x: &mut Hidden,
    ) -> Result<f32> {
        let Some(controller) = self.weights.controllers.get(layer).and_then(Option::as_ref) else {
            return Err(none("controller", layer));
        };
        x.rms(&controller.norm, &mut self.normed);
        let width = StepWidth::Fixed(Width::A8);
        let inner = &mut self.inner[..controller.out.len()];
        engine.gemm(1, &self.normed, &controller.hidden, width, inner)?;
        let terms = inner.iter().zip(&controller.out);
        let logit = terms.map(|(x, out)| out * silu(x.to_f32())).sum::<f32>() + controller.bias;
        Ok(1.0 / (1.0 + (-logit).exp()))
    }

    /// Replaces `x`, the input of `layer`, by the input of the static layer after the gap.
    ///
    /// # Errors
    /// [`Error::Range`] for a layer without an adapter. As [`Engine::gemm`].
    pub fn adapt(
        &mut self,
        layer: usize,
        engine: &mut Engine,
        x: &mut Hidden,
        width: StepWidth,
    ) -> Result<()> {
        let adapter = self.weights.adapters.get(layer).and_then(Option::as_ref);
        let adapter = adapter.ok_or_else(|| none("adapter", layer))?;
        let buffers = (&mut self.normed[..], &mut self.inner[..], &mut self.out[..]);
        adapter.apply(engine, x, width, buffers)
    }

    /// Replaces `x`, the input of the exit's layer, by the input of the head.
    ///
    /// # Errors
    /// [`Error::Range`] for networks without an exit. As [`Engine::gemm`].
    pub fn leave(&mut self, engine: &mut Engine, x: &mut Hidden, width: StepWidth) -> Result<()> {
        let Some((_, exit)) = &self.weights.exit else {
            return Err(none("exit", self.weights.adapters.len()));
        };
        let buffers = (&mut self.normed[..], &mut self.inner[..], &mut self.out[..]);
        exit.apply(engine, x, width, buffers)
    }
}

fn none(what: &'static str, layer: usize) -> Error {
    Error::Range {
        what,
        value: format!("layer {layer}"),
        range: "the layers with such a network",
    }
}

impl AdapterLayers {
    fn apply(
        &self,
        engine: &mut Engine,
        x: &mut Hidden,
        width: StepWidth,
        (normed, inner, out): (&mut [bf16], &mut [bf16], &mut [bf16]),
    ) -> Result<()> {
        x.rms(&self.norm, normed);
        let inner = &mut inner[..self.up.shape().0];
        engine.gemm(1, normed, &self.up, width, inner)?;
        for inner in inner.iter_mut() {
            *inner = bf16::from_f32(silu(inner.to_f32()));
        }
        engine.gemm(1, inner, &self.down, width, out)?;
        x.add(out);
        Ok(())
    }
}
