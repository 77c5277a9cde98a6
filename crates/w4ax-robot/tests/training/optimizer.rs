//! The optimizer: its arithmetic, and what it rejects.

use candle_core::{Device, Tensor, Var};
use candle_nn::{AdamW, Optimizer as _, ParamsAdamW};

use w4ax_robot::training::Failure;
use w4ax_robot::training::optimizer::Optimizer;

#[test]
fn optimizer_matches_candles_adamw() {
    let value = Tensor::new(&[0.3f32, -1.2, 2.0], &Device::Cpu).unwrap();
    let (ours, theirs) = (
        Var::from_tensor(&value).unwrap(),
        Var::from_tensor(&value).unwrap(),
    );
    let mut optimizer = Optimizer::new([("a".to_owned(), ours.clone())].into()).unwrap();
    let params = ParamsAdamW {
        lr: 0.01,
        weight_decay: 0.0,
        ..Default::default()
    };
    let mut adamw = AdamW::new(vec![theirs.clone()], params).unwrap();
    for step in 0..5 {
        let loss = |var: &Var| {
            (var.sqr().unwrap() * (1.0 + f64::from(step)))
                .unwrap()
                .sum_all()
                .unwrap()
        };
        let gradients = loss(&ours).backward().unwrap();
        let gradients = [("a".to_owned(), gradients.get(&ours).unwrap().clone())].into();
        optimizer.step(&gradients, 0.01, f64::INFINITY).unwrap();
        adamw.backward_step(&loss(&theirs)).unwrap();
        assert_eq!(
            ours.to_vec1::<f32>().unwrap(),
            theirs.to_vec1::<f32>().unwrap()
        );
    }
    // The first step follows the gradient's sign whatever its size. The moment shows the clipped
    // size.
    let mut clipped = Optimizer::new([("a".to_owned(), ours)].into()).unwrap();
    let gradient = Tensor::new(&[3f32, 0.0, 4.0], &Device::Cpu).unwrap();
    clipped
        .step(&[("a".to_owned(), gradient)].into(), 0.01, 1.0)
        .unwrap();
    let moment = clipped.first["a"].to_vec1::<f32>().unwrap();
    assert!(
        moment
            .iter()
            .zip([0.06, 0.0, 0.08])
            .all(|(a, b)| (a - b).abs() < 1e-6),
        "{moment:?}"
    );
}

/// Also in the last step, whose networks are written.
#[test]
fn rejects_nan_gradients_without_moving() {
    let value = Tensor::new(&[0.3f32, -1.2], &Device::Cpu).unwrap();
    let var = Var::from_tensor(&value).unwrap();
    let mut optimizer = Optimizer::new([("a".to_owned(), var)].into()).unwrap();
    let mut step = |gradient: [f32; 2]| {
        let gradient = Tensor::new(&gradient, &Device::Cpu).unwrap();
        let done = optimizer.step(&[("a".to_owned(), gradient)].into(), 0.01, 1.0);
        let bits = |x: &Tensor| {
            let values = x.to_vec1::<f32>().unwrap();
            values.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let state = [
            bits(&optimizer.vars["a"]),
            bits(&optimizer.first["a"]),
            bits(&optimizer.second["a"]),
            bits(&optimizer.average["a"]),
        ];
        (done, optimizer.steps, state)
    };
    let (done, steps, before) = step([1.0, -2.0]);
    done.unwrap();
    assert_eq!(steps, 1);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let (done, steps, after) = step([1.0, bad]);
        match done {
            Err(Failure::Gradients { step: 1, norm }) => assert!(!norm.is_finite()),
            other => panic!("{other:?}"),
        }
        assert_eq!((steps, &after), (1, &before));
    }
    let error = step([f32::NAN, 0.0]).0.unwrap_err().to_string();
    assert!(error.contains("NaN at step 1"), "{error}");
}
