//! RMSNorm, the addition before it, and `silu(gate) * up` of a row, with the rounding steps of
//! [`crate::numerics`].
//!
//! The code is plain Rust that vectorizes. The CPU backend instantiates it for each instruction
//! set, with the same bits.

use super::{round_to_bf16, widen};
use half::bf16;

/// Lanes of a sum of squares.
const LANES: usize = 64;
/// Elements of a block of a sum of squares.
const BLOCK: usize = 512;

/// An element of the x of an RMSNorm.
pub(crate) trait Element: Copy + Send + Sync {
    /// Converts to f32, exactly.
    fn to_f32(self) -> f32;

    /// Rounds an f32.
    fn round(v: f32) -> Self;
}

impl Element for bf16 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        widen(self)
    }

    #[inline(always)]
    fn round(v: f32) -> Self {
        round_to_bf16(v)
    }
}

impl Element for f32 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }

    #[inline(always)]
    fn round(v: f32) -> Self {
        v
    }
}

/// Returns the sum of the squares of `value(x)` over x, in the order of
/// [RMSNorm](crate::numerics#rmsnorm).
///
/// ```
/// assert_eq!(w4ax::numerics::sum_of_squares(&[3i8, 4], f32::from), 25.0);
/// ```
#[inline(always)]
pub fn sum_of_squares<T: Copy>(x: &[T], value: impl Fn(T) -> f32) -> f32 {
    let mut total = [0f32; LANES];
    for block in x.chunks(BLOCK) {
        let mut lanes = [0f32; LANES];
        let chunks = block.chunks_exact(LANES);
        let rest = chunks.remainder();
        for chunk in chunks {
            for (lane, x) in lanes.iter_mut().zip(chunk) {
                let x = value(*x);
                *lane = x.mul_add(x, *lane);
            }
        }
        for (lane, x) in lanes.iter_mut().zip(rest) {
            let x = value(*x);
            *lane = x.mul_add(x, *lane);
        }
        for (total, lane) in total.iter_mut().zip(&lanes) {
            *total += lane;
        }
    }
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            total[i] += total[i + half];
        }
        half /= 2;
    }
    total[0]
}

/// Returns `e^x` by the formula of [`crate::numerics`](crate::numerics#silu), within 1.3e-7 of the
/// result if that is a normal number.
///
/// ```
/// use w4ax::numerics::exp;
/// assert_eq!([exp(0.0), exp(f32::INFINITY)], [1.0, f32::INFINITY]);
/// assert!((f64::from(exp(1.5)) / 1.5f64.exp() - 1.0).abs() < 1.3e-7);
/// ```
#[inline(always)]
#[allow(clippy::excessive_precision)] // The coefficients as they are published.
pub fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to an integer, which is then in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts.
    const LN2_HIGH: f32 = 0.693_359_375;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // e^-104 rounds to 0, and e^89 to infinity. Comparisons keep a NaN.
    let x = if x < -104.0 { -104.0 } else { x };
    let x = if x > 89.0 { 89.0 } else { x };
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x));
    let mut p = 1.987_569_15e-4f32;
    p = p.mul_add(r, 1.398_199_950_7e-3);
    p = p.mul_add(r, 8.333_451_907_3e-3);
    p = p.mul_add(r, 4.166_579_589_4e-2);
    p = p.mul_add(r, 1.666_666_545_9e-1);
    p = p.mul_add(r, 5.000_000_120_1e-1);
    let e = p.mul_add(r * r, r) + 1.0;
    // 2^n as two factors, because n is in [-150, 128]: only the second product rounds.
    let n = shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    let (first, second) = (n >> 1, n.wrapping_sub(n >> 1));
    let power = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
    e * power(first) * power(second)
}

/// Returns `silu(x) = x / (1 + e^-x)`, with the [`exp`] of this module.
#[inline(always)]
pub fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// Adds `addend[K]` to the row `x[K]`.
#[inline(always)]
pub(crate) fn add_row<T: Element>(x: &mut [T], addend: &[bf16]) {
    for (x, addend) in x.iter_mut().zip(addend) {
        *x = T::round(x.to_f32() + widen(*addend));
    }
}

/// Writes the RMSNorm of the row `x[K]` to `y[K]`; `weight` is `[K]`.
#[inline(always)]
pub(crate) fn rms_norm_row<T: Element>(x: &[T], weight: &[bf16], eps: f32, y: &mut [bf16]) {
    let scale = 1.0 / (sum_of_squares(x, T::to_f32) / x.len() as f32 + eps).sqrt();
    for ((y, x), weight) in y.iter_mut().zip(x).zip(weight) {
        *y = round_to_bf16(x.to_f32() * scale * widen(*weight));
    }
}

/// Writes `silu(gate) * up` of rows `[K]` to `y[K]`.
#[inline(always)]
pub(crate) fn silu_mul_row(gate: &[bf16], up: &[bf16], y: &mut [bf16]) {
    for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
        *y = round_to_bf16(silu(widen(*gate)) * widen(*up));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bounds that the page of the numerics states.
    #[test]
    fn exp_and_silu_are_within_their_bounds() {
        let (mut worst_exp, mut worst_silu) = (0f64, 0f64);
        for i in -870_000..=880_000 {
            let x = i as f32 * 1e-4;
            let exact = f64::from(x).exp();
            worst_exp = worst_exp.max((f64::from(exp(x)) / exact - 1.0).abs());
            if i != 0 {
                let exact = f64::from(x) / (1.0 + f64::from(-x).exp());
                worst_silu = worst_silu.max((f64::from(silu(x)) / exact - 1.0).abs());
            }
        }
        println!("exp {worst_exp:e}, silu {worst_silu:e}");
        assert!(worst_exp <= 1.3e-7, "{worst_exp:e}");
        assert!(worst_silu <= 2.6e-7, "{worst_silu:e}");
    }

    #[test]
    fn exp_of_extremes() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-104.0), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(88.8), f32::INFINITY);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
        // Denormal results are rounded once more.
        for i in -1039..-873 {
            let x = i as f32 * 0.1;
            let error = f64::from(exp(x)) - f64::from(x).exp();
            assert!(error.abs() <= 2f64.powi(-149), "{x}: {error:e}");
        }
        assert_eq!(silu(0.0), 0.0);
        assert_eq!(silu(f32::INFINITY), f32::INFINITY);
        assert!(silu(f32::NEG_INFINITY).is_nan());
        assert!(silu(f32::NAN).is_nan());
    }

    /// The order of the sum, by elements that a sum of f32 absorbs in one order only.
    #[test]
    fn sum_of_squares_has_the_documented_order() {
        let plain = |x: &[f32]| {
            let mut total = [0f32; 64];
            for (at, block) in x.chunks(512).enumerate() {
                let mut lanes = [0f32; 64];
                for (i, x) in block.iter().enumerate() {
                    lanes[i % 64] = x.mul_add(*x, lanes[i % 64]);
                }
                for lane in 0..64 {
                    total[lane] += lanes[lane];
                }
                assert!(at < 12);
            }
            for half in [32, 16, 8, 4, 2, 1] {
                for lane in 0..half {
                    total[lane] += total[lane + half];
                }
            }
            total[0]
        };
        let mut state = 7u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 4096.0
        };
        for len in [1, 63, 64, 65, 511, 512, 513, 4096, 5001] {
            let x: Vec<f32> = (0..len).map(|_| next()).collect();
            assert_eq!(sum_of_squares(&x, |x| x).to_bits(), plain(&x).to_bits());
        }
    }
}
