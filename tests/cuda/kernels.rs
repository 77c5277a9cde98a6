//! Every kernel of the library, and random calls.

use crate::harness::{Call, Device, Layer, cases, check, scaled, setting};
use crate::support::{Kind, PlainWeight, WIDTHS, rng};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use std::collections::BTreeSet;
use w4ax::cuda::{Family, GemmOptions, Gpu, Mode, Problem, kernel_names};
use w4ax::{Grouping, ScaleType, Scales, Width};

const SCALE_TYPES: [ScaleType; 3] = [ScaleType::F32, ScaleType::F16, ScaleType::Bf16];

/// For BF16, activations and scales whose sums are exact in every order, so that all bits can be
/// compared.
pub fn layer_for(
    device: &Device,
    width: Width,
    seed: u64,
    (n, k): (usize, usize),
    grouping: Grouping,
    scale_type: ScaleType,
    symmetric: bool,
) -> (Layer, Kind) {
    let mut plain = PlainWeight::random(&mut rng(seed), (n, k), grouping, scale_type, symmetric);
    if width != Width::Bf16 {
        return (Layer::of(device, plain), Kind::Normal);
    }
    let halves = |len: usize| vec![0.5f32; len];
    plain.scales = match scale_type {
        ScaleType::F32 => Scales::F32(halves(plain.scales.len())),
        ScaleType::F16 => Scales::F16(vec![half::f16::from_f32(0.5); plain.scales.len()]),
        ScaleType::Bf16 => Scales::Bf16(vec![half::bf16::from_f32(0.5); plain.scales.len()]),
    };
    (Layer::of(device, plain), Kind::Integers)
}

const MS: &[usize] = match cfg!(w4ax_software_device) {
    false => &[1, 2, 3, 7, 8, 9, 16, 17, 33, 130],
    true => &[1, 3, 9, 16, 40],
};

/// Every kernel by name: families x modes x widths x groupings x tile variants, with symmetric and
/// asymmetric weights and each type of scales, for some M. Every name in the library must have run.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn every_kernel_matches_reference() {
    let device = Device::new();
    let mut ran = BTreeSet::new();
    let mut turn = 0;
    for width in WIDTHS {
        for grouping in Grouping::ALL {
            for symmetric in [true, false] {
                turn += 1;
                let scale_type = SCALE_TYPES[turn % 3];
                let shape = scaled(
                    (200 + turn % 3, 1152 + 40 * (turn % 2)),
                    (48 + turn % 3, 392 + 40 * (turn % 2)),
                );
                let (layer, kind) = layer_for(
                    &device,
                    width,
                    turn as u64,
                    shape,
                    grouping,
                    scale_type,
                    symmetric,
                );
                for (family, packed, fused) in Family::ALL.into_iter().flat_map(|family| {
                    [(false, true), (true, false), (false, false)].map(|(p, f)| (family, p, f))
                }) {
                    if packed && (width == Width::Bf16 || family == Family::Plain)
                        || !device.gpu.has_family(family)
                    {
                        continue;
                    }
                    for tile in 1..=family.tiles() {
                        for &m in MS {
                            let options = GemmOptions::default()
                                .with_family(family)
                                .with_fused(fused)
                                .with_tile(tile)
                                .with_pdl(m % 2 == 0);
                            let problem = Problem::new((m, shape.0, shape.1), width, grouping)
                                .with_quantized(packed)
                                .with_options(options);
                            if device.gpu.plan_problem(&problem).is_err() {
                                // A decode tile for fewer tokens, or a mode that wgmma does not
                                // support. The end of the test checks that every name ran.
                                continue;
                            }
                            let call = Call {
                                packed,
                                options,
                                kind,
                                bias: m % 3 == 0,
                                gaps: (8 * (m % 2), 8 * (tile as usize % 2)),
                                seed: m as u64,
                                ..Call::new(m, width)
                            };
                            let plan = check(&device, &layer, &call);
                            ran.insert(plan.kernel.to_owned());
                            if plan.mode == Mode::Quantized {
                                ran.insert(format!("quantize_pack_{grouping}"));
                            }
                        }
                    }
                }
            }
        }
    }
    // Other tests cover routed kernels, the latch, the gather, row operations and the kernels of
    // skipping.
    let elsewhere = ["latch", "gather", "skip", "rms_norm", "silu_mul"];
    let all: BTreeSet<String> = (kernel_names().into_iter())
        .filter(|name| {
            !name.contains("_routed_") && !elsewhere.iter().any(|of| name.starts_with(of))
        })
        .filter(|name| device.gpu.has_family(Family::Wgmma) || !name.starts_with("wgmma"))
        .map(String::from)
        .collect();
    assert!(!all.is_empty());
    let left: Vec<_> = all.difference(&ran).collect();
    assert!(left.is_empty(), "kernels that no call ran: {left:?}");
}

