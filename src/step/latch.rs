//! The latch for steps that run on the host: what kernels/ops/latch.cuh does on a GPU.

use std::time::{Duration, Instant};

use super::words::{Executed, Outcome, StepFlag};
use crate::Width;

/// Reads a flag once a step, counts the steps, and keeps the width of the one that runs.
///
/// ```
/// use std::time::Duration;
/// use w4ax::Width;
/// use w4ax::step::{HostLatch, Outcome, StepFlag};
/// let (flag, mut latch) = (StepFlag::new(), HostLatch::new(0));
/// flag.requested().store(0, Width::A8);
/// assert_eq!(latch.latch(&flag, Duration::ZERO).width, Width::A8);
/// // Nothing was stored for step 1: BF16, and who looks can tell.
/// let ran = latch.latch(&flag, Duration::ZERO);
/// assert_eq!(ran.width, Width::Bf16);
/// assert_ne!(ran.outcome, Outcome::OnTime);
/// assert_eq!(flag.executed(), Some(ran));
/// ```
#[derive(Clone, Debug)]
pub struct HostLatch {
    next: u32,
    width: Width,
}

impl HostLatch {
    /// A latch whose first step is `first`. Until then the width is BF16.
    pub fn new(first: u32) -> Self {
        Self {
            next: first,
            width: Width::Bf16,
        }
    }

    /// The width of the last step that was latched.
    pub fn width(&self) -> Width {
        self.width
    }

    /// Begins the next step: reads the flag, for at most `spin` until it holds the step's own word, and answers what runs.
    /// Anything but the step's own word is BF16.
    pub fn latch(&mut self, words: &StepFlag, spin: Duration) -> Executed {
        let sequence = self.next;
        self.next = sequence.wrapping_add(1);
        let mut begin = None;
        let word = loop {
            let word = words.requested().load_word();
            if spin.is_zero() || Outcome::of(word, sequence) == Outcome::OnTime {
                break word;
            }
            if begin.get_or_insert_with(Instant::now).elapsed() >= spin {
                break word;
            }
            std::thread::yield_now();
        };
        let executed = Executed {
            sequence,
            width: word.width_for(sequence),
            outcome: Outcome::of(word, sequence),
        };
        self.width = executed.width;
        words.record(executed);
        executed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FlagWord;

    #[test]
    fn steps_are_counted_and_only_their_own_word_counts() {
        let words = StepFlag::new();
        let mut latch = HostLatch::new(u32::MAX - 1);
        let mut expect = |sequence, width, outcome| {
            let expected = Executed {
                sequence,
                width,
                outcome,
            };
            assert_eq!(latch.latch(&words, Duration::ZERO), expected);
            assert_eq!(words.executed(), Some(expected));
            assert_eq!(latch.width(), width);
        };
        expect(u32::MAX - 1, Width::Bf16, Outcome::Unwritten);
        words.requested().store(u32::MAX, Width::A4);
        expect(u32::MAX, Width::A4, Outcome::OnTime);
        expect(0, Width::Bf16, Outcome::Stale);
        words.requested().store(2, Width::A2);
        expect(1, Width::Bf16, Outcome::Future);
        expect(2, Width::A2, Outcome::OnTime);
        words
            .requested()
            .store_word(FlagWord::from_bits(3 << 32 | 5));
        expect(3, Width::Bf16, Outcome::Invalid);
    }

    #[test]
    fn a_spin_ends_with_the_word_or_without_it() {
        let words = StepFlag::new();
        let mut latch = HostLatch::new(0);
        let ran = latch.latch(&words, Duration::from_millis(1));
        assert_eq!(ran.outcome, Outcome::Unwritten);
        let ran = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| latch.latch(&words, Duration::from_secs(60)));
            words.requested().store(1, Width::A8);
            waiting.join().expect("a latch does not panic")
        });
        assert_eq!((ran.width, ran.outcome), (Width::A8, Outcome::OnTime));
    }
}
