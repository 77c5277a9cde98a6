//! GEMMs one by one, at the shapes of Llama-2-7B: of few tokens (a decode) or of many (a prefill).
//!
//! A call is captured many times into one graph, each time with the weights of another layer. No
//! weight is in the L2 cache when it is read. x and y are the same in all calls, as in a model.

use std::collections::BTreeMap;

use gpu_model::cases::cases;
use gpu_model::kernels::KernelLibrary;
use gpu_model::predict::predict;
use gpu_model::report::{GemmReport, Measurement, kind_of_weights};
use gpu_model::traffic::{call_bytes, width};
use serde::Serialize;
use w4ax::cuda::{
    ActivationLayout, DeviceMatMut, DeviceMatRef, Family, Gemm, OperandLayout, Problem,
};
use w4ax::{Grouping, Scheme};

use crate::args::{Args, Part};
use crate::limits::Limits;
use crate::measure::{Bench, Kind, Result, SHAPES};
use crate::output::{Output, table};

const DECODE_TOKENS: [usize; 4] = [1, 8, 16, 64];
const PREFILL_TOKENS: [usize; 3] = [290, 1024, 4096];
/// Duration of a replay. Calls are repeated up to it, so that the launch of the graph takes a small
/// share.
const REPLAY_US: f64 = 500.0;
/// Longest replay, for calls that take much longer than a launch.
const LONGEST_REPLAY_US: f64 = 20_000.0;

#[derive(Serialize)]
struct Report<'a> {
    part: &'static str,
    limits: Limits,
    stack_layers: usize,
    #[serde(flatten)]
    gemms: &'a GemmReport,
    rescale: &'a [Rescale],
}

/// What a bench measures beside groups of 128: the schemes and groupings of weights, by worth.
const KINDS: [Kind; 3] = [
    G128,
    (Scheme::TwoLevel, Grouping::G128),
    (Scheme::Grouped, Grouping::PerChannel),
];
const G128: Kind = (Scheme::Grouped, Grouping::G128);

/// A GEMM with groups of 128 beside ones with two-level weights and with a scale per channel at the
/// same shape, on quantized activations where the width has them. A ratio of 1 means that the
/// rescaling of the groups overlaps with the rest of the work.
#[derive(Clone, Serialize)]
struct Rescale {
    m: usize,
    n: usize,
    k: usize,
    width: String,
    x: &'static str,
    g128_us: f64,
    /// `None` if it was not measured.
    two_level_us: Option<f64>,
    per_channel_us: f64,
    /// `g128_us / per_channel_us`
    ratio: f64,
}

/// The sums over the four shapes of a layer, of calls on BF16 activations with groups of 128.
#[derive(Default)]
struct Layer {
    shapes: usize,
    us: f64,
    bytes: f64,
    operations: f64,
}

/// The times of a part by case.
#[derive(Default)]
struct Times {
    /// By M, N, K, width, whether x is quantized, and the index in [`KINDS`].
    us: BTreeMap<(usize, usize, usize, u32, bool, usize), f64>,
    layers: BTreeMap<(usize, u32), Layer>,
}

impl Times {
    fn add(&mut self, case: &Problem, us: f64) -> Result<()> {
        let (m, n, k, bits) = (case.m(), case.n(), case.k(), width(case).bits());
        let kind = (KINDS.iter())
            .position(|&kind| kind == (case.scheme(), case.grouping()))
            .ok_or("unexpected kind of weights")?;
        self.us.insert((m, n, k, bits, case.quantized(), kind), us);
        if KINDS[kind] == G128 && !case.quantized() {
            let layer = self.layers.entry((m, bits)).or_default();
            layer.shapes += 1;
            layer.us += us;
            layer.bytes += call_bytes(case, &case.plan()?)?;
            layer.operations += 2.0 * (m * n * k) as f64;
        }
        Ok(())
    }

    fn rescale(&self) -> Vec<Rescale> {
        let mut found = Vec::new();
        for (&(m, n, k, bits, quantized, kind), &us) in &self.us {
            let of_kind = |kind| self.us.get(&(m, n, k, bits, quantized, kind));
            let better = !quantized && self.us.contains_key(&(m, n, k, bits, true, 0));
            if let (0, Some(&per_channel_us), false) = (kind, of_kind(2), better) {
                found.push(Rescale {
                    m,
                    n,
                    k,
                    width: format!("{bits} bits"),
                    x: if quantized { "packed" } else { "bf16" },
                    g128_us: us,
                    two_level_us: of_kind(1).copied(),
                    per_channel_us,
                    ratio: us / per_channel_us,
                });
            }
        }
        found
    }

    /// Prints a row per number of tokens and width.
    fn print(&self, output: &Output, limits: &Limits) {
        let rescale = self.rescale();
        let mut rows = Vec::new();
        for (&(m, bits), layer) in &self.layers {
            let own: Vec<&Rescale> = (rescale.iter())
                .filter(|row| row.m == m && row.width == format!("{bits} bits"))
                .collect();
            let ratios: Vec<f64> = own.iter().map(|row| row.ratio).collect();
            let two_level: Vec<f64> = (own.iter())
                .filter_map(|row| Some(row.g128_us / row.two_level_us?))
                .collect();
            let gb_per_s = layer.bytes / layer.us / 1e3;
            let highest = ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let mean = |ratios: &[f64]| ratios.iter().sum::<f64>() / ratios.len() as f64;
            let ratio = |ratio: f64| match ratio.is_finite() {
                true => format!("{ratio:.2}"),
                false => "-".to_owned(),
            };
            rows.push(vec![
                m.to_string(),
                if bits == 16 {
                    "BF16".to_owned()
                } else {
                    format!("A{bits}")
                },
                layer.shapes.to_string(),
                format!("{:.1}", layer.us),
                format!("{:.0} %", 100.0 * gb_per_s / limits.copy_gb_per_s),
                format!("{:.1}", layer.operations / layer.us / 1e6),
                ratio(mean(&ratios)),
                ratio(highest),
                ratio(mean(&two_level)),
            ]);
        }
        let header = [
            "M",
            "width",
            "shapes",
            "us a layer",
            "of copy",
            "TOP/s",
            "g128 / channel",
            "highest",
            "g128 / two-level",
        ];
        output.print_last(&table(&header, 2, rows), &limits.notes());
    }
}

