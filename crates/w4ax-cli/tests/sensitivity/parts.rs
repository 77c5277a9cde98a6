//! The parts against hand-computed values.

use std::path::Path;

use proptest::prelude::*;
use w4ax::calibrate::Calibration;
use w4ax::dispatch::{DispatchConfig, MotionScale, Thresholds};

use crate::{DATA, data};
use w4ax_robot::sensitivity::continuity::{self, Flip, Share};
use w4ax_robot::sensitivity::correlation::{Bootstrap, MIN_CLUSTERS, Sorted, pearson, spearman};
use w4ax_robot::sensitivity::motion::{self, Predictor};
use w4ax_robot::sensitivity::perturb::{self, Mode, Terminal};
use w4ax_robot::sensitivity::response::{self, Response, correlations};

/// Returns the rows of the repository's data after a change of `perturb.csv`.
fn responses(change: impl FnOnce(String) -> String) -> Vec<Response> {
    let nominal =
        perturb::parse_nominal(data("nominal_actions.csv").as_bytes(), "nominal").unwrap();
    let text = change(data("perturb.csv"));
    let perturbed = perturb::parse(text.as_bytes(), "perturbed", &nominal).unwrap();
    let calibration = Calibration::load(Path::new(DATA).join("calibration.json")).unwrap();
    let configs = motion::configs(&calibration, &nominal, false).unwrap();
    response::responses(&nominal, perturbed, "nominal", |task| &configs[task]).unwrap()
}

#[test]
fn zero_error_has_no_sensitivity_and_zero_deviation_no_logarithm() {
    // Two rows of a first step: one without a perturbation, one without an effect.
    let rows = responses(|text| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for (line, column) in [(1, "e_t"), (2, "D_eef")] {
            let at = lines[0].split(',').position(|name| name == column).unwrap();
            let mut parts: Vec<&str> = lines[line].split(',').collect();
            parts[at] = "0";
            lines[line] = parts.join(",");
        }
        lines.join("\n")
    });
    assert_eq!(rows[0].sensitivity(Terminal::Obj), None);
    assert_eq!(rows[1].sensitivity(Terminal::Eef), Some(0.0));
    let all = correlations(&rows, 10, 0);
    let of = |terminal, predictor| {
        let mut found = all.iter().filter(|c| {
            c.group.mode == Some(Mode::Bc)
                && c.group.task.is_none()
                && (c.terminal, c.predictor) == (terminal, predictor)
        });
        found.next().unwrap()
    };
    let counts = |terminal, predictor| {
        let c = of(terminal, predictor);
        (c.rows, c.left_out, c.still)
    };
    assert_eq!(counts(Terminal::Eef, Predictor::M), (341, 1, 1));
    assert_eq!(counts(Terminal::Obj, Predictor::M), (341, 1, 0));
    // Both rows have t = 0, like 18 others: there is no motion before.
    assert_eq!(counts(Terminal::Eef, Predictor::MBefore), (322, 20, 0));
    let log = of(Terminal::Eef, Predictor::M).pearson_log.unwrap();
    assert!(log.value.is_finite());
}

#[test]
fn motion_matches_hand_computed_values() {
    let motion = MotionScale {
        mu_max: 0.5,
        nu_max: 0.25,
    };
    let thresholds = Thresholds {
        theta_24: 0.1,
        theta_48: 0.3,
        theta_fp: 0.5,
    };
    let config = DispatchConfig::new(motion, thresholds)
        .with_window_macro(2)
        .with_window_micro(3);
    let actions = [
        [0.25, 0.0, 0.0, 0.5, 0.0, 0.0, 1.0],
        [0.0, 0.3, 0.4, 0.625, 0.0, 0.0, -1.0],
        [0.0, 0.0, 0.125, 0.625, 0.25, 0.0, -1.0],
        [0.0, 0.0, 0.0, 0.625, 0.25, 0.0, -1.0],
    ];
    let found = motion::of_episode(&config, &actions).unwrap();
    // M: .5, 0, .75, 1. J: 0, .5, 1, 0.
    let expected = [
        (0.5, 0.5, None, 0.0, 0.0, None),
        (0.0, 0.25, Some(0.5), 0.5, 0.25, Some(0.0)),
        (0.75, 0.375, Some(0.25), 1.0, 0.5, Some(0.25)),
        (1.0, 0.875, Some(0.375), 0.0, 0.5, Some(0.5)),
    ];
    for (m, expected) in found.iter().zip(expected) {
        assert_eq!(
            (m.m, m.m_window, m.m_before, m.j, m.j_window, m.j_before),
            expected
        );
    }
}

