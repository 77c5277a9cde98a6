//! Reports of failed steps, and no skipping after them.

use w4ax::Error;
use w4ax::skip::{Fate, Judgment, SkipConfig, SkipReport, Verdict};

use crate::recorder::{Broken, Call, Recorder, skipper};

const NONE: Judgment = Judgment {
    continuity: 0.0,
    delta: 0.0,
    drops: false,
};

/// Returns the error and the report of a step that fails in `call`, after `successes` calls of this
/// kind.
///
/// The stack has six layers, 0 and 3 static. Two steps first skip in both gaps and move a little,
/// so that their report is not empty. In the failing step layer 1 does not skip, but layers 2 and 4
/// do. Its actions are `output`, which is a first drop if it is a jump.
fn failed(call: Call, successes: usize, output: f64) -> (Broken, SkipReport) {
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
    for small in [0.0, 0.0078125] {
        stack.output = Some(small);
        skipper.step(&mut stack, &mut action).unwrap();
    }
    let last = skipper.report();
    assert!((last.layers_run, last.verdict) == (2, Verdict::Passed) && last.judgment != NONE);
    stack.calls.clear();
    stack.p[1] = 0.25;
    (stack.output, stack.fail) = (Some(output), Some((call, successes)));
    let error = skipper.step(&mut stack, &mut action).unwrap_err();
    assert!(skipper.guide().in_fault());
    let report = skipper.report().clone();
    // All layers that were called count, except one that failed.
    let failed = usize::from(matches!(call, Call::Run(_)));
    assert_eq!(report.layers_run, stack.ran().len() - failed, "{call:?}");
    assert_eq!(report.allow_points, [1, 4]);
    // The next step runs all layers, and its report has nothing of the failed step.
    (stack.output, stack.fail) = (Some(0.0), None);
    let next = skipper.step(&mut stack, &mut action).unwrap();
    assert_eq!((next.layers_run, next.verdict), (6, Verdict::Passed));
    assert!(next.fates.iter().all(|fate| fate.ran()));
    (error, report)
}

/// The fates of the failing step without the failure.
const WHOLE: [Fate; 6] = [
    Fate::Static,
    Fate::Declined(0.25),
    Fate::Skipped(0.75),
    Fate::Static,
    Fate::Skipped(0.75),
    Fate::Covered(4),
];

#[test]
fn layers_after_a_failure_of_the_first_pass_are_not_reached() {
    let calls = [
        // The call, the number of known fates, the number of layers that ran.
        (Call::Embed, 0, 0),
        (Call::Run(0), 0, 0),
        (Call::Probability(1), 1, 1),
        (Call::Run(1), 1, 1),
        (Call::Probability(2), 2, 2),
        (Call::Adapt(2, 3), 2, 2),
        (Call::Run(3), 3, 2),
        (Call::Probability(4), 4, 3),
        (Call::Adapt(4, 6), 4, 3),
        (Call::Actions, 6, 3),
    ];
    for (call, known, ran) in calls {
        // The output is a jump, but actions that were not judged have no drop.
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
fn failure_of_the_second_pass_reports_both_passes() {
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
        // The judgment is that of the first pass, which is why the step ran again.
        assert!(report.judgment.drops && report.judgment.delta < -5.0);
    }
    // Layer 2 runs only in the second pass.
    let (_, report) = failed(Call::Run(2), 0, 5.0);
    assert_eq!((report.layers_run, report.fates), (3 + 2, WHOLE.to_vec()));
}

#[test]
fn step_with_non_finite_actions_has_no_verdict() {
    let mut skipper = skipper(6, &[0, 3], SkipConfig::default());
    let mut stack = Recorder::new(6);
    let mut action = [0.0; 7];
    skipper.step(&mut stack, &mut action).unwrap();
    stack.output = Some(f64::INFINITY);
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
