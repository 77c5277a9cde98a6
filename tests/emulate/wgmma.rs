//! The wgmma family, as sm_90a compiles it: mbarriers, bulk and tensor copies that arrive at any
//! time, and warpgroup mma whose accumulators are garbage until the wait.

use crate::abi::*;
use crate::build::Variant;
use crate::gemm_case::{
    GemmCase, GemmInput, check_generated_on, expect_ok, for_sm90, with_a_bound,
};
use crate::runner::{Request, Runner};
use proptest::prelude::*;
use test_support::{Kind, WEIGHTS, bits};
use w4ax::{Grouping, ScaleType, Scheme, Width};

/// Returns a case of the family. Its activations are quantized by the call, or BF16 rows that a
/// tensor copy loads.
fn case(m: usize, n: usize, k: usize, width: Width, grouping: Grouping) -> GemmCase {
    GemmCase {
        m,
        n,
        k,
        width,
        grouping,
        family: WGMMA,
        mode: AUTO,
        // Rows of BF16 are aligned to 16 bytes.
        gaps: (k.next_multiple_of(8) - k, 0),
        ..GemmCase::default()
    }
}

/// The tiles of the kernels for a width and weight, and 0: the kernels' own choice.
///
/// Tiles of 256 channels need sums that cover whole rows.
fn tiles(width: Width, scheme: Scheme, grouping: Grouping) -> u32 {
    match width != Width::Bf16 && scheme.activation_grouping(grouping) == Grouping::PerChannel {
        true => 5,
        false => 3,
    }
}

/// Every width, grouping, symmetry and tile, at shapes with tails of M, N, k tiles, groups and
/// stages.
fn matrix() -> Vec<GemmCase> {
    let mut cases = Vec::new();
    for width in Width::ALL {
        for (scheme, grouping) in WEIGHTS {
            for (m, n, k) in [(1, 100, 100), (70, 20, 320), (85, 130, 64), (129, 33, 1160)] {
                let at = cases.len();
                cases.push(GemmCase {
                    // Quantized by the call, or by an earlier one.
                    mode: match width {
                        Width::Bf16 => AUTO,
                        _ => [AUTO, PACKED][at / 4 % 2],
                    },
                    tile: at as u32 % tiles(width, scheme, grouping),
                    symmetric: at / 2 % 2 == 0,
                    scheme,
                    ..case(m, n, k, width, grouping).numbered(at)
                });
            }
        }
    }
    cases
}

/// As [`matrix`], at a width that the latch holds. A routed kernel reads rows of BF16 or codes, and
/// has blocks of 128 channels only.
fn routed_matrix() -> Vec<GemmCase> {
    let routed = |(at, one): (usize, GemmCase)| GemmCase {
        routed: true,
        mode: [AUTO, PACKED][at / 4 % 2],
        tile: at as u32 % 3,
        ..one
    };
    matrix().into_iter().enumerate().map(routed).collect()
}

fn check_matrix(variant: Variant) {
    for_sm90(variant, |runner| {
        for case in matrix().into_iter().chain(routed_matrix()) {
            if let Err(error) = case.check(runner) {
                panic!("{}: {error}", variant.name());
            }
        }
    });
}

#[test]
fn every_kernel_matches_reference() {
    check_matrix(Variant::Plain);
}

#[test]
#[ignore = "builds one more runner, which takes minutes: see CONTRIBUTING"]
fn every_kernel_matches_reference_under_asan_and_ubsan() {
    check_matrix(Variant::Address);
}

#[test]
fn every_kernel_matches_reference_under_tsan() {
    check_matrix(Variant::Thread);
}

