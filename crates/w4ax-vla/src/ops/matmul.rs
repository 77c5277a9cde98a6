//! Matrix products of F32 slices on one thread.

use std::cell::RefCell;

/// A matrix of F32 with any strides.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A matrix whose rows are contiguous, `stride` elements from one to the next.
    ///
    /// # Panics
    /// If the values end before the last row.
    pub fn new(values: &'a [f32], rows: usize, cols: usize, stride: usize) -> Self {
        let end = if rows == 0 {
            0
        } else {
            (rows - 1) * stride + cols
        };
        assert!(end <= values.len(), "matrix beyond its values");
        Self {
            values,
            rows,
            cols,
            row_stride: stride,
            col_stride: 1,
        }
    }

    /// Returns the transpose, which shares the values.
    pub fn t(self) -> Self {
        Self {
            values: self.values,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }
}

/// Computes `y[m, n] = a[m, k] * b[k, n]` on the calling thread.
///
/// # Panics
/// If the shapes do not fit together.
pub(super) fn matmul(y: &mut [f32], a: Matrix<'_>, b: Matrix<'_>) {
    let (m, k, n) = (a.rows, a.cols, b.cols);
    assert!(
        b.rows == k && y.len() == m * n,
        "shapes of a matrix product"
    );
    // SAFETY: the constructor of `Matrix` checked that all elements are in bounds, `y` has m * n
    // elements, and a mutable slice does not alias the operands.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            y.as_mut_ptr(),
            1,
            n as isize,
            false,
            a.values.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            0.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Calls `f` with `len` values of any content that the thread keeps for the next call.
pub(super) fn with_scratch<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    // Taken, not borrowed: a call inside `f` gets a buffer of its own.
    let mut buffer = SCRATCH.take();
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    let result = f(&mut buffer[..len]);
    SCRATCH.set(buffer);
    result
}
