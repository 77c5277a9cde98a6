//! Control steps on the host: order, widths and reports.

use test_support as support;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use proptest::prelude::*;
use support::dispatcher;
use w4ax::step::{
    Decide, HostEngine, HostStep, Outcome, PrefillWidth, StepEngine, StepOptions, StepPipeline,
};
use w4ax::{Error, FlagWord, Result, Width};

/// Fast, steady motion: the width goes down from BF16 after some of these.
const SWING: [f64; 7] = [0.9, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0];
/// Slow motion with rotation: BF16 at once.
const GRASP: [f64; 7] = [0.01, 0.0, 0.0, 0.2, -0.2, 0.1, 1.0];

#[derive(Clone, Debug, PartialEq)]
enum Event {
    Prefill(u64, Width),
    Decode(u64, Width),
}

/// Sends an event for each part. If gated, waits for a permission at the end of each prefill.
struct Recorder {
    events: Sender<Event>,
    permission: Option<Receiver<()>>,
    fails: fn(u64) -> bool,
}

impl HostStep for Recorder {
    type Observation = u64;
    type Loaded = u64;

    fn load(loaded: &mut u64, observation: &u64) {
        *loaded = *observation;
    }

    fn prefill(&mut self, loaded: &u64, width: Width) -> Result<()> {
        self.events.send(Event::Prefill(*loaded, width)).unwrap();
        if let Some(permission) = &self.permission {
            permission.recv().unwrap();
        }
        if (self.fails)(*loaded) {
            return Err(Error::UnsupportedWidth(*loaded as u32));
        }
        Ok(())
    }

    fn decode(&mut self, loaded: &u64, width: Width) -> Result<()> {
        self.events.send(Event::Decode(*loaded, width)).unwrap();
        Ok(())
    }
}

struct Bench {
    pipeline: StepPipeline<HostEngine<Recorder>>,
    events: Receiver<Event>,
    permission: Sender<()>,
}

fn bench(decide: Decide, spin: Duration, gated: bool) -> Bench {
    let (events, received) = channel();
    let (permission, permissions) = channel();
    let recorder = Recorder {
        events,
        permission: gated.then_some(permissions),
        fails: |_| false,
    };
    let engine = HostEngine::new(
        recorder,
        StepOptions::default().with_decide(decide).with_spin(spin),
    )
    .unwrap();
    Bench {
        pipeline: StepPipeline::new(engine, dispatcher()),
        events: received,
        permission,
    }
}

const NONE: [[f64; 7]; 0] = [];
const LONG: Duration = Duration::from_secs(1);

#[test]
fn decision_before_the_step_applies_to_prefill_and_decode() {
    let mut b = bench(Decide::BeforeStep, Duration::ZERO, false);
    let mut widths = std::collections::HashSet::new();
    for step in 0..40u64 {
        let action = if step % 20 < 16 { SWING } else { GRASP };
        // The first step leaves the decision to `begin`.
        let decided = (step > 0).then(|| b.pipeline.decide(&[action]).unwrap());
        b.pipeline.begin(&step).unwrap();
        let report = b.pipeline.finish().unwrap();
        assert_eq!(u64::from(report.sequence), step);
        assert_eq!(report.decode.outcome, Outcome::OnTime);
        assert!(report.as_decided());
        assert_eq!(report.prefill, report.decode.width);
        if let Some(decided) = decided {
            assert_eq!(report.decision.unwrap().active, decided.active);
        }
        let width = report.decode.width;
        assert_eq!(b.events.recv().unwrap(), Event::Prefill(step, width));
        assert_eq!(b.events.recv().unwrap(), Event::Decode(step, width));
        widths.insert(width);
    }
    assert!(widths.len() >= 3, "{widths:?}");
}

