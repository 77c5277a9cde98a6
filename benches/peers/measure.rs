//! Measures all cases in one process. Each round runs every contender once.

use std::time::Instant;

use w4ax::cpu::Cpu;
use w4ax::{PackedWeight, Width};

use crate::Result;
use crate::contenders::{
    self, Contender, PEERS, Ring, ours, pack, peer_ring, quantize, ring, theirs,
};
use crate::limits;
use crate::report::{Cache, Case, PeerReport, PeerRow, Preparation};
use crate::statistics::median;

/// Bytes of a ring: several times the largest cache of current CPUs.
const RING_BYTES: usize = 256 << 20;

/// The cases to measure.
#[derive(Clone, Copy)]
pub struct Extent {
    /// N = K = 4096 only, in fewer rounds.
    pub quick: bool,
    /// N = K = 4096 only, warm only, without limits; for a smaller instruction set.
    pub lesser: bool,
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

/// Returns the milliseconds per call, averaged over `calls`.
fn time(calls: usize, contender: &mut Contender) -> Result<f64> {
    let begin = Instant::now();
    for _ in 0..calls {
        (contender.call)()?;
    }
    Ok(begin.elapsed().as_secs_f64() * 1e3 / calls as f64)
}

/// Returns the milliseconds per call, `[contender][round]`.
///
/// Short calls are repeated for about 20 ms. An untimed call precedes them, because the previous
/// contender has left its data in the caches and threads of its pool may still spin.
fn race(contenders: &mut [Contender], rounds: usize) -> Result<Vec<Vec<f64>>> {
    let mut calls = Vec::new();
    for contender in contenders.iter_mut() {
        time(1, contender)?;
        let once = time(1, contender)?;
        calls.push((20.0 / once).ceil().clamp(1.0, 1000.0) as usize);
    }
    let mut times = vec![Vec::new(); contenders.len()];
    for _ in 0..rounds {
        for ((contender, &calls), times) in contenders.iter_mut().zip(&calls).zip(&mut times) {
            if calls > 1 {
                time(1, contender)?;
            }
            times.push(time(calls, contender)?);
        }
    }
    Ok(times)
}

/// Returns the median over rounds of the ratio of two times.
fn ratio(over: &[f64], under: &[f64]) -> f64 {
    median(over.iter().zip(under).map(|(o, u)| o / u).collect())
}

/// Compares w4ax with candle. The first `ours` contenders are w4ax's widths, the others the peers.
/// For one token, reads of the packed weight are measured as well.
fn rows(
    case: &Case,
    own_ring: &Ring<PackedWeight>,
    mut racers: Vec<Contender>,
    ours: usize,
    rounds: usize,
) -> Result<Vec<PeerRow>> {
    let bytes = own_ring[0].packed_bytes();
    let peers = racers.len();
    if case.m == 1 {
        racers.extend([1, 2, 4].map(|streams| contenders::read(own_ring, streams)));
    }
    let times = race(&mut racers, rounds)?;
    // The fastest read of each round.
    let read = (0..rounds)
        .map(|round| least(&times[peers..].iter().map(|t| t[round]).collect::<Vec<_>>()));
    let read: Vec<f64> = read.collect();
    let mut rows = Vec::new();
    for (own, width) in racers[..ours].iter().enumerate() {
        let of_read = (case.m == 1).then(|| ratio(&read, &times[own]));
        for (peer, name) in racers[..peers].iter().enumerate().skip(ours) {
            rows.push(PeerRow {
                peer: name.name.clone(),
                width: width.name.clone(),
                case: case.clone(),
                ours_ms: median(times[own].clone()),
                peer_ms: median(times[peer].clone()),
                ratio: ratio(&times[peer], &times[own]),
                ours_best_ms: least(&times[own]),
                peer_best_ms: least(&times[peer]),
                of_read,
                weight_bytes: bytes,
            });
        }
    }
    Ok(rows)
}

/// Measures the share of preparing the activations, for each width that quantizes them.
fn preparation(
    cpu: &Cpu,
    threads: usize,
    plain: &[f32],
    rounds: usize,
) -> Result<Vec<Preparation>> {
    let (m, n, k, tile_n) = (128, 4096, 4096, 16);
    let tile = ring(&pack(&plain[..tile_n * k], tile_n, k)?, 0);
    let whole = ring(&pack(plain, n, k)?, 0);
    let mut shares = Vec::new();
    for width in [Width::A2, Width::A4, Width::A8] {
        let mut racers = [ours(cpu, &tile, width, m), ours(cpu, &whole, width, m)];
        let times = race(&mut racers, rounds)?;
        shares.push(Preparation {
            width: width.to_string(),
            threads,
            isa: cpu.isa().name().into(),
            m,
            k,
            tile_n,
            tile_ms: median(times[0].clone()),
            n,
            ms: median(times[1].clone()),
            share: ratio(&times[0], &times[1]),
        });
    }
    Ok(shares)
}

/// Measures with this process's threads and instruction set.
pub fn measure(extent: Extent) -> Result<PeerReport> {
    let threads = rayon::current_num_threads();
    let rounds = if extent.quick { 5 } else { 9 };
    let cpu = Cpu::new()?;
    let mut report = PeerReport::new(cpu.isa().name());
    for (n, k) in [(4096, 4096), (11008, 4096)] {
        if n > 4096 && (extent.quick || extent.lesser) {
            break;
        }
        let case = |m, cache| Case {
            n,
            k,
            m,
            threads,
            isa: cpu.isa().name().into(),
            cache,
        };
        let plain = contenders::values(n * k);
        let weight = pack(&plain, n, k)?;
        let bytes = weight.packed_bytes();
        let own = ring(&weight, 0);
        let mut tensors = Vec::new();
        let mut peers = Vec::new();
        for (name, kind) in PEERS {
            let tensor = quantize(&plain, n, k, kind)?;
            peers.push((name, peer_ring(&tensor, 0)?));
            tensors.push((name, tensor));
        }
        for m in [1, 16, 128, 290] {
            let mut racers = Vec::from(Width::ALL.map(|width| ours(&cpu, &own, width, m)));
            for (name, peer) in &peers {
                racers.push(theirs(name, peer, k, m)?);
            }
            let case = case(m, Cache::Warm);
            report.rows.extend(rows(&case, &own, racers, 4, rounds)?);
        }
        if (n, k) == (4096, 4096) {
            report.preparation = preparation(&cpu, threads, &plain, rounds)?;
        }
        if extent.lesser {
            break;
        }
        report
            .limits
            .push(limits::measure(threads, (n, k), bytes, RING_BYTES));
        let own = ring(&weight, RING_BYTES);
        let widths = [Width::A8, Width::Bf16];
        let mut racers = Vec::from(widths.map(|width| ours(&cpu, &own, width, 1)));
        for (name, tensor) in &tensors {
            let mut racer = theirs(name, &peer_ring(tensor, RING_BYTES)?, k, 1)?;
            // One pass over the ring, because candle repacks each weight at its first call.
            for _ in 0..RING_BYTES.div_ceil(tensor.storage_size_in_bytes()) {
                (racer.call)()?;
            }
            racers.push(racer);
        }
        let case = case(1, Cache::Cold);
        report.rows.extend(rows(&case, &own, racers, 2, rounds)?);
    }
    Ok(report)
}
