//! The flag's word and the latch's answer in every order that the memory model allows: what was written before a word is
//! seen by who sees the word. x86 cannot show a store that is not released; loom can.
//!
//! `RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom cargo test --manifest-path tests/loom/Cargo.toml`; empty without that
//! flag.
#![cfg(loom)]

use std::time::Duration;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
use w4ax_loom::{HostLatch, Outcome, Width, StepFlag};

#[derive(Default)]
struct Shared {
    words: StepFlag,
    /// What the host writes before it stores a word: an observation, say.
    asked: AtomicU32,
    /// What a step writes before its latch answers.
    ran: AtomicU32,
}

/// Two steps, whose words come when they come: each runs at its own word or at BF16, and sees what came before it.
#[test]
fn a_step_that_sees_its_word_sees_what_came_before() {
    loom::model(|| {
        let shared = Arc::new(Shared::default());
        let host = {
            let shared = shared.clone();
            thread::spawn(move || {
                for (step, width) in [(0, Width::A4), (1, Width::A8)] {
                    shared.asked.store(step + 1, Ordering::Relaxed);
                    shared.words.requested().store(step, width);
                }
            })
        };
        let mut latch = HostLatch::new(0);
        for (step, width) in [(0, Width::A4), (1, Width::A8)] {
            let ran = latch.latch(&shared.words, Duration::ZERO);
            assert_eq!(ran.sequence, step);
            if ran.outcome == Outcome::OnTime {
                assert_eq!(ran.width, width);
                assert!(shared.asked.load(Ordering::Relaxed) > step);
            } else {
                assert_eq!(ran.width, Width::Bf16);
            }
        }
        host.join().unwrap();
    });
}

/// The host that sees an answer sees what the steps before it wrote.
#[test]
fn a_host_that_sees_the_answer_sees_the_results_before_it() {
    loom::model(|| {
        let shared = Arc::new(Shared::default());
        shared.words.requested().store(0, Width::A2);
        let steps = {
            let shared = shared.clone();
            thread::spawn(move || {
                let mut latch = HostLatch::new(0);
                for step in 0..2 {
                    latch.latch(&shared.words, Duration::ZERO);
                    shared.ran.store(step + 1, Ordering::Relaxed);
                }
            })
        };
        if let Some(executed) = shared.words.executed() {
            let ran = shared.ran.load(Ordering::Relaxed);
            assert!(ran >= executed.sequence);
            let expected = if executed.sequence == 0 {
                (Width::A2, Outcome::OnTime)
            } else {
                (Width::Bf16, Outcome::Stale)
            };
            assert_eq!((executed.width, executed.outcome), expected);
        }
        steps.join().unwrap();
    });
}
