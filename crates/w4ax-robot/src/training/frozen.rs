//! The policy whose layers are skipped, on candle: frozen, but differentiable in its hidden state.
//!
//! candle differentiates a product in both factors, but the weights here never change. So a block
//! and the loss of the task have their own gradients, which tests check against finite differences.

use std::ops::Range;

use candle_core::{
    CpuStorage, CustomOp1, D, DType, Device, Layout, Result, Shape, Storage, Tensor,
};
use candle_nn::ops;
use half::bf16;
use w4ax::dispatch::ACTION_DIM;

use crate::checkpoint::{Block, Checkpoint, Matrix};
use crate::hidden::EPS;

/// The frozen stack: `inp`, the blocks, rms and `head`.
pub struct Frozen {
    /// `[d, 64]`.
    inp: Tensor,
    blocks: Vec<Block<Tensor>>,
    /// The factors of rms, `[d]`: of each block, and last of the stack.
    norms: Vec<Tensor>,
    /// `[7 * bins, d]`.
    head: Tensor,
}

impl Frozen {
    /// Converts the policy's weights to `dtype` (F32, or F64 for checks).
    ///
    /// # Errors
    /// Those of candle.
    pub fn new(checkpoint: &Checkpoint, dtype: DType) -> Result<Self> {
        let matrix = |m: &Matrix| {
            let values: Vec<f32> = m.data.iter().copied().map(bf16::to_f32).collect();
            Tensor::from_vec(values, (m.n, m.k), &Device::Cpu)?.to_dtype(dtype)
        };
        let vector = |v: &[f32]| Tensor::new(v, &Device::Cpu)?.to_dtype(dtype);
        let block = |block: &Block<Matrix>| {
            Ok(Block {
                norm: block.norm.clone(),
                gate: matrix(&block.gate)?,
                up: matrix(&block.up)?,
                down: matrix(&block.down)?,
            })
        };
        let norms = checkpoint.blocks.iter().map(|block| block.norm.as_slice());
        Ok(Self {
            inp: matrix(&checkpoint.inp)?,
            blocks: checkpoint.blocks.iter().map(block).collect::<Result<_>>()?,
            norms: norms
                .chain([checkpoint.norm.as_slice()])
                .map(vector)
                .collect::<Result<_>>()?,
            head: matrix(&checkpoint.head)?,
        })
    }

    /// Returns the number of blocks n.
    pub fn layers(&self) -> usize {
        self.blocks.len()
    }

    /// Returns the width of the hidden state d.
    pub fn width(&self) -> usize {
        self.head.dims()[1]
    }

    /// Computes the states `[n + 1][B, d]` of `[B, 64]`: the input of each block, and the last
    /// output.
    ///
    /// # Errors
    /// Those of candle.
    pub fn states(&self, input: &Tensor) -> Result<Vec<Tensor>> {
        let mut states = vec![self.embed(input)?];
        for layer in 0..self.layers() {
            states.push(self.forward(layer, &states[layer])?.0);
        }
        Ok(states)
    }

    /// Computes the input of the first block, `[B, d]`, of `[B, 64]`.
    ///
    /// # Errors
    /// Those of candle.
    pub fn embed(&self, input: &Tensor) -> Result<Tensor> {
        input.matmul(&self.inp.t()?)
    }

    /// Runs the blocks `layers` on `x [B, d]`, with a gradient.
    ///
    /// # Errors
    /// Those of candle.
    pub fn run(&self, layers: Range<usize>, x: &Tensor) -> Result<Tensor> {
        layers
            .into_iter()
            .try_fold(x.clone(), |x, layer| self.block(layer, &x))
    }

    /// Runs block `layer` on `x [B, d]`, with a gradient.
    ///
    /// # Errors
    /// Those of candle.
    pub fn block(&self, layer: usize, x: &Tensor) -> Result<Tensor> {
        let (value, gate, up) = self.forward(layer, &x.detach())?;
        let (norm, weights) = (self.norms[layer].clone(), self.blocks[layer].clone());
        let backward = move |x: &Tensor, grad: &Tensor| {
            let to_inner = grad.matmul(&weights.down)?; // [B, h]
            let sigmoid = ops::sigmoid(&gate)?;
            let silu = (&gate * &sigmoid)?;
            // silu' = s + silu * (1 - s)
            let slope = (&sigmoid + (&silu * sigmoid.affine(-1.0, 1.0)?)?)?;
            let to_up = (&to_inner * silu)?;
            let to_gate = ((to_inner * &up)? * slope)?;
            let to_normed = (to_gate.matmul(&weights.gate)? + to_up.matmul(&weights.up)?)?;
            grad + rms_backward(x, &to_normed.broadcast_mul(&norm)?)?
        };
        known(x, value, backward)
    }

