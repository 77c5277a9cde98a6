//! AVX2 and FMA: 8 rows a vector, `maddubs` on plain weights for integers, `fmadd` for floats.

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
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn columns(job: &Job<'_>, blocks: Range<usize>, scratch: &mut Scratch) {
    // SAFETY: passed on.
    unsafe { gemm::columns::<Integer, Float>(job, blocks, scratch) }
}

/// [`gemm::quantize_row`] for this instruction set.
///
/// # Safety
/// The machine has the instruction set.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn quantize_row(
    x: &[bf16],
    grouping: Grouping,
    qmax: u8,
    codes: &mut [u8],
    groups: &mut [TokenGroup],
) {
    gemm::quantize_row(x, grouping, qmax, codes, groups);
}

/// Half `half` of four g of a tile from `g` on, lanes t = 2 pair and 2 pair + 1 in 128 bits each: rows g.. (even words) and
/// rows g + 8.. (odd ones).
///
/// A function, not a closure: a closure would be compiled without the instruction set.
///
/// # Safety
/// The machine has the instruction set; `g` is 0 or 4, `pair` 0 or 1.
#[inline(always)]
unsafe fn turn_four(tile: &Tile, half: usize, g: usize, pair: usize) -> [__m256i; 2] {
    // SAFETY: sixteen vectors of 32 bytes are one tile; the rest is arithmetic.
    unsafe {
        let from = tile.0.as_ptr().add(16 * g + 8 * pair);
        let a = _mm256_load_si256(from.cast());
        let b = _mm256_load_si256(from.add(16).cast());
        let c = _mm256_load_si256(from.add(32).cast());
        let d = _mm256_load_si256(from.add(48).cast());
        let (ab, cd) = if half == 0 {
            (_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d))
        } else {
            (_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d))
        };
        [_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd)]
    }
}

/// Half `half` of a tile, turned: `[t][rows 0-7, rows 8-15]`, each lane the word of lane (g = row & 7, t).
///
/// # Safety
/// The machine has the instruction set.
#[inline(always)]
unsafe fn turn(tile: &Tile, half: usize) -> [[__m256i; 2]; 4] {
    // SAFETY: as `turn_four`.
    unsafe {
        let mut turned = [[_mm256_setzero_si256(); 2]; 4];
        for pair in 0..2 {
            let low = turn_four(tile, half, 0, pair);
            let high = turn_four(tile, half, 4, pair);
            for rows in 0..2 {
                turned[2 * pair][rows] = _mm256_permute2x128_si256::<0x20>(low[rows], high[rows]);
                turned[2 * pair + 1][rows] =
                    _mm256_permute2x128_si256::<0x31>(low[rows], high[rows]);
            }
        }
        turned
    }
}

/// Runs `$block::<T>` over `$tokens` tokens in blocks of 4, 2 and 1.
macro_rules! by_tokens {
    ($tokens:ident, $done:ident, $block:ident, $call:tt) => {
        let mut $done = 0;
        while $tokens - $done >= 4 {
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

/// u8 codes times plain `qw`: `maddubs` adds two products to i16, at most 2 * 255 * 8, which does not saturate; `16 * qw`
/// would. Panel: `[quad][row][4]`.
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
    // SAFETY: as `Kernel::dot`, with T tokens. One tile of rows at a time: T * 2 sums fit the 16 registers.
    unsafe {
        let ones = _mm256_set1_epi16(1);
        for i in 0..NT {
            let at = |token: usize, half: usize| sums.add((token * NT + i) * TILE_N + 8 * half);
            let mut sum = [[_mm256_setzero_si256(); 2]; T];
            if resume {
                for (token, sum) in sum.iter_mut().enumerate() {
                    for (half, sum) in sum.iter_mut().enumerate() {
                        *sum = _mm256_loadu_si256(at(token, half).cast());
                    }
                }
            }
            for quad in 0..quads {
                let from = panel.add(64 * (quad * NT + i));
                let w = [
                    _mm256_loadu_si256(from.cast()),
                    _mm256_loadu_si256(from.add(32).cast()),
                ];
                for (token, sum) in sum.iter_mut().enumerate() {
                    let codes = x.add(token * stride + 4 * quad).cast::<i32>();
                    let codes = _mm256_set1_epi32(codes.read_unaligned());
                    for (sum, w) in sum.iter_mut().zip(w) {
                        let pairs = _mm256_maddubs_epi16(codes, w);
                        *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, ones));
                    }
                }
            }
            for (token, sum) in sum.iter().enumerate() {
                for (half, sum) in sum.iter().enumerate() {
                    _mm256_storeu_si256(at(token, half).cast(), *sum);
                }
            }
        }
    }
}

impl Kernel for Integer {
    type Activation = u8;
    type Panel = i8;
    type Sum = i32;
    const TOKENS: usize = 4;