#[test]
fn generated_cases_match_reference() {
    let strategy = (
        (1usize..140, 1usize..280, 1usize..700),
        proptest::sample::select(Width::ALL.to_vec()),
        proptest::sample::select(WEIGHTS.to_vec()),
        any::<(bool, bool)>(),
        proptest::sample::select(vec![ScaleType::F32, ScaleType::F16, ScaleType::Bf16]),
        (0u32..15, any::<bool>()),
        proptest::sample::select(Kind::ALL.to_vec()),
        (0usize..3, 0usize..9, 0usize..8),
        any::<u32>(),
    )
        .prop_map(
            |(
                (m, n, k),
                width,
                (scheme, grouping),
                flags,
                scale_type,
                (tile, packed),
                kind,
                gaps,
                seed,
            )| {
                let one = case(m, n, k, width, grouping);
                let bf16 = width == Width::Bf16;
                GemmCase {
                    scheme,
                    symmetric: flags.0,
                    bias: flags.1,
                    scale_type,
                    tile: tile % tiles(width, scheme, grouping),
                    mode: if packed && !bf16 { PACKED } else { AUTO },
                    kind: with_a_bound(kind, width),
                    // quantize_pack accepts any alignment of rows.
                    gaps: if bf16 {
                        (one.gaps.0 + 8 * gaps.0, gaps.1)
                    } else {
                        (gaps.0, gaps.1)
                    },
                    x_shift: if bf16 { 0 } else { gaps.2 },
                    seed: u64::from(seed),
                    ..one
                }
            },
        );
    for_sm90(Variant::Plain, |runner| {
        check_generated_on(&strategy, 150, runner, "plain sm_90");
    });
}

/// Shapes of real models: many stages of K, several blocks of N and M.
#[test]
fn model_shapes_match_reference() {
    for_sm90(Variant::Plain, |runner| {
        for (at, width) in Width::ALL.into_iter().enumerate() {
            let (m, n, k) = [
                (290, 64, 4096),
                (40, 300, 7392),
                (90, 128, 11008),
                (150, 128, 4096),
            ][at];
            let grouping = [
                Grouping::G128,
                Grouping::PerChannel,
                Grouping::G64,
                Grouping::G128,
            ][at];
            let kind = if width == Width::Bf16 {
                Kind::Zeros
            } else {
                Kind::Normal
            };
            let one = GemmCase {
                symmetric: false,
                kind,
                ..case(m, n, k, width, grouping)
            };
            for scheme in Scheme::ALL {
                one.clone().of_scheme(scheme).check(runner).unwrap();
            }
        }
    });
}

/// A row has the same bits in every tile and batch, and for quantized widths in the prefill family.
#[test]
fn row_is_independent_of_tile_and_batch() {
    for_sm90(Variant::Plain, |runner| {
        for (width, scheme) in Width::ALL
            .map(|width| Scheme::ALL.map(|s| (width, s)))
            .concat()
        {
            let many = GemmCase {
                tile: 1,
                symmetric: false,
                scheme,
                ..case(100, 70, 400, width, Grouping::G128)
            };
            let input = many.input();
            let whole = many.run(runner, &input).unwrap();
            for tile in 2..tiles(width, scheme, Grouping::G128) {
                let other = GemmCase {
                    tile,
                    ..many.clone()
                };
                assert_eq!(
                    bits(&other.run(runner, &input).unwrap()),
                    bits(&whole),
                    "{width} {scheme} tile {tile}"
                );
            }
            if width != Width::Bf16 {
                let prefill = GemmCase {
                    family: PREFILL,
                    tile: 2,
                    ..many.clone()
                };
                assert_eq!(
                    bits(&prefill.run(runner, &input).unwrap()),
                    bits(&whole),
                    "{width}"
                );
            }
            for token in [0, 99] {
                let input = GemmInput {
                    weight: input.weight.clone(),
                    x: input.x[token * many.k..][..many.k].to_vec(),
                    bias: None,
                };
                let alone = GemmCase {
                    m: 1,
                    ..many.clone()
                }
                .run(runner, &input)
                .unwrap();
                assert_eq!(
                    bits(&alone),
                    bits(&whole[token * many.n..][..many.n]),
                    "{width}"
                );
            }
        }
    });
}

/// Returns the family that the plan of a GEMM selects.
fn planned_family(runner: &mut Runner, gemm: &GemmCase) -> u32 {
    let plan = runner.run(&gemm.arguments("plan_gemm")).unwrap();
    expect_ok(plan).unwrap().values["family"] as u32
}