    /// Computes the logits `[B, 7, bins]` of the last state `[B, d]`, without a gradient.
    ///
    /// # Errors
    /// Those of candle.
    pub fn logits(&self, x: &Tensor) -> Result<Tensor> {
        let normed = rms(x)?.broadcast_mul(&self.norms[self.layers()])?;
        let bins = self.head.dims()[0] / ACTION_DIM;
        normed
            .matmul(&self.head.t()?)?
            .reshape((x.dims()[0], ACTION_DIM, bins))
    }

    /// Returns the most likely tokens, `[B, 7]` U32.
    ///
    /// # Errors
    /// Those of candle.
    pub fn tokens(&self, x: &Tensor) -> Result<Tensor> {
        self.logits(x)?.argmax(D::Minus1)
    }

    /// Returns the loss of the task, with a gradient in `x [B, d]`: the mean over rows and tokens
    /// of the cross entropy of the token distribution of `x` with that of `teacher [B, 7, bins]`,
    /// less its least value.
    ///
    /// # Errors
    /// Those of candle.
    pub fn task_loss(&self, x: &Tensor, teacher: &Tensor) -> Result<Tensor> {
        let log = |logits: &Tensor| ops::log_softmax(logits, D::Minus1);
        let (wanted, got) = (log(teacher)?, log(&self.logits(&x.detach())?)?);
        let wanted_p = wanted.exp()?;
        let rows = (wanted.dims()[0] * ACTION_DIM) as f64;
        let value = ((&wanted_p * (wanted - &got)?)?.sum_all()? / rows)?;
        let to_logits = ((got.exp()? - wanted_p)?.flatten_from(1)? / rows)?;
        let (norm, head) = (self.norms[self.layers()].clone(), self.head.clone());
        let backward = move |x: &Tensor, grad: &Tensor| {
            let to_normed = to_logits.matmul(&head)?.broadcast_mul(&norm)?;
            rms_backward(x, &to_normed)?.broadcast_mul(grad)
        };
        known(x, value, backward)
    }

    /// Returns the output of a block, and its gate and up, `[B, h]`.
    fn forward(&self, layer: usize, x: &Tensor) -> Result<(Tensor, Tensor, Tensor)> {
        let block = &self.blocks[layer];
        let normed = rms(x)?.broadcast_mul(&self.norms[layer])?;
        let gate = normed.matmul(&block.gate.t()?)?;
        let up = normed.matmul(&block.up.t()?)?;
        let value = (x + (gate.silu()? * &up)?.matmul(&block.down.t()?)?)?;
        Ok((value, gate, up))
    }
}

/// Returns `x` divided by its root mean square, `[B, d]`, with candle's gradient.
///
/// # Errors
/// Those of candle.
pub fn rms(x: &Tensor) -> Result<Tensor> {
    x.broadcast_mul(&inverse_rms(x)?)
}

/// `[B, 1]`.
fn inverse_rms(x: &Tensor) -> Result<Tensor> {
    (x.sqr()?.mean_keepdim(D::Minus1)? + f64::from(EPS))?
        .sqrt()?
        .recip()
}

/// Returns the gradient of `rms(x)` in x, from the gradient of its value.
fn rms_backward(x: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let r = inverse_rms(x)?;
    let along = ((x * grad)?.mean_keepdim(D::Minus1)? * r.sqr()?)?;
    (grad - x.broadcast_mul(&along)?)?.broadcast_mul(&r)
}

/// Returns `value` as a function of `x` with the gradient `backward(x, gradient of value)`.
fn known(
    x: &Tensor,
    value: Tensor,
    backward: impl Fn(&Tensor, &Tensor) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    x.apply_op1(Known { value, backward })
}

struct Known<F> {
    value: Tensor,
    backward: F,
}

impl<F: Fn(&Tensor, &Tensor) -> Result<Tensor>> CustomOp1 for Known<F> {
    fn name(&self) -> &'static str {
        "known"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let value = self.value.force_contiguous()?;
        let (storage, _) = value.storage_and_layout();
        match &*storage {
            Storage::Cpu(storage) => Ok((storage.clone(), value.shape().clone())),
            _ => candle_core::bail!("the frozen stack is on the CPU"),
        }
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        (self.backward)(&x.detach(), &grad.detach()).map(Some)
    }
}
