//! The consistency rule against vectors of an independent implementation, and its invariants.

use proptest::prelude::*;
use w4ax::dispatch::{
    ConsistencyConfig, ConsistencyReason, ConsistencyRule, DispatchConfig, MotionScale, Profile,
    Thresholds, Tolerance, UncertaintyQuantiles,
};
use w4ax::{Error, Width};

const MOTION: MotionScale = MotionScale {
    mu_max: 0.9,
    nu_max: 0.2,
};

fn action(x: f64) -> [f64; 7] {
    [x, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]
}

fn rule(config: &ConsistencyConfig) -> ConsistencyRule {
    ConsistencyRule::new(config).unwrap()
}

/// Runs a step of a policy that returns `low` or `high`. Returns the profile that ran last and the
/// number of runs.
fn step(
    rule: &mut ConsistencyRule,
    low: [f64; 7],
    high: [f64; 7],
    uncertainty: Option<f64>,
) -> (Profile, usize) {
    let decided = rule.decide().profile;
    let first = if decided == Profile::Low { low } else { high };
    let (profile, mut done, runs) = match rule.verify(&first).accepted {
        true => (decided, first, 1),
        false => (Profile::High, high, 2),
    };
    rule.command(&mut done, profile);
    let _ = rule.observe(&done, profile, uncertainty);
    (profile, runs)
}

#[test]
fn matches_the_vectors_of_the_reference() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/data/robot/consistency_vectors.csv"
    );
    let mut reader = csv::Reader::from_path(path).unwrap();
    let header = reader.headers().unwrap().clone();
    let (mut steps, mut cases, mut accepted_low, mut reruns) = (0, 0, 0, 0);
    let mut current: Option<ConsistencyRule> = None;
    for record in reader.records() {
        let record = record.unwrap();
        let text = |column: &str| &record[header.iter().position(|name| name == column).unwrap()];
        let float = |column: &str| text(column).parse::<f64>().unwrap();
        let at = format!("case {} t {}", text("case"), text("t"));
        if text("t") == "0" {
            cases += 1;
            current = Some(rule(&configuration(&text, &float)));
        }
        let rule = current.as_mut().unwrap();
        let numbers =
            |prefix: &str| -> [f64; 7] { std::array::from_fn(|i| float(&format!("{prefix}{i}"))) };
        let (low, done) = (numbers("low"), numbers("done"));
        let decision = rule.decide();
        let reason = match decision.reason {
            ConsistencyReason::Start => "start",
            ConsistencyReason::Refresh => "refresh",
            ConsistencyReason::NoUncertainty => "no-uncertainty",
            ConsistencyReason::Gate => "gate",
            ConsistencyReason::Try => "try",
            other => panic!("{at}: {other:?}"),
        };
        assert_eq!(reason, text("reason"), "{at}");
        let low_first = decision.profile == Profile::Low;
        assert_eq!(low_first, text("decide") == "lo", "{at}");
        // The reference's S of an empty history is 1, as ours.
        let sensitivity = rule.sensitivity().unwrap_or(1.0);
        assert!((sensitivity - float("S")).abs() <= 1e-9, "{at}: S");
        let check = rule.verify(if low_first { &low } else { &done });
        assert_eq!(check.accepted, text("accepted") == "1", "{at}");
        if let Some(tolerance) = check.tolerance {
            assert!((tolerance - float("tau_t")).abs() <= 1e-9, "{at}: tau");
        }
        let profile = match low_first && check.accepted {
            true => Profile::Low,
            false => Profile::High,
        };
        let mut commanded = if profile == Profile::Low { low } else { done };
        rule.command(&mut commanded, profile);
        for (commanded, done) in commanded.iter().zip(done) {
            assert!((commanded - done).abs() <= 1e-12, "{at}");
        }
        accepted_low += usize::from(profile == Profile::Low);
        reruns += usize::from(!check.accepted);
        let uncertainty = text("u").parse::<f64>().ok();
        rule.observe(&done, profile, uncertainty).unwrap();
        steps += 1;
    }
    assert_eq!((steps, cases), (960, 16));
    assert!(
        accepted_low > 200 && reruns > 200,
        "{accepted_low}, {reruns}"
    );
}

