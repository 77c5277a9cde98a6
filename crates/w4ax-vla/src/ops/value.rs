//! F32 and BF16 values of tensors on the CPU.

use crate::Result;
use candle_core::{CpuStorage, Layout, Storage, Tensor, WithDType};
use half::bf16;
use std::borrow::Cow;

/// A value that is computed with as F32: F32 itself or BF16.
pub(super) trait Value: WithDType + Send + Sync {
    /// Returns the value in F32.
    fn widen(self) -> f32;

    /// Rounds to nearest even.
    fn round(x: f32) -> Self;

    /// Returns the values if they are F32.
    fn as_f32(values: &[Self]) -> Option<&[f32]>;

    /// Returns the values in F32, copied only if they are not.
    fn widened(values: &[Self]) -> Cow<'_, [f32]> {
        match Self::as_f32(values) {
            Some(values) => Cow::Borrowed(values),
            None => {
                let mut wide = vec![0.0; values.len()];
                super::cast::widen(values, &mut wide);
                Cow::Owned(wide)
            }
        }
    }
}

impl Value for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }

    #[inline(always)]
    fn round(x: f32) -> Self {
        x
    }

    fn as_f32(values: &[Self]) -> Option<&[f32]> {
        Some(values)
    }
}

impl Value for bf16 {
    // `bf16::to_f32` also sets the quiet bit of a NaN, which costs a comparison.
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    fn round(x: f32) -> Self {
        let bits = x.to_bits();
        let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
        // The carry would turn some NaNs into zero or infinity.
        let nan = (bits >> 16) | 0x40;
        Self::from_bits(if x.is_nan() { nan } else { rounded } as u16)
    }

    fn as_f32(_: &[Self]) -> Option<&[f32]> {
        None
    }
}

/// Rounds to the type T and widens again.
#[inline(always)]
pub(super) fn through<T: Value>(x: f32) -> f32 {
    T::round(x).widen()
}

/// Calls `f` with the storage and the layout of a tensor on the CPU.
pub(super) fn with_storage<R>(
    tensor: &Tensor,
    f: impl FnOnce(&CpuStorage, &Layout) -> Result<R>,
) -> Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => f(storage, layout),
        _ => Err(candle_core::Error::Msg("expected a tensor on the CPU".into()).into()),
    }
}

/// Calls `f` with the values of a tensor on the CPU, in order of its dimensions.
pub(super) fn with_values<T: Value, R>(
    tensor: &Tensor,
    f: impl FnOnce(&[T]) -> Result<R>,
) -> Result<R> {
    let tensor = tensor.contiguous()?;
    with_storage(&tensor, |storage, layout| {
        let start = layout.start_offset();
        let values = storage.as_slice::<T>()?;
        f(&values[start..start + layout.shape().elem_count()])
    })
}

/// Returns the values of a small tensor, such as a bias, as F32.
pub(super) fn to_f32(tensor: &Tensor) -> Result<Vec<f32>> {
    let tensor = tensor.to_dtype(candle_core::DType::F32)?;
    Ok(tensor.flatten_all()?.to_vec1()?)
}
