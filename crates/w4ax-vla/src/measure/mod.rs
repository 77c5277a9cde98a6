//! Measures a model of full size with random weights: memory, and the time of each part at each
//! width. [`predictions`] returns what a static model predicts for GPUs.
//!
//! No checkpoint is needed. The times and the memory of a step do not depend on the values of the
//! weights.
//!
//! # Order of calls
//! [`Measurement::run`] makes the model, runs each width once to fill caches and then
//! `steps` ([`MeasureOptions`]) times, and returns the medians.

mod memory;
mod predicted;

pub use memory::{peak_memory, reset_peak_memory};
pub use predicted::{PredictedTime, predictions};

use crate::checkpoint::RandomWeights;
use crate::config::{DatasetStats, ModelConfig, NormStats, ProcessorConfig, Stats};
use crate::image::RgbImage;
use crate::model::{
    LayerTimes, LoadOptions, LoadProgress, ModelFiles, ModelPart, Observation, Vla,
};
use crate::step::{StepPart, VlaRunner, VlaStep};
use crate::text::PromptStyle;
use crate::{Result, VlaError};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use w4ax::Width;
use w4ax::step::StepOptions;

/// The shape of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ModelShape {
    /// OpenVLA-7B: one image, 7 tokens decoded one by one.
    OpenVla7b,
    /// OpenVLA-OFT of the same size for LIBERO: two images, a state, and 8 actions in one pass.
    Oft7b,
}

impl ModelShape {
    /// Returns the name of the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenVla7b => "openvla-7b",
            Self::Oft7b => "oft-7b",
        }
    }

    /// Returns the tokens of the prompt, BOS and the last `▁` included: 281 tokens in all for
    /// OpenVLA, 600 for OFT.
    const fn prompt(self) -> usize {
        match self {
            Self::OpenVla7b => 25,
            Self::Oft7b => 30,
        }
    }
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct MeasureOptions {
    shape: ModelShape,
    load: LoadOptions,
    widths: Vec<Width>,
    steps: usize,
}

impl MeasureOptions {
    /// Measures a shape on the CPU with the default options of a load, all widths, three steps
    /// each.
    pub fn new(shape: ModelShape) -> Self {
        Self {
            shape,
            load: LoadOptions::default(),
            widths: Width::ALL.to_vec(),
            steps: 3,
        }
    }

    /// Sets how the model is loaded: device, packed vision, rows of the head.
    #[must_use]
    pub fn with_load(mut self, load: LoadOptions) -> Self {
        self.load = load;
        self
    }

    /// Sets the widths.
    #[must_use]
    pub fn with_widths(mut self, widths: impl Into<Vec<Width>>) -> Self {
        self.widths = widths.into();
        self
    }

    /// Sets the steps per width, at least 1.
    #[must_use]
    pub fn with_steps(mut self, steps: usize) -> Self {
        self.steps = steps.max(1);
        self
    }
}

/// The steps of one width.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WidthMeasurement {
    /// The width.
    pub width: Width,
    /// The median time of each part.
    pub times: BTreeMap<StepPart, Duration>,
    /// The median time of a step.
    pub step: Duration,
    /// The times of the prefill's layers in the last step.
    pub layers: LayerTimes,
    /// The normalized actions, equal in all steps.
    pub actions: Vec<f64>,
    /// The tokens of the actions, equal in all steps; empty with an action head.
    pub tokens: Vec<u32>,
    /// The largest resident memory of the process in these steps, in bytes.
    pub peak: Option<u64>,
}

/// The measurements of a model.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Measurement {
    /// The shape.
    pub shape: ModelShape,
    /// Tokens of the sequence.
    pub tokens: usize,
    /// Bytes by part.
    pub memory: Vec<(ModelPart, u64)>,
    /// The largest resident memory of the process while the model was made, in bytes. `None` where
    /// the system does not report it.
    pub peak_load: Option<u64>,
    /// The time to make the model.
    pub load: Duration,
    /// The steps of each width.
    pub widths: Vec<WidthMeasurement>,
}

