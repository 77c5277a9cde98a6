//! BF16 activations times `qw - zw` in BF16, two k an instruction, to the bits of f32 `fma`s with k ascending.
//!
//! `vdpbf16ps` adds the product of the high halves, then that of the low ones, each rounded to nearest even as an `fma`
//! (Intel's manual, and what [`multiplies_pairs_in_order`] asks of the machine): the first k stands in the high half. It
//! takes denormals for 0; `operand::factor` keeps every number clear of them.

use super::{Lanes, RowsBeside, turn};
use crate::cpu::microkernel::{Direct, Token};
use crate::cpu::workspace::BLOCK_N;
use std::arch::x86_64::*;
use std::sync::OnceLock;

/// Words: two activations; two weights.
pub(in crate::cpu) struct Pairs;

/// The integers -16 to 15 in BF16, each at its low five bits.
const VALUES: [u16; 32] = {
    let mut values = [0; 32];
    let mut i = -16i32;
    while i < 16 {
        values[(i & 31) as usize] = ((i as f32).to_bits() >> 16) as u16;
        i += 1;
    }
    values
};

/// The constants of decoding, in registers.
struct Decoder {
    values: __m512i,
    nibbles: __m512i,
    eight: __m512i,
}

impl Decoder {
    /// # Safety
    /// The machine has the instruction set.
    #[inline(always)]
    unsafe fn new() -> Self {
        // SAFETY: 32 numbers of 16 bits.
        unsafe {
            Self {
                values: _mm512_loadu_si512(VALUES.as_ptr().cast()),
                nibbles: _mm512_set1_epi32(0x000F_000F),
                eight: _mm512_set1_epi32(0x0008_0008),
            }
        }
    }

    /// `zw + 8` of 16 rows in both halves of their lanes.
    ///
    /// # Safety
    /// The machine has the instruction set.
    #[inline(always)]
    unsafe fn zero(&self, zero: &[i32]) -> __m512i {
        assert!(zero.len() == 16);
        // SAFETY: 16 numbers (asserted).
        unsafe {
            let zero = _mm512_loadu_si512(zero.as_ptr().cast());
            let zero = _mm512_add_epi32(zero, _mm512_set1_epi32(8));
            _mm512_or_si512(zero, _mm512_slli_epi32::<16>(zero))
        }
    }

    /// `qw - zw` in BF16 of nibbles j (to the high half) and j + 4, which are neighboring k.
    ///
    /// # Safety
    /// The machine has the instruction set.
    #[inline(always)]
    unsafe fn decode(&self, words: __m512i, j: usize, zero: __m512i) -> __m512i {
        // SAFETY: arithmetic.
        unsafe {
            let words = _mm512_rorv_epi32(words, _mm512_set1_epi32(16 + 4 * j as i32));
            // (words & nibbles) ^ eight is qw + 8.
            let q = _mm512_ternarylogic_epi32::<0x6A>(words, self.nibbles, self.eight);
            _mm512_permutexvar_epi16(_mm512_sub_epi16(q, zero), self.values)
        }
    }
}

impl Lanes for Pairs {
    const K_PER_WORD: usize = 2;
    const DIRECT: usize = 2;

    #[inline(always)]
    unsafe fn direct(group: Direct<'_>) {
        // SAFETY: passed on.
        unsafe {
            match group.tokens.len() {
                1 => direct::<1>(group),
                2 => direct::<2>(group),
                _ => unreachable!("at most two tokens"),
            }
        }
    }

