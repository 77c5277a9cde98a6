//! Compares row operations that quantize at once with the unfused sequence on the CPU: `cargo bench
//! --bench row_op`.
//!
//! The shapes are those of Llama-2-7B: RMSNorm of 4096 for q, k and v, `silu(gate) * up` of 11008
//! for one GEMM. Unfused, the operation writes BF16 rows, and each GEMM that reads them quantizes
//! them; fused, one call quantizes for all. N of the GEMMs is small (64), so that quantization and
//! not the products take the time: a row is the median time of the unfused sequence, and the median
//! of the ratios of neighboring calls, fused by unfused; below 1 the fused call is faster. The
//! calls alternate, so that what else the machine does affects both. One thread, for each
//! instruction set of the machine (`W4AX_CPU` selects one).

use half::bf16;
use std::time::{Duration, Instant};
use w4ax::cpu::{Cpu, Isa, QuantizedActivations, Serial, Workspace};
use w4ax::{
    Gemm, Grouping, MatMut, MatRef, PackedWeight, Quantize, Result, RmsNorm, SiluMul, Width,
};

const N: usize = 64;
const GROUPING: Grouping = Grouping::G128;

/// The time that a cell of the table takes, for both sequences together.
const BUDGET: Duration = Duration::from_millis(300);

/// An operation: its name, K, and the GEMMs that read it.
const OPERATIONS: [(&str, usize, usize); 2] = [("rms_norm", 4096, 3), ("silu_mul", 11008, 1)];

/// Returns numbers around zero that are the same in every run.
fn values(len: usize) -> impl Iterator<Item = f32> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 16) as f32 / 65536.0 - 0.5)
}

/// Returns the median.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What both sequences use.
struct Sequence<'a> {
    cpu: &'a Cpu,
    weights: &'a [PackedWeight],
    x: MatRef<'a, bf16>,
    norm: Option<&'a [bf16]>,
    width: Width,
    rows: Vec<bf16>,
    y: Vec<bf16>,
    workspace: Workspace,
    activations: QuantizedActivations,
}

impl Sequence<'_> {
    /// Returns the microseconds of one sequence.
    fn run(&mut self, fused: bool) -> Result<f64> {
        let start = Instant::now();
        let (m, k) = (self.x.rows(), self.x.cols());
        let silu = SiluMul::new(self.x, self.x);
        let norm = self.norm.map(|norm| RmsNorm::new(self.x, norm, 1e-5));
        if fused {
            let (layout, to) = (&self.weights[0], &mut self.activations);
            match norm {
                Some(norm) => self.cpu.rms_norm_quantize(&norm, self.width, layout, to)?,
                None => self.cpu.silu_mul_quantize(&silu, self.width, layout, to)?,
            }
        } else {
            let to = MatMut::new(&mut self.rows, m, k)?;
            match norm {
                Some(norm) => self.cpu.rms_norm(&norm, to)?,
                None => self.cpu.silu_mul(&silu, to)?,
            }
        }
        for weight in self.weights {
            let y = MatMut::new(&mut self.y, m, N)?;
            if fused {
                let to = &self.activations;
                self.cpu
                    .run_quantized(to, weight, None, y, &mut self.workspace)?;
            } else {
                let gemm = Gemm::new(MatRef::new(&self.rows, m, k)?, weight, self.width);
                self.cpu.run(&gemm, y, &mut self.workspace)?;
            }
        }
        Ok(start.elapsed().as_secs_f64() * 1e6)
    }

    /// Returns the median time of the unfused sequence and the median ratio.
    fn measure(&mut self) -> Result<(f64, f64)> {
        self.run(false)?;
        self.run(true)?;
        let (mut times, mut ratios) = (Vec::new(), Vec::new());
        let start = Instant::now();
        while start.elapsed() < BUDGET || ratios.len() < 5 {
            // Each pair in the other order than the last one.
            let fused_first = ratios.len() % 2 == 1;
            let (first, second) = (self.run(fused_first)?, self.run(!fused_first)?);
            let (unfused, fused) = match fused_first {
                true => (second, first),
                false => (first, second),
            };
            times.push(unfused);
            ratios.push(fused / unfused);
        }
        Ok((median(times), median(ratios)))
    }
}

fn main() -> Result<()> {
    println!("{GROUPING}, N = {N}, one thread: unfused, and fused by unfused");
    let only = std::env::var("W4AX_CPU").unwrap_or_default();
    for isa in Isa::ALL {
        if !isa.is_available() || (!only.is_empty() && only != isa.name()) {
            continue;
        }
        let cpu = Cpu::with_isa(isa)?.with_pool(Serial);
        for (name, k, readers) in OPERATIONS {
            let plain: Vec<f32> = values(N * k).collect();
            let weight = Quantize::new(GROUPING).pack(MatRef::new(&plain, N, k)?)?;
            let weights = vec![weight; readers];
            let norm: Vec<bf16> = values(k).map(bf16::from_f32).collect();
            for width in [Width::A2, Width::A4, Width::A8] {
                for m in [1, 8, 64, 280] {
                    let x: Vec<bf16> = values(m * k).map(bf16::from_f32).collect(); // [m, k]
                    let mut sequence = Sequence {
                        cpu: &cpu,
                        weights: &weights,
                        x: MatRef::new(&x, m, k)?,
                        norm: (name == "rms_norm").then_some(&norm[..]),
                        width,
                        rows: vec![bf16::ZERO; m * k],
                        y: vec![bf16::ZERO; m * N],
                        workspace: cpu.workspace(m, k)?,
                        activations: cpu.quantized_activations(m, k)?,
                    };
                    let (time, ratio) = sequence.measure()?;
                    println!(
                        "{:10} {name} {readers} GEMMs  {width} m {m:3} {time:9.0} us  {ratio:.3}",
                        isa.name(),
                    );
                }
            }
        }
    }
    Ok(())
}
