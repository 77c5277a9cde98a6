//! AVX-512 with VNNI, and with BF16 where there is one: 16 rows a vector.
//!
//! Every multiplication takes words of four bytes, a token's broadcast over rows of weights: `dpbusd` four codes,
//! `dpbf16ps` two BF16, `fmadd` one f32. The loop around them is one, [`multiply`].

mod bf16_pairs;
mod float;
mod gemv;
mod integer;

pub(in crate::cpu) use bf16_pairs::multiplies_pairs_in_order;

use crate::PackedWeight;
use crate::cpu::gemm::{Arch, Task};
use crate::cpu::microkernel::{Beside, Direct, Kernel, Strip, Token};
use crate::cpu::workspace::BLOCK_N;
use crate::weights::layout::Tile;
use crate::weights::{GroupSums, Scales};
use std::arch::x86_64::*;
use std::marker::PhantomData;

pub(in crate::cpu) struct Avx512Vnni;

impl Arch for Avx512Vnni {
    type Integer = Rows<integer::Codes>;
    type Float = Rows<float::Floats>;
    type Stream = gemv::Codes;

    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn enter<T: Task>(task: T) -> T::Output {
        // SAFETY: passed on.
        unsafe { task.run::<Self>() }
    }
}

pub(in crate::cpu) struct Avx512Bf16;

impl Arch for Avx512Bf16 {
    type Integer = Rows<integer::Codes>;
    type Float = Rows<bf16_pairs::Pairs>;
    type Stream = gemv::Codes;

    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni,avx512bf16")]
    unsafe fn enter<T: Task>(task: T) -> T::Output {
        // SAFETY: passed on.
        unsafe { task.run::<Self>() }
    }
}

/// The steps in which the three multiplications differ. Sums are 16 lanes of i32 or f32, whichever the step says.
///
/// # Safety
/// All methods: the machine has the instruction set.
trait Lanes {
    const K_PER_WORD: usize;

    /// The most tokens that [`Lanes::direct`] takes.
    const DIRECT: usize = 0;

    /// As [`Kernel::direct`].
    unsafe fn direct(_: Direct<'_>) {
        unreachable!("no direct way");
    }

    /// Unpacks 32 k of one tile, turned as [`turn`] does: `panel[word][BLOCK_N]`, of it the 16 rows that start at `panel`.
    unsafe fn unpack(words: [__m512i; 4], zero: &[i32], panel: *mut u32);

    /// `sum + x * w`, the products of a word.
    unsafe fn step(sum: __m512i, x: __m512i, w: __m512i) -> __m512i;

    /// `fma(group's value, group's scale, acc)` for the rows of `beside`.
    unsafe fn rescale(sum: __m512i, token: &Token, beside: &RowsBeside, acc: __m512) -> __m512;
}

/// [`Beside`] of 16 rows in registers.
struct RowsBeside {
    scale: __m512,
    /// These two only if not `narrow`.
    zero: __m512i,
    sum: __m512i,
    /// Only if `narrow`.
    pair: __m512i,
    narrow: bool,
}

