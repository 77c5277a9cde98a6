//! A plain checkpoint.

use std::path::{Path, PathBuf};

use half::bf16;
use rand::Rng;
use safetensors::tensor::Dtype;

use crate::{TensorFile, rng};

/// Returns a plain checkpoint: `layers` matrices `[n, k]` in BF16, F32 and F16 in turn, their
/// biases, and tensors that are not quantized.
pub fn plain_checkpoint(n: usize, k: usize, layers: usize) -> TensorFile {
    let rng = &mut rng(7);
    let mut values = |len: usize| {
        (0..len)
            .map(|_| rng.random_range(-1f32..1.0))
            .collect::<Vec<_>>()
    };
    let mut file = TensorFile::new();
    for layer in 0..layers {
        let w = values(n * k);
        let (dtype, bytes) = match layer % 3 {
            0 => (
                Dtype::BF16,
                w.iter()
                    .flat_map(|&w| bf16::from_f32(w).to_le_bytes())
                    .collect(),
            ),
            1 => (Dtype::F32, w.iter().flat_map(|w| w.to_le_bytes()).collect()),
            _ => (
                Dtype::F16,
                w.iter()
                    .flat_map(|&w| half::f16::from_f32(w).to_le_bytes())
                    .collect(),
            ),
        };
        file.set(&format!("layers.{layer}.up.weight"), dtype, &[n, k], bytes);
        file.set(
            &format!("layers.{layer}.up.bias"),
            Dtype::BF16,
            &[n],
            vec![1; 2 * n],
        );
    }
    for (name, shape) in [
        ("embed_tokens.weight", vec![3, 5]),
        ("vision.patch_embedding.weight", vec![2, 2]),
        ("lm_head.weight", vec![3, 5]),
        ("router.weight", vec![3, 5]),
        ("norm.weight", vec![7]),
        ("conv.weight", vec![2, 2, 3]),
        ("table", vec![3, 5]),
        ("steps", vec![1]),
    ] {
        let size: usize = shape.iter().product();
        file.set(name, Dtype::F32, &shape, vec![2; 4 * size]);
    }
    file.set("counts", Dtype::I64, &[3], vec![1; 24]);
    file.set("flags", Dtype::U8, &[3], vec![1; 3]);
    file
}

/// Writes a checkpoint as `model.safetensors` into a folder and returns its path.
///
/// # Panics
/// If the file cannot be written.
pub fn write_checkpoint(folder: &Path, file: &TensorFile) -> PathBuf {
    let path = folder.join("model.safetensors");
    std::fs::write(&path, file.bytes()).unwrap();
    path
}
