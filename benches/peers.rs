//! The CPU backend beside candle's quantised product, in one run: the same shapes, the same threads, round by round in turn.
//!
//! ```sh
//! cargo bench --features candle --bench peers              # writes target/peers.json
//! cargo bench --features candle --bench peers -- --quick   # one shape, fewer rounds
//! ```
//!
//! candle takes its count of threads once a process, so each count is a process of its own. Some of its loops take vectors
//! only if they were compiled for them: the first process builds itself anew for this machine's CPU (in target/native).

#[path = "peers/limits.rs"]
mod limits;
#[path = "peers/report.rs"]
mod report;

use std::hint::black_box;
use std::process::{Command, ExitCode};
use std::time::Instant;

use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{Device, Module, Tensor};
use clap::Parser;
use half::bf16;
use report::{Report, Row};
use w4ax::cpu::{Cpu, Workspace};
use w4ax::{Grouping, MatMut, MatRef, PackedWeight, Precision, Quantize};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const PEERS: [(&str, GgmlDType); 3] = [
    ("candle Q4_0", GgmlDType::Q4_0),
    ("candle Q4_K", GgmlDType::Q4K),
    ("candle Q8_0", GgmlDType::Q8_0),
];

#[derive(Parser)]
#[command(about = "The CPU backend beside candle")]
struct Args {
    /// Where the results go.
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/peers.json"))]
    json: std::path::PathBuf,
    /// Counts of threads.
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    threads: Vec<usize>,
    /// N = K = 4096 only, and fewer rounds.
    #[arg(long)]
    quick: bool,
    /// Measure here, with this process's threads, and print JSON.
    #[arg(long, hide = true)]
    child: bool,
    /// What cargo passes to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Numbers around zero, the same in every run.
fn values(len: usize) -> Vec<f32> {
    (0..len as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 16) as f32 / 65536.0 - 0.5)
        .collect()
}

/// Milliseconds of a call, the mean of `calls`.
fn time(calls: usize, work: &mut dyn FnMut() -> Result<()>) -> Result<f64> {
    let begin = Instant::now();
    for _ in 0..calls {
        work()?;
    }
    Ok(begin.elapsed().as_secs_f64() * 1e3 / calls as f64)
}

/// As many calls as take some 20 ms.
fn calls_for(work: &mut dyn FnMut() -> Result<()>) -> Result<usize> {
    time(1, work)?;
    let once = time(1, work)?;
    Ok((20.0 / once).ceil().clamp(1.0, 1000.0) as usize)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

struct Ours {
    cpu: Cpu,
    weight: PackedWeight,
    x: Vec<bf16>,
    y: Vec<bf16>,
    workspace: Workspace,
    m: usize,
}

impl Ours {
    fn run(&mut self, width: Precision) -> Result<()> {
        let (n, k) = (self.weight.n(), self.weight.k());
        let x = MatRef::new(black_box(&self.x), self.m, k)?;
        let y = MatMut::new(&mut self.y, self.m, n)?;
        self.cpu
            .gemm(x, &self.weight, width, None, y, &mut self.workspace)?;
        Ok(())
    }
}

/// All rows of one process.
fn measure(quick: bool) -> Result<Report> {
    let threads = rayon::current_num_threads();
    let rounds = if quick { 5 } else { 11 };
    let shapes: &[(usize, usize)] = if quick {
        &[(4096, 4096)]
    } else {
        &[(4096, 4096), (11008, 4096)]
    };
    let mut report = Report::new();
    for &(n, k) in shapes {
        let plain = values(n * k);
        let weight = Quantize::new(Grouping::G128).pack(MatRef::new(&plain, n, k)?)?;
        let limits = limits::measure(threads, weight.packed_bytes());
        report.limits.push((threads, limits));
        let tensor = Tensor::from_slice(&plain, (n, k), &Device::Cpu)?;
        let peers = PEERS.map(|(name, kind)| -> Result<_> {
            let peer = QMatMul::from_qtensor(QTensor::quantize(&tensor, kind)?)?;
            Ok((name, peer))
        });
        let peers = peers.into_iter().collect::<Result<Vec<_>>>()?;
        for m in [1, 16, 128, 290] {
            let cpu = Cpu::new()?;
            let x = values(m * k);
            let theirs = Tensor::from_slice(&x, (m, k), &Device::Cpu)?;
            let mut ours = Ours {
                workspace: cpu.workspace(m, k),
                cpu,
                weight: weight.clone(),
                x: x.into_iter().map(bf16::from_f32).collect(),
                y: vec![bf16::ZERO; m * n],
                m,
            };
            for width in Precision::ALL {
                for (name, peer) in &peers {
                    let mut peer = || -> Result<()> {
                        black_box(peer.forward(black_box(&theirs))?);
                        Ok(())
                    };
                    let mut own = || ours.run(width);
                    let calls = (calls_for(&mut own)?, calls_for(&mut peer)?);
                    let mut pairs = Vec::new();
                    for _ in 0..rounds {
                        pairs.push((time(calls.0, &mut own)?, time(calls.1, &mut peer)?));
                    }
                    let of = |f: fn(&(f64, f64)) -> f64| median(pairs.iter().map(f).collect());
                    report.rows.push(Row {
                        peer: (*name).to_owned(),
                        width: width.to_string(),
                        m,
                        n,
                        k,
                        threads,
                        ours_ms: of(|p| p.0),
                        peer_ms: of(|p| p.1),
                        ratio: of(|p| p.1 / p.0),
                        weight_bytes: weight.packed_bytes(),
                    });
                }
            }
        }
    }
    Ok(report)
}

/// One process for each count of threads.
fn run(args: &Args) -> Result<()> {
    let program = std::env::current_exe()?;
    let mut report: Option<Report> = None;
    for threads in &args.threads {
        let output = Command::new(&program)
            .arg("--child")
            .args(args.quick.then_some("--quick"))
            .env("RAYON_NUM_THREADS", threads.to_string())
            .env("CANDLE_NUM_THREADS", threads.to_string())
            .stderr(std::process::Stdio::inherit())
            .output()?;
        if !output.status.success() {
            return Err(format!("the run with {threads} threads failed: {}", output.status).into());
        }
        let part: Report = serde_json::from_slice(&output.stdout)?;
        report = Some(match report {
            None => part,
            Some(report) => report.with(part),
        });
    }
    let report = report.ok_or("--threads names no count")?;
    report.print();
    let text = serde_json::to_string_pretty(&report)? + "\n";
    w4ax::file::write_atomically(&args.json, text.as_bytes())?;
    println!("results: {}", args.json.display());
    Ok(())
}

/// The same command, built for this machine's CPU.
fn native() -> Result<ExitCode> {
    let root = env!("CARGO_MANIFEST_DIR");
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["bench", "--features", "candle", "--bench", "peers", "--"])
        .args(std::env::args_os().skip(1).filter(|a| a != "--bench"))
        .current_dir(root)
        .env("RUSTFLAGS", "-C target-cpu=native")
        .env("CARGO_TARGET_DIR", format!("{root}/target/native"))
        .status()?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn main() -> ExitCode {
    let args = Args::parse();
    let built_for_less = cfg!(target_arch = "x86_64")
        && !cfg!(target_feature = "avx2")
        && std::env::var_os("RUSTFLAGS").is_none();
    let result = if args.child {
        measure(args.quick).and_then(|report| {
            println!("{}", serde_json::to_string(&report)?);
            Ok(ExitCode::SUCCESS)
        })
    } else if built_for_less {
        native()
    } else {
        run(&args).map(|()| ExitCode::SUCCESS)
    };
    result.unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::FAILURE
    })
}
