//! A tensor as a matrix of rows.

use candle_core::{Layout, Result};

/// The elements of x as a matrix of contiguous rows.
pub(super) struct Rows {
    /// Index of the first element.
    pub start: usize,
    /// Number of rows.
    pub rows: usize,
    /// Number of elements from one row to the next.
    pub stride: usize,
}

impl Rows {
    /// Merges all dimensions of `[.., k]` but the last.
    ///
    /// # Errors
    /// If the last dimension is not k or not contiguous, or the rows are not at a fixed stride.
    pub fn of(layout: &Layout, k: usize) -> Result<Self> {
        let (dims, strides) = (layout.dims(), layout.stride());
        let [outer @ .., last] = dims else {
            candle_core::bail!("x: expected [.., {k}], got a scalar")
        };
        if *last != k {
            candle_core::bail!("x: expected [.., {k}], got {dims:?}")
        }
        let rows = outer.iter().product();
        let not_rows = || {
            format!(
                "x: {dims:?} with strides {strides:?}: expected contiguous rows at a fixed stride; \
                 call contiguous() first"
            )
        };
        if k > 1 && strides[dims.len() - 1] != 1 {
            candle_core::bail!("{}", not_rows())
        }
        // The innermost dimension of more than one row sets the stride. The outer dimensions must
        // follow from it.
        let (mut stride, mut next) = (k, None);
        for (dim, own) in outer.iter().zip(strides).rev().filter(|(dim, _)| **dim > 1) {
            match next {
                None => stride = *own,
                Some(next) if next != *own => candle_core::bail!("{}", not_rows()),
                Some(_) => {}
            }
            next = Some(own * dim);
        }
        if rows > 1 && stride < k {
            candle_core::bail!("{}", not_rows())
        }
        Ok(Self {
            start: layout.start_offset(),
            rows,
            stride,
        })
    }
}
