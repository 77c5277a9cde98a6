//! Rotary position embedding.

use super::simd::vectorized;
use super::value::{Value, through, to_f32, with_storage};
use super::{by_type, expect_dims, generic, on_cpu};
use crate::{Result, VlaError};
use candle_core::Tensor;
use rayon::prelude::*;

/// Rotates the pairs `(j, j + d/2)` of each row of `x[H, M, d]` by the angles of its position.
///
/// `y[j] = x[j] * cos[j] - x[j + d/2] * sin[j]` and
/// `y[j + d/2] = x[j + d/2] * cos[j] + x[j] * sin[j]`, with cos and sin `[M, d/2]`. In BF16, cos,
/// sin, each product and each sum are rounded. x may have any strides; y is contiguous.
///
/// # Errors
/// If x is neither F32 nor BF16, d is odd, or cos and sin are not `[M, d/2]`.
pub fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let (_, m, d) = x.dims3()?;
    if d % 2 != 0 {
        return Err(VlaError::Input {
            what: "dimension of a head",
            got: d.to_string(),
            expected: "an even number".into(),
        });
    }
    expect_dims("cosines of a rotary embedding", cos, &[m, d / 2])?;
    expect_dims("sines of a rotary embedding", sin, &[m, d / 2])?;
    if !on_cpu("input of a rotary embedding", x)? {
        return generic::rope(x, cos, sin);
    }
    by_type!(x, rope_cpu(x, cos, sin))
}

fn rope_cpu<T: Value>(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let (h, m, d) = x.dims3()?;
    let cos = to_f32(&cos.to_dtype(T::DTYPE)?)?; // [M, d/2]
    let sin = to_f32(&sin.to_dtype(T::DTYPE)?)?; // [M, d/2]
    let x = if x.layout().stride()[2] == 1 {
        x.clone()
    } else {
        x.contiguous()?
    };
    let mut y = vec![T::zero(); h * m * d]; // [H, M, d]
    with_storage(&x, |storage, layout| {
        let values = &storage.as_slice::<T>()?[layout.start_offset()..];
        let (head, row) = (layout.stride()[0], layout.stride()[1]);
        y.par_chunks_mut((m * d).max(1))
            .enumerate()
            .for_each(|(h, y)| {
                vectorized(|| {
                    for (i, y) in y.chunks_exact_mut(d).enumerate() {
                        let start = h * head + i * row;
                        let angles = i * d / 2..(i + 1) * d / 2;
                        rotate(
                            y,
                            &values[start..start + d],
                            &cos[angles.clone()],
                            &sin[angles],
                        );
                    }
                });
            });
        Ok(())
    })?;
    Ok(Tensor::from_vec(y, (h, m, d), x.device())?)
}

#[inline(always)]
fn rotate<T: Value>(y: &mut [T], x: &[T], cos: &[f32], sin: &[f32]) {
    let half = cos.len();
    let (x0, x1) = x.split_at(half);
    let (y0, y1) = y.split_at_mut(half);
    for j in 0..half {
        let (a, b) = (x0[j].widen(), x1[j].widen());
        y0[j] = T::round(through::<T>(a * cos[j]) - through::<T>(b * sin[j]));
        y1[j] = T::round(through::<T>(b * cos[j]) + through::<T>(a * sin[j]));
    }
}
