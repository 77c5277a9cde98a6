//! The GEMM kernels of one width: the families decode, prefill and plain.

use crate::abi::*;
use crate::build::Variant;
use crate::gemm_case::{
    GemmCase, GemmInput, check_all, check_generated, for_runners, with_a_bound,
};
use crate::runner::Request;
use proptest::prelude::*;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use test_support::{Kind, WEIGHTS, bits, rng};
use w4ax::{Grouping, ScaleType, Scheme, Width};

/// Every family, mode, width, grouping and symmetry, at shapes with tails of M, N and K.
fn matrix() -> Vec<GemmCase> {
    let mut cases = Vec::new();
    let families = [
        (DECODE, FUSED),
        (DECODE, PACKED),
        (PREFILL, FUSED),
        (PREFILL, PACKED),
        (PLAIN, FUSED),
    ];
    for (family, mode) in families {
        for width in Width::ALL {
            if width == Width::Bf16 && mode == PACKED {
                continue;
            }
            for (scheme, grouping) in WEIGHTS {
                // The last shape: three rounds of every decode tile, so that both buffers are
                // reused, and most warps idle in the last round.
                for (m, k) in [
                    (1, 100),
                    (7, 1152),
                    (17, 100),
                    (33, 1152),
                    (1, 1152),
                    (2, 4232),
                ] {
                    if family == DECODE && m > 16
                        || family == PLAIN && m != 7
                        || family == PREFILL && m == 2
                    {
                        continue;
                    }
                    let at = cases.len();
                    cases.push(GemmCase {
                        m,
                        k,
                        width,
                        scheme,
                        grouping,
                        family,
                        mode,
                        tile: if m == 2 { 1 + at as u32 % 3 } else { 0 },
                        ..GemmCase::default().numbered(at)
                    });
                }
            }
        }
    }
    cases
}

#[test]
fn every_kernel_matches_reference() {
    check_all(Variant::Plain, &matrix());
}

#[test]
fn every_kernel_matches_reference_under_asan_and_ubsan() {
    check_all(Variant::Address, &matrix());
}

#[test]
fn every_kernel_matches_reference_under_tsan() {
    check_all(Variant::Thread, &matrix());
}

/// Shapes, strides, alignments and values from proptest, and every tile, under each sanitizer.
#[test]
fn generated_cases_match_reference() {
    let strategy = (
        (1usize..40, 1usize..130, 1usize..500),
        proptest::sample::select(Width::ALL.to_vec()),
        proptest::sample::select(WEIGHTS.to_vec()),
        (any::<bool>(), any::<bool>()),
        proptest::sample::select(vec![ScaleType::F32, ScaleType::F16, ScaleType::Bf16]),
        (1u32..=3, 1u32..=2, 0u32..3),
        proptest::sample::select(Kind::ALL.to_vec()),
        (0usize..9, 0usize..9, 0usize..8),
        any::<u32>(),
    )
        .prop_map(
            |(shape, width, (scheme, grouping), flags, scale_type, how, kind, gaps, seed)| {
                let (m, n, k) = shape;
                let (family, mode, tile) = how;
                let bf16 = width == Width::Bf16;
                GemmCase {
                    m: if family == DECODE { m.min(16) } else { m },
                    n,
                    k,
                    width,
                    scheme,
                    grouping,
                    symmetric: flags.0,
                    scale_type,
                    family,
                    mode: if bf16 || family == PLAIN { FUSED } else { mode },
                    tile: match family {
                        PLAIN => 0,
                        // Of the decode tiles, only the third takes more than 8 tokens.
                        DECODE if m > 8 => tile / 2 * 3,
                        _ => tile,
                    },
                    kind: with_a_bound(kind, width),
                    bias: flags.1,
                    gaps: (gaps.0, gaps.1),
                    x_shift: gaps.2,
                    seed: u64::from(seed),
                    routed: false,
                }
            },
        );
    check_generated(&strategy, 120);
}

