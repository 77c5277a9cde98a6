//! A method over the recorded steps.
//!
//! The observations are the recorded ones in every run. What differs is which layers run, and with it the action.

use std::ops::Range;
use std::time::{Duration, Instant};

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use w4ax::calibrate::distance;
use w4ax::dispatch::Dispatcher;
use w4ax::skip::{StepReport, Verdict};
use w4ax::step::Executed;
use w4ax::{Error, Precision, Result};

use crate::method::{Pattern, Rule};
use crate::robot::compute::StepWidth;
use crate::robot::networks::Networks;
use crate::robot::policy::{Policy, tokens_of};
use crate::robot::rollouts::{INPUT, Rollouts, Tokens, action};
use crate::robot::skipping::Skipping;

/// The width of a run's steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunWidth {
    /// The unquantised policy.
    Bf16,
    /// INT4 weights, activations of one width.
    W4(Precision),
    /// INT4 weights, the dispatcher's width.
    W4Ax,
}

impl RunWidth {
    /// All that are run.
    pub const ALL: [Self; 4] = [
        Self::Bf16,
        Self::W4(Precision::Bf16),
        Self::W4(Precision::A8),
        Self::W4Ax,
    ];

    /// One of them by its name.
    ///
    /// # Errors
    /// The names that there are.
    pub fn parse(name: &str) -> std::result::Result<Self, String> {
        let found = Self::ALL.into_iter().find(|width| width.name() == name);
        found.ok_or_else(|| format!("the widths are {}", Self::ALL.map(Self::name).join(", ")))
    }

    /// As tables have it.
    pub fn name(self) -> String {
        match self {
            Self::Bf16 => "bf16".into(),
            Self::W4(width) => format!("w4a{}", width.bits()),
            Self::W4Ax => "w4ax".into(),
        }
    }
}

/// A control step as it ran.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// L2 distance of the action to that of the full, unquantised policy.
    pub error: f64,
    /// Layers, those of a second pass counted.
    pub layers_run: usize,
    /// Whether it ran again.
    pub reran: bool,
    /// From the flag to the tokens.
    pub time: Duration,
    /// What ran, ran at this.
    pub width: Precision,
}

/// Decides, runs and looks.
pub enum Runner {
    /// All layers.
    Full,
    /// By the trajectory.
    Guided(Box<Skipping>),
    /// At this share, without looking.
    Blind {
        /// Which.
        pattern: Pattern,
        /// Of the layers.
        share: f64,
        /// By layer.
        is_static: Vec<bool>,
        /// For those that are drawn.
        rng: Box<ChaCha8Rng>,
        /// By layer, in this step.
        runs: Vec<bool>,
    },
    /// Those before the exit.
    Exit(Box<Networks>),
}

impl Runner {
    /// For a rule; `share` is that of the layers that a blind one runs.
    ///
    /// # Errors
    /// As [`Skipping::new`]; [`Error::Range`] for an exit that the networks have not.
    pub fn new(rule: &Rule, networks: Networks, share: f64, seed: u64) -> Result<Self> {
        Ok(match rule {
            Rule::Full => Self::Full,
            Rule::Guided(config, substitute) => {
                Self::Guided(Box::new(Skipping::new(config, networks, *substitute)?))
            }
            Rule::Blind(pattern) => {
                let n = networks.layers().len();
                let mut is_static = vec![false; n];
                if *pattern == Pattern::RandomDynamic {
                    for layer in networks.layers().static_layers() {
                        is_static[layer] = true;
                    }
                }
                Self::Blind {
                    pattern: *pattern,
                    share,
                    is_static,
                    rng: Box::new(ChaCha8Rng::seed_from_u64(seed)),
                    runs: vec![true; n],
                }
            }
            Rule::Exit if networks.exit().is_some() => Self::Exit(Box::new(networks)),
            Rule::Exit => {
                return Err(Error::Range {
                    what: "--skip-exit",
                    value: "networks without an exit".into(),
                    range: "those of `distill --exit`",
                });
            }
        })
    }

