//! The policy with INT4 weights: an observation in, 7 action tokens out, at a width that is free to change every step.
//!
//! # Arithmetic
//! `inp` keeps its BF16 weights and runs in f32; so do rms, silu, the products of gate and up, and the residual sums.
//! Inputs of the quantized layers are rounded to BF16 and go through the backend's GEMM, which gives BF16; so the logits
//! are BF16 too. Of equal logits the first counts.

use std::array::from_fn;

use half::bf16;
use w4ax::dispatch::ACTION_DIM;
use w4ax::step::StepFlag;
use w4ax::{Error, PackedWeight, Quantize, Result};

use super::checkpoint::{BINS, Block, Checkpoint, Matrix};
use super::compute::{Compute, Engine, Layer, StepWidth};
use super::hidden::Hidden;
use super::rollouts::{INPUT, OBS, Tokens};

/// Outputs of `inp` that are summed at a time, in registers.
const LANES: usize = 16;

/// A quantized policy, with all that a step needs: nothing is allocated in one.
pub struct Policy {
    tasks: Vec<String>,
    obs_mean: [f32; OBS],
    obs_std: [f32; OBS],
    /// `[d / LANES][64][LANES]`: `inp`, transposed in parts; 0 beyond d.
    inp: Vec<[[f32; LANES]; INPUT]>,
    blocks: Vec<Block<Layer>>,
    norm: Vec<f32>,
    head: Layer,
    engine: Engine,
    /// Of the inputs that were embedded last.
    hidden: Hidden,
    buffers: Buffers,
}

/// What lies between the layers, for up to `rows` inputs at once.
struct Buffers {
    /// `[rows][d]`: rms(x).
    normed: Vec<bf16>,
    /// `[rows][h]`.
    gate: Vec<bf16>,
    /// `[rows][h]`: up(rms(x)), then its product with silu(gate).
    up: Vec<bf16>,
    /// `[rows][d]`.
    down: Vec<bf16>,
    /// `[rows][7][256]`.
    logits: Vec<bf16>,
}

impl Policy {
    /// Quantizes a checkpoint. `rows` is how many inputs [`Policy::forward_rows`] takes at most, at least 1.
    ///
    /// # Errors
    /// As [`Quantize::pack`]; as [`Compute::layer`] and [`Compute::engine`].
    pub fn new(
        checkpoint: &Checkpoint,
        quantize: Quantize,
        compute: impl Into<Compute>,
        rows: usize,
    ) -> Result<Self> {
        let nearest = |matrix: &Matrix, _| quantize.pack(matrix.view());
        Self::with_weights(checkpoint, compute, rows, nearest)
    }

    /// As [`Policy::new`], quantized by `pack`, which is also told the number of the layer's input: `2i` for gate and up of
    /// block `i`, `2i + 1` for its down, the next for the head.
    ///
    /// # Errors
    /// What `pack` answers; as [`Compute::layer`] and [`Compute::engine`].
    pub fn with_weights(
        checkpoint: &Checkpoint,
        compute: impl Into<Compute>,
        rows: usize,
        pack: impl Fn(&Matrix, usize) -> Result<PackedWeight>,
    ) -> Result<Self> {
        let compute = compute.into();
        let layer = |matrix: &Matrix, input: usize| compute.layer(pack(matrix, input)?);
        Self::with_layers(checkpoint, &compute, rows, layer)
    }

    /// The policy as it was trained, its weights not quantized: what others are compared with. The width of a step means nothing
    /// to it.
    ///
    /// # Errors
    /// As [`Compute::engine`].
    pub fn unquantized(
        checkpoint: &Checkpoint,
        compute: impl Into<Compute>,
        rows: usize,
    ) -> Result<Self> {
        let plain = |matrix: &Matrix, _| Ok(Layer::plain(matrix.view()));
        Self::with_layers(checkpoint, &compute.into(), rows, plain)
    }

    fn with_layers(
        checkpoint: &Checkpoint,
        compute: &Compute,
        rows: usize,
        layer: impl Fn(&Matrix, usize) -> Result<Layer>,
    ) -> Result<Self> {
        let (d, h, rows) = (checkpoint.d(), checkpoint.h(), rows.max(1));
        let block = |(i, block): (usize, &Block<Matrix>)| {
            Ok(Block {
                norm: block.norm.clone(),
                gate: layer(&block.gate, 2 * i)?,
                up: layer(&block.up, 2 * i)?,
                down: layer(&block.down, 2 * i + 1)?,
            })
        };
        let blocks = checkpoint.blocks.iter().enumerate().map(block);
        let inp = |n: usize, k: usize| match n < d {
            true => checkpoint.inp.data[n * INPUT + k].to_f32(),
            false => 0.0,
        };
        let part = |at: usize| from_fn(|k| from_fn(|lane| inp(at * LANES + lane, k)));
        Ok(Self {
            tasks: checkpoint.tasks.clone(),
            obs_mean: checkpoint.obs_mean,
            obs_std: checkpoint.obs_std,
            inp: (0..d.div_ceil(LANES)).map(part).collect(),
            blocks: blocks.collect::<Result<_>>()?,
            norm: checkpoint.norm.clone(),
            head: layer(&checkpoint.head, 2 * checkpoint.blocks.len())?,
            engine: (compute.clone()).engine(rows, d.max(h).max(ACTION_DIM * BINS))?,
            hidden: Hidden::new(rows, d),
            buffers: Buffers {
                normed: vec![bf16::ZERO; rows * d],
                gate: vec![bf16::ZERO; rows * h],
                up: vec![bf16::ZERO; rows * h],
                down: vec![bf16::ZERO; rows * d],
                logits: vec![bf16::ZERO; rows * ACTION_DIM * BINS],
            },
        })
    }