/// Returns the configuration in the first row of a case.
fn configuration<'a>(
    text: &dyn Fn(&str) -> &'a str,
    float: &dyn Fn(&str) -> f64,
) -> ConsistencyConfig {
    let motion = MotionScale {
        mu_max: float("mu_max"),
        nu_max: float("nu_max"),
    };
    let thresholds = Thresholds {
        theta_24: 0.0,
        theta_48: 0.0,
        theta_fp: 0.5,
    };
    let kinematics = DispatchConfig::new(motion, thresholds)
        .with_lambda(float("lambda"))
        .with_window_macro(text("window_macro").parse().unwrap())
        .with_window_micro(text("window_micro").parse().unwrap());
    let tolerance = match text("tau") {
        "" => Tolerance::Motion {
            d_acc: float("d_acc"),
            eta: float("eta"),
            tau_max: float("tau_max"),
        },
        tau => Tolerance::Constant(tau.parse().unwrap()),
    };
    let quantiles = |column| -> Vec<f64> {
        let values = text(column).split(' ');
        values.map(|value| value.parse().unwrap()).collect()
    };
    let quantiles = UncertaintyQuantiles::new(&quantiles("u_low"), &quantiles("u_high")).unwrap();
    ConsistencyConfig::with_kinematics(kinematics)
        .with_tolerance(tolerance)
        .with_gate(float("gate"), quantiles)
        .with_alpha(float("alpha"))
        .with_refresh(text("refresh").parse().unwrap())
}

#[test]
fn action_at_the_tolerance_is_accepted() {
    let config = ConsistencyConfig::new(MOTION).with_tolerance(Tolerance::Constant(0.25));
    let mut rule = rule(&config);
    assert_eq!(rule.decide().reason, ConsistencyReason::Start);
    rule.observe(&action(0.5), Profile::High, None).unwrap();
    assert_eq!(rule.decide().profile, Profile::Low);
    let check = rule.verify(&action(0.75));
    assert_eq!((check.accepted, check.distance), (true, Some(0.25)));
    rule.decide();
    assert!(!rule.verify(&action(0.75f64.next_up())).accepted);
    // A result at the high profile is final.
    assert!(rule.verify(&action(9.0)).accepted);
}

#[test]
fn invalid_action_leads_to_the_high_profile_until_a_valid_one() {
    let mut rule = rule(&ConsistencyConfig::new(MOTION));
    rule.observe(&action(0.5), Profile::High, None).unwrap();
    let error = rule
        .observe(&action(f64::NAN), Profile::Low, None)
        .unwrap_err();
    assert!(
        matches!(error, Error::NotFinite { index: 0, .. }),
        "{error}"
    );
    for _ in 0..2 {
        let decision = rule.decide();
        assert_eq!(decision.profile, Profile::High);
        assert_eq!(decision.reason, ConsistencyReason::Fault);
    }
    rule.observe(&action(0.5), Profile::High, None).unwrap();
    assert_eq!(rule.decide().profile, Profile::Low);
    for wrong in [&[][..], &[0.5; 6], &[0.5; 8]] {
        assert!(!rule.verify(wrong).accepted, "{wrong:?}");
        rule.decide();
        assert!(rule.observe(wrong, Profile::High, None).is_err());
        rule.observe(&action(0.5), Profile::High, None).unwrap();
        rule.decide();
    }
}

#[test]
fn equal_widths_are_static() {
    let config = ConsistencyConfig::new(MOTION).with_widths(Width::A8, Width::A8);
    let mut rule = rule(&config);
    rule.observe(&action(0.5), Profile::High, None).unwrap();
    let decision = rule.decide();
    assert_eq!(
        (decision.reason, decision.width),
        (ConsistencyReason::Static, Width::A8)
    );
}

#[test]
fn chunk_is_compared_with_what_the_last_one_planned_for_its_times() {
    let config = ConsistencyConfig::new(MOTION)
        .with_tolerance(Tolerance::Constant(0.1))
        .with_max_chunk(4);
    let mut rule = rule(&config);
    let chunk = |xs: &[f64]| xs.iter().flat_map(|&x| action(x)).collect::<Vec<_>>();
    rule.observe_chunk(&chunk(&[0.1, 0.2, 0.3, 0.4]), 2, Profile::High, None)
        .unwrap();
    rule.decide();
    // The planned actions are .3 and .4: distances .05 and .1; the rest has no counterpart.
    let check = rule.verify(&chunk(&[0.35, 0.5, 9.0, 9.0]));
    assert!((check.distance.unwrap() - 0.075).abs() < 1e-12);
    assert!(check.accepted);
    // All were executed: the first action is compared with the last executed one.
    rule.observe_chunk(&chunk(&[0.3, 0.4]), 2, Profile::High, None)
        .unwrap();
    rule.decide();
    let check = rule.verify(&chunk(&[0.45, 9.0]));
    assert!((check.distance.unwrap() - 0.05).abs() < 1e-12);
    for executed in [0, 3] {
        assert!(
            rule.observe_chunk(&chunk(&[0.3, 0.4]), executed, Profile::High, None)
                .is_err()
        );
    }
}

