//! The limits of the machine: bandwidth of reads and throughput of multiplications.

use std::hint::black_box;
use std::time::Instant;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::statistics::median;
#[cfg(target_arch = "x86_64")]
use crate::vectors;

/// Limits of all threads together, for the bytes of one weight.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Limits {
    pub threads: usize,
    pub n: usize,
    pub k: usize,
    pub bytes: usize,
    /// Reads of the same bytes.
    pub warm: Read,
    /// Reads of other bytes each time, from a ring larger than any cache.
    pub cold: Read,
    /// Peak of `vpdpbusd` with 512 bits, if the CPU supports it.
    pub bytes_peak: Option<Peak>,
    /// Peak of `vdpbf16ps`, otherwise of FMA on f32; `None` on other architectures.
    pub floats_peak: Option<Peak>,
}

/// Bandwidth in GB/s, by the number of streams that is fastest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Read {
    pub median: f64,
    pub best: f64,
    pub streams: usize,
}

/// Throughput of an instruction in 1e9 products per second.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Peak {
    pub instruction: String,
    pub gmacs: f64,
}

impl std::fmt::Display for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (n, k, bytes) = (self.n, self.k, self.bytes);
        write!(
            f,
            "{} threads, {n} x {k}: read of {bytes} bytes",
            self.threads
        )?;
        for (name, read) in [("warm", &self.warm), ("cold", &self.cold)] {
            let (median, best, streams) = (read.median, read.best, read.streams);
            write!(
                f,
                ", {name} {median:.1} GB/s (best {best:.1}, {streams} streams)"
            )?;
        }
        for peak in [&self.bytes_peak, &self.floats_peak].into_iter().flatten() {
            write!(f, ", {} {:.0} GMAC/s", peak.instruction, peak.gmacs)?;
        }
        Ok(())
    }
}

/// Measures the limits for a weight `[n, k]` of `bytes` bytes and a ring of `ring` bytes.
pub fn measure(threads: usize, (n, k): (usize, usize), bytes: usize, ring: usize) -> Limits {
    let words = bytes / 8;
    let memory = vec![1u64; words * ring.div_ceil(bytes)];
    // Inside the pool, so that no thread has to be woken.
    rayon::scope(|_| {
        // Before the warm reads, which leave their piece in the caches.
        let cold = read(threads, &memory, words, 100);
        Limits {
            threads,
            n,
            k,
            bytes,
            warm: read(threads, &memory[..words], words, 200),
            cold,
            bytes_peak: bytes_peak(threads),
            floats_peak: floats_peak(threads),
        }
    })
}

/// Reads the pieces of the memory in a cycle, each by all threads, as calls read a weight.
fn read(threads: usize, memory: &[u64], piece: usize, times: usize) -> Read {
    let of = |streams| {
        let rates = memory.chunks_exact(piece).cycle().take(times).map(|piece| {
            let begin = Instant::now();
            let parts = piece.par_chunks(piece.len().div_ceil(threads));
            let sum: u64 = parts.map(|part| sum(part, streams)).sum();
            assert_eq!(sum, piece.len() as u64);
            8.0 * piece.len() as f64 / begin.elapsed().as_secs_f64() / 1e9
        });
        let rates: Vec<f64> = rates.collect();
        Read {
            best: rates.iter().copied().fold(0.0, f64::max),
            median: median(rates),
            streams,
        }
    };
    let reads = [1, 2, 4].map(of).into_iter();
    reads.max_by(|a, b| a.median.total_cmp(&b.median)).unwrap()
}

/// Sums the words, from `streams` places of the memory at once if the CPU has AVX-512.
pub fn sum(words: &[u64], streams: usize) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the CPU supports AVX-512 F.
        return unsafe {
            match streams {
                1 => vectors::sum::<1>(words),
                2 => vectors::sum::<2>(words),
                _ => vectors::sum::<4>(words),
            }
        };
    }
    let _ = streams;
    let mut sums = [0u64; 32];
    let mut chunks = words.chunks_exact(32);
    for chunk in &mut chunks {
        for (sum, word) in sums.iter_mut().zip(chunk) {
            *sum = sum.wrapping_add(*word);
        }
    }
    let rest = sums.iter().chain(chunks.remainder());
    rest.fold(0, |sum, word| sum.wrapping_add(*word))
}

/// Returns the best of many short runs: on a shared machine, some of them run undisturbed.
#[cfg(target_arch = "x86_64")]
fn peak(instruction: &str, threads: usize, lanes: usize, run: impl Fn(usize) + Sync) -> Peak {
    const LOOPS: usize = 1_000_000;
    let once = |_| {
        let begin = Instant::now();
        let each = (0..threads).into_par_iter().with_max_len(1);
        each.for_each(|_| run(black_box(LOOPS)));
        let products = threads * LOOPS * vectors::ACCUMULATORS * lanes;
        products as f64 / begin.elapsed().as_secs_f64() / 1e9
    };
    Peak {
        instruction: instruction.into(),
        gmacs: (0..60).map(once).fold(0.0, f64::max),
    }
}

#[cfg(target_arch = "x86_64")]
fn bytes_peak(threads: usize) -> Option<Peak> {
    if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni") {
        // SAFETY: the CPU supports both extensions.
        let run = |loops| unsafe { vectors::dpbusd(loops) };
        return Some(peak("vpdpbusd", threads, 64, run));
    }
    None
}

#[cfg(target_arch = "x86_64")]
fn floats_peak(threads: usize) -> Option<Peak> {
    if is_x86_feature_detected!("avx512f") {
        if is_x86_feature_detected!("avx512bf16") {
            // SAFETY: the CPU supports both extensions.
            let run = |loops| unsafe { vectors::dpbf16(loops) };
            return Some(peak("vdpbf16ps", threads, 32, run));
        }
        // SAFETY: the CPU supports AVX-512 F.
        let run = |loops| unsafe { vectors::fma512(loops) };
        return Some(peak("fma of 512 bits", threads, 16, run));
    }
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the CPU supports both extensions.
        let run = |loops| unsafe { vectors::fma256(loops) };
        return Some(peak("fma of 256 bits", threads, 8, run));
    }
    None
}

#[cfg(not(target_arch = "x86_64"))]
fn bytes_peak(_: usize) -> Option<Peak> {
    None
}

#[cfg(not(target_arch = "x86_64"))]
fn floats_peak(_: usize) -> Option<Peak> {
    None
}
