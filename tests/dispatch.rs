//! The dispatcher against recorded vectors and episodes, against literal versions of Algorithm 1
//! and Eq. 4, and its invariants.

use std::path::PathBuf;

use proptest::prelude::*;
use w4ax::calibrate::Calibration;
use w4ax::dispatch::{
    Action, Algorithm, Decision, DispatchConfig, Dispatcher, MotionScale, Reason,
    SaturatingCounter, TargetWindow, Thresholds,
};
use w4ax::{Error, Width};

fn data(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/robot")).join(name)
}

/// Returns the rows of a CSV file. Each row returns a column by name.
fn rows(name: &str) -> Vec<impl Fn(&str) -> String + use<>> {
    let mut reader = csv::Reader::from_path(data(name)).unwrap();
    let header = reader.headers().unwrap().clone();
    let cell = |record: csv::StringRecord| {
        let header = header.clone();
        move |column: &str| {
            let at = header.iter().position(|name| name == column).unwrap();
            record[at].to_owned()
        }
    };
    reader
        .records()
        .map(|record| cell(record.unwrap()))
        .collect()
}

fn width(bits: &str) -> Width {
    Width::try_from(bits.parse::<u32>().unwrap()).unwrap()
}

#[test]
fn matches_the_recorded_vectors() {
    let (mut steps, mut cases) = (0, 0);
    let mut seen = [0; 4];
    let mut pair: Option<(Dispatcher, Dispatcher)> = None;
    for row in rows("dispatch_vectors.csv") {
        let float = |column: &str| row(column).parse::<f64>().unwrap();
        if row("t") == "0" {
            cases += 1;
            let by_counter = DispatchConfig::new(
                MotionScale {
                    mu_max: float("mu_max"),
                    nu_max: float("nu_max"),
                },
                Thresholds {
                    theta_24: float("theta_24"),
                    theta_48: float("theta_48"),
                    theta_fp: float("theta_fp"),
                },
            )
            .with_lambda(float("lambda"))
            .with_window_macro(row("window_macro").parse().unwrap())
            .with_window_micro(row("window_micro").parse().unwrap())
            .with_k(row("k").parse().unwrap())
            .with_algorithm(Algorithm::SaturatingCounter);
            let by_window = by_counter.with_algorithm(Algorithm::Window);
            pair = Some((
                Dispatcher::new(&by_counter).unwrap(),
                Dispatcher::new(&by_window).unwrap(),
            ));
        }
        let (counter, window) = pair.as_mut().unwrap();
        let at = format!("case {} t {}", row("case"), row("t"));
        let (c, w) = (counter.decide(), window.decide());
        assert!(
            (c.sensitivity - float("S")).abs() <= 1e-9,
            "{at}: S {} not {}",
            c.sensitivity,
            row("S")
        );
        assert_eq!(c.target, width(&row("target")), "{at}");
        assert_eq!(c.active, width(&row("counter")), "{at}");
        assert_eq!(w.active, width(&row("window")), "{at}");
        assert_eq!((c.sensitivity, c.target), (w.sensitivity, w.target), "{at}");
        let action: Vec<f64> = (0..7).map(|i| float(&format!("a{i}"))).collect();
        counter.observe(&action).unwrap();
        window.observe(&action).unwrap();
        seen[c.target.index()] += 1;
        steps += 1;
    }
    assert_eq!((steps, cases), (1402, 24));
    assert!(seen.iter().all(|&n| n > 20), "{seen:?}");
}

