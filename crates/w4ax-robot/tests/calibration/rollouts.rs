//! The recording: the figures of its README, and errors that name the tensor.

use proptest::prelude::*;
use safetensors::tensor::{Dtype, TensorView, serialize};
use w4ax::{Error, Width};

use crate::data;
use w4ax_robot::rollouts::{self, RECORDED, Rollouts};

#[test]
fn recorded_rollouts_match_their_readme() {
    let r = Rollouts::load(RECORDED).unwrap();
    assert_eq!((r.len(), r.episodes().len()), (1519, 12));
    assert_eq!(
        r.episodes()
            .iter()
            .map(ExactSizeIterator::len)
            .sum::<usize>(),
        1519
    );
    assert_eq!(
        [
            r.obs.len(),
            r.input.len(),
            r.task.len(),
            r.success.as_ref().unwrap().len()
        ],
        [1519; 4]
    );
    r.check_tasks(6).unwrap();
    assert!(matches!(r.check_tasks(5), Err(Error::Range { .. })));
    // The mean L2 error of the actions against BF16, as in the README of the data.
    for (width, mean) in [
        (Width::A2, 0.303),
        (Width::A4, 0.0454),
        (Width::A8, 0.0384),
        (Width::Bf16, 0.0380),
    ] {
        let distance = |(a, b)| {
            let (a, b) = (rollouts::action(a), rollouts::action(b));
            a.iter()
                .zip(b)
                .map(|(x, y)| (x - y) * (x - y))
                .sum::<f64>()
                .sqrt()
        };
        let total: f64 = r
            .tokens(width)
            .unwrap()
            .iter()
            .zip(&r.bf16)
            .map(distance)
            .sum();
        assert!(
            (total / 1519.0 - mean).abs() < 6e-4,
            "{width}: {}",
            total / 1519.0
        );
    }
    assert_eq!(
        rollouts::action(&[0, 255, 51, 0, 0, 0, 0])[..3],
        [-1.0, 1.0, -0.6]
    );
}

/// A rollouts file of two steps with one tensor changed or left out.
fn small(name: &str, change: Option<(Dtype, Vec<usize>, Vec<u8>)>) -> Result<Rollouts, Error> {
    let zeros = |dtype, shape: &[usize]| {
        (
            dtype,
            shape.to_vec(),
            vec![0; 4 * shape.iter().product::<usize>()],
        )
    };
    let mut tensors = vec![
        ("obs", zeros(Dtype::F32, &[2, 25])),
        ("input", zeros(Dtype::F32, &[2, 64])),
    ];
    tensors.extend(["task", "episode", "success"].map(|n| (n, zeros(Dtype::I32, &[2]))));
    tensors.push((
        "t",
        (
            Dtype::I32,
            vec![2],
            [0_i32, 1].map(i32::to_le_bytes).concat(),
        ),
    ));
    tensors.extend(
        ["tok_bf16", "tok_w4a16", "tok_w4a8", "tok_w4a4", "tok_w4a2"]
            .map(|n| (n, zeros(Dtype::I32, &[2, 7]))),
    );
    tensors.retain_mut(|(n, tensor)| match (*n == name, &change) {
        (true, None) => false,
        (true, Some(changed)) => {
            *tensor = changed.clone();
            true
        }
        (false, _) => true,
    });
    let views = tensors.iter().map(|(n, (dtype, shape, bytes))| {
        (n, TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    Rollouts::parse(&serialize(views, None).unwrap(), "r")
}

#[test]
fn rejects_invalid_rollouts_by_tensor() {
    let i32s = |shape: &[usize], x: &[i32]| {
        Some((
            Dtype::I32,
            shape.to_vec(),
            x.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>(),
        ))
    };
    assert_eq!(small("none", None).unwrap().len(), 2);
    for name in [
        "obs",
        "input",
        "task",
        "episode",
        "success",
        "t",
        "tok_bf16",
        "tok_w4a16",
        "tok_w4a8",
        "tok_w4a4",
        "tok_w4a2",
    ] {
        match small(name, None) {
            Err(Error::MissingTensor { name: n, .. }) => assert_eq!(n, name),
            other => panic!("{name}: {other:?}"),
        }
    }
    let mut tokens = [0; 14];
    for bad in [-1, 256, i32::MIN, i32::MAX] {
        tokens[9] = bad;
        let error = small("tok_w4a4", i32s(&[2, 7], &tokens))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(&format!("`tok_w4a4` has the token {bad}: expected 0..=255")),
            "{error}"
        );
    }
    let nan = [0.0_f32; 49]
        .into_iter()
        .chain([f32::NAN])
        .flat_map(f32::to_le_bytes)
        .collect();
    for (name, change, expected) in [
        (
            "tok_w4a2",
            i32s(&[2, 6], &[0; 12]),
            "`tok_w4a2` is I32 [2, 6]: expected I32 [2, 7]",
        ),
        (
            "tok_w4a2",
            i32s(&[3, 7], &[0; 21]),
            "`tok_w4a2` is I32 [3, 7]: expected I32 [2, 7]",
        ),
        ("tok_bf16", i32s(&[0, 7], &[]), "`tok_bf16` has no steps"),
        ("tok_bf16", i32s(&[], &[1]), "`tok_bf16` has no steps"),
        ("task", i32s(&[2], &[0, -1]), "`task` has the value -1"),
        (
            "task",
            i32s(&[2], &[0, 1]),
            "expected whole episodes in order",
        ),
        ("t", i32s(&[2], &[1, 2]), "`t` is 1 at row 0"),
        ("t", i32s(&[2], &[0, 2]), "`t` is 2 at row 1"),
        (
            "t",
            Some((Dtype::F32, vec![2], vec![0; 8])),
            "`t` is F32 [2]: expected I32 [2]",
        ),
        (
            "obs",
            Some((Dtype::F32, vec![2, 25], nan)),
            "`obs` is NaN at row 1",
        ),
    ] {
        let error = small(name, change).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert!(matches!(
        Rollouts::load("no such file"),
        Err(Error::Io { .. })
    ));
    assert!(matches!(
        Rollouts::load(data("calibration.json")),
        Err(Error::Format { .. })
    ));
    assert!(matches!(
        Rollouts::load(data("policy.safetensors")),
        Err(Error::MissingTensor { .. })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// The recorded file with changed bytes in the header or the data, or truncated.
    #[test]
    fn mutated_rollouts_never_panic(
        edits in prop::collection::vec(
            (any::<prop::sample::Index>(), any::<u8>(), any::<bool>()),
            1..4,
        ),
        keep in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = std::fs::read(RECORDED).unwrap();
        for (at, byte, in_header) in edits {
            let end = if in_header { 1400 } else { bytes.len() };
            bytes[at.index(end)] = byte;
        }
        if let Some(keep) = keep {
            bytes.truncate(keep.index(bytes.len()));
        }
        if let Ok(rollouts) = Rollouts::parse(&bytes, "mutated") {
            let steps: usize = rollouts.episodes().iter().map(ExactSizeIterator::len).sum();
            prop_assert_eq!(steps, rollouts.len());
        }
    }
}
