//! Packed weights in a safetensors file.
//!
//! `__metadata__` holds `"format": "w4ax"`, `"version"` ([`FORMAT_VERSION`]) and `"weights"`, a JSON object from each
//! weight's name to its `n`, `k` and `group` (32, 64, 128, or null for one scale per channel). A weight `x` is stored as
//!
//! | tensor | dtype | shape |
//! |---|---|---|
//! | `x.tiles` | U32 | `[ceil(N/16), ceil(K/64), 128]`, the tiles of [`super::layout`] |
//! | `x.scales` | F32, F16 or BF16 | `[ceil(N/16), groups, 16]`, 0 beyond N |
//! | `x.zeros` | I8 | as `x.scales`; absent when symmetric |
//!
//! Tensors that `"weights"` does not name are left for others to read.

use super::layout::{TILE_K, TILE_N, Tile};
use super::{Grouping, PackedWeight, Scales, check_shape};
use crate::{Error, Result};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// The version of the file format that this crate writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;

/// What the metadata says of one weight.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    n: usize,
    k: usize,
    group: Option<usize>,
}

/// Named packed weights, as one safetensors file holds them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PackedFile {
    /// The weights by name, in the order of their names.
    pub weights: BTreeMap<String, PackedWeight>,
}

/// The pieces of a [`PackedWeight`] as tensors.
fn views<'a>(name: &str, w: &'a PackedWeight) -> Result<Vec<(String, TensorView<'a>)>> {
    let row_tiles = w.n.div_ceil(TILE_N);
    let beside = vec![row_tiles, w.groups(), TILE_N];
    let dtype = match w.scales {
        Scales::F32(_) => Dtype::F32,
        Scales::F16(_) => Dtype::F16,
        Scales::Bf16(_) => Dtype::BF16,
    };
    let tiles = vec![row_tiles, w.k.div_ceil(TILE_K), 128];
    let mut pieces = vec![
        ("tiles", Dtype::U32, tiles, bytemuck::cast_slice(&w.tiles)),
        ("scales", dtype, beside.clone(), w.scales.bytes()),
    ];
    if let Some(zeros) = &w.zeros {
        pieces.push(("zeros", Dtype::I8, beside, bytemuck::cast_slice(zeros)));
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

/// The bytes of a file with these weights.
pub(crate) fn to_bytes<'a>(
    weights: impl IntoIterator<Item = (&'a str, &'a PackedWeight)>,
) -> Result<Vec<u8>> {
    little_endian("packed weights")?;
    let mut tensors = Vec::new();
    let mut entries = BTreeMap::new();
    for (name, w) in weights {
        tensors.extend(views(name, w)?);
        entries.insert(
            name,
            Entry {
                n: w.n,
                k: w.k,
                group: w.grouping.size(),
            },
        );
    }
    let entries = serde_json::to_string(&entries)
        .map_err(|e| Error::format("packed weights", e.to_string()))?;
    let metadata = HashMap::from([
        ("format".into(), "w4ax".into()),
        ("version".into(), FORMAT_VERSION.to_string()),
        ("weights".into(), entries),
    ]);
    safetensors::serialize(tensors, Some(metadata))
        .map_err(|e| Error::format("packed weights", e.to_string()))
}

impl PackedFile {
    /// The bytes of the file.
    ///
    /// # Errors
    /// [`Error::Format`] on a big-endian machine (the format is little-endian), or if the weights are too large for it.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        to_bytes(self.weights.iter().map(|(name, w)| (name.as_str(), w)))
    }

    /// Writes the file: to a temporary name beside it first, so that a killed run leaves no half file under `path`.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written; as [`PackedFile::to_bytes`] else.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        crate::file::write_atomically(path, &self.to_bytes()?)
    }

    /// Reads a file that [`PackedFile::save`] wrote.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read; as [`PackedFile::from_bytes`] else.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        Self::from_bytes(&bytes, &path.display().to_string())
    }

    /// Reads the bytes of such a file; `file` names them in errors.
    ///
    /// # Errors
    /// [`Error::Format`] for a truncated, foreign, newer or inconsistent file, [`Error::MissingTensor`] for a piece that
    /// is not there, and what [`PackedWeight::from_quantized`] gives for values out of range.
    pub fn from_bytes(bytes: &[u8], file: &str) -> Result<Self> {
        little_endian(file)?;
        let bad = |reason: String| Error::format(file, reason);
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| bad(e.to_string()))?;
        let metadata = header.metadata().as_ref();
        let field = |name: &str| metadata.and_then(|m| m.get(name));
        match field("format").map(String::as_str) {
            Some("w4ax") => (),
            other => {
                return Err(bad(format!(
                    "not a w4ax file: metadata `format` is {other:?}"
                )));
            }
        }
        let version = field("version").and_then(|v| v.parse::<u32>().ok());
        if !version.is_some_and(|v| (1..=FORMAT_VERSION).contains(&v)) {
            return Err(bad(format!(
                "format version {:?}, this crate reads 1 to {FORMAT_VERSION}",
                field("version")
            )));
        }
        let entries =
            field("weights").ok_or_else(|| bad("metadata `weights` is missing".into()))?;
        let entries: BTreeMap<String, Entry> =
            serde_json::from_str(entries).map_err(|e| bad(format!("metadata `weights`: {e}")))?;
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| bad(e.to_string()))?;
        let weights = entries
            .into_iter()
            .map(|(name, entry)| {
                let weight = read(&tensors, file, &name, &entry)?;
                Ok((name, weight))
            })
            .collect::<Result<_>>()?;
        Ok(Self { weights })
    }

    /// The weight of that name.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] if there is none.
    pub fn get(&self, name: &str) -> Result<&PackedWeight> {
        self.weights.get(name).ok_or_else(|| Error::MissingTensor {
            file: "packed weights".into(),
            name: name.into(),
        })
    }
}