#[test]
fn matches_the_recorded_closed_loop() {
    let calibration = Calibration::load(data("closed_loop_calibration.json")).unwrap();
    let mut episode = (String::new(), String::new());
    let mut dispatcher = None;
    let (mut steps, mut episodes) = (0, 0);
    for row in rows("closed_loop_steps.csv") {
        let now = (row("task"), row("seed"));
        if now != episode {
            assert_eq!(row("t"), "0");
            dispatcher =
                Some(Dispatcher::new(&calibration.dispatch_config(&now.0).unwrap()).unwrap());
            episode = now;
            episodes += 1;
        }
        let dispatcher = dispatcher.as_mut().unwrap();
        let Decision {
            sensitivity,
            target,
            active,
            ..
        } = dispatcher.decide();
        let at = format!("{episode:?} t {}", row("t"));
        let recorded: f64 = row("S_t").parse().unwrap();
        assert!(
            (sensitivity - recorded).abs() <= 1e-5,
            "{at}: S {sensitivity} not {recorded}"
        );
        assert_eq!(target, width(&row("S_cond")), "{at}");
        assert_eq!(active, width(&row("bits")), "{at}");
        let action = ["k_x", "k_y", "k_z", "k_rx", "k_ry", "k_rz", "k_grip"]
            .map(|k| -1.0 + 2.0 * row(k).parse::<f64>().unwrap() / 255.0);
        dispatcher.observe(&action).unwrap();
        steps += 1;
    }
    assert_eq!((steps, episodes), (1434, 9));
}

/// Algorithm 1 as in the paper's pseudocode: plain numbers, single-letter variables, no early exit.
#[derive(Clone)]
struct Literal {
    b: u32,
    c: u32,
    m: u32,
}

impl Literal {
    fn step(&mut self, h: u32, k: u32) -> u32 {
        let (b0, c0, m0) = (self.b, self.c, self.m);
        if h >= b0 {
            self.b = h;
            self.c = 0;
            self.m = h;
        }
        if h < b0 {
            let kept = if c0 > 0 { m0 } else { 0 };
            let m1 = if h > kept { h } else { kept };
            let c1 = if m1 == m0 { c0 + 1 } else { 1 };
            self.m = m1;
            self.c = c1 % k;
            self.b = if c1 == k { m1 } else { b0 };
        }
        self.b
    }
}

/// Eq. 4 over slices of all targets so far. Returns the active width after each target.
fn eq_4(targets: &[u32], k: usize) -> Vec<u32> {
    let mut b = vec![16];
    for t in 0..targets.len() {
        let h = targets[t];
        let before = b[t];
        let covered = t + 1 >= k && *targets[t + 1 - k..=t].iter().max().unwrap() <= h;
        b.push(if h >= before || covered { h } else { before });
    }
    b.split_off(1)
}

/// Checks the counter against the literal version and the invariants, and the window against the
/// slices.
fn check(targets: &[Width], k: u32) {
    let bits: Vec<u32> = targets.iter().map(|h| h.bits()).collect();
    let by_slices = eq_4(&bits, k as usize);
    let (mut counter, mut window) = (SaturatingCounter::new(k), TargetWindow::new(k));
    let mut literal = Literal { b: 16, c: 0, m: 16 };
    for (t, &h) in targets.iter().enumerate() {
        let before = counter.active();
        let active = counter.step(h);
        let what = || format!("k {k} t {t} of {bits:?}");
        assert_eq!(active.bits(), literal.step(bits[t], k), "{}", what());
        assert_eq!(
            (counter.count(), counter.pending().bits()),
            (literal.c, literal.m),
            "{}",
            what()
        );
        assert!(active >= h, "{}: {active} does not cover {h}", what());
        if active < before {
            assert!(t + 1 >= k as usize, "{}", what());
            let last = &targets[t + 1 - k as usize..=t];
            assert!(
                last.iter().all(|&h| h <= active),
                "{}: {active} does not cover {last:?}",
                what()
            );
        }
        let active = window.step(h);
        assert_eq!(active.bits(), by_slices[t], "Eq. 4, {}", what());
        assert!(active >= h);
    }
}

#[test]
fn short_target_sequences_match_the_literal_algorithms() {
    for length in 0..=8_u32 {
        for code in 0..4_usize.pow(length) {
            let targets: Vec<Width> = (0..length)
                .map(|i| Width::ALL[code >> (2 * i) & 3])
                .collect();
            // A sequence covers its prefixes. Shorter lengths are needed only for K.
            for k in 1..=4 {
                check(&targets, k);
            }
        }
    }
}