/// The prefill runs at its own width, then the flag is stored, then the decode runs at the decided
/// width.
#[test]
fn decision_during_the_prefill_applies_to_the_decode() {
    for prefill in [PrefillWidth::Fixed(Width::A8), PrefillWidth::LastLatched] {
        let mut b = bench(Decide::DuringPrefill(prefill), LONG, true);
        let mut last = Width::Bf16;
        for step in 0..30u64 {
            b.pipeline.begin(&step).unwrap();
            let before = match prefill {
                PrefillWidth::Fixed(width) => width,
                PrefillWidth::LastLatched => last,
            };
            assert_eq!(b.events.recv().unwrap(), Event::Prefill(step, before));
            // The prefill is still running, so the step is not latched yet.
            let decision = b.pipeline.decide(&[SWING]).unwrap();
            let latched = b.pipeline.engine().words().executed();
            assert_eq!(latched.map(|e| u64::from(e.sequence)), step.checked_sub(1));
            b.permission.send(()).unwrap();
            let report = b.pipeline.finish().unwrap();
            assert_eq!(report.prefill, before);
            assert_eq!(report.decode.width, decision.active);
            assert_eq!(report.decode.outcome, Outcome::OnTime);
            assert_eq!(
                b.events.recv().unwrap(),
                Event::Decode(step, decision.active)
            );
            last = decision.active;
        }
        assert_ne!(last, Width::Bf16);
    }
}

/// A decision after the latch has read the flag: the step runs at BF16, and the next step ignores
/// the decision.
#[test]
fn late_decision_is_never_used() {
    let fixed = Decide::DuringPrefill(PrefillWidth::Fixed(Width::A4));
    let mut b = bench(fixed, Duration::ZERO, true);
    // First, go down to a width other than BF16.
    let mut step = 0u64;
    let mut run = |b: &mut Bench, late: bool| {
        b.pipeline.begin(&step).unwrap();
        step += 1;
        let decide = |b: &mut Bench| b.pipeline.decide(&[SWING]).unwrap().active;
        if !late {
            decide(b);
        }
        b.permission.send(()).unwrap();
        if late {
            // The decode is running, so the latch has read the flag.
            while !matches!(b.events.recv().unwrap(), Event::Decode(..)) {}
            decide(b);
        }
        b.pipeline.finish().unwrap()
    };
    for _ in 0..30 {
        run(&mut b, false);
    }
    let report = run(&mut b, false);
    assert_ne!(report.decode.width, Width::Bf16);
    while b.events.try_recv().is_ok() {}

    let late = run(&mut b, true);
    assert_eq!(late.decode.width, Width::Bf16);
    assert_eq!(late.decode.outcome, Outcome::Stale);
    assert!(!late.as_decided());
    // No decision for this step: the late decision does not apply to it.
    b.pipeline.begin(&1000).unwrap();
    b.permission.send(()).unwrap();
    let none = b.pipeline.finish().unwrap();
    assert_eq!(
        (none.decode.width, none.decode.outcome, none.decision),
        (Width::Bf16, Outcome::Stale, None)
    );
}

#[test]
fn spinning_latch_accepts_a_decision_that_arrives_in_time() {
    let decide = Decide::DuringPrefill(PrefillWidth::Fixed(Width::A8));
    let mut b = bench(decide, LONG, false);
    for step in 0..20 {
        b.pipeline.begin(&step).unwrap();
        assert_eq!(b.events.recv().unwrap(), Event::Prefill(step, Width::A8));
        let decision = b.pipeline.decide(&[SWING]).unwrap();
        let report = b.pipeline.finish().unwrap();
        assert_eq!(report.decode.outcome, Outcome::OnTime);
        assert_eq!(report.decode.width, decision.active);
        b.events.recv().unwrap();
    }
}

