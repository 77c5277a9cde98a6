//! The latch of steps that run on the host. A kernel does the same on a GPU.

use std::time::{Duration, Instant};

use super::words::{Executed, Outcome, StepFlag};
use crate::Width;

/// Reads a flag once per step, counts the steps, and holds the width of the current step.
///
/// ```
/// use std::time::Duration;
/// use w4ax::Width;
/// use w4ax::step::{HostLatch, Outcome, StepFlag};
/// let (flag, mut latch) = (StepFlag::new(), HostLatch::new(0));
/// flag.requested().store(0, Width::A8);
/// assert_eq!(latch.latch(&flag, Duration::ZERO).width, Width::A8);
/// // No width was stored for step 1, so it runs at BF16.
/// let step = latch.latch(&flag, Duration::ZERO);
/// assert_eq!((step.width, step.outcome), (Width::Bf16, Outcome::Stale));
/// assert_eq!(flag.executed(), Some(step));
/// ```
#[derive(Clone, Debug)]
pub struct HostLatch {
    next: u32,
    width: Width,
}

impl HostLatch {
    /// Creates a latch whose first step has the number `first`. Its width is BF16 before that step.
    pub fn new(first: u32) -> Self {
        Self {
            next: first,
            width: Width::Bf16,
        }
    }

    /// Returns the width of the last latched step.
    pub fn width(&self) -> Width {
        self.width
    }

    /// Begins the next step and returns its width.
    ///
    /// Reads the flag until it holds the word of this step, for at most `spin`. Without that word
    /// the width is BF16.
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
    fn counts_steps_and_accepts_only_their_own_word() {
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
    fn spin_ends_when_the_word_arrives_or_time_is_up() {
        let words = StepFlag::new();
        let mut latch = HostLatch::new(0);
        let executed = latch.latch(&words, Duration::from_millis(1));
        assert_eq!(executed.outcome, Outcome::Unwritten);
        let executed = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| latch.latch(&words, Duration::from_secs(60)));
            words.requested().store(1, Width::A8);
            waiting.join().expect("a latch does not panic")
        });
        let width_and_outcome = (executed.width, executed.outcome);
        assert_eq!(width_and_outcome, (Width::A8, Outcome::OnTime));
    }
}
