//! The latch and the routed kernels, by the emulator of `kernels/emulate`: one launch that runs whatever width the flag says.
//!
//! A routed kernel must give the bits of the kernel of one width, which must be the scalar mirror's, in every step.

use crate::gemm_case::{
    AUTO, DECODE, FUSED, Gemm, LATCHED, PACKED, PLAIN, PREFILL, check_all, expect_ok, for_runners,
};
use crate::runner::{Answer, Case, Runner, Variant};
use half::bf16;
use proptest::prelude::*;
use test_support::{Kind, bits};

use w4ax::reference;
use w4ax::{FlagWord, Grouping, MatRef, ScaleType, Width};

/// Statuses of `w4axk_status`.
const NULL_POINTER: i32 = 1;
const BAD_WIDTH: i32 = 4;
const BAD_MODE: i32 = 8;
const BAD_TILE: i32 = 9;
const BAD_FLAGS: i32 = 10;
const MISALIGNED: i32 = 11;
const WORKSPACE_TOO_SMALL: i32 = 13;

/// Outcomes of `w4axk_outcome`.
const AS_ASKED: u64 = 0;
const UNWRITTEN: u64 = 1;
const INVALID: u64 = 2;
const EARLIER: u64 = 3;
const LATER: u64 = 4;
const BY_HOST: u64 = 5;

/// Every routed kernel at each width: what the table picks, and what a caller may ask for.
fn matrix() -> Vec<Gemm> {
    let mut cases = Vec::new();
    for width in Width::ALL {
        for grouping in Grouping::ALL {
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
                let at = cases.len() as u64;
                cases.push(Gemm {
                    m,
                    k,
                    width,
                    grouping,
                    family,
                    mode,
                    tile,
                    routed: true,
                    symmetric: at.is_multiple_of(2),
                    scale_type: [ScaleType::Bf16, ScaleType::F16, ScaleType::F32][at as usize % 3],
                    bias: at.is_multiple_of(5),
                    kind: [Kind::Normal, Kind::Zeros][at as usize / 3 % 2],
                    seed: at,
                    ..Gemm::default()
                });
            }
        }
    }
    cases
}

#[test]
fn every_routed_kernel_equals_the_mirror() {
    check_all(Variant::Plain, &matrix());
}

#[test]
fn every_routed_kernel_is_clean_under_asan_and_ubsan() {
    check_all(Variant::Address, &matrix());
}

#[test]
fn every_routed_kernel_is_clean_under_tsan() {
    check_all(Variant::Thread, &matrix());
}

/// The kernels of one width in the table's own mode: the workspace is as large as the plan says, and no larger.
#[test]
fn generated_cases_equal_the_mirror() {
    let strategy = (
        (1usize..40, 1usize..130, 1usize..500),
        proptest::sample::select(Width::ALL.to_vec()),
        proptest::sample::select(Grouping::ALL.to_vec()),
        (any::<bool>(), any::<bool>(), any::<bool>()),
        (0u32..=3, 0u32..3),
        (0usize..9, 0usize..9, 0usize..8),
        any::<u32>(),
    )
        .prop_map(|(shape, width, grouping, flags, how, gaps, seed)| {
            let (m, n, k) = shape;
            let (family, tile) = how;
            let m = if family == DECODE { m.min(16) } else { m };
            Gemm {
                m,
                n,
                k,
                width,
                grouping,
                symmetric: flags.0,
                bias: flags.1,
                routed: flags.2,
                family,
                mode: AUTO,
                // Tiles of a family that is not named are the table's. Only the third of the decode family has room for more
                // than 8 tokens, and routed it does not quantize what it reads.
                tile: match family {
                    DECODE if m > 8 => tile / 2 * 3,
                    DECODE | PREFILL => tile,
                    _ => 0,
                },
                gaps: (gaps.0, gaps.1),
                x_shift: gaps.2,
                seed: u64::from(seed),
                ..Gemm::default()
            }
        });
    crate::gemm_case::check_generated(&strategy, 100);
}