/// The documentation of `TargetWindow` states both directions.
#[test]
fn counter_and_window_differ_in_both_directions() {
    let run = |targets: &[u32], k| {
        let (mut counter, mut window) = (SaturatingCounter::new(k), TargetWindow::new(k));
        let step = |&h: &u32| {
            let h = Width::try_from(h).unwrap();
            (counter.step(h).bits(), window.step(h).bits())
        };
        targets.iter().map(step).last().unwrap()
    };
    assert_eq!(run(&[4, 2], 2), (4, 16));
    assert_eq!(run(&[2, 4, 2], 2), (4, 4));
    assert_eq!(run(&[4, 4, 2], 3), (4, 16));
    assert_eq!(run(&[2, 2, 4], 3), (16, 4));
}

fn motion() -> MotionScale {
    MotionScale {
        mu_max: 0.9,
        nu_max: 0.2,
    }
}

fn config(k: u32, algorithm: Algorithm) -> DispatchConfig {
    let thresholds = Thresholds {
        theta_24: 0.2,
        theta_48: 0.35,
        theta_fp: 0.5,
    };
    DispatchConfig::new(motion(), thresholds)
        .with_k(k)
        .with_algorithm(algorithm)
}

/// Fast, straight motion: S = 0.05, target 2.
const FAST: Action = [0.81, 0.0, 0.0, 0.1, 0.0, 0.0, 1.0];
/// Little motion: S = 0.5 (1 - 0.09 / 0.9) = 0.45, target 8.
const SLOW: Action = [0.09, 0.0, 0.0, 0.1, 0.0, 0.0, 1.0];

#[test]
fn decisions_return_every_reason() {
    let mut d = Dispatcher::new(&config(2, Algorithm::default()).with_window_macro(1)).unwrap();
    let mut next = |action: Option<&Action>| {
        if let Some(action) = action {
            d.observe(action).unwrap();
        }
        let decision = d.decide();
        assert_eq!(decision.active, d.active());
        (
            decision.target.bits(),
            decision.active.bits(),
            decision.reason,
        )
    };
    let held = |count, pending| Reason::Held { count, pending };
    assert_eq!(next(None), (16, 16, Reason::Start));
    assert_eq!(next(None), (16, 16, Reason::Start));
    assert_eq!(next(Some(&FAST)), (2, 16, held(1, Width::A2)));
    assert_eq!(next(Some(&SLOW)), (8, 16, held(1, Width::A8)));
    assert_eq!(next(Some(&FAST)), (2, 8, Reason::SteppedDown));
    assert_eq!(next(Some(&FAST)), (2, 8, held(1, Width::A2)));
    assert_eq!(next(Some(&FAST)), (2, 2, Reason::SteppedDown));
    assert_eq!(next(Some(&FAST)), (2, 2, Reason::Steady));
    assert_eq!(next(Some(&SLOW)), (8, 8, Reason::Rose));
    d.reset();
    assert_eq!(
        (d.active(), d.decide().reason),
        (Width::Bf16, Reason::Start)
    );
}

/// Without history the width is BF16, even if the thresholds map S = 1 to another width.
#[test]
fn first_decision_is_bf16_for_any_thresholds() {
    let thresholds = Thresholds {
        theta_24: 2.0,
        theta_48: 2.0,
        theta_fp: 2.0,
    };
    for algorithm in [Algorithm::SaturatingCounter, Algorithm::Window] {
        let mut d = Dispatcher::new(&config(1, algorithm).with_thresholds(thresholds)).unwrap();
        let first = d.decide();
        assert_eq!(
            (first.target, first.active, first.sensitivity),
            (Width::Bf16, Width::Bf16, 1.0)
        );
        d.observe(&SLOW).unwrap();
        assert_eq!(d.decide().active, Width::A2);
    }
}

