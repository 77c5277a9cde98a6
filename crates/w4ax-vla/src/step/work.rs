//! The computation of a step.

use crate::model::{Decoded, LayerTimes, Observation, Prefilled, Probe, Vla};
use crate::{Result, VlaError};
use candle_core::Tensor;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use w4ax::Width;
use w4ax::skip::{Guide, SkipReport, Verdict};
use w4ax::step::{HostStep, RunOrder};

/// A part of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum StepPart {
    /// Resizing and normalizing the images, and encoding the prompt.
    Preprocess,
    /// The vision towers.
    Vision,
    /// The projector, and the assembly of the sequence.
    Projector,
    /// The language model on the whole sequence.
    Prefill,
    /// OpenVLA: the tokens of the action, with the head of the language model.
    Decode,
    /// OFT: the action head.
    Head,
}

impl StepPart {
    /// Returns the name, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Preprocess => "preprocess",
            Self::Vision => "vision",
            Self::Projector => "projector",
            Self::Prefill => "prefill",
            Self::Decode => "decode",
            Self::Head => "head",
        }
    }
}

impl std::fmt::Display for StepPart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// What a step leaves for its caller.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub actions: Option<StepActions>,
    pub times: BTreeMap<StepPart, Duration>,
    /// Of the prefill's layers.
    pub layers: LayerTimes,
    pub skip: Option<SkipReport>,
    pub error: Option<VlaError>,
}

/// The actions of a step.
#[derive(Debug)]
pub(super) struct StepActions {
    pub decoded: Decoded,
    /// `[n, dims]`, in the units of the data set.
    pub scaled: Vec<f64>,
    pub dims: usize,
}

/// The outcome of the last step, shared by the thread of the steps and the caller.
pub(super) type Shared = Arc<Mutex<Outcome>>;

/// The model on the thread of the steps.
#[derive(Debug)]
pub(super) struct Work {
    pub vla: Vla,
    /// The allow-points, if layers are skipped.
    pub guide: Option<Guide>,
    pub shared: Shared,
    /// Between prefill and decode.
    pending: Option<Pending>,
    /// The sequence of a first run, for the second.
    sequence: Option<(Tensor, usize)>,
    /// The actions of a first run, which the guide observes unless a second run follows.
    unobserved: Option<Vec<f64>>,
}

#[derive(Debug)]
struct Pending {
    sequence: Tensor,
    prefilled: Prefilled,
    width: Width,
}

/// The input of a step.
#[derive(Clone, Debug, Default)]
pub(super) struct Input {
    pub observation: Observation,
    /// Starts an episode before the step.
    pub reset: bool,
    /// Which run of a step this is.
    pub run: RunOrder,
}

impl Work {
    pub fn new(vla: Vla, guide: Option<Guide>, shared: Shared) -> Self {
        Self {
            vla,
            guide,
            shared,
            pending: None,
            sequence: None,
            unobserved: None,
        }
    }

    fn run_prefill(&mut self, input: &Input, width: Width) -> Result<()> {
        self.pending = None;
        let mut outcome = Outcome::default();
        let result = self.prefill_into(input, width, &mut outcome);
        if result.is_err()
            && let Some(guide) = &mut self.guide
        {
            guide.fail();
        }
        *lock(&self.shared) = outcome;
        result
    }

    fn prefill_into(&mut self, input: &Input, width: Width, outcome: &mut Outcome) -> Result<()> {
        if input.reset
            && let Some(guide) = &mut self.guide
        {
            guide.reset();
        }
        if input.run == RunOrder::Second {
            return self.prefill_second(width, outcome);
        }
        // The actions of the last first run were executed.
        if let (Some(guide), Some(actions)) = (&mut self.guide, self.unobserved.take())
            && !input.reset
        {
            guide.observe(&actions)?;
        }
        self.sequence = None;
        let (vla, times) = (&mut self.vla, &mut outcome.times);
        let mut probe = Probe::default();
        let prepared = timed(times, StepPart::Preprocess, || {
            vla.prepare(&input.observation)
        })?;
        let features = timed(times, StepPart::Vision, || {
            let features = vla.see(&prepared, &mut probe)?;
            vla.synchronize()?;
            Ok(features)
        })?;
        let sequence = timed(times, StepPart::Projector, || {
            let sequence = vla.sequence(&prepared, &features, &mut probe)?;
            vla.synchronize()?;
            Ok(sequence)
        })?;
        drop(features);
        probe.take_times();
        let guide = self.guide.as_ref();
        let prefilled = timed(times, StepPart::Prefill, || {
            let prefilled = vla.prefill(&sequence, prepared.dims, width, guide, &mut probe)?;
            vla.synchronize()?;
            Ok(prefilled)
        })?;
        outcome.layers = probe.take_times();
        if input.run == RunOrder::First {
            self.sequence = Some((sequence.clone(), prepared.dims));
        }
        self.pending = Some(Pending {
            sequence,
            prefilled,
            width,
        });
        Ok(())
    }