    /// Names of the tasks, by index.
    pub fn tasks(&self) -> &[String] {
        &self.tasks
    }

    /// What computes the layers.
    pub fn compute(&self) -> Compute {
        self.engine.compute()
    }

    /// Quantized layers.
    pub fn layers(&self) -> usize {
        3 * self.blocks.len() + 1
    }

    /// Bytes of the quantized layers, scales included.
    pub fn packed_bytes(&self) -> usize {
        let layers = self.blocks.iter().flat_map(Block::weights);
        layers.chain([&self.head]).map(|layer| layer.bytes()).sum()
    }

    /// The input for a raw observation: `clip((obs - mean) / std, -5, 5)`, the task one-hot behind it, zeros.
    ///
    /// # Errors
    /// [`Error::NotFinite`] for an observation that is not finite, [`Error::Range`] for a task that there is not.
    pub fn input(&self, obs: &[f32; OBS], task: usize) -> Result<[f32; INPUT]> {
        if task >= self.tasks.len() {
            return Err(Error::Range {
                what: "task",
                value: format!("{task} of {} tasks", self.tasks.len()),
                range: "the policy's tasks",
            });
        }
        let mut input = [0.0; INPUT];
        for (i, &x) in obs.iter().enumerate() {
            if !x.is_finite() {
                return Err(Error::NotFinite {
                    what: "observation",
                    index: i,
                    value: x.into(),
                });
            }
            input[i] = ((x - self.obs_mean[i]) / self.obs_std[i]).clamp(-5.0, 5.0);
        }
        input[OBS + task] = 1.0;
        Ok(input)
    }

    /// The action tokens of one input.
    ///
    /// # Errors
    /// [`Error::NotFinite`] if a logit is not: there is no action then.
    pub fn forward(&mut self, input: &[f32; INPUT], width: impl Into<StepWidth>) -> Result<Tokens> {
        let mut tokens = [Tokens::default()];
        self.forward_rows(std::slice::from_ref(input), width, &mut tokens)?;
        Ok(tokens[0])
    }

    /// The words of the control step: the requested width, and the one that was latched.
    pub fn words(&self) -> &StepFlag {
        self.engine.words()
    }

    /// Begins a control step: latches the width that the flag holds, for layers at [`StepWidth::Latched`].
    ///
    /// # Errors
    /// As [`Engine::latch`].
    pub fn latch(&mut self) -> Result<()> {
        self.engine.latch()
    }

    /// The action tokens of several inputs, each the same as if it came alone.
    ///
    /// # Errors
    /// [`Error::Buffer`] for more inputs than [`Policy::new`] was told, or not a place for each; as
    /// [`Policy::forward`] else.
    pub fn forward_rows(
        &mut self,
        inputs: &[[f32; INPUT]],
        width: impl Into<StepWidth>,
        tokens: &mut [Tokens],
    ) -> Result<()> {
        let logits = self.logits_rows(inputs, width)?;
        if tokens.len() != inputs.len() {
            return Err(Error::Shape {
                what: "tokens",
                expected: [inputs.len()].into(),
                got: [tokens.len()].into(),
            });
        }
        tokens_of(logits, tokens)
    }

    /// The logits of several inputs, `[rows][7][256]`.
    ///
    /// # Errors
    /// [`Error::Buffer`] for more inputs than [`Policy::new`] was told.
    pub fn logits_rows(
        &mut self,
        inputs: &[[f32; INPUT]],
        width: impl Into<StepWidth>,
    ) -> Result<&[bf16]> {
        let width = width.into();
        self.embed(inputs)?;
        for block in 0..self.blocks.len() {
            self.run_block(block, width)?;
        }
        self.head(width)
    }

    /// How many blocks there are.
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Width of the residual stream.
    pub fn width(&self) -> usize {
        self.norm.len()
    }

    /// The engine and the residual stream, for networks that stand beside the blocks.
    pub fn engine_and_hidden(&mut self) -> (&mut Engine, &mut Hidden) {
        (&mut self.engine, &mut self.hidden)
    }

