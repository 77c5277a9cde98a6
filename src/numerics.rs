//! The arithmetic, with each rounding step. Every backend computes these bits.
//!
//! A GEMM computes `y[M, N] = x[M, K] * W[N, K]^T + bias[N]`: `x` and `y` BF16 row-major, `W` INT4
//! ([`crate::PackedWeight`]), `bias` f32. M is the number of tokens, N of output channels, K of
//! inputs. Quantized values have no unit; a scale has the unit of its matrix. Each f32 operation
//! below rounds to nearest, ties to even. No operation is contracted (a fused multiply-add is
//! written `fma`), and none flushes denormals.
//!
//! # Weights
//! A weight has one of two arithmetics ([`crate::Scheme`]). `qw` is an INT4 in [-8, 7]. A zero
//! point is an integer in [-8, 8], 0 if the weight is symmetric. A scale is f32, F16 or BF16.
//! Groups of k are those of [`crate::Grouping`].
//!
//! - **Grouped**: `w = (qw - zw) * sw`, `zw` and `sw` for each output channel and group.
//! - **Two-level**: `w = w8 * sw` with `w8 = (qw - zg) * sg`. The group step `sg` is an integer in
//!   1..=16, and `zg` a zero point, for each output channel and group of 32, 64 or 128 k. Every
//!   `w8` is in [-127, 127], and so is `zg * sg`: the padding of a partial tile is unpacked too.
//!   There is one scale `sw` for each output channel. The two levels of scales are those of QServe
//!   (arXiv 2405.04532, section 4.1, progressive group quantization) and LiquidGEMM (arXiv
//!   2509.01229).
//!
//! # A2, A4, A8
//! Activations are quantized at run time, per token and group of k (per token, over the whole row,
//! if weights are per channel or two-level), by DyQ-VLA (arXiv 2603.07904) Eq. 2 with zero in range
//! and rounding to nearest. The paper has floor in place of rounding, which at 2 bits has more than
//! three times the error. With `b` bits and `qmax = 2^b - 1`:
//!
//! ```text
//! lo = min(0, min x)      hi = max(0, max x)                     exact
//! sa = hi/qmax - lo/qmax                                         two divisions, one subtraction
//! inv = 1/sa                                                     one division
//! za = clamp(rint(-lo * inv), 0, qmax)                           one product; rint: ties to even
//! qa = clamp(rint(x * inv) + za, 0, qmax)                        one product
//! ```
//!
//! - If `sa < 2^-64`, the group counts as all zero: `sa = 0, za = 0, qa = 0`.
//! - If the x of a group contain a NaN or an infinity, `sa = NaN, za = 0, qa = 0`, and every output
//!   of the token is NaN.
//!
//! **Grouped.** The result of a token and channel is accumulated over groups in ascending order,
//! from `acc = +0`:
//!
//! ```text
//! d = sum qa*qw - za * sum(qw - zw) - zw * sum qa   exact, in integers, over valid k
//! acc = fma(f32(d), sa*sw, acc)                     f32(d) rounds above 2^24; one product, fma
//! y = bf16(acc + bias)                              one addition with a bias, one rounding
//! ```
//!
//! **Two-level.** One integer sum covers all of K:
//!
//! ```text
//! D = sum qa*w8 - za * sum w8                       exact, in integers, over valid k
//! y = bf16(fma(f32(D), sa*sw, bias))                one conversion, product, fma and rounding;
//!                                                   bias = +0 without a bias
//! ```
//!
//! K is at most 65,536, so that `|D| <= 255 * 127 * 65,536 < 2^31`. Partial sums may wrap modulo
//! 2^32. Any split of K, over threads or blocks, has the same bits.
//!
//! **The bits are the same on every backend, for every M, stride, thread count and tile shape**: a
//! row of y depends on one row of x only.
//!
//! # BF16 (W4A16)
//! `qw - zw` and `w8` are exact in BF16.
//!
//! **Grouped.** In each group the products `x * (qw - zw)` accumulate in f32 from zero, then `acc =
//! fma(sum, sw, acc)`, groups ascending, then `bias` and the rounding as above. On the CPU backend
//! the sum is `sum = fma(x[k], qw[k] - zw, sum)` with k ascending, with the same bits from every
//! instruction set. Tensor cores add in another order. Across backends, y before its last rounding
//! is within
//!
//! ```text
//! |y - exact| <= 2^-22 * (G + K/G) * sum_g |sw| * sum_k |x * (qw - zw)|      G k in a group, K/G groups
//! ```
//!
//! **Two-level.** The products `x * w8` accumulate in f32 from zero over all of K, then `y =
//! bf16(fma(sum, sw, bias))` with `bias = +0` without a bias. On the CPU backend the sum is `sum =
//! fma(x[k], w8[k], sum)` with k ascending, with the same bits from every instruction set. Across
//! backends, y before its last rounding is within
//!
//! ```text
//! |y - exact| <= 2^-22 * K * |sw| * sum_k |x * w8|  +  2^-24 * |y|           exact includes the bias
//! ```
//!
//! as long as no sum overflows and no result underflows. The first term: a product is exact in f32
//! (8 by 7 significant bits), and K additions of which each errs by at most `e` of the magnitude of
//! its result differ from the exact sum by at most `((1 + e)^K - 1) * sum_k |x * w8|`, in any order
//! (Higham, Accuracy and Stability of Numerical Algorithms, section 4.2). For the `fma`s of the CPU
//! (`e = 2^-24`, K at most 65,536) this is below `1.002 * K * 2^-24 * sum_k |x * w8|`. It leaves a
//! factor of four for additions that truncate and align to the largest of several products, as
//! those of tensor cores. The second term is the rounding of the last fma.
//!
//! Both are exact if all partial sums are small integers. NaN and infinities in x follow IEEE 754.
//!
//! # RMSNorm
//! One row `x[K]`, BF16 or f32, with a weight `g[K]` in BF16 and a positive `eps` in f32:
//!
//! ```text
//! s = sum x^2                                       f32, in the order below
//! r = 1 / sqrt(s / K + eps)                         two divisions, one addition, one square root
//! y = bf16((x * r) * g)                             two products, one rounding
//! ```
//!
//! The row is divided into blocks of 512 elements, the last of which may be short. Each block has
//! 64 lanes that begin with `+0`. Element `i` of a block is added to lane `i mod 64` as `lane =
//! fma(x, x, lane)`, with `i` ascending. A total of 64 lanes begins with `+0`, and the lanes of the
//! blocks are added to it, blocks ascending. Then the halves are added: `total[j] += total[j + h]`
//! for `j < h`, for `h` = 32, 16, 8, 4, 2, 1. `s` is `total[0]`. A sum that overflows makes `r` 0.
//! If a row has a NaN or an infinity, so has y.
//!
//! Of a residual connection, `h = x + a` with `a[K]` in BF16 comes first: one addition, rounded to
//! the type of x. `h` takes the place of x, also in memory.
//!
//! Frameworks whose hidden state is BF16 round `x * r` before the product with `g`. Here a result
//! has one rounding, whatever the type of x.
//!
//! # SiLU
//! `y = bf16(silu(gate) * up)` of BF16, with `silu(v) = v / (1 + exp(-v))`: one addition, one
//! division, one product, one rounding. `exp(v)` is a formula and not that of a library:
//!
//! ```text
//! v = min(max(v, -104), 89)                         e^-104 is 0 and e^89 is infinite in f32
//! n = rint(v * log2(e))                             fma(v, log2(e), 1.5 * 2^23) - 1.5 * 2^23
//! r = fma(n, -L, fma(n, -H, v))                     H = 0.693359375, L = -2.1219444e-4 = ln 2 - H
//! p = the polynomial of Cephes' expf of degree 5    fma, from the highest power down
//! e = fma(p, r * r, r) + 1
//! exp = (e * 2^(n >> 1)) * 2^(n - (n >> 1))         the first product is exact
//! ```
//!
//! `exp` is within 1.3e-7 of the result and `silu` within 2.6e-7, unless the result is below the
//! normal numbers of f32 or `v` is below -87. `silu(-infinity)` is a NaN, as by the formula.
//!
//! Quantizing such a y, in one launch or two, has the same bits: the fused operations round y to
//! BF16 before Eq. 2.
//!
//! # NaN
//! Every NaN result is stored as 0x7FFF.
//!
//! # By hand
//! One token, one output channel, one group:
//!
//! ```
//! use half::bf16;
//! use w4ax::{Grouping, MatRef, PackedWeight, Width, Scales, reference};
//! # fn main() -> w4ax::Result<()> {
//! let q = [1i8, -3]; // qw; no zero points, so zw = 0
//! let scales = Scales::F32(vec![0.5]); // sw
//! let w = PackedWeight::from_quantized(MatRef::new(&q, 1, 2)?, Grouping::G32, &scales, None)?;
//! let x = [1.0, 2.0].map(bf16::from_f32);
//! let y = reference::gemm(MatRef::new(&x, 1, 2)?, &w, Width::A2, None)?;
//!
//! let sa = 2f32 / 3.0 - 0f32 / 3.0; // hi = 2, lo = 0, qmax = 3
//! let qa = x.map(|x| (x.to_f32() * (1.0 / sa)).round_ties_even() as i32); // za = 0
//! assert_eq!(qa, [2, 3]);
//! let d = qa[0] * 1 + qa[1] * -3; // -7
//! assert_eq!(y, [bf16::from_f32((d as f32).mul_add(sa * 0.5, 0.0))]);
//! # Ok(())
//! # }
//! ```