#[test]
fn invalid_action_is_an_error_and_then_bf16() {
    let with = |index: usize, value: f64| {
        let mut action = FAST.to_vec();
        action[index] = value;
        action
    };
    let bad: [(Vec<f64>, &str); 7] = [
        (
            with(0, f64::NAN),
            "element 0 of action is NaN: expected a finite number",
        ),
        (
            with(4, f64::INFINITY),
            "element 4 of action is inf: expected a finite number",
        ),
        (
            with(6, f64::NEG_INFINITY),
            "element 6 of action is -inf: expected a finite number",
        ),
        (FAST[..6].to_vec(), "action has shape [6]: expected [7]"),
        ([FAST, FAST].concat(), "action has shape [14]: expected [7]"),
        (vec![], "action has shape [0]: expected [7]"),
        (with(1, 1e200), "finite motion"),
    ];
    for algorithm in [Algorithm::SaturatingCounter, Algorithm::Window] {
        for (action, expected) in &bad {
            let mut d = Dispatcher::new(&config(1, algorithm)).unwrap();
            d.observe(&FAST).unwrap();
            assert_eq!(d.decide().active, Width::A2);
            let fault = Decision {
                sensitivity: 1.0,
                target: Width::Bf16,
                active: Width::Bf16,
                reason: Reason::Fault,
            };

            let error = d.observe(action).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert_eq!(d.active(), Width::Bf16, "BF16 at once");
            assert_eq!([d.decide(), d.decide()], [fault; 2], "until a valid action");
            // A valid action starts a new history: the rotation before the fault causes no jerk.
            d.observe(&[0.81, 0.0, 0.0, -1.0, 1.0, 1.0, 1.0]).unwrap();
            let after = d.decide();
            assert!((after.sensitivity - 0.05).abs() < 1e-12, "{after:?}");
            assert_eq!(
                (after.active, after.reason),
                (Width::A2, Reason::SteppedDown)
            );
        }
    }
}

#[test]
fn valid_action_does_not_hide_a_fault() {
    let mut d = Dispatcher::new(&config(1, Algorithm::default())).unwrap();
    for _ in 0..20 {
        d.observe(&FAST).unwrap();
    }
    assert!(d.observe(&[f64::NAN; 7]).is_err());
    d.observe(&FAST).unwrap();
    assert_eq!(d.decide().reason, Reason::Fault);
    assert_eq!(d.decide().active, Width::A2);
    assert!(d.observe(&[0.0_f64; 3]).is_err());
    d.reset();
    assert_eq!(d.decide().reason, Reason::Start);
}

/// After a fault the counter needs K steps again.
#[test]
fn fault_resets_the_hysteresis() {
    for algorithm in [Algorithm::SaturatingCounter, Algorithm::Window] {
        let mut d = Dispatcher::new(&config(3, algorithm)).unwrap();
        let mut fresh = Dispatcher::new(&config(3, algorithm)).unwrap();
        for _ in 0..5 {
            d.observe(&FAST).unwrap();
            d.decide();
        }
        assert!(d.observe(&[f64::NAN; 7]).is_err());
        assert_eq!(
            (d.decide().reason, fresh.decide().reason),
            (Reason::Fault, Reason::Start)
        );
        for _ in 0..5 {
            d.observe(&FAST).unwrap();
            fresh.observe(&FAST).unwrap();
            assert_eq!(d.decide(), fresh.decide());
        }
        assert_eq!(d.active(), Width::A2);
    }
}

#[test]
fn chunk_equals_its_actions_one_by_one() {
    let mut chunked = Dispatcher::new(&config(1, Algorithm::default())).unwrap();
    let mut single = chunked.clone();
    let chunk: Vec<f32> = (0..5 * 7).map(|i| (i as f32 * 0.37).sin()).collect();
    chunked.observe_chunk(&chunk).unwrap();
    for action in chunk.chunks(7) {
        single.observe(action).unwrap();
    }
    assert_eq!(chunked.decide(), single.decide());

    let mut bad = chunk.clone();
    bad[3 * 7 + 2] = f32::NAN;
    match chunked.observe_chunk(&bad).unwrap_err() {
        Error::NotFinite { index, .. } => assert_eq!(index, 3 * 7 + 2),
        other => panic!("{other}"),
    }
    assert_eq!(chunked.decide().reason, Reason::Fault);
    for wrong in [&chunk[..34], &[]] {
        chunked.reset();
        let error = chunked.observe_chunk(wrong).unwrap_err();
        assert!(
            matches!(error, Error::Shape { what: "action", .. }),
            "{error}"
        );
        assert_eq!(chunked.decide().reason, Reason::Fault);
    }
}

