//! AVX-512 with VNNI: 16 rows a vector, `dpbusd` for integers, `fmadd` for floats.

use super::gemm::{self, Job};
use super::kernel::{Beside, Kernel};
use super::workspace::Scratch;
use crate::Grouping;
use crate::numerics::TokenGroup;
use crate::weights::layout::{TILE_N, Tile};
use half::bf16;
use std::arch::x86_64::*;
use std::ops::Range;

/// # Safety
/// The machine has the instruction set; no other call writes the same rows of W's result.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn columns(job: &Job<'_>, blocks: Range<usize>, scratch: &mut Scratch) {
    // SAFETY: passed on.
    unsafe { gemm::columns::<Integer, Float>(job, blocks, scratch) }
}

/// [`gemm::quantize_row`] for this instruction set.
///
/// # Safety
/// The machine has the instruction set.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn quantize_row(
    x: &[bf16],
    grouping: Grouping,
    qmax: u8,
    codes: &mut [u8],
    groups: &mut [TokenGroup],
) {
    gemm::quantize_row(x, grouping, qmax, codes, groups);
}

/// Half `half` of four g of a tile from `g` on, `[t]` lanes of 128 bits: rows g.. (even words) and rows g + 8.. (odd ones).
///
/// A function, not a closure: a closure would be compiled without the instruction set.
///
/// # Safety
/// The machine has the instruction set; `g` is 0 or 4.
#[inline(always)]
unsafe fn turn_four(tile: &Tile, half: usize, g: usize) -> [__m512i; 2] {
    // SAFETY: eight vectors of 64 bytes are one tile; the rest is arithmetic.
    unsafe {
        let from = tile.0.as_ptr().add(16 * g);
        let a = _mm512_load_si512(from.cast());
        let b = _mm512_load_si512(from.add(16).cast());
        let c = _mm512_load_si512(from.add(32).cast());
        let d = _mm512_load_si512(from.add(48).cast());
        let (ab, cd) = if half == 0 {
            (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d))
        } else {
            (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d))
        };
        [_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd)]
    }
}

/// Half `half` of a tile, turned: vector t holds, for each of the 16 rows, the word of lane (g = row & 7, t).
///
/// # Safety
/// The machine has the instruction set.
#[inline(always)]
unsafe fn turn(tile: &Tile, half: usize) -> [__m512i; 4] {
    // SAFETY: as `turn_four`.
    unsafe {
        let ([low0, high0], [low1, high1]) = (turn_four(tile, half, 0), turn_four(tile, half, 4));
        // Rows 0-3, 4-7, 8-11, 12-15 of lane t stand in the t-th 128 bits of the four: transpose 4 x 4.
        let a = _mm512_shuffle_i32x4::<0x44>(low0, low1);
        let b = _mm512_shuffle_i32x4::<0xEE>(low0, low1);
        let c = _mm512_shuffle_i32x4::<0x44>(high0, high1);
        let d = _mm512_shuffle_i32x4::<0xEE>(high0, high1);
        [
            _mm512_shuffle_i32x4::<0x88>(a, c),
            _mm512_shuffle_i32x4::<0xDD>(a, c),
            _mm512_shuffle_i32x4::<0x88>(b, d),
            _mm512_shuffle_i32x4::<0xDD>(b, d),
        ]
    }
}

/// Runs `$block::<T, NT>` over `$tokens` tokens in blocks of 12, 8, 4, 2 and 1.
macro_rules! by_tokens {
    ($tokens:ident, $done:ident, $block:ident, $call:tt) => {
        let mut $done = 0;
        while $tokens - $done >= 12 {
            $block::<12, NT> $call;
            $done += 12;
        }
        while $tokens - $done >= 8 {
            $block::<8, NT> $call;
            $done += 8;
        }
        if $tokens - $done >= 4 {
            $block::<4, NT> $call;
            $done += 4;
        }
        if $tokens - $done >= 2 {
            $block::<2, NT> $call;
            $done += 2;
        }
        if $tokens - $done >= 1 {
            $block::<1, NT> $call;
        }
    };
}

/// u8 codes times `16 * qw` in i32: `dpbusd` does not saturate, and 65,536 * 255 * 128 fits. Panel: `[quad][row][4]`.
struct Integer;

