//! The CUDA kernels' own sources, run on a CPU by the emulator of `kernels/emulate`, against the Rust scalar mirror.
//!
//! Each runner is one compiler's sanitizer (none; ASan with UBSan; TSan) and one architecture (800: s4 tensor cores; 900:
//! s8). Without a sanitizer all cases run on both. A2, A4 and A8 must equal the mirror bit for bit. BF16 must be exact on small integers, and within the bound of
//! `w4ax::numerics` else. Buffers have their exact sizes, schedules and asynchronous copies vary by seed.

use crate::gemm_case::{DECODE, FUSED, Gemm, Input, PACKED, PLAIN, PREFILL, build, for_runners};
use crate::runner::{Part, Variant};
use proptest::prelude::*;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use test_support::{Kind, bits, rng};
use w4ax::{Grouping, ScaleType, Width};

/// Every family, mode, width, grouping and symmetry at the M, N and K with tails.
fn matrix() -> Vec<Gemm> {
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
            for grouping in Grouping::ALL {
                // The last: three rounds of every decode tile, so both buffers again, and most warps without work at the end.
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
                    let at = cases.len() as u64;
                    cases.push(Gemm {
                        m,
                        k,
                        width,
                        grouping,
                        family,
                        mode,
                        tile: if m == 2 { 1 + at as u32 % 3 } else { 0 },
                        symmetric: at.is_multiple_of(2),
                        scale_type: [ScaleType::Bf16, ScaleType::F16, ScaleType::F32]
                            [at as usize % 3],
                        bias: at.is_multiple_of(5),
                        // BF16: integers, to be compared exactly, in every other case.
                        kind: [Kind::Normal, Kind::Zeros][at as usize / 3 % 2],
                        seed: at,
                        ..Gemm::default()
                    });
                }
            }
        }
    }
    cases
}

#[test]
fn every_kernel_equals_the_mirror() {
    crate::gemm_case::check_all(Variant::Plain, &matrix());
}

#[test]
fn every_kernel_is_clean_under_asan_and_ubsan() {
    crate::gemm_case::check_all(Variant::Address, &matrix());
}

#[test]
fn every_kernel_is_clean_under_tsan() {
    crate::gemm_case::check_all(Variant::Thread, &matrix());
}

/// Shapes, strides, alignments and values from proptest, under each sanitizer; every tile variant.
#[test]
fn generated_cases_equal_the_mirror() {
    let strategy = (
        (1usize..40, 1usize..130, 1usize..500),
        proptest::sample::select(Width::ALL.to_vec()),
        proptest::sample::select(Grouping::ALL.to_vec()),
        (any::<bool>(), any::<bool>()),
        proptest::sample::select(vec![ScaleType::F32, ScaleType::F16, ScaleType::Bf16]),
        (1u32..=3, 1u32..=2, 0u32..3),
        proptest::sample::select(Kind::ALL.to_vec()),
        (0usize..9, 0usize..9, 0usize..8),
        any::<u32>(),
    )
        .prop_map(
            |(shape, width, grouping, flags, scale_type, how, kind, gaps, seed)| {
                let (m, n, k) = shape;
                let (family, mode, tile) = how;
                let bf16 = width == Width::Bf16;
                Gemm {
                    m: if family == DECODE { m.min(16) } else { m },
                    n,
                    k,
                    width,
                    grouping,
                    symmetric: flags.0,
                    scale_type,
                    family,
                    mode: if bf16 || family == PLAIN { FUSED } else { mode },
                    tile: match family {
                        PLAIN => 0,
                        // Only the third tile of the decode family has room for more than 8 tokens.
                        DECODE if m > 8 => tile / 2 * 3,
                        _ => tile,
                    },
                    kind: crate::gemm_case::with_a_bound(kind, width),
                    bias: flags.1,
                    gaps: (gaps.0, gaps.1),
                    x_shift: gaps.2,
                    seed: u64::from(seed),
                    routed: false,
                }
            },
        );
    crate::gemm_case::check_generated(&strategy, 120);
}

/// Shapes of real models at least once: many rounds of K, many blocks of N.
#[test]
fn real_shapes_equal_the_mirror() {
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
            cases.push(Gemm {
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
                ..Gemm::default()
            });
            let last = cases.last_mut().unwrap();
            if last.width != Width::Bf16 {
                last.kind = Kind::Normal;
            }
        }
    }
    crate::gemm_case::check_all(Variant::Plain, &cases);
}

/// A row gives the same bits alone and among others: BF16 within a family, the quantized widths in all.
#[test]
fn a_row_does_not_depend_on_the_batch() {
    for_runners(Variant::Plain, |runner, architecture| {
        for (family, m) in [(DECODE, 16), (PREFILL, 70)] {
            for width in Width::ALL {
                for grouping in Grouping::ALL {
                    let many = Gemm {
                        m,
                        k: 400,
                        width,
                        grouping,
                        family,
                        symmetric: false,
                        ..Gemm::default()
                    };
                    let input = many.input();
                    let whole = many.run(runner, &input).unwrap();
                    for token in [0, m / 2 + 1, m - 1] {
                        let one = Gemm {
                            m: 1,
                            ..many.clone()
                        };
                        let input = Input {
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

/// Whatever the order of threads and of arriving copies is, the bits are the same.
#[test]
fn schedules_do_not_show_in_the_bits() {
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
                        let case = Gemm {
                            m: 9,
                            k: 300,
                            width,
                            family,
                            mode,
                            seed,
                            ..Gemm::default()
                        };
                        case.check(runner).unwrap();
                    }
                }
            }
        });
    }
}

/// The emulator itself: fragment layouts as CuTe's traits have them, collectives, and planted faults, each of which must be
/// caught by the builds that can see it.
#[test]
fn the_emulators_own_tests_pass() {
    for variant in Variant::ALL {
        build(Part::Tests, variant);
        for name in ["atoms", "collectives", "faults", "quantize", "warpgroup"] {
            let program = crate::runner::directory().join(format!("{name}-{}", variant.name()));
            if !program.exists() && variant != Variant::Plain {
                continue; // `build` has said why.
            }
            let output = std::process::Command::new(&program)
                .output()
                .unwrap_or_else(|e| panic!("{}: {e}", program.display()));
            let text = String::from_utf8_lossy(&output.stdout);
            println!("{text}");
            assert!(
                output.status.success(),
                "{name}-{}:\n{text}{}",
                variant.name(),
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
}