    /// What the last step of a guided one did.
    pub fn report(&self) -> Option<&StepReport> {
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

    /// A step: what came out, at what it ran, layers that ran, whether again.
    fn step(
        &mut self,
        policy: &mut Policy,
        input: &[f32; INPUT],
        width: Precision,
    ) -> Result<(Tokens, Executed, usize, bool)> {
        if let Self::Guided(skipping) = self {
            let (tokens, executed) = skipping.step(policy, input, width)?;
            let report = skipping.skipper.report();
            let again = report.verdict == Verdict::RanAgain;
            return Ok((tokens, executed, report.layers_run, again));
        }
        self.draw();
        policy.begin_step(width)?;
        policy.embed(std::slice::from_ref(input))?;
        let mut ran = 0;
        for layer in 0..policy.blocks() {
            if self.runs(layer) {
                policy.run_block(layer, StepWidth::Latched)?;
                ran += 1;
            }
        }
        if let Self::Exit(networks) = self {
            let (engine, x) = policy.engine_and_hidden();
            networks.leave(engine, x, StepWidth::Latched)?;
        }
        let mut tokens = Tokens::default();
        tokens_of(
            policy.head(StepWidth::Latched)?,
            std::slice::from_mut(&mut tokens),
        )?;
        Ok((tokens, policy.executed()?, ran, false))
    }

    fn runs(&self, layer: usize) -> bool {
        match self {
            Self::Blind { runs, .. } => runs[layer],
            Self::Exit(networks) => networks.exit().is_none_or(|exit| layer < exit),
            _ => true,
        }
    }

    /// Which layers a blind step runs.
    fn draw(&mut self) {
        let Self::Blind {
            pattern,
            share,
            is_static,
            rng,
            runs,
        } = self
        else {
            return;
        };
        let n = runs.len();
        if *pattern == Pattern::Uniform {
            // As many of the first i as i's part of the share, rounded up.
            let before = |i: usize| (i as f64 * *share - 1e-9).ceil() as usize;
            (0..n).for_each(|i| runs[i] = before(i + 1) > before(i));
            return;
        }
        // As many as it takes for the mean to be the share.
        let mean = *share * n as f64;
        let count = mean.floor() as usize + usize::from(rng.random::<f64>() < mean.fract());
        runs.copy_from_slice(is_static);
        let mut rest: Vec<usize> = (0..n).filter(|&layer| !is_static[layer]).collect();
        rest.shuffle(rng);
        let left = count.saturating_sub(n - rest.len());
        for layer in rest.into_iter().take(left) {
            runs[layer] = true;
        }
    }
}

/// The recorded episodes, and what decides the width of a step in each task.
pub struct Recorded<'a> {
    /// The steps.
    pub rollouts: &'a Rollouts,
    /// The episodes that are run.
    pub episodes: &'a [Range<usize>],
    /// By task.
    pub dispatchers: &'a [Dispatcher],
}

impl Recorded<'_> {
    /// All steps once. `see` is shown each step's row, what it did, and the runner behind it.
    ///
    /// # Errors
    /// As the policy's and the skipper's steps.
    pub fn run(
        &self,
        runner: &mut Runner,
        policy: &mut Policy,
        width: RunWidth,
        mut see: impl FnMut(usize, &Step, &Runner),
    ) -> Result<()> {
        for episode in self.episodes {
            runner.reset();
            let mut dispatcher = self.dispatchers[self.rollouts.task[episode.start]].clone();
            for row in episode.clone() {
                let asked = match width {
                    RunWidth::Bf16 => Precision::Bf16,
                    RunWidth::W4(width) => width,
                    RunWidth::W4Ax => dispatcher.decide().active,
                };
                let start = Instant::now();
                let (tokens, ran, layers_run, reran) =
                    runner.step(policy, &self.rollouts.input[row], asked)?;
                let time = start.elapsed();
                let (action, reference) = (action(&tokens), action(&self.rollouts.bf16[row]));
                dispatcher.observe(&action)?;
                let step = Step {
                    error: distance(&action, &reference),
                    layers_run,
                    reran,
                    time,
                    width: ran.width,
                };
                see(row, &step, runner);
            }
        }
        Ok(())
    }
}
