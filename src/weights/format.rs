//! The format of a packed file: packed weights among the tensors of a safetensors file.
//!
//! `__metadata__` holds `"format": "w4ax"`, `"version"` ([`PackedFile::FORMAT_VERSION`]) and
//! `"weights"`, a JSON object from each weight's name to its `n`, `k` and `group` (32, 64, 128, or
//! null for one scale per channel), `"order": true` for a weight with a [`KOrder`], and `"scheme":
//! "two-level"` for a weight of that [`Scheme`]. A weight `x` is stored as
//!
//! | tensor | dtype | shape |
//! |---|---|---|
//! | `x.tiles` | U32 | `[ceil(N/16), ceil(K/64), 128]`, the tiles of [`super::layout`] |
//! | `x.scales` | F32, F16 or BF16 | `[ceil(N/16), groups, 16]`, two-level: `[ceil(N/16), 16]`; 0 beyond N |
//! | `x.steps` | U8 | `[ceil(N/16), groups, 16]`, 0 beyond N; two-level only |
//! | `x.zeros` | I8 | `[ceil(N/16), groups, 16]`, 0 beyond N; absent when symmetric |
//! | `x.order` | U32 | `[K]`, the k of the matrix by position; absent for a weight in the order of the matrix |
//!
//! Tensors that `"weights"` does not name are ignored. Version 2 added the order, version 3 the
//! scheme. A file is written in the oldest version that has all that it contains.

use super::layout::{TILE_K, TILE_N, Tile};
use super::pack::{Parts, check_shape};
use super::{Grouping, KOrder, PackedFile, PackedWeight, Scales, Scheme};
use crate::tensors::TensorFile;
use crate::{Error, Result};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

/// The `format` of the metadata.
pub(super) const FORMAT: &str = "w4ax";

/// The metadata of one weight.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    n: usize,
    k: usize,
    group: Option<usize>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    order: bool,
    /// The name of the scheme; `None` for a grouped weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scheme: Option<String>,
}

impl Entry {
    pub(super) fn new(w: &PackedWeight) -> Self {
        Self {
            n: w.n,
            k: w.k,
            group: w.grouping.size(),
            order: w.order.is_some(),
            scheme: match w.scheme() {
                Scheme::Grouped => None,
                scheme => Some(scheme.to_string()),
            },
        }
    }

    /// Returns N and K.
    pub(super) fn shape(&self) -> [usize; 2] {
        [self.n, self.k]
    }

    /// Returns the names of the weight's tensors, without the name of the weight.
    pub(super) fn pieces() -> [&'static str; 5] {
        ["tiles", "scales", "steps", "zeros", "order"]
    }

    /// Returns the oldest version of the format that has the weight.
    fn version(&self) -> u32 {
        match (&self.scheme, self.order) {
            (Some(_), _) => 3,
            (None, true) => 2,
            (None, false) => 1,
        }
    }
}

/// The `__metadata__` of a file with these weights.
pub(super) fn metadata(entries: &BTreeMap<String, Entry>) -> Result<HashMap<String, String>> {
    let version = entries.values().map(Entry::version).max().unwrap_or(1);
    let entries = serde_json::to_string(entries)
        .map_err(|e| Error::json("packed weights", "metadata `weights`", e))?;
    Ok(HashMap::from([
        ("format".into(), FORMAT.into()),
        ("version".into(), version.to_string()),
        ("weights".into(), entries),
    ]))
}

/// The tensors of a [`PackedWeight`].
pub(super) fn views<'a>(name: &str, w: &'a PackedWeight) -> Result<Vec<(String, TensorView<'a>)>> {
    let row_tiles = w.n.div_ceil(TILE_N);
    let params = vec![row_tiles, w.groups(), TILE_N];
    let scales = match w.scheme() {
        Scheme::Grouped => params.clone(),
        Scheme::TwoLevel => vec![row_tiles, TILE_N],
    };
    let dtype = match w.scales {
        Scales::F32(_) => Dtype::F32,
        Scales::F16(_) => Dtype::F16,
        Scales::Bf16(_) => Dtype::BF16,
    };
    let tiles = vec![row_tiles, w.k.div_ceil(TILE_K), 128];
    let mut pieces = vec![
        ("tiles", Dtype::U32, tiles, bytemuck::cast_slice(&w.tiles)),
        ("scales", dtype, scales, w.scales.bytes()),
    ];
    if let Some(steps) = &w.steps {
        pieces.push(("steps", Dtype::U8, params.clone(), steps));
    }
    if let Some(zeros) = &w.zeros {
        pieces.push(("zeros", Dtype::I8, params, bytemuck::cast_slice(zeros)));
    }
    if let Some(order) = &w.order {
        let order = bytemuck::cast_slice(order.as_slice());
        pieces.push(("order", Dtype::U32, vec![w.k], order));
    }
    pieces
        .into_iter()
        .map(|(piece, dtype, shape, bytes)| {
            let view = TensorView::new(dtype, shape, bytes)
                .map_err(|e| Error::format(format!("{name}.{piece}"), e.to_string()))?;
            Ok((format!("{name}.{piece}"), view))
        })
        .collect()
}

