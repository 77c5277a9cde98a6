//! The microkernel for BF16 activations: products with `qw - zw`, or with `w8`, in BF16, two k
//! per instruction, with the bits of f32 `fma`s in ascending k.
//!
//! `vdpbf16ps` adds the product of the high halves, then the product of the low halves, each
//! rounded to nearest even like an `fma` (Intel SDM; [`multiplies_pairs_in_order`] checks the
//! machine), so the first k is in the high half. It flushes denormals; the factor of `pack.rs`
//! avoids them.

use super::{RowParams, UnpackParams, VectorOps, float, load_512, transpose};
use crate::cpu::microkernel::DirectGroup;
use crate::cpu::microkernel::NR;
use crate::cpu::params::{StepParams, TokenParams};
use std::arch::x86_64::*;
use std::hint::black_box;
use std::sync::OnceLock;

/// The microkernel. A word is two activations or two weights.
pub(in crate::cpu) struct Pairs<const TWO_LEVEL: bool>;

/// The integers -16 to 15 in BF16, indexed by their low five bits.
const VALUES: [u16; 32] = {
    let mut values = [0; 32];
    let mut i = -16i32;
    while i < 16 {
        values[(i & 31) as usize] = ((i as f32).to_bits() >> 16) as u16;
        i += 1;
    }
    values
};

/// The integers -8 to 7 in BF16, indexed by their low four bits, whatever the fifth is.
const NIBBLES: [u16; 32] = {
    let mut values = [0; 32];
    let mut i = 0;
    while i < 32 {
        let q = (i as i32 & 15 ^ 8) - 8;
        values[i] = ((q as f32).to_bits() >> 16) as u16;
        i += 1;
    }
    values
};

/// The constants of decoding 16 rows of a grouped or a two-level weight, in registers.
#[derive(Clone, Copy)]
struct Decoder<const TWO_LEVEL: bool> {
    values: __m512i,
    nibbles: __m512i,
    eight: __m512i,
    /// `zw + 8`, in both halves of the lanes.
    zero: __m512i,
    /// The constants of decoding a two-level weight.
    floats: float::Decoder,
    /// The high 16-bit halves of the lanes.
    high_halves: __mmask32,
    /// The bytes of the low 16-bit halves of the lanes.
    low_halves: __mmask64,
}

impl<const TWO_LEVEL: bool> Decoder<TWO_LEVEL> {
    /// # Safety
    /// The machine supports the instruction set.
    #[inline(always)]
    unsafe fn new(params: UnpackParams<'_>) -> Self {
        // SAFETY: 32 elements of 16 bits.
        unsafe {
            let zero = _mm512_add_epi32(load_512(params.zero), _mm512_set1_epi32(8));
            let values = match TWO_LEVEL {
                false => &VALUES,
                true => &NIBBLES,
            };
            Self {
                values: load_512(values),
                nibbles: _mm512_set1_epi32(0x000F_000F),
                eight: _mm512_set1_epi32(0x0008_0008),
                zero: _mm512_or_si512(zero, _mm512_slli_epi32::<16>(zero)),
                floats: float::Decoder::new(params),
                // Of constant masks the compiler makes other instructions, with twice the
                // micro-operations.
                high_halves: black_box(0xAAAA_AAAA),
                low_halves: black_box(0x3333_3333_3333_3333),
            }
        }
    }

    /// `qw - zw` or `w8` in BF16 of nibbles j (to the high half) and j + 4, which are neighboring
    /// k.
    ///
    /// # Safety
    /// The machine supports the instruction set.
    #[inline(always)]
    unsafe fn decode(&self, words: __m512i, j: usize) -> __m512i {
        // SAFETY: arithmetic.
        unsafe {
            if TWO_LEVEL {
                return self.decode_w8(words, j);
            }
            let words = _mm512_rorv_epi32(words, _mm512_set1_epi32(16 + 4 * j as i32));
            // (words & nibbles) ^ eight is qw + 8.
            let q = _mm512_ternarylogic_epi32::<0x6A>(words, self.nibbles, self.eight);
            _mm512_permutexvar_epi16(_mm512_sub_epi16(q, self.zero), self.values)
        }
    }

    /// `w8` of [`Decoder::decode`]. It is computed in f32: the f32 of an integer of at most 8 bits
    /// ends in 16 bits of 0, so that its high half is its BF16.
    ///
    /// # Safety
    /// The machine supports the instruction set.
    #[inline(always)]
    unsafe fn decode_w8(&self, words: __m512i, j: usize) -> __m512i {
        // SAFETY: arithmetic.
        unsafe {
            let words = _mm512_srl_epi32(words, _mm_cvtsi32_si128(4 * j as i32));
            let first = self.floats.decode::<true>(words);
            // Nibble j + 4 is the lowest of the high half: its BF16 there, with 0 below, is its
            // f32.
            let second = _mm512_maskz_permutexvar_epi16(self.high_halves, words, self.values);
            let second = self.floats.scale(_mm512_castsi512_ps(second));
            // The bytes of `second`, moved down by two, in the low halves of `first`.
            let (first, second) = (_mm512_castps_si512(first), _mm512_castps_si512(second));
            _mm512_mask_alignr_epi8::<2>(first, self.low_halves, second, second)
        }
    }
}