    /// Runs the prefill of the last first run again, with all layers. What does not depend on the
    /// width is not computed again.
    fn prefill_second(&mut self, width: Width, outcome: &mut Outcome) -> Result<()> {
        self.unobserved = None;
        let Some((sequence, dims)) = self.sequence.take() else {
            return Err(VlaError::InvalidState {
                call: "prefill",
                reason: "a second run follows no first run".into(),
            });
        };
        let (vla, mut probe) = (&mut self.vla, Probe::default());
        let prefilled = timed(&mut outcome.times, StepPart::Prefill, || {
            let prefilled = vla.prefill(&sequence, dims, width, None, &mut probe)?;
            vla.synchronize()?;
            Ok(prefilled)
        })?;
        outcome.layers = probe.take_times();
        self.pending = Some(Pending {
            sequence,
            prefilled,
            width,
        });
        Ok(())
    }

    fn run_decode(&mut self, input: &Input, width: Width) -> Result<()> {
        let Some(pending) = self.pending.take() else {
            return Err(VlaError::InvalidState {
                call: "decode",
                reason: "no prefill".into(),
            });
        };
        let mut outcome = std::mem::take(&mut *lock(&self.shared));
        let key = input.observation.unnorm_key();
        let result = self.decode_into(&pending, width, (key, input.run), &mut outcome);
        if result.is_err()
            && let Some(guide) = &mut self.guide
        {
            guide.fail();
        }
        *lock(&self.shared) = outcome;
        result
    }

    fn decode_into(
        &mut self,
        pending: &Pending,
        width: Width,
        (key, run): (Option<&str>, RunOrder),
        outcome: &mut Outcome,
    ) -> Result<()> {
        let mut decoded = self.actions(&pending.prefilled, width, outcome)?;
        if let Some(guide) = &self.guide {
            let fates = pending.prefilled.fates.clone();
            let mut layers_run = fates.iter().filter(|fate| fate.ran()).count();
            let skipped = layers_run < fates.len();
            let judgment = guide.judge(&decoded.normalized)?;
            let verdict = match (judgment.drops, skipped) {
                (false, _) => Verdict::Passed,
                (true, false) => Verdict::NothingSkipped,
                (true, true) if run == RunOrder::First => Verdict::MustRunAgain,
                (true, true) => Verdict::RanAgain,
            };
            let allow_points = guide.allow_points().to_vec();
            if verdict == Verdict::RanAgain {
                let again = self.prefill_again(pending, outcome)?;
                layers_run += again.fates.len();
                decoded = self.actions(&again, width, outcome)?;
            }
            let judgment = match &mut self.guide {
                Some(_) if run == RunOrder::First => {
                    self.unobserved = Some(decoded.normalized.clone());
                    judgment
                }
                Some(guide) => guide.observe(&decoded.normalized)?,
                None => judgment,
            };
            outcome.skip = Some(SkipReport {
                fates,
                allow_points,
                layers_run,
                verdict,
                judgment,
            });
        }
        outcome.actions = Some(StepActions {
            scaled: self.vla.unnormalize(&decoded.normalized, key)?,
            dims: pending.prefilled.dims,
            decoded,
        });
        Ok(())
    }

    /// Runs the prefill of the step with all layers.
    fn prefill_again(&mut self, pending: &Pending, outcome: &mut Outcome) -> Result<Prefilled> {
        let (vla, dims) = (&mut self.vla, pending.prefilled.dims);
        let mut probe = Probe::default();
        let prefilled = timed(&mut outcome.times, StepPart::Prefill, || {
            let again = vla.prefill(&pending.sequence, dims, pending.width, None, &mut probe)?;
            vla.synchronize()?;
            Ok(again)
        })?;
        outcome.layers.add(&probe.take_times());
        Ok(prefilled)
    }

    fn actions(
        &mut self,
        prefilled: &Prefilled,
        width: Width,
        outcome: &mut Outcome,
    ) -> Result<Decoded> {
        let part = if self.vla.is_one_pass() {
            StepPart::Head
        } else {
            StepPart::Decode
        };
        timed(&mut outcome.times, part, || {
            self.vla.decode(prefilled, width, &mut Probe::default())
        })
    }

    /// Keeps the error for the caller. The engine's own error cannot carry it.
    fn keep(&self, call: &'static str, result: Result<()>) -> w4ax::Result<()> {
        result.map_err(|error| {
            let reason = error.to_string();
            lock(&self.shared).error = Some(error);
            w4ax::Error::InvalidState { call, reason }
        })
    }
}

impl HostStep for Work {
    type Observation = Input;
    type Loaded = Input;

    fn load(loaded: &mut Input, input: &Input) {
        loaded.clone_from(input);
    }

    fn prefill(&mut self, input: &Input, width: Width) -> w4ax::Result<()> {
        let result = self.run_prefill(input, width);
        self.keep("prefill", result)
    }

    fn decode(&mut self, input: &Input, width: Width) -> w4ax::Result<()> {
        let result = self.run_decode(input, width);
        self.keep("decode", result)
    }
}

pub(super) fn lock(shared: &Shared) -> std::sync::MutexGuard<'_, Outcome> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn timed<T>(
    times: &mut BTreeMap<StepPart, Duration>,
    part: StepPart,
    run: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let begin = Instant::now();
    let result = run();
    *times.entry(part).or_default() += begin.elapsed();
    result
}
