//! AutoAWQ's `gemm`: a word holds eight columns of one k.
//!
//! | tensor | type | |
//! |---|---|---|
//! | `qweight` | I32 `[K, N/8]` | nibble `i` of word `c` is the code of column `8c + COLUMN[i]` |
//! | `qzeros` | I32 `[K/g, N/8]` | zero points, 0 to 15, in the same order |
//! | `scales` | F16 `[K/g, N]` | |
//!
//! `w = (code - zero) * scale`, a product of F16 in AutoAWQ. From its `awq/modules/linear/gemm.py` and
//! `awq/utils/packing_utils.py`, 0.2.9.

use super::shards::Shards;
use super::stored::{self, Stored, exact, groups, nibble, scales, transposed};
use crate::Result;
use rayon::prelude::*;
use safetensors::tensor::Dtype;

/// The tensors of a module.
pub(super) const TENSORS: [&str; 3] = ["qweight", "qzeros", "scales"];

/// Which of a word's eight columns each nibble is.
const COLUMN: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];

/// Words of a row of `qweight` that are unpacked together: a cache line.
const WORDS: usize = 16;

pub(super) fn read(shards: &Shards, module: &str, group: Option<usize>) -> Result<Stored> {
    let [qweight, qzeros, scales_name] = TENSORS.map(|part| format!("{module}.{part}"));
    let [k, words] = stored::words(shards, &qweight)?;
    let (n, groups) = (8 * words, groups(group, k));
    let zero_words: Vec<u32> = exact(shards, &qzeros, &[Dtype::I32], &[groups, words])?;
    let mut zeros = vec![0i8; n * groups];
    for (at, &word) in zero_words.iter().enumerate() {
        let (g, c) = (at / words, at % words);
        for (i, column) in COLUMN.iter().enumerate() {
            zeros[(8 * c + column) * groups + g] = nibble(word, i) as i8 - 8;
        }
    }
    let scales = transposed(&scales(shards, &scales_name, [groups, n])?, [groups, n]);
    let codes: Vec<u32> = shards.read(&qweight)?;
    let mut q = vec![0i8; n * k];
    q.par_chunks_mut(8 * WORDS * k)
        .enumerate()
        .for_each(|(chunk, q)| {
            for row in 0..k {
                let line = &codes[row * words + chunk * WORDS..][..q.len() / (8 * k)];
                for (c, &word) in line.iter().enumerate() {
                    for (i, column) in COLUMN.iter().enumerate() {
                        q[(8 * c + column) * k + row] = nibble(word, i) as i8 - 8;
                    }
                }
            }
        });
    Ok(Stored {
        n,
        k,
        group,
        q,
        scales,
        zeros: Some(zeros),
        g_idx: None,
    })
}
