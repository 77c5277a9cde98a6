//! The INT4 values of a checkpoint in row-major order, and their packing.

use super::shards::Shards;
use crate::weights::{Grouping, KOrder};
use crate::{MatRef, PackedWeight, Result, Scales};
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::tensor::Dtype;

/// Number of rows of W that are unpacked together if words run along N: a cache line of each row of
/// words.
pub(super) const ROWS: usize = 16;

/// The weight of any format, unpacked.
pub(super) struct UnpackedWeight {
    pub n: usize,
    pub k: usize,
    /// Number of k per group, or `None` for one group over all of K.
    pub group: Option<usize>,
    /// `qw`, `[N, K]`.
    pub q: Vec<i8>,
    /// `[N, groups]`.
    pub scales: Scales,
    /// `zw`, `[N, groups]`; `None` when symmetric.
    pub zeros: Option<Vec<i8>>,
    /// The name of the tensor `g_idx` and its values, the group of each k, `[K]`. `None` if groups
    /// are contiguous.
    pub g_idx: Option<(String, Vec<i32>)>,
}

/// Returns the number of groups of K.
pub(super) fn groups(group: Option<usize>, k: usize) -> usize {
    group.map_or(1, |size| k.div_ceil(size))
}

impl UnpackedWeight {
    /// Packs the weight without rounding. A group that is larger than this crate's groups becomes
    /// several groups with the same scale.
    pub fn pack(mut self, shards: &Shards, module: &str) -> Result<PackedWeight> {
        let order = match self.g_idx.take() {
            Some((tensor, g_idx)) => {
                let order = order_of(&g_idx, self.group, self.k)
                    .map_err(|reason| shards.tensor_error(&tensor, reason))?;
                order.filter(|order| !order.is_identity())
            }
            None => None,
        };
        if let Some(order) = &order {
            self.q
                .par_chunks_mut(self.k)
                .for_each_init(Vec::new, |row, q| {
                    row.clear();
                    row.extend_from_slice(q);
                    for (to, &k) in q.iter_mut().zip(order.as_slice()) {
                        *to = row[k as usize];
                    }
                });
        }
        let stored = groups(self.group, self.k);
        let grouping = match self.group {
            None => Grouping::PerChannel,
            Some(size) if size % 128 == 0 => Grouping::G128,
            Some(size) if size % 64 == 0 => Grouping::G64,
            // `Fields::group` accepts only multiples of 32.
            Some(_) => Grouping::G32,
        };
        let packed = grouping.groups(self.k);
        let parts = match (self.group, grouping.size()) {
            (Some(stored), Some(size)) => stored / size,
            _ => 1,
        };
        let at = |i: usize| i / packed * stored + i % packed / parts;
        let scales = self.scales.pick(self.n * packed, at);
        // A weight is symmetric if all its zero points are 0.
        let zeros = self.zeros.filter(|z| z.iter().any(|&z| z != 0));
        let zeros: Option<Vec<i8>> =
            zeros.map(|z| (0..self.n * packed).map(|i| z[at(i)]).collect());
        let bad = |e: crate::Error| shards.tensor_error(module, e.to_string());
        let q = MatRef::new(&self.q, self.n, self.k).map_err(bad)?;
        let weight =
            PackedWeight::from_quantized(q, grouping, &scales, zeros.as_deref()).map_err(bad)?;
        match order {
            None => Ok(weight),
            Some(order) => weight.with_order(order).map_err(bad),
        }
    }
}

/// Returns the k sorted by group, and in ascending order within a group. `None` if `g_idx` is all
/// -1, which compressed-tensors writes for contiguous groups.
fn order_of(
    g_idx: &[i32],
    group: Option<usize>,
    k: usize,
) -> std::result::Result<Option<KOrder>, String> {
    if g_idx.iter().all(|&g| g == -1) {
        return Ok(None);
    }
    let groups = groups(group, k);
    let mut members = vec![0usize; groups];
    for (k, &g) in g_idx.iter().enumerate() {
        match usize::try_from(g).ok().and_then(|g| members.get_mut(g)) {
            Some(count) => *count += 1,
            None => {
                return Err(format!(
                    "k {k} is in group {g}: expected 0 to {}",
                    groups - 1
                ));
            }
        }
    }
    let size = group.unwrap_or(k);
    for (g, &count) in members.iter().enumerate() {
        let expected = size.min(k - g * size);
        if count != expected {
            return Err(format!("group {g} has {count} k: expected {expected}"));
        }
    }
    let mut order: Vec<u32> = (0..k as u32).collect();
    order.sort_by_key(|&k| g_idx[k as usize]);
    KOrder::new(order).map(Some).map_err(|e| e.to_string())
}

/// Reads the values of a tensor that must have one of these types and this shape.
pub(super) fn exact<T: bytemuck::Pod>(
    shards: &Shards,
    tensor: &str,
    dtypes: &[Dtype],
    shape: &[usize],
) -> Result<Vec<T>> {
    let info = shards.expect(tensor)?;
    if !dtypes.contains(&info.dtype) || info.shape != shape {
        return Err(shards.tensor_error(
            tensor,
            format!(
                "{:?} {:?}: expected {dtypes:?} {shape:?}",
                info.dtype, info.shape
            ),
        ));
    }
    shards.read(tensor)
}

/// Returns the shape of a matrix of I32 words.
pub(super) fn words(shards: &Shards, tensor: &str) -> Result<[usize; 2]> {
    let info = shards.expect(tensor)?;
    match (info.dtype, info.shape.as_slice()) {
        (Dtype::I32, &[rows, cols]) if rows > 0 && cols > 0 => Ok([rows, cols]),
        _ => Err(shards.tensor_error(
            tensor,
            format!(
                "{:?} {:?}: expected a matrix of I32 words",
                info.dtype, info.shape
            ),
        )),
    }
}

/// Reads scales in their own type. Only these three types convert without loss.
pub(super) fn scales(shards: &Shards, tensor: &str, shape: [usize; 2]) -> Result<Scales> {
    const TYPES: [Dtype; 3] = [Dtype::F16, Dtype::BF16, Dtype::F32];
    Ok(match shards.expect(tensor)?.dtype {
        Dtype::F16 => Scales::F16(exact::<f16>(shards, tensor, &TYPES, &shape)?),
        Dtype::BF16 => Scales::Bf16(exact::<bf16>(shards, tensor, &TYPES, &shape)?),
        _ => Scales::F32(exact::<f32>(shards, tensor, &TYPES, &shape)?),
    })
}

/// Transposes scales from `[rows, cols]` to `[cols, rows]`.
pub(super) fn transposed(scales: &Scales, [rows, cols]: [usize; 2]) -> Scales {
    scales.pick(rows * cols, |i| i % rows * cols + i / rows)
}

/// Returns nibble `i` of a word.
pub(super) fn nibble(word: u32, i: usize) -> u8 {
    (word >> (4 * i)) as u8 & 15
}
