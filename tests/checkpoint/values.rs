//! Weights of other tools' checkpoints against the values of those tools, bit for bit.

use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors};
use w4ax::checkpoint::{Checkpoint, GptqZeros, Scheme};
use w4ax::cpu::Cpu;
use w4ax::{Error, Gemm, Grouping, KOrder, MatMut, MatRef, ScaleType, Width, reference};

use crate::case::folder;
use crate::support::{Kind, bits, rng};

/// Case, N and K of its first module, grouping, type of scales, activation order.
const CASES: [(&str, [usize; 2], Grouping, ScaleType, bool); 13] = [
    ("awq_gemm", [32, 192], Grouping::G64, ScaleType::F16, false),
    (
        "gptq_v1_sym",
        [24, 256],
        Grouping::G128,
        ScaleType::F16,
        false,
    ),
    (
        "gptq_v1_asym",
        [24, 192],
        Grouping::G64,
        ScaleType::F16,
        false,
    ),
    (
        "gptq_v1_autogptq",
        [32, 128],
        Grouping::G64,
        ScaleType::F16,
        false,
    ),
    (
        "gptq_v2_asym",
        [20, 100],
        Grouping::G32,
        ScaleType::F16,
        false,
    ),
    (
        "gptq_v2_desc_act",
        [20, 136],
        Grouping::G32,
        ScaleType::F16,
        true,
    ),
    (
        "gptq_v2_channel",
        [20, 100],
        Grouping::PerChannel,
        ScaleType::F16,
        false,
    ),
    (
        "gptq_v2_g256",
        [8, 512],
        Grouping::G128,
        ScaleType::F16,
        false,
    ),
    (
        "compressed_tensors_sym",
        [24, 256],
        Grouping::G128,
        ScaleType::Bf16,
        false,
    ),
    (
        "compressed_tensors_asym",
        [19, 96],
        Grouping::G32,
        ScaleType::F16,
        false,
    ),
    (
        "compressed_tensors_channel",
        [19, 70],
        Grouping::PerChannel,
        ScaleType::F32,
        false,
    ),
    (
        "compressed_tensors_channel_asym",
        [21, 77],
        Grouping::PerChannel,
        ScaleType::Bf16,
        false,
    ),
    (
        "compressed_tensors_act_order",
        [24, 128],
        Grouping::G32,
        ScaleType::Bf16,
        true,
    ),
];