/// Returns the metadata of the weights of a file.
pub(super) fn entries(
    metadata: Option<&HashMap<String, String>>,
    file: &str,
) -> Result<BTreeMap<String, Entry>> {
    let bad = |reason: String| Error::format(file, reason);
    let field = |name: &str| metadata.and_then(|m| m.get(name));
    match field("format").map(String::as_str) {
        Some(FORMAT) => (),
        other => {
            return Err(bad(format!(
                "not a w4ax file: metadata `format` is {other:?}"
            )));
        }
    }
    let newest = PackedFile::FORMAT_VERSION;
    let version = field("version").and_then(|v| v.parse::<u32>().ok());
    if !version.is_some_and(|v| (1..=newest).contains(&v)) {
        let version = field("version");
        return Err(bad(format!(
            "unsupported format version {version:?}: expected 1 to {newest}"
        )));
    }
    let entries = field("weights").ok_or_else(|| bad("metadata `weights` is missing".into()))?;
    serde_json::from_str(entries).map_err(|e| Error::json(file, "metadata `weights`", e))
}

/// The tensors of a packed file, in memory or on disk.
pub(super) trait Tensors {
    fn info(&self, name: &str) -> Option<(Dtype, Vec<usize>)>;
    /// The bytes of an existing tensor.
    fn bytes(&self, name: &str) -> Result<Cow<'_, [u8]>>;
}

impl Tensors for SafeTensors<'_> {
    fn info(&self, name: &str) -> Option<(Dtype, Vec<usize>)> {
        let view = self.tensor(name).ok()?;
        Some((view.dtype(), view.shape().to_vec()))
    }

    fn bytes(&self, name: &str) -> Result<Cow<'_, [u8]>> {
        let view = self
            .tensor(name)
            .map_err(|e| Error::format("packed weights", e.to_string()))?;
        Ok(view.data().into())
    }
}

impl Tensors for TensorFile {
    fn info(&self, name: &str) -> Option<(Dtype, Vec<usize>)> {
        let info = TensorFile::info(self, name)?;
        Some((info.dtype, info.shape.clone()))
    }

    fn bytes(&self, name: &str) -> Result<Cow<'_, [u8]>> {
        Ok(self.read::<u8>(name)?.into())
    }
}

pub(super) fn little_endian(file: &str) -> Result<()> {
    if cfg!(target_endian = "little") {
        Ok(())
    } else {
        Err(Error::format(
            file,
            "the format requires a little-endian machine",
        ))
    }
}

/// Returns the type and the bytes of a tensor that must have one of these types and this shape.
fn tensor<'a>(
    tensors: &'a dyn Tensors,
    file: &str,
    name: &str,
    dtypes: &[Dtype],
    expected: &[usize],
) -> Result<(Dtype, Cow<'a, [u8]>)> {
    let (dtype, shape) = tensors.info(name).ok_or_else(|| Error::MissingTensor {
        file: file.into(),
        name: name.into(),
    })?;
    if !dtypes.contains(&dtype) || shape != expected {
        return Err(Error::format(
            file,
            format!(
                "`{name}` is {dtype:?} {shape:?}, expected one of {dtypes:?} with shape {expected:?}"
            ),
        ));
    }
    Ok((dtype, tensors.bytes(name)?))
}

