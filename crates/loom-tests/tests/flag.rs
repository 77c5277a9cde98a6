//! The flag and the latch under every order that the memory model allows: a thread that sees a word
//! also sees what was written before it. x86 cannot show a missing Release store, loom can.

#![cfg(loom)]

use std::time::Duration;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
use w4ax::Width;
use w4ax::step::{HostLatch, Outcome, StepFlag};

#[derive(Default)]
struct Shared {
    words: StepFlag,
    /// Written by the host before it stores a word.
    observation: AtomicU32,
    /// Written by a step before the latch reports the next step.
    result: AtomicU32,
}

/// Two steps race with their words: each runs at the width of its own word or at BF16, and sees
/// what preceded the word.
#[test]
fn latched_word_publishes_earlier_writes() {
    loom::model(|| {
        let shared = Arc::new(Shared::default());
        let host = {
            let shared = shared.clone();
            thread::spawn(move || {
                for (step, width) in [(0, Width::A4), (1, Width::A8)] {
                    shared.observation.store(step + 1, Ordering::Relaxed);
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
                assert!(shared.observation.load(Ordering::Relaxed) > step);
            } else {
                assert_eq!(ran.width, Width::Bf16);
            }
        }
        host.join().unwrap();
    });
}

/// A host that reads the report of a step sees the results of the steps before it.
#[test]
fn step_report_publishes_earlier_results() {
    loom::model(|| {
        let shared = Arc::new(Shared::default());
        shared.words.requested().store(0, Width::A2);
        let steps = {
            let shared = shared.clone();
            thread::spawn(move || {
                let mut latch = HostLatch::new(0);
                for step in 0..2 {
                    latch.latch(&shared.words, Duration::ZERO);
                    shared.result.store(step + 1, Ordering::Relaxed);
                }
            })
        };
        if let Some(executed) = shared.words.executed() {
            let result = shared.result.load(Ordering::Relaxed);
            assert!(result >= executed.sequence);
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