#[inline(always)]
unsafe fn dot_integer<const T: usize, const NT: usize>(
    panel: *const i8,
    quads: usize,
    x: *const u8,
    stride: usize,
    sums: *mut i32,
    resume: bool,
) {
    // SAFETY: as `Kernel::dot`, with T tokens.
    unsafe {
        let mut sum = [[_mm512_setzero_si512(); NT]; T];
        if resume {
            for (at, sum) in sum.as_flattened_mut().iter_mut().enumerate() {
                *sum = _mm512_loadu_si512(sums.add(16 * at).cast());
            }
        }
        for quad in 0..quads {
            let mut w = [_mm512_setzero_si512(); NT];
            for (i, w) in w.iter_mut().enumerate() {
                *w = _mm512_loadu_si512(panel.add(64 * (quad * NT + i)).cast());
            }
            for (token, sum) in sum.iter_mut().enumerate() {
                let codes = x.add(token * stride + 4 * quad).cast::<i32>();
                let codes = _mm512_set1_epi32(codes.read_unaligned());
                for (sum, w) in sum.iter_mut().zip(w) {
                    *sum = _mm512_dpbusd_epi32(*sum, codes, w);
                }
            }
        }
        for (at, sum) in sum.as_flattened().iter().enumerate() {
            _mm512_storeu_si512(sums.add(16 * at).cast(), *sum);
        }
    }
}

impl Kernel for Integer {
    type Activation = u8;
    type Panel = i8;
    type Sum = i32;
    const TOKENS: usize = 12;

