//! Layers that a step skips (DySL-VLA, arXiv 2602.22896).
//!
//! The layers of a step are chosen once, while its prefill runs: the controller of a dynamic layer
//! reads the mean of its input over the tokens of the prefill, and the adapter replaces the hidden
//! state of every token. The tokens that are decoded afterwards run and adapt the same layers.
//!
//! # Keys and values
//! A skipped layer stores none. None are read either: within a step, a layer has either run for
//! every token or for none. The next step begins with an empty cache. A step whose actions fail the
//! verification begins again with an empty cache and all layers.

use super::llama::Llama;
use super::probe::Probe;
use crate::{Result, VlaError, ops};
use candle_core::{DType, Device, Tensor};
use half::bf16;
use w4ax::Width;
use w4ax::skip::{Adapter, Controller, Fate, Guide, Layers, SkipFile};

/// The epsilon of the networks' norms ([`Adapter`]).
const EPS: f64 = 1e-5;

/// One part of a pass through the layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerRun {
    /// Runs a layer.
    Layer(usize),
    /// Runs the adapter of layer `from` in place of the layers `from..to`.
    Adapter {
        /// The layer whose input the adapter reads.
        from: usize,
        /// The layer whose input it computes, or the number of layers.
        to: usize,
    },
}

/// The adapters and controllers of the decoder's dynamic layers.
#[derive(Debug)]
pub struct SkipNetworks {
    layers: Layers,
    /// By layer.
    adapters: Vec<Option<AdapterNetwork>>,
    /// By layer.
    controllers: Vec<Option<ControllerNetwork>>,
}

#[derive(Debug)]
struct AdapterNetwork {
    norm: Tensor,      // [hidden]
    up: ops::Linear,   // [ha, hidden]
    down: ops::Linear, // [hidden, ha]
}

#[derive(Debug)]
struct ControllerNetwork {
    norm: Tensor,        // [hidden]
    hidden: ops::Linear, // [hc, hidden]
    out: ops::Linear,    // [1, hc]
}

impl SkipNetworks {
    /// Places the networks of a file beside a decoder. `name` is the file's name in errors.
    pub(super) fn new(file: &SkipFile, name: &str, llama: &Llama, device: &Device) -> Result<Self> {
        let c = &file.config;
        if (c.layers, c.width) != (llama.layers(), llama.hidden()) {
            return Err(VlaError::Field {
                file: name.into(),
                field: "config".into(),
                got: format!("{} layers of width {}", c.layers, c.width),
                expected: format!("{} of width {}", llama.layers(), llama.hidden()),
            });
        }
        let linear = |data: &[bf16], n: usize, k: usize| -> Result<ops::Linear> {
            let weight = Tensor::from_slice(data, (n, k), &Device::Cpu)?.to_device(device)?;
            ops::Linear::new(weight, None)
        };
        let vector = |data: &[f32]| Tensor::from_slice(data, data.len(), device);
        let adapter = |a: &Adapter| -> Result<AdapterNetwork> {
            Ok(AdapterNetwork {
                norm: vector(&a.norm)?,
                up: linear(&a.up, c.adapter_hidden, c.width)?,
                down: linear(&a.down, c.width, c.adapter_hidden)?,
            })
        };
        let controller = |a: &Controller| -> Result<ControllerNetwork> {
            let out = vector(&a.out)?.reshape((1, c.controller_hidden))?;
            Ok(ControllerNetwork {
                norm: vector(&a.norm)?,
                hidden: linear(&a.hidden, c.controller_hidden, c.width)?,
                out: ops::Linear::new(out, Some(vector(&[a.bias])?))?,
            })
        };
        let of = 0..c.layers;
        Ok(Self {
            layers: c.skip_layers()?,
            adapters: of
                .clone()
                .map(|at| file.adapters.get(&at).map(adapter).transpose())
                .collect::<Result<_>>()?,
            controllers: of
                .map(|at| file.controllers.get(&at).map(controller).transpose())
                .collect::<Result<_>>()?,
        })
    }

    /// Returns the static layers and the gaps.
    pub fn layers(&self) -> &Layers {
        &self.layers
    }