mod rows;

pub(crate) use rows::{Element, add_row, rms_norm_row, silu_mul_row};
pub use rows::{exp, silu, sum_of_squares};

use half::bf16;

/// The parameters of the quantized activations of one token and group.
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct TokenGroup {
    /// `sa`: the step. 0 if the group counts as all zero, NaN if it contains a NaN or an infinity.
    pub scale: f32,
    /// `za`: the code of zero, in [0, qmax].
    pub zero: i32,
    /// `sum qa` over the group's valid k.
    pub sum: i32,
}

/// The step (2^-64) below which a group counts as all zero.
const SMALLEST_STEP: f32 = f32::from_bits((127 - 64) << 23);

/// The quantization grid of the activations of one token and group: the step of Eq. 2, its inverse,
/// and the code of zero.
///
/// The code is plain Rust that vectorizes. The CPU backend instantiates it for each instruction
/// set, with the same bits.
#[derive(Clone, Copy)]
pub(crate) struct ActivationGrid {
    step: f32,
    /// 0 if every code is 0.
    inverse: f32,
    zero: f32,
    qmax: f32,
}

impl ActivationGrid {
    /// The grid of all valid activations of a group.
    #[inline(always)]
    pub fn of(x: &[bf16], qmax: u8) -> Self {
        // BF16 values as sign-and-magnitude integers have the order of their bits. A comparison of
        // floats would drop a NaN.
        let (mut least, mut most, mut magnitude) = (0i16, 0i16, 0u16);
        for v in x {
            let bits = v.to_bits() as i16;
            let ordered = bits ^ ((bits >> 15) & 0x7FFF);
            least = least.min(ordered);
            most = most.max(ordered);
            magnitude = magnitude.max(bits as u16 & 0x7FFF);
        }
        let unordered = |v: i16| bf16::from_bits((v ^ ((v >> 15) & 0x7FFF)) as u16).to_f32();
        let finite = magnitude < 0x7F80;
        let qmax = f32::from(qmax);
        let (lo, hi) = (unordered(least), unordered(most));
        let step = hi / qmax - lo / qmax;
        if !finite || step < SMALLEST_STEP {
            return Self {
                step: if finite { 0.0 } else { f32::NAN },
                inverse: 0.0,
                zero: 0.0,
                qmax,
            };
        }
        let inverse = 1.0 / step;
        Self {
            step,
            inverse,
            zero: (-lo * inverse).round_ties_even().clamp(0.0, qmax),
            qmax,
        }
    }

