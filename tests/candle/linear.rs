//! Linear layers: widths, views, the width of a step, and weights with an order of k.

use candle_core::{D, DType, IndexOp, Module, Tensor};
use half::bf16;
use proptest::prelude::*;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use w4ax::candle::{Backend, Linear, QuantizedInput};
use w4ax::checkpoint::Checkpoint;
use w4ax::cpu::{Cpu, Pool, Serial};
use w4ax::step::{HostLatch, StepFlag};
use w4ax::{
    AddRmsNorm, Grouping, MatMut, MatRef, PackedWeight, RmsNorm, ScaleType, Scheme, SiluMul, Width,
    reference,
};

use crate::{CPU, bits};
use test_support::{PlainWeight, normal, normal_values, normal_weight, rng};

fn oracle(x: &[bf16], weight: &PackedWeight, width: Width, bias: Option<&[f32]>) -> Vec<bf16> {
    let x = MatRef::new(x, x.len() / weight.k(), weight.k()).expect("x");
    reference::gemm(x, weight, width, bias).expect("shapes that fit")
}

fn bits_of(y: &[bf16]) -> Vec<u16> {
    y.iter().copied().map(bf16::to_bits).collect()
}

/// Every width, odd shapes, a bias, leading dimensions, and rows that are part of wider rows.
#[test]
fn matches_the_reference_bit_for_bit() {
    let rng = &mut rng(1);
    let backend = Backend::new(CPU).unwrap();
    for (scheme, (n, k), grouping) in [
        (Scheme::Grouped, (96, 256), Grouping::G128),
        (Scheme::Grouped, (50, 100), Grouping::G32),
        (Scheme::Grouped, (33, 200), Grouping::PerChannel),
        (Scheme::TwoLevel, (50, 200), Grouping::G64),
    ] {
        let weight = match scheme {
            Scheme::TwoLevel => {
                let scales = ScaleType::Bf16;
                PlainWeight::random_two_level(rng, (n, k), grouping, scales, false).pack()
            }
            _ => normal_weight(rng, (n, k), grouping),
        };
        let bias: Vec<f32> = (0..n).map(|_| normal(rng)).collect();
        let with_bias = Tensor::from_slice(&bias, n, CPU).unwrap();
        let plain = backend.linear(weight.clone(), None).unwrap();
        let biased = backend.linear(weight.clone(), Some(&with_bias)).unwrap();
        assert_eq!((plain.n(), plain.k()), (n, k));
        for width in Width::ALL {
            for dims in [vec![k], vec![1, k], vec![7, k], vec![2, 3, k], vec![0, k]] {
                let values = normal_values(rng, &dims);
                let x = Tensor::from_slice(&values, dims.as_slice(), CPU).unwrap();
                let y = plain.forward_at(&x, width).unwrap();
                assert_eq!(y.dims()[..dims.len() - 1], dims[..dims.len() - 1]);
                assert_eq!((y.dim(D::Minus1).unwrap(), y.dtype()), (n, DType::BF16));
                assert_eq!(
                    bits(&y),
                    bits_of(&oracle(&values, &weight, width, None)),
                    "{width} {dims:?}"
                );
                let y = biased.forward_at(&x, width).unwrap();
                assert_eq!(
                    bits(&y),
                    bits_of(&oracle(&values, &weight, width, Some(&bias))),
                    "{width} {dims:?}"
                );
            }
            // Columns 8.. of wider rows, and of every second row.
            let wide =
                Tensor::from_vec(normal_values(rng, &[6, k + 24]), (6, k + 24), CPU).unwrap();
            let part = wide.narrow(1, 8, k).unwrap();
            let alternate = wide
                .reshape((3, 2, k + 24))
                .unwrap()
                .i((.., 1))
                .unwrap()
                .narrow(1, 8, k)
                .unwrap();
            for x in [part, alternate] {
                assert!(!x.is_contiguous());
                let values: Vec<bf16> = x.flatten_all().unwrap().to_vec1().unwrap();
                let y = plain.forward_at(&x, width).unwrap();
                assert_eq!(
                    bits(&y),
                    bits_of(&oracle(&values, &weight, width, None)),
                    "{width}"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// A view gives the result of its contiguous copy, or an error that asks for one.
    #[test]
    fn views_match_their_contiguous_copies(
        seed: u64,
        a in 1usize..4,
        b in 1usize..4,
        c in 1usize..4,
        swap in 0usize..4,
        at in 0usize..3,
    ) {
        let rng = &mut rng(seed);
        let weight = normal_weight(rng, (20, 64), Grouping::G32);
        let linear = Backend::new(CPU).unwrap().linear(weight, None).unwrap();
        let values = normal_values(rng, &[a, b + at, c, 64]);
        let x = Tensor::from_vec(values, (a, b + at, c, 64), CPU).unwrap();
        let x = x.narrow(1, at, b).unwrap();
        let x = match swap {
            0 => x,
            1 => x.transpose(0, 1).unwrap(),
            2 => x.transpose(1, 2).unwrap(),
            _ => x.broadcast_as((2, a, b, c, 64)).unwrap(),
        };
        let copy = linear.forward_at(&x.contiguous().unwrap(), Width::A4).unwrap();
        match linear.forward_at(&x, Width::A4) {
            Ok(y) => prop_assert_eq!(bits(&y), bits(&copy)),
            Err(error) => {
                prop_assert!(!x.is_contiguous());
                prop_assert!(error.to_string().contains("contiguous"), "{}", error);
            }
        }
    }
}

/// An input that an operation computes and quantizes at once gives the bits of its BF16 rows, for a
/// hidden state in F32 and in BF16.
#[test]
fn inputs_of_operations_have_the_bits_of_their_rows() {
    let rng = &mut rng(9);
    let backend = Backend::new(CPU).unwrap();
    let (m, k) = (7, 200);
    for (scheme, grouping) in [
        (Scheme::Grouped, Grouping::G64),
        (Scheme::TwoLevel, Grouping::G32),
    ] {
        let weight = match scheme {
            Scheme::TwoLevel => {
                PlainWeight::random_two_level(rng, (33, k), grouping, ScaleType::F32, true).pack()
            }
            _ => normal_weight(rng, (33, k), grouping),
        };
        let layer = backend.linear(weight, None).unwrap();
        let mut tensor = |dims: &[usize]| {
            let values = normal_values(rng, dims);
            (Tensor::from_slice(&values, dims, CPU).unwrap(), values)
        };
        let ((x, values), (addend, addends), (norm, norms)) =
            (tensor(&[1, m, k]), tensor(&[1, m, k]), tensor(&[k]));
        let wide = (x.to_dtype(DType::F32).unwrap() * 1.01).unwrap();
        let wide_values = wide.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let of = |data| MatRef::new(data, m, k).unwrap();
        let addends = of(&addends);
        for width in [Width::A2, Width::A4, Width::A8] {
            let check = |input: &QuantizedInput, rows: &[bf16], what: &str| {
                let rows = Tensor::from_slice(rows, (1, m, k), CPU).unwrap();
                let expected = layer.forward_at(&rows, width).unwrap();
                let got = layer.forward_quantized(input).unwrap();
                assert_eq!(got.dims(), expected.dims());
                assert_eq!(bits(&got), bits(&expected), "{what}, {scheme} {width}");
            };
            let input = layer.silu_mul_quantize(&x, &addend, width).unwrap();
            let silu = SiluMul::new(of(&values), addends);
            check(&input, &reference::silu_mul(&silu).unwrap(), "SiLU");

            let input = layer.rms_norm_quantize(&x, &norm, 1e-5, width).unwrap();
            let rows = reference::rms_norm(&RmsNorm::new(of(&values), &norms, 1e-5)).unwrap();
            check(&input, &rows, "RMSNorm");

            let (sum, input) = layer
                .add_rms_norm_quantize(&x, &addend, &norm, 1e-5, width)
                .unwrap();
            let mut sums = values.clone();
            let to = MatMut::new(&mut sums, m, k).unwrap();
            let rows = AddRmsNorm::new(to, addends, &norms, 1e-5);
            check(&input, &reference::add_rms_norm(rows).unwrap(), "addition");
            assert_eq!((sum.dims(), bits(&sum)), (x.dims(), bits_of(&sums)));

            let (sum, input) = layer
                .add_rms_norm_quantize(&wide, &addend, &norm, 1e-5, width)
                .unwrap();
            let mut sums = wide_values.clone();
            let to = MatMut::new(&mut sums, m, k).unwrap();
            let rows = AddRmsNorm::new(to, addends, &norms, 1e-5);
            check(
                &input,
                &reference::add_rms_norm(rows).unwrap(),
                "addition in F32",
            );
            assert_eq!(sum.flatten_all().unwrap().to_vec1::<f32>().unwrap(), sums);
        }
        let short = addend.narrow(1, 0, m - 1).unwrap();
        let failed = layer.add_rms_norm_quantize(&x, &short, &norm, 1e-5, Width::A4);
        assert!(failed.unwrap_err().to_string().contains("addend"));
    }
}

#[test]
fn rejects_other_types_and_shapes() {
    let rng = &mut rng(2);
    let backend = Backend::new(CPU).unwrap();
    let linear = backend
        .linear(normal_weight(rng, (20, 64), Grouping::G32), None)
        .unwrap();
    let rejected = |x: Tensor, expected: &str| {
        let error = linear.forward(&x).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    };
    rejected(
        Tensor::zeros((2, 64), DType::F32, CPU).unwrap(),
        "expected BF16, got F32",
    );
    rejected(
        Tensor::zeros((2, 65), DType::BF16, CPU).unwrap(),
        "expected [.., 64], got [2, 65]",
    );
    rejected(Tensor::zeros((), DType::BF16, CPU).unwrap(), "got a scalar");
    rejected(
        Tensor::zeros((64, 64), DType::BF16, CPU)
            .unwrap()
            .t()
            .unwrap(),
        "call contiguous()",
    );
    let bias = Tensor::zeros(21, DType::F32, CPU).unwrap();
    let wrong = backend.linear(normal_weight(rng, (20, 64), Grouping::G32), Some(&bias));
    assert!(
        wrong
            .unwrap_err()
            .to_string()
            .contains("bias: expected [20], got [21]")
    );
}

/// All layers run at the width of the latched step, which is BF16 without a decision.
#[test]
fn layers_run_at_the_width_of_the_latched_step() {
    let rng = &mut rng(3);
    let weight = normal_weight(rng, (40, 128), Grouping::G64);
    let flag = Arc::new(StepFlag::new());
    let backend = Backend::new(CPU).unwrap();
    let layers = [0; 2].map(|_| {
        backend
            .linear(weight.clone(), None)
            .unwrap()
            .with_width(Arc::clone(&flag))
    });
    let values = normal_values(rng, &[3, 128]);
    let x = Tensor::from_slice(&values, (3, 128), CPU).unwrap();
    let mut latch = HostLatch::new(0);
    for (sequence, word) in [
        None,
        Some(Width::A2),
        Some(Width::A8),
        None,
        Some(Width::A4),
    ]
    .into_iter()
    .enumerate()
    {
        if let Some(width) = word {
            flag.requested().store(sequence as u32, width);
        }
        latch.latch(&flag, Duration::ZERO);
        let expected = oracle(&values, &weight, word.unwrap_or(Width::Bf16), None);
        for layer in &layers {
            assert_eq!(
                bits(&layer.forward(&x).unwrap()),
                bits_of(&expected),
                "step {sequence}"
            );
        }
    }
}

/// The weights of GPTQ's desc_act have an order of k.
#[test]
fn weight_with_an_order_of_k_gathers_x() {
    let checkpoint = Checkpoint::open("tests/data/checkpoints/gptq_v2_desc_act").unwrap();
    let backend = Backend::new(CPU).unwrap();
    let rng = &mut rng(5);
    let mut permuted = 0;
    for module in checkpoint.quantized() {
        let weight = checkpoint.weight(module).unwrap();
        permuted += usize::from(weight.order().is_some());
        let (n, k) = (weight.n(), weight.k());
        let values = normal_values(rng, &[3, k]);
        let x = Tensor::from_slice(&values, (3, k), CPU).unwrap();
        let linear = backend.linear(weight.clone(), None).unwrap();
        for width in Width::ALL {
            let expected = oracle(&values, &weight, width, None);
            let y = linear.forward_at(&x, width).unwrap();
            assert_eq!(y.dims(), [3, n]);
            assert_eq!(bits(&y), bits_of(&expected), "{module} {width}");
        }
        let wrong = linear.forward(&x.narrow(1, 0, k - 1).unwrap());
        assert!(wrong.unwrap_err().to_string().contains("x: expected"));
    }
    assert!(permuted > 0);
}

/// A pool that runs another layer before the tasks of a call, as rayon's threads do while they wait
/// for each other.
struct Distracted(Arc<Mutex<Option<(Linear, Tensor)>>>);

impl Pool for Distracted {
    fn threads(&self) -> usize {
        1
    }

    fn run(&self, pieces: usize, piece: &(dyn Fn(usize) + Sync)) {
        let other = self.0.lock().unwrap().take();
        if let Some((layer, x)) = other {
            layer.forward_at(&x, Width::A8).unwrap();
        }
        Serial.run(pieces, piece);
    }
}

/// A call within a call, on the same thread and the same backend, does not deadlock.
#[test]
fn nested_calls_do_not_wait_for_each_other() {
    let rng = &mut rng(6);
    let (m, n, k) = (4, 64, 128);
    let other = Arc::new(Mutex::new(None));
    let cpu = Cpu::new().unwrap().with_pool(Distracted(other.clone()));
    let backend = Backend::on_cpu(cpu);
    let weight = normal_weight(rng, (n, k), Grouping::G128);
    let layer = backend.linear(weight.clone(), None).unwrap();
    let values = normal_values(rng, &[m, k]);
    let x = Tensor::from_slice(&values, (m, k), CPU).unwrap();
    *other.lock().unwrap() = Some((layer.clone(), x.clone()));
    let y = layer.forward_at(&x, Width::A8).unwrap();
    assert!(other.lock().unwrap().is_none());
    assert_eq!(
        bits(&y),
        bits_of(&oracle(&values, &weight, Width::A8, None))
    );
}
