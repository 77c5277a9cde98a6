//! The inner loops of the limits: loads only, or multiplications only.

use std::arch::x86_64::*;
use std::hint::black_box;

/// Independent accumulators: enough to hide the latency of an instruction.
pub const ACCUMULATORS: usize = 12;

/// Sums words, 512 bytes per iteration, in equal parts from `STREAMS` places.
#[target_feature(enable = "avx512f")]
pub fn sum<const STREAMS: usize>(words: &[u64]) -> u64 {
    const { assert!(8 % STREAMS == 0) };
    let blocks = words.len() / 64;
    let (step, stream) = (64 / STREAMS, blocks * 64 / STREAMS);
    let mut sums = [_mm512_setzero_si512(); 8];
    for block in 0..blocks {
        for (i, sum) in sums.iter_mut().enumerate() {
            let at = (i % STREAMS) * stream + block * step + (i / STREAMS) * 8;
            // SAFETY: eight words from `at` are within stream `i % STREAMS`, which is within
            // `words`.
            let line = unsafe { _mm512_loadu_si512(words.as_ptr().add(at).cast()) };
            *sum = _mm512_add_epi64(*sum, line);
        }
    }
    let mut all = _mm512_setzero_si512();
    for sum in sums {
        all = _mm512_add_epi64(all, sum);
    }
    let rest = words[blocks * 64..].iter();
    rest.fold(_mm512_reduce_add_epi64(all) as u64, |sum, word| {
        sum.wrapping_add(*word)
    })
}

/// Defines a function that repeats one instruction on independent accumulators.
macro_rules! products {
    ($name:ident, $features:literal, $zero:ident, $operand:expr, $step:expr) => {
        #[target_feature(enable = $features)]
        pub fn $name(loops: usize) {
            let (a, b) = black_box(($operand, $operand));
            // Opaque, because the compiler would merge equal accumulators.
            let mut sums = black_box([$zero(); ACCUMULATORS]);
            for _ in 0..loops {
                for sum in &mut sums {
                    *sum = $step(*sum, a, b);
                }
            }
            black_box(sums);
        }
    };
}

products!(
    dpbusd,
    "avx512f,avx512vnni",
    _mm512_setzero_si512,
    _mm512_set1_epi32(0x0101_0101),
    _mm512_dpbusd_epi32
);
products!(
    dpbf16,
    "avx512f,avx512bf16",
    _mm512_setzero_ps,
    _mm512_cvtne2ps_pbh(_mm512_set1_ps(1.0), _mm512_set1_ps(1.0)),
    _mm512_dpbf16_ps
);
products!(
    fma512,
    "avx512f",
    _mm512_setzero_ps,
    _mm512_set1_ps(1.0),
    fma_512
);
products!(
    fma256,
    "avx2,fma",
    _mm256_setzero_ps,
    _mm256_set1_ps(1.0),
    fma_256
);

#[inline]
#[target_feature(enable = "avx512f")]
fn fma_512(sum: __m512, a: __m512, b: __m512) -> __m512 {
    _mm512_fmadd_ps(a, b, sum)
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn fma_256(sum: __m256, a: __m256, b: __m256) -> __m256 {
    _mm256_fmadd_ps(a, b, sum)
}