    /// Makes the residual stream of several inputs.
    ///
    /// # Errors
    /// [`Error::Buffer`] for more inputs than [`Policy::new`] was told.
    pub fn embed(&mut self, inputs: &[[f32; INPUT]]) -> Result<()> {
        let d = self.norm.len();
        if inputs.len() > self.hidden.most_rows() {
            return Err(Error::Buffer {
                what: "inputs",
                needed: inputs.len(),
                got: self.hidden.most_rows(),
            });
        }
        let x = self.hidden.begin(inputs.len());
        for (x, input) in x.chunks_mut(d).zip(inputs) {
            for (x, w) in x.chunks_mut(LANES).zip(&self.inp) {
                let mut sums = [0.0; LANES];
                // A weight is finite, and no sum is -0: what is 0, as half of an input is, changes nothing.
                for (w, input) in w.iter().zip(input).filter(|(_, input)| **input != 0.0) {
                    for (sum, w) in sums.iter_mut().zip(w) {
                        *sum += input * w;
                    }
                }
                x.copy_from_slice(&sums[..x.len()]);
            }
        }
        Ok(())
    }

    /// Runs a block on the residual stream.
    ///
    /// # Errors
    /// As [`Engine::gemm`].
    pub fn run_block(&mut self, block: usize, width: StepWidth) -> Result<()> {
        let (rows, hidden) = (self.hidden.rows(), &mut self.hidden);
        let (block, engine) = (&self.blocks[block], &mut self.engine);
        let mut gemm =
            |x: &[bf16], layer: &Layer, y: &mut [bf16]| engine.gemm(rows, x, layer, width, y);
        let Buffers {
            normed,
            gate,
            up,
            down,
            ..
        } = &mut self.buffers;
        hidden.rms(&block.norm, normed);
        gemm(normed, &block.gate, gate)?;
        gemm(normed, &block.up, up)?;
        for (up, gate) in up.iter_mut().zip(gate).take(rows * block.up.shape().0) {
            *up = bf16::from_f32(silu(gate.to_f32()) * up.to_f32());
        }
        gemm(up, &block.down, down)?;
        hidden.add(down);
        Ok(())
    }

    /// The logits of the residual stream, `[rows][7][256]`.
    ///
    /// # Errors
    /// As [`Engine::gemm`].
    pub fn head(&mut self, width: StepWidth) -> Result<&[bf16]> {
        let (rows, engine) = (self.hidden.rows(), &mut self.engine);
        let Buffers { normed, logits, .. } = &mut self.buffers;
        self.hidden.rms(&self.norm, normed);
        engine.gemm(rows, normed, &self.head, width, logits)?;
        Ok(&logits[..rows * ACTION_DIM * BINS])
    }
}

/// The tokens of logits `[rows][7][256]`.
///
/// # Errors
/// [`Error::NotFinite`] if a logit is not: there is no action then.
pub fn tokens_of(logits: &[bf16], tokens: &mut [Tokens]) -> Result<()> {
    let places = tokens.as_flattened_mut().iter_mut();
    for (at, (token, logits)) in places.zip(logits.chunks(BINS)).enumerate() {
        *token = argmax(logits).map_err(|bin| Error::NotFinite {
            what: "logits",
            index: at * BINS + bin,
            value: logits[bin].into(),
        })?;
    }
    Ok(())
}

/// `x * sigmoid(x)`.
pub fn silu(x: f32) -> f32 {
    x / (1.0 + (-x).exp())
}

/// The first position of the largest of 256 logits; that of a logit that is not finite, if there is one, as the error.
fn argmax(logits: &[bf16]) -> std::result::Result<u8, usize> {
    // Ordered as the numbers are, the two zeros alike: integers, which vector instructions compare.
    let ordered = |x: &bf16| {
        let (magnitude, sign) = (x.to_bits() as i16 & 0x7FFF, x.to_bits() as i16 >> 15);
        (magnitude ^ sign) - sign
    };
    const PART: usize = 32;
    let (mut least, mut most, mut part) = (0, i16::MIN, 0);
    for (at, logits) in logits.chunks(PART).enumerate() {
        let mut largest = i16::MIN;
        for x in logits.iter().map(ordered) {
            (least, largest) = (least.min(x), largest.max(x));
        }
        if largest > most {
            (most, part) = (largest, at);
        }
    }
    let infinity = bf16::INFINITY.to_bits() as i16;
    if least <= -infinity || most >= infinity {
        let bad = logits.iter().position(|x| !x.is_finite());
        return Err(bad.expect("its magnitude is infinity's or more"));
    }
    let behind = logits.iter().skip(part * PART);
    let at = behind.map(ordered).position(|x| x == most);
    Ok((part * PART + at.expect("it is in this part")) as u8)
}