    #[inline(always)]
    unsafe fn unpack<const NT: usize>(
        tiles: [&Tile; NT],
        half: usize,
        _: &Beside<NT>,
        panel: *mut i8,
    ) {
        // SAFETY: the panel holds 8 quads of NT vectors.
        unsafe {
            let mask = _mm512_set1_epi8(0xF0u8 as i8);
            for (i, tile) in tiles.into_iter().enumerate() {
                for (t, words) in turn(tile, half).into_iter().enumerate() {
                    let even = _mm512_and_si512(_mm512_slli_epi32::<4>(words), mask);
                    let odd = _mm512_and_si512(words, mask);
                    let to = panel.add(64 * (2 * t * NT + i));
                    _mm512_storeu_si512(to.cast(), even);
                    _mm512_storeu_si512(to.add(64 * NT).cast(), odd);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn dot<const NT: usize>(
        panel: *const i8,
        k: usize,
        x: *const u8,
        stride: usize,
        tokens: usize,
        sums: *mut i32,
        resume: bool,
    ) {
        // SAFETY: the blocks take the tokens one after another.
        unsafe {
            by_tokens!(
                tokens,
                done,
                dot_integer,
                (
                    panel,
                    k / 4,
                    x.add(done * stride),
                    stride,
                    sums.add(done * NT * TILE_N),
                    resume
                )
            );
        }
    }

    #[inline(always)]
    unsafe fn rescale<const NT: usize>(
        sums: *const i32,
        tokens: usize,
        groups: *const TokenGroup,
        stride: usize,
        beside: &Beside<NT>,
        acc: *mut f32,
    ) {
        // SAFETY: 16 rows a vector; the pointers reach `tokens` tokens.
        unsafe {
            for i in 0..NT {
                let scale = _mm512_loadu_ps(beside.scale[i].as_ptr());
                let zero = _mm512_loadu_si512(beside.zero[i].as_ptr().cast());
                let weights = _mm512_loadu_si512(beside.sum[i].as_ptr().cast());
                for token in 0..tokens {
                    let group = &*groups.add(token * stride);
                    let at = (token * NT + i) * TILE_N;
                    // 16 * sum qa*qw, exactly.
                    let sum = _mm512_srai_epi32::<4>(_mm512_loadu_si512(sums.add(at).cast()));
                    let za = _mm512_mullo_epi32(_mm512_set1_epi32(group.zero), weights);
                    let zw = _mm512_mullo_epi32(_mm512_set1_epi32(group.sum), zero);
                    let d = _mm512_sub_epi32(_mm512_sub_epi32(sum, za), zw);
                    let step = _mm512_mul_ps(_mm512_set1_ps(group.scale), scale);
                    let acc = acc.add(at);
                    let next = _mm512_fmadd_ps(_mm512_cvtepi32_ps(d), step, _mm512_loadu_ps(acc));
                    _mm512_storeu_ps(acc, next);
                }
            }
        }
    }
}

/// f32 activations times `qw - zw`, k ascending. Panel: `[k][row]`.
struct Float;

#[inline(always)]
unsafe fn dot_float<const T: usize, const NT: usize>(
    panel: *const f32,
    k: usize,
    x: *const f32,
    stride: usize,
    sums: *mut f32,
    resume: bool,
) {
    // SAFETY: as `Kernel::dot`, with T tokens.
    unsafe {
        let mut sum = [[_mm512_setzero_ps(); NT]; T];
        if resume {
            for (at, sum) in sum.as_flattened_mut().iter_mut().enumerate() {
                *sum = _mm512_loadu_ps(sums.add(16 * at));
            }
        }
        for k in 0..k {
            let mut w = [_mm512_setzero_ps(); NT];
            for (i, w) in w.iter_mut().enumerate() {
                *w = _mm512_loadu_ps(panel.add(16 * (k * NT + i)));
            }
            for (token, sum) in sum.iter_mut().enumerate() {
                let x = _mm512_set1_ps(*x.add(token * stride + k));
                for (sum, w) in sum.iter_mut().zip(w) {
                    *sum = _mm512_fmadd_ps(x, w, *sum);
                }
            }
        }
        for (at, sum) in sum.as_flattened().iter().enumerate() {
            _mm512_storeu_ps(sums.add(16 * at), *sum);
        }
    }
}

impl Kernel for Float {
    type Activation = f32;
    type Panel = f32;
    type Sum = f32;
    const TOKENS: usize = 12;

    #[inline(always)]
    unsafe fn unpack<const NT: usize>(
        tiles: [&Tile; NT],
        half: usize,
        beside: &Beside<NT>,
        panel: *mut f32,
    ) {
        // SAFETY: the panel holds 32 k of NT vectors.
        unsafe {
            // `permutexvar` looks at the low four bits of a lane only: an INT4 becomes its f32 in one step.
            let values = _mm512_setr_ps(
                0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, -8.0, -7.0, -6.0, -5.0, -4.0, -3.0, -2.0,
                -1.0,
            );
            for (i, tile) in tiles.into_iter().enumerate() {
                let zero = _mm512_loadu_si512(beside.zero[i].as_ptr().cast());
                let zero = _mm512_cvtepi32_ps(zero);
                for (t, words) in turn(tile, half).into_iter().enumerate() {
                    for nibble in 0..8 {
                        let k = 16 * ((nibble >> 1) & 1) + 8 * (nibble & 1) + 2 * t + (nibble >> 2);
                        let down = _mm_cvtsi32_si128(4 * nibble as i32);
                        let words = _mm512_srl_epi32(words, down);
                        let w = _mm512_sub_ps(_mm512_permutexvar_ps(words, values), zero);
                        _mm512_storeu_ps(panel.add(16 * (k * NT + i)), w);
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn dot<const NT: usize>(
        panel: *const f32,
        k: usize,
        x: *const f32,
        stride: usize,
        tokens: usize,
        sums: *mut f32,
        resume: bool,
    ) {
        // SAFETY: the blocks take the tokens one after another.
        unsafe {
            by_tokens!(
                tokens,
                done,
                dot_float,
                (
                    panel,
                    k,
                    x.add(done * stride),
                    stride,
                    sums.add(done * NT * TILE_N),
                    resume
                )
            );
        }
    }

    #[inline(always)]
    unsafe fn rescale<const NT: usize>(
        sums: *const f32,
        tokens: usize,
        _: *const TokenGroup,
        _: usize,
        beside: &Beside<NT>,
        acc: *mut f32,
    ) {
        // SAFETY: 16 rows a vector; the pointers reach `tokens` tokens.
        unsafe {
            for i in 0..NT {
                let scale = _mm512_loadu_ps(beside.scale[i].as_ptr());
                for token in 0..tokens {
                    let at = (token * NT + i) * TILE_N;
                    let acc = acc.add(at);
                    let sum = _mm512_loadu_ps(sums.add(at));
                    _mm512_storeu_ps(acc, _mm512_fmadd_ps(sum, scale, _mm512_loadu_ps(acc)));
                }
            }
        }
    }
}
