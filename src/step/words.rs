//! The two words of a control step: the requested width and the executed width.

use crate::flag::{AtomicU64, Ordering};
use crate::{FlagWord, Width, WidthFlag};

/// The reason for the width of a step. The width is BF16 for all but [`Outcome::OnTime`] and
/// [`Outcome::ByHost`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The flag held the word of this step.
    OnTime,
    /// The flag was never written, or was cleared.
    Unwritten,
    /// The flag held an invalid word.
    Invalid,
    /// The flag held the word of an earlier step: no decision was stored for this step before the
    /// latch read the flag.
    Stale,
    /// The flag held the word of a later step: the sequence number of this step was skipped.
    Future,
    /// The host selected the width, and the step did not read the flag.
    ByHost,
}

impl Outcome {
    const ALL: [Self; 6] = [
        Self::OnTime,
        Self::Unwritten,
        Self::Invalid,
        Self::Stale,
        Self::Future,
        Self::ByHost,
    ];

    /// Classifies a flag's word for step `sequence`. Sequence numbers wrap, so the shorter distance
    /// decides which step is earlier.
    pub const fn of(word: FlagWord, sequence: u32) -> Self {
        match word.decode() {
            _ if word.to_bits() == FlagWord::UNWRITTEN.to_bits() => Self::Unwritten,
            None => Self::Invalid,
            Some((of, _)) if of == sequence => Self::OnTime,
            Some((of, _)) if (of.wrapping_sub(sequence) as i32) < 0 => Self::Stale,
            Some(_) => Self::Future,
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::OnTime => "on time",
            Self::Unwritten => "unwritten",
            Self::Invalid => "invalid",
            Self::Stale => "stale",
            Self::Future => "future",
            Self::ByHost => "by host",
        })
    }
}

/// The width of a step, as its latch recorded it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Executed {
    /// The number of the step. A latch counts its steps.
    pub sequence: u32,
    /// The width that the step ran at.
    pub width: Width,
    /// The reason for the width.
    pub outcome: Outcome,
}

impl Executed {
    /// Encodes the word: sequence in bits 63..32, outcome in 31..8 (0 to 5 in the order of
    /// [`Outcome`]), width in 7..0. The word of a step that was on time equals its [`FlagWord`].
    pub const fn to_bits(self) -> u64 {
        (self.sequence as u64) << 32 | (self.outcome as u64) << 8 | self.width.bits() as u64
    }

    /// Decodes a word. `None` if the word is invalid or was never written.
    pub fn from_bits(word: u64) -> Option<Self> {
        let outcome = *Outcome::ALL.get((word as u32 >> 8) as usize)?;
        let (sequence, width) = FlagWord::from_bits(word & !0xFFFF_FF00).decode()?;
        Some(Self {
            sequence,
            width,
            outcome,
        })
    }
}

/// A value on cache lines of its own. The host writes one word and a device the other, so sharing a
/// line would slow both.
#[repr(align(128))]
#[derive(Debug, Default)]
struct CacheLine<T>(T);

/// The two words of a control step: the requested width, which the host stores, and the executed
/// width, which the step's latch stores. Each is one atomic word.
///
/// The words are in ordinary memory here. `cuda::MappedFlag` holds the same words in pinned memory
/// that a GPU maps.
///
/// ```
/// use std::time::Duration;
/// use w4ax::Width;
/// use w4ax::step::{HostLatch, Outcome, StepFlag};
/// let flag = StepFlag::new();
/// assert_eq!(flag.executed(), None); // No step ran yet.
/// flag.requested().store(0, Width::A4); // The decision for step 0.
/// HostLatch::new(0).latch(&flag, Duration::ZERO); // Step 0 begins.
/// let step = flag.executed().expect("a step was latched");
/// assert_eq!((step.sequence, step.width, step.outcome), (0, Width::A4, Outcome::OnTime));
/// ```
#[derive(Debug, Default)]
#[repr(C)]
pub struct StepFlag {
    requested: CacheLine<WidthFlag>,
    executed: CacheLine<AtomicU64>,
}

// Atomics of loom are larger.
#[cfg(not(loom))]
const _: () = assert!(size_of::<StepFlag>() == 256 && align_of::<StepFlag>() == 128);

impl StepFlag {
    /// Offset in bytes of the word that the latch stores.
    #[cfg(feature = "cuda")]
    pub(crate) const EXECUTED: usize = std::mem::offset_of!(Self, executed);

    /// Creates two unwritten words.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the flag in which decisions are stored.
    pub fn requested(&self) -> &WidthFlag {
        &self.requested.0
    }

    /// Returns the last latched step, or `None` before the first step. One Acquire load, which also
    /// makes the host memory written by the previous step visible.
    ///
    /// A gap in the sequence numbers means that steps ran between two calls. An outcome other than
    /// [`Outcome::OnTime`] means that the host skipped or repeated a sequence number, or was late.
    pub fn executed(&self) -> Option<Executed> {
        Executed::from_bits(self.executed.0.load(Ordering::Acquire))
    }

    /// Records that the host selected the width of step `sequence` without the flag
    /// ([`Outcome::ByHost`]). One Release store.
    pub fn record_by_host(&self, sequence: u32, width: Width) {
        self.record(Executed {
            sequence,
            width,
            outcome: Outcome::ByHost,
        });
    }

    /// Stores the latch's result. One Release store.
    pub(crate) fn record(&self, executed: Executed) {
        self.executed.0.store(executed.to_bits(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn outcomes_have_the_numbers_of_the_device_code() {
        for (at, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, at);
        }
        let executed = Executed {
            sequence: 7,
            width: Width::Bf16,
            outcome: Outcome::Stale,
        };
        assert_eq!(executed.to_bits(), 0x7_0000_0310);
        assert_eq!(StepFlag::new().executed(), None);
    }

    proptest! {
        #[test]
        fn decodes_only_words_that_a_step_encodes_to(
            high: u32,
            low in prop_oneof![0u32..=0x600, any::<u32>()],
        ) {
            let word = u64::from(high) << 32 | u64::from(low);
            if let Some(executed) = Executed::from_bits(word) {
                prop_assert_eq!(executed.to_bits(), word);
                prop_assert_eq!(executed.sequence, high);
            } else {
                prop_assert!(low >> 8 > 5 || ![2, 4, 8, 16].contains(&(low & 0xFF)));
            }
        }

        #[test]
        fn only_the_word_of_the_step_is_on_time(word: u64, sequence: u32, near in -3i32..=3) {
            let own = FlagWord::encode(sequence.wrapping_add_signed(near), Width::A4);
            let expected = match near {
                0 => Outcome::OnTime,
                ..0 => Outcome::Stale,
                _ => Outcome::Future,
            };
            prop_assert_eq!(Outcome::of(own, sequence), expected);
            let word = FlagWord::from_bits(word);
            let on_time = Outcome::of(word, sequence) == Outcome::OnTime;
            prop_assert_eq!(on_time, word.decode().is_some_and(|(of, _)| of == sequence));
        }
    }
}
