//! The policy with INT4 weights: an observation in, 7 action tokens out, at a width that is free to change every step.
//!
//! # Arithmetic
//! `inp` keeps its BF16 weights and runs in f32; so do rms, silu, the products of gate and up, and the residual sums.
//! Inputs of the quantised layers are rounded to BF16 and go through the backend's GEMM, which gives BF16; so the logits
//! are BF16 too. Of equal logits the first counts.

use half::bf16;
use w4ax::dispatch::ACTION_DIM;
use w4ax::step::Executed;
use w4ax::{Error, PackedWeight, Precision, Quantize, Result};

use super::checkpoint::{BINS, Block, Checkpoint, Matrix};
use super::compute::{Compute, Engine, Layer, StepWidth};
use super::rollouts::{INPUT, OBS, Tokens};

/// The epsilon of rms.
pub const EPS: f32 = 1e-5;

/// A quantised policy, with all that a step needs: nothing is allocated in one.
pub struct Policy {
    tasks: Vec<String>,
    obs_mean: [f32; OBS],
    obs_std: [f32; OBS],
    /// `[64][d]`: `inp`, transposed.
    inp: Vec<f32>,
    blocks: Vec<Block<Layer>>,
    norm: Vec<f32>,
    head: Layer,
    engine: Engine,
    /// Of the inputs that were embedded last.
    rows: usize,
    buffers: Buffers,
}

/// What lies between the layers, for up to `rows` inputs at once.
struct Buffers {
    rows: usize,
    /// `[rows][d]`: the residual stream.
    x: Vec<f32>,
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
    /// Quantises a checkpoint. `rows` is how many inputs [`Policy::forward_rows`] takes at most, at least 1.
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

    /// As [`Policy::new`], quantised by `pack`, which is also told the number of the layer's input: `2i` for gate and up of
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

    /// The policy as it was trained, its weights not quantised: what others are compared with. The width of a step means nothing
    /// to it.
    ///
    /// # Errors
    /// As [`Compute::engine`].
    pub fn unquantised(
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
        let transposed = |i: usize| checkpoint.inp.data[i % d * INPUT + i / d].to_f32();
        Ok(Self {
            tasks: checkpoint.tasks.clone(),
            obs_mean: checkpoint.obs_mean,
            obs_std: checkpoint.obs_std,
            inp: (0..INPUT * d).map(transposed).collect(),
            blocks: blocks.collect::<Result<_>>()?,
            norm: checkpoint.norm.clone(),
            head: layer(&checkpoint.head, 2 * checkpoint.blocks.len())?,
            engine: (compute.clone()).engine(rows, d.max(h).max(ACTION_DIM * BINS))?,
            rows: 0,
            buffers: Buffers {
                rows,
                x: vec![0.0; rows * d],
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

    /// Quantised layers.
    pub fn layers(&self) -> usize {
        3 * self.blocks.len() + 1
    }

    /// Bytes of the quantised layers, scales included.
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

    /// A control step: the width goes into the flag, the step's latch reads it there, and the layers run at that. What ran is
    /// what the latch has written down.
    ///
    /// # Errors
    /// As [`Policy::forward`]; as [`Engine::begin_step`].
    pub fn step(&mut self, input: &[f32; INPUT], width: Precision) -> Result<(Tokens, Executed)> {
        self.begin_step(width)?;
        let tokens = self.forward(input, StepWidth::Latched)?;
        Ok((tokens, self.executed()?))
    }

    /// Puts the width of the next step into the flag, and latches it: for layers at [`StepWidth::Latched`].
    ///
    /// # Errors
    /// As [`Engine::begin_step`].
    pub fn begin_step(&mut self, width: Precision) -> Result<()> {
        self.engine.begin_step(width)
    }

    /// What the step ran at, once a result of it is there.
    ///
    /// # Errors
    /// [`Error::Order`] before the first step.
    pub fn executed(&self) -> Result<Executed> {
        self.engine.executed().ok_or_else(|| Error::Order {
            call: "executed",
            reason: "no latch has run".into(),
        })
    }

    /// The action tokens of several inputs, each the same as if it came alone.
    ///
    /// # Errors
    /// [`Error::Shape`] for more inputs than [`Policy::new`] was told, or not a place for each; as
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
                expected: inputs.len().to_string(),
                got: tokens.len().to_string(),
            });
        }
        tokens_of(logits, tokens)
    }

