//! AutoAWQ's `gemm` format: a word holds eight columns of one k.
//!
//! | tensor | type | content |
//! |---|---|---|
//! | `qweight` | I32 `[K, N/8]` | nibble `i` of word `c` is the code of column `8c + COLUMN[i]` |
//! | `qzeros` | I32 `[K/g, N/8]` | zero points, 0 to 15, in the same order |
//! | `scales` | F16 `[K/g, N]` | |
//!
//! `w = (code - zero) * scale`, with an F16 product in AutoAWQ. Source:
//! `awq/modules/linear/gemm.py` and `awq/utils/packing_utils.py` of AutoAWQ 0.2.9.

use super::fields::Fields;
use super::scheme::Scheme;
use super::shards::Shards;
use super::stored::{self, UnpackedWeight, exact, groups, nibble, scales, transposed};
use crate::Result;
use rayon::prelude::*;
use safetensors::tensor::Dtype;

/// Names of a module's tensors.
pub(super) const TENSORS: [&str; 3] = ["qweight", "qzeros", "scales"];

/// The column of each nibble among a word's eight columns.
const COLUMN: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];

/// Number of words of a row of `qweight` that are unpacked together: a cache line.
const WORDS: usize = 16;

/// Reads the scheme from the configuration.
pub(super) fn scheme(fields: &Fields<'_>) -> Result<Scheme> {
    fields.expect_four_bits(&["bits", "w_bit"])?;
    let version = fields
        .text(&["version", "format", "checkpoint_format"])?
        .ok_or_else(|| fields.missing("version"))?;
    if version != "gemm" {
        let what = format!("awq version `{version}`");
        return Err(fields.unsupported(&what, "expected `gemm`"));
    }
    fields.expect_common()?;
    Ok(Scheme::Awq {
        group: fields.group(&["group_size", "q_group_size"])?,
    })
}

/// Returns N and K of a module.
pub(super) fn shape(shards: &Shards, module: &str) -> Result<[usize; 2]> {
    let [k, words] = stored::words(shards, &format!("{module}.qweight"))?;
    Ok([8 * words, k])
}

/// Reads the weight of a module.
pub(super) fn read(shards: &Shards, module: &str, group: Option<usize>) -> Result<UnpackedWeight> {
    let [qweight, qzeros, scales_name] = TENSORS.map(|part| format!("{module}.{part}"));
    let [n, k] = shape(shards, module)?;
    let (words, groups) = (n / 8, groups(group, k));
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
    Ok(UnpackedWeight {
        n,
        k,
        group,
        q,
        scales,
        zeros: Some(zeros),
        g_idx: None,
    })
}
