//! RMSNorm and `silu(gate) * up` by the formulas of [`crate::numerics`].

use crate::numerics::silu;
use crate::{AddRmsNorm, HiddenState, HiddenStateMut, Result, RmsNorm, SiluMul};
use half::bf16;

/// Returns an RMSNorm with the rounding steps of [`crate::numerics`], row-major `[M, K]`.
///
/// # Errors
/// [`crate::Error::Shape`] if the weight does not have K values, [`crate::Error::Range`] if `eps`
/// is not positive and finite.
pub fn rms_norm(norm: &RmsNorm<'_>) -> Result<Vec<bf16>> {
    let (m, k) = norm.check()?;
    let mut y = Vec::with_capacity(m * k);
    for token in 0..m {
        let x: Vec<f32> = match norm.x() {
            HiddenState::Bf16(x) => x.row(token).iter().map(|v| v.to_f32()).collect(),
            HiddenState::F32(x) => x.row(token).to_vec(),
        };
        let mut total = [0f32; 64];
        for block in x.chunks(512) {
            for (lane, total) in total.iter_mut().enumerate() {
                let of_lane = block.iter().skip(lane).step_by(64);
                *total += of_lane.fold(0.0, |sum, x| x.mul_add(*x, sum));
            }
        }
        let mut sums = total.to_vec();
        while sums.len() > 1 {
            let (low, high) = sums.split_at(sums.len() / 2);
            sums = low.iter().zip(high).map(|(low, high)| low + high).collect();
        }
        let r = 1.0 / (sums[0] / k as f32 + norm.eps()).sqrt();
        y.extend((x.iter().zip(norm.weight())).map(|(x, g)| round(x * r * g.to_f32())));
    }
    Ok(y)
}

/// Adds to a hidden state, and returns an RMSNorm of the sum, with the rounding steps of
/// [`crate::numerics`], row-major `[M, K]`.
///
/// # Errors
/// As [`rms_norm`]; [`crate::Error::Shape`] if the addend does not have the shape of x. Nothing is
/// written then.
pub fn add_rms_norm(norm: AddRmsNorm<'_>) -> Result<Vec<bf16>> {
    let (m, _) = norm.check()?;
    let added = norm.added(|x, addend| {
        for token in 0..m {
            let addend = addend.row(token).iter().map(|v| v.to_f32());
            match x {
                HiddenStateMut::Bf16(x) => {
                    let row = x.row_mut(token).iter_mut().zip(addend);
                    row.for_each(|(x, a)| *x = round(x.to_f32() + a));
                }
                HiddenStateMut::F32(x) => {
                    let row = x.row_mut(token).iter_mut().zip(addend);
                    row.for_each(|(x, a)| *x += a);
                }
            }
        }
    });
    rms_norm(&added.norm())
}

/// Returns `silu(gate) * up` with the rounding steps of [`crate::numerics`], row-major `[M, K]`.
///
/// # Errors
/// [`crate::Error::Shape`] if `up` does not have the shape of `gate`.
pub fn silu_mul(op: &SiluMul<'_>) -> Result<Vec<bf16>> {
    let (m, k) = op.check()?;
    let mut y = Vec::with_capacity(m * k);
    for token in 0..m {
        let row = op.gate().row(token).iter().zip(op.up().row(token));
        y.extend(row.map(|(gate, up)| round(silu(gate.to_f32()) * up.to_f32())));
    }
    Ok(y)
}

/// Rounds to BF16. Every NaN becomes 0x7FFF.
pub(super) fn round(v: f32) -> bf16 {
    match v.is_nan() {
        true => bf16::from_bits(0x7FFF),
        false => bf16::from_f32(v),
    }
}