impl RowsBeside {
    /// Rows `row`.. of a block.
    ///
    /// # Safety
    /// The machine has the instruction set; `row` is 0 or 16.
    #[inline(always)]
    unsafe fn of(block: &Beside, row: usize) -> Self {
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

    /// The 16 rows from `at` on of the tiled arrays.
    ///
    /// # Safety
    /// The machine has the instruction set.
    #[inline(always)]
    unsafe fn load(w: &PackedWeight, at: usize) -> Self {
        let rows = at..at + 16;
        // SAFETY: every slice of `rows` has 16 elements, or indexing has panicked.
        unsafe {
            let zero = match w.tiled_zeros() {
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

/// Sixteen numbers of 16 bits.
///
/// # Safety
/// The machine has the instruction set.
#[inline(always)]
unsafe fn load_256<T: bytemuck::Pod>(from: &[T]) -> __m256i {
    assert!(size_of_val(from) == 32);
    // SAFETY: 32 bytes (asserted).
    unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
}

pub(in crate::cpu) struct Rows<L>(PhantomData<L>);

impl<L: Lanes> Kernel for Rows<L> {
    const K_PER_WORD: usize = L::K_PER_WORD;
    const DIRECT: usize = L::DIRECT;

    #[inline(always)]
    unsafe fn direct(group: Direct<'_>) {
        // SAFETY: passed on.
        unsafe { L::direct(group) }
    }

    #[inline(always)]
    unsafe fn load(beside: &mut Beside, w: &PackedWeight, at: usize, row: usize) {
        let (scale, zero) = (
            &mut beside.scale[row..][..16],
            &mut beside.zero[row..][..16],
        );
        let (sum, pair) = (&mut beside.sum[row..][..16], &mut beside.pair[row..][..16]);
        // SAFETY: 16 numbers each.
        unsafe {
            let rows = RowsBeside::load(w, at);
            _mm512_storeu_ps(scale.as_mut_ptr(), rows.scale);
            _mm512_storeu_si512(zero.as_mut_ptr().cast(), rows.zero);
            _mm512_storeu_si512(sum.as_mut_ptr().cast(), rows.sum);
            _mm512_storeu_si512(pair.as_mut_ptr().cast(), rows.pair);
            beside.narrow = rows.narrow;
        }
    }

    #[inline(always)]
    unsafe fn unpack(tiles: [&Tile; 2], half: usize, beside: &Beside, panel: &mut [u32]) {
        assert!(panel.len() == 32 / L::K_PER_WORD * BLOCK_N);
        for (i, tile) in tiles.into_iter().enumerate() {
            // SAFETY: the panel is as long as the step needs (asserted).
            unsafe {
                let to = panel.as_mut_ptr().add(16 * i);
                L::unpack(turn(tile, half), &beside.zero[16 * i..][..16], to);
            }
        }
    }

    #[inline(always)]
    unsafe fn multiply(strip: Strip<'_>) {
        // SAFETY: passed on.
        unsafe {
            match strip.check() {
                1 => multiply::<L, 1>(strip),
                2 => multiply::<L, 2>(strip),
                3 => multiply::<L, 3>(strip),
                4 => multiply::<L, 4>(strip),
                5 => multiply::<L, 5>(strip),
                6 => multiply::<L, 6>(strip),
                7 => multiply::<L, 7>(strip),
                8 => multiply::<L, 8>(strip),
                9 => multiply::<L, 9>(strip),
                10 => multiply::<L, 10>(strip),
                11 => multiply::<L, 11>(strip),
                12 => multiply::<L, 12>(strip),
                _ => unreachable!("a strip has at most 12 tokens"),
            }
        }
    }
}

/// A strip of `T` tokens: 2 * T accumulators, two vectors of weights and a broadcast word live in registers.
///
/// # Safety
/// The machine has the instruction set; the strip was checked and has `T` tokens.
#[inline(always)]
unsafe fn multiply<L: Lanes, const T: usize>(strip: Strip<'_>) {
    // SAFETY: `check` has compared the lengths of all slices with the layouts that are walked here.
    unsafe {
        let mut sum = [[_mm512_setzero_si512(); 2]; T];
        let sums = strip.sums.as_mut_ptr();
        if strip.resume {
            for (at, sum) in sum.as_flattened_mut().iter_mut().enumerate() {
                *sum = _mm512_loadu_si512(sums.add(16 * at).cast());
            }
        }
        let (mut panel, mut x) = (strip.panel.as_ptr(), strip.x.as_ptr());
        for _ in 0..strip.panel.len() / BLOCK_N {
            let low = _mm512_loadu_si512(panel.cast());
            let high = _mm512_loadu_si512(panel.add(16).cast());
            for (token, sum) in sum.iter_mut().enumerate() {
                let x = _mm512_set1_epi32(*x.add(token) as i32);
                sum[0] = L::step(sum[0], x, low);
                sum[1] = L::step(sum[1], x, high);
            }
            panel = panel.add(BLOCK_N);
            x = x.add(T);
        }
        // Also what is rescaled at once: a strip's sums stay in L1, and the loops below stay small.
        for (at, sum) in sum.as_flattened().iter().enumerate() {
            _mm512_storeu_si512(sums.add(16 * at).cast(), *sum);
        }
        if strip.last {
            rescale::<L>(strip);
        }
    }
}

/// Rescales the strip's sums into its accumulators.
///
/// # Safety
/// The machine has the instruction set; the strip was checked.
#[inline(always)]
unsafe fn rescale<L: Lanes>(strip: Strip<'_>) {
    for row in [0, 16] {
        // SAFETY: 16 rows of BLOCK_N, for each of the strip's tokens.
        unsafe {
            let beside = RowsBeside::of(strip.beside, row);
            for (t, token) in strip.tokens.iter().enumerate() {
                let sum = strip.sums.as_ptr().add(BLOCK_N * t + row);
                let acc = strip.acc.as_mut_ptr().add(BLOCK_N * t + row);
                let sum = _mm512_loadu_si512(sum.cast());
                let next = L::rescale(sum, token, &beside, _mm512_loadu_ps(acc));
                _mm512_storeu_ps(acc, next);
            }
        }
    }
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
