//! Compares the schemes of weights on the CPU: `cargo bench --bench schemes`.
//!
//! N = K = 4096, groups of 128, without zero points and with them, on one thread, for each
//! instruction set of the machine (`W4AX_CPU` selects one). The calls of both schemes alternate, so
//! that what else the machine does affects both. A row is the median time of a grouped GEMM, and
//! the median of the ratios of neighboring calls, two-level by grouped: below 1 two-level is
//! faster.

use half::bf16;
use std::time::{Duration, Instant};
use w4ax::cpu::{Cpu, Isa, Serial, Workspace};
use w4ax::{Gemm, Grouping, MatMut, MatRef, PackedWeight, Result, Scales, Width};

const N: usize = 4096;
const K: usize = 4096;
const GROUPING: Grouping = Grouping::G128;

/// The time that a cell of the table takes, for both schemes together.
const BUDGET: Duration = Duration::from_millis(1000);

/// Returns numbers that are the same in every run.
fn hashes(len: usize) -> impl Iterator<Item = u32> {
    (0..len as u32).map(|i| i.wrapping_mul(2_654_435_761) >> 16)
}

/// Returns a grouped and a two-level weight of random values.
fn weights(symmetric: bool) -> Result<[PackedWeight; 2]> {
    let groups = N * GROUPING.groups(K);
    let q: Vec<i8> = hashes(N * K).map(|h| (h % 15) as i8 - 7).collect(); // [N, K]
    let q = MatRef::new(&q, N, K)?;
    let zeros: Option<Vec<i8>> =
        (!symmetric).then(|| hashes(groups).map(|h| (h % 3) as i8 - 1).collect());
    let scales = |len| Scales::F16(vec![half::f16::from_f32(0.01); len]);
    let steps: Vec<u8> = hashes(groups).map(|h| 1 + (h % 15) as u8).collect(); // [N, groups]
    Ok([
        PackedWeight::from_quantized(q, GROUPING, &scales(groups), zeros.as_deref())?,
        PackedWeight::from_two_level(q, GROUPING, &steps, &scales(N), zeros.as_deref())?,
    ])
}

/// Returns the median.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Measures one cell: the median time of the grouped GEMM in microseconds, and the median ratio.
fn measure(
    cpu: &Cpu,
    weights: &[PackedWeight; 2],
    (m, width): (usize, Width),
    workspace: &mut Workspace,
) -> Result<(f64, f64)> {
    let x: Vec<bf16> = hashes(m * K)
        .map(|h| bf16::from_f32(h as f32 / 65536.0 - 0.5))
        .collect(); // [m, K]
    let mut y = vec![bf16::ZERO; m * N]; // [m, N]
    let mut time = |weight: &PackedWeight| -> Result<f64> {
        let start = Instant::now();
        let gemm = Gemm::new(MatRef::new(&x, m, K)?, weight, width);
        cpu.run(&gemm, MatMut::new(&mut y, m, N)?, workspace)?;
        Ok(start.elapsed().as_secs_f64() * 1e6)
    };
    time(&weights[0])?;
    time(&weights[1])?;
    let (mut grouped, mut ratios) = (Vec::new(), Vec::new());
    let start = Instant::now();
    while start.elapsed() < BUDGET || ratios.len() < 5 {
        // Each pair in the other order than the last one.
        let swap = ratios.len() % 2;
        let first = time(&weights[swap])?;
        let second = time(&weights[1 - swap])?;
        let (old, new) = match swap {
            0 => (first, second),
            _ => (second, first),
        };
        grouped.push(old);
        ratios.push(new / old);
    }
    Ok((median(grouped), median(ratios)))
}

fn main() -> Result<()> {
    println!("{N} x {K}, {GROUPING}, one thread: grouped, and two-level by grouped");
    let only = std::env::var("W4AX_CPU").unwrap_or_default();
    for symmetric in [true, false] {
        let weights = weights(symmetric)?;
        for isa in Isa::ALL.into_iter().skip(1) {
            if !isa.is_available() || (!only.is_empty() && only != isa.name()) {
                continue;
            }
            let cpu = Cpu::with_isa(isa)?.with_pool(Serial);
            for width in Width::ALL {
                for m in [1, 4, 16, 128] {
                    let mut workspace = cpu.workspace(m, K)?;
                    let (time, ratio) = measure(&cpu, &weights, (m, width), &mut workspace)?;
                    let symmetry = if symmetric {
                        "symmetric"
                    } else {
                        "zero points"
                    };
                    println!(
                        "{:10} {symmetry:11} {width:4} m {m:3} {time:10.0} us  {ratio:.3}",
                        isa.name(),
                    );
                }
            }
        }
    }
    Ok(())
}
