//! The weights of a layer, random or from a file.

use super::layer::Sizes;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use std::path::Path;
use w4ax::{Grouping, MatRef, PackedFile, PackedWeight, Quantize};

/// Returns normally distributed numbers (Box-Muller). They depend on the seed only.
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

/// Returns random projections in groups of 128.
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

/// Loads the projections of a layer from a file of packed weights. Any prefix before `layers` is
/// accepted: OpenVLA has `language_model.model`, Llama `model`.
pub fn of_file(path: &Path, layer: usize, sizes: &Sizes) -> super::Result<Vec<PackedWeight>> {
    let of_layer = format!(".layers.{layer}.");
    let mut file = PackedFile::load_only(path, |name| format!(".{name}").contains(&of_layer))?;
    let take = |(name, n, k): (&str, usize, usize)| {
        let end = format!("{of_layer}{name}");
        let called = |full: &&String| format!(".{full}").ends_with(&end);
        let names: Vec<String> = file.weights.keys().filter(called).cloned().collect();
        let [full] = names.as_slice() else {
            let count = names.len();
            let reason = format!("{count} weights are named `{}`: expected one", &end[1..]);
            return Err(format!("{}: {reason}", path.display()).into());
        };
        let weight = (file.weights.remove(full)).expect("one of the file's names");
        let (their_n, their_k) = (weight.n(), weight.k());
        if (their_n, their_k) != (n, k) {
            let reason = format!("{full}: expected [{n}, {k}], got [{their_n}, {their_k}]");
            return Err(format!("{}: {reason}", path.display()).into());
        }
        Ok(weight)
    };
    sizes.projections().into_iter().map(take).collect()
}