/// An invalid action is an error of `decide`, and the step runs at BF16.
#[test]
fn step_after_an_invalid_action_runs_at_bf16() {
    for decide in [
        Decide::BeforeStep,
        Decide::DuringPrefill(PrefillWidth::LastLatched),
    ] {
        let mut b = bench(decide, LONG, false);
        for step in 0..30 {
            b.pipeline.begin(&step).unwrap();
            if decide != Decide::BeforeStep {
                b.pipeline.decide(&[SWING]).unwrap();
            }
            b.pipeline.finish().unwrap();
            if decide == Decide::BeforeStep {
                b.pipeline.decide(&[SWING]).unwrap();
            }
        }
        let mut broken = SWING;
        broken[1] = f64::NAN;
        if decide == Decide::BeforeStep {
            // The width of the next step is already decided.
            b.pipeline.begin(&30).unwrap();
            assert_ne!(b.pipeline.finish().unwrap().decode.width, Width::Bf16);
            assert!(b.pipeline.decide(&[SWING, broken, SWING]).is_err());
            b.pipeline.begin(&31).unwrap();
        } else {
            b.pipeline.begin(&31).unwrap();
            assert!(b.pipeline.decide(&[SWING, broken]).is_err());
        }
        let report = b.pipeline.finish().unwrap();
        assert_eq!(report.decode.width, Width::Bf16);
        assert_eq!(report.decode.outcome, Outcome::OnTime, "BF16 was decided");
    }
}

#[test]
fn rejects_calls_out_of_order() {
    let rejected = |result: Result<()>, call: &str| match result {
        Err(Error::InvalidState { call: got, .. }) => assert_eq!(got, call),
        other => panic!("{call}: {other:?}"),
    };
    let mut b = bench(Decide::BeforeStep, Duration::ZERO, false);
    rejected(b.pipeline.finish().map(drop), "finish");
    b.pipeline.decide(&[SWING]).unwrap();
    rejected(b.pipeline.decide(&[SWING]).map(drop), "decide");
    b.pipeline.begin(&0).unwrap();
    rejected(b.pipeline.begin(&0), "begin");
    rejected(b.pipeline.decide(&[SWING]).map(drop), "decide");
    rejected(b.pipeline.reset(), "reset");
    b.pipeline.finish().unwrap();

    let mut b = bench(
        Decide::DuringPrefill(PrefillWidth::LastLatched),
        LONG,
        false,
    );
    // A decision before the step is valid as well.
    b.pipeline.decide(&NONE).unwrap();
    b.pipeline.begin(&0).unwrap();
    rejected(b.pipeline.decide(&[SWING]).map(drop), "decide");
    assert!(b.pipeline.finish().unwrap().as_decided());

    let spin = StepOptions::default().with_spin(LONG + Duration::from_micros(1));
    assert!(matches!(
        HostEngine::new(recorder(), spin),
        Err(Error::Config { field: "spin", .. })
    ));
}

fn recorder() -> Recorder {
    Recorder {
        events: channel().0,
        permission: None,
        fails: |_| false,
    }
}

/// `finish` returns the error of the step, and the sequence number advances.
#[test]
fn failed_step_advances_the_sequence() {
    for decide in [
        Decide::BeforeStep,
        Decide::DuringPrefill(PrefillWidth::LastLatched),
    ] {
        let (events, _received) = channel();
        let recorder = Recorder {
            events,
            permission: None,
            fails: |_| true,
        };
        let options = StepOptions::default().with_decide(decide);
        let engine = HostEngine::new(recorder, options).unwrap();
        let mut pipeline = StepPipeline::new(engine, dispatcher());
        for step in 0..3u64 {
            pipeline.begin(&step).unwrap();
            assert!(
                matches!(pipeline.finish(), Err(Error::UnsupportedWidth(w)) if u64::from(w) == step)
            );
            let latched = pipeline.engine().words().executed().unwrap();
            assert_eq!(u64::from(latched.sequence), step);
        }
        assert_eq!(pipeline.sequence(), 3);
    }
}

/// A failed step was latched, so the next prefill may run at its width.
#[test]
fn reports_the_width_of_the_prefill_after_a_failed_step() {
    let (events, received) = channel();
    let recorder = Recorder {
        events,
        permission: None,
        fails: |step| step % 3 == 1,
    };
    let options = StepOptions::default()
        .with_decide(Decide::DuringPrefill(PrefillWidth::LastLatched))
        .with_spin(LONG);
    let mut pipeline = StepPipeline::new(HostEngine::new(recorder, options).unwrap(), dispatcher());
    let mut widths = Vec::new();
    for step in 0..60u64 {
        // The width goes down, and up again at once.
        let action = if step % 20 < 16 { SWING } else { GRASP };
        pipeline.begin(&step).unwrap();
        pipeline.decide(&[action]).unwrap();
        let ended = pipeline.finish();
        let width = (received.try_iter()).find_map(|event| match event {
            Event::Prefill(of, width) if of == step => Some(width),
            _ => None,
        });
        let width = width.expect("the prefill ran");
        match ended {
            Ok(report) => assert_eq!(report.prefill, width, "step {step}"),
            Err(_) => assert_eq!(step % 3, 1),
        }
        widths.push(width);
    }
    // Some steps follow a failed step that changed the width.
    let follows = |at: usize| at % 3 == 2 && widths[at] != widths[at - 1];
    assert!((1..60).any(follows), "{widths:?}");
}

