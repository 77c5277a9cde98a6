//! Measures GEMMs on the CPU: `cargo bench --bench gemm`.
//!
//! N = K = 4096, groups of 128, M = 1, 16 and 128, every width, on one thread and on all. One
//! thread runs every instruction set of the machine, all threads the best one.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use half::bf16;
use std::hint::black_box;
use w4ax::cpu::{Cpu, Isa, Serial};
use w4ax::{Gemm, Grouping, MatMut, MatRef, Quantize, Width};

const N: usize = 4096;
const K: usize = 4096;

/// Returns numbers around zero that are the same in every run.
fn values(len: usize) -> impl Iterator<Item = f32> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 16) as f32 / 65536.0 - 0.5)
}

fn gemm(c: &mut Criterion) {
    let plain: Vec<f32> = values(N * K).collect();
    let weight = MatRef::new(&plain, N, K).and_then(|w| Quantize::new(Grouping::G128).pack(w));
    let weight = weight.expect("the weights are finite and the shape is valid");
    for (threads, isa) in [
        (1, Isa::Scalar),
        (1, Isa::Avx2),
        (1, Isa::Avx512Vnni),
        (1, Isa::Avx512Bf16),
        (0, Isa::best()),
    ] {
        let Ok(cpu) = Cpu::with_isa(isa) else {
            continue;
        };
        let cpu = if threads == 1 {
            cpu.with_pool(Serial)
        } else {
            cpu
        };
        let threads = if threads == 1 {
            1
        } else {
            rayon::current_num_threads()
        };
        let mut group = c.benchmark_group(format!("gemm {N}x{K} {} {threads} threads", isa.name()));
        group.sample_size(10);
        for m in [1usize, 16, 128] {
            if isa == Isa::Scalar && m > 16 {
                continue; // A call takes seconds.
            }
            let x: Vec<bf16> = values(m * K).map(bf16::from_f32).collect();
            let mut y = vec![bf16::ZERO; m * N];
            let mut workspace = cpu.workspace(m, K).unwrap();
            group.throughput(Throughput::Elements((m * N * K) as u64));
            for width in Width::ALL {
                group.bench_function(BenchmarkId::new(width.to_string(), m), |b| {
                    b.iter(|| {
                        let x = MatRef::new(black_box(&x), m, K)?;
                        let y = MatMut::new(&mut y, m, N)?;
                        cpu.run(&Gemm::new(x, &weight, width), y, &mut workspace)
                    });
                });
            }
        }
    }
}

/// Packs a weight of Llama-2-7B, 4096 x 11008 from f32, on all threads.
fn packing(c: &mut Criterion) {
    let (n, k) = (4096, 11008);
    let plain: Vec<f32> = values(n * k).collect();
    let mut group = c.benchmark_group("pack");
    group.sample_size(10);
    group.throughput(Throughput::Elements((n * k) as u64));
    group.bench_function(format!("{n}x{k} f32, group 128, symmetric"), |b| {
        b.iter(|| {
            MatRef::new(black_box(&plain), n, k).and_then(|w| Quantize::new(Grouping::G128).pack(w))
        });
    });
}

criterion_group!(benches, gemm, packing);
criterion_main!(benches);
