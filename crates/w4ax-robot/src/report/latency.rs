//! The time of a control step on each rung of the [`super::ladder`], and of the decision: on
//! the critical path, or hidden by the prefill.
//!
//! All variants run the same recorded steps in one run and take turns at every step, so that a slow
//! phase of the machine meets all of them. Each has an engine of its own with the same weights. A
//! step lasts from the moment its actions are known to the end of its decode, the decision
//! included.
//!
//! The critical path holds a decision that is made before the step or its prefill. Of a decision
//! during the prefill it holds the wait of the decode for its width. Both are timed on their own,
//! because they are much shorter than a step.
//!
//! A decision takes a few microseconds at most. So the comparison is made once more with a decision
//! that takes as long as one in another process or an interpreter: the thread of the caller waits
//! actively before it decides.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use w4ax::cpu::Cpu;
use w4ax::dispatch::{Action, DispatchConfig, Dispatcher, LayerFloors};
use w4ax::step::{Decide, HostEngine, Outcome, PrefillWidth, StepOptions, StepPipeline};
use w4ax::{Result, Width};

use super::ByWidth;
use super::fixed::shares;
use super::interval::Spread;
use super::ladder::{self, Rung};
use super::workload::{Workload, WorkloadWeights};

/// A latch waits this long for a decision.
const SPIN: Duration = Duration::from_millis(500);

/// When a step is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Before the step; the width applies to the prefill as well.
    BeforeStep,
    /// Before the prefill, which runs at the last width: the control of the next one.
    BeforePrefill,
    /// While the prefill runs at the last width.
    DuringPrefill,
}

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Variant {
    rung: Rung,
    order: Order,
    delay: Duration,
}

/// The steps that are timed: consecutive ones of an episode.
#[derive(Clone, Debug)]
pub struct TimedSteps<'a> {
    /// `[rows]`: the actions of the recorded steps.
    pub actions: &'a [Action],
    /// The rows of the episode up to the last timed step.
    pub rows: Range<usize>,
    /// The first timed step.
    pub first: usize,
    /// The configuration of the episode's task.
    pub config: DispatchConfig,
}

/// The times of one variant.
#[derive(Clone, Debug, Serialize)]
pub struct StepLatency {
    /// The rung.
    pub rung: Rung,
    /// When the step is decided.
    pub order: Order,
    /// The time that the decision was made longer, in microseconds.
    pub delay_micros: f64,
    /// The mean of the steps, each the shortest of its rounds, in milliseconds.
    pub mean_ms: f64,
    /// The spread of the steps, in milliseconds.
    pub spread: Spread,
    /// The median time of the decision with the flag stored, in nanoseconds, without the delay.
    pub decide_nanos: Option<f64>,
    /// The share of steps whose decode ran at each width.
    pub share: ByWidth,
    /// The steps, of all rounds, whose decision was not on time.
    pub late: usize,
}

/// The synchronous and the asynchronous decision, step by step.
#[derive(Clone, Debug, Serialize)]
pub struct Overlap {
    /// The time that the decision was made longer, in microseconds.
    pub delay_micros: f64,
    /// A step with the decision before the prefill, mean in milliseconds.
    pub synchronous_ms: f64,
    /// A step with the decision during the prefill, mean in milliseconds.
    pub asynchronous_ms: f64,
    /// The decision on the critical path, in microseconds: made before the prefill.
    pub critical_before: Spread,
    /// The decision on the critical path, in microseconds: made during the prefill.
    pub critical_during: Spread,
    /// The time that the overlap saved in a step, between the shortest of the rounds, in
    /// microseconds.
    pub saved_micros: Spread,
}

/// All times.
#[derive(Clone, Debug, Serialize)]
pub struct Latencies {
    /// The timed steps.
    pub steps: usize,
    /// The rounds.
    pub rounds: usize,
    /// One per rung, in the order of [`Rung::ALL`].
    pub rungs: Vec<StepLatency>,
    /// Without and with a longer decision.
    pub overlaps: Vec<Overlap>,
}

/// A variant while it runs.
struct Running {
    variant: Variant,
    pipeline: StepPipeline<HostEngine<Workload>>,
    /// The dispatcher before the first timed step.
    dispatcher: Option<Dispatcher>,
    /// `[steps][rounds]`, in microseconds.
    micros: Vec<Vec<f64>>,
    decide: Vec<f64>,
    /// The decision on the critical path, in microseconds.
    critical: Vec<f64>,
    gap: Arc<AtomicU64>,
    widths: Vec<Width>,
    late: usize,
}