#[test]
fn finish_propagates_a_panic_of_the_step() {
    struct Panics;
    impl HostStep for Panics {
        type Observation = ();
        type Loaded = ();
        fn load(_: &mut (), _: &()) {}
        fn prefill(&mut self, _: &(), _: Width) -> Result<()> {
            panic!("the prefill is broken")
        }
        fn decode(&mut self, _: &(), _: Width) -> Result<()> {
            Ok(())
        }
    }
    let engine = HostEngine::new(Panics, StepOptions::default()).unwrap();
    let mut pipeline = StepPipeline::new(engine, dispatcher());
    pipeline.begin(&()).unwrap();
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pipeline.finish()));
    let text = *panic.unwrap_err().downcast::<&str>().unwrap();
    assert_eq!(text, "the prefill is broken");
}

#[test]
fn reports_skipped_repeated_and_invalid_words() {
    let mut b = bench(Decide::BeforeStep, Duration::ZERO, false);
    let flag = |b: &Bench, word| b.pipeline.engine().words().requested().store_word(word);
    let step = |b: &mut Bench, word: FlagWord| {
        b.pipeline.decide(&[SWING]).unwrap();
        flag(b, word);
        b.pipeline.begin(&0).unwrap();
        b.pipeline.finish().unwrap().decode.outcome
    };
    assert_eq!(
        step(&mut b, FlagWord::encode(0, Width::A2)),
        Outcome::OnTime
    );
    assert_eq!(step(&mut b, FlagWord::encode(0, Width::A2)), Outcome::Stale);
    assert_eq!(
        step(&mut b, FlagWord::encode(3, Width::A2)),
        Outcome::Future
    );
    assert_eq!(
        step(&mut b, FlagWord::encode(3, Width::A2)),
        Outcome::OnTime
    );
    assert_eq!(
        step(&mut b, FlagWord::from_bits(4 << 32 | 3)),
        Outcome::Invalid
    );
    assert_eq!(step(&mut b, FlagWord::UNWRITTEN), Outcome::Unwritten);
}

/// A new episode uses neither the motion nor the decision of the previous episode.
#[test]
fn reset_clears_motion_and_decision() {
    let mut b = bench(Decide::BeforeStep, Duration::ZERO, false);
    for step in 0..30 {
        b.pipeline.decide(&[SWING]).unwrap();
        b.pipeline.begin(&step).unwrap();
        b.pipeline.finish().unwrap();
    }
    assert_ne!(b.pipeline.decide(&[SWING]).unwrap().active, Width::Bf16);
    b.pipeline.reset().unwrap();
    b.pipeline.begin(&30).unwrap();
    let report = b.pipeline.finish().unwrap();
    assert_eq!(report.decode.width, Width::Bf16);
    assert_eq!(
        (report.sequence, report.decode.outcome),
        (30, Outcome::OnTime)
    );
}

