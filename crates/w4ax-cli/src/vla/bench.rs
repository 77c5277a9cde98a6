//! `w4ax vla bench`: a model of full size with random weights.

use std::error::Error;
use std::path::PathBuf;

use clap::ValueEnum;
use serde_json::{Value, json};
use w4ax::Width;
use w4ax_robot::table::table;
use w4ax_vla::measure::{MeasureOptions, Measurement, ModelShape, WidthMeasurement};
use w4ax_vla::model::{LayerPart, LoadOptions, ModelPart};
use w4ax_vla::step::StepPart;

use super::model::with_progress;
use super::predicted;
use super::width::FixedWidth;

/// Measure a model of full size with random weights: memory, and time by part and width
#[derive(clap::Args)]
pub struct BenchOptions {
    /// The model
    #[arg(long, value_enum, default_value_t = Shape::OpenVla7b)]
    shape: Shape,
    /// The widths
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [FixedWidth::A2, FixedWidth::A4, FixedWidth::A8, FixedWidth::Bf16])]
    width: Vec<FixedWidth>,
    /// Measured steps per width, after one that is not measured
    #[arg(long, value_name = "N", default_value_t = 3)]
    steps: usize,
    /// Pack vision towers and projector too
    #[arg(long)]
    pack_vision: bool,
    /// Keep only the rows of the head that decode to actions
    #[arg(long)]
    action_rows: bool,
    /// Threads; 0 for one per core
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
    /// The results as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// The shape of a model.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shape {
    /// One image, 281 tokens, an action of 7 tokens that are decoded one by one
    #[value(name = "openvla-7b")]
    OpenVla7b,
    /// Two images and a state, 600 tokens, 8 actions in one pass
    #[value(name = "oft-7b")]
    Oft7b,
}

/// The published figures of DyQ-VLA (arXiv 2603.07904).
const PAPER: &str = "DyQ-VLA reports 4.7 of 15.2 GB (30.9 %), 1.49 times faster in simulation and \
     up to 1.43 times on a robot.";

/// Bytes of the unquantized model in BF16: OpenVLA-7B's 7,541,237,184 parameters.
const UNQUANTIZED: u64 = 2 * 7_541_237_184;

/// Runs the command.
///
/// # Errors
/// If the model does not fit the memory, or a step fails.
pub fn run(options: &BenchOptions) -> Result<(), Box<dyn Error>> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads)
        .build_global()?;
    let shape = match options.shape {
        Shape::OpenVla7b => ModelShape::OpenVla7b,
        Shape::Oft7b => ModelShape::Oft7b,
    };
    let load = LoadOptions::default()
        .with_packed_vision(options.pack_vision)
        .with_action_rows_only(options.action_rows);
    let widths: Vec<Width> = options.width.iter().copied().map(Width::from).collect();
    let measure = MeasureOptions::new(shape)
        .with_load(load)
        .with_widths(widths)
        .with_steps(options.steps);
    let measured = with_progress(|progress| Measurement::run(&measure, progress))?;
    print(&measured);
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&to_json(&measured))? + "\n";
        w4ax::file::write_atomically(path, text.as_bytes())?;
        println!("results: {}", path.display());
    }
    Ok(())
}

fn print(measured: &Measurement) {
    let cpu = w4ax::cpu::Cpu::new().map_or_else(|_| "CPU".into(), |cpu| format!("{:?}", cpu.isa()));
    println!(
        "{}, random weights, {} tokens, on this CPU ({cpu}, {} threads); made in {:.0} s\n",
        measured.shape.name(),
        measured.tokens,
        rayon::current_num_threads(),
        measured.load.as_secs_f64()
    );
    print_memory(measured);
    print_times(measured);
    print_savings(measured);
    predicted::print(measured.shape);
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e6)
}

fn print_memory(measured: &Measurement) {
    let sum: u64 = measured.memory.iter().map(|(_, bytes)| bytes).sum();
    let mut rows: Vec<Vec<String>> = (measured.memory.iter())
        .map(|(part, bytes)| vec![part.to_string(), megabytes(*bytes)])
        .collect();
    rows.push(vec!["all".into(), megabytes(sum)]);
    let peak = |peak: Option<u64>| peak.map_or("not known".into(), megabytes);
    rows.push(vec![
        "peak of the process, loading".into(),
        peak(measured.peak_load),
    ]);
    let steps = measured.widths.iter().filter_map(|w| w.peak).max();
    rows.push(vec!["peak of the process, steps".into(), peak(steps)]);
    println!("{}\n", table(&["memory", "MB"], rows));
}

