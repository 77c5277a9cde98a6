//! The microkernels for AVX-512 with VNNI, and with BF16: a vector holds 16 rows.
//!
//! Every product instruction takes a 4-byte word of a token, broadcast, and the words of 16 rows:
//! `dpbusd` four codes, `dpbf16ps` two BF16, `fmadd` one f32. The loop around them, [`multiply`],
//! is the same.

mod bf16_pairs;
mod float;
mod gemv;
mod gemv_two_level;
mod integer;

pub(in crate::cpu) use bf16_pairs::multiplies_pairs_in_order;

use crate::PackedWeight;
use crate::cpu::microkernel::NR;
use crate::cpu::microkernel::{Arch, Task};
use crate::cpu::microkernel::{DirectGroup, MicroTile, Microkernel};
use crate::cpu::params::{GroupParams, StepParams, TokenParams};
use crate::weights::layout::Tile;
use crate::weights::{GroupSums, Scales};
use std::arch::x86_64::*;
use std::marker::PhantomData;

pub(in crate::cpu) struct Avx512Vnni;

impl Arch for Avx512Vnni {
    type Integer<const TWO_LEVEL: bool> = Vectorized<integer::Codes<TWO_LEVEL>>;
    type Float<const TWO_LEVEL: bool> = Vectorized<float::Floats<TWO_LEVEL>>;
    type Gemv = gemv::CodesGemv;
    type TwoLevelGemv = gemv_two_level::CodesGemv;

    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn enter<T: Task>(task: T) -> T::Output {
        // SAFETY: the caller's promise.
        unsafe { task.run::<Self>() }
    }
}

pub(in crate::cpu) struct Avx512Bf16;

impl Arch for Avx512Bf16 {
    type Integer<const TWO_LEVEL: bool> = Vectorized<integer::Codes<TWO_LEVEL>>;
    type Float<const TWO_LEVEL: bool> = Vectorized<bf16_pairs::Pairs<TWO_LEVEL>>;
    type Gemv = gemv::CodesGemv;
    type TwoLevelGemv = gemv_two_level::CodesGemv;

    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni,avx512bf16")]
    unsafe fn enter<T: Task>(task: T) -> T::Output {
        // SAFETY: the caller's promise.
        unsafe { task.run::<Self>() }
    }
}

/// The operations in which the microkernels differ. Sums are 16 lanes of i32 or f32.
///
/// # Safety
/// All methods: the machine supports the instruction set.
trait VectorOps {
    const K_PER_WORD: usize;

    /// Whether the weight is two-level.
    const TWO_LEVEL: bool;

    /// As [`Microkernel::MAX_DIRECT`].
    const MAX_DIRECT: usize = 0;

    /// As [`Microkernel::direct`].
    unsafe fn direct(_: DirectGroup<'_>) {
        unreachable!("MAX_DIRECT is 0");
    }

    /// Unpacks 32 k of one tile, transposed by [`transpose`], into 16 rows of a panel `[word][NR]`,
    /// from `panel` on.
    unsafe fn unpack(words: [__m512i; 4], params: UnpackParams<'_>, panel: *mut u32);

    /// `sum + x * w`: adds the products of a word.
    unsafe fn multiply_add(sum: __m512i, x: __m512i, w: __m512i) -> __m512i;

    /// `fma(value of the group, scale of the group, acc)` of 16 rows.
    unsafe fn rescale(sum: __m512i, token: &TokenParams, params: &RowParams, acc: __m512)
    -> __m512;
}

/// The parameters by which 16 rows are unpacked.
#[derive(Clone, Copy)]
struct UnpackParams<'a> {
    /// `zw`, or `zg` of a two-level weight, `[16]`.
    zero: &'a [i32],
    /// The fields of [`StepParams`], `[16]`. Only of a two-level weight.
    step_pair: &'a [u32],
    offset_bytes: &'a [u32],
    step_f32: &'a [f32],
    offset_f32: &'a [f32],
}

impl<'a> UnpackParams<'a> {
    /// The parameters of rows `row..row + 16`, with the zero points of `zero`.
    #[inline(always)]
    fn of(zero: &'a [i32; NR], steps: &'a StepParams, row: usize) -> Self {
        Self {
            zero: &zero[row..][..16],
            step_pair: &steps.step_pair[row..][..16],
            offset_bytes: &steps.offset_bytes[row..][..16],
            step_f32: &steps.step_f32[row..][..16],
            offset_f32: &steps.offset_f32[row..][..16],
        }
    }
}

/// Loads 16 numbers of 32 bits.
///
/// # Safety
/// The machine supports the instruction set.
#[inline(always)]
unsafe fn load_512<T: bytemuck::Pod>(from: &[T]) -> __m512i {
    assert!(size_of_val(from) == 64);
    // SAFETY: 64 bytes (asserted).
    unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
}

