//! The latch: reads the flag once per step, and sets the width for all kernels of the step.

use crate::abi::*;
use crate::build::Variant;
use crate::gemm_case::{expect_ok, for_runners};
use crate::runner::{Reply, Request, Runner};
use w4ax::{FlagWord, Width};

// `w4axk_outcome`.
const ON_TIME: u64 = 0;
const UNWRITTEN: u64 = 1;
const INVALID: u64 = 2;
const STALE: u64 = 3;
const FUTURE: u64 = 4;
const FORCED: u64 = 5;

/// The state that a latch writes.
#[derive(Debug, PartialEq)]
pub struct Latched {
    pub bits: u64,
    outcome: u64,
    sequence: u32,
}

impl Latched {
    /// Reads the state and the word for the host, which must agree.
    pub fn of(reply: &Reply, before: u32) -> Self {
        let state = reply.output::<u64>("latch");
        let executed = reply.output::<u64>("executed")[0];
        assert_eq!(
            state[0],
            executed & !0xFF00,
            "the word for the host differs from the state"
        );
        assert_eq!(
            state[1],
            u64::from(before.wrapping_add(1)),
            "the number of the next step"
        );
        Self {
            bits: executed & 0xFF,
            outcome: executed >> 8 & 0xFFFF,
            sequence: (executed >> 32) as u32,
        }
    }
}

/// Returns a call of a function that latches, with the latch's buffers. `next` is the number of the
/// step.
pub fn latch_request(function: &'static str, next: u32) -> Request {
    Request::new(function)
        .output("latch", &[0xDEAD_BEEFu64, u64::from(next)], 16)
        .output("executed", &[u64::MAX], 8)
}

/// Runs a latch for step `next` with `word` in the flag.
fn latch(runner: &mut Runner, next: u32, word: u64) -> Latched {
    let case = latch_request("latch", next).input("flag", &[word], 8);
    Latched::of(&expect_ok(runner.run(&case).unwrap()).unwrap(), next)
}

#[test]
fn accepts_only_word_of_its_step() {
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
                    // The host interprets the word alike.
                    let host = FlagWord::from_bits(word).width_for(sequence);
                    assert_eq!(u64::from(host.bits()), bits, "{word:#x}");
                };
                for width in Width::ALL {
                    let word = |of| FlagWord::encode(of, width).to_bits();
                    expect(word(sequence), u64::from(width.bits()), ON_TIME);
                    expect(word(sequence.wrapping_sub(1)), 16, STALE);
                    expect(word(sequence.wrapping_sub(1000)), 16, STALE);
                    expect(word(sequence.wrapping_add(1)), 16, FUTURE);
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

/// The flag changes between steps. Step numbers wrap.
#[test]
fn follows_flag_across_sequence_wrap() {
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
            assert_eq!(ran.outcome == ON_TIME, step % 5 != 4);
            assert_eq!(ran.sequence, next);
            next = next.wrapping_add(1);
        }
    });
}

/// The word may arrive while the latch spins. The spin ends without it after its time.
///
/// The host's store races with the latch's loads: under TSan a load that is not atomic is reported.
#[test]
fn spin_ends_with_word_or_timeout() {
    for variant in Variant::ALL {
        for_runners(variant, |runner, _| {
            let word = |of: u32| FlagWord::encode(of, Width::A4).to_bits();
            let mut spin = |first: u64, late: Option<u64>, spin_us: u64| {
                let mut case = latch_request("latch", 8)
                    .output("flag", &[first], 8)
                    .arg("spin_us", spin_us);
                if let Some(late) = late {
                    case = case.arg("late_word", late).arg("late_after", 3);
                }
                let reply = expect_ok(runner.run(&case).unwrap()).unwrap();
                let ran = Latched::of(&reply, 8);
                (ran.bits, ran.outcome, reply.values["flag_loads"])
            };
            for before in [0, word(7), word(9), 8 << 32 | 5] {
                let (bits, outcome, loads) = spin(before, Some(word(8)), 1_000_000);
                assert_eq!((bits, outcome), (4, ON_TIME), "{before:#x}");
                assert!(loads >= 4, "{before:#x}: {loads} loads");
            }
            assert_eq!(spin(word(8), None, 1_000_000), (4, ON_TIME, 1));
            let (bits, outcome, loads) = spin(word(7), None, 200);
            assert_eq!((bits, outcome), (16, STALE));
            assert!(loads >= 2, "{loads} loads");
            assert_eq!(spin(word(7), None, 0), (16, STALE, 1));
        });
    }
}

