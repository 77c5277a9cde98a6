//! Time and memory of each part of a decision (DyQ-VLA, Table 4).

use std::hint::black_box;
use std::time::{Duration, Instant};

use comfy_table::Table;
use serde::Serialize;
use w4ax::calibrate::percentile;
use w4ax::dispatch::{
    Action, ConsistencyConfig, ConsistencyRule, DispatchConfig, Dispatcher, StepCosts,
    UncertaintyQuantiles,
};
use w4ax::step::{HostLatch, StepFlag};
use w4ax::{Result, Width};

use super::ByWidth;
use crate::episode::rule::measured_costs;
use crate::policy::Policy;
use crate::rollouts::{Rollouts, action};
use crate::table::table;
use crate::uncertainty;

/// The most calls between two looks at the clock.
const MOST_CALLS: f64 = 256.0;

/// The time of a batch of calls, in nanoseconds: long beside a look at the clock, and short beside
/// the time that a scheduler gives to a program.
const BATCH_NANOS: f64 = 20_000.0;

/// A part of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Overhead {
    /// The part.
    pub part: &'static str,
    /// The time of a call in nanoseconds: the median of batches.
    pub nanos: f64,
    /// Its share of a step at the fastest width.
    pub share: f64,
}

/// The memory of the state of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct StateBytes {
    /// The part.
    pub part: &'static str,
    /// Bytes, on the heap as well.
    pub bytes: usize,
}

/// All parts.
#[derive(Clone, Debug, Serialize)]
pub struct Overheads {
    /// The time of a step of the policy in microseconds.
    pub step_micros: ByWidth,
    /// The times.
    pub parts: Vec<Overhead>,
    /// The memory.
    pub memory: Vec<StateBytes>,
}

/// Returns the median time of a call over batches within a budget, in nanoseconds.
fn nanos(budget: Duration, mut call: impl FnMut()) -> f64 {
    let mut batch = |calls: usize| {
        let start = Instant::now();
        for _ in 0..calls {
            call();
        }
        start.elapsed().as_secs_f64() * 1e9 / calls as f64
    };
    batch(MOST_CALLS as usize);
    let calls = (BATCH_NANOS / batch(MOST_CALLS as usize)).clamp(1.0, MOST_CALLS) as usize;
    let begin = Instant::now();
    let mut times = vec![batch(calls)];
    while begin.elapsed() < budget {
        times.push(batch(calls));
    }
    percentile(&mut times, 50.0).unwrap_or(f64::NAN)
}

/// Returns a configuration of the consistency rule with all of its parts, the gate included.
fn consistency(kinematics: DispatchConfig) -> Result<ConsistencyConfig> {
    let quantiles: Vec<f64> = (0..UncertaintyQuantiles::POINTS)
        .map(|percent| percent as f64 / 100.0)
        .collect();
    let quantiles = UncertaintyQuantiles::new(&quantiles, &quantiles)?;
    Ok(
        ConsistencyConfig::with_kinematics(kinematics)
            .with_gate(ConsistencyConfig::GATE, quantiles),
    )
}

/// Returns the memory of a dispatcher and of a rule for actions of the configuration's layout.
///
/// # Errors
/// As [`ConsistencyConfig::validate`].
pub fn memory(config: &DispatchConfig) -> Result<Vec<StateBytes>> {
    let rule = consistency(*config)?;
    let planned = rule.max_chunk() * rule.layout().dims() * size_of::<f64>();
    let bytes = |part, bytes| StateBytes { part, bytes };
    Ok(vec![
        bytes("dispatcher of dyq", size_of::<Dispatcher>()),
        bytes(
            "consistency rule, with quantiles",
            size_of::<ConsistencyRule>() + planned + size_of::<UncertaintyQuantiles>(),
        ),
        bytes("flag, both words", size_of::<StepFlag>()),
        bytes("latch", size_of::<HostLatch>()),
    ])
}

impl Overhead {
    /// Returns the time with its unit.
    pub fn time(&self) -> String {
        match self.nanos < 1e4 {
            true => format!("{:.1} ns", self.nanos),
            false => format!("{:.1} us", self.nanos / 1e3),
        }
    }
}