#[test]
fn rejects_each_field_out_of_range_by_name() {
    let new = || ConsistencyConfig::new(MOTION);
    let quantiles = UncertaintyQuantiles::new(&[0.0; 101], &[1.0; 101]).unwrap();
    let motion = |d_acc, eta, tau_max| Tolerance::Motion {
        d_acc,
        eta,
        tau_max,
    };
    for (field, config) in [
        ("low", new().with_widths(Width::A8, Width::A4)),
        ("tau", new().with_tolerance(Tolerance::Constant(0.0))),
        ("d_acc", new().with_tolerance(motion(f64::NAN, 0.0, 1.0))),
        ("eta", new().with_tolerance(motion(1.0, -0.1, 1.0))),
        (
            "tau_max",
            new().with_tolerance(motion(1.0, 0.0, f64::INFINITY)),
        ),
        ("gate", new().with_gate(0.0, quantiles)),
        ("alpha", new().with_alpha(1.1)),
        ("max_chunk", new().with_max_chunk(257)),
    ] {
        match ConsistencyRule::new(&config).unwrap_err() {
            Error::Config { field: found, .. } => assert_eq!(found, field),
            other => panic!("{field}: {other}"),
        }
    }
    let mut descending = [0.0; 101];
    descending[3] = 1.0;
    assert!(UncertaintyQuantiles::new(&descending, &[1.0; 101]).is_err());
    assert!(UncertaintyQuantiles::new(&[0.0; 100], &[1.0; 101]).is_err());
    assert!(UncertaintyQuantiles::new(&[f64::NAN; 101], &[1.0; 101]).is_err());
}

#[test]
fn quantiles_interpolate_between_samples() {
    let quantiles = UncertaintyQuantiles::of_samples(&mut [3.0, 1.0], &mut [5.0]).unwrap();
    assert_eq!((quantiles.low()[0], quantiles.low()[50]), (1.0, 2.0));
    assert_eq!((quantiles.low()[100], quantiles.high()[7]), (3.0, 5.0));
    assert!(UncertaintyQuantiles::of_samples(&mut [], &mut [5.0]).is_err());
}

fn component() -> impl Strategy<Value = f64> {
    prop_oneof![
        16 => -1.0..1.0f64,
        1 => prop_oneof![
            Just(f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(1e300), Just(-1e300)
        ],
    ]
}

fn uncertainty() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![8 => (0.0..1.0f64).prop_map(Some), 1 => Just(None), 1 => Just(Some(f64::NAN))]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Low and high actions may be anything. An accepted low action is finite and within the
    /// largest tolerance of the last one, no step has more than two runs, and the second one is at
    /// the high profile.
    #[test]
    fn accepts_only_finite_actions_within_the_tolerance(
        steps in prop::collection::vec(
            (prop::array::uniform7(component()), prop::array::uniform7(component()), uncertainty()),
            1..60,
        ),
        gate in prop_oneof![Just(1.0), Just(0.5)],
        refresh in 0u32..6,
    ) {
        let quantiles: Vec<f64> = (0..101).map(|i| f64::from(i) / 100.0).collect();
        let quantiles = UncertaintyQuantiles::new(&quantiles, &quantiles).unwrap();
        let config = ConsistencyConfig::new(MOTION).with_gate(gate, quantiles).with_refresh(refresh);
        let tau_max = config.tolerance().most();
        let mut rule = rule(&config);
        let mut last: Option<[f64; 7]> = None;
        let mut accepted_in_a_row = 0;
        for (low, high, uncertainty) in steps {
            let (profile, runs) = step(&mut rule, low, high, uncertainty);
            prop_assert!(runs <= 2);
            if runs == 2 {
                prop_assert_eq!(profile, Profile::High);
            }
            let done = if profile == Profile::Low { low } else { high };
            if profile == Profile::Low {
                prop_assert!(low.iter().all(|x| x.is_finite()));
                let from = last.expect("a low run needs a last action");
                let squares = low.iter().zip(from).map(|(a, b)| (a - b) * (a - b));
                prop_assert!(squares.sum::<f64>().sqrt() <= tau_max);
                accepted_in_a_row += 1;
            } else {
                accepted_in_a_row = 0;
            }
            // The drift of a series of accepted actions is at most refresh * tau_max.
            prop_assert!(refresh == 0 || accepted_in_a_row <= refresh);
            // What could not be observed is no longer the last action.
            let probe = rule.clone().decide();
            last = match probe.reason {
                ConsistencyReason::Fault | ConsistencyReason::Start => None,
                _ => Some(done),
            };
        }
    }
}