    /// Returns the probability that the rest of the gap may be skipped, for the input
    /// `x[M, hidden]` of `layer`.
    fn probability(&self, layer: usize, x: &Tensor) -> Result<f32> {
        let network = self.controllers[layer].as_ref();
        let network = network.ok_or_else(|| missing("controller", layer))?;
        let mean = x.to_dtype(DType::F32)?.mean_keepdim(0)?; // [1, hidden]
        let normed = ops::rms_norm(&mean, &network.norm, EPS)?;
        let hidden = network.hidden.forward(&normed)?.silu()?; // [1, hc]
        let logit = network.out.forward(&hidden)?; // [1, 1]
        let logit = logit.flatten_all()?.to_vec1::<f32>()?[0];
        Ok(1.0 / (1.0 + (-logit).exp()))
    }

    /// Returns `x + down(silu(up(rms(x) * norm)))` of the adapter of layer `from`.
    fn adapt(&self, from: usize, x: &Tensor) -> Result<Tensor> {
        let network = self.adapters[from].as_ref();
        let network = network.ok_or_else(|| missing("adapter", from))?;
        let wide = x.to_dtype(DType::F32)?;
        let normed = ops::rms_norm(&wide, &network.norm, EPS)?;
        let inner = network.up.forward(&normed)?.silu()?;
        let sum = (wide + network.down.forward(&inner)?)?;
        Ok(sum.to_dtype(x.dtype())?)
    }
}

fn missing(network: &str, layer: usize) -> VlaError {
    VlaError::InvalidState {
        call: "skip",
        reason: format!("layer {layer} has no {network}"),
    }
}

/// Chooses the layers of a pass while it runs.
pub(crate) struct Choice<'a> {
    pub networks: &'a SkipNetworks,
    pub guide: &'a Guide,
}

/// Runs the hidden state through all layers, or through those that `choice` chooses. Returns the
/// hidden state after the last layer, the parts of the pass, and what happened to each layer.
pub(crate) fn run_layers(
    llama: &Llama,
    x: &Tensor,
    width: Width,
    choice: Option<&Choice<'_>>,
    probe: &mut Probe<'_>,
) -> Result<(Tensor, Vec<LayerRun>, Vec<Fate>)> {
    let count = llama.layers();
    let (mut x, mut runs, mut fates) = (x.clone(), Vec::new(), Vec::with_capacity(count));
    while fates.len() < count {
        let layer = fates.len();
        let fate = match choice.and_then(|c| Some((c, c.networks.layers.gap_of(layer)?))) {
            None => Fate::Static,
            Some((c, gap)) if layer < c.guide.allow_points()[gap] => Fate::Forced,
            Some((c, gap)) => {
                let p = c.networks.probability(layer, &x)?;
                // False for NaN: the layer runs.
                if p > c.guide.config().threshold() {
                    let to = c.networks.layers.gaps()[gap].end;
                    x = c.networks.adapt(layer, &x)?;
                    runs.push(LayerRun::Adapter { from: layer, to });
                    fates.push(Fate::Skipped(p));
                    fates.resize(to, Fate::Covered(layer));
                    continue;
                }
                Fate::Declined(p)
            }
        };
        x = llama.run_layer(layer, &x, width, probe)?;
        runs.push(LayerRun::Layer(layer));
        fates.push(fate);
    }
    Ok((x, runs, fates))
}

/// Runs the hidden state through the parts of an earlier pass.
pub(crate) fn repeat_layers(
    llama: &Llama,
    x: &Tensor,
    width: Width,
    runs: &[LayerRun],
    networks: Option<&SkipNetworks>,
    probe: &mut Probe<'_>,
) -> Result<Tensor> {
    let mut x = x.clone();
    for run in runs {
        x = match (*run, networks) {
            (LayerRun::Layer(layer), _) => llama.run_layer(layer, &x, width, probe)?,
            (LayerRun::Adapter { from, .. }, Some(networks)) => networks.adapt(from, &x)?,
            (LayerRun::Adapter { from, .. }, None) => return Err(missing("adapter", from)),
        };
    }
    Ok(x)
}