#[test]
fn correlations_match_hand_computed_values() {
    let one = [1.0; 4];
    let line = [1.0, 2.0, 3.0, 4.0];
    assert_eq!(pearson(&line, &[-2.0, -4.0, -6.0, -8.0], &one), Some(-1.0));
    assert_eq!(pearson(&line, &[5.0; 4], &one), None);
    assert_eq!(pearson(&[], &[], &[]), None);
    assert_eq!(pearson(&line, &[1.0, 2.0, f64::NAN, 4.0], &one), None);
    // Sums of squares 2 and 2, of products 1.
    let r = pearson(&[1.0, 2.0, 3.0], &[1.0, 3.0, 2.0], &[1.0; 3]).unwrap();
    assert!((r - 0.5).abs() < 1e-15, "{r}");
    // The first pair twice: means 7/4, sums of squares 2.75 and 2.75, of products 1.75.
    let r = pearson(&[1.0, 2.0, 3.0], &[1.0, 3.0, 2.0], &[2.0, 1.0, 1.0]).unwrap();
    assert!((r - 7.0 / 11.0).abs() < 1e-15, "{r}");
    // Ranks 1, 2.5, 2.5, 4 and 1, 3, 2, 4: sums of squares 4.5 and 5, of products 4.5.
    let (x, y) = (
        Sorted::new(&[0.0, 7.0, 7.0, 900.0]),
        Sorted::new(&[-5.0, 3.0, 2.0, 9.0]),
    );
    assert_eq!(x.ranks(&one), [1.0, 2.5, 2.5, 4.0]);
    let r = spearman(&x, &y, &one).unwrap();
    assert!((r - 4.5 / 22.5_f64.sqrt()).abs() < 1e-15, "{r}");
}

#[test]
fn bootstrap_draws_whole_episodes() {
    let cluster: Vec<usize> = (0..60).map(|row| row * row % 7).collect();
    let different = Bootstrap::new(&cluster, 1, 0).clusters();
    assert!(different < MIN_CLUSTERS);
    assert_eq!(
        Bootstrap::new(&cluster, 9, 0)
            .estimate(|w| Some(w[0]))
            .unwrap()
            .interval,
        None
    );

    let cluster: Vec<usize> = (0..60).map(|row| row % 6).collect();
    let seen = std::cell::RefCell::new(Vec::new());
    let draws = Bootstrap::new(&cluster, 200, 3);
    let estimate = draws.estimate(|w| {
        seen.borrow_mut().push(w.to_vec());
        Some(
            w.iter()
                .zip(&cluster)
                .map(|(w, c)| w * *c as f64)
                .sum::<f64>()
                / 60.0,
        )
    });
    let estimate = estimate.unwrap();
    assert_eq!(estimate.value, 2.5);
    let [low, high] = estimate.interval.unwrap();
    // The mean of 6 draws from 0 to 5 has a standard deviation of .70.
    assert!(
        (0.9..1.4).contains(&(2.5 - low)) && (0.9..1.4).contains(&(high - 2.5)),
        "{low} {high}"
    );
    let seen = seen.into_inner();
    assert_eq!((seen.len(), &seen[0]), (201, &vec![1.0; 60]));
    for weights in &seen[1..] {
        assert_eq!(weights.iter().sum::<f64>(), 60.0);
        for (row, weight) in weights.iter().enumerate() {
            assert_eq!(*weight, weights[row % 6]);
        }
    }
    assert!(seen[1..].iter().any(|weights| weights != &seen[1]));
    assert_eq!(draws.estimate(|_| None), None);
}

