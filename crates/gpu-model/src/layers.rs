//! The weights of a decoder's linear layers on a device, for GPU tests and benches.

use half::bf16;
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use w4ax::cuda::{DeviceWeight, Gpu};
use w4ax::{Grouping, MatRef, PackedWeight, Result, Scales, Scheme};

/// Rows that [`repeated_weights`] repeats: the first of these that divides n.
const PATTERNS: [usize; 2] = [64, 16];

/// `[N, K]` of the weights of a layer.
pub type Shapes = [(usize, usize); 4];

/// The weights of some layers, each in the order of their shapes.
pub struct Layers(Vec<[DeviceWeight; 4]>);

/// Returns random weights `[n, k]` that keep the scale of random activations.
fn weight(
    rng: &mut ChaCha8Rng,
    (n, k): (usize, usize),
    (scheme, grouping): (Scheme, Grouping),
) -> Result<PackedWeight> {
    let mut q = vec![0u8; n * k];
    rng.fill_bytes(&mut q);
    let q: Vec<i8> = q.into_iter().map(|b| (b & 15) as i8 - 8).collect();
    let q = MatRef::new(&q, n, k)?;
    // The variance of a uniform 4-bit integer is 21.25.
    let scale = 1.0 / (21.25 * k as f32).sqrt();
    let groups = grouping.groups(k);
    if scheme == Scheme::TwoLevel {
        // The mean square of the steps is 82.7.
        let steps: Vec<u8> = (0..n * groups)
            .map(|_| 1 + (rng.next_u32() % 15) as u8)
            .collect();
        let scales = Scales::F32(vec![scale / 9.1; n]);
        return PackedWeight::from_two_level(q, grouping, &steps, &scales, None);
    }
    let scales = Scales::Bf16(vec![bf16::from_f32(scale); n * groups]);
    PackedWeight::from_quantized(q, grouping, &scales, None)
}

/// Returns `copies` weights `[n, k]` of random rows that repeat. The device makes all but the first
/// of the rows.
///
/// # Errors
/// If an allocation fails.
pub fn repeated_weights(
    gpu: &Gpu,
    (n, k): (usize, usize),
    kind: (Scheme, Grouping),
    copies: usize,
) -> Result<Vec<DeviceWeight>> {
    let rows = (PATTERNS.into_iter())
        .find(|&rows| n.is_multiple_of(rows))
        .unwrap_or(n);
    let pattern = weight(&mut ChaCha8Rng::seed_from_u64(7), (rows, k), kind)?;
    (0..copies)
        .map(|_| gpu.upload_repeated(&pattern, n / rows))
        .collect()
}

impl Layers {
    /// Uploads `count` layers of random weights, each with values of its own.
    ///
    /// # Errors
    /// If an allocation fails.
    pub fn random(
        gpu: &Gpu,
        shapes: Shapes,
        kind: (Scheme, Grouping),
        count: usize,
    ) -> Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut layers = Vec::new();
        for _ in 0..count {
            let [a, b, c, d] = shapes.map(|shape| gpu.upload(&weight(&mut rng, shape, kind)?));
            layers.push([a?, b?, c?, d?]);
        }
        Ok(Self(layers))
    }

    /// Makes `count` layers on the device, by [`repeated_weights`]. Each layer has memory of its
    /// own, with the same values.
    ///
    /// # Errors
    /// If an allocation fails.
    pub fn repeated(
        gpu: &Gpu,
        shapes: Shapes,
        kind: (Scheme, Grouping),
        count: usize,
    ) -> Result<Self> {
        let [a, b, c, d] = shapes.map(|shape| repeated_weights(gpu, shape, kind, count));
        let layers = a?.into_iter().zip(b?).zip(c?).zip(d?);
        Ok(Self(layers.map(|(((a, b), c), d)| [a, b, c, d]).collect()))
    }

    /// Returns the weights of a layer. Layers beyond the last one reuse the weights of the first.
    pub fn layer(&self, layer: usize) -> &[DeviceWeight; 4] {
        &self.0[layer % self.0.len()]
    }

    /// Returns the weights of one of the four shapes, one per layer.
    pub fn of_shape(&self, shape: usize) -> impl Iterator<Item = &DeviceWeight> + Clone {
        self.0.iter().map(move |layer| &layer[shape])
    }

    /// Returns the number of layers with weights of their own.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are no layers.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the bytes of all weights.
    pub fn bytes(&self) -> usize {
        self.0.iter().flatten().map(DeviceWeight::bytes).sum()
    }
}
