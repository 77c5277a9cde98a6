//! Steps over a stack: the layers that run, and the reasons.

use proptest::prelude::*;
use w4ax::Error;
use w4ax::skip::{Fate, SkipConfig, Verdict, Verify};

use crate::recorder::{Broken, Call, Recorder, layer, skipper};

/// Six layers, 0 and 3 static: gaps 1..3 and 4..6.
#[test]
fn step_matches_hand_computed_calls() {
    let mut skipper = skipper(6, &[0, 3], SkipConfig::default());
    let mut stack = Recorder::new(6);
    stack.p = vec![0.0, 0.5, 0.51, 0.0, 0.9, 0.9];
    let mut action = [0.0; 7];
    let report = skipper.step(&mut stack, &mut action).unwrap();
    use Call::*;
    // .5 is not above the threshold .5. Controllers of static and covered layers are not evaluated.
    let calls = [
        Embed,
        Run(0),
        Probability(1),
        Run(1),
        Probability(2),
        Adapt(2, 3),
        Run(3),
        Probability(4),
        Adapt(4, 6),
        Actions,
    ];
    assert_eq!(stack.calls, calls);
    let fates = [
        Fate::Static,
        Fate::Declined(0.5),
        Fate::Skipped(0.51),
        Fate::Static,
        Fate::Skipped(0.9),
        Fate::Covered(4),
    ];
    assert_eq!(report.fates, fates);
    assert_eq!((report.layers_run, report.verdict), (3, Verdict::Passed));
    assert_eq!(report.allow_points, [1, 4]);

    // A jump of 2 in all numbers is a first drop: |(2, 2, ..)| = 5.29. The step runs again with all
    // layers.
    stack.calls.clear();
    stack.output = Some(2.0 + action[0]);
    let report = skipper.step(&mut stack, &mut action).unwrap();
    assert_eq!(report.verdict, Verdict::RanAgain);
    assert_eq!(report.layers_run, 3 + 6);
    let again = [
        Embed,
        Run(0),
        Run(1),
        Run(2),
        Run(3),
        Run(4),
        Run(5),
        Actions,
    ];
    assert_eq!(stack.calls[10..], again);
    assert_eq!(report.fates, fates);

    // The allow-points are at the ends of their gaps: all layers run without their controllers. The
    // second drop in a row is not a first drop.
    stack.calls.clear();
    stack.output = Some(action[0] - 2.5);
    let report = skipper.step(&mut stack, &mut action).unwrap();
    assert_eq!(report.allow_points, [3, 6]);
    assert_eq!(stack.ran(), [0, 1, 2, 3, 4, 5]);
    assert!(
        !stack
            .calls
            .iter()
            .any(|call| matches!(call, Probability(_)))
    );
    assert_eq!(report.fates[1], Fate::Forced);
    assert_eq!(report.verdict, Verdict::Passed);
}

#[test]
fn drop_without_skipped_layers_does_not_run_again() {
    let mut skipper = skipper(4, &[0], SkipConfig::default());
    let mut stack = Recorder::new(4);
    let mut action = [0.0; 7];
    skipper.step(&mut stack, &mut action).unwrap();
    stack.output = Some(5.0);
    let report = skipper.step(&mut stack, &mut action).unwrap();
    assert_eq!(
        (report.verdict, report.layers_run),
        (Verdict::NothingSkipped, 4)
    );
}

#[test]
fn action_of_the_second_pass_enters_the_history() {
    // The path through the adapter gives another action than the layers.
    let mut skipper = skipper(3, &[0], SkipConfig::default().with_window(1));
    let mut stack = Recorder::new(3);
    stack.p.fill(1.0);
    let mut action = [0.0; 7];
    let first = {
        skipper.step(&mut stack, &mut action).unwrap();
        action[0]
    };
    stack.input = 2.9;
    let report = skipper.step(&mut stack, &mut action).unwrap().clone();
    assert_eq!(report.verdict, Verdict::RanAgain);
    let whole = (0..3).fold(2.9, layer);
    assert_eq!(action, [whole; 7]);
    let expected = -(7.0 * (whole - first).powi(2)).sqrt();
    assert!((report.judgment.continuity - expected).abs() < 1e-12);
    assert!((skipper.guide().continuity().value() - expected).abs() < 1e-12);
}

#[test]
fn non_finite_action_is_an_error_and_disables_skipping() {
    let mut skipper = skipper(6, &[0, 3], SkipConfig::default());
    let mut stack = Recorder::new(6);
    stack.p.fill(1.0);
    let mut action = [0.0; 7];
    skipper.step(&mut stack, &mut action).unwrap();
    stack.output = Some(f64::NAN);
    match skipper.step(&mut stack, &mut action) {
        Err(Broken::Crate(Error::NotFinite { what: "action", .. })) => (),
        other => panic!("{other:?}"),
    }
    stack.output = None;
    for _ in 0..6 {
        let report = skipper.step(&mut stack, &mut action).unwrap();
        assert_eq!(report.layers_run, 6);
    }
    let report = skipper.step(&mut stack, &mut action).unwrap();
    assert_eq!(report.layers_run, 2);
    // A probability of NaN does not skip.
    stack.p.fill(f32::NAN);
    assert_eq!(skipper.step(&mut stack, &mut action).unwrap().layers_run, 6);
}

