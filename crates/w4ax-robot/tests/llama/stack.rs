//! The decoder as a stack of layers: one pass over all tokens, as OpenVLA-OFT decodes, whose last
//! tokens give a chunk of actions.

use candle_core::{DType, Error, Module, Result, Tensor};
use candle_nn::ops;
use rand_chacha::ChaCha8Rng;
use w4ax::candle::{Backend, LayerWidth, Linear};
use w4ax::dispatch::ACTION_DIM;
use w4ax::skip::LayerStack;
use w4ax::{Grouping, Width};

use crate::{CPU, norms};
use test_support::{normal_values, normal_weight, rng};
use w4ax_robot::llama::layer::{Cache, Layer, NoClock, Sizes};

/// Actions of a chunk.
pub const ACTIONS: usize = 8;
/// One token for each number of the actions, after the prompt.
const ACTION_TOKENS: usize = ACTIONS * ACTION_DIM;
const PROMPT: usize = 10;
pub const LAYERS: usize = 6;
const EPS: f32 = 1e-5;
const SIZES: Sizes = Sizes {
    hidden: 64,
    intermediate: 172,
    heads: 4,
    max_tokens: PROMPT + ACTION_TOKENS,
};

pub struct Stack {
    layers: Vec<Layer<Linear>>,
    /// By layer. Static layers do not use theirs.
    adapters: Vec<Adapter>,
    controllers: Vec<Controller>,
    norm: Tensor,
    /// From the tokens of an action to its numbers.
    head: Linear,
    /// `[tokens, hidden]`: the embedded tokens of the step.
    pub input: Tensor,
    pub hidden: Tensor,
}

/// `x + down(silu(up(rms(x))))`.
struct Adapter {
    norm: Tensor,
    up: Linear,
    down: Linear,
}

/// `sigmoid(out(silu(hidden(rms(x)))) + bias)` of the mean of x over the tokens.
struct Controller {
    norm: Tensor,
    hidden: Linear,
    out: Linear,
}

impl Stack {
    /// Makes the same stack for the same seed, except for the width and the bias of the
    /// controllers.
    pub fn new(seed: u64, bias: f32, width: impl Into<LayerWidth>) -> Result<Self> {
        let (rng, backend, width) = (&mut rng(seed), Backend::new(CPU)?, width.into());
        let linear = |rng: &mut ChaCha8Rng, n, k| -> Result<Linear> {
            let weight = normal_weight(rng, (n, k), Grouping::G32);
            Ok(backend.linear(weight, None)?.with_width(width.clone()))
        };
        let hidden = SIZES.hidden;
        let (mut layers, mut adapters, mut controllers) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..LAYERS {
            let weights = SIZES
                .projections()
                .map(|(_, n, k)| normal_weight(rng, (n, k), Grouping::G32));
            let projections = weights.map(|weight| {
                let linear = backend.linear(weight, None).expect("no bias");
                linear.with_width(width.clone())
            });
            let norm = [0; 2].map(|_| norms(rng, hidden));
            layers.push(Layer::new(SIZES, projections, norm, CPU)?);
            adapters.push(Adapter {
                norm: norms(rng, hidden),
                up: linear(rng, 32, hidden)?,
                down: linear(rng, hidden, 32)?,
            });
            // Skips must not depend on the width.
            let out = normal_weight(rng, (1, 16), Grouping::G32);
            controllers.push(Controller {
                norm: norms(rng, hidden),
                hidden: linear(rng, 16, hidden)?.with_width(Width::A8),
                out: backend
                    .linear(out, Some(&Tensor::new(&[bias], CPU)?))?
                    .with_width(Width::A8),
            });
        }
        let dims = (SIZES.max_tokens, hidden);
        let input = Tensor::from_vec(normal_values(rng, &[dims.0, dims.1]), dims, CPU)?;
        Ok(Self {
            layers,
            adapters,
            controllers,
            norm: norms(rng, hidden),
            head: linear(rng, ACTION_DIM, ACTION_DIM * hidden)?,
            hidden: input.clone(),
            input,
        })
    }

    /// Returns the output of layer `at` for `x`.
    pub fn through(&self, at: usize, x: &Tensor) -> Result<Tensor> {
        self.layers[at].forward(x, &mut Cache::default(), &mut NoClock)
    }

    /// Returns the output of the adapter of layer `at` for `x`.
    pub fn around(&self, at: usize, x: &Tensor) -> Result<Tensor> {
        let adapter = &self.adapters[at];
        let normed = ops::rms_norm(x, &adapter.norm, EPS)?;
        x + adapter
            .down
            .forward(&adapter.up.forward(&normed)?.silu()?)?
    }

    /// Returns the chunk of `x`.
    pub fn head(&self, x: &Tensor) -> Result<Vec<f64>> {
        let normed = ops::rms_norm(x, &self.norm, EPS)?;
        let of_actions = normed.narrow(0, PROMPT, ACTION_TOKENS)?;
        let rows = of_actions.reshape((ACTIONS, ACTION_DIM * SIZES.hidden))?;
        let actions = self.head.forward(&rows)?.to_dtype(DType::F64)?;
        actions.flatten_all()?.to_vec1()
    }
}

impl LayerStack for Stack {
    type Error = Error;

    fn layers(&self) -> usize {
        self.layers.len()
    }

    fn embed(&mut self) -> Result<()> {
        self.hidden = self.input.clone();
        Ok(())
    }

    fn run(&mut self, layer: usize) -> Result<()> {
        self.hidden = self.through(layer, &self.hidden)?;
        Ok(())
    }

    fn skip_probability(&mut self, layer: usize) -> Result<f32> {
        let controller = &self.controllers[layer];
        let mean = self.hidden.to_dtype(DType::F32)?.mean_keepdim(0)?;
        let normed = ops::rms_norm(&mean.to_dtype(DType::BF16)?, &controller.norm, EPS)?;
        let inner = controller.hidden.forward(&normed)?.silu()?;
        let logit = controller.out.forward(&inner)?.to_dtype(DType::F32)?;
        ops::sigmoid(&logit)?.flatten_all()?.get(0)?.to_scalar()
    }

    fn adapt(&mut self, from: usize, _to: usize) -> Result<()> {
        self.hidden = self.around(from, &self.hidden)?;
        Ok(())
    }

    fn actions(&mut self, actions: &mut [f64]) -> Result<()> {
        let made = self.head(&self.hidden)?;
        if actions.len() != made.len() {
            candle_core::bail!("{} numbers of {ACTIONS} actions", actions.len());
        }
        actions.copy_from_slice(&made);
        Ok(())
    }
}