/// What the kernels refuse of a two-level weight: no groups, no steps, a K whose sums could
/// overflow.
#[test]
fn rejects_invalid_two_level_weight() {
    for_runners(Variant::Plain, |runner, _| {
        let case = GemmCase {
            scheme: Scheme::TwoLevel,
            ..GemmCase::default()
        };
        let mut status = |request: Request| runner.run(&request).unwrap().status;
        let plan = || case.arguments("plan_gemm");
        assert_eq!(status(plan()), 0);
        assert_eq!(status(plan().arg("group", 0)), BAD_SCHEME);
        assert_eq!(status(plan().arg("group", 48)), BAD_GROUPING);
        assert_eq!(status(plan().arg("scheme", 2)), BAD_SCHEME);
        assert_eq!(status(plan().arg("weight_reserved", 1)), BAD_FLAGS);
        let long = |k: usize| plan().arg("k", k).arg("x_stride", k);
        assert_eq!(status(long(65536)), 0);
        assert_eq!(status(long(65537)), K_TOO_LARGE);
        // All buffers but the steps, which a grouped weight does not have.
        let grouped = GemmCase::default();
        let input = grouped.input();
        let no_steps = grouped
            .weight_buffers(case.arguments("gemm"), &input)
            .arg("scheme", TWO_LEVEL)
            .input("x", bytemuck::cast_slice::<_, u8>(&input.x), 16)
            .output("y", &vec![0u16; case.n], 16);
        assert_eq!(status(no_steps), NULL_POINTER);
    });
}

/// Shapes of real models: many rounds of K, many blocks of N.
#[test]
fn model_shapes_match_reference() {
    let mut cases = Vec::new();
    for (family, mode, m) in [
        (DECODE, FUSED, 1),
        (DECODE, PACKED, 9),
        (PREFILL, PACKED, 65),
        (PREFILL, FUSED, 20),
    ] {
        for (at, width) in Width::ALL.into_iter().enumerate() {
            let mode = if width == Width::Bf16 { FUSED } else { mode };
            let (n, k) = [(256, 7392), (10944, 100), (512, 4096), (320, 11008)][at];
            cases.push(GemmCase {
                m,
                n: if m > 16 { n.min(1000) } else { n },
                k,
                width,
                grouping: [
                    Grouping::G128,
                    Grouping::G32,
                    Grouping::PerChannel,
                    Grouping::G64,
                ][(at + m) % 4],
                symmetric: false,
                family,
                mode,
                kind: Kind::Zeros,
                seed: at as u64,
                ..GemmCase::default()
            });
            let last = cases.last_mut().unwrap();
            if last.width != Width::Bf16 {
                last.kind = Kind::Normal;
            }
        }
    }
    for case in cases.clone() {
        cases.push(case.of_scheme(Scheme::TwoLevel));
    }
    check_all(Variant::Plain, &cases);
}

/// A row has the same bits alone and in a batch: BF16 within a family, quantized widths in all.
#[test]
fn row_is_independent_of_batch() {
    for_runners(Variant::Plain, |runner, architecture| {
        for (family, m) in [(DECODE, 16), (PREFILL, 70)] {
            for width in Width::ALL {
                for (scheme, grouping) in WEIGHTS {
                    let many = GemmCase {
                        m,
                        k: 400,
                        width,
                        scheme,
                        grouping,
                        family,
                        symmetric: false,
                        ..GemmCase::default()
                    };
                    let input = many.input();
                    let whole = many.run(runner, &input).unwrap();
                    for token in [0, m / 2 + 1, m - 1] {
                        let one = GemmCase {
                            m: 1,
                            ..many.clone()
                        };
                        let input = GemmInput {
                            weight: input.weight.clone(),
                            x: input.x[token * many.k..][..many.k].to_vec(),
                            bias: None,
                        };
                        let alone = one.run(runner, &input).unwrap();
                        assert_eq!(
                            bits(&alone),
                            bits(&whole[token * many.n..][..many.n]),
                            "{architecture} {many:?}"
                        );
                    }
                }
            }
        }
    });
}

/// The order of threads and the arrival of copies do not change the bits.
#[test]
fn bits_are_independent_of_schedule() {
    let rng: &mut ChaCha8Rng = &mut rng(4);
    for variant in Variant::ALL {
        let seeds: Vec<i64> = (0..6).map(|_| rng.random_range(0..1 << 30)).collect();
        for_runners(variant, |runner, _| {
            for (family, mode) in [
                (DECODE, FUSED),
                (DECODE, PACKED),
                (PREFILL, FUSED),
                (PREFILL, PACKED),
            ] {
                for width in [Width::A4, Width::A8] {
                    for (at, _) in seeds.iter().enumerate() {
                        let seed = seeds[at] as u64;
                        let case = GemmCase {
                            m: 9,
                            k: 300,
                            width,
                            family,
                            mode,
                            seed,
                            ..GemmCase::default()
                        };
                        case.check(runner).unwrap();
                    }
                }
            }
        });
    }
}
