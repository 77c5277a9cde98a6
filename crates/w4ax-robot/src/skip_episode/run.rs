//! A method over the recorded steps.
//!
//! Every run has the recorded observations. Only the layers that run differ, and so the actions.

use std::ops::Range;
use std::time::{Duration, Instant};

use w4ax::calibrate::distance;
use w4ax::dispatch::{Action, Dispatcher};
use w4ax::skip::{SkipReport, Verdict};
use w4ax::step::StepPipeline;
use w4ax::{Result, Width};

use super::blind::Blind;
use crate::compute::StepWidth;
use crate::early_exit::EarlyExit;
use crate::policy::Policy;
use crate::rollouts::{Rollouts, action};
use crate::shapes::{INPUT, Tokens};
use crate::skipping::Skipping;
use crate::steps::{PolicyEngine, RunLayers};

/// The width of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunWidth {
    /// The unquantized policy.
    Bf16,
    /// INT4 weights with activations of one width.
    W4(Width),
    /// INT4 weights with the dispatcher's width.
    W4Ax,
}

impl RunWidth {
    /// All, in the order of the tables.
    pub const ALL: [Self; 4] = [
        Self::Bf16,
        Self::W4(Width::Bf16),
        Self::W4(Width::A8),
        Self::W4Ax,
    ];

    /// Parses a name.
    ///
    /// # Errors
    /// A message with the known names, for another name.
    pub fn parse(name: &str) -> std::result::Result<Self, String> {
        let found = Self::ALL.into_iter().find(|width| width.name() == name);
        found.ok_or_else(|| format!("expected one of {}", Self::ALL.map(Self::name).join(", ")))
    }

    /// Returns the name in tables.
    pub fn name(self) -> String {
        match self {
            Self::Bf16 => "bf16".into(),
            Self::W4(width) => format!("w4a{}", width.bits()),
            Self::W4Ax => "w4ax".into(),
        }
    }
}

/// The result of a control step.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// L2 distance of the action to that of the full, unquantized policy.
    pub error: f64,
    /// Layers that ran, those of a second pass included.
    pub layers_run: usize,
    /// Whether it ran again.
    pub reran: bool,
    /// Time from the latch to the tokens.
    pub time: Duration,
    /// The width that the latch recorded.
    pub width: Width,
}

/// Selects and runs the layers of a step.
pub enum Runner {
    /// All layers.
    Full,
    /// The layers that the guide and the controllers select.
    Guided(Box<Skipping>),
    /// A share of the layers, without looking at the state.
    Blind(Box<Blind>),
    /// The layers before the exit.
    Exit(Box<EarlyExit>),
}

impl Runner {
    /// Returns the fates of the layers in the last step, if it was guided.
    pub fn report(&self) -> Option<&SkipReport> {
        match self {
            Self::Guided(skipping) => Some(skipping.skipper.report()),
            _ => None,
        }
    }

    fn reset(&mut self) {
        if let Self::Guided(skipping) = self {
            skipping.skipper.reset();
        }
    }

    /// Returns how many of `n` layers the last step ran, and whether it ran again.
    fn ran(&self, n: usize) -> (usize, bool) {
        match self.report() {
            Some(report) => (report.layers_run, report.verdict == Verdict::RanAgain),
            None => ((0..n).filter(|&layer| self.runs(layer)).count(), false),
        }
    }

    fn runs(&self, layer: usize) -> bool {
        match self {
            Self::Blind(blind) => blind.runs(layer),
            Self::Exit(exit) => layer < exit.layers(),
            _ => true,
        }
    }
}

impl RunLayers for Runner {
    fn run_layers(&mut self, policy: &mut Policy, input: &[f32; INPUT]) -> Result<Tokens> {
        match self {
            Self::Guided(skipping) => return skipping.run_layers(policy, input),
            Self::Exit(exit) => return exit.run_layers(policy, input),
            Self::Blind(blind) => blind.draw(),
            Self::Full => (),
        }
        policy.embed(std::slice::from_ref(input))?;
        for layer in (0..policy.blocks()).filter(|&layer| self.runs(layer)) {
            policy.run_block(layer, StepWidth::Latched)?;
        }
        policy.head_tokens(StepWidth::Latched)
    }
}

/// Recorded episodes, and the dispatchers of their tasks.
pub struct Recorded<'a> {
    /// The steps.
    pub rollouts: &'a Rollouts,
    /// The episodes that are run.
    pub episodes: &'a [Range<usize>],
    /// By task.
    pub dispatchers: &'a [Dispatcher],
}

impl Recorded<'_> {
    /// Runs all steps once. `see` gets the row of each step, its result, and the runner.
    ///
    /// # Errors
    /// Those of the policy's steps.
    pub fn run(
        &self,
        runner: &mut Runner,
        policy: &mut Policy,
        width: RunWidth,
        mut see: impl FnMut(usize, &Step, &Runner),
    ) -> Result<()> {
        let blocks = policy.blocks();
        let mut pipeline = StepPipeline::new(PolicyEngine::new(policy, runner), None);
        for episode in self.episodes {
            pipeline.engine_mut().layers.reset();
            let dispatcher = &self.dispatchers[self.rollouts.task[episode.start]];
            pipeline.set_dispatcher(dispatcher.clone())?;
            let mut last: Option<Action> = None;
            for row in episode.clone() {
                match width {
                    RunWidth::Bf16 => pipeline.request(Width::Bf16)?,
                    RunWidth::W4(width) => pipeline.request(width)?,
                    RunWidth::W4Ax => drop(pipeline.decide(last.as_slice())?),
                }
                let start = Instant::now();
                let report = pipeline.run(&self.rollouts.input[row])?;
                let time = start.elapsed();
                let engine = pipeline.engine();
                let (action, reference) =
                    (action(&engine.tokens()), action(&self.rollouts.bf16[row]));
                let (layers_run, reran) = engine.layers.ran(blocks);
                let step = Step {
                    error: distance(&action, &reference),
                    layers_run,
                    reran,
                    time,
                    width: report.decode.width,
                };
                see(row, &step, &*engine.layers);
                last = Some(action);
            }
        }
        Ok(())
    }
}