/// Same bits as the kernel of that width, BF16 on any values too.
#[test]
fn a_routed_kernel_has_the_bits_of_the_kernel_of_that_width() {
    for_runners(Variant::Plain, |runner, architecture| {
        for (m, family, mode) in [
            (1, DECODE, AUTO),
            (9, DECODE, AUTO),
            (40, PREFILL, AUTO),
            (130, PREFILL, AUTO),
        ] {
            for width in Width::ALL {
                for grouping in Grouping::ALL {
                    let direct = Gemm {
                        m,
                        k: 400,
                        width,
                        grouping,
                        family,
                        mode,
                        symmetric: false,
                        ..Gemm::default()
                    };
                    let routed = Gemm {
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

/// What a latch leaves.
#[derive(Debug, PartialEq)]
struct Latched {
    bits: u64,
    outcome: u64,
    sequence: u32,
}

impl Latched {
    /// From the state and the word for the host, which must agree.
    fn of(answer: &Answer, before: u32) -> Self {
        let state = answer.output::<u64>("latch");
        let executed = answer.output::<u64>("executed")[0];
        assert_eq!(state[0], executed & !0xFF00, "the host is told otherwise");
        assert_eq!(
            state[1],
            u64::from(before.wrapping_add(1)),
            "steps are counted"
        );
        Self {
            bits: executed & 0xFF,
            outcome: executed >> 8 & 0xFFFF,
            sequence: (executed >> 32) as u32,
        }
    }
}

fn latch_case(function: &'static str, next: u32) -> Case {
    Case::new(function)
        .output("latch", &[0xDEAD_BEEFu64, u64::from(next)], 16)
        .output("executed", &[u64::MAX], 8)
}

fn latch(runner: &mut Runner, next: u32, word: u64) -> Latched {
    let case = latch_case("latch", next).input("flag", &[word], 8);
    Latched::of(&expect_ok(runner.run(&case).unwrap()).unwrap(), next)
}

#[test]
fn the_latch_takes_its_own_steps_word_and_no_other() {
    for variant in Variant::ALL {
        for_runners(variant, |runner, _| {
            for sequence in [0, 1, 77, u32::MAX - 1, u32::MAX] {
                let mut expect = |word: u64, bits, outcome| {
                    let expected = Latched {
                        bits,
                        outcome,
                        sequence,
                    };
                    assert_eq!(latch(runner, sequence, word), expected, "{word:#x}");
                    // The host's reading of a word is the same.
                    let host = FlagWord::from_bits(word).width_for(sequence);
                    assert_eq!(u64::from(host.bits()), bits, "{word:#x}");
                };
                for width in Width::ALL {
                    let word = |of| FlagWord::encode(of, width).to_bits();
                    expect(word(sequence), u64::from(width.bits()), AS_ASKED);
                    expect(word(sequence.wrapping_sub(1)), 16, EARLIER);
                    expect(word(sequence.wrapping_sub(1000)), 16, EARLIER);
                    expect(word(sequence.wrapping_add(1)), 16, LATER);
                    expect(word(sequence) | 1 << 8, 16, INVALID);
                    expect(word(sequence) | 1 << 31, 16, INVALID);
                }
                expect(0, 16, UNWRITTEN);
                for low in [1, 3, 5, 6, 7, 9, 12, 15, 17, 32, 64, 128, 255] {
                    expect(u64::from(sequence) << 32 | low, 16, INVALID);
                }
            }
        });
    }
}

/// The flag changes between steps; what each runs is what it was told, and steps are counted across the wrap.
#[test]
fn steps_follow_the_flag() {
    for_runners(Variant::Plain, |runner, _| {
        let mut next = u32::MAX - 20;
        for step in 0..60u64 {
            let width = Width::ALL[(step * 7 % 4) as usize];
            let word = match step % 5 {
                4 => FlagWord::encode(next.wrapping_sub(1), width),
                _ => FlagWord::encode(next, width),
            };
            let ran = latch(runner, next, word.to_bits());
            assert_eq!(ran.bits, u64::from(word.width_for(next).bits()));
            assert_eq!(ran.outcome == AS_ASKED, step % 5 != 4);
            assert_eq!(ran.sequence, next);
            next = next.wrapping_add(1);
        }
    });
}

/// The word may come while the latch spins; a spin ends without it. The host's store races with the looks of the latch, so
/// under TSan an unordered look would be a report.
#[test]
fn a_spinning_latch_waits_for_the_word_and_not_for_ever() {
    for variant in Variant::ALL {
        for_runners(variant, |runner, _| {
            let word = |of: u32| FlagWord::encode(of, Width::A4).to_bits();
            let mut spin = |first: u64, late: Option<u64>, spin_us: u64| {
                let mut case = latch_case("latch", 8)
                    .output("flag", &[first], 8)
                    .arg("spin_us", spin_us);
                if let Some(late) = late {
                    case = case.arg("late_word", late).arg("late_after", 3);
                }
                let answer = expect_ok(runner.run(&case).unwrap()).unwrap();
                let ran = Latched::of(&answer, 8);
                (ran.bits, ran.outcome, answer.values["flag_loads"])
            };
            for before in [0, word(7), word(9), 8 << 32 | 5] {
                let (bits, outcome, loads) = spin(before, Some(word(8)), 1_000_000);
                assert_eq!((bits, outcome), (4, AS_ASKED), "{before:#x}");
                assert!(loads >= 4, "{before:#x}: {loads} looks");
            }
            assert_eq!(spin(word(8), None, 1_000_000), (4, AS_ASKED, 1));
            let (bits, outcome, loads) = spin(word(7), None, 200);
            assert_eq!((bits, outcome), (16, EARLIER));
            assert!(loads >= 2, "{loads} looks");
            assert_eq!(spin(word(7), None, 0), (16, EARLIER, 1));
        });
    }
}

#[test]
fn a_forced_width_runs_whatever_the_flag_says() {
    for_runners(Variant::Plain, |runner, _| {
        for width in Width::ALL {
            // The flag may be left out.
            for flag in [None, Some(FlagWord::encode(3, Width::A8).to_bits())] {
                let mut case = latch_case("latch", 3).arg("forced", width.bits());
                if let Some(word) = flag {
                    case = case.input("flag", &[word], 8);
                }
                let ran = Latched::of(&expect_ok(runner.run(&case).unwrap()).unwrap(), 3);
                assert_eq!((ran.bits, ran.outcome), (u64::from(width.bits()), BY_HOST));
            }
        }
    });
}

/// One SWITCH node gets the number of the width, four IF nodes get one 1: BF16 where the word is not this step's.
#[test]
fn the_latch_sets_the_nodes_of_a_graph() {
    for_runners(Variant::Plain, |runner, _| {
        for (at, width) in Width::ALL.into_iter().enumerate() {
            assert_eq!(width, [Width::A2, Width::A4, Width::A8, Width::Bf16][at]);
            for (of, index) in [(5, at as u64), (4, 3)] {
                for count in [1u64, 4] {
                    let case = latch_case("latch", 5)
                        .input("flag", &[FlagWord::encode(of, width).to_bits()], 8)
                        .arg("conditional_count", count);
                    let answer = expect_ok(runner.run(&case).unwrap()).unwrap();
                    assert_eq!(answer.values["conditionals_set"], count);
                    if count == 1 {
                        assert_eq!(answer.values["conditional0"], index);
                    } else {
                        let values: Vec<_> = (0..4)
                            .map(|i| answer.values[&format!("conditional{i}")])
                            .collect();
                        let expected: Vec<_> = (0..4).map(|i| u64::from(i == index)).collect();
                        assert_eq!(values, expected);
                    }
                }
            }
        }
        let case = latch_case("latch", 5).input("flag", &[0u64], 8);
        let answer = expect_ok(runner.run(&case).unwrap()).unwrap();
        assert_eq!(answer.values["conditionals_set"], 0);

        // A further graph of the same step: the same branch, and no new step.
        for (at, width) in Width::ALL.into_iter().enumerate() {
            let state = [7u64 << 32 | u64::from(width.bits()), 8];
            let case = Case::new("latch")
                .output("latch", &state, 16)
                .arg("forced", LATCHED)
                .arg("conditional_count", 1);
            let answer = expect_ok(runner.run(&case).unwrap()).unwrap();
            assert_eq!(answer.values["conditional0"], at as u64);
            assert_eq!(answer.output::<u64>("latch"), state);
            assert_eq!(answer.values["flag_loads"], 0);
        }
    });
}

/// A latch and the step's GEMM in one stream, the GEMM with programmatic dependent launch: it must wait before it asks for
/// the width, which TSan would report else.
#[test]
fn a_step_runs_at_the_width_of_its_latch() {
    const PDL: u32 = 1;
    for variant in Variant::ALL {
        for_runners(variant, |runner, architecture| {
            for (m, grouping) in [
                (1, Grouping::G128),
                (2, Grouping::PerChannel),
                (9, Grouping::G64),
                (40, Grouping::G32),
                (20, Grouping::PerChannel),
            ] {
                for word in [
                    FlagWord::encode(6, Width::A2),
                    FlagWord::encode(6, Width::A4),
                    FlagWord::encode(6, Width::A8),
                    FlagWord::encode(5, Width::A8),
                ] {
                    let gemm = Gemm {
                        m,
                        k: 400,
                        grouping,
                        width: word.width_for(6),
                        family: AUTO,
                        mode: AUTO,
                        // BF16 is compared exactly, on integers.
                        kind: match word.width_for(6) {
                            Width::Bf16 => Kind::Zeros,
                            _ => Kind::Normal,
                        },
                        ..Gemm::default()
                    };
                    let input = gemm.input();
                    let mut case = gemm
                        .weight_buffers(latch_case("step", 6), &input)
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
                    let answer = expect_ok(runner.run(&case).unwrap()).unwrap();
                    let x = MatRef::new(&input.x, m, gemm.k).unwrap();
                    let expected = reference::gemm(x, &input.weight, gemm.width, None).unwrap();
                    let name = variant.name();
                    let got = answer.output::<bf16>("y");
                    assert_eq!(
                        bits(&got),
                        bits(&expected),
                        "{name} {architecture} {gemm:?}"
                    );
                    let ran = Latched::of(&answer, 6);
                    assert_eq!(ran.bits, u64::from(gemm.width.bits()));
                }
            }
        });
    }
}

/// What cannot run is a status.
#[test]
fn wrong_arguments_are_refused() {
    for_runners(Variant::Plain, |runner, _| {
        let routed = Gemm {
            m: 5,
            routed: true,
            family: AUTO,
            mode: AUTO,
            ..Gemm::default()
        };
        let mut status = |case: &Case| runner.run(case).unwrap().status;
        // Fused, where the kernels that there are take packed activations.
        for (family, m) in [(DECODE, 9), (PREFILL, 20)] {
            let gemm = Gemm {
                m,
                family,
                mode: FUSED,
                ..routed.clone()
            };
            assert_eq!(status(&gemm.arguments("plan_gemm")), BAD_MODE, "{gemm:?}");
        }
        let large_tile = Gemm {
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
        let direct = Gemm {
            routed: false,
            ..routed.clone()
        };
        let no_latch = direct
            .weight_buffers(direct.arguments("gemm"), &input)
            .input("x", x, 16)
            .output("y", &y, 16)
            .arg("width", LATCHED);
        assert_eq!(status(&no_latch), NULL_POINTER);

        let flag = || latch_case("latch", 0).input("flag", &[0u64], 8);
        assert_eq!(status(&latch_case("latch", 0)), NULL_POINTER);
        assert_eq!(
            status(&Case::new("latch").input("flag", &[0u64], 8)),
            NULL_POINTER
        );
        assert_eq!(status(&flag().arg("forced", 3)), BAD_WIDTH);
        assert_eq!(status(&flag().arg("forced", LATCHED)), BAD_FLAGS);
        assert_eq!(status(&flag().arg("conditional_count", 2)), BAD_FLAGS);
        assert_eq!(status(&flag().arg("spin_us", 1_000_001)), BAD_FLAGS);
        assert_eq!(status(&flag().arg("latch_flags", 2)), BAD_FLAGS);
        assert_eq!(status(&flag().arg("reserved", 1)), BAD_FLAGS);
        let shifted = latch_case("latch", 0).buffer("flag", &[0; 8], 8, 4, false);
        assert_eq!(status(&shifted), MISALIGNED);
    });
}
