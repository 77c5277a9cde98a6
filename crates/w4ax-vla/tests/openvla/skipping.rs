//! Steps that skip layers, bit for bit against a mirror that runs the chosen layers and adapters.

use super::fixture::{Fixture, load, values};
use super::quantized::{Mirror, bits, quantize};
use super::{oft, stages};
use candle_core::{Device, Tensor};
use half::bf16;
use std::path::Path;
use test_support::random_skip_file;
use w4ax::Width;
use w4ax::skip::{Fate, Guide, SkipConfig, SkipFile, Verdict, Verify};
use w4ax::step::StepOptions;
use w4ax_vla::model::{LayerRun, Numerics, Observation, Prefilled, Prepared, Probe, Vla};
use w4ax_vla::step::{VlaRunner, VlaStep};
use w4ax_vla::{Result, ops};

/// Biases of the controllers.
pub const NO: f32 = -30.0;
pub const YES: f32 = 30.0;
pub const LAYERS: usize = 4;
const HIDDEN: usize = 64;

/// Only the controllers decide which layers are skipped.
pub const BLIND: SkipConfig = SkipConfig::new()
    .with_pre_skip(false)
    .with_verify(Verify::Off);

/// Random networks whose adapters change the hidden state visibly.
pub fn networks(static_layers: &[usize], bias: f32) -> SkipFile {
    let mut file = random_skip_file(LAYERS, HIDDEN, static_layers, bias);
    for adapter in file.adapters.values_mut() {
        for weight in &mut adapter.down {
            *weight *= bf16::from_f32(32.0);
        }
    }
    file
}

pub fn quantized(folder: &Path) -> Vla {
    load(folder, Numerics::Quantized(quantize()))
}

pub fn skipping(folder: &Path, file: &SkipFile) -> Vla {
    quantized(folder)
        .with_skip_networks(file, "skip.safetensors")
        .unwrap()
}

pub fn guide(vla: &Vla, config: &SkipConfig) -> Guide {
    Guide::new(config, vla.skip_networks().unwrap().layers()).unwrap()
}

pub fn sequence(vla: &Vla, observation: &Observation) -> (Prepared, Tensor) {
    let prepared = vla.prepare(observation).unwrap();
    let features = vla.see(&prepared, &mut Probe::default()).unwrap();
    let sequence = vla
        .sequence(&prepared, &features, &mut Probe::default())
        .unwrap();
    (prepared, sequence)
}

/// Returns `x + down(silu(up(rms(x) * norm)))`.
fn adapt(file: &SkipFile, from: usize, x: &Tensor) -> Tensor {
    let adapter = &file.adapters[&from];
    let inner = adapter.up.len() / HIDDEN;
    let linear = |weight: &[bf16], n: usize, k: usize, x: &Tensor| {
        let weight = Tensor::from_slice(weight, (n, k), &Device::Cpu).unwrap();
        ops::Linear::new(weight, None).unwrap().forward(x).unwrap()
    };
    let norm = Tensor::from_slice(&adapter.norm, HIDDEN, &Device::Cpu).unwrap();
    let normed = ops::rms_norm(x, &norm, 1e-5).unwrap();
    let up = linear(&adapter.up, inner, HIDDEN, &normed).silu().unwrap();
    (x + linear(&adapter.down, HIDDEN, inner, &up)).unwrap()
}

/// The choices of static layers: their parts of a pass, and which of the layers' fates are which.
fn choices() -> [(&'static [usize], Vec<LayerRun>, &'static str); 3] {
    let adapter = |from, to| LayerRun::Adapter { from, to };
    let layer = LayerRun::Layer;
    [
        (
            &[0, 3],
            vec![layer(0), adapter(1, 3), layer(3)],
            "static skipped covered static",
        ),
        (
            &[0, 2],
            vec![layer(0), adapter(1, 2), layer(2), adapter(3, 4)],
            "static skipped static skipped",
        ),
        (
            &[1],
            vec![adapter(0, 1), layer(1), adapter(2, 4)],
            "skipped static skipped covered",
        ),
    ]
}

pub fn names(fates: &[Fate]) -> String {
    let name = |fate: &Fate| match fate {
        Fate::Static => "static",
        Fate::Forced => "forced",
        Fate::Declined(_) => "declined",
        Fate::Skipped(_) => "skipped",
        Fate::Covered(_) => "covered",
        other => panic!("{other:?}"),
    };
    fates.iter().map(name).collect::<Vec<_>>().join(" ")
}

/// A decoder that runs the same parts for every token.
struct Direct<'a> {
    mirror: &'a Mirror,
    file: &'a SkipFile,
    runs: &'a [LayerRun],
    width: Width,
    caches: Vec<Option<[Tensor; 2]>>,
}

