//! The `pack-quantized` format of compressed-tensors: a word holds eight k of one row.
//!
//! | tensor | type | content |
//! |---|---|---|
//! | `weight_packed` | I32 `[N, ceil(K/8)]` | nibble `j` of word `c` is `q + 8` of k `8c + j` |
//! | `weight_zero_point` | I32 `[ceil(N/8), groups]` | nibble `j` of row `r` is `zero + 8` of row `8r + j`; absent when symmetric |
//! | `weight_scale` | F16, BF16 or F32 `[N, groups]` | |
//! | `weight_shape` | I32 or I64 `[2]` | N and K |
//! | `weight_g_idx` | I32 `[K]` | the group of each k; absent, or all -1, if groups are contiguous |
//!
//! `w = (q - zero) * scale`, with the product in the type of the scales. Source:
//! `compressed_tensors/compressors/pack_quantized` of 0.20.0, and of 0.12.2 for `weight_g_idx`.

use super::fields::{CHANGES_MODEL, Fields, OWN_ACTIVATIONS};
use super::scheme::Scheme;
use super::shards::Shards;
use super::stored::{self, UnpackedWeight, exact, groups, nibble, scales};
use crate::{Error, Result};
use rayon::prelude::*;
use safetensors::tensor::Dtype;
use serde_json::Value;

/// Names of a module's tensors.
pub(super) const TENSORS: [&str; 5] = [
    "weight_packed",
    "weight_zero_point",
    "weight_scale",
    "weight_shape",
    "weight_g_idx",
];

/// Reads the scheme from the configuration. All its groups of modules must have the same scheme.
pub(super) fn scheme(fields: &Fields<'_>) -> Result<Scheme> {
    let format = fields.text(&["format"])?;
    let format = format.ok_or_else(|| fields.missing("format"))?;
    if format != "pack-quantized" && format != "mixed-precision" {
        let what = format!("format `{format}`");
        return Err(fields.unsupported(&what, "expected `pack-quantized`"));
    }
    if let Some(status) = fields.text(&["quantization_status"])?
        && status != "compressed"
    {
        let what = format!("quantization_status `{status}`");
        return Err(fields.unsupported(&what, "expected `compressed`"));
    }
    if let Some(sparsity) = fields.get("sparsity_config") {
        let dense = sparsity.get("format").and_then(Value::as_str);
        if dense != Some("dense") && sparsity.as_object().is_none_or(|o| !o.is_empty()) {
            let what = format!("sparsity_config {sparsity}");
            return Err(fields.unsupported(&what, "expected dense weights"));
        }
    }
    fields.expect_absent("transform_config", CHANGES_MODEL)?;
    let groups = fields.get("config_groups").and_then(Value::as_object);
    let groups = groups.ok_or_else(|| fields.missing("config_groups"))?;
    let mut scheme: Option<(Scheme, &str)> = None;
    for (name, group) in groups {
        let group = Fields {
            value: group,
            file: fields.file,
        };
        let found = group_scheme(&group, &format).map_err(|error| in_group(error, name))?;
        match scheme {
            Some((scheme, first)) if scheme != found => {
                let what = format!("config_groups `{first}` and `{name}` with different schemes");
                return Err(fields.unsupported(&what, "expected one scheme for all modules"));
            }
            _ => scheme = Some((found, name)),
        }
    }
    scheme.map(|(scheme, _)| scheme).ok_or_else(|| {
        let what = "config_groups without a group";
        fields.unsupported(what, "expected at least one group")
    })
}