/// Reads one weight from its tensors.
pub(super) fn read(
    tensors: &dyn Tensors,
    file: &str,
    name: &str,
    entry: &Entry,
) -> Result<PackedWeight> {
    let &Entry { n, k, group, .. } = entry;
    let bad = |reason: String| Error::format(file, format!("weight `{name}`: {reason}"));
    let bad_error = |e: Error| bad(e.to_string());
    let grouping = Grouping::try_from(group).map_err(bad_error)?;
    let scheme = match &entry.scheme {
        None => Scheme::Grouped,
        Some(scheme) => scheme.parse().map_err(bad_error)?,
    };
    check_shape(n, k, grouping, scheme).map_err(bad_error)?;
    let tensor = |piece: &str, dtypes: &[Dtype], shape: &[usize]| {
        tensor(tensors, file, &format!("{name}.{piece}"), dtypes, shape)
    };
    let (row_tiles, k_tiles) = (n.div_ceil(TILE_N), k.div_ceil(TILE_K));
    let params = [row_tiles, grouping.groups(k), TILE_N];
    let (_, bytes) = tensor("tiles", &[Dtype::U32], &[row_tiles, k_tiles, 128])?;
    let mut tiles = vec![Tile::ZERO; row_tiles * k_tiles];
    bytemuck::cast_slice_mut(&mut tiles).copy_from_slice(&bytes);
    drop(bytes);
    if let Some((row, k)) = nonzero_pad(&tiles, n, k) {
        return Err(bad(format!("the padding at row {row}, k {k} is not 0")));
    }
    let scales_shape: &[usize] = match scheme {
        Scheme::Grouped => &params,
        Scheme::TwoLevel => &[row_tiles, TILE_N],
    };
    let types = [Dtype::F32, Dtype::F16, Dtype::BF16];
    let (dtype, bytes) = tensor("scales", &types, scales_shape)?;
    let scales = match dtype {
        Dtype::F16 => Scales::F16(bytemuck::allocation::pod_collect_to_vec(&bytes)),
        Dtype::BF16 => Scales::Bf16(bytemuck::allocation::pod_collect_to_vec(&bytes)),
        _ => Scales::F32(bytemuck::allocation::pod_collect_to_vec(&bytes)),
    };
    let has_zeros = tensors.info(&format!("{name}.zeros")).is_some();
    let zeros = has_zeros
        .then(|| tensor("zeros", &[Dtype::I8], &params))
        .transpose()?
        .map(|(_, bytes)| bytemuck::cast_slice(&bytes).to_vec());
    let steps = match scheme {
        Scheme::Grouped => None,
        Scheme::TwoLevel => Some(tensor("steps", &[Dtype::U8], &params)?.1.into_owned()),
    };
    let parts = Parts {
        n,
        k,
        grouping,
        tiles,
        scales,
        zeros,
        steps,
    };
    if let Some((piece, row)) = nonzero_parameter_pad(&parts) {
        return Err(bad(format!(
            "the padding of `{name}.{piece}` at row {row} is not 0"
        )));
    }
    let weight = PackedWeight::from_parts(parts).map_err(bad_error)?;
    match entry.order {
        true => read_order(tensors, file, name, weight),
        false => Ok(weight),
    }
}

/// Returns the first parameter of a two-level weight beyond row N that is not 0: its tensor and
/// row. The padding of a grouped weight is not read.
fn nonzero_parameter_pad(parts: &Parts) -> Option<(&'static str, usize)> {
    let (n, groups) = (parts.n, parts.grouping.groups(parts.k));
    let steps = parts.steps.as_ref()?;
    let row = |at: usize, groups: usize| at / (groups * TILE_N) * TILE_N + at % TILE_N;
    let first = |len: usize, groups: usize, is_zero: &dyn Fn(usize) -> bool| {
        let mut pads = (0..len).filter(|&at| row(at, groups) >= n);
        pads.find(|&at| !is_zero(at)).map(|at| row(at, groups))
    };
    let zero_point = |at: usize| parts.zeros.as_ref().is_none_or(|zeros| zeros[at] == 0);
    first(steps.len(), groups, &|at| steps[at] == 0)
        .map(|row| ("steps", row))
        .or_else(|| first(steps.len(), groups, &zero_point).map(|row| ("zeros", row)))
        .or_else(|| {
            let scale = |at: usize| parts.scales.get(at) == 0.0;
            first(parts.scales.len(), 1, &scale).map(|row| ("scales", row))
        })
}

/// Reads the order of a weight.
fn read_order(
    tensors: &dyn Tensors,
    file: &str,
    name: &str,
    weight: PackedWeight,
) -> Result<PackedWeight> {
    let bad = |e: Error| Error::format(file, format!("weight `{name}`: {e}"));
    let piece = format!("{name}.order");
    let (_, bytes) = tensor(tensors, file, &piece, &[Dtype::U32], &[weight.k])?;
    let order = KOrder::new(bytemuck::allocation::pod_collect_to_vec(&bytes)).map_err(bad)?;
    weight.with_order(order).map_err(bad)
}

/// Returns the first row and k beyond `[n, k]` whose nibble is not 0.
fn nonzero_pad(tiles: &[Tile], n: usize, k: usize) -> Option<(usize, usize)> {
    let k_tiles = k.div_ceil(TILE_K);
    tiles.iter().enumerate().find_map(|(at, tile)| {
        let (row0, k0) = (at / k_tiles * TILE_N, at % k_tiles * TILE_K);
        if row0 + TILE_N <= n && k0 + TILE_K <= k {
            return None;
        }
        (0..TILE_N * TILE_K)
            .map(|i| (i / TILE_K, i % TILE_K))
            .find(|&(row, kk)| (row0 + row >= n || k0 + kk >= k) && tile.get(row, kk) != 0)
            .map(|(row, kk)| (row0 + row, k0 + kk))
    })
}
