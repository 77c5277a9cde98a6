//! The GPTQ format, versions 1 and 2: a word holds eight k of one column.
//!
//! | tensor | type | content |
//! |---|---|---|
//! | `qweight` | I32 `[ceil(K/8), N]` | nibble `j` of row `r` is the code of k `8r + j` |
//! | `qzeros` | I32 `[groups, ceil(N/8)]` | nibble `j` of word `c` is the zero point of column `8c + j`, encoded as [`GptqZeros`] |
//! | `scales` | F16 `[groups, N]` | |
//! | `g_idx` | I32 `[K]` | the group of each k; optional if groups are contiguous |
//!
//! `w = (code - zero) * scale`, with the product in the type of the scales. Source: AutoGPTQ 0.7.1
//! (`auto_gptq/nn_modules/qlinear`) and GPTQModel 7.7.0
//! (`gptqmodel/nn_modules/qlinear/__init__.py`, `gptqmodel/utils/model.py`).

use super::fields::Fields;
use super::scheme::{GptqZeros, Scheme};
use super::shards::Shards;
use super::stored::{self, ROWS, UnpackedWeight, exact, groups, nibble, scales, transposed};
use crate::Result;
use rayon::prelude::*;
use safetensors::tensor::Dtype;
use serde_json::Value;

/// Names of a module's tensors.
pub(super) const TENSORS: [&str; 4] = ["qweight", "qzeros", "scales", "g_idx"];

/// Reads the scheme from the configuration.
pub(super) fn scheme(fields: &Fields<'_>) -> Result<Scheme> {
    fields.expect_four_bits(&["bits"])?;
    fields.expect_absent("is_marlin_format", "expected gptq or gptq_v2")?;
    let format = fields.text(&["checkpoint_format", "format"])?;
    let zeros = match format.as_deref() {
        Some("gptq_v2") => GptqZeros::V2,
        Some("gptq") | None if written_by_gptqmodel(fields) => GptqZeros::V1Words,
        Some("gptq") | None => GptqZeros::V1Nibbles,
        Some(format) => {
            let what = format!("checkpoint_format `{format}`");
            return Err(fields.unsupported(&what, "expected gptq or gptq_v2"));
        }
    };
    fields.expect_common()?;
    Ok(Scheme::Gptq {
        group: fields.group(&["group_size"])?,
        zeros,
        desc_act: fields.flag("desc_act")?.unwrap_or(false),
    })
}

/// Returns whether `meta.quantizer` names GPTQModel.
fn written_by_gptqmodel(fields: &Fields<'_>) -> bool {
    let quantizer = &fields.value["meta"]["quantizer"];
    let named = |v: &Value| {
        let text = v.as_str().unwrap_or("").to_lowercase();
        text.split(':').next() == Some("gptqmodel")
    };
    match quantizer {
        Value::Array(list) => list.iter().any(named),
        one => named(one),
    }
}

/// Returns N and K of a module.
pub(super) fn shape(shards: &Shards, module: &str, desc_act: bool) -> Result<[usize; 2]> {
    let [qweight, _, _, g_idx] = TENSORS.map(|part| format!("{module}.{part}"));
    let [word_rows, n] = stored::words(shards, &qweight)?;
    let k = match shards.info(&g_idx) {
        // The tensor is optional if the groups are contiguous.
        None if !desc_act => return Ok([n, 8 * word_rows]),
        _ => shards.expect(&g_idx)?.shape.first().copied().unwrap_or(0),
    };
    if k.div_ceil(8) != word_rows {
        let reason =
            format!("{word_rows} rows of eight k: expected ceil({k} / 8), `g_idx` has {k} k");
        return Err(shards.tensor_error(&qweight, reason));
    }
    Ok([n, k])
}

/// Reads the weight of a module.
pub(super) fn read(
    shards: &Shards,
    module: &str,
    group: Option<usize>,
    zeros: GptqZeros,
    desc_act: bool,
) -> Result<UnpackedWeight> {
    let [qweight, qzeros, scales_name, g_idx] = TENSORS.map(|part| format!("{module}.{part}"));
    let [n, k] = shape(shards, module, desc_act)?;
    let g_idx = match shards.info(&g_idx) {
        None => None,
        Some(_) => {
            let values: Vec<i32> = exact(shards, &g_idx, &[Dtype::I32], &[k])?;
            Some((g_idx, values))
        }
    };
    let groups = groups(group, k);
    let words = n.div_ceil(8);
    let zero_words: Vec<u32> = exact(shards, &qzeros, &[Dtype::I32], &[groups, words])?;
    let zeros = (0..n * groups)
        .map(|at| {
            let (column, g) = (at / groups, at % groups);
            zero_point(zero_words[g * words + column / 8], column % 8, zeros) - 8
        })
        .collect();
    let scales = transposed(&scales(shards, &scales_name, [groups, n])?, [groups, n]);
    let codes: Vec<u32> = shards.read(&qweight)?;
    let mut q = vec![0i8; n * k];
    q.par_chunks_mut(ROWS * k)
        .enumerate()
        .for_each(|(chunk, q)| {
            for (row, line) in codes.chunks(n).enumerate() {
                for (q, &word) in q.chunks_mut(k).zip(&line[chunk * ROWS..]) {
                    let last = (8 * row + 8).min(k);
                    for (j, q) in q[8 * row..last].iter_mut().enumerate() {
                        *q = nibble(word, j) as i8 - 8;
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
        g_idx,
    })
}

/// Returns the zero point of a word's column `j`, 0 to 16.
fn zero_point(word: u32, j: usize, zeros: GptqZeros) -> i8 {
    match zeros {
        GptqZeros::V1Nibbles => nibble(word, j) as i8 + 1,
        GptqZeros::V1Words => nibble(word.wrapping_add(0x1111_1111), j) as i8,
        GptqZeros::V2 => nibble(word, j) as i8,
    }
}