/// The parameters of 16 rows ([`GroupParams`]) in registers.
struct RowParams {
    scale: __m512,
    /// Valid unless `narrow`.
    zero: __m512i,
    /// Valid unless `narrow`.
    sum: __m512i,
    /// Valid if `narrow`.
    pair: __m512i,
    narrow: bool,
}

impl RowParams {
    /// Loads rows `row..row + 16` of `block`.
    ///
    /// # Safety
    /// The machine supports the instruction set; `row` is 0 or 16.
    #[inline(always)]
    unsafe fn of(block: &GroupParams, row: usize) -> Self {
        // SAFETY: 16 rows from `row` on are within the block.
        unsafe {
            Self {
                scale: _mm512_loadu_ps(block.scale.as_ptr().add(row)),
                zero: _mm512_loadu_si512(block.zero.as_ptr().add(row).cast()),
                sum: _mm512_loadu_si512(block.sum.as_ptr().add(row).cast()),
                pair: _mm512_loadu_si512(block.pair.as_ptr().add(row).cast()),
                narrow: block.narrow,
            }
        }
    }

    /// Loads 16 rows from index `at` of the tiled scales.
    ///
    /// # Safety
    /// The machine supports the instruction set.
    #[inline(always)]
    unsafe fn load(w: &PackedWeight, at: usize) -> Self {
        let rows = at..at + 16;
        // SAFETY: every slice of `rows` has 16 elements, or indexing has panicked.
        unsafe {
            let zero = match w.sum_zeros() {
                Some(v) => _mm512_cvtepi8_epi32(_mm_loadu_si128(v[rows.clone()].as_ptr().cast())),
                None => _mm512_setzero_si512(),
            };
            let scale = match w.tiled_scales() {
                Scales::F32(v) => _mm512_loadu_ps(v[rows.clone()].as_ptr()),
                Scales::F16(v) => _mm512_cvtph_ps(load_256(&v[rows.clone()])),
                Scales::Bf16(v) => {
                    let v = _mm512_cvtepu16_epi32(load_256(&v[rows.clone()]));
                    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(v))
                }
            };
            let (sum, pair, narrow) = match w.tiled_sums() {
                GroupSums::PerChannel(v) => {
                    let sum = _mm512_loadu_si512(v[rows].as_ptr().cast());
                    (sum, _mm512_setzero_si512(), false)
                }
                GroupSums::Grouped(v) => {
                    let sum = _mm512_cvtepu16_epi32(load_256(&v[rows]));
                    let pair = _mm512_or_si512(sum, _mm512_slli_epi32::<16>(zero));
                    (_mm512_setzero_si512(), pair, true)
                }
            };
            Self {
                scale,
                zero,
                sum,
                pair,
                narrow,
            }
        }
    }
}

/// Loads 16 elements of 16 bits.
///
/// # Safety
/// The machine supports the instruction set.
#[inline(always)]
unsafe fn load_256<T: bytemuck::Pod>(from: &[T]) -> __m256i {
    assert!(size_of_val(from) == 32);
    // SAFETY: 32 bytes (asserted).
    unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
}

/// The microkernel of an implementation of [`VectorOps`].
pub(in crate::cpu) struct Vectorized<V>(PhantomData<V>);

impl<V: VectorOps> Microkernel for Vectorized<V> {
    const K_PER_WORD: usize = V::K_PER_WORD;
    const MAX_DIRECT: usize = V::MAX_DIRECT;

    #[inline(always)]
    unsafe fn direct(group: DirectGroup<'_>) {
        // SAFETY: the caller's promise.
        unsafe { V::direct(group) }
    }

    #[inline(always)]
    unsafe fn load_params(params: &mut GroupParams, w: &PackedWeight, at: usize, row: usize) {
        let (scale, zero) = (
            &mut params.scale[row..][..16],
            &mut params.zero[row..][..16],
        );
        let (sum, pair) = (&mut params.sum[row..][..16], &mut params.pair[row..][..16]);
        // SAFETY: 16 elements each.
        unsafe {
            let rows = RowParams::load(w, at);
            _mm512_storeu_ps(scale.as_mut_ptr(), rows.scale);
            _mm512_storeu_si512(zero.as_mut_ptr().cast(), rows.zero);
            _mm512_storeu_si512(sum.as_mut_ptr().cast(), rows.sum);
            _mm512_storeu_si512(pair.as_mut_ptr().cast(), rows.pair);
            params.narrow = rows.narrow;
        }
    }