/// Without a requested family, more tokens than the decode family takes select this one, where its
/// preconditions hold.
#[test]
fn table_selects_wgmma_above_decode() {
    for_sm90(Variant::Plain, |runner| {
        for width in Width::ALL {
            let auto = GemmCase {
                family: AUTO,
                ..case(17, 64, 128, width, Grouping::G128)
            };
            assert_eq!(planned_family(runner, &auto), WGMMA, "{width}");
            let few = GemmCase {
                m: 16,
                ..auto.clone()
            };
            assert_eq!(planned_family(runner, &few), DECODE);
            let tile = GemmCase { tile: 1, ..auto };
            assert_eq!(planned_family(runner, &tile), PREFILL);
        }
        // Rows of BF16 that are not aligned to 16 bytes.
        let misaligned = GemmCase {
            family: AUTO,
            gaps: (1, 0),
            ..case(17, 64, 128, Width::Bf16, Grouping::G128)
        };
        assert_eq!(planned_family(runner, &misaligned), PREFILL);
        // A latched width may be 16 bits.
        for (gaps, planned) in [((0, 0), WGMMA), ((1, 0), PREFILL)] {
            let latched = GemmCase {
                family: AUTO,
                routed: true,
                gaps,
                ..case(17, 64, 128, Width::A8, Grouping::G128)
            };
            assert_eq!(planned_family(runner, &latched), planned);
        }
        // Activations quantized ahead have the layout of the decode and prefill families, unless
        // the wgmma family is requested.
        for (requested, planned) in [(AUTO, PREFILL), (WGMMA, WGMMA)] {
            let packed = GemmCase {
                mode: PACKED,
                family: requested,
                ..case(17, 64, 128, Width::A8, Grouping::G128)
            };
            assert_eq!(planned_family(runner, &packed), planned);
        }
    });
}

#[test]
fn rejects_invalid_arguments() {
    for_sm90(Variant::Plain, |runner| {
        let mut status = |request: Request| runner.run(&request).unwrap().status;
        let misaligned = GemmCase {
            gaps: (1, 0),
            ..case(17, 64, 128, Width::Bf16, Grouping::G128)
        };
        assert_eq!(status(misaligned.arguments("plan_gemm")), MISALIGNED);
        let fused = GemmCase {
            mode: FUSED,
            ..case(17, 64, 128, Width::A8, Grouping::G128)
        };
        assert_eq!(status(fused.arguments("plan_gemm")), BAD_MODE);
        // A latched width may be 16 bits, and its kernels do not quantize.
        let latched = GemmCase {
            routed: true,
            ..case(17, 64, 128, Width::A8, Grouping::G128)
        };
        let misaligned = GemmCase {
            gaps: (1, 0),
            ..latched.clone()
        };
        assert_eq!(status(misaligned.arguments("plan_gemm")), MISALIGNED);
        let fused = GemmCase {
            mode: FUSED,
            ..latched.clone()
        };
        assert_eq!(status(fused.arguments("plan_gemm")), BAD_MODE);
        let channels = GemmCase {
            tile: 3,
            grouping: Grouping::PerChannel,
            ..latched
        };
        assert_eq!(status(channels.arguments("plan_gemm")), BAD_TILE);
        let a4 = case(17, 64, 128, Width::A4, Grouping::G64);
        // No kernel of the plain family reads quantized activations.
        for function in ["packed_bytes", "quantize_pack"] {
            let plain = GemmCase {
                family: PLAIN,
                ..a4.clone()
            };
            assert_eq!(status(plain.arguments(function)), BAD_FAMILY);
        }
    });
}

#[test]
fn size_of_quantized_activations_depends_on_layout() {
    for_sm90(Variant::Plain, |runner| {
        let mut bytes = |gemm: &GemmCase| {
            let reply = runner.run(&gemm.arguments("packed_bytes")).unwrap();
            expect_ok(reply).unwrap().values["bytes"] as usize
        };
        // Core matrices: one byte per code, 24 tokens of 128 k; three f32 per token and group.
        let cores = case(17, 64, 128, Width::A4, Grouping::G64);
        assert_eq!(bytes(&cores), 24 * (128 + 2 * 12));
        // Fragments: 4 bits per code, two words per token and group.
        let fragments = GemmCase {
            family: DECODE,
            ..cores
        };
        assert_eq!(bytes(&fragments), 24 * (64 + 2 * 8));
    });
}
