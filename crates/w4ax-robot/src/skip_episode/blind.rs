//! Baselines that run a share of the layers without looking at the state.

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use w4ax::skip::Layers;

/// The layers that run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Drawn at every step from all layers.
    Random,
    /// Drawn at every step from the dynamic layers. Static layers run.
    RandomDynamic,
    /// The same at every step: evenly spaced from the first layer on, as many as come nearest to
    /// the share.
    Uniform,
}

/// Selects the layers of each step. A step does not allocate.
pub struct Blind {
    pattern: Pattern,
    share: f64,
    /// By layer: whether it is not drawn.
    is_static: Vec<bool>,
    rng: ChaCha8Rng,
    /// By layer: whether it runs in this step.
    runs: Vec<bool>,
    /// The layers to draw from, in the order of the draw.
    rest: Vec<usize>,
}

impl Blind {
    /// Selects from `layers` so that `share` of them run.
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

    /// Draws the layers of the next step.
    pub fn draw(&mut self) {
        if self.pattern == Pattern::Uniform {
            return;
        }
        let n = self.runs.len();
        // One more in some steps, so that the mean is the share.
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

    /// Returns whether a layer runs in this step.
    pub fn runs(&self, layer: usize) -> bool {
        self.runs[layer]
    }
}
