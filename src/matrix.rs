//! Row-major matrix views with a row stride, the operands of every GEMM.

use crate::{Error, Result};

/// A borrowed row-major matrix `[rows, cols]` whose rows start `stride` elements apart.
///
/// ```
/// use w4ax::MatRef;
/// # fn main() -> w4ax::Result<()> {
/// let data: Vec<f32> = (0..12).map(|i| i as f32).collect();
/// // The first two columns of a matrix [3, 4].
/// let left = MatRef::with_stride(&data, 3, 2, 4)?;
/// assert_eq!(left.row(2), [8.0, 9.0]);
/// assert!(MatRef::new(&data, 4, 4).is_err()); // 16 elements are required.
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct MatRef<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    stride: usize,
}

/// A mutable row-major matrix `[rows, cols]` whose rows start `stride` elements apart.
#[derive(Debug)]
pub struct MatMut<'a, T> {
    data: &'a mut [T],
    rows: usize,
    cols: usize,
    stride: usize,
}

/// Returns the number of elements that a `[rows, cols]` matrix with a row stride spans.
pub(crate) fn span(what: &'static str, rows: usize, cols: usize, stride: usize) -> Result<usize> {
    if stride < cols {
        return Err(Error::Stride { what, cols, stride });
    }
    if rows == 0 || cols == 0 {
        return Ok(0);
    }
    (rows - 1)
        .checked_mul(stride)
        .and_then(|n| n.checked_add(cols))
        .ok_or_else(|| Error::AddressSpace {
            what,
            shape: [rows, cols].into(),
            stride,
        })
}

/// Checks that a `[rows, cols]` matrix with a row stride fits `len` elements.
pub(crate) fn check(
    what: &'static str,
    len: usize,
    rows: usize,
    cols: usize,
    stride: usize,
) -> Result<()> {
    let needed = span(what, rows, cols, stride)?;
    if len < needed {
        return Err(Error::Buffer {
            what,
            needed,
            got: len,
        });
    }
    Ok(())
}

fn cast_error<T>(what: &'static str, bytes: &[u8]) -> Error {
    Error::Alignment {
        what,
        align: align_of::<T>(),
        size: size_of::<T>(),
        len: bytes.len(),
    }
}

impl<'a, T> MatRef<'a, T> {
    /// A dense `[rows, cols]` matrix.
    ///
    /// # Errors
    /// [`Error::Buffer`] if `data` is shorter than `rows * cols`.
    pub fn new(data: &'a [T], rows: usize, cols: usize) -> Result<Self> {
        Self::with_stride(data, rows, cols, cols)
    }

    /// A `[rows, cols]` matrix whose rows start `stride` elements apart.
    ///
    /// # Errors
    /// [`Error::Stride`] if `stride < cols`, [`Error::Buffer`] if `data` ends before the last row
    /// does.
    pub fn with_stride(data: &'a [T], rows: usize, cols: usize, stride: usize) -> Result<Self> {
        check("matrix", data.len(), rows, cols, stride)?;
        Ok(Self {
            data,
            rows,
            cols,
            stride,
        })
    }

    /// Returns the number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Returns the number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Returns the number of elements from the start of a row to the start of the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Returns row `i`, `[cols]`.
    ///
    /// # Panics
    /// If `i` is not below `rows`.
    pub fn row(&self, i: usize) -> &'a [T] {
        assert!(i < self.rows, "row {i} of a matrix with {} rows", self.rows);
        // A row without elements may start beyond the data.
        let start = if self.cols == 0 { 0 } else { i * self.stride };
        &self.data[start..][..self.cols]
    }
}

impl<'a, T: bytemuck::Pod> MatRef<'a, T> {
    /// A dense matrix over raw bytes, in the machine's byte order.
    ///
    /// # Errors
    /// [`Error::Alignment`] if the bytes are misaligned for `T` or not a whole number of elements,
    /// otherwise as [`MatRef::new`].
    pub fn from_bytes(bytes: &'a [u8], rows: usize, cols: usize) -> Result<Self> {
        let data = bytemuck::try_cast_slice(bytes).map_err(|_| cast_error::<T>("matrix", bytes))?;
        Self::new(data, rows, cols)
    }
}

impl<'a, T> MatMut<'a, T> {
    /// A dense `[rows, cols]` matrix.
    ///
    /// # Errors
    /// [`Error::Buffer`] if `data` is shorter than `rows * cols`.
    pub fn new(data: &'a mut [T], rows: usize, cols: usize) -> Result<Self> {
        Self::with_stride(data, rows, cols, cols)
    }

    /// A `[rows, cols]` matrix whose rows start `stride` elements apart. Elements between the rows
    /// are not written.
    ///
    /// # Errors
    /// As [`MatRef::with_stride`].
    pub fn with_stride(data: &'a mut [T], rows: usize, cols: usize, stride: usize) -> Result<Self> {
        check("matrix", data.len(), rows, cols, stride)?;
        Ok(Self {
            data,
            rows,
            cols,
            stride,
        })
    }

    /// Returns the number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Returns the number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Returns the number of elements from the start of a row to the start of the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Returns the matrix for reading.
    pub fn as_ref(&self) -> MatRef<'_, T> {
        MatRef {
            data: self.data,
            rows: self.rows,
            cols: self.cols,
            stride: self.stride,
        }
    }

    /// Returns row `i`, `[cols]`.
    ///
    /// # Panics
    /// If `i` is not below `rows`.
    pub fn row_mut(&mut self, i: usize) -> &mut [T] {
        assert!(i < self.rows, "row {i} of a matrix with {} rows", self.rows);
        let start = if self.cols == 0 { 0 } else { i * self.stride };
        &mut self.data[start..][..self.cols]
    }

    /// A pointer to the first element. Every `[i * stride + j]` with `i < rows` and `j < cols` is
    /// valid.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut T {
        self.data.as_mut_ptr()
    }
}

impl<'a, T: bytemuck::Pod> MatMut<'a, T> {
    /// A dense matrix over raw bytes, in the machine's byte order.
    ///
    /// # Errors
    /// As [`MatRef::from_bytes`].
    pub fn from_bytes(bytes: &'a mut [u8], rows: usize, cols: usize) -> Result<Self> {
        let error = cast_error::<T>("matrix", bytes);
        let data = bytemuck::try_cast_slice_mut(bytes).map_err(|_| error)?;
        Self::new(data, rows, cols)
    }
}