    #[inline(always)]
    unsafe fn unpack<const NT: usize>(
        tiles: [&Tile; NT],
        half: usize,
        _: &Beside<NT>,
        panel: *mut i8,
    ) {
        // SAFETY: the panel holds 8 quads of NT * 2 vectors.
        unsafe {
            let low = _mm256_set1_epi8(0x0F);
            // A nibble's value, looked up: sign extension in one step.
            let values = _mm256_broadcastsi128_si256(_mm_setr_epi8(
                0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1,
            ));
            for (i, tile) in tiles.into_iter().enumerate() {
                for (t, words) in turn(tile, half).into_iter().enumerate() {
                    for (rows, words) in words.into_iter().enumerate() {
                        let even = _mm256_and_si256(words, low);
                        let odd = _mm256_and_si256(_mm256_srli_epi32::<4>(words), low);
                        let to = panel.add(64 * (2 * t * NT + i) + 32 * rows);
                        _mm256_storeu_si256(to.cast(), _mm256_shuffle_epi8(values, even));
                        let to = to.add(64 * NT);
                        _mm256_storeu_si256(to.cast(), _mm256_shuffle_epi8(values, odd));
                    }
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
        // SAFETY: 8 rows a vector; the pointers reach `tokens` tokens.
        unsafe {
            for part in 0..2 * NT {
                let (i, row) = (part / 2, part % 2 * 8);
                let scale = _mm256_loadu_ps(beside.scale[i][row..].as_ptr());
                let zero = _mm256_loadu_si256(beside.zero[i][row..].as_ptr().cast());
                let weights = _mm256_loadu_si256(beside.sum[i][row..].as_ptr().cast());
                for token in 0..tokens {
                    let group = &*groups.add(token * stride);
                    let at = token * NT * TILE_N + 8 * part;
                    let sum = _mm256_loadu_si256(sums.add(at).cast());
                    let za = _mm256_mullo_epi32(_mm256_set1_epi32(group.zero), weights);
                    let zw = _mm256_mullo_epi32(_mm256_set1_epi32(group.sum), zero);
                    let d = _mm256_sub_epi32(_mm256_sub_epi32(sum, za), zw);
                    let step = _mm256_mul_ps(_mm256_set1_ps(group.scale), scale);
                    let acc = acc.add(at);
                    let next = _mm256_fmadd_ps(_mm256_cvtepi32_ps(d), step, _mm256_loadu_ps(acc));
                    _mm256_storeu_ps(acc, next);
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
        for i in 0..NT {
            let at = |token: usize, half: usize| sums.add((token * NT + i) * TILE_N + 8 * half);
            let mut sum = [[_mm256_setzero_ps(); 2]; T];
            if resume {
                for (token, sum) in sum.iter_mut().enumerate() {
                    for (half, sum) in sum.iter_mut().enumerate() {
                        *sum = _mm256_loadu_ps(at(token, half));
                    }
                }
            }
            for k in 0..k {
                let from = panel.add(16 * (k * NT + i));
                let w = [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))];
                for (token, sum) in sum.iter_mut().enumerate() {
                    let x = _mm256_set1_ps(*x.add(token * stride + k));
                    for (sum, w) in sum.iter_mut().zip(w) {
                        *sum = _mm256_fmadd_ps(x, w, *sum);
                    }
                }
            }
            for (token, sum) in sum.iter().enumerate() {
                for (half, sum) in sum.iter().enumerate() {
                    _mm256_storeu_ps(at(token, half), *sum);
                }
            }
        }
    }
}

impl Kernel for Float {
    type Activation = f32;
    type Panel = f32;
    type Sum = f32;
    const TOKENS: usize = 4;

    #[inline(always)]
    unsafe fn unpack<const NT: usize>(
        tiles: [&Tile; NT],
        half: usize,
        beside: &Beside<NT>,
        panel: *mut f32,
    ) {
        // SAFETY: the panel holds 32 k of NT * 2 vectors.
        unsafe {
            for (i, tile) in tiles.into_iter().enumerate() {
                for (t, words) in turn(tile, half).into_iter().enumerate() {
                    for (rows, words) in words.into_iter().enumerate() {
                        let zero = beside.zero[i][8 * rows..].as_ptr();
                        let zero = _mm256_loadu_si256(zero.cast());
                        for nibble in 0..8 {
                            // The nibble moves to the top; the arithmetic shift brings it back with its sign.
                            let up = _mm_cvtsi32_si128(28 - 4 * nibble);
                            let q = _mm256_srai_epi32::<28>(_mm256_sll_epi32(words, up));
                            let w = _mm256_cvtepi32_ps(_mm256_sub_epi32(q, zero));
                            let nibble = nibble as usize;
                            let k =
                                16 * ((nibble >> 1) & 1) + 8 * (nibble & 1) + 2 * t + (nibble >> 2);
                            _mm256_storeu_ps(panel.add(16 * (k * NT + i) + 8 * rows), w);
                        }
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
        // SAFETY: 8 rows a vector; the pointers reach `tokens` tokens.
        unsafe {
            for part in 0..2 * NT {
                let scale = beside.scale[part / 2][part % 2 * 8..].as_ptr();
                let scale = _mm256_loadu_ps(scale);
                for token in 0..tokens {
                    let at = token * NT * TILE_N + 8 * part;
                    let acc = acc.add(at);
                    let sum = _mm256_loadu_ps(sums.add(at));
                    _mm256_storeu_ps(acc, _mm256_fmadd_ps(sum, scale, _mm256_loadu_ps(acc)));
                }
            }
        }
    }
}