fn little_endian(file: &str) -> Result<()> {
    if cfg!(target_endian = "little") {
        Ok(())
    } else {
        Err(Error::format(
            file,
            "the format needs a little-endian machine",
        ))
    }
}

/// Puts one weight together from its tensors.
fn read(tensors: &SafeTensors<'_>, file: &str, name: &str, entry: &Entry) -> Result<PackedWeight> {
    let &Entry { n, k, group } = entry;
    let bad = |reason: String| Error::format(file, format!("weight `{name}`: {reason}"));
    let grouping = Grouping::try_from(group).map_err(|e| bad(e.to_string()))?;
    check_shape(n, k, grouping).map_err(|e| bad(e.to_string()))?;
    let tensor = |piece: &str, dtypes: &[Dtype], shape: [usize; 3]| {
        let name = format!("{name}.{piece}");
        let view = tensors.tensor(&name).map_err(|_| Error::MissingTensor {
            file: file.into(),
            name: name.clone(),
        })?;
        if !dtypes.contains(&view.dtype()) || view.shape() != shape {
            return Err(bad(format!(
                "`{name}` is {:?} {:?}, expected one of {dtypes:?} with shape {shape:?}",
                view.dtype(),
                view.shape()
            )));
        }
        Ok(view)
    };
    let (row_tiles, k_tiles) = (n.div_ceil(TILE_N), k.div_ceil(TILE_K));
    let beside = [row_tiles, grouping.groups(k), TILE_N];
    let view = tensor("tiles", &[Dtype::U32], [row_tiles, k_tiles, 128])?;
    let mut tiles = vec![Tile::ZERO; row_tiles * k_tiles];
    bytemuck::cast_slice_mut(&mut tiles).copy_from_slice(view.data());
    if let Some((row, k)) = nonzero_pad(&tiles, n, k) {
        return Err(bad(format!("the pad at row {row}, k {k} is not 0")));
    }
    let view = tensor("scales", &[Dtype::F32, Dtype::F16, Dtype::BF16], beside)?;
    let scales = match view.dtype() {
        Dtype::F16 => Scales::F16(bytemuck::allocation::pod_collect_to_vec(view.data())),
        Dtype::BF16 => Scales::Bf16(bytemuck::allocation::pod_collect_to_vec(view.data())),
        _ => Scales::F32(bytemuck::allocation::pod_collect_to_vec(view.data())),
    };
    let has_zeros = tensors.tensor(&format!("{name}.zeros")).is_ok();
    let zeros = has_zeros
        .then(|| tensor("zeros", &[Dtype::I8], beside))
        .transpose()?
        .map(|view| bytemuck::cast_slice(view.data()).to_vec());
    PackedWeight::from_parts(n, k, grouping, tiles, scales, zeros).map_err(|e| bad(e.to_string()))
}

/// The first row and k beyond `[n, k]` whose nibble is not 0.
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