impl Latencies {
    /// Times all variants. `delay` is that of the longer decision.
    ///
    /// # Errors
    /// As [`Workload::new`], [`HostEngine::new`] and the pipeline.
    pub fn measure(
        weights: &WorkloadWeights,
        layers: usize,
        cpu: &Cpu,
        steps: &TimedSteps<'_>,
        rounds: usize,
        delay: Duration,
    ) -> Result<Self> {
        let timed = steps.rows.end - steps.first;
        let mut all = Vec::new();
        for variant in variants(delay) {
            let floors = match variant.rung {
                Rung::Floors => ladder::floors(layers),
                _ => LayerFloors::none(layers),
            };
            let workload = Workload::new(weights, cpu.clone(), floors)?;
            all.push(Running::new(variant, workload, steps)?);
        }
        for _ in 0..rounds {
            for running in &mut all {
                running.begin_round()?;
            }
            for step in 0..timed {
                for turn in 0..all.len() {
                    let at = (turn + step) % all.len();
                    all[at].step(steps, step)?;
                }
            }
        }
        let find = |rung, order, delay| {
            let variant = Variant { rung, order, delay };
            (all.iter()).find(|running| running.variant == variant)
        };
        let rungs = Rung::ALL.into_iter().filter_map(|rung| {
            let order = match rung {
                Rung::Asynchronous => Order::DuringPrefill,
                _ => Order::BeforeStep,
            };
            Some(find(rung, order, Duration::ZERO)?.latency())
        });
        let overlaps = [Duration::ZERO, delay].into_iter().filter_map(|delay| {
            let before = find(Rung::Asynchronous, Order::BeforePrefill, delay)?;
            let during = find(Rung::Asynchronous, Order::DuringPrefill, delay)?;
            Overlap::of(before, during)
        });
        Ok(Self {
            steps: timed,
            rounds,
            rungs: rungs.collect(),
            overlaps: overlaps.collect(),
        })
    }
}

/// Returns the variants: each rung, and the order of the decision without and with a delay.
fn variants(delay: Duration) -> Vec<Variant> {
    let variant = |rung, order, delay| Variant { rung, order, delay };
    let mut all = vec![
        variant(Rung::StaticA4, Order::BeforeStep, Duration::ZERO),
        variant(Rung::TwoWidths, Order::BeforeStep, Duration::ZERO),
        variant(Rung::MixedPrecision, Order::BeforeStep, Duration::ZERO),
        variant(Rung::Floors, Order::BeforeStep, Duration::ZERO),
    ];
    let delays = [Duration::ZERO, delay];
    for delay in &delays[..if delay.is_zero() { 1 } else { 2 }] {
        for order in [Order::BeforePrefill, Order::DuringPrefill] {
            all.push(variant(Rung::Asynchronous, order, *delay));
        }
    }
    all
}

impl Running {
    fn new(variant: Variant, workload: Workload, steps: &TimedSteps<'_>) -> Result<Self> {
        let decide = match variant.order {
            Order::BeforeStep => Decide::BeforeStep,
            Order::BeforePrefill | Order::DuringPrefill => {
                Decide::DuringPrefill(PrefillWidth::LastLatched)
            }
        };
        let options = StepOptions::default().with_decide(decide).with_spin(SPIN);
        let dispatcher = match variant.rung {
            Rung::StaticA4 => None,
            rung => Some(before(&rung.config(&steps.config), steps)?),
        };
        Ok(Self {
            variant,
            gap: workload.gap(),
            critical: Vec::new(),
            pipeline: StepPipeline::new(HostEngine::new(workload, options)?, None),
            dispatcher,
            micros: vec![Vec::new(); steps.rows.end - steps.first],
            decide: Vec::new(),
            widths: Vec::new(),
            late: 0,
        })
    }

    fn begin_round(&mut self) -> Result<()> {
        self.widths.clear();
        self.pipeline.set_dispatcher(self.dispatcher.clone())
    }

