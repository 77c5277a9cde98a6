//! Compares the CPU backend with candle's quantized matrix product in one run: same shapes, same
//! threads, alternating rounds.
//!
//! ```sh
//! cargo bench --features candle --bench peers                  # writes target/peers.{json,svg}
//! cargo bench --features candle --bench peers -- --quick       # one shape, fewer rounds
//! cargo bench --features candle --bench peers -- --from FILE   # prints and draws earlier results
//! ```
//!
//! candle reads the number of threads once per process, so each number is measured in a process of
//! its own. Some of candle's loops are vectorized at compile time only, so the first process
//! rebuilds itself for this machine's CPU (in target/native).
//!
//! The rows of AVX2 come from a third build without AVX-512 (in target/native-v3). In a build with
//! AVX-512 the compiler would use its instructions and registers in candle's AVX2 path (`vpmaddwd`
//! and `vpaddd` become one `vpdpwssd`).

mod contenders;
mod count;
mod limits;
mod measure;
mod plot;
mod report;
mod statistics;
mod tables;
#[cfg(target_arch = "x86_64")]
mod vectors;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::Parser;
use measure::Extent;
use report::PeerReport;
use w4ax::cpu::Isa;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const JSON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/peers.json");
const PLOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/peers.svg");

#[derive(Parser)]
#[command(about = "Compares the CPU backend with candle")]
struct Args {
    /// Write the results to this file.
    #[arg(long, value_name = "FILE", default_value = JSON)]
    json: PathBuf,
    /// Write the picture to this file.
    #[arg(long, value_name = "FILE", default_value = PLOT)]
    plot: PathBuf,
    /// Print and draw these results instead of measuring.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Numbers of threads.
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    threads: Vec<usize>,
    /// Measure N = K = 4096 only, in fewer rounds.
    #[arg(long)]
    quick: bool,
    /// Call one contender without timing it, for an instruction counter
    /// (scripts/count-instructions).
    #[arg(long, value_name = "CONTENDER")]
    count: Option<String>,
    /// Tokens of --count.
    #[arg(long, default_value_t = 1)]
    m: usize,
    /// Calls of --count.
    #[arg(long, default_value_t = 1)]
    calls: usize,
    /// Measure with this process's threads and print JSON.
    #[arg(long, hide = true)]
    child: bool,
    /// With --child: measure the subset for a smaller instruction set.
    #[arg(long, hide = true)]
    lesser: bool,
    /// Passed by cargo to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Returns the command that builds this bench for a CPU, in a target folder of its own, and runs
/// it.
fn built_for(cpu: &str, folder: &str) -> Command {
    let root = env!("CARGO_MANIFEST_DIR");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .args(["bench", "--features", "candle", "--bench", "peers", "--"])
        .current_dir(root)
        .env("RUSTFLAGS", format!("-C target-cpu={cpu}"))
        .env("CARGO_TARGET_DIR", format!("{root}/target/{folder}"));
    command
}

/// Measures in a process with `threads` threads.
fn child(mut command: Command, threads: usize, quick: bool) -> Result<PeerReport> {
    let output = command
        .arg("--child")
        .args(quick.then_some("--quick"))
        .env("RAYON_NUM_THREADS", threads.to_string())
        .env("CANDLE_NUM_THREADS", threads.to_string())
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!(
            "the process with {threads} threads failed: {}",
            output.status
        )
        .into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Measures in one process per number of threads, and again for AVX2 if this machine has a larger
/// instruction set.
fn run(args: &Args) -> Result<PeerReport> {
    let program = std::env::current_exe()?;
    let mut parts = Vec::new();
    for &threads in &args.threads {
        parts.push(child(Command::new(&program), threads, args.quick)?);
    }
    if Isa::best() != Isa::Avx2 && Isa::Avx2.is_available() {
        for &threads in &args.threads {
            let mut command = built_for("x86-64-v3", "native-v3");
            command.arg("--lesser").env("W4AX_CPU", Isa::Avx2.name());
            command.env("MISTRALRS_FORCE_AVX2", "1");
            parts.push(child(command, threads, args.quick)?);
        }
    }
    let report = parts.into_iter().reduce(PeerReport::merge);
    let mut report = report.ok_or("--threads is empty")?;
    report.compute_scaling();
    let text = serde_json::to_string_pretty(&report)? + "\n";
    w4ax::file::write_atomically(&args.json, text.as_bytes())?;
    Ok(report)
}

fn read(path: &Path) -> Result<PeerReport> {
    let text = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(serde_json::from_slice(&text)?)
}

fn start(args: &Args) -> Result<ExitCode> {
    if let Some(name) = &args.count {
        count::run(name, args.m, args.calls)?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.child {
        let (quick, lesser) = (args.quick, args.lesser);
        let report = measure::measure(Extent { quick, lesser })?;
        println!("{}", serde_json::to_string(&report)?);
        return Ok(ExitCode::SUCCESS);
    }
    let lacks_native_build = cfg!(target_arch = "x86_64")
        && !cfg!(target_feature = "avx2")
        && std::env::var_os("RUSTFLAGS").is_none();
    if lacks_native_build && args.from.is_none() {
        let args = std::env::args_os().skip(1).filter(|arg| arg != "--bench");
        let status = built_for("native", "native").args(args).status()?;
        return Ok(ExitCode::from(u8::from(!status.success())));
    }
    let report = match &args.from {
        Some(path) => read(path)?,
        None => run(args)?,
    };
    tables::print(&report);
    plot::write(&report, &args.plot)?;
    println!("picture: {}", args.plot.display());
    if args.from.is_none() {
        println!("results: {}", args.json.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn main() -> ExitCode {
    start(&Args::parse()).unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::FAILURE
    })
}