/// Reads the scheme of one group of modules. `format` is the default of its own format.
fn group_scheme(fields: &Fields<'_>, format: &str) -> Result<Scheme> {
    if !fields.value.is_object() {
        let what = format!("preset {}", fields.value);
        return Err(fields.unsupported(&what, "expected an object with the scheme"));
    }
    let own = fields.text(&["format"])?.unwrap_or_else(|| format.into());
    if own != "pack-quantized" {
        let what = format!("format `{own}`");
        return Err(fields.unsupported(&what, "expected `pack-quantized`"));
    }
    fields.expect_absent("input_activations", OWN_ACTIVATIONS)?;
    fields.expect_absent("output_activations", OWN_ACTIVATIONS)?;
    let weights = fields
        .get("weights")
        .ok_or_else(|| fields.missing("weights"))?;
    let weights = Fields {
        value: weights,
        file: fields.file,
    };
    weights.expect_four_bits(&["num_bits"])?;
    for (field, accepted) in [("type", &["int"][..]), ("strategy", &["group", "channel"])] {
        let value = weights.text(&[field])?;
        let value = value.ok_or_else(|| weights.missing(field))?;
        if !accepted.contains(&value.as_str()) {
            let reason = format!("expected {}", accepted.join(" or "));
            return Err(fields.unsupported(&format!("{field} `{value}`"), &reason));
        }
    }
    weights.expect_absent("dynamic", "the scales of weights are stored")?;
    let act_order = match weights.get("actorder") {
        None | Some(Value::Bool(false)) => false,
        Some(Value::Bool(true)) => true,
        Some(_) => match weights.text(&["actorder"])?.as_deref() {
            Some("group" | "dynamic") => true,
            // Only the calibration used activation order: the groups are contiguous in k.
            Some("weight" | "static") | None => false,
            Some(kind) => {
                let what = format!("actorder `{kind}`");
                return Err(fields.unsupported(&what, "expected group or weight"));
            }
        },
    };
    let group = if weights.text(&["strategy"])?.as_deref() == Some("group") {
        let size = weights.group(&["group_size"])?;
        let expected = "a size, because `strategy` is group";
        Some(size.ok_or_else(|| weights.invalid("group_size", expected))?)
    } else {
        None
    };
    Ok(Scheme::CompressedTensors {
        group,
        symmetric: weights.flag("symmetric")?.unwrap_or(true),
        act_order,
    })
}

/// Adds the name of the configuration group to an error.
fn in_group(error: Error, name: &str) -> Error {
    match error {
        Error::Unsupported { file, what, reason } => {
            Error::unsupported(file, format!("config_groups `{name}`: {what}"), reason)
        }
        Error::Format { file, reason } => {
            Error::format(file, format!("config_groups `{name}`: {reason}"))
        }
        other => other,
    }
}

/// Returns N and K of a module.
pub(super) fn shape(shards: &Shards, module: &str) -> Result<[usize; 2]> {
    let [packed, _, _, shape, _] = TENSORS.map(|part| format!("{module}.{part}"));
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
        let reason = format!("[{n}, {k}] does not fit the shape [{rows}, {words}] of `{packed}`");
        return Err(shards.tensor_error(&shape, reason));
    };
    Ok([n, k])
}

/// Reads the weight of a module.
pub(super) fn read(
    shards: &Shards,
    module: &str,
    group: Option<usize>,
    symmetric: bool,
    act_order: bool,
) -> Result<UnpackedWeight> {
    let [packed, zero_point, scale, _, g_idx] = TENSORS.map(|part| format!("{module}.{part}"));
    let [n, k] = shape(shards, module)?;
    let groups = groups(group, k);
    let scales = scales(shards, &scale, [n, groups])?;
    let zeros = if symmetric {
        if shards.info(&zero_point).is_some() {
            let reason = "unexpected zero points: the configuration is symmetric";
            return Err(shards.tensor_error(&zero_point, reason));
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
        .zip(codes.par_chunks(k.div_ceil(8)))
        .for_each(|(q, line)| {
            for (q, &word) in q.chunks_mut(8).zip(line) {
                for (j, q) in q.iter_mut().enumerate() {
                    *q = nibble(word, j) as i8 - 8;
                }
            }
        });
    Ok(UnpackedWeight {
        n,
        k,
        group,
        q,
        scales,
        zeros,
        g_idx,
    })
}
