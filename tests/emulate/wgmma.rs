//! The kernels of the wgmma family on the emulator, as sm_90a compiles them: barriers that count bytes, bulk and tensor copies that
//! land when they like, warpgroup mma whose sums are garbage until the wait.

use crate::gemm_case::{
    AUTO, FUSED, Gemm, Input, LATCHED, PACKED, PREFILL, WGMMA, expect_ok, for_sm90,
};
use crate::runner::{Case, Variant};
use proptest::prelude::*;
use test_support::{Kind, bits};
use w4ax::{Grouping, ScaleType, Width};

/// A case of the family: its activations are packed on the way, or BF16 rows that a tensor copy takes.
fn case(m: usize, n: usize, k: usize, width: Width, grouping: Grouping) -> Gemm {
    Gemm {
        m,
        n,
        k,
        width,
        grouping,
        family: WGMMA,
        mode: AUTO,
        // Rows of BF16 start at multiples of 16 bytes.
        gaps: (k.next_multiple_of(8) - k, 0),
        ..Gemm::default()
    }
}

/// Every width, grouping, symmetry and tile at shapes with tails: of N, M, tiles of k, groups and stages.
fn matrix() -> Vec<Gemm> {
    let mut cases = Vec::new();
    for width in Width::ALL {
        for grouping in Grouping::ALL {
            for (m, n, k) in [(1, 100, 100), (70, 20, 320), (85, 130, 64), (129, 33, 1160)] {
                let at = cases.len();
                cases.push(Gemm {
                    // Packed on the way, or by a call before.
                    mode: match width {
                        Width::Bf16 => AUTO,
                        _ => [AUTO, PACKED][at / 4 % 2],
                    },
                    tile: at as u32 % 3,
                    symmetric: at / 2 % 2 == 0,
                    scale_type: [ScaleType::Bf16, ScaleType::F16, ScaleType::F32][at % 3],
                    bias: at.is_multiple_of(5),
                    // BF16: integers, to be compared exactly, in every other case.
                    kind: [Kind::Normal, Kind::Zeros][at / 3 % 2],
                    seed: at as u64,
                    ..case(m, n, k, width, grouping)
                });
            }
        }
    }
    cases
}

fn check_matrix(variant: Variant) {
    for_sm90(variant, |runner| {
        for case in matrix() {
            if let Err(error) = case.check(runner) {
                panic!("{}: {error}", variant.name());
            }
        }
    });
}

#[test]
fn every_kernel_equals_the_mirror() {
    check_matrix(Variant::Plain);
}

#[test]
#[ignore = "builds one more runner, five minutes; CONTRIBUTING says when to run it"]
fn every_kernel_is_clean_under_asan_and_ubsan() {
    check_matrix(Variant::Address);
}

#[test]
fn every_kernel_is_clean_under_tsan() {
    check_matrix(Variant::Thread);
}

#[test]
fn generated_cases_equal_the_mirror() {
    let strategy = (
        (1usize..140, 1usize..280, 1usize..700),
        proptest::sample::select(Width::ALL.to_vec()),
        proptest::sample::select(Grouping::ALL.to_vec()),
        any::<(bool, bool)>(),
        proptest::sample::select(vec![ScaleType::F32, ScaleType::F16, ScaleType::Bf16]),
        (0u32..3, any::<bool>()),
        proptest::sample::select(Kind::ALL.to_vec()),
        (0usize..3, 0usize..9, 0usize..8),
        any::<u32>(),
    )
        .prop_map(
            |((m, n, k), width, grouping, flags, scale_type, (tile, packed), kind, gaps, seed)| {
                let one = case(m, n, k, width, grouping);
                let bf16 = width == Width::Bf16;
                Gemm {
                    symmetric: flags.0,
                    bias: flags.1,
                    scale_type,
                    tile,
                    mode: if packed && !bf16 { PACKED } else { AUTO },
                    kind: crate::gemm_case::with_a_bound(kind, width),
                    // quantize_pack takes any rows.
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
        crate::gemm_case::check_generated_on(&strategy, 150, runner, "plain sm_90");
    });
}

/// Many stages of K, and more blocks than one of N and M, with shapes of real models.
#[test]
fn real_shapes_equal_the_mirror() {
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
            let one = Gemm {
                symmetric: false,
                kind,
                ..case(m, n, k, width, grouping)
            };
            one.check(runner).unwrap();
        }
    });
}