#[test]
fn forced_width_overrides_flag() {
    for_runners(Variant::Plain, |runner, _| {
        for width in Width::ALL {
            // The flag is optional.
            for flag in [None, Some(FlagWord::encode(3, Width::A8).to_bits())] {
                let mut case = latch_request("latch", 3).arg("forced", width.bits());
                if let Some(word) = flag {
                    case = case.input("flag", &[word], 8);
                }
                let ran = Latched::of(&expect_ok(runner.run(&case).unwrap()).unwrap(), 3);
                assert_eq!((ran.bits, ran.outcome), (u64::from(width.bits()), FORCED));
            }
        }
    });
}

/// A SWITCH node receives the index of the width. Of four IF nodes, one receives 1. The width is
/// BF16 if the word is not of this step.
#[test]
fn sets_conditional_nodes() {
    for_runners(Variant::Plain, |runner, _| {
        for (at, width) in Width::ALL.into_iter().enumerate() {
            assert_eq!(width, [Width::A2, Width::A4, Width::A8, Width::Bf16][at]);
            for (of, index) in [(5, at as u64), (4, 3)] {
                for count in [1u64, 4] {
                    let case = latch_request("latch", 5)
                        .input("flag", &[FlagWord::encode(of, width).to_bits()], 8)
                        .arg("conditional_count", count);
                    let reply = expect_ok(runner.run(&case).unwrap()).unwrap();
                    assert_eq!(reply.values["conditionals_set"], count);
                    if count == 1 {
                        assert_eq!(reply.values["conditional0"], index);
                    } else {
                        let values: Vec<_> = (0..4)
                            .map(|i| reply.values[&format!("conditional{i}")])
                            .collect();
                        let expected: Vec<_> = (0..4).map(|i| u64::from(i == index)).collect();
                        assert_eq!(values, expected);
                    }
                }
            }
        }
        let case = latch_request("latch", 5).input("flag", &[0u64], 8);
        let reply = expect_ok(runner.run(&case).unwrap()).unwrap();
        assert_eq!(reply.values["conditionals_set"], 0);

        // A further graph of the same step takes the same branch, and starts no step.
        for (at, width) in Width::ALL.into_iter().enumerate() {
            let state = [7u64 << 32 | u64::from(width.bits()), 8];
            let case = Request::new("latch")
                .output("latch", &state, 16)
                .arg("forced", LATCHED)
                .arg("conditional_count", 1);
            let reply = expect_ok(runner.run(&case).unwrap()).unwrap();
            assert_eq!(reply.values["conditional0"], at as u64);
            assert_eq!(reply.output::<u64>("latch"), state);
            assert_eq!(reply.values["flag_loads"], 0);
        }
    });
}

#[test]
fn rejects_invalid_arguments() {
    for_runners(Variant::Plain, |runner, _| {
        let mut status = |request: &Request| runner.run(request).unwrap().status;
        let flag = || latch_request("latch", 0).input("flag", &[0u64], 8);
        assert_eq!(status(&latch_request("latch", 0)), NULL_POINTER);
        assert_eq!(
            status(&Request::new("latch").input("flag", &[0u64], 8)),
            NULL_POINTER
        );
        assert_eq!(status(&flag().arg("forced", 3)), BAD_WIDTH);
        assert_eq!(status(&flag().arg("forced", LATCHED)), BAD_FLAGS);
        assert_eq!(status(&flag().arg("conditional_count", 2)), BAD_FLAGS);
        assert_eq!(status(&flag().arg("spin_us", 1_000_001)), BAD_FLAGS);
        assert_eq!(status(&flag().arg("latch_flags", 2)), BAD_FLAGS);
        assert_eq!(status(&flag().arg("reserved", 1)), BAD_FLAGS);
        let shifted = latch_request("latch", 0).buffer("flag", &[0; 8], 8, 4, false);
        assert_eq!(status(&shifted), MISALIGNED);
    });
}