fn calls(gpu: Gpu) -> impl Strategy<Value = (Call, (usize, usize), Grouping, ScaleType, bool)> {
    let width = proptest::sample::select(WIDTHS.to_vec());
    let family = prop_oneof![
        2 => Just(None),
        2 => Just(Some(Family::Decode)),
        3 => Just(Some(Family::Prefill)),
        1 => Just(Some(Family::Plain)),
    ];
    (
        (
            width,
            family,
            any::<(bool, bool, bool, bool, bool)>(),
            0u32..6,
        ),
        (1usize..=70, 1usize..400, 1usize..1500),
        ((0usize..9, 0usize..9), (0usize..8, 0usize..8)),
        proptest::sample::select(Grouping::ALL.to_vec()),
        proptest::sample::select(SCALE_TYPES.to_vec()),
        proptest::sample::select(Kind::ALL.to_vec()),
        any::<u64>(),
    )
        .prop_map(
            move |(how, (m, n, k), (gaps, shifts), grouping, scale_type, kind, seed)| {
                let (width, family, (packed, fused, pdl, bias, symmetric), tile) = how;
                let m = if family == Some(Family::Decode) {
                    1 + m % 16
                } else {
                    m
                };
                let packed = packed && width != Width::Bf16 && family != Some(Family::Plain);
                let mut options = GemmOptions::default()
                    .with_family(family)
                    .with_fused(fused)
                    .with_pdl(pdl);
                // In most cases with a tile, if the kernel exists.
                let tile = (tile > 0).then_some(tile);
                let with_tile = options.with_tile(tile);
                let problem = Problem::new((m, n, k), width, grouping)
                    .with_quantized(packed)
                    .with_options(with_tile);
                if gpu.plan_problem(&problem).is_ok() {
                    options = with_tile;
                }
                let kind = if width == Width::Bf16 {
                    Kind::Integers
                } else {
                    kind
                };
                let call = Call {
                    m,
                    width,
                    packed,
                    options,
                    kind,
                    bias,
                    gaps,
                    shifts,
                    seed,
                };
                (call, (n, k), grouping, scale_type, symmetric)
            },
        )
}

/// Random shapes, strides, alignments, activations (NaN, infinities, denormals among them), kernels
/// and biases.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn random_calls_match_reference() {
    let device = Device::new();
    let config = ProptestConfig {
        cases: cases(1500),
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(setting("W4AX_SEED", 1)),
        ..ProptestConfig::default()
    };
    let calls = calls(device.gpu.clone());
    proptest!(config, |((call, shape, grouping, scale_type, symmetric) in calls)| {
        let (width, seed) = (call.width, call.seed);
        let (layer, _) =
            layer_for(&device, width, seed, shape, grouping, scale_type, symmetric);
        check(&device, &layer, &call);
    });
}

/// The largest sums of the integer accumulators: 65,536 k per channel, with all values at their
/// extremes.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn largest_sums_fit() {
    let device = Device::new();
    let (n, k) = (scaled(33, 3), 65_536);
    for (q, zero) in [(-8i8, 8i8), (7, -8), (-8, 0)] {
        let layer = Layer::of(
            &device,
            PlainWeight {
                n,
                k,
                grouping: Grouping::PerChannel,
                q: vec![q; n * k],
                scales: Scales::F32(vec![1.0; n]),
                steps: None,
                zeros: Some(vec![zero; n]),
            },
        );
        for kind in [Kind::Tops, Kind::Bottoms, Kind::Swings] {
            for width in [Width::A2, Width::A4, Width::A8] {
                for (m, family) in [
                    (1, Family::Decode),
                    (3, Family::Decode),
                    (scaled(20, 9), Family::Prefill),
                    (scaled(20, 9), Family::Wgmma),
                ] {
                    if !device.gpu.has_family(family) {
                        continue;
                    }
                    for fused in [true, false] {
                        if fused && family == Family::Wgmma {
                            continue;
                        }
                        let options = GemmOptions::default().with_family(family).with_fused(fused);
                        let call = Call {
                            options,
                            kind,
                            ..Call::new(m, width)
                        };
                        check(&device, &layer, &call);
                    }
                }
            }
        }
    }
}

/// A token with a NaN or an infinity is NaN (0x7FFF) in every channel. Other tokens are not
/// affected.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn non_finite_tokens_become_nan_alone() {
    let device = Device::new();
    for grouping in Grouping::ALL {
        let layer = Layer::new(
            &device,
            &mut rng(5),
            (90, 400),
            grouping,
            ScaleType::Bf16,
            false,
        );
        for width in [Width::A2, Width::A4, Width::A8] {
            for (m, family) in [
                (1, None),
                (2, None),
                (8, None),
                (16, None),
                (5, Some(Family::Prefill)),
                (40, None),
            ] {
                for (packed, fused) in [(false, false), (false, true), (true, false)] {
                    let options = GemmOptions::default().with_family(family).with_fused(fused);
                    let call = Call {
                        packed,
                        options,
                        kind: Kind::Poisoned,
                        ..Call::new(m, width)
                    };
                    let inputs = crate::harness::Inputs::new(&call, (90, 400));
                    let (got, plan) = crate::harness::run(&device, &layer, &call, &inputs);
                    crate::harness::compare(&device, &layer, &call, &inputs, &got, &plan);
                    for (token, y) in got.chunks(90).enumerate() {
                        let bad = inputs.x[token * 400..][..400]
                            .iter()
                            .any(|v| !v.is_finite());
                        assert_eq!(
                            bad,
                            y.iter().all(|v| v.to_bits() == 0x7FFF),
                            "{call:?} token {token}"
                        );
                        assert!(
                            bad || y.iter().all(|v| v.is_finite()),
                            "{call:?} token {token}"
                        );
                    }
                }
            }
        }
    }
}
