//! Packed weights in a safetensors file.
//!
//! `__metadata__` holds `"format": "w4ax"`, `"version"` ([`PackedFile::FORMAT_VERSION`]) and
//! `"weights"`, a JSON object from each weight's name to its `n`, `k` and `group` (32, 64, 128, or
//! null for one scale per channel), and `"order": true` for a weight with a [`KOrder`]. A weight
//! `x` is stored as
//!
//! | tensor | dtype | shape |
//! |---|---|---|
//! | `x.tiles` | U32 | `[ceil(N/16), ceil(K/64), 128]`, the tiles of [`super::layout`] |
//! | `x.scales` | F32, F16 or BF16 | `[ceil(N/16), groups, 16]`, 0 beyond N |
//! | `x.zeros` | I8 | as `x.scales`; absent when symmetric |
//! | `x.order` | U32 | `[K]`, the k of the matrix by position; absent for a weight in the order of the matrix |
//!
//! Tensors that `"weights"` does not name are ignored. Version 2 added the order. A file without an
//! order is written as version 1.

use super::layout::{TILE_K, TILE_N, Tile};
use super::{Grouping, KOrder, PackedWeight, Scales, check_shape};
use crate::tensors::TensorFile;
use crate::{Error, Result};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

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
}

impl Entry {
    pub(super) fn new(w: &PackedWeight) -> Self {
        Self {
            n: w.n,
            k: w.k,
            group: w.grouping.size(),
            order: w.order.is_some(),
        }
    }

    /// Returns N and K.
    pub(super) fn shape(&self) -> [usize; 2] {
        [self.n, self.k]
    }

    /// Returns the names of the weight's tensors, without the name of the weight.
    pub(super) fn pieces() -> [&'static str; 4] {
        ["tiles", "scales", "zeros", "order"]
    }
}

/// The `__metadata__` of a file with these weights.
pub(super) fn metadata(entries: &BTreeMap<String, Entry>) -> Result<HashMap<String, String>> {
    let version = if entries.values().any(|e| e.order) {
        PackedFile::FORMAT_VERSION
    } else {
        1
    };
    let entries = serde_json::to_string(entries)
        .map_err(|e| Error::json("packed weights", "metadata `weights`", e))?;
    Ok(HashMap::from([
        ("format".into(), FORMAT.into()),
        ("version".into(), version.to_string()),
        ("weights".into(), entries),
    ]))
}

/// The packed weights of a safetensors file, by name.
///
/// ```
/// use w4ax::{Grouping, MatRef, PackedFile, Quantize};
/// # fn main() -> w4ax::Result<()> {
/// let plain: Vec<f32> = (0..32 * 64).map(|i| (i % 9) as f32 - 4.0).collect();
/// let weight = Quantize::new(Grouping::G32).pack(MatRef::new(&plain, 32, 64)?)?;
/// let mut file = PackedFile::default();
/// file.weights.insert("layer".into(), weight.clone());
///
/// let bytes = file.to_bytes()?; // Or `save` and `load`.
/// assert_eq!(PackedFile::from_bytes(&bytes, "in memory")?.get("layer")?, &weight);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PackedFile {
    /// The weights by name, in the order of their names.
    pub weights: BTreeMap<String, PackedWeight>,
}