impl Measurement {
    /// Makes the model and runs the steps.
    ///
    /// # Errors
    /// - [`VlaError::Memory`] if the model does not fit.
    /// - [`VlaError::InvalidState`] if two steps of one width have different actions.
    pub fn run(
        options: &MeasureOptions,
        progress: &mut dyn FnMut(LoadProgress<'_>),
    ) -> Result<Self> {
        let shape = options.shape;
        let one_pass = shape == ModelShape::Oft7b;
        let begin = Instant::now();
        reset_peak_memory();
        let source = RandomWeights::openvla_7b(one_pass);
        let vla = Vla::from_source(&source, files(one_pass)?, &options.load, progress)?;
        let (load, peak_load) = (begin.elapsed(), peak_memory());
        let memory = vla.bytes();
        let observation = observation(shape)?;
        let tokens =
            shape.prompt() + 256 * observation.images().len() + if one_pass { 58 } else { 0 };
        let mut runner = VlaRunner::new(vla, None, StepOptions::default())?;
        let mut widths = Vec::new();
        for &width in &options.widths {
            widths.push(measure_width(
                &mut runner,
                &observation,
                width,
                options.steps,
            )?);
        }
        Ok(Self {
            shape,
            tokens,
            memory,
            peak_load,
            load,
            widths,
        })
    }
}

fn measure_width(
    runner: &mut VlaRunner,
    observation: &Observation,
    width: Width,
    steps: usize,
) -> Result<WidthMeasurement> {
    let mut run = || -> Result<(VlaStep, Duration)> {
        runner.request(width)?;
        let begin = Instant::now();
        let step = runner.step(observation)?;
        Ok((step, begin.elapsed()))
    };
    reset_peak_memory();
    let (first, _) = run()?;
    let mut times: BTreeMap<StepPart, Vec<Duration>> = BTreeMap::new();
    let (mut whole, mut layers) = (Vec::new(), LayerTimes::default());
    for _ in 0..steps {
        let (step, time) = run()?;
        if (&step.normalized, &step.tokens) != (&first.normalized, &first.tokens) {
            return Err(VlaError::InvalidState {
                call: "measure",
                reason: format!("two steps at {width} have different actions"),
            });
        }
        whole.push(time);
        for (part, time) in step.times {
            times.entry(part).or_default().push(time);
        }
        layers = step.layer_times;
    }
    Ok(WidthMeasurement {
        width,
        times: times
            .into_iter()
            .map(|(part, all)| (part, median(all)))
            .collect(),
        step: median(whole),
        layers,
        actions: first.normalized,
        tokens: first.tokens,
        peak: peak_memory(),
    })
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Returns what a checkpoint holds beside its weights.
fn files(one_pass: bool) -> Result<ModelFiles> {
    let action = Stats::new(vec![-1.0; 7], vec![1.0; 7])?;
    let proprio = Stats::new(vec![-1.0; 8], vec![1.0; 8])?;
    let dataset = DatasetStats::new(action, Some(proprio));
    Ok(ModelFiles {
        config: ModelConfig::openvla_7b(),
        stats: NormStats::new("random weights", vec![("random".into(), dataset)]),
        processor: ProcessorConfig::openvla_7b().processor()?,
        tokenizer: None,
        style: PromptStyle::OpenVla,
        one_pass,
    })
}

/// Returns a step's input: pictures with structure at every scale, and a prompt of token ids.
fn observation(shape: ModelShape) -> Result<Observation> {
    let (width, height) = (640, 480);
    let picture = |shift: usize| {
        let value = |at: usize| {
            let (x, y, channel) = (at / 3 % width, at / 3 / width, at % 3);
            ((x * (3 + channel) + shift) ^ (y * 5)) as u8
        };
        RgbImage::new(width, height, (0..width * height * 3).map(value).collect())
    };
    let images = match shape {
        ModelShape::OpenVla7b => vec![picture(0)?],
        ModelShape::Oft7b => vec![picture(0)?, picture(77)?],
    };
    let mut ids = vec![1];
    ids.extend((1..shape.prompt() as u32 - 1).map(|i| 300 + 17 * i));
    ids.push(29871);
    let state = [0.1, -0.3, 0.2, 0.0, 0.5, -0.5, 0.9, -0.9];
    Ok(Observation::new(images, ids).with_proprio(state.to_vec()))
}