    /// Runs and times a step.
    fn step(&mut self, steps: &TimedSteps<'_>, step: usize) -> Result<()> {
        let row = steps.first + step;
        // The first step of an episode has no action before it.
        let known = match row > steps.rows.start {
            true => &steps.actions[row - 1..row],
            false => &[],
        };
        let start = Instant::now();
        if self.variant.order != Order::DuringPrefill {
            self.choose(known)?;
        }
        let chosen = start.elapsed();
        self.pipeline.begin(&())?;
        if self.variant.order == Order::DuringPrefill {
            self.choose(known)?;
        }
        let report = self.pipeline.finish()?;
        self.micros[step].push(start.elapsed().as_secs_f64() * 1e6);
        let gap = self.gap.load(Ordering::Relaxed) as f64 / 1e3;
        self.critical.push(chosen.as_secs_f64() * 1e6 + gap);
        self.widths.push(report.decode.width);
        self.late += usize::from(report.decode.outcome != Outcome::OnTime);
        Ok(())
    }

    /// Stores the width of the step.
    fn choose(&mut self, known: &[Action]) -> Result<()> {
        if self.variant.rung == Rung::StaticA4 {
            return self.pipeline.request(Width::A4);
        }
        let start = Instant::now();
        while start.elapsed() < self.variant.delay {
            std::hint::spin_loop();
        }
        let start = Instant::now();
        self.pipeline.decide(known)?;
        self.decide.push(start.elapsed().as_secs_f64() * 1e9);
        Ok(())
    }

    /// Returns the shortest time of each step, in milliseconds: other programs only add to it.
    fn shortest(&self) -> Vec<f64> {
        let shortest = |micros: &Vec<f64>| micros.iter().copied().fold(f64::INFINITY, f64::min);
        self.micros
            .iter()
            .map(|step| shortest(step) / 1e3)
            .collect()
    }

    fn latency(&self) -> StepLatency {
        let spread = Spread::of(&mut self.shortest()).expect("at least one step was timed");
        StepLatency {
            rung: self.variant.rung,
            order: self.variant.order,
            delay_micros: self.variant.delay.as_secs_f64() * 1e6,
            mean_ms: spread.mean,
            spread,
            decide_nanos: Spread::of(&mut self.decide.clone()).map(|s| s.median),
            share: shares(&self.widths),
            late: self.late,
        }
    }
}

impl Overlap {
    fn of(before: &Running, during: &Running) -> Option<Self> {
        let (mut before_ms, mut during_ms) = (before.shortest(), during.shortest());
        let saved = before_ms.iter().zip(&during_ms).map(|(a, b)| 1e3 * (a - b));
        let mut saved: Vec<f64> = saved.collect();
        Some(Self {
            delay_micros: before.variant.delay.as_secs_f64() * 1e6,
            saved_micros: Spread::of(&mut saved)?,
            critical_before: Spread::of(&mut before.critical.clone())?,
            critical_during: Spread::of(&mut during.critical.clone())?,
            synchronous_ms: Spread::of(&mut before_ms)?.mean,
            asynchronous_ms: Spread::of(&mut during_ms)?.mean,
        })
    }
}

/// Returns the dispatcher before the first timed step: all actions before it are observed but the
/// last, which the step itself observes.
fn before(config: &DispatchConfig, steps: &TimedSteps<'_>) -> Result<Dispatcher> {
    let mut dispatcher = Dispatcher::new(config)?;
    for row in steps.rows.start..steps.first {
        if row > steps.rows.start {
            dispatcher.observe(&steps.actions[row - 1])?;
        }
        dispatcher.decide();
    }
    Ok(dispatcher)
}

/// Returns the `count` consecutive rows of an episode at which the widths change most often, and
/// the rows of the episode up to their end. An episode that is shorter is taken whole.
pub fn window(episodes: &[Range<usize>], widths: &[Width], count: usize) -> (Range<usize>, usize) {
    let mut best = (0..0, 0, None);
    for episode in episodes {
        let count = count.clamp(1, episode.len().max(1));
        for first in episode.start..=episode.end - count.min(episode.len()) {
            let changes = widths[first..first + count].windows(2);
            let changes = changes.filter(|pair| pair[0] != pair[1]).count();
            if best.2.is_none_or(|most| changes > most) {
                best = (episode.start..first + count, first, Some(changes));
            }
        }
    }
    (best.0, best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_has_the_most_changes_of_width() {
        let (a, b) = (Width::A4, Width::Bf16);
        let widths = [a, a, a, a, b, b, a, b, a, a];
        assert_eq!(window(&[0..4, 4..10], &widths, 3), (4..8, 5));
        assert_eq!(window(&[0..4, 4..10], &widths, 99), (4..10, 4));
    }
}
