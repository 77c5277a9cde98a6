//! Which layers run at a share of them, without looking.

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use w4ax::skip::Layers;

/// Which layers run at a share of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Drawn anew at every step, from all.
    Random,
    /// Drawn anew at every step, from those that are not static.
    RandomDynamic,
    /// The same at every step, evenly spaced, the first one among them: every second one at a half. As many as come nearest to
    /// the share.
    Uniform,
}

/// Says which layers a step runs; nothing is allocated in one.
pub struct Blind {
    pattern: Pattern,
    share: f64,
    /// By layer: those that are not drawn.
    is_static: Vec<bool>,
    rng: ChaCha8Rng,
    /// By layer, in this step.
    runs: Vec<bool>,
    /// Those that are drawn from, in the order of the draw.
    rest: Vec<usize>,
}

impl Blind {
    /// For such layers, at that share of them.
    pub fn new(pattern: Pattern, layers: &Layers, share: f64, seed: u64) -> Self {
        let n = layers.len();
        let mut is_static = vec![false; n];
        if pattern == Pattern::RandomDynamic {
            for layer in layers.static_layers() {
                is_static[layer] = true;
            }
        }
        let count = ((share * n as f64).round() as usize).max(1);
        let before = |layer: usize| (layer * count).div_ceil(n);
        Self {
            pattern,
            share,
            is_static,
            rng: ChaCha8Rng::seed_from_u64(seed),
            runs: (0..n).map(|i| before(i + 1) > before(i)).collect(),
            rest: Vec::with_capacity(n),
        }
    }

    /// The next step.
    pub fn draw(&mut self) {
        if self.pattern == Pattern::Uniform {
            return;
        }
        let n = self.runs.len();
        // As many as it takes for the mean to be the share.
        let mean = self.share * n as f64;
        let more = usize::from(self.rng.random::<f64>() < mean.fract());
        let count = mean.floor() as usize + more;
        self.runs.copy_from_slice(&self.is_static);
        self.rest.clear();
        let rest = (0..n).filter(|&layer| !self.is_static[layer]);
        self.rest.extend(rest);
        self.rest.shuffle(&mut self.rng);
        let left = count.saturating_sub(n - self.rest.len());
        for &layer in self.rest.iter().take(left) {
            self.runs[layer] = true;
        }
    }

    /// Whether a layer runs in this step.
    pub fn runs(&self, layer: usize) -> bool {
        self.runs[layer]
    }
}
