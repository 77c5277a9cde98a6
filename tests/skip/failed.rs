//! Steps that fail: what their report says of them, and that nothing is skipped behind them.

use w4ax::Error;
use w4ax::skip::{Fate, Judgment, SkipConfig, SkipReport, Verdict};

use crate::recorder::{Broken, Call, Recorder, skipper};

const NONE: Judgment = Judgment {
    continuity: 0.0,
    delta: 0.0,
    drops: false,
};

/// Six layers, 0 and 3 static. Two steps that skip in both gaps and move a little, for something to be left over; then one in which layer 1 does
/// not skip, 2 and 4 do, whose actions are a first drop if they are a jump. That call of it fails.
fn failed(call: Call, of_them: usize, say: f64) -> (Broken, SkipReport) {
    let mut skipper = skipper(6, &[0, 3], SkipConfig::default());
    let mut stack = Recorder::new(6);
    let before = skipper.report().clone();
    assert_eq!(before.fates, [Fate::NotReached; 6]);
    assert!(!Fate::NotReached.ran());
    assert_eq!(
        (before.layers_run, before.verdict),
        (0, Verdict::NotReached)
    );
    stack.p.fill(0.75);
    let mut action = [0.0; 7];
    for say in [0.0, 0.0078125] {
        stack.say = Some(say);
        skipper.step(&mut stack, &mut action).unwrap();
    }
    let last = skipper.report();
    assert!((last.layers_run, last.verdict) == (2, Verdict::Passed) && last.judgment != NONE);
    stack.calls.clear();
    stack.p[1] = 0.25;
    (stack.say, stack.fail) = (Some(say), Some((call, of_them)));
    let error = skipper.step(&mut stack, &mut action).unwrap_err();
    assert!(skipper.guide().in_fault());
    let report = skipper.report().clone();
    // Counted: but for a run that failed itself, all that were called.
    let fell = usize::from(matches!(call, Call::Run(_)));
    assert_eq!(report.layers_run, stack.ran().len() - fell, "{call:?}");
    assert_eq!(report.allow_points, [1, 4]);
    // The next step runs whole, and its report is its own.
    (stack.say, stack.fail) = (Some(0.0), None);
    let next = skipper.step(&mut stack, &mut action).unwrap();
    assert_eq!((next.layers_run, next.verdict), (6, Verdict::Passed));
    assert!(next.fates.iter().all(|fate| fate.ran()));
    (error, report)
}

/// The fates of the second step, had it not failed.
const WHOLE: [Fate; 6] = [
    Fate::Static,
    Fate::Declined(0.25),
    Fate::Skipped(0.75),
    Fate::Static,
    Fate::Skipped(0.75),
    Fate::Covered(4),
];

#[test]
fn in_the_first_pass_all_from_the_failure_on_is_not_reached() {
    let calls = [
        // The call, fates that are known, layers that ran.
        (Call::Embed, 0, 0),
        (Call::Run(0), 0, 0),
        (Call::Ask(1), 1, 1),
        (Call::Run(1), 1, 1),
        (Call::Ask(2), 2, 2),
        (Call::Adapt(2, 3), 2, 2),
        (Call::Run(3), 3, 2),
        (Call::Ask(4), 4, 3),
        (Call::Adapt(4, 6), 4, 3),
        (Call::Actions, 6, 3),
    ];
    for (call, known, ran) in calls {
        // A jump, too: what was not judged is not said to drop.
        let (error, report) = failed(call, 0, 5.0);
        assert!(matches!(error, Broken::Stack));
        assert_eq!(report.fates[..known], WHOLE[..known], "{call:?}");
        assert!(report.fates[known..].iter().all(|&f| f == Fate::NotReached));
        assert_eq!(report.layers_run, ran, "{call:?}");
        assert_eq!(
            (report.verdict, report.judgment),
            (Verdict::NotReached, NONE)
        );
    }
}

#[test]
fn in_the_second_pass_it_has_run_again_and_its_layers_count() {
    let calls = [
        (Call::Embed, 3),
        (Call::Run(0), 3),
        (Call::Run(1), 3 + 1),
        (Call::Run(3), 3 + 3),
        (Call::Actions, 3 + 6),
    ];
    for (call, ran) in calls {
        let (_, report) = failed(call, 1, 5.0);
        assert_eq!(report.fates, WHOLE, "{call:?}");
        assert_eq!(report.layers_run, ran, "{call:?}");
        assert_eq!(report.verdict, Verdict::RanAgain);
        // Of the first pass: why it ran again.
        assert!(report.judgment.drops && report.judgment.delta < -5.0);
    }
    // Layer 2 runs in the second pass only.
    let (_, report) = failed(Call::Run(2), 0, 5.0);
    assert_eq!((report.layers_run, report.fates), (3 + 2, WHOLE.to_vec()));
}

#[test]
fn actions_that_are_not_finite_have_no_verdict() {
    let mut skipper = skipper(6, &[0, 3], SkipConfig::default());
    let mut stack = Recorder::new(6);
    let mut action = [0.0; 7];
    skipper.step(&mut stack, &mut action).unwrap();
    stack.say = Some(f64::INFINITY);
    let error = skipper.step(&mut stack, &mut action).unwrap_err();
    assert!(matches!(error, Broken::Crate(Error::NotFinite { .. })));
    let report = skipper.report();
    assert_eq!(
        (report.layers_run, report.verdict),
        (6, Verdict::NotReached)
    );
    assert_eq!(report.judgment, NONE);
    assert!(report.fates.iter().all(|fate| fate.ran()));
}