#[test]
fn rejects_invalid_configuration_and_has_bounded_size() {
    let good = config(4, Algorithm::default());
    let bad = good.with_lambda(f64::NAN);
    assert!(matches!(
        Dispatcher::new(&bad),
        Err(Error::Config {
            field: "lambda",
            ..
        })
    ));
    assert_eq!(Dispatcher::new(&good).unwrap().config(), &good);
    assert!(
        size_of::<Dispatcher>() < 8 * 1024,
        "{}",
        size_of::<Dispatcher>()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_target_sequences_match_the_literal_algorithms(
        targets in prop::collection::vec(0..4_usize, 0..200),
        k in prop_oneof![1..=8_u32, 1..=100_u32],
    ) {
        let targets: Vec<Width> = targets.into_iter().map(|i| Width::ALL[i]).collect();
        check(&targets, k);
    }

    /// Long constant segments, so that large K are reached.
    #[test]
    fn random_target_segments_match_the_literal_algorithms(
        segments in prop::collection::vec((0..4_usize, 1..30_usize), 0..20),
        k in 1..=40_u32,
    ) {
        let segment = |(i, n)| std::iter::repeat_n(Width::ALL[i], n);
        let targets: Vec<Width> = segments.into_iter().flat_map(segment).collect();
        check(&targets, k);
    }
}

proptest! {
    /// Valid and invalid actions mixed: the active width is at least the target, an error is
    /// followed by BF16, and S otherwise equals the formula over slices.
    #[test]
    fn random_actions_keep_the_invariants(
        actions in prop::collection::vec(
            prop_oneof![
                20 => prop::array::uniform7(-1.0..=1.0_f64).prop_map(|a| a.to_vec()),
                1 => prop::collection::vec(any::<f64>(), 0..9),
            ],
            0..60,
        ),
        (window_macro, window_micro, lambda) in (1..=12_usize, 1..=12_usize, 0.0..=1.0_f64),
    ) {
        let config = config(3, Algorithm::default())
            .with_window_macro(window_macro)
            .with_window_micro(window_micro)
            .with_lambda(lambda);
        let mut d = Dispatcher::new(&config).unwrap();
        let (mut m, mut j, mut rotation) = (vec![], vec![], None::<[f64; 3]>);
        for action in actions {
            let observed = d.observe(&action);
            let decision = d.decide();
            prop_assert!(decision.active >= decision.target);
            if observed.is_err() {
                prop_assert_eq!((decision.active, decision.reason), (Width::Bf16, Reason::Fault));
                (m, j, rotation) = (vec![], vec![], None);
                continue;
            }
            let length = |v: [f64; 3]| (v[0] * v[0] + v[1] * v[1] + v[2] * v[2]).sqrt();
            let r = [action[3], action[4], action[5]];
            let turn = rotation.map_or(0.0, |p| length([r[0] - p[0], r[1] - p[1], r[2] - p[2]]));
            m.push(1.0 - length([action[0], action[1], action[2]]) / motion().mu_max);
            j.push(turn / motion().nu_max);
            rotation = Some(r);
            let mean = |v: &[f64], window: usize| {
                let last = &v[v.len().saturating_sub(window)..];
                last.iter().sum::<f64>() / last.len() as f64
            };
            let s = lambda * mean(&m, window_macro) + (1.0 - lambda) * mean(&j, window_micro);
            let close = (decision.sensitivity - s.max(0.0)).abs() <= 1e-12 * s.abs().max(1.0);
            prop_assert!(close || s.is_nan(), "{} not {s}", decision.sensitivity);
            prop_assert_eq!(decision.target, config.thresholds().target(decision.sensitivity));
        }
    }
}