/// The tool's own values of each module, in the type in which the tool multiplies.
fn expected(case: &str) -> Vec<(String, Dtype, Vec<usize>, Vec<u8>)> {
    let bytes = std::fs::read(folder(case).join("expected.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let owned = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
        (
            name,
            view.dtype(),
            view.shape().to_vec(),
            view.data().to_vec(),
        )
    };
    tensors.tensors().into_iter().map(owned).collect()
}

/// Rounds f32 products to another type.
fn rounded(values: &[f32], dtype: Dtype) -> Vec<u8> {
    match dtype {
        Dtype::F16 => values
            .iter()
            .flat_map(|&v| f16::from_f32(v).to_le_bytes())
            .collect(),
        Dtype::BF16 => values
            .iter()
            .flat_map(|&v| bf16::from_f32(v).to_le_bytes())
            .collect(),
        Dtype::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        other => panic!("no tool multiplies in {other:?}"),
    }
}

#[test]
fn matches_the_values_of_the_tools() {
    for (case, [n, k], grouping, scale_type, act_order) in CASES {
        let checkpoint = Checkpoint::open(folder(case)).unwrap();
        let expected = expected(case);
        let modules: Vec<&str> = checkpoint.quantized().collect();
        let mut names: Vec<&str> = expected.iter().map(|e| e.0.as_str()).collect();
        names.sort_unstable();
        assert_eq!(modules, names, "{case}");
        for (module, dtype, shape, bytes) in &expected {
            let weight = checkpoint.weight(module).unwrap();
            assert_eq!([weight.n(), weight.k()], **shape, "{case} {module}");
            assert!(
                rounded(&weight.dequantize(), *dtype) == *bytes,
                "{case} {module}"
            );
            assert_eq!(weight.grouping(), grouping, "{case} {module}");
            assert_eq!(
                weight.tiled_scales().scale_type(),
                scale_type,
                "{case} {module}"
            );
            assert_eq!(weight.order().is_some(), act_order, "{case} {module}");
        }
        let first = checkpoint.weight("model.a").unwrap();
        assert_eq!([first.n(), first.k()], [n, k], "{case}");
    }
    let cases = std::fs::read_dir(folder("")).unwrap();
    let cases = cases
        .filter(|e| e.as_ref().unwrap().path().is_dir())
        .count();
    assert_eq!(cases, CASES.len(), "each folder of fixtures is read");
}

#[test]
fn reads_zero_points_at_both_ends_of_their_range() {
    let zeros = |case: &str| {
        let checkpoint = Checkpoint::open(folder(case)).unwrap();
        let loaded = checkpoint.weight("model.a").unwrap();
        let zeros = loaded.tiled_zeros().expect("zero points").to_vec();
        (
            checkpoint.config().scheme,
            *zeros.iter().min().unwrap(),
            *zeros.iter().max().unwrap(),
        )
    };
    let gptq = |zeros, desc_act| Scheme::Gptq {
        group: Some(64),
        zeros,
        desc_act,
    };
    // AutoGPTQ stores a zero point of 0 as 15, which its unpacker reads as 16.
    let (scheme, _, highest) = zeros("gptq_v1_autogptq");
    assert_eq!((scheme, highest), (gptq(GptqZeros::V1Nibbles, true), 8));
    // GPTQModel's writer borrows from the next column, and its reader reverses that.
    let (scheme, lowest, _) = zeros("gptq_v1_asym");
    assert_eq!((scheme, lowest), (gptq(GptqZeros::V1Words, false), -8));
    for symmetric in ["gptq_v1_sym", "gptq_v2_g256", "compressed_tensors_sym"] {
        let checkpoint = Checkpoint::open(folder(symmetric)).unwrap();
        let loaded = checkpoint.weight("model.a").unwrap();
        assert!(loaded.is_symmetric(), "{symmetric}");
    }
}

/// Gathering in the call and in advance give the same bits, which match the reference.
#[test]
fn weights_in_activation_order_gather_x() {
    for case in ["gptq_v2_desc_act", "compressed_tensors_act_order"] {
        let w = Checkpoint::open(folder(case))
            .unwrap()
            .weight("model.a")
            .unwrap();
        let order = w.order().expect("an order of k");
        let (m, n, k) = (5, w.n(), w.k());
        let x = Kind::Integers.fill(&mut rng(3), m * k);
        let x = MatRef::new(&x, m, k).unwrap();
        let cpu = Cpu::new().unwrap();
        let mut workspace = cpu.workspace(m, k).unwrap();
        let mut y = vec![bf16::ZERO; m * n];
        let out = MatMut::new(&mut y, m, n).unwrap();
        cpu.run(&Gemm::new(x, &w, Width::Bf16), out, &mut workspace)
            .unwrap();
        // The plain product in f64 is independent of the order of k.
        let dense = w.dequantize();
        for row in 0..m {
            for column in 0..n {
                let terms = x.row(row).iter().zip(&dense[column * k..][..k]);
                let terms: Vec<f64> = terms.map(|(x, &w)| x.to_f64() * f64::from(w)).collect();
                let (sum, size): (f64, f64) =
                    (terms.iter().sum(), terms.iter().map(|t| t.abs()).sum());
                let got = y[row * n + column].to_f64();
                let bound = sum.abs() / 256.0 + size * 2f64.powi(-18);
                assert!(
                    (got - sum).abs() <= bound,
                    "{case} {row} {column}: {got} {sum}"
                );
            }
        }
        for width in Width::ALL {
            let mut by_hand = vec![bf16::ZERO; m * n];
            let mut by_call = by_hand.clone();
            let mut copy = vec![bf16::ZERO; m * k];
            order
                .gather(x, MatMut::new(&mut copy, m, k).unwrap())
                .unwrap();
            let view = MatRef::new(&copy, m, k).unwrap();
            let out = MatMut::new(&mut by_hand, m, n).unwrap();
            cpu.run(&Gemm::gathered(view, &w, width), out, &mut workspace)
                .unwrap();
            let out = MatMut::new(&mut by_call, m, n).unwrap();
            cpu.run(&Gemm::new(x, &w, width), out, &mut workspace)
                .unwrap();
            assert_eq!(bits(&by_hand), bits(&by_call), "{case} {width}");
            let expected = reference::gemm(x, &w, width, None).unwrap();
            assert_eq!(bits(&by_call), bits(&expected), "{case} {width}");
        }
        // The workspace has room for the gathered activations, or the call fails before it writes.
        let mut y = vec![bf16::ZERO; m * n];
        let out = MatMut::new(&mut y, m, n).unwrap();
        let mut short = cpu.workspace(m, k - 1).unwrap();
        let error = cpu.run(&Gemm::new(x, &w, Width::A4), out, &mut short);
        assert!(matches!(error, Err(Error::Buffer { .. })), "{error:?}");
    }
}

#[test]
fn order_of_k_must_be_a_permutation() {
    for bad in [vec![0, 0], vec![1, 2], vec![2, 0, 3]] {
        assert!(matches!(KOrder::new(bad), Err(Error::Range { .. })));
    }
    let order = KOrder::new(vec![2, 0, 1]).unwrap();
    let mut out = [0; 6];
    let x = MatRef::new(&[1, 2, 3, 4, 5, 6], 2, 3).unwrap();
    order
        .gather(x, MatMut::new(&mut out, 2, 3).unwrap())
        .unwrap();
    assert_eq!(out, [3, 1, 2, 6, 4, 5]);
    let narrow = MatRef::new(&[1, 2], 1, 2).unwrap();
    assert!(
        order
            .gather(narrow, MatMut::new(&mut out, 1, 2).unwrap())
            .is_err()
    );
}

#[test]
fn plain_lists_the_tensors_that_are_not_packed() {
    let checkpoint = Checkpoint::open(folder("awq_gemm")).unwrap();
    let plain: Vec<&str> = checkpoint.plain().collect();
    let expected = [
        "lm_head.weight",
        "model.a.bias",
        "model.flags",
        "model.norm.weight",
        "model.steps",
    ];
    assert_eq!(plain, expected);
}
