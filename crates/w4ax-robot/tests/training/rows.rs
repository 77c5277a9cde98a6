//! The inputs of a run: the dataset's rows, their disturbance, layers by similarity, plans.

use candle_core::DType;
use safetensors::Dtype;
use w4ax::Error;
use w4ax::cpu::Cpu;
use w4ax::skip::Layers;

use crate::{POLICY, ROWS, plan, rng};
use test_support::TensorFile;
use w4ax_robot::dataset::Dataset;
use w4ax_robot::policy::Policy;
use w4ax_robot::shapes::{INPUT, OBS};
use w4ax_robot::training::batches::{self, Disturb, Pool};
use w4ax_robot::training::frozen::Frozen;
use w4ax_robot::training::plan::{Plan, fingerprint};
use w4ax_robot::training::similarity;

/// The figures are in the data's README.
#[test]
fn similarities_match_the_recorded_ones() {
    let frozen = Frozen::new(&POLICY, DType::F32).unwrap();
    let inputs = batches::inputs(&POLICY, &ROWS, &ROWS.rows(false));
    let similarity = similarity::of(&frozen, &inputs).unwrap();
    let recorded = [
        0.541, 0.874, 0.968, 0.973, 0.975, 0.976, 0.973, 0.967, 0.973, 0.974, 0.978, 0.979, 0.980,
        0.984, 0.978, 0.985,
    ];
    for (layer, (got, recorded)) in similarity.iter().zip(recorded).enumerate() {
        assert!(
            (got - recorded).abs() < 2e-3,
            "{layer}: {got}, recorded {recorded}"
        );
    }
    for (static_ratio, expected) in [
        (Some(0.2), vec![0, 1, 7]),
        (Some(0.1), vec![0]),
        (None, vec![]),
    ] {
        let plan = Plan {
            static_ratio,
            ..plan(0)
        };
        let layers = plan.layers(&similarity).unwrap();
        assert_eq!(layers.static_layers().collect::<Vec<_>>(), expected);
    }
}

/// Training and inference have the same cosine and the same input.
#[test]
fn similarities_and_inputs_match_the_library_and_the_policy() {
    let frozen = Frozen::new(&POLICY, DType::F32).unwrap();
    let policy = Policy::unquantized(&POLICY, Cpu::new().unwrap(), 1).unwrap();
    let some: Vec<usize> = (0..ROWS.len()).step_by(501).collect();
    let inputs = batches::inputs(&POLICY, &ROWS, &some);
    for (input, &row) in inputs.iter().zip(&some) {
        let theirs = policy.input(&ROWS.obs[row], ROWS.task[row].into()).unwrap();
        assert_eq!(*input, theirs, "{row}");
    }
    // One row in eight counts. A row of zeros stays zero in every layer.
    for rows in [&inputs[..], &inputs[..1], &[[0.0; INPUT]]] {
        let counted: Vec<_> = rows.iter().copied().step_by(8).collect();
        let states = frozen.states(&batches::tensor(&counted, DType::F32).unwrap());
        let states: Vec<Vec<Vec<f32>>> = (states.unwrap().iter())
            .map(|state| state.to_vec2().unwrap())
            .collect();
        let similarity = similarity::of(&frozen, rows).unwrap();
        assert_eq!(similarity.len(), 16);
        for (layer, got) in similarity.iter().enumerate() {
            let tokens = states[layer].iter().zip(&states[layer + 1]);
            let cosine = |(x, y): (&Vec<f32>, &Vec<f32>)| Layers::cosine_similarity(x, y).unwrap();
            let wanted = tokens.map(cosine).sum::<f64>() / counted.len() as f64;
            assert!((got - wanted).abs() < 1e-6, "{layer}: {got}, {wanted}");
        }
    }
}

#[test]
fn rows_are_disturbed_by_the_requested_amount() {
    let pool = Pool::new(&POLICY, &ROWS);
    assert_eq!(pool.len(), 30_234 - 1_594);
    let still = Disturb {
        noise: 0.0,
        between: 0.0,
    };
    let mut known: Vec<_> = batches::inputs(&POLICY, &ROWS, &ROWS.rows(false));
    known.sort_by(|a, b| a.partial_cmp(b).unwrap());
    for input in pool.draw(50, still, &mut rng(4)) {
        assert!(
            known
                .binary_search_by(|row| row.partial_cmp(&input).unwrap())
                .is_ok()
        );
    }
    // The same rows with noise of the requested spread. The task does not change.
    let noisy = Disturb {
        noise: 0.1,
        ..still
    };
    let mut logs = Vec::new();
    for step in 0..400 {
        let (a, b) = (
            pool.draw(1, still, &mut rng(step)),
            pool.draw(1, noisy, &mut rng(step)),
        );
        let inside = |&(a, b): &(&f32, &f32)| a.abs() < 4.0 && b.abs() < 4.0;
        let pairs: Vec<_> = a[0].iter().zip(&b[0]).take(OBS).filter(inside).collect();
        let mean = pairs
            .iter()
            .map(|(a, b)| f64::from(*a - *b).powi(2))
            .sum::<f64>()
            / pairs.len() as f64;
        logs.push(0.5 * mean.ln());
        assert_eq!(a[0][OBS..], b[0][OBS..]);
        assert!(b[0].iter().all(|x| x.abs() <= 5.0));
    }
    logs.sort_by(f64::total_cmp);
    let median = logs[logs.len() / 2].exp();
    assert!((median / 0.1 - 1.0).abs() < 0.15, "{median}");
}