/// The bits of a row are those that the prefill family gives (quantized widths), whatever tile and batch it is in.
#[test]
fn a_row_is_the_same_in_every_tile_and_batch() {
    for_sm90(Variant::Plain, |runner| {
        for width in Width::ALL {
            let many = Gemm {
                tile: 1,
                symmetric: false,
                ..case(100, 70, 400, width, Grouping::G128)
            };
            let input = many.input();
            let whole = many.run(runner, &input).unwrap();
            let other = Gemm {
                tile: 2,
                ..many.clone()
            };
            assert_eq!(
                bits(&other.run(runner, &input).unwrap()),
                bits(&whole),
                "{width}"
            );
            if width != Width::Bf16 {
                let prefill = Gemm {
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
                let input = Input {
                    weight: input.weight.clone(),
                    x: input.x[token * many.k..][..many.k].to_vec(),
                    bias: None,
                };
                let alone = Gemm {
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

/// Without a choice, more tokens than decoding takes go to this family where the device has it; what it cannot do goes to the
/// prefill family, or is refused by name.
#[test]
fn the_table_and_what_is_refused() {
    const BAD_FAMILY: i32 = 7;
    const BAD_MODE: i32 = 8;
    const MISALIGNED: i32 = 11;
    for_sm90(Variant::Plain, |runner| {
        let mut plan = |case: Case| runner.run(&case).unwrap();
        let family =
            |answer: crate::runner::Answer| expect_ok(answer).unwrap().values["family"] as u32;
        for width in Width::ALL {
            let auto = Gemm {
                family: AUTO,
                ..case(17, 64, 128, width, Grouping::G128)
            };
            assert_eq!(family(plan(auto.arguments("plan_gemm"))), WGMMA, "{width}");
            let few = Gemm {
                m: 16,
                ..auto.clone()
            };
            assert_eq!(
                family(plan(few.arguments("plan_gemm"))),
                crate::gemm_case::DECODE
            );
            let tile = Gemm {
                tile: 1,
                ..auto.clone()
            };
            assert_eq!(family(plan(tile.arguments("plan_gemm"))), PREFILL);
        }
        let odd = Gemm {
            family: AUTO,
            gaps: (1, 0),
            ..case(17, 64, 128, Width::Bf16, Grouping::G128)
        };
        assert_eq!(family(plan(odd.arguments("plan_gemm"))), PREFILL);
        let odd = Gemm {
            family: WGMMA,
            ..odd
        };
        assert_eq!(plan(odd.arguments("plan_gemm")).status, MISALIGNED);
        let fused = Gemm {
            mode: FUSED,
            ..case(17, 64, 128, Width::A8, Grouping::G128)
        };
        assert_eq!(plan(fused.arguments("plan_gemm")).status, BAD_MODE);
        // What is packed already has an order: that of the decode and prefill families, unless this one is named.
        for (asked, planned) in [(AUTO, PREFILL), (WGMMA, WGMMA)] {
            let packed = Gemm {
                mode: PACKED,
                family: asked,
                ..fused.clone()
            };
            assert_eq!(family(plan(packed.arguments("plan_gemm"))), planned);
        }
        let latched = case(17, 64, 128, Width::A8, Grouping::G128);
        assert_eq!(
            plan(latched.arguments("plan_gemm").arg("width", LATCHED)).status,
            BAD_MODE
        );
        let bytes =
            |answer: crate::runner::Answer| expect_ok(answer).unwrap().values["bytes"] as usize;
        // A byte a code, 24 tokens of 128 k; three f32 a token and group. In fragments 4 bits a code, two words a group.
        let a4 = case(17, 64, 128, Width::A4, Grouping::G64);
        let fragments = Gemm {
            family: crate::gemm_case::DECODE,
            ..a4.clone()
        };
        let (cores, fragments) = (
            a4.arguments("packed_bytes"),
            fragments.arguments("packed_bytes"),
        );
        assert_eq!(bytes(plan(cores)), 24 * (128 + 2 * 12));
        assert_eq!(bytes(plan(fragments)), 24 * (64 + 2 * 8));
        let no_reader = |function| {
            let plain = Gemm {
                family: crate::gemm_case::PLAIN,
                ..a4.clone()
            };
            plain.arguments(function)
        };
        for function in ["packed_bytes", "quantize_pack"] {
            assert_eq!(plan(no_reader(function)).status, BAD_FAMILY);
        }
        let latched = a4.arguments("quantize_pack").arg("width", LATCHED);
        assert_eq!(plan(latched).status, BAD_MODE);
    });
}