impl<const TWO_LEVEL: bool> VectorOps for Pairs<TWO_LEVEL> {
    const K_PER_WORD: usize = 2;
    const TWO_LEVEL: bool = TWO_LEVEL;
    const MAX_DIRECT: usize = 2;

    #[inline(always)]
    unsafe fn direct(group: DirectGroup<'_>) {
        // SAFETY: the caller's promise.
        unsafe {
            match group.tokens.len() {
                1 => direct::<1, TWO_LEVEL>(group),
                2 => direct::<2, TWO_LEVEL>(group),
                _ => unreachable!("MAX_DIRECT is 2"),
            }
        }
    }

    #[inline(always)]
    unsafe fn unpack(words: [__m512i; 4], params: UnpackParams<'_>, panel: *mut u32) {
        // SAFETY: the panel holds `[16][NR]` words.
        unsafe {
            let decoder = Decoder::<TWO_LEVEL>::new(params);
            for (t, words) in words.into_iter().enumerate() {
                for j in 0..4 {
                    let w = decoder.decode(words, j);
                    // k = 8j + 2t and k + 1.
                    _mm512_storeu_si512(panel.add((4 * j + t) * NR).cast(), w);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn multiply_add(sum: __m512i, x: __m512i, w: __m512i) -> __m512i {
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
    unsafe fn rescale(
        sum: __m512i,
        token: &TokenParams,
        params: &RowParams,
        acc: __m512,
    ) -> __m512 {
        // SAFETY: arithmetic.
        unsafe {
            // Exact: the scale is a power of two, and the product is no smaller than the last bit
            // of the smallest activation.
            let sum = _mm512_mul_ps(_mm512_castsi512_ps(sum), _mm512_set1_ps(token.group.scale));
            _mm512_fmadd_ps(sum, params.scale, acc)
        }
    }
}

/// Computes a group of `T` tokens, or all k of a two-level weight. Each product depends on the
/// previous one of its row; the next weights are decoded meanwhile.
///
/// # Safety
/// The machine supports the instruction set.
#[inline(always)]
unsafe fn direct<const T: usize, const TWO_LEVEL: bool>(group: DirectGroup<'_>) {
    let DirectGroup { w, k, x, acc, .. } = group;
    assert!(x.len() == k.len() / 2 * T && acc.len() == T * NR);
    // SAFETY: 16 words of every token for each 32 k, and NR accumulators of every token (asserted).
    unsafe {
        let mut decoders = decoders::<TWO_LEVEL>(&group.params.zero, &StepParams::ZERO);
        let mut steps = StepParams::ZERO;
        let mut sum = [[_mm512_setzero_si512(); 2]; T];
        let mut x = x.as_ptr();
        for half in k.start / 32..k.end / 32 {
            if TWO_LEVEL && 32 * half % w.grouping().size().unwrap_or(32) == 0 {
                steps.load(w, group.row_tiles.into_iter(), 32 * half, false);
                decoders = self::decoders(&steps.zero, &steps);
            }
            let words = [
                transpose(&group.tiles[0][half / 2], half % 2),
                transpose(&group.tiles[1][half / 2], half % 2),
            ];
            for j in 0..4 {
                for (low, high) in words[0].into_iter().zip(words[1]) {
                    let low = decoders[0].decode(low, j);
                    let high = decoders[1].decode(high, j);
                    for (token, sum) in sum.iter_mut().enumerate() {
                        let x = _mm512_set1_epi32(*x.add(token) as i32);
                        sum[0] = Pairs::<TWO_LEVEL>::multiply_add(sum[0], x, low);
                        sum[1] = Pairs::<TWO_LEVEL>::multiply_add(sum[1], x, high);
                    }
                    x = x.add(T);
                }
            }
        }
        for row in 0..2 {
            let params = RowParams::of(group.params, 16 * row);
            for (token, sum) in sum.iter().enumerate() {
                let acc = acc.as_mut_ptr().add(token * NR + 16 * row);
                let token = &group.tokens[token];
                let next =
                    Pairs::<TWO_LEVEL>::rescale(sum[row], token, &params, _mm512_loadu_ps(acc));
                _mm512_storeu_ps(acc, next);
            }
        }
    }
}

/// The decoders of both row tiles.
///
/// # Safety
/// The machine supports the instruction set.
#[inline(always)]
unsafe fn decoders<const TWO_LEVEL: bool>(
    zero: &[i32; NR],
    steps: &StepParams,
) -> [Decoder<TWO_LEVEL>; 2] {
    // SAFETY: the caller's promise.
    unsafe {
        [
            Decoder::new(UnpackParams::of(zero, steps, 0)),
            Decoder::new(UnpackParams::of(zero, steps, 16)),
        ]
    }
}

/// Returns whether `vdpbf16ps` of this machine is two `fma`s, the high halves first. Tests it once,
/// by sums whose bits depend on the order.
pub(in crate::cpu) fn multiplies_pairs_in_order() -> bool {
    static IN_ORDER: OnceLock<bool> = OnceLock::new();
    // SAFETY: the caller has detected AVX512-BF16.
    *IN_ORDER.get_or_init(|| unsafe { probe() })
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
        // Random signs, mantissas and exponents of a range of 16: sums cancel, and the bits lost
        // depend on the order.
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
                _mm512_castsi512_ps(Pairs::<false>::multiply_add(sum, x, w)),
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
