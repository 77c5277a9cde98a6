//! What the machine can do at most: read memory, and multiply bytes.

use std::hint::black_box;
use std::time::Instant;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Limits {
    /// Of so many bytes, again and again.
    pub bytes: usize,
    pub read_gb_per_s: f64,
    /// Products of AVX512-VNNI's `vpdpbusd`, in 1e9 a second; none without it.
    pub dpbusd_gmacs: Option<f64>,
}

impl std::fmt::Display for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:.1} GB/s read of {} bytes",
            self.read_gb_per_s, self.bytes
        )?;
        match self.dpbusd_gmacs {
            Some(gmacs) => write!(f, ", {gmacs:.0} GMAC/s by dpbusd"),
            None => write!(f, ", no dpbusd"),
        }
    }
}

/// `bytes`: of the weight that is read.
pub fn measure(threads: usize, bytes: usize) -> Limits {
    Limits {
        bytes,
        read_gb_per_s: read(threads, bytes),
        dpbusd_gmacs: dpbusd(threads),
    }
}

/// Reads so many bytes again and again, each thread its part, as calls read a weight: what of it a cache holds comes from there.
fn read(threads: usize, bytes: usize) -> f64 {
    let words = bytes / 8;
    let memory = vec![1u64; words];
    (0..200)
        .map(|_| {
            let begin = Instant::now();
            let sum: u64 = memory
                .par_chunks(words.div_ceil(threads))
                .map(sum_words)
                .reduce(|| 0, u64::wrapping_add);
            assert_eq!(black_box(sum), words as u64);
            8.0 * words as f64 / begin.elapsed().as_secs_f64() / 1e9
        })
        .fold(0.0, f64::max)
}

/// 32 sums side by side, which the compiler turns into vectors.
fn sum_words(words: &[u64]) -> u64 {
    let mut sums = [0u64; 32];
    let mut chunks = words.chunks_exact(32);
    for chunk in &mut chunks {
        for (sum, word) in sums.iter_mut().zip(chunk) {
            *sum = sum.wrapping_add(*word);
        }
    }
    let rest = chunks.remainder().iter().copied();
    sums.into_iter().chain(rest).fold(0, u64::wrapping_add)
}

#[cfg(target_arch = "x86_64")]
fn dpbusd(threads: usize) -> Option<f64> {
    if !(is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni")) {
        return None;
    }
    const LOOPS: usize = 20_000_000;
    let best = (0..5)
        .map(|_| {
            let begin = Instant::now();
            (0..threads).into_par_iter().for_each(|_| {
                // SAFETY: the CPU has both.
                black_box(unsafe { dpbusd_loop(LOOPS) });
            });
            let products = (threads * LOOPS * ACCUMULATORS * 64) as f64;
            products / begin.elapsed().as_secs_f64() / 1e9
        })
        .fold(0.0, f64::max);
    Some(best)
}

#[cfg(not(target_arch = "x86_64"))]
fn dpbusd(_: usize) -> Option<f64> {
    None
}

#[cfg(target_arch = "x86_64")]
const ACCUMULATORS: usize = 12;

/// Accumulators enough to hide the instruction's latency, and nothing else in the loop.
///
/// # Safety
/// The CPU has AVX-512 F and VNNI.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn dpbusd_loop(loops: usize) -> i32 {
    use std::arch::x86_64::*;
    let (a, b) = (
        _mm512_set1_epi8(black_box(1)),
        _mm512_set1_epi8(black_box(1)),
    );
    // Each its own, or the compiler would make one of them.
    let mut sums: [__m512i; ACCUMULATORS] =
        std::array::from_fn(|i| _mm512_set1_epi32(black_box(i as i32)));
    for _ in 0..loops {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, a, b);
        }
    }
    let mut all = _mm512_setzero_si512();
    for sum in sums {
        all = _mm512_add_epi32(all, sum);
    }
    _mm512_reduce_add_epi32(all)
}
