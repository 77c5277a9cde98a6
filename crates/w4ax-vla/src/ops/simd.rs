//! Vector code: loops that the compiler vectorizes for the machine's instruction set.
//!
//! The functions have no branches, and fused multiply-adds only where they are written, so each
//! instruction set computes the same bits.

use super::value::Value;

/// Lanes of a sum: element i is added to lane `i % LANES`, and the lanes are added in order.
const LANES: usize = 32;

/// Runs a function compiled for the best instruction set of the machine.
#[inline(always)]
pub(super) fn vectorized<R>(f: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(f)
}

/// Adds neighboring halves until one lane is left.
#[inline(always)]
fn sum_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// Returns the sum of `f(x)` over x.
#[inline(always)]
pub(super) fn sum<T: Value>(x: &[T], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let chunks = x.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] += f(chunk[i].widen());
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane += f(x.widen());
    }
    sum_lanes(lanes)
}

/// Returns the inner product of two vectors of one length.
#[inline(always)]
pub(super) fn dot<A: Value, B: Value>(a: &[A], b: &[B]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let (a_rest, b_rest) = (a_chunks.remainder(), b_chunks.remainder());
    for (a, b) in a_chunks.zip(b_chunks) {
        for i in 0..LANES {
            lanes[i] += a[i].widen() * b[i].widen();
        }
    }
    for ((lane, a), b) in lanes.iter_mut().zip(a_rest).zip(b_rest) {
        *lane += a.widen() * b.widen();
    }
    sum_lanes(lanes)
}

/// Adds `factor * x` to y.
#[inline(always)]
pub(super) fn add_scaled<T: Value>(y: &mut [f32], factor: f32, x: &[T]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += factor * x.widen();
    }
}

/// Returns the largest element, or negative infinity if there are none.
#[inline(always)]
pub(super) fn max(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = x.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] = if chunk[i] > lanes[i] {
                chunk[i]
            } else {
                lanes[i]
            };
        }
    }
    lanes
        .iter()
        .chain(rest)
        .fold(f32::NEG_INFINITY, |a, b| a.max(*b))
}

/// Returns the error function of x to 4e-7 of the result.
///
/// A quotient of polynomials in x^2, and 1 where the exact value rounds to 1 in F32.
#[inline(always)]
#[allow(clippy::excessive_precision)] // The coefficients as they are published.
pub(super) fn erf(x: f32) -> f32 {
    const ONE_FROM: f32 = 3.832_506_9;
    let z = x * x;
    // The coefficients of XLA's erf.
    let mut p = 2.290_506_586_135_064_6e-4;
    p = p * z + 3.408_291_010_710_950_6e-3;
    p = p * z + 5.095_569_506_238_086_1e-2;
    p = p * z + 1.852_083_223_997_614_5e-1;
    p = p * z + 1.128_379_143_519_084;
    let mut q = -1.179_160_295_436_169_7e-7;
    q = q * z + 2.354_796_647_131_318_5e-5;
    q = q * z + 1.017_962_527_891_488_5e-3;
    q = q * z + 1.407_047_017_116_766_7e-2;
    q = q * z + 1.109_850_517_828_536_2e-1;
    q = q * z + 4.974_692_511_006_753_8e-1;
    q = q * z + 1.0;
    let inner = x * p / q;
    if x.abs() >= ONE_FROM {
        1f32.copysign(x)
    } else {
        inner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erf_is_within_four_units_in_the_last_place() {
        let worst = (-60_000..60_000)
            .map(|i| {
                let x = i as f32 * 1e-4 + 3e-5;
                let exact = candle_core::cpu::erf::erf_f64(f64::from(x));
                (f64::from(erf(x)) - exact).abs() / exact.abs()
            })
            .fold(0.0, f64::max);
        assert!(worst < 4e-7, "{worst:e}");
        assert!(erf(f32::NAN).is_nan());
        assert_eq!(erf(f32::INFINITY), 1.0);
        assert_eq!(erf(-4.0), -1.0);
    }
}
