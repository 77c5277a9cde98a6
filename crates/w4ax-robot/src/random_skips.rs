//! Skips by chance: a control of the guide and the controllers.
//!
//! A step skips as many layers as if each layer that may be skipped were skipped with probability
//! P, independently. An adapter replaces a layer and the rest of its gap, so the last layers of a
//! gap are skipped. With `n` layers in a gap, the number of skipped ones has the distribution
//! `Binomial(n, P)`, and the mean number of layers that run falls linearly in P.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use w4ax::skip::{Layers, SkipConfig, Verify};
use w4ax::{Error, Result};

/// Draws the layers that a step skips. A step does not allocate.
pub struct RandomSkips {
    probability: f64,
    rng: ChaCha8Rng,
    layers: Layers,
    /// `[gaps]`: the first layer that this step skips, or the end of the gap.
    starts: Vec<usize>,
}

impl RandomSkips {
    /// Draws from the layers of a stack, each with this probability.
    ///
    /// # Errors
    /// [`Error::Range`] for a probability outside [0, 1].
    pub fn new(probability: f64, seed: u64, layers: &Layers) -> Result<Self> {
        if !(0.0..=1.0).contains(&probability) {
            return Err(Error::Range {
                what: "probability of a skip",
                value: probability.to_string(),
                range: "a number in [0, 1]",
            });
        }
        Ok(Self {
            probability,
            rng: ChaCha8Rng::seed_from_u64(seed),
            layers: layers.clone(),
            starts: layers.gaps().iter().map(|gap| gap.end).collect(),
        })
    }

    /// Returns the configuration without a guide and without second passes.
    pub fn config() -> SkipConfig {
        SkipConfig::default()
            .with_pre_skip(false)
            .with_verify(Verify::Off)
    }

    /// Draws the skips of the next step.
    pub fn draw(&mut self) {
        for (start, gap) in self.starts.iter_mut().zip(self.layers.gaps()) {
            let skipped = (gap.start..gap.end).filter(|_| self.rng.random_bool(self.probability));
            *start = gap.end - skipped.count();
        }
    }

    /// Returns whether this step skips the layer, as a probability for the skipper.
    pub fn probability(&self, layer: usize) -> f32 {
        let gap = self.layers.gap_of(layer);
        match gap.is_some_and(|gap| layer >= self.starts[gap]) {
            true => 1.0,
            false => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: usize = 4000;

    /// Returns the number of skipped layers of each gap in many steps.
    fn counts(probability: f64, seed: u64) -> Vec<[usize; 2]> {
        // Gaps 1..4 and 5..10.
        let layers = Layers::new(10, &[0, 4]).unwrap();
        let mut random = RandomSkips::new(probability, seed, &layers).unwrap();
        let mut step = || {
            random.draw();
            [1..4, 5..10].map(|gap| {
                let skipped: Vec<bool> = gap.map(|layer| random.probability(layer) > 0.5).collect();
                assert!(
                    skipped.is_sorted(),
                    "a skip does not reach the end of its gap"
                );
                skipped.iter().filter(|skipped| **skipped).count()
            })
        };
        (0..STEPS).map(|_| step()).collect()
    }

    #[test]
    fn all_or_no_layers_are_skipped_at_the_ends() {
        assert!(counts(0.0, 1).iter().all(|skipped| *skipped == [0, 0]));
        assert!(counts(1.0, 1).iter().all(|skipped| *skipped == [3, 5]));
    }

    /// Within four standard errors.
    #[test]
    fn number_of_skipped_layers_is_binomial() {
        let p = 0.3;
        let counts = counts(p, 7);
        for (gap, n) in [(0, 3.0), (1, 5.0)] {
            let of_gap = || counts.iter().map(|skipped| skipped[gap] as f64);
            let mean = of_gap().sum::<f64>() / STEPS as f64;
            let variance = of_gap().map(|k| (k - n * p).powi(2)).sum::<f64>() / STEPS as f64;
            let expected = n * p * (1.0 - p);
            assert!(
                (mean - n * p).abs() < 4.0 * (expected / STEPS as f64).sqrt(),
                "{mean}"
            );
            assert!(
                (variance / expected - 1.0).abs() < 0.1,
                "{variance}: expected {expected}"
            );
        }
    }

    #[test]
    fn draws_depend_on_the_seed_alone() {
        assert_eq!(counts(0.5, 3), counts(0.5, 3));
        assert_ne!(counts(0.5, 3), counts(0.5, 4));
    }

    #[test]
    fn wrong_probability_is_an_error() {
        let layers = Layers::new(3, &[]).unwrap();
        for p in [-0.1, 1.1, f64::NAN] {
            assert!(
                matches!(RandomSkips::new(p, 0, &layers), Err(Error::Range { .. })),
                "{p}"
            );
        }
    }
}
