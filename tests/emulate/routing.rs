//! Routed kernels: one launch that runs at the width that the latch holds.
//!
//! A routed kernel must have the bits of the kernel of one width, in every step.

use crate::abi::*;
use crate::build::Variant;
use crate::gemm_case::{GemmCase, check_all, check_generated, expect_ok, for_runners};
use crate::latch::{Latched, latch_request};
use crate::runner::Request;
use half::bf16;
use proptest::prelude::*;
use test_support::{Kind, WEIGHTS, bits};
use w4ax::reference;
use w4ax::{FlagWord, Grouping, MatRef, Scheme, Width};

/// Every routed kernel at each width: those that the table selects, and those that a caller may
/// request.
fn matrix() -> Vec<GemmCase> {
    let mut cases = Vec::new();
    for width in Width::ALL {
        for (scheme, grouping) in WEIGHTS {
            for (m, k, family, mode, tile) in [
                (1, 100, AUTO, AUTO, 0),
                (2, 1152, DECODE, FUSED, 2),
                (7, 1152, AUTO, AUTO, 0),
                (5, 300, DECODE, PACKED, 1),
                (17, 100, AUTO, AUTO, 0),
                (33, 1152, PREFILL, PACKED, 2),
                (70, 200, PREFILL, AUTO, 3),
                (1, 200, PREFILL, AUTO, 1),
                (12, 200, DECODE, AUTO, 3),
                (3, 100, PLAIN, FUSED, 0),
            ] {
                let at = cases.len();
                cases.push(GemmCase {
                    m,
                    k,
                    width,
                    scheme,
                    grouping,
                    family,
                    mode,
                    tile,
                    routed: true,
                    ..GemmCase::default().numbered(at)
                });
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

/// The mode is the table's, and the workspace has exactly the size that the plan reports. Routed
/// kernels, and those of one width.
#[test]
fn generated_cases_match_reference() {
    let strategy = (
        (1usize..40, 1usize..130, 1usize..500),
        proptest::sample::select(Width::ALL.to_vec()),
        proptest::sample::select(WEIGHTS.to_vec()),
        (any::<bool>(), any::<bool>(), any::<bool>()),
        (0u32..=3, 0u32..3),
        (0usize..9, 0usize..9, 0usize..8),
        any::<u32>(),
    )
        .prop_map(
            |(shape, width, (scheme, grouping), flags, how, gaps, seed)| {
                let (m, n, k) = shape;
                let (family, tile) = how;
                let m = if family == DECODE { m.min(16) } else { m };
                GemmCase {
                    m,
                    n,
                    k,
                    width,
                    scheme,
                    grouping,
                    symmetric: flags.0,
                    bias: flags.1,
                    routed: flags.2,
                    family,
                    mode: AUTO,
                    // Without a family the table chooses the tile. Of the decode tiles, only the
                    // third takes more than 8 tokens, and its routed kernel does not quantize.
                    tile: match family {
                        DECODE if m > 8 => tile / 2 * 3,
                        DECODE | PREFILL => tile,
                        _ => 0,
                    },
                    gaps: (gaps.0, gaps.1),
                    x_shift: gaps.2,
                    seed: u64::from(seed),
                    ..GemmCase::default()
                }
            },
        );
    check_generated(&strategy, 100);
}

/// A routed kernel has the bits of the kernel of that width, for any BF16 values too.
#[test]
fn matches_kernel_of_fixed_width() {
    for_runners(Variant::Plain, |runner, architecture| {
        for (m, family, mode) in [
            (1, DECODE, AUTO),
            (9, DECODE, AUTO),
            (40, PREFILL, AUTO),
            (130, PREFILL, AUTO),
        ] {
            for width in Width::ALL {
                for (scheme, grouping) in WEIGHTS {
                    let direct = GemmCase {
                        m,
                        k: 400,
                        width,
                        scheme,
                        grouping,
                        family,
                        mode,
                        symmetric: false,
                        ..GemmCase::default()
                    };
                    let routed = GemmCase {
                        routed: true,
                        ..direct.clone()
                    };
                    let input = direct.input();
                    assert_eq!(
                        bits(&routed.run(runner, &input).unwrap()),
                        bits(&direct.run(runner, &input).unwrap()),
                        "{architecture} {direct:?}"
                    );
                }
            }
        }
    });
}

/// A latch, then the step's GEMM with programmatic dependent launch in the same stream.
///
/// The GEMM must wait before it reads the width: otherwise TSan reports a race.
#[test]
fn step_runs_at_latched_width() {
    for variant in Variant::ALL {
        for_runners(variant, |runner, architecture| {
            for (m, scheme, grouping) in [
                (1, Scheme::Grouped, Grouping::G128),
                (2, Scheme::Grouped, Grouping::PerChannel),
                (9, Scheme::Grouped, Grouping::G64),
                (40, Scheme::Grouped, Grouping::G32),
                (20, Scheme::Grouped, Grouping::PerChannel),
                (1, Scheme::TwoLevel, Grouping::G64),
                (40, Scheme::TwoLevel, Grouping::G128),
            ] {
                for word in [
                    FlagWord::encode(6, Width::A2),
                    FlagWord::encode(6, Width::A4),
                    FlagWord::encode(6, Width::A8),
                    FlagWord::encode(5, Width::A8),
                ] {
                    let gemm = GemmCase {
                        m,
                        k: 400,
                        scheme,
                        grouping,
                        width: word.width_for(6),
                        family: AUTO,
                        mode: AUTO,
                        // BF16 is compared exactly, on integers.
                        kind: match word.width_for(6) {
                            Width::Bf16 => Kind::Zeros,
                            _ => Kind::Normal,
                        },
                        ..GemmCase::default()
                    };
                    let input = gemm.input();
                    let mut case = gemm
                        .weight_buffers(latch_request("step", 6), &input)
                        .input("flag", &[word.to_bits()], 8)
                        .input("x", bytemuck::cast_slice::<bf16, u8>(&input.x), 16)
                        .output("y", &vec![bf16::NAN; m * gemm.n], 16)
                        .output("workspace", &vec![0xA5u8; 1 << 16], 128)
                        .arg("width", LATCHED)
                        .arg("latch_flags", PDL)
                        .arg("flags", PDL);
                    for (name, value) in [("m", m), ("x_stride", gemm.k), ("y_stride", gemm.n)] {
                        case = case.arg(name, value);
                    }
                    let reply = expect_ok(runner.run(&case).unwrap()).unwrap();
                    let x = MatRef::new(&input.x, m, gemm.k).unwrap();
                    let expected = reference::gemm(x, &input.weight, gemm.width, None).unwrap();
                    let name = variant.name();
                    let got = reply.output::<bf16>("y");
                    assert_eq!(
                        bits(&got),
                        bits(&expected),
                        "{name} {architecture} {gemm:?}"
                    );
                    let ran = Latched::of(&reply, 6);
                    assert_eq!(ran.bits, u64::from(gemm.width.bits()));
                }
            }
        });
    }
}

#[test]
fn rejects_invalid_arguments() {
    for_runners(Variant::Plain, |runner, _| {
        let routed = GemmCase {
            m: 5,
            routed: true,
            family: AUTO,
            mode: AUTO,
            ..GemmCase::default()
        };
        let mut status = |request: &Request| runner.run(request).unwrap().status;
        // The only kernels for these shapes take quantized activations.
        for (family, m) in [(DECODE, 9), (PREFILL, 20)] {
            let gemm = GemmCase {
                m,
                family,
                mode: FUSED,
                ..routed.clone()
            };
            assert_eq!(status(&gemm.arguments("plan_gemm")), BAD_MODE, "{gemm:?}");
        }
        let large_tile = GemmCase {
            m: 1,
            family: DECODE,
            tile: 3,
            ..routed.clone()
        };
        assert_eq!(status(&large_tile.arguments("plan_gemm")), BAD_TILE);

        let input = routed.input();
        let x = bytemuck::cast_slice::<bf16, u8>(&input.x);
        let y = vec![bf16::ZERO; routed.m * routed.n];
        let gemm = || {
            routed
                .weight_buffers(routed.arguments("gemm"), &input)
                .input("x", x, 16)
                .output("y", &y, 16)
        };
        assert_eq!(status(&gemm()), WORKSPACE_TOO_SMALL);
        let direct = GemmCase {
            routed: false,
            ..routed.clone()
        };
        let no_latch = direct
            .weight_buffers(direct.arguments("gemm"), &input)
            .input("x", x, 16)
            .output("y", &y, 16)
            .arg("width", LATCHED);
        assert_eq!(status(&no_latch), NULL_POINTER);
    });
}
