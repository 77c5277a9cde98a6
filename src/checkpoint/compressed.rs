//! compressed-tensors' `pack-quantized`: a word holds eight k of one row.
//!
//! | tensor | type | |
//! |---|---|---|
//! | `weight_packed` | I32 `[N, ceil(K/8)]` | nibble `j` of word `c` is `q + 8` of k `8c + j` |
//! | `weight_zero_point` | I32 `[ceil(N/8), groups]` | nibble `j` of row `r` is `zero + 8` of row `8r + j`; absent when symmetric |
//! | `weight_scale` | F16, BF16 or F32 `[N, groups]` | |
//! | `weight_shape` | I32 or I64 `[2]` | N and K |
//! | `weight_g_idx` | I32 `[K]` | the group of each k; absent, or all -1, where they are runs |
//!
//! `w = (q - zero) * scale`, a product in the type of the scales. From `compressed_tensors/compressors/pack_quantized`, 0.20.0,
//! and 0.12.2 for `weight_g_idx`.

use super::shards::Shards;
use super::stored::{self, Stored, exact, groups, nibble, scales};
use crate::Result;
use rayon::prelude::*;
use safetensors::tensor::Dtype;

/// The tensors of a module.
pub(super) const TENSORS: [&str; 5] = [
    "weight_packed",
    "weight_zero_point",
    "weight_scale",
    "weight_shape",
    "weight_g_idx",
];

pub(super) fn read(
    shards: &Shards,
    module: &str,
    group: Option<usize>,
    symmetric: bool,
    act_order: bool,
) -> Result<Stored> {
    let [packed, zero_point, scale, shape, g_idx] = TENSORS.map(|part| format!("{module}.{part}"));
    let [rows, words] = stored::words(shards, &packed)?;
    let [n, k] = match shards.expect(&shape)?.dtype {
        Dtype::I32 => {
            let sides: Vec<i32> = exact(shards, &shape, &[Dtype::I32], &[2])?;
            [sides[0].into(), sides[1].into()]
        }
        _ => {
            let sides: Vec<i64> = exact(shards, &shape, &[Dtype::I32, Dtype::I64], &[2])?;
            [sides[0], sides[1]]
        }
    };
    let sides = (usize::try_from(n).ok()).zip(usize::try_from(k).ok());
    let Some((n, k)) = sides.filter(|&(n, k)| n == rows && k.div_ceil(8) == words) else {
        let reason = format!("[{n}, {k}] does not fit `{packed}`, which is [{rows}, {words}]");
        return Err(shards.bad(&shape, reason));
    };
    let groups = groups(group, k);
    let scales = scales(shards, &scale, [n, groups])?;
    let zeros = if symmetric {
        if shards.info(&zero_point).is_some() {
            let reason = "the configuration says that the weights are symmetric";
            return Err(shards.bad(&zero_point, reason));
        }
        None
    } else {
        let shape = [n.div_ceil(8), groups];
        let words: Vec<u32> = exact(shards, &zero_point, &[Dtype::I32], &shape)?;
        let zero = |at: usize| {
            let (row, g) = (at / groups, at % groups);
            nibble(words[row / 8 * groups + g], row % 8) as i8 - 8
        };
        Some((0..n * groups).map(zero).collect())
    };
    let g_idx = match shards.info(&g_idx) {
        None if !act_order => None,
        _ => {
            let values: Vec<i32> = exact(shards, &g_idx, &[Dtype::I32], &[k])?;
            Some((g_idx, values))
        }
    };
    let codes: Vec<u32> = shards.read(&packed)?;
    let mut q = vec![0i8; n * k];
    q.par_chunks_mut(k)
        .zip(codes.par_chunks(words))
        .for_each(|(q, line)| {
            for (q, &word) in q.chunks_mut(8).zip(line) {
                for (j, q) in q.iter_mut().enumerate() {
                    *q = nibble(word, j) as i8 - 8;
                }
            }
        });
    Ok(Stored {
        n,
        k,
        group,
        q,
        scales,
        zeros,
        g_idx,
    })
}
