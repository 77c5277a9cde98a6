//! `w4ax llama-block`: one decoder layer of OpenVLA's size on candle, its projections packed. It
//! runs control steps of a recorded episode, each a prefill of 290 tokens and 7 decode steps, at
//! the widths of the episode.
//!
//! ```sh
//! cargo run --release -p w4ax-cli --features candle -- llama-block
//! cargo run --release -p w4ax-cli --features candle-cuda -- llama-block --device cuda
//! ```
//!
//! Weights are random, or those of a layer in a file that `w4ax convert` made of a model with
//! Llama's names, `desc_act` included (`--weights FILE --layer 0`).

use candle_core::{DType, Device, Tensor};
use clap::ValueEnum;
use comfy_table::Table;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use w4ax::Width;
use w4ax::candle::{Backend, Linear};
use w4ax::step::StepFlag;
use w4ax_robot::llama::layer::{Cache, Clock, Layer, OPENVLA, Sizes};
use w4ax_robot::llama::{Result, steps, weights};
use w4ax_robot::paths;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum On {
    Cpu,
    Cuda,
}

/// A decoder layer on candle under a recorded episode's widths
#[derive(clap::Args)]
pub struct Options {
    /// Device of the layer
    #[arg(long, value_enum, default_value = "cpu")]
    device: On,
    /// A file of packed weights, as `convert` writes it, with the projections of a layer (Llama's
    /// names, with any prefix before `layers`) [default: random weights]. The factors of the norms
    /// are ones
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// The layer in that file
    #[arg(long, default_value_t = 0)]
    layer: usize,
    /// Recorded steps: a CSV with the columns task, seed, t and bits
    #[arg(long, value_name = "FILE", default_value = paths::CLOSED_LOOP)]
    episode: PathBuf,
    /// Control steps, evenly spaced in the first episode of the file; 0 for all
    #[arg(long, default_value_t = 8)]
    steps: usize,
    /// Tokens of a prefill
    #[arg(long, default_value_t = 290)]
    prefill: usize,
    /// Tokens that are decoded one by one after the prefill
    #[arg(long, default_value_t = 7)]
    decode: usize,
}

/// Sums the times of the parts. On a GPU each part waits for the device.
struct PartClock {
    device: Device,
    parts: BTreeMap<&'static str, Duration>,
}

impl Clock for PartClock {
    fn part<T>(
        &mut self,
        name: &'static str,
        run: impl FnOnce() -> candle_core::Result<T>,
    ) -> candle_core::Result<T> {
        let begin = Instant::now();
        let made = run()?;
        self.device.synchronize()?;
        *self.parts.entry(name).or_default() += begin.elapsed();
        Ok(made)
    }
}

/// The times of the parts, summed over the steps of one width.
#[derive(Default)]
struct Sums {
    steps: u32,
    prefill: BTreeMap<&'static str, Duration>,
    decode: BTreeMap<&'static str, Duration>,
}

fn device(on: On) -> Result<Device> {
    match on {
        On::Cpu => Ok(Device::Cpu),
        On::Cuda if cfg!(feature = "candle-cuda") => Ok(Device::new_cuda(0)?),
        On::Cuda => Err("--device cuda needs the feature candle-cuda".into()),
    }
}

/// Returns random BF16 activations, the same in each run.
fn activations(tokens: usize, hidden: usize, seed: u64, device: &Device) -> Result<Tensor> {
    let x = weights::normal(tokens * hidden, 1.0, seed);
    Ok(Tensor::from_vec(x, (tokens, hidden), device)?.to_dtype(DType::BF16)?)
}

