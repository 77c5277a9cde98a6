//! The unquantized policy as plain loops: BF16 weights and f32 arithmetic, as in the data's README.

use w4ax_robot::checkpoint::{BINS, Block, Checkpoint, Matrix};
use w4ax_robot::hidden::EPS;
use w4ax_robot::policy::silu;
use w4ax_robot::shapes::{INPUT, Tokens};

/// `[n, k]` in f32.
struct Plain {
    k: usize,
    data: Vec<f32>,
}

/// An unquantized policy.
pub struct PlainPolicy {
    inp: Plain,
    blocks: Vec<Block<Plain>>,
    norm: Vec<f32>,
    head: Plain,
}

impl PlainPolicy {
    /// Uses the checkpoint's weights.
    pub fn new(checkpoint: &Checkpoint) -> Self {
        let plain = |matrix: &Matrix| Plain {
            k: matrix.k,
            data: matrix.data.iter().map(|w| w.to_f32()).collect(),
        };
        let blocks = checkpoint.blocks.iter().map(|block| Block {
            norm: block.norm.clone(),
            gate: plain(&block.gate),
            up: plain(&block.up),
            down: plain(&block.down),
        });
        Self {
            inp: plain(&checkpoint.inp),
            blocks: blocks.collect(),
            norm: checkpoint.norm.clone(),
            head: plain(&checkpoint.head),
        }
    }

    /// Returns the action tokens of one input.
    pub fn forward(&self, input: &[f32; INPUT]) -> Tokens {
        self.observed(input, |_, _| ())
    }

    /// As [`PlainPolicy::forward`]. `see` gets each layer's input, with its index in
    /// `Policy::with_weights`.
    pub fn observed(&self, input: &[f32; INPUT], mut see: impl FnMut(usize, &[f32])) -> Tokens {
        let mut x = self.inp.times(input);
        for (i, block) in self.blocks.iter().enumerate() {
            let normed = rms(&x, &block.norm);
            see(2 * i, &normed);
            let (gate, up) = (block.gate.times(&normed), block.up.times(&normed));
            let inner: Vec<f32> = gate.iter().zip(&up).map(|(g, u)| silu(*g) * u).collect();
            see(2 * i + 1, &inner);
            for (x, down) in x.iter_mut().zip(block.down.times(&inner)) {
                *x += down;
            }
        }
        let normed = rms(&x, &self.norm);
        see(2 * self.blocks.len(), &normed);
        let logits = self.head.times(&normed);
        std::array::from_fn(|i| {
            let logits = &logits[i * BINS..][..BINS];
            let first_of_best = |best, bin| {
                if logits[bin] > logits[best] {
                    bin
                } else {
                    best
                }
            };
            (0..BINS).fold(0, first_of_best) as u8
        })
    }
}

impl Plain {
    fn times(&self, x: &[f32]) -> Vec<f32> {
        let row = |w: &[f32]| {
            // Eight sums, as any fast f32 product has several.
            let mut sums = [0.0; 8];
            for (w, x) in w.chunks(8).zip(x.chunks(8)) {
                for ((sum, w), x) in sums.iter_mut().zip(w).zip(x) {
                    *sum += w * x;
                }
            }
            sums.iter().sum()
        };
        self.data.chunks(self.k).map(row).collect()
    }
}

fn rms(x: &[f32], factors: &[f32]) -> Vec<f32> {
    let mean = x.iter().map(|x| x * x).sum::<f32>() / x.len() as f32;
    let scale = 1.0 / (mean + EPS).sqrt();
    x.iter().zip(factors).map(|(x, f)| x * scale * f).collect()
}