impl<'a> Direct<'a> {
    fn new(mirror: &'a Mirror, file: &'a SkipFile, runs: &'a [LayerRun], width: Width) -> Self {
        let caches = vec![None; LAYERS];
        Self {
            mirror,
            file,
            runs,
            width,
            caches,
        }
    }

    fn pass(&mut self, x: &Tensor, causal: bool) -> Tensor {
        let mut x = x.clone();
        for run in self.runs {
            x = match *run {
                LayerRun::Adapter { from, .. } => adapt(self.file, from, &x),
                LayerRun::Layer(layer) => {
                    let cache = causal.then_some(&mut self.caches[layer]);
                    self.mirror.layer(layer, &x, cache, self.width)
                }
            };
        }
        self.mirror.final_norm(&x)
    }

    /// Returns the normalized hidden state of the last token, the tokens, and the logits of each.
    fn openvla(&mut self, sequence: &Tensor) -> (Tensor, Vec<u32>, Vec<Vec<f32>>) {
        let x = self.pass(sequence, true);
        let first = x.narrow(0, x.dim(0).unwrap() - 1, 1).unwrap();
        let (mut last, mut tokens, mut all) = (first.clone(), Vec::new(), Vec::new());
        loop {
            let logits = self.mirror.logits(&last);
            let best = |a: &usize, b: &usize| logits[*a].total_cmp(&logits[*b]);
            let token = (0..logits.len()).rev().max_by(best).unwrap() as u32;
            tokens.push(token);
            all.push(logits);
            if tokens.len() == 7 {
                return (first, tokens, all);
            }
            last = self.pass(&self.mirror.embed(token), true);
        }
    }
}

/// Runs a step at a width and returns the model.
pub fn run_step(vla: Vla, width: Width, observation: &Observation) -> Result<(VlaStep, Vla)> {
    let mut runner = VlaRunner::skipping(vla, &BLIND, None, StepOptions::default())?;
    runner.request(width)?;
    let step = runner.step(observation)?;
    Ok((step, runner.into_model()))
}

#[test]
fn skipped_step_of_openvla_equals_its_layers_and_adapters() -> Result<()> {
    let fixture = Fixture::new("openvla-tiny");
    let observation = stages::observation(&fixture, 0);
    let mirror = Mirror::new();
    let mut vla = quantized(&fixture.folder);
    let (prepared, sequence) = sequence(&vla, &observation);
    for (static_layers, runs, fates) in choices() {
        let file = networks(static_layers, YES);
        vla = vla.with_skip_networks(&file, "skip.safetensors")?;
        let guide = guide(&vla, &BLIND);
        for width in [Width::A4, Width::A8] {
            let what = format!("{static_layers:?}, {width}");
            let (hidden, tokens, logits) =
                Direct::new(&mirror, &file, &runs, width).openvla(&sequence);
            let mut steps = Vec::new();
            let mut keep = |name: &str, value: &Tensor| {
                if name.starts_with("logits_step") {
                    steps.push(value.to_vec1::<f32>().unwrap());
                }
            };
            let mut probe = Probe::new(&mut keep);
            let dims = prepared.dims;
            let prefilled = vla.prefill(&sequence, dims, width, Some(&guide), &mut probe)?;
            let decoded = vla.decode(&prefilled, width, &mut probe)?;
            assert_eq!(prefilled.runs, runs, "{what}");
            assert_eq!(names(&prefilled.fates), fates, "{what}");
            assert!(bits(&prefilled.hidden) == bits(&hidden), "{what}");
            assert!(steps == logits, "{what}");
            assert_eq!(decoded.tokens, tokens, "{what}");

            let (step, model) = run_step(vla, width, &observation)?;
            vla = model;
            assert_eq!(step.tokens, tokens, "{what}");
            let report = step.skip.unwrap();
            assert_eq!(names(&report.fates), fates, "{what}");
            let layers = fates.matches("static").count();
            assert_eq!(
                (report.layers_run, report.verdict),
                (layers, Verdict::Passed)
            );
            // The adapters make a difference.
            let whole = vla.prefill(&sequence, dims, width, None, &mut Probe::default())?;
            assert!(bits(&whole.hidden) != bits(&hidden), "{what}");
        }
    }
    Ok(())
}