#[test]
fn failed_stack_disables_skipping() {
    for call in [
        Call::Embed,
        Call::Run(2),
        Call::Probability(1),
        Call::Adapt(3, 4),
        Call::Actions,
    ] {
        let mut skipper = skipper(4, &[0], SkipConfig::default());
        let mut stack = Recorder::new(4);
        stack.p[3] = 1.0;
        let mut action = [0.0; 7];
        skipper.step(&mut stack, &mut action).unwrap();
        stack.calls.clear();
        stack.fail = Some((call, 0));
        assert!(matches!(
            skipper.step(&mut stack, &mut action),
            Err(Broken::Stack)
        ));
        stack.fail = None;
        assert!(
            skipper.guide().in_fault(),
            "{call:?}: {:?}",
            skipper.guide()
        );
        assert_eq!(skipper.step(&mut stack, &mut action).unwrap().layers_run, 4);
    }
}

#[test]
fn mismatched_shapes_are_errors_without_effect() {
    let mut skipper = skipper(4, &[0], SkipConfig::default());
    let mut stack = Recorder::new(4);
    skipper.step(&mut stack, &mut [0.0; 7]).unwrap();
    let before = format!("{:?}", skipper.guide());
    for bad in [&mut [0.0; 0][..], &mut [0.0; 8]] {
        let error = skipper.step(&mut stack, bad).unwrap_err();
        assert!(matches!(
            error,
            Broken::Crate(Error::Shape {
                what: "actions",
                ..
            })
        ));
    }
    let error = skipper
        .step(&mut Recorder::new(5), &mut [0.0; 7])
        .unwrap_err();
    assert!(matches!(
        error,
        Broken::Crate(Error::Shape { what: "stack", .. })
    ));
    assert_eq!(format!("{:?}", skipper.guide()), before);
}

proptest! {
    #[test]
    fn random_controllers_keep_the_invariants(
        n in 1usize..20,
        statics in prop::collection::btree_set(0usize..20, 0..6),
        steps in prop::collection::vec(
            (-3.0..3.0f64, prop::collection::vec(0.0..1.0f32, 20)),
            1..30,
        ),
        chunk in 1usize..9,
        verify in prop::sample::select(vec![Verify::Off, Verify::FirstDrop, Verify::RiseThenDrop]),
        pre_skip: bool,
    ) {
        let statics: Vec<usize> = statics.into_iter().filter(|&l| l < n).collect();
        let config = SkipConfig::default()
            .with_verify(verify)
            .with_pre_skip(pre_skip)
            .with_eta(0.01);
        let mut skipper = skipper(n, &statics, config);
        let mut stack = Recorder::new(n);
        let mut actions = vec![0.0; 7 * chunk];
        for (input, p) in steps {
            stack.input = input;
            stack.p = p[..n].to_vec();
            stack.calls.clear();
            let points = skipper.guide().allow_points().to_vec();
            let report = skipper.step(&mut stack, &mut actions).unwrap().clone();
            let passes = stack.calls.iter().filter(|&&call| call == Call::Embed).count();
            prop_assert_eq!(passes, 1 + usize::from(report.verdict == Verdict::RanAgain));
            prop_assert!(passes == 1 || verify != Verify::Off);
            prop_assert_eq!(report.layers_run, stack.ran().len());
            for layer in 0..n {
                let fate = report.fates[layer];
                match skipper.layers().gap_of(layer) {
                    None => prop_assert_eq!(fate, Fate::Static),
                    Some(gap) => {
                        prop_assert!(fate != Fate::Static);
                        prop_assert_eq!(fate == Fate::Forced, layer < points[gap]);
                        let end = skipper.layers().gaps()[gap].end;
                        if let Fate::Skipped(p) = fate {
                            prop_assert_eq!(p, stack.p[layer]);
                            prop_assert!(p > 0.5);
                            for covered in layer + 1..end {
                                prop_assert_eq!(report.fates[covered], Fate::Covered(layer));
                            }
                            prop_assert!(stack.calls.contains(&Call::Adapt(layer, end)));
                        }
                    }
                }
                let first_pass = stack.calls.iter().skip(1).take_while(|&&c| c != Call::Embed);
                let ran = first_pass.filter(|&&c| c == Call::Run(layer)).count();
                prop_assert_eq!(ran == 1, fate.ran());
            }
        }
    }

    /// The result equals that of the layers in order, bit for bit.
    #[test]
    fn step_without_skips_equals_the_whole_stack(
        n in 1usize..20,
        inputs in prop::collection::vec(-3.0..3.0f64, 1..20),
    ) {
        let mut skipper = skipper(n, &[0], SkipConfig::default());
        let mut stack = Recorder::new(n);
        let mut action = [0.0; 7];
        for input in inputs {
            stack.input = input;
            let report = skipper.step(&mut stack, &mut action).unwrap();
            prop_assert_eq!(report.layers_run, n);
            prop_assert_eq!(action, [(0..n).fold(input, layer); 7]);
        }
    }
}