    #[inline(always)]
    unsafe fn unpack(words: [__m512i; 4], zero: &[i32], panel: *mut u32) {
        // SAFETY: 16 words of BLOCK_N from here on are the panel's.
        unsafe {
            let decoder = Decoder::new();
            let zero = decoder.zero(zero);
            for (t, words) in words.into_iter().enumerate() {
                for j in 0..4 {
                    let w = decoder.decode(words, j, zero);
                    // k = 8j + 2t and the next.
                    _mm512_storeu_si512(panel.add((4 * j + t) * BLOCK_N).cast(), w);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn step(sum: __m512i, x: __m512i, w: __m512i) -> __m512i {
        // SAFETY: arithmetic; the vectors of BF16 have the same 512 bits.
        unsafe {
            let (x, w) = (
                std::mem::transmute::<__m512i, __m512bh>(x),
                std::mem::transmute::<__m512i, __m512bh>(w),
            );
            _mm512_castps_si512(_mm512_dpbf16_ps(_mm512_castsi512_ps(sum), x, w))
        }
    }

    #[inline(always)]
    unsafe fn rescale(sum: __m512i, token: &Token, beside: &RowsBeside, acc: __m512) -> __m512 {
        // SAFETY: arithmetic.
        unsafe {
            // Exact: a power of two, and the product is no smaller than the least activation's last bit.
            let sum = _mm512_mul_ps(_mm512_castsi512_ps(sum), _mm512_set1_ps(token.group.scale));
            _mm512_fmadd_ps(sum, beside.scale, acc)
        }
    }
}

/// A group of `T` tokens: every product waits for the one before it in its row, and meanwhile the next weights are decoded.
///
/// # Safety
/// The machine has the instruction set.
#[inline(always)]
unsafe fn direct<const T: usize>(group: Direct<'_>) {
    let Direct { k, x, acc, .. } = group;
    assert!(x.len() == k.len() / 2 * T && acc.len() == T * BLOCK_N);
    // SAFETY: 16 words of every token for each 32 k, and BLOCK_N accumulators of every token (asserted).
    unsafe {
        let decoder = Decoder::new();
        let zero = [0, 16].map(|row| &group.beside.zero[row..row + 16]);
        let zero = [decoder.zero(zero[0]), decoder.zero(zero[1])];
        let mut sum = [[_mm512_setzero_si512(); 2]; T];
        let mut x = x.as_ptr();
        for half in k.start / 32..k.end / 32 {
            let words = [
                turn(&group.tiles[0][half / 2], half % 2),
                turn(&group.tiles[1][half / 2], half % 2),
            ];
            for j in 0..4 {
                for (low, high) in words[0].into_iter().zip(words[1]) {
                    let low = decoder.decode(low, j, zero[0]);
                    let high = decoder.decode(high, j, zero[1]);
                    for (token, sum) in sum.iter_mut().enumerate() {
                        let x = _mm512_set1_epi32(*x.add(token) as i32);
                        sum[0] = Pairs::step(sum[0], x, low);
                        sum[1] = Pairs::step(sum[1], x, high);
                    }
                    x = x.add(T);
                }
            }
        }
        for row in 0..2 {
            let beside = RowsBeside::of(group.beside, 16 * row);
            for (token, sum) in sum.iter().enumerate() {
                let acc = acc.as_mut_ptr().add(token * BLOCK_N + 16 * row);
                let token = &group.tokens[token];
                let next = Pairs::rescale(sum[row], token, &beside, _mm512_loadu_ps(acc));
                _mm512_storeu_ps(acc, next);
            }
        }
    }
}

/// Whether this machine's `vdpbf16ps` is two `fma`s, the high halves first: asked of it once, by sums whose bits tell.
pub(in crate::cpu) fn multiplies_pairs_in_order() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    // SAFETY: the caller has detected AVX512-BF16.
    *ANSWER.get_or_init(|| unsafe { probe() })
}

/// # Safety
/// The machine has AVX512-BF16.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn probe() -> bool {
    let mut state = 1u32;
    let mut next = |bits: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> (32 - bits)
    };
    (0..200).all(|_| {
        // Signs, exponents of a range of 16, mantissas: sums cancel, and lose bits in an order that shows.
        let mut bf16 = || next(1) << 15 | (120 + next(4)) << 7 | next(7);
        let (x, w): ([u32; 16], [u32; 16]) = (
            std::array::from_fn(|_| bf16() << 16 | bf16()),
            std::array::from_fn(|_| bf16() << 16 | bf16()),
        );
        let sum: [f32; 16] = std::array::from_fn(|_| {
            f32::from_bits(next(1) << 31 | (116 + next(4)) << 23 | next(23))
        });
        let mut got = [0f32; 16];
        // SAFETY: 16 words each.
        unsafe {
            let (x, w) = (
                _mm512_loadu_si512(x.as_ptr().cast()),
                _mm512_loadu_si512(w.as_ptr().cast()),
            );
            let sum = _mm512_castps_si512(_mm512_loadu_ps(sum.as_ptr()));
            _mm512_storeu_ps(
                got.as_mut_ptr(),
                _mm512_castsi512_ps(Pairs::step(sum, x, w)),
            );
        }
        (0..16).all(|i| {
            let (high, low) = (
                |v: u32| f32::from_bits(v & !0xFFFF),
                |v: u32| f32::from_bits(v << 16),
            );
            let first = high(x[i]).mul_add(high(w[i]), sum[i]);
            got[i].to_bits() == low(x[i]).mul_add(low(w[i]), first).to_bits()
        })
    })
}
