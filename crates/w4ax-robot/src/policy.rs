//! The policy with INT4 weights: one observation in, 7 action tokens out, at a width that may
//! change every step.
//!
//! # Arithmetic
//! `inp` keeps its BF16 weights and runs in f32. rms, silu, the products of gate and up, and the
//! residual sums are f32 too. Inputs of the quantized layers are rounded to BF16. The backend's
//! GEMM returns BF16, so the logits are BF16. The first of equal logits is the token.

use std::array::from_fn;

use half::bf16;
use w4ax::dispatch::{ACTION_DIM, LayerFloors};
use w4ax::step::StepFlag;
use w4ax::{Error, PackedWeight, Quantize, Result};

use super::checkpoint::{BINS, Block, Checkpoint, Matrix};
use super::compute::{Compute, Engine, Layer, StepWidth};
use super::hidden::Hidden;
use super::shapes::{INPUT, OBS, Tokens};

/// The largest magnitude of an input, in standard deviations.
const CLIP: f32 = 5.0;

/// Outputs of `inp` that are summed at a time, in registers.
const LANES: usize = 16;

/// A quantized policy with its buffers. A step does not allocate.
pub struct Policy {
    tasks: Vec<String>,
    obs_mean: [f32; OBS],
    obs_std: [f32; OBS],
    /// `[d / LANES][64][LANES]`: `inp`, transposed in parts, 0 beyond d.
    inp: Vec<[[f32; LANES]; INPUT]>,
    blocks: Vec<Block<Layer>>,
    norm: Vec<f32>,
    head: Layer,
    /// `[blocks + 1]`: the floor of each block, and of the head as the last.
    floors: LayerFloors,
    engine: Engine,
    /// The residual stream of the last inputs.
    hidden: Hidden,
    buffers: Buffers,
}

/// The buffers between the layers, for up to `rows` inputs.
struct Buffers {
    /// `[rows, d]`: rms(x).
    normed: Vec<bf16>,
    /// `[rows, h]`.
    gate: Vec<bf16>,
    /// `[rows, h]`: up(rms(x)), then its product with silu(gate).
    up: Vec<bf16>,
    /// `[rows, d]`.
    down: Vec<bf16>,
    /// `[rows, 7, 256]`.
    logits: Vec<bf16>,
}

impl Policy {
    /// Quantizes a checkpoint. `rows` is the largest number of inputs of [`Policy::forward_rows`],
    /// at least 1.
    ///
    /// # Errors
    /// As [`Quantize::pack`], [`Compute::layer`] and [`Compute::engine`].
    pub fn new(
        checkpoint: &Checkpoint,
        quantize: Quantize,
        compute: impl Into<Compute>,
        rows: usize,
    ) -> Result<Self> {
        let nearest = |matrix: &Matrix, _| quantize.pack(matrix.view());
        Self::with_weights(checkpoint, compute, rows, nearest)
    }

    /// As [`Policy::new`], with weights that `pack` quantizes. Its second argument is the index of
    /// the layer's input: `2i` for gate and up of block `i`, `2i + 1` for its down, the next for
    /// the head.
    ///
    /// # Errors
    /// Those of `pack`. As [`Compute::layer`] and [`Compute::engine`].
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

    /// The policy as trained: the reference of the quantized ones. It ignores the width of a step.
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
            floors: LayerFloors::none(checkpoint.blocks.len() + 1),
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

    /// Returns the names of the tasks, by index.
    pub fn tasks(&self) -> &[String] {
        &self.tasks
    }

    /// Returns the backend.
    pub fn compute(&self) -> Compute {
        self.engine.compute()
    }

    /// Returns the number of quantized layers.
    pub fn layers(&self) -> usize {
        3 * self.blocks.len() + 1
    }

    /// Sets the floor of each block, and of the head as the last, `[blocks + 1]`. A layer runs at
    /// the width of the step or at its floor, whichever is wider. At first no floor has an effect.
    /// The networks of skipped layers have none.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of floors. As [`Engine::check_floors`], for floors that
    /// have an effect.
    pub fn set_floors(&mut self, floors: &LayerFloors) -> Result<()> {
        if floors.len() != self.floors.len() {
            return Err(Error::Shape {
                what: "floors",
                expected: [self.floors.len()].into(),
                got: [floors.len()].into(),
            });
        }
        if *floors != LayerFloors::none(floors.len()) {
            self.engine.check_floors()?;
        }
        self.floors = floors.clone();
        Ok(())
    }

    /// Returns the floor of each block, and of the head as the last.
    pub const fn floors(&self) -> &LayerFloors {
        &self.floors
    }

    /// Returns the share of each block, and of the head as the last, in the products of a step.
    /// The sum is 1.
    pub fn layer_shares(&self) -> Vec<f64> {
        let products = |layer: &Layer| {
            let (n, k) = layer.shape();
            (n * k) as f64
        };
        let blocks = self
            .blocks
            .iter()
            .map(|b| b.weights().map(products).iter().sum());
        let shares: Vec<f64> = blocks.chain([products(&self.head)]).collect();
        let all: f64 = shares.iter().sum();
        shares.iter().map(|share| share / all).collect()
    }