#[test]
fn skipped_step_of_oft_equals_its_layers_and_adapters() -> Result<()> {
    let fixture = Fixture::new("oft-tiny");
    let folder = test_support::oft_folder();
    let observation = oft::observation(&fixture, 0);
    let mirror = Mirror::new();
    let mut vla = quantized(folder.path());
    let (prepared, sequence) = sequence(&vla, &observation);
    let tokens = sequence.dim(0)?;
    for (static_layers, runs, fates) in choices() {
        let file = networks(static_layers, YES);
        vla = vla.with_skip_networks(&file, "skip.safetensors")?;
        let width = Width::A4;
        let all = Direct::new(&mirror, &file, &runs, width).pass(&sequence, false);
        // The window of 56 numbers, one position before the zero vectors and `</s>`.
        let expected = Prefilled {
            hidden: all.narrow(0, tokens - 58, 56)?,
            runs: Vec::new(),
            fates: Vec::new(),
            tokens,
            dims: prepared.dims,
        };
        let guide = guide(&vla, &BLIND);
        let mut probe = Probe::default();
        let prefilled = vla.prefill(&sequence, 7, width, Some(&guide), &mut probe)?;
        assert_eq!(prefilled.runs, runs);
        assert!(bits(&prefilled.hidden) == bits(&expected.hidden), "{fates}");
        let chunk = vla.decode(&expected, width, &mut probe)?.normalized;
        let (step, model) = run_step(vla, width, &observation)?;
        vla = model;
        assert_eq!(step.normalized, chunk, "{fates}");
        assert_eq!(names(&step.skip.unwrap().fates), fates);
    }
    Ok(())
}

/// The controller reads the mean of its layer's input over the tokens.
#[test]
fn controller_reads_the_mean_of_the_tokens() -> Result<()> {
    let fixture = Fixture::new("openvla-tiny");
    let mut file = networks(&[0, 3], 0.0);
    for controller in file.controllers.values_mut() {
        controller
            .hidden
            .iter_mut()
            .for_each(|w| *w *= bf16::from_f32(16.0));
    }
    let mut vla = skipping(&fixture.folder, &file);
    let (_, sequence) = sequence(&vla, &stages::observation(&fixture, 0));
    let mut input = Vec::new();
    let mut keep = |name: &str, value: &Tensor| {
        if name == "llama_layer0_out" {
            input = values(value);
        }
    };
    let guide = guide(&vla, &BLIND);
    let prefilled = vla.prefill(
        &sequence,
        7,
        Width::A8,
        Some(&guide),
        &mut Probe::new(&mut keep),
    )?;
    let (Fate::Skipped(p) | Fate::Declined(p)) = prefilled.fates[1] else {
        panic!("{:?}", prefilled.fates);
    };
    let controller = &file.controllers[&1];
    let probability = |x: &[f64]| {
        let square = x.iter().map(|x| x * x).sum::<f64>() / HIDDEN as f64;
        let scale = 1.0 / (square + 1e-5).sqrt();
        let rows = controller.hidden.chunks_exact(HIDDEN).zip(&controller.out);
        let logit: f64 = rows
            .map(|(row, out)| {
                let sum: f64 = row.iter().zip(x).map(|(w, x)| w.to_f64() * x * scale).sum();
                f64::from(*out) * sum / (1.0 + (-sum).exp())
            })
            .sum();
        1.0 / (1.0 + (-logit - f64::from(controller.bias)).exp())
    };
    let tokens = input.len() / HIDDEN;
    let mut mean = vec![0.0; HIDDEN];
    for row in input.chunks_exact(HIDDEN) {
        mean.iter_mut()
            .zip(row)
            .for_each(|(m, x)| *m += x / tokens as f64);
    }
    let (of_mean, of_last) = (
        probability(&mean),
        probability(&input[input.len() - HIDDEN..]),
    );
    println!("{p}: of the mean {of_mean}, of the last token {of_last}");
    assert!((f64::from(p) - of_mean).abs() < 1e-5);
    assert!((f64::from(p) - of_last).abs() > 1e-3);
    Ok(())
}

#[test]
fn rejects_networks_of_another_size() {
    let fixture = Fixture::new("openvla-tiny");
    for (layers, width) in [(LAYERS, 32), (5, HIDDEN)] {
        let file = random_skip_file(layers, width, &[0], NO);
        let vla = quantized(&fixture.folder);
        let error = vla
            .with_skip_networks(&file, "skip.safetensors")
            .unwrap_err();
        let expected = format!(
            "skip.safetensors: `config` is {layers} layers of width {width}: \
             expected 4 of width 64"
        );
        assert_eq!(error.to_string(), expected);
    }
    let options = StepOptions::default();
    let error = VlaRunner::skipping(quantized(&fixture.folder), &BLIND, None, options).unwrap_err();
    assert!(error.to_string().contains("no networks"), "{error}");
}