proptest! {
    /// For a decision at any time, or none: the step runs at the decided width or at BF16, and
    /// reports its width.
    #[test]
    fn old_decisions_are_never_used(
        steps in proptest::collection::vec((0usize..4, any::<bool>()), 1..40),
        before in any::<bool>(),
        last in any::<bool>(),
    ) {
        let decide = match (before, last) {
            (true, _) => Decide::BeforeStep,
            (false, true) => Decide::DuringPrefill(PrefillWidth::LastLatched),
            (false, false) => Decide::DuringPrefill(PrefillWidth::Fixed(Width::A2)),
        };
        let mut b = bench(decide, Duration::ZERO, true);
        let mut previous = Width::Bf16;
        for (step, (when, grasp)) in steps.into_iter().enumerate() {
            let step = step as u64;
            let actions = [if grasp { GRASP } else { SWING }];
            let mut decided = None;
            if when == 0 {
                decided = Some(b.pipeline.decide(&actions).unwrap().active);
            }
            b.pipeline.begin(&step).unwrap();
            let Event::Prefill(_, prefill) = b.events.recv().unwrap() else {
                panic!("expected the prefill first");
            };
            if when == 1 && !before {
                decided = Some(b.pipeline.decide(&actions).unwrap().active);
            }
            b.permission.send(()).unwrap();
            let Event::Decode(_, decode) = b.events.recv().unwrap() else {
                panic!("expected the decode last");
            };
            let mut late = None;
            if when == 2 && !before {
                late = Some(b.pipeline.decide(&actions).unwrap().active);
            }
            let report = b.pipeline.finish().unwrap();
            prop_assert_eq!(report.decode.width, decode);
            prop_assert_eq!(report.prefill, prefill);
            match decide {
                Decide::BeforeStep => prop_assert_eq!(prefill, decode),
                Decide::DuringPrefill(PrefillWidth::Fixed(width)) => {
                    prop_assert_eq!(prefill, width);
                }
                Decide::DuringPrefill(PrefillWidth::LastLatched) => {
                    prop_assert_eq!(prefill, previous);
                }
            }
            match (decided, late) {
                (Some(decided), _) => {
                    prop_assert_eq!(decode, decided);
                    prop_assert_eq!(report.decode.outcome, Outcome::OnTime);
                }
                // `begin` decided.
                (None, _) if before => prop_assert!(report.as_decided()),
                (None, late) => {
                    prop_assert_eq!(decode, Width::Bf16);
                    prop_assert_ne!(report.decode.outcome, Outcome::OnTime);
                    prop_assert_eq!(report.decision.map(|d| d.active), late);
                }
            }
            previous = decode;
        }
    }
}

/// Several pipelines on one engine continue its sequence numbers.
#[test]
fn requested_widths_run_without_a_dispatcher() {
    let (events, _received) = channel();
    let recorder = Recorder {
        events,
        permission: None,
        fails: |_| false,
    };
    let mut engine = HostEngine::new(recorder, StepOptions::default()).unwrap();
    let mut pipeline = StepPipeline::new(&mut engine, None);
    for (step, width) in Width::ALL.into_iter().enumerate() {
        pipeline.request(width).unwrap();
        assert!(
            pipeline.request(width).is_err(),
            "a width is already stored"
        );
        let report = pipeline.run(&0).unwrap();
        assert_eq!(report.sequence as usize, step);
        assert_eq!(
            (report.decode.width, report.decode.outcome),
            (width, Outcome::OnTime)
        );
        assert_eq!((report.decision, report.as_decided()), (None, false));
    }
    for call in [pipeline.begin(&0), pipeline.decide(&NONE).map(drop)] {
        let error = call.unwrap_err();
        assert!(error.to_string().contains("no dispatcher"), "{error}");
    }

    let mut pipeline = StepPipeline::new(&mut engine, dispatcher());
    assert_eq!(pipeline.sequence(), 4);
    for _ in 0..10 {
        pipeline.decide(&[SWING]).unwrap();
        assert!(pipeline.run(&0).unwrap().as_decided());
    }
    let moved = pipeline.dispatcher().unwrap().clone();
    pipeline.set_dispatcher(dispatcher()).unwrap();
    assert_eq!(pipeline.decide(&NONE).unwrap().active, Width::Bf16);
    pipeline.set_dispatcher(moved).unwrap();
    let decided = pipeline.decide(&[SWING]).unwrap();
    assert_ne!(decided.active, Width::Bf16, "the stored width was dropped");
    pipeline.begin(&0).unwrap();
    assert!(pipeline.set_dispatcher(None).is_err(), "a step is running");
    assert_eq!(pipeline.finish().unwrap().decode.width, decided.active);
}