/// Runs of the high profile with ascending uncertainties, below 1.
fn learn(rule: &mut ConsistencyRule, steps: u32) {
    for i in 0..steps {
        rule.observe(
            &action(0.1),
            Profile::High,
            Some(f64::from(i) / f64::from(steps)),
        )
        .unwrap();
    }
}

#[test]
fn online_uncertainty_gates_after_enough_steps() {
    let config = ConsistencyConfig::new(MOTION).with_online_gate(0.9);
    let mut online = rule(&config).with_online_uncertainty();
    assert_eq!(ConsistencyRule::ONLINE_SAMPLES, 100);
    learn(&mut online, 99);
    assert_eq!(online.decide().reason, ConsistencyReason::NoUncertainty);
    // An unknown uncertainty is no sample.
    for bad in [None, Some(f64::NAN), Some(f64::INFINITY), Some(-1.0)] {
        online.observe(&action(0.1), Profile::High, bad).unwrap();
        assert_eq!(online.decide().reason, ConsistencyReason::NoUncertainty);
    }
    let reason = |rule: &mut ConsistencyRule, profile, uncertainty| {
        rule.observe(&action(0.1), profile, Some(uncertainty))
            .unwrap();
        rule.decide().reason
    };
    assert_eq!(
        reason(&mut online, Profile::High, 0.5),
        ConsistencyReason::Try
    );
    assert_eq!(
        reason(&mut online, Profile::High, 0.86),
        ConsistencyReason::Try
    );
    assert_eq!(
        reason(&mut online, Profile::High, 0.97),
        ConsistencyReason::Gate
    );
    // The low profile is compared with the high one at first, and then with itself.
    assert_eq!(
        reason(&mut online, Profile::Low, 1.5),
        ConsistencyReason::Gate
    );
    for i in 0..100 {
        let u = 1.0 + f64::from(i) / 50.0;
        online.observe(&action(0.1), Profile::Low, Some(u)).unwrap();
    }
    assert_eq!(
        reason(&mut online, Profile::Low, 1.5),
        ConsistencyReason::Try
    );
    assert_eq!(
        reason(&mut online, Profile::Low, 2.95),
        ConsistencyReason::Gate
    );
    // The distribution outlasts the episode and a fault.
    online.reset();
    assert_eq!(
        reason(&mut online, Profile::High, 0.5),
        ConsistencyReason::Try
    );
    online
        .observe(&action(f64::NAN), Profile::High, None)
        .unwrap_err();
    assert_eq!(
        reason(&mut online, Profile::High, 0.97),
        ConsistencyReason::Gate
    );
}

#[test]
fn quantiles_of_a_calibration_precede_the_online_ones() {
    let mut samples: Vec<f64> = (0..101).map(f64::from).collect();
    let quantiles = UncertaintyQuantiles::of_samples(&mut samples.clone(), &mut samples).unwrap();
    let config = ConsistencyConfig::new(MOTION).with_gate(0.5, quantiles);
    let mut calibrated = rule(&config).with_online_uncertainty();
    learn(&mut calibrated, 1);
    assert_eq!(calibrated.decide().reason, ConsistencyReason::Try);
    // Without quantiles and without a distribution there is no gate.
    let mut open = rule(&config.with_online_gate(0.5));
    learn(&mut open, 1);
    open.observe(&action(0.1), Profile::High, None).unwrap();
    assert_eq!(open.decide().reason, ConsistencyReason::Try);
}
