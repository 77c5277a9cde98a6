//! Completes recorded steps: a model computes the actions that they lack.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use w4ax::{Grouping, Width};
use w4ax_vla::model::{Instruction, LoadOptions, Numerics, Observation, Probe, Vla};

use super::recording::Recording;
use super::step::{Output, Series};
use crate::vla::{Input, InputOptions, load, quantize};

/// The longest time that computed actions are not saved.
const SAVE_AFTER: Duration = Duration::from_secs(30);

/// Computes the missing actions of all steps. Saves the steps to `record` from time to time, and at
/// the end.
///
/// The reference comes from the unquantized model in BF16, the actions at each width from the model
/// with INT4 weights in groups of 128. Only one of them is in memory at a time.
///
/// # Errors
/// Those of the model; [`w4ax::Error::Format`] for a step without the input that the model needs.
pub fn complete(
    recording: &mut Recording,
    folder: &Path,
    input: &InputOptions,
    record: Option<&Path>,
) -> Result<(), Box<dyn Error>> {
    let quantized = Numerics::Quantized(quantize(Grouping::G128));
    for (numerics, wanted) in [
        (Numerics::Bf16, &Series::ALL[..1]),
        (quantized, &Series::ALL[1..]),
    ] {
        let steps: Vec<usize> = (0..recording.len())
            .filter(|&at| !recording.missing(at, wanted).is_empty())
            .collect();
        if steps.is_empty() {
            continue;
        }
        // Wrong inputs are found before the model is loaded, which takes longer.
        for &at in &steps {
            read(recording, at)?;
        }
        let options = LoadOptions::default()
            .with_numerics(numerics)
            .with_platform(input.platform.into());
        let mut model = load(folder, &options)?;
        let bar = ProgressBar::new(steps.len() as u64);
        if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} steps, {eta} left")
        {
            bar.set_style(style);
        }
        let mut saved = Instant::now();
        for at in steps {
            let observation = input.observation(&model, &read(recording, at)?);
            let missing = recording.missing(at, wanted);
            for (series, output) in run(&mut model, &observation, &missing)
                .map_err(|error| recording.error(at, error))?
            {
                recording.set(at, series, output)?;
            }
            bar.inc(1);
            if let Some(path) = record
                && saved.elapsed() > SAVE_AFTER
            {
                recording.save(path)?;
                saved = Instant::now();
            }
        }
        bar.finish_and_clear();
    }
    match record {
        Some(path) => Ok(recording.save(path)?),
        None => Ok(()),
    }
}

/// Reads the input of a step.
fn read(recording: &Recording, at: usize) -> w4ax::Result<Input> {
    let step = recording.step(at);
    let instruction = match (&step.tokens, &step.instruction) {
        (Some(tokens), _) => Instruction::Tokens(tokens.clone()),
        (None, Some(text)) => Instruction::Text(text.clone()),
        (None, None) => return Err(recording.error(at, "no `instruction` for the model")),
    };
    let input = Input::read(&recording.images(at), instruction, step.proprio.clone());
    input.map_err(|error| recording.error(at, error))
}

/// Runs the model at each width. The images are seen once.
fn run(
    model: &mut Vla,
    observation: &Observation,
    series: &[Series],
) -> w4ax_vla::Result<Vec<(Series, Output)>> {
    let mut probe = Probe::default();
    let prepared = model.prepare(observation)?;
    let features = model.see(&prepared, &mut probe)?;
    let sequence = model.sequence(&prepared, &features, &mut probe)?;
    let mut outputs = Vec::with_capacity(series.len());
    for &series in series {
        let width = match series {
            // An unquantized model has no width.
            Series::Reference => Width::Bf16,
            Series::At(width) => width,
        };
        let prefilled = model.prefill(&sequence, prepared.dims, width, None, &mut probe)?;
        let decoded = model.decode(&prefilled, width, &mut probe)?;
        let rows = decoded.normalized.chunks(prepared.dims);
        let output = match model.chunk() {
            1 => Output::Action(decoded.normalized),
            _ => Output::Chunk(rows.map(<[f64]>::to_vec).collect()),
        };
        outputs.push((series, output));
    }
    Ok(outputs)
}