    #[inline(always)]
    unsafe fn unpack(
        tiles: [&Tile; 2],
        half: usize,
        params: &GroupParams,
        segment: usize,
        panel: &mut [u32],
    ) {
        assert!(panel.len() == 32 / V::K_PER_WORD * NR);
        for (i, tile) in tiles.into_iter().enumerate() {
            // SAFETY: the panel has the length that `unpack` needs (asserted).
            unsafe {
                let to = panel.as_mut_ptr().add(16 * i);
                let steps = params.steps_of(segment);
                let zero = match V::TWO_LEVEL {
                    false => &params.zero,
                    true => &steps.zero,
                };
                let params = UnpackParams::of(zero, steps, 16 * i);
                V::unpack(transpose(tile, half), params, to);
            }
        }
    }

    #[inline(always)]
    unsafe fn multiply(micro: MicroTile<'_>) {
        // SAFETY: the caller's promise.
        unsafe {
            match micro.check() {
                1 => multiply::<V, 1>(micro),
                2 => multiply::<V, 2>(micro),
                3 => multiply::<V, 3>(micro),
                4 => multiply::<V, 4>(micro),
                5 => multiply::<V, 5>(micro),
                6 => multiply::<V, 6>(micro),
                7 => multiply::<V, 7>(micro),
                8 => multiply::<V, 8>(micro),
                9 => multiply::<V, 9>(micro),
                10 => multiply::<V, 10>(micro),
                11 => multiply::<V, 11>(micro),
                12 => multiply::<V, 12>(micro),
                _ => unreachable!("MR is 12"),
            }
        }
    }
}

/// Multiplies `T` tokens. The 2 * T accumulators, two vectors of weights and a broadcast word stay
/// in registers.
///
/// # Safety
/// The machine supports the instruction set; the operands are checked and have `T` tokens.
#[inline(always)]
unsafe fn multiply<V: VectorOps, const T: usize>(micro: MicroTile<'_>) {
    // SAFETY: `check` has checked the lengths of all slices.
    unsafe {
        let mut sum = [[_mm512_setzero_si512(); 2]; T];
        let sums = micro.sums.as_mut_ptr();
        if micro.resume {
            for (at, sum) in sum.as_flattened_mut().iter_mut().enumerate() {
                *sum = _mm512_loadu_si512(sums.add(16 * at).cast());
            }
        }
        let (mut panel, mut x) = (micro.panel.as_ptr(), micro.x.as_ptr());
        for _ in 0..micro.panel.len() / NR {
            let low = _mm512_loadu_si512(panel.cast());
            let high = _mm512_loadu_si512(panel.add(16).cast());
            for (token, sum) in sum.iter_mut().enumerate() {
                let x = _mm512_set1_epi32(*x.add(token) as i32);
                sum[0] = V::multiply_add(sum[0], x, low);
                sum[1] = V::multiply_add(sum[1], x, high);
            }
            panel = panel.add(NR);
            x = x.add(T);
        }
        // Stored even if they are rescaled at once: they stay in L1, and the loops of `rescale`
        // stay small.
        for (at, sum) in sum.as_flattened().iter().enumerate() {
            _mm512_storeu_si512(sums.add(16 * at).cast(), *sum);
        }
        if micro.last {
            rescale::<V>(micro);
        }
    }
}

/// Rescales the sums into the accumulators.
///
/// # Safety
/// The machine supports the instruction set; the operands are checked.
#[inline(always)]
unsafe fn rescale<V: VectorOps>(micro: MicroTile<'_>) {
    for row in [0, 16] {
        // SAFETY: 16 rows of NR, for each token.
        unsafe {
            let params = RowParams::of(micro.params, row);
            for (t, token) in micro.tokens.iter().enumerate() {
                let sum = micro.sums.as_ptr().add(NR * t + row);
                let acc = micro.acc.as_mut_ptr().add(NR * t + row);
                let sum = _mm512_loadu_si512(sum.cast());
                let next = V::rescale(sum, token, &params, _mm512_loadu_ps(acc));
                _mm512_storeu_ps(acc, next);
            }
        }
    }
}

/// Transposes 4 x 4 words of half `half` of a tile: four g from `g` on. 128-bit lane t of the
/// result holds lane t of rows g.. (first vector) and of rows g + 8.. (second vector).
///
/// A function and not a closure, which would be compiled without the instruction set.
///
/// # Safety
/// The machine supports the instruction set; `g` is 0 or 4.
#[inline(always)]
unsafe fn transpose_x4(tile: &Tile, half: usize, g: usize) -> [__m512i; 2] {
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

/// Transposes half `half` of a tile: vector t holds, for each of the 16 rows, the word of lane (g =
/// row & 7, t).
///
/// # Safety
/// The machine supports the instruction set.
#[inline(always)]
unsafe fn transpose(tile: &Tile, half: usize) -> [__m512i; 4] {
    // SAFETY: as `transpose_x4`.
    unsafe {
        let ([low0, high0], [low1, high1]) =
            (transpose_x4(tile, half, 0), transpose_x4(tile, half, 4));
        // 128-bit lane t of the four vectors holds rows 0-3, 4-7, 8-11 and 12-15 of lane t:
        // transpose 4 x 4.
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