    /// The parameters of activations that are not quantized: their sums are multiplied with
    /// `factor`.
    #[inline(always)]
    pub fn plain(factor: f32) -> Self {
        Self {
            step: factor,
            inverse: 0.0,
            zero: 0.0,
            qmax: 0.0,
        }
    }

    /// Writes the codes of activations of the group to `q`, and returns their sum.
    #[inline(always)]
    pub fn encode(&self, x: &[bf16], q: &mut [u8]) -> i32 {
        debug_assert_eq!(x.len(), q.len());
        if self.inverse == 0.0 {
            q.fill(0);
            return 0;
        }
        let mut sum = 0i32;
        for (q, v) in q.iter_mut().zip(x) {
            // Both terms are small integers: the addition in f32 is exact.
            let code = (widen(*v) * self.inverse).round_ties_even() + self.zero;
            let code = code.clamp(0.0, self.qmax);
            // SAFETY: the value is clamped to 0..=255 and is not NaN, because the parameters of the
            // grid are finite here.
            let code = unsafe { code.to_int_unchecked::<i32>() };
            *q = code as u8;
            sum += code;
        }
        sum
    }

    /// The parameters of a group whose codes sum to `sum`.
    #[inline(always)]
    pub fn params(&self, sum: i32) -> TokenGroup {
        TokenGroup {
            scale: self.step,
            zero: self.zero as i32,
            sum,
        }
    }
}

/// Quantizes the valid activations of one token and group.
pub(crate) fn quantize_group(x: &[bf16], qmax: u8, q: &mut [u8]) -> TokenGroup {
    let grid = ActivationGrid::of(x, qmax);
    let sum = grid.encode(x, q);
    grid.params(sum)
}

/// Converts BF16 to f32, exactly. A signaling NaN stays signaling, which no result shows.
#[inline(always)]
pub(crate) fn widen(v: bf16) -> f32 {
    f32::from_bits(u32::from(v.to_bits()) << 16)
}

/// Rounds a result to BF16. Every NaN becomes 0x7FFF.
#[inline(always)]
pub(crate) fn round_to_bf16(v: f32) -> bf16 {
    // Round to nearest even in integers, which vectorizes.
    let bits = v.to_bits();
    let rounded = bits.wrapping_add(0x7FFF + ((bits >> 16) & 1)) >> 16;
    bf16::from_bits(if v.is_nan() { 0x7FFF } else { rounded as u16 })
}