/// Runs the command.
///
/// # Errors
/// Invalid options and files.
pub fn run(options: &Options) -> Result<()> {
    let device = device(options.device)?;
    let sizes = Sizes {
        max_tokens: options.prefill + options.decode,
        ..OPENVLA
    };
    paths::check("--episode", &options.episode)?;
    let steps = steps::read(&options.episode, options.steps)?;
    let packed = match &options.weights {
        Some(path) => weights::of_file(path, options.layer, &sizes)?,
        None => weights::random(&sizes)?,
    };
    let weights = || packed.iter();
    let bytes: usize = weights().map(|w| w.packed_bytes()).sum();
    let plain: usize = weights().map(|w| 2 * w.n() * w.k()).sum();
    println!(
        "{:.1} MB of packed weights ({:.1} MB in BF16), {} steps of {}",
        bytes as f64 / 1e6,
        plain as f64 / 1e6,
        steps.len(),
        steps::name(&options.episode)
    );

    let backend = Backend::new(&device)?;
    let flag = Arc::new(StepFlag::new());
    let projections: Vec<Linear> = (packed.into_iter())
        .map(|weight| {
            let linear = backend.linear(weight, None)?;
            Ok(linear.with_width(flag.clone()))
        })
        .collect::<Result<_>>()?;
    let projections = projections
        .try_into()
        .map_err(|_| "a layer has seven projections")?;
    let ones = Tensor::ones(sizes.hidden, DType::BF16, &device)?;
    let layer = Layer::new(sizes, projections, [ones.clone(), ones], &device)?;

    let prefill = activations(options.prefill, sizes.hidden, 1, &device)?;
    let tokens: Vec<Tensor> = (0..options.decode)
        .map(|i| activations(1, sizes.hidden, 2 + i as u64, &device))
        .collect::<Result<_>>()?;
    let mut sums: BTreeMap<Width, Sums> = BTreeMap::new();
    // The first step fills caches and allocates workspaces: it runs twice and counts once.
    for (i, width) in steps.first().into_iter().chain(&steps).enumerate() {
        flag.record_by_host(i as u32, *width);
        let mut cache = Cache::default();
        let mut clock = PartClock {
            device: device.clone(),
            parts: BTreeMap::new(),
        };
        layer.forward(&prefill, &mut cache, &mut clock)?;
        let of_prefill = std::mem::take(&mut clock.parts);
        for token in &tokens {
            layer.forward(token, &mut cache, &mut clock)?;
        }
        if i > 0 {
            let sums = sums.entry(*width).or_default();
            sums.steps += 1;
            for (to, from) in [
                (&mut sums.prefill, of_prefill),
                (&mut sums.decode, clock.parts),
            ] {
                for (part, time) in from {
                    *to.entry(part).or_default() += time;
                }
            }
        }
    }
    print(&sums, options);
    Ok(())
}

/// Prints the milliseconds per step, by part and width.
fn print(sums: &BTreeMap<Width, Sums>, options: &Options) {
    type Parts = fn(&Sums) -> &BTreeMap<&'static str, Duration>;
    let kinds: [(String, Parts); 2] = [
        (format!("prefill of {}", options.prefill), |s| &s.prefill),
        (format!("{} decoded", options.decode), |s| &s.decode),
    ];
    let mut table = Table::new();
    let head = |(width, sums): (&Width, &Sums)| format!("{width}, {} steps", sums.steps);
    table.set_header(
        ["ms a step".into()]
            .into_iter()
            .chain(sums.iter().map(head)),
    );
    for (kind, parts) in kinds {
        let ms = |sums: &Sums, part| {
            format!(
                "{:.2}",
                1e3 * parts(sums)
                    .get(part)
                    .copied()
                    .unwrap_or_default()
                    .as_secs_f64()
                    / f64::from(sums.steps)
            )
        };
        for part in [
            "norms",
            "q, k, v",
            "attention",
            "o",
            "gate, up",
            "silu",
            "down",
        ] {
            table.add_row(
                [format!("{kind}: {part}")]
                    .into_iter()
                    .chain(sums.values().map(|s| ms(s, part))),
            );
        }
        let all = |sums: &Sums| {
            format!(
                "{:.2}",
                1e3 * parts(sums).values().sum::<Duration>().as_secs_f64() / f64::from(sums.steps)
            )
        };
        table.add_row(
            [format!("{kind}: all")]
                .into_iter()
                .chain(sums.values().map(all)),
        );
    }
    println!("{table}");
}
