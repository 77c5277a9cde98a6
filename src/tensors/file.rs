//! A safetensors file whose header is read at once, and whose tensors are read on request.

use crate::{Error, Result};
use safetensors::tensor::{Metadata, TensorInfo};
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

/// Bytes copied at a time.
const CHUNK: usize = 1 << 20;
/// The largest header, as in the safetensors crate.
const MAX_HEADER: u64 = 100_000_000;

/// An open safetensors file. Its header is in memory; tensors are read on request.
///
/// ```
/// use w4ax::tensors::{PlainValues, TensorFile};
/// # fn main() -> w4ax::Result<()> {
/// let file = TensorFile::open("tests/data/checkpoints/awq_gemm/model.safetensors")?;
/// for name in file.names() {
///     let tensor = file.tensor(&name)?; // One tensor in memory at a time.
///     println!("{name}: {:?} {:?}", tensor.dtype(), tensor.shape);
///     if let PlainValues::F16(values) = tensor.values {
///         assert!(values.iter().all(|value| value.is_finite()));
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    /// Locked, because a read moves the position of the file.
    file: Mutex<File>,
    /// Offset of the values.
    start: u64,
    header: Metadata,
}

impl TensorFile {
    /// Opens a file, reads its header and checks it against the length of the file.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read, [`Error::Format`] if it is truncated or not a
    /// safetensors file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let io = |e| Error::io(path, e);
        let bad = |reason: String| Error::format(path.display().to_string(), reason);
        if cfg!(target_endian = "big") {
            return Err(bad("the format needs a little-endian machine".into()));
        }
        let mut file = File::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let mut size = [0; 8];
        if length < 8 {
            return Err(bad(format!("{length} bytes are too short for a header")));
        }
        file.read_exact(&mut size).map_err(io)?;
        let size = u64::from_le_bytes(size);
        if size > MAX_HEADER.min(length - 8) {
            return Err(bad(format!(
                "header of {size} bytes in a file of {length} bytes: not a safetensors file, or truncated"
            )));
        }
        let mut header = vec![0; size as usize];
        file.read_exact(&mut header).map_err(io)?;
        let header: Metadata = serde_json::from_slice(&header)
            .map_err(|e| Error::json(path.display().to_string(), "header", e))?;
        let start = 8 + size;
        let end = start.saturating_add(header.data_len() as u64);
        if end != length {
            return Err(bad(format!(
                "the file ends at byte {length}, its tensors at byte {end}"
            )));
        }
        Ok(Self {
            path: path.to_owned(),
            file: Mutex::new(file),
            start,
            header,
        })
    }

    /// Returns the name of the file for errors.
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the `__metadata__` of the header.
    pub fn metadata(&self) -> Option<&HashMap<String, String>> {
        self.header.metadata().as_ref()
    }

    /// Returns the names of the tensors in the order of their values.
    pub fn names(&self) -> Vec<String> {
        self.header.offset_keys()
    }

    /// Returns type, shape and position of a tensor, or `None` if it does not exist.
    pub fn info(&self, tensor: &str) -> Option<&TensorInfo> {
        self.header.info(tensor)
    }

    fn at(&self, tensor: &str) -> Result<(MutexGuard<'_, File>, usize)> {
        let info = self.info(tensor).ok_or_else(|| Error::MissingTensor {
            file: self.name(),
            name: tensor.into(),
        })?;
        let (from, to) = info.data_offsets;
        let mut file = self.file.lock().unwrap_or_else(|e| e.into_inner());
        file.seek(SeekFrom::Start(self.start + from as u64))
            .map_err(|e| Error::io(&self.path, e))?;
        Ok((file, to - from))
    }

    /// Reads the values of a tensor.
    ///
    /// # Errors
    /// [`Error::MissingTensor`]; [`Error::Io`]; [`Error::Tensor`] if the bytes are not a whole
    /// number of `T`.
    pub(crate) fn read<T: bytemuck::Pod>(&self, tensor: &str) -> Result<Vec<T>> {
        let (mut file, bytes) = self.at(tensor)?;
        if bytes % size_of::<T>() != 0 {
            let reason = format!("{bytes} bytes are not a whole number of elements");
            return Err(Error::tensor(self.name(), tensor, reason));
        }
        let mut values = vec![T::zeroed(); bytes / size_of::<T>()];
        file.read_exact(bytemuck::cast_slice_mut(&mut values))
            .map_err(|e| Error::io(&self.path, e))?;
        Ok(values)
    }

    /// Copies the bytes of a tensor to `to` in chunks. `written` converts the errors of `to`.
    ///
    /// # Errors
    /// As [`TensorFile::read`], and the errors of `written`.
    pub(crate) fn copy(
        &self,
        tensor: &str,
        to: &mut dyn Write,
        written: impl Fn(std::io::Error) -> Error,
    ) -> Result<()> {
        let (mut file, mut left) = self.at(tensor)?;
        let mut chunk = vec![0; CHUNK.min(left)];
        while left > 0 {
            let part = &mut chunk[..CHUNK.min(left)];
            file.read_exact(part)
                .map_err(|e| Error::io(&self.path, e))?;
            to.write_all(part).map_err(&written)?;
            left -= part.len();
        }
        Ok(())
    }
}