fn print_times(measured: &Measurement) {
    let millis = |time: std::time::Duration| format!("{:.0}", 1e3 * time.as_secs_f64());
    let mut header = vec!["ms".to_owned()];
    header.extend(measured.widths.iter().map(|w| w.width.to_string()));
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let row = |name: &str, value: &dyn Fn(&WidthMeasurement) -> String| {
        let mut row = vec![name.to_owned()];
        row.extend(measured.widths.iter().map(value));
        row
    };
    let parts = (measured.widths.first()).map_or_else(Vec::new, |w| {
        w.times.keys().copied().collect::<Vec<StepPart>>()
    });
    let mut rows: Vec<Vec<String>> = (parts.iter())
        .map(|part| row(part.name(), &|w| millis(w.times[part])))
        .collect();
    rows.push(row("step", &|w| millis(w.step)));
    for (name, part) in [
        ("prefill: GEMMs", LayerPart::Gemm),
        ("prefill: attention", LayerPart::Attention),
        ("prefill: norms", LayerPart::Norm),
        ("prefill: residuals, SwiGLU", LayerPart::Elementwise),
    ] {
        let share = |w: &WidthMeasurement| {
            let prefill = w.times[&StepPart::Prefill].as_secs_f64();
            format!("{:.1} %", 100.0 * w.layers.of(part).as_secs_f64() / prefill)
        };
        rows.push(row(name, &share));
    }
    println!("{}\n", table(&header, rows));
}

/// Returns the bytes of weights and of the cache that a step reads: in the prefill, and in the
/// decode or the head.
fn bytes_read(measured: &Measurement) -> [u64; 2] {
    let of = |part: ModelPart| {
        let found = measured.memory.iter().find(|(p, _)| *p == part);
        found.map_or(0, |(_, bytes)| *bytes)
    };
    match measured.shape {
        ModelShape::Oft7b => [of(ModelPart::Layers), of(ModelPart::ActionHead)],
        // Six tokens are decoded after the prefill. The head runs for seven.
        _ => [
            of(ModelPart::Layers),
            6 * (of(ModelPart::Layers) + of(ModelPart::Cache)) + 7 * of(ModelPart::Head),
        ],
    }
}

fn print_savings(measured: &Measurement) {
    let [prefill, rest] = bytes_read(measured);
    println!(
        "weights and cache that a step reads, at every width: prefill {} MB, then {} MB",
        megabytes(prefill),
        megabytes(rest)
    );
    let full = measured.widths.iter().find(|w| w.width == Width::Bf16);
    let governed = |w: &WidthMeasurement| {
        let language = [StepPart::Prefill, StepPart::Decode];
        let times = language.iter().filter_map(|part| w.times.get(part));
        times.sum::<std::time::Duration>().as_secs_f64()
    };
    if let Some(full) = full {
        let rows = measured.widths.iter().map(|w| {
            vec![
                w.width.to_string(),
                format!("{:.0} %", 100.0 * governed(w) / w.step.as_secs_f64()),
                format!("{:.2}", governed(full) / governed(w)),
                format!("{:.2}", full.step.as_secs_f64() / w.step.as_secs_f64()),
            ]
        });
        let header = [
            "width",
            "share of the step",
            "times faster than W4A16",
            "the whole step",
        ];
        println!(
            "\nwhat the width governs, and what it saves\n{}",
            table(&header, rows)
        );
    }
    let sum: u64 = measured.memory.iter().map(|(_, bytes)| bytes).sum();
    println!(
        "{} of {} MB in BF16: {:.1} %. {PAPER}",
        megabytes(sum),
        megabytes(UNQUANTIZED),
        100.0 * sum as f64 / UNQUANTIZED as f64
    );
}

fn to_json(measured: &Measurement) -> Value {
    let micros = |time: &std::time::Duration| time.as_micros() as u64;
    let widths = measured.widths.iter().map(|w| {
        let parts = w.times.iter();
        let parts: serde_json::Map<String, Value> = parts
            .map(|(part, time)| (part.to_string(), json!(micros(time))))
            .collect();
        json!({
            "width": w.width.bits(),
            "micros": parts,
            "micros_step": micros(&w.step),
            "micros_gemm": micros(&w.layers.of(LayerPart::Gemm)),
            "peak_bytes": w.peak,
            "actions": w.actions,
            "tokens": w.tokens,
        })
    });
    let bytes = measured.memory.iter();
    let bytes: serde_json::Map<String, Value> = bytes
        .map(|(part, bytes)| (part.to_string(), json!(bytes)))
        .collect();
    json!({
        "shape": measured.shape.name(),
        "tokens": measured.tokens,
        "bytes": bytes,
        "peak_load_bytes": measured.peak_load,
        "widths": widths.collect::<Vec<_>>(),
        "predicted": predicted::to_json(measured.shape),
    })
}