impl Overheads {
    /// Measures all parts, each for `budget`, on the recorded actions of the first episode.
    ///
    /// # Errors
    /// As [`Policy::forward`] and [`Dispatcher::observe`].
    pub fn measure(
        policy: &mut Policy,
        rollouts: &Rollouts,
        configs: &[DispatchConfig],
        budget: Duration,
    ) -> Result<Self> {
        rollouts.check_tasks(configs.len())?;
        let config = configs[rollouts.task[0]];
        let actions: Vec<Action> = (rollouts.episodes()[0].clone())
            .map(|row| action(&rollouts.bf16[row]))
            .collect();
        let steps = measured_costs(policy, &rollouts.input[0])?;
        let steps = Width::ALL.map(|width| StepCosts::of(&steps, width));
        let fastest = 1e3 * steps.into_iter().fold(f64::INFINITY, f64::min);
        let mut parts = rules(&config, &actions, budget)?;
        parts.extend(words(budget));
        policy.forward(&rollouts.input[0], Width::A4)?;
        let std = || {
            black_box(uncertainty::token_std(black_box(policy.logits())));
        };
        parts.push(("token standard deviation, 1,792 logits", nanos(budget, std)));
        let overhead = |(part, nanos)| Overhead {
            part,
            nanos,
            share: nanos / fastest,
        };
        Ok(Self {
            step_micros: steps.into(),
            parts: parts.into_iter().map(overhead).collect(),
            memory: memory(&config)?,
        })
    }

    /// Returns the times as a table.
    pub fn times(&self) -> Table {
        let row = |overhead: &Overhead| {
            vec![
                overhead.part.into(),
                overhead.time(),
                format!("{:.3} %", 100.0 * overhead.share),
            ]
        };
        let header = ["part", "time", "of the fastest step"];
        table(&header, self.parts.iter().map(row))
    }

    /// Returns the memory as a table.
    pub fn bytes(&self) -> Table {
        let row = |state: &StateBytes| vec![state.part.into(), state.bytes.to_string()];
        table(&["state", "bytes"], self.memory.iter().map(row))
    }
}

type Times = Vec<(&'static str, f64)>;

/// Times both rules.
fn rules(config: &DispatchConfig, actions: &[Action], budget: Duration) -> Result<Times> {
    let mut dispatcher = Dispatcher::new(config)?;
    let mut rule = ConsistencyRule::new(&consistency(*config)?)?;
    // Fails here rather than in a batch.
    for action in actions {
        dispatcher.observe(action)?;
    }
    let mut cycle = actions.iter().cycle();
    let mut next = || black_box(cycle.next().expect("an episode has steps"));
    let dyq = nanos(budget, || {
        dispatcher.observe(next()).expect("the action was valid");
        black_box(dispatcher.decide());
    });
    let mut decide = |verify: bool| {
        nanos(budget, || {
            let (action, decision) = (next(), rule.decide());
            if verify {
                black_box(rule.verify(action));
            }
            let uncertainty = black_box(Some(0.1));
            rule.observe(action, decision.profile, uncertainty)
                .expect("the action was valid");
        })
    };
    let (without, with) = (decide(false), decide(true));
    Ok(vec![
        ("dyq: observe + decide", dyq),
        ("consistency: observe + decide", without),
        ("consistency: observe + decide + verify", with),
        (
            "consistency: verify (the difference)",
            (with - without).max(0.0),
        ),
    ])
}

/// Times the flag and the latch.
fn words(budget: Duration) -> Times {
    let (words, mut latch, mut sequence) = (StepFlag::new(), HostLatch::new(0), 0_u32);
    let store = nanos(budget, || {
        words
            .requested()
            .store(black_box(sequence), black_box(Width::A4));
    });
    let both = nanos(budget, || {
        words.requested().store(sequence, black_box(Width::A4));
        black_box(latch.latch(&words, Duration::ZERO));
        sequence = sequence.wrapping_add(1);
    });
    vec![
        ("flag: store", store),
        ("flag: store, latch and record", both),
    ]
}
