//! A layer's weights: random ones, or those of a file.

use crate::layer::Sizes;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use std::path::Path;
use w4ax::{Grouping, MatRef, PackedFile, PackedWeight, Quantize};

/// Normally distributed numbers (Box-Muller), the same for the same seed whatever the threads.
pub fn normal(count: usize, deviation: f32, seed: u64) -> Vec<f32> {
    const CHUNK: usize = 1 << 16;
    let mut all = vec![0.0; count];
    all.par_chunks_mut(CHUNK)
        .enumerate()
        .for_each(|(i, chunk)| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(i as u64);
            for pair in chunk.chunks_mut(2) {
                let (u, v): (f32, f32) = (1.0 - rng.random::<f32>(), rng.random());
                let (radius, angle) = (
                    deviation * (-2.0 * u.ln()).sqrt(),
                    std::f32::consts::TAU * v,
                );
                for (to, value) in pair
                    .iter_mut()
                    .zip([radius * angle.cos(), radius * angle.sin()])
                {
                    *to = value;
                }
            }
        });
    all
}

/// Random projections in groups of 128.
pub fn random(sizes: &Sizes) -> super::Result<Vec<PackedWeight>> {
    let pack = |(i, (_, n, k)): (usize, (&str, usize, usize))| {
        let plain = normal(n * k, (k as f32).sqrt().recip(), 1000 + i as u64);
        Ok(Quantize::new(Grouping::G128).pack(MatRef::new(&plain, n, k)?)?)
    };
    sizes
        .projections()
        .into_iter()
        .enumerate()
        .map(pack)
        .collect()
}

/// Those of a layer in a file of packed weights.
pub fn of_file(path: &Path, layer: usize, sizes: &Sizes) -> super::Result<Vec<PackedWeight>> {
    let file = PackedFile::load(path)?;
    let take = |(name, n, k)| {
        let name = format!("model.layers.{layer}.{name}");
        let weight = file.get(&name)?;
        if (weight.n(), weight.k()) != (n, k) {
            return Err(format!(
                "{}: {name}: expected [{n}, {k}], got [{}, {}]",
                path.display(),
                weight.n(),
                weight.k()
            )
            .into());
        }
        Ok(weight.clone())
    };
    sizes.projections().into_iter().map(take).collect()
}