impl Bench {
    /// Returns the calls of a graph that measures a call of `us` microseconds.
    fn calls(&self, us: f64, weights: usize) -> usize {
        let filling = (REPLAY_US / us) as usize;
        let most = (LONGEST_REPLAY_US / us) as usize;
        weights.max(16).max(filling).min(most.max(4))
    }

    /// Measures a call over the weights of the stack.
    fn gemm(&self, case: &Problem, calls: usize) -> Result<Measurement> {
        let (m, n, k) = (case.m(), case.n(), case.k());
        let (gpu, stream) = (&self.gpu, &self.stream);
        let stack = self.stack((case.scheme(), case.grouping()))?;
        let shape = (SHAPES.iter().position(|&shape| shape == (n, k)))
            .ok_or_else(|| format!("unsupported shape {n} x {k}: expected one of {SHAPES:?}"))?;
        let x = self.activations(m * k)?;
        let mut y = stream.alloc_zeros(m * n)?;
        let mut workspace = gpu.workspace(stream, m, k)?;
        let mut quantized = gpu.quantized_activations(stream, m, k)?;
        let x = DeviceMatRef::new(x.as_view(), m, k)?;
        let mut y = DeviceMatMut::new(y.as_view_mut(), m, n)?;
        if case.quantized() {
            let operand = (case.options().family())
                .and_then(Family::activation_layout)
                .unwrap_or(OperandLayout::Fragments);
            let grouping = case.scheme().activation_grouping(case.grouping());
            let layout = ActivationLayout::new(grouping).with_operand(operand);
            gpu.quantize(stream, &x, width(case), layout, &mut quantized)?;
        }
        self.replay(calls, || {
            let mut weights = stack.of_shape(shape).cycle().take(calls);
            weights.try_for_each(|weight| {
                let gemm = match case.quantized() {
                    true => Gemm::quantized(&quantized, weight)?,
                    false => Gemm::new(&x, weight, width(case)),
                };
                let gemm = gemm.options(case.options());
                Ok(gpu.run(stream, &gemm, &mut y, &mut workspace)?)
            })
        })
    }
}

/// Returns the calls of a part by worth: the fewest tokens first, in the order of [`KINDS`].
fn part_cases(args: &Args) -> Vec<Problem> {
    let tokens = match (&args.m, args.part) {
        (Some(m), _) => m.clone(),
        (None, Part::Prefill) => PREFILL_TOKENS.to_vec(),
        (None, _) => DECODE_TOKENS.to_vec(),
    };
    let shapes = if args.quick { &SHAPES[1..2] } else { &SHAPES };
    let kinds = if args.quick { &KINDS[..1] } else { &KINDS };
    let mut found = Vec::new();
    for m in tokens {
        for &kind in kinds {
            for &shape in shapes {
                found.extend(cases(&[m], args.all, shape, kind));
            }
        }
    }
    found
}

/// Measures the GEMMs of a part, prints tables and writes the report after each GEMM.
pub fn run(bench: &Bench, args: &Args, output: &mut Output) -> Result<()> {
    let limits = bench.limits()?;
    let mut report = GemmReport::new(w4ax::cuda::build_info()?);
    report.device = Some(crate::describe::describe(args.device)?);
    report.copy_gb_per_s = Some(limits.copy_gb_per_s);
    let device = bench.device();
    // A machine with a GPU may lack the static library and the disassemblers.
    let mut kernels = KernelLibrary::load_if_available();
    let mut times = Times::default();
    for case in part_cases(args) {
        let Some(case) = bench.planned(&case)? else {
            continue;
        };
        let us = bench.estimated_us(&case);
        let layers = bench.stack((case.scheme(), case.grouping()))?.len();
        let calls = bench.calls(us, layers);
        let what = format!(
            "M {} {}x{} {} {}",
            case.m(),
            case.n(),
            case.k(),
            width(&case),
            kind_of_weights(case.scheme(), case.grouping())
        );
        if !output.has_time(bench.expected(us * calls as f64), what) {
            continue;
        }
        let measured = bench.gemm(&case, calls)?;
        let predicted =
            (kernels.as_mut()).and_then(|kernels| predict(kernels, &device, &case).ok());
        report.push(device.name, &case, predicted, Some(measured))?;
        if !args.all {
            times.add(&case, measured.median_us)?;
        }
        output.set(&Report {
            part: if args.part == Part::Prefill {
                "prefill"
            } else {
                "decode"
            },
            limits,
            stack_layers: layers,
            gemms: &report,
            rescale: &times.rescale(),
        })?;
    }
    output.set(&serde_json::json!({}))?;
    report.print();
    times.print(output, &limits);
    Ok(())
}