#[test]
fn rejects_invalid_plans() {
    let refused = |change: &dyn Fn(&mut Plan)| {
        let mut plan = plan(0);
        change(&mut plan);
        assert!(matches!(plan.check(), Err(Error::Range { .. })), "{plan:?}");
    };
    plan(0).check().unwrap();
    refused(&|plan| plan.batch = 0);
    refused(&|plan| plan.batch = 9);
    refused(&|plan| plan.parts = 0);
    refused(&|plan| plan.adapter_hidden = 0);
    refused(&|plan| plan.controller_hidden = 0);
    refused(&|plan| plan.steps[1] = 0);
    refused(&|plan| plan.weights.lambda = -1.0);
    refused(&|plan| plan.weights.risk = f64::NAN);
    refused(&|plan| plan.disturb.noise = f64::INFINITY);
    refused(&|plan| plan.disturb.between = 1.5);
    refused(&|plan| plan.disturb.between = f64::NAN);
    refused(&|plan| plan.rate = 0.0);
    refused(&|plan| plan.clip = f64::NAN);
    let exit = Plan {
        exit: Some(16),
        ..plan(0)
    };
    assert!(matches!(exit.layers(&[0.5; 16]), Err(Error::Range { .. })));
    assert_ne!(fingerprint(&[b"a", b"b"]), fingerprint(&[b"a", b"c"]));
}

#[test]
fn dataset_matches_its_readme_and_corrupted_ones_are_rejected() {
    assert_eq!((ROWS.len(), ROWS.rows(true).len()), (30_234, 1_594));
    ROWS.check_tasks(6).unwrap();
    assert!(matches!(ROWS.check_tasks(5), Err(Error::Range { .. })));
    let refused = |change: &dyn Fn(&mut TensorFile), what: &str| {
        let mut file = TensorFile::new();
        let floats: Vec<u8> = [0.5f32; 2 * OBS]
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect();
        file.set("obs", Dtype::F32, &[2, OBS], floats);
        for (name, values) in [
            ("task", [1, 1]),
            ("phase", [0, 1]),
            ("noisy", [0, 1]),
            ("val", [0, 1]),
        ] {
            file.set(name, Dtype::U8, &[2], values.to_vec());
        }
        file.set("tokens", Dtype::U8, &[2, 7], vec![3; 14]);
        let words = |a: i32, b: i32| [a.to_le_bytes(), b.to_le_bytes()].concat();
        file.set("episode", Dtype::I32, &[2], words(4, 4));
        file.set("t", Dtype::I32, &[2], words(0, 2));
        change(&mut file);
        match Dataset::parse(&file.bytes(), "rows") {
            Ok(dataset) => assert_eq!((dataset.len(), what), (2, "")),
            Err(Error::Format { reason, .. }) => {
                assert!(
                    !what.is_empty() && reason.contains(what),
                    "`{reason}` does not say `{what}`"
                )
            }
            Err(Error::MissingTensor { name, .. }) => assert_eq!(name, what),
            Err(other) => panic!("{other}"),
        }
    };
    refused(&|_| (), "");
    // Tensors that are not read may be missing.
    refused(&|file| file.remove("noisy"), "");
    refused(&|file| file.remove("val"), "val");
    refused(
        &|file| file.set("phase", Dtype::U8, &[2], vec![0, 8]),
        "`phase` is 8 at row 1",
    );
    refused(
        &|file| file.set("val", Dtype::U8, &[2], vec![1, 2]),
        "`val` is 2 at row 1",
    );
    refused(
        &|file| file.set("val", Dtype::U8, &[2], vec![1, 1]),
        "no row",
    );
    refused(
        &|file| file.set("task", Dtype::I32, &[2], vec![0; 8]),
        "`task` is I32 [2]",
    );
    refused(
        &|file| file.set("t", Dtype::I32, &[2], vec![0; 8]),
        "`t` is 0 at row 1",
    );
    let infinite: Vec<u8> = [f32::INFINITY; 2 * OBS]
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    refused(
        &|file| file.set("obs", Dtype::F32, &[2, OBS], infinite.clone()),
        "expected a finite value",
    );
    assert!(matches!(
        Dataset::parse(b"no", "rows"),
        Err(Error::Format { .. })
    ));
}