/// The tensors of a [`PackedWeight`].
pub(super) fn views<'a>(name: &str, w: &'a PackedWeight) -> Result<Vec<(String, TensorView<'a>)>> {
    let row_tiles = w.n.div_ceil(TILE_N);
    let params = vec![row_tiles, w.groups(), TILE_N];
    let dtype = match w.scales {
        Scales::F32(_) => Dtype::F32,
        Scales::F16(_) => Dtype::F16,
        Scales::Bf16(_) => Dtype::BF16,
    };
    let tiles = vec![row_tiles, w.k.div_ceil(TILE_K), 128];
    let mut pieces = vec![
        ("tiles", Dtype::U32, tiles, bytemuck::cast_slice(&w.tiles)),
        ("scales", dtype, params.clone(), w.scales.bytes()),
    ];
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

impl PackedFile {
    /// The newest version of the file format, which this crate writes. It reads all older versions
    /// too.
    pub const FORMAT_VERSION: u32 = 2;

    /// Returns the bytes of the file.
    ///
    /// # Errors
    /// [`Error::Format`] on a big-endian machine (the format is little-endian), or if the weights
    /// are too large for it.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        little_endian("packed weights")?;
        let mut tensors = Vec::new();
        let mut entries = BTreeMap::new();
        for (name, w) in &self.weights {
            tensors.extend(views(name, w)?);
            entries.insert(name.clone(), Entry::new(w));
        }
        safetensors::serialize(tensors, Some(metadata(&entries)?))
            .map_err(|e| Error::format("packed weights", e.to_string()))
    }

    /// Writes the file atomically: a process that is killed leaves no partial file under `path`.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written, otherwise as [`PackedFile::to_bytes`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        crate::file::write_atomically(path, &self.to_bytes()?)
    }

    /// Reads a file of [`PackedFile::save`] or [`super::PackedWriter`]. Other tensors are not read.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read, otherwise as [`PackedFile::from_bytes`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        Self::load_only(path, |_| true)
    }

    /// Reads only the weights whose names are `wanted`, such as one layer of a model.
    ///
    /// # Errors
    /// As [`PackedFile::load`].
    pub fn load_only(path: impl AsRef<Path>, wanted: impl Fn(&str) -> bool) -> Result<Self> {
        let file = TensorFile::open(path.as_ref())?;
        Self::read(&file, file.metadata(), &file.name(), wanted)
    }

    /// Reads the bytes of a file; `file` names them in errors.
    ///
    /// # Errors
    /// [`Error::Format`] or [`Error::Json`] for a truncated, foreign, newer or inconsistent file,
    /// or a value out of range; [`Error::MissingTensor`] for a missing tensor.
    pub fn from_bytes(bytes: &[u8], file: &str) -> Result<Self> {
        little_endian(file)?;
        let bad = |reason: String| Error::format(file, reason);
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| bad(e.to_string()))?;
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| bad(e.to_string()))?;
        Self::read(&tensors, header.metadata().as_ref(), file, |_| true)
    }

    fn read(
        tensors: &dyn Tensors,
        metadata: Option<&HashMap<String, String>>,
        file: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Self> {
        let entries = entries(metadata, file)?.into_iter();
        let weights = entries.filter(|(name, _)| wanted(name)).map(|(name, e)| {
            let weight = read(tensors, file, &name, &e)?;
            Ok((name, weight))
        });
        Ok(Self {
            weights: weights.collect::<Result<_>>()?,
        })
    }

    /// Returns the weight of that name.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] if the file has no weight of that name.
    pub fn get(&self, name: &str) -> Result<&PackedWeight> {
        self.weights.get(name).ok_or_else(|| Error::MissingTensor {
            file: "packed weights".into(),
            name: name.into(),
        })
    }
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

fn little_endian(file: &str) -> Result<()> {
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
    let &Entry { n, k, group, order } = entry;
    let bad = |reason: String| Error::format(file, format!("weight `{name}`: {reason}"));
    let grouping = Grouping::try_from(group).map_err(|e| bad(e.to_string()))?;
    check_shape(n, k, grouping).map_err(|e| bad(e.to_string()))?;
    let tensor = |piece: &str, dtypes: &[Dtype], shape: [usize; 3]| {
        tensor(tensors, file, &format!("{name}.{piece}"), dtypes, &shape)
    };
    let (row_tiles, k_tiles) = (n.div_ceil(TILE_N), k.div_ceil(TILE_K));
    let params = [row_tiles, grouping.groups(k), TILE_N];
    let (_, bytes) = tensor("tiles", &[Dtype::U32], [row_tiles, k_tiles, 128])?;
    let mut tiles = vec![Tile::ZERO; row_tiles * k_tiles];
    bytemuck::cast_slice_mut(&mut tiles).copy_from_slice(&bytes);
    drop(bytes);
    if let Some((row, k)) = nonzero_pad(&tiles, n, k) {
        return Err(bad(format!("the padding at row {row}, k {k} is not 0")));
    }
    let (dtype, bytes) = tensor("scales", &[Dtype::F32, Dtype::F16, Dtype::BF16], params)?;
    let scales = match dtype {
        Dtype::F16 => Scales::F16(bytemuck::allocation::pod_collect_to_vec(&bytes)),
        Dtype::BF16 => Scales::Bf16(bytemuck::allocation::pod_collect_to_vec(&bytes)),
        _ => Scales::F32(bytemuck::allocation::pod_collect_to_vec(&bytes)),
    };
    let has_zeros = tensors.info(&format!("{name}.zeros")).is_some();
    let zeros = has_zeros
        .then(|| tensor("zeros", &[Dtype::I8], params))
        .transpose()?
        .map(|(_, bytes)| bytemuck::cast_slice(&bytes).to_vec());
    let weight = PackedWeight::from_parts(n, k, grouping, tiles, scales, zeros)
        .map_err(|e| bad(e.to_string()))?;
    match order {
        true => read_order(tensors, file, name, weight),
        false => Ok(weight),
    }
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
