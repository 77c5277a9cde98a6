//! Control steps under the consistency rule: runs, flag and latch, and a failed verification of
//! skipped layers.

use w4ax::dispatch::{
    ConsistencyConfig, ConsistencyReason, ConsistencyRule, MotionScale, Profile, Tolerance,
};
use w4ax::step::{
    ConsistentEngine, HostLatch, RunOrder, StepEngine, StepFlag, StepOptions, StepPipeline,
};
use w4ax::{Error, Result, Width};

/// An engine whose action is a function of width and observation, and which logs its runs.
struct Logged {
    options: StepOptions,
    words: StepFlag,
    latch: HostLatch,
    order: RunOrder,
    runs: Vec<(RunOrder, Width)>,
    action: [f64; 7],
    /// Whether a first run fails the verification of skipped layers.
    skipping_fails: bool,
    uncertainty: Option<f64>,
    /// How often the uncertainty was read.
    reads: usize,
}

impl Logged {
    fn new() -> Self {
        Self {
            options: StepOptions::default(),
            words: StepFlag::new(),
            latch: HostLatch::new(0),
            order: RunOrder::Second,
            runs: Vec::new(),
            action: [0.0; 7],
            skipping_fails: false,
            uncertainty: None,
            reads: 0,
        }
    }
}

/// `[width index]`: the first number of the action.
type Observation = [f64; 4];

impl StepEngine for Logged {
    type Observation = Observation;

    fn options(&self) -> &StepOptions {
        &self.options
    }

    fn words(&self) -> &StepFlag {
        &self.words
    }

    fn begin(&mut self, _sequence: u32, observation: &Observation) -> Result<()> {
        let width = self.latch.latch(&self.words, self.options.spin()).width;
        self.runs.push((self.order, width));
        self.action = [0.0; 7];
        self.action[0] = observation[width.index()];
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        match self.action[0] == -9.0 {
            false => Ok(()),
            true => Err(Error::InvalidState {
                call: "finish",
                reason: "the run failed".into(),
            }),
        }
    }
}

impl ConsistentEngine for Logged {
    type Actions = [f64; 7];

    fn prepare(&mut self, run: RunOrder) {
        self.order = run;
    }

    fn actions(&mut self) -> Result<[f64; 7]> {
        Ok(self.action)
    }

    fn demands_second_run(&self) -> bool {
        self.skipping_fails && self.order == RunOrder::First
    }

    fn uncertainty(&mut self) -> Option<f64> {
        self.reads += 1;
        self.uncertainty
    }
}

fn rule() -> ConsistencyRule {
    let motion = MotionScale {
        mu_max: 0.9,
        nu_max: 0.2,
    };
    let config = ConsistencyConfig::new(motion).with_tolerance(Tolerance::Constant(0.1));
    ConsistencyRule::new(&config).unwrap()
}

#[test]
fn rejected_low_run_is_followed_by_one_run_at_high() {
    let (mut pipeline, mut rule) = (StepPipeline::new(Logged::new(), None), rule());
    let mut step = |pipeline: &mut StepPipeline<Logged>, observation: Observation| {
        let step = pipeline.run_consistent(&mut rule, &observation).unwrap();
        rule.observe(&step.actions, step.profile, step.uncertainty)
            .unwrap();
        step
    };
    let start = step(&mut pipeline, [0.9, 0.5, 0.5, 0.5]);
    assert_eq!(start.decision.reason, ConsistencyReason::Start);
    assert_eq!(
        (start.profile, start.runs(), start.actions[0]),
        (Profile::High, 1, 0.5)
    );
    let accepted = step(&mut pipeline, [0.55, 0.6, 0.6, 0.6]);
    assert_eq!((accepted.profile, accepted.runs()), (Profile::Low, 1));
    assert_eq!(accepted.report().decode.width, Width::A2);
    let rejected = step(&mut pipeline, [0.9, 0.7, 0.6, 0.6]);
    assert_eq!(
        (rejected.profile, rejected.runs(), rejected.actions[0]),
        (Profile::High, 2, 0.7)
    );
    assert!((rejected.check.distance.unwrap() - 0.35).abs() < 1e-12);
    // Each run was latched as a step of its own, at its width.
    assert_eq!(
        rejected.first.sequence + 1,
        rejected.second.unwrap().sequence
    );
    let runs = [
        (RunOrder::First, Width::A4),
        (RunOrder::First, Width::A2),
        (RunOrder::First, Width::A2),
        (RunOrder::Second, Width::A4),
    ];
    assert_eq!(pipeline.engine().runs, runs);
}

#[test]
fn failed_verification_of_skipped_layers_shares_the_second_run() {
    let (mut pipeline, mut rule) = (StepPipeline::new(Logged::new(), None), rule());
    pipeline.engine_mut().skipping_fails = true;
    for (low, expected) in [(0.5, 2), (0.5, 2), (0.9, 2)] {
        let step = pipeline
            .run_consistent(&mut rule, &[low, 0.5, 0.5, 0.5])
            .unwrap();
        // Both checks fail in the last step, and still there is one second run.
        assert_eq!((step.runs(), step.profile), (expected, Profile::High));
        assert_eq!(step.report().decode.width, Width::A4);
        rule.observe(&step.actions, step.profile, None).unwrap();
    }
}

/// The uncertainty of a run costs a pass over the logits.
#[test]
fn uncertainty_is_read_only_by_a_gate() {
    for (rule, reads) in [(rule(), 0), (rule().with_online_uncertainty(), 1)] {
        let (mut pipeline, mut rule) = (StepPipeline::new(Logged::new(), None), rule);
        pipeline.engine_mut().uncertainty = Some(0.25);
        let step = pipeline.run_consistent(&mut rule, &[0.5; 4]).unwrap();
        assert_eq!(rule.uses_uncertainty(), reads == 1);
        assert_eq!(pipeline.engine().reads, reads);
        assert_eq!(step.uncertainty, (reads == 1).then_some(0.25));
    }
}

#[test]
fn step_that_fails_changes_no_history() {
    let (mut pipeline, mut rule) = (StepPipeline::new(Logged::new(), None), rule());
    let step = pipeline.run_consistent(&mut rule, &[0.5; 4]).unwrap();
    rule.observe(&step.actions, step.profile, None).unwrap();
    assert!(pipeline.run_consistent(&mut rule, &[-9.0; 4]).is_err());
    let step = pipeline
        .run_consistent(&mut rule, &[0.52, 0.5, 0.5, 0.5])
        .unwrap();
    assert_eq!((step.profile, step.runs()), (Profile::Low, 1));
}
