//! BF16 activations times `qw - zw` in BF16, two k an instruction, to the bits of f32 `fma`s with k ascending.
//!
//! `vdpbf16ps` adds the product of the high halves, then that of the low ones, each rounded to nearest even as an `fma`
//! (Intel's manual, and what [`multiplies_pairs_in_order`] asks of the machine): the first k stands in the high half. It
//! takes denormals for 0; `operand::factor` keeps every number clear of them.

use super::{Lanes, RowsBeside};
use crate::cpu::kernel::Token;
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

impl Lanes for Pairs {
    const K_PER_WORD: usize = 2;

    #[inline(always)]
    unsafe fn unpack(words: [__m512i; 4], zero: &[i32], panel: *mut u32) {
        // SAFETY: 16 words of BLOCK_N from here on are the panel's, and 16 zero points are given.
        unsafe {
            let values = _mm512_loadu_si512(VALUES.as_ptr().cast());
            let (nibbles, eight) = (
                _mm512_set1_epi32(0x000F_000F),
                _mm512_set1_epi32(0x0008_0008),
            );
            // zw + 8 in both halves: (qw ^ 8) is qw + 8.
            let zero = _mm512_add_epi32(
                _mm512_loadu_si512(zero.as_ptr().cast()),
                _mm512_set1_epi32(8),
            );
            let zero = _mm512_or_si512(zero, _mm512_slli_epi32::<16>(zero));
            for (t, words) in words.into_iter().enumerate() {
                // Nibbles j and j + 4 are neighbouring k; the rotation brings the first into the high half.
                let turned = [
                    _mm512_ror_epi32::<16>(words),
                    _mm512_ror_epi32::<20>(words),
                    _mm512_ror_epi32::<24>(words),
                    _mm512_ror_epi32::<28>(words),
                ];
                for (j, words) in turned.into_iter().enumerate() {
                    // (words & nibbles) ^ eight
                    let q = _mm512_ternarylogic_epi32::<0x6A>(words, nibbles, eight);
                    let w = _mm512_permutexvar_epi16(_mm512_sub_epi16(q, zero), values);
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