    /// The logits of several inputs, `[rows][7][256]`.
    ///
    /// # Errors
    /// [`Error::Shape`] for more inputs than [`Policy::new`] was told.
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

    /// The engine and the residual stream, `[rows][d]`, for networks that stand beside the blocks.
    pub fn engine_and_hidden(&mut self) -> (&mut Engine, &mut [f32]) {
        let size = self.rows * self.norm.len();
        (&mut self.engine, &mut self.buffers.x[..size])
    }

    /// Makes the residual stream of several inputs.
    ///
    /// # Errors
    /// [`Error::Shape`] for more inputs than [`Policy::new`] was told.
    pub fn embed(&mut self, inputs: &[[f32; INPUT]]) -> Result<()> {
        let d = self.norm.len();
        if inputs.len() > self.buffers.rows {
            return Err(Error::Shape {
                what: "inputs",
                expected: format!("at most {}", self.buffers.rows),
                got: inputs.len().to_string(),
            });
        }
        self.rows = inputs.len();
        for (x, input) in self.buffers.x.chunks_mut(d).zip(inputs) {
            x.fill(0.0);
            for (w, input) in self.inp.chunks(d).zip(input) {
                x.iter_mut().zip(w).for_each(|(x, w)| *x += input * w);
            }
        }
        Ok(())
    }

    /// Runs a block on the residual stream.
    ///
    /// # Errors
    /// As [`Engine::gemm`].
    pub fn run_block(&mut self, block: usize, width: StepWidth) -> Result<()> {
        let (rows, d) = (self.rows, self.norm.len());
        let (block, engine) = (&self.blocks[block], &mut self.engine);
        let mut gemm =
            |x: &[bf16], layer: &Layer, y: &mut [bf16]| engine.gemm(rows, x, layer, width, y);
        let Buffers {
            x,
            normed,
            gate,
            up,
            down,
            ..
        } = &mut self.buffers;
        let x = &mut x[..rows * d];
        rms(x, &block.norm, normed);
        gemm(normed, &block.gate, gate)?;
        gemm(normed, &block.up, up)?;
        for (up, gate) in up.iter_mut().zip(gate).take(rows * block.up.shape().0) {
            *up = bf16::from_f32(silu(gate.to_f32()) * up.to_f32());
        }
        gemm(up, &block.down, down)?;
        for (x, down) in x.iter_mut().zip(down) {
            *x += down.to_f32();
        }
        Ok(())
    }

    /// The logits of the residual stream, `[rows][7][256]`.
    ///
    /// # Errors
    /// As [`Engine::gemm`].
    pub fn head(&mut self, width: StepWidth) -> Result<&[bf16]> {
        let (rows, d) = (self.rows, self.norm.len());
        let Buffers {
            x, normed, logits, ..
        } = &mut self.buffers;
        rms(&x[..rows * d], &self.norm, normed);
        let engine = &mut self.engine;
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

/// `x / sqrt(mean(x^2) + eps) * factors` of each row, rounded to BF16.
pub fn rms(x: &[f32], factors: &[f32], out: &mut [bf16]) {
    let d = factors.len();
    for (x, out) in x.chunks(d).zip(out.chunks_mut(d)) {
        let mean = x.iter().map(|x| x * x).sum::<f32>() / d as f32;
        let scale = 1.0 / (mean + EPS).sqrt();
        for ((out, x), factor) in out.iter_mut().zip(x).zip(factors) {
            *out = bf16::from_f32(x * scale * factor);
        }
    }
}

/// `x * sigmoid(x)`.
pub fn silu(x: f32) -> f32 {
    x / (1.0 + (-x).exp())
}

/// The first position of the largest of 256 logits; that of a logit that is not finite, if there is one, as the error.
fn argmax(logits: &[bf16]) -> std::result::Result<u8, usize> {
    let (mut best, mut at) = (f32::NEG_INFINITY, 0);
    for (bin, logit) in logits.iter().enumerate() {
        let logit = logit.to_f32();
        if !logit.is_finite() {
            return Err(bin);
        }
        if logit > best {
            (best, at) = (logit, bin);
        }
    }
    Ok(at as u8)
}