    /// Returns the bytes of the quantized layers, scales included.
    pub fn packed_bytes(&self) -> usize {
        let layers = self.blocks.iter().flat_map(Block::weights);
        layers.chain([&self.head]).map(|layer| layer.bytes()).sum()
    }

    /// Returns the input of a raw observation: `clip((obs - mean) / std, -5, 5)`, the task one-hot,
    /// zeros.
    ///
    /// # Errors
    /// [`Error::NotFinite`] for an observation that is not finite, [`Error::Range`] for a task out
    /// of range.
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
            input[i] = self.normalized(obs, i).clamp(-CLIP, CLIP);
        }
        input[OBS + task] = 1.0;
        Ok(input)
    }

    /// Returns the indices of the numbers that [`Policy::input`] clips, in order. The policy was
    /// not trained on such values.
    pub fn clipped(&self, obs: &[f32; OBS]) -> impl Iterator<Item = usize> {
        (0..OBS).filter(|&i| self.normalized(obs, i).abs() > CLIP)
    }

    fn normalized(&self, obs: &[f32; OBS], i: usize) -> f32 {
        (obs[i] - self.obs_mean[i]) / self.obs_std[i]
    }

    /// Returns the action tokens of one input.
    ///
    /// # Errors
    /// [`Error::NotFinite`] if a logit is not finite: there is no action.
    pub fn forward(&mut self, input: &[f32; INPUT], width: impl Into<StepWidth>) -> Result<Tokens> {
        let mut tokens = [Tokens::default()];
        self.forward_rows(std::slice::from_ref(input), width, &mut tokens)?;
        Ok(tokens[0])
    }

    /// Runs the head on one row, and returns its action tokens.
    ///
    /// # Errors
    /// As [`head`](Self::head); [`Error::NotFinite`] if a logit is not finite.
    pub fn head_tokens(&mut self, width: StepWidth) -> Result<Tokens> {
        let mut tokens = Tokens::default();
        tokens_of(self.head(width)?, std::slice::from_mut(&mut tokens))?;
        Ok(tokens)
    }

    /// Returns the words of the control step: the requested width and the latched one.
    pub fn words(&self) -> &StepFlag {
        self.engine.words()
    }

    /// Begins a control step: latches the width in the flag, for layers at [`StepWidth::Latched`].
    ///
    /// # Errors
    /// As [`Engine::latch`].
    pub fn latch(&mut self) -> Result<()> {
        self.engine.latch()
    }

    /// Computes the action tokens of several inputs. They do not depend on the batch.
    ///
    /// # Errors
    /// [`Error::Buffer`] for more inputs than [`Policy::new`] allocated, or fewer tokens than
    /// inputs. As [`Policy::forward`].
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

    /// Returns the logits of several inputs, `[rows, 7, 256]`.
    ///
    /// # Errors
    /// [`Error::Buffer`] for more inputs than [`Policy::new`] allocated.
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

    /// Returns the number of blocks.
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Returns the width of the residual stream.
    pub fn width(&self) -> usize {
        self.norm.len()
    }

    /// Returns the engine and the residual stream, for the networks of skipped layers.
    pub fn engine_and_hidden(&mut self) -> (&mut Engine, &mut Hidden) {
        (&mut self.engine, &mut self.hidden)
    }

    /// Embeds several inputs into the residual stream.
    ///
    /// # Errors
    /// [`Error::Buffer`] for more inputs than [`Policy::new`] allocated.
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
                // Half of an input is 0. Weights are finite and no sum is -0, so zeros can be left
                // out.
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
        let width = width.at_least(self.floors.as_slice()[block]);
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

    /// Returns the logits of the residual stream, `[rows, 7, 256]`.
    ///
    /// # Errors
    /// As [`Engine::gemm`].
    pub fn head(&mut self, width: StepWidth) -> Result<&[bf16]> {
        let width = width.at_least(self.floors.as_slice()[self.blocks.len()]);
        let (rows, engine) = (self.hidden.rows(), &mut self.engine);
        let Buffers { normed, logits, .. } = &mut self.buffers;
        self.hidden.rms(&self.norm, normed);
        engine.gemm(rows, normed, &self.head, width, logits)?;
        Ok(self.logits())
    }

    /// Returns the logits of the last [`Policy::head`], `[rows, 7, 256]`, until the next
    /// [`Policy::embed`].
    pub fn logits(&self) -> &[bf16] {
        &self.buffers.logits[..self.hidden.rows() * ACTION_DIM * BINS]
    }
}

/// Writes the tokens of logits `[rows, 7, 256]`.
///
/// # Errors
/// [`Error::NotFinite`] if a logit is not finite: there is no action.
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

/// Returns the first position of the largest of 256 logits, or the position of one that is not
/// finite as the error.
fn argmax(logits: &[bf16]) -> std::result::Result<u8, usize> {
    // Maps a BF16 to an integer of the same order, with equal zeros: integer comparisons vectorize.
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
        return Err(bad.expect("a logit is not finite"));
    }
    let behind = logits.iter().skip(part * PART);
    let at = behind.map(ordered).position(|x| x == most);
    Ok((part * PART + at.expect("the part has the largest logit")) as u8)
}