#[test]
fn continuity_matches_hand_computed_values() {
    let rest = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0];
    let (moved, mut closed) = ([0.3, 0.4, 0.0, 0.0, 0.0, 0.0, -1.0], rest);
    closed[6] = 1.0;
    // Changes: .5, .5, 2, 0, 2.
    let steps = [
        (0, rest),
        (0, moved),
        (1, rest),
        (2, closed),
        (2, closed),
        (6, rest),
    ];
    let episode = w4ax_robot::rows::Recorded {
        key: ("task".into(), 4),
        line: 2,
        steps: steps.to_vec(),
    };
    let found = continuity::steps(&[episode], "file").unwrap();
    let expected = [
        (0.0, 0.0, 0.0, None),
        (-0.5, -0.5, -0.5, None),
        (-0.5, -0.5, 0.0, None),
        (-1.0, -1.0 / 3.0, -0.5, Some(Flip::Closing)),
        (-0.75, -0.25, 0.25, None),
        (-1.0, -0.2, -0.25, Some(Flip::Opening)),
    ];
    for (step, (all, arm, delta, flip)) in found.iter().zip(expected) {
        assert!((step.continuity - all).abs() < 1e-12, "{step:?}");
        assert!((step.continuity_arm - arm).abs() < 1e-12, "{step:?}");
        assert!((step.delta - delta).abs() < 1e-12, "{step:?}");
        assert_eq!(step.flip, flip);
    }
    let phases = continuity::phases(&found);
    let counts: Vec<usize> = phases.iter().map(|phase| phase.steps).collect();
    assert_eq!(counts, [2, 1, 2, 0, 0, 0, 1, 0]);
    assert_eq!(
        (phases[0].all, phases[2].all, phases[3].all),
        (Some(-0.25), Some(-0.875), None)
    );
    // A rise then a drop: the opening alone. First drops: the second step, the closing, the
    // opening.
    let (one, none) = (Share { fired: 1, of: 1 }, Share { fired: 0, of: 1 });
    for firing in continuity::firings(&found) {
        let expected = match firing.rule {
            "rise then drop" => (none, one, 1, none),
            _ => (one, one, 3, one),
        };
        assert_eq!(
            (
                firing.closings,
                firing.openings,
                firing.steps.fired,
                firing.starts
            ),
            expected,
            "{firing:?}"
        );
        assert_eq!(firing.steps.of, 6);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// A weight is the number of repetitions of a pair.
    #[test]
    fn correlations_use_weights(
        pairs in proptest::collection::vec((0u8..6, 0u8..9, 0u8..4), 1..40),
    ) {
        let column = |of: fn(&(u8, u8, u8)) -> u8| -> Vec<f64> {
            pairs.iter().map(|p| of(p).into()).collect()
        };
        let (x, y, weights) = (column(|p| p.0), column(|p| p.1), column(|p| p.2));
        let spread = |v: &[f64]| -> Vec<f64> {
            let times = v.iter().zip(&weights);
            times.flat_map(|(v, w)| std::iter::repeat_n(*v, *w as usize)).collect()
        };
        let (xs, ys) = (spread(&x), spread(&y));
        let ones = vec![1.0; xs.len()];
        let both = [
            (pearson(&x, &y, &weights), pearson(&xs, &ys, &ones)),
            (
                spearman(&Sorted::new(&x), &Sorted::new(&y), &weights),
                spearman(&Sorted::new(&xs), &Sorted::new(&ys), &ones),
            ),
        ];
        for (weighted, plain) in both {
            match (weighted, plain) {
                (Some(a), Some(b)) => prop_assert!((a - b).abs() < 1e-9, "{} {}", a, b),
                (a, b) => prop_assert!(a.is_none() && b.is_none(), "{:?} {:?}", a, b),
            }
        }
    }
}
