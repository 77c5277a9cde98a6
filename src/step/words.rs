//! The two words of a control step: what was asked, and what ran.

use crate::flag::{AtomicU64, Ordering};
use crate::{FlagWord, Width, WidthFlag};

/// How a step came by its width. All but [`Outcome::OnTime`] and [`Outcome::ByHost`] ran at BF16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The flag's word was this step's.
    OnTime,
    /// The flag was never written, or taken back.
    Unwritten,
    /// The flag held a width that there is not.
    Invalid,
    /// The flag held an earlier step's word: no decision was stored for this one, or it came after the latch had read.
    Stale,
    /// The flag held a later step's word: this one's sequence was left out.
    Future,
    /// The host chose, and the flag was not read where the step runs.
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

    /// What a flag's word is to step `sequence`. Sequences wrap: the nearer way round says which came first.
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
            Self::OnTime => "as asked",
            Self::Unwritten => "nothing was asked",
            Self::Invalid => "an invalid word",
            Self::Stale => "an earlier step's word",
            Self::Future => "a later step's word",
            Self::ByHost => "by the host",
        })
    }
}

/// What a step ran at, as its latch wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Executed {
    /// The step: latches count them, one after the other.
    pub sequence: u32,
    /// The width that ran.
    pub width: Width,
    /// Why.
    pub outcome: Outcome,
}

impl Executed {
    /// The word: sequence in bits 63..32, outcome in 31..8 (0 to 5 in the order of [`Outcome`]), width in 7..0. A step that
    /// ran as asked has the [`FlagWord`] that asked.
    pub const fn to_bits(self) -> u64 {
        (self.sequence as u64) << 32 | (self.outcome as u64) << 8 | self.width.bits() as u64
    }

    /// `None` for a word that no latch has written.
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

/// Alone on its lines of the cache: the host writes one word, a device the other, many times a second.
#[repr(align(128))]
#[derive(Debug, Default)]
struct Line<T>(T);

/// The two words of a control step, each whole in one atomic load: the flag, which the host stores and the step's latch
/// reads, and the word with which the latch answers.
///
/// It lies in ordinary memory, as here, or in pinned memory that a GPU sees (`cuda::MappedFlag`): the same words, the same
/// rules.
///
/// ```
/// use std::time::Duration;
/// use w4ax::Width;
/// use w4ax::step::{HostLatch, Outcome, StepFlag};
/// let flag = StepFlag::new();
/// assert_eq!(flag.executed(), None); // Nothing ran.
/// flag.requested().store(0, Width::A4); // Who decides,
/// HostLatch::new(0).latch(&flag, Duration::ZERO); // who runs,
/// let ran = flag.executed().expect("a step"); // and who wants to know.
/// assert_eq!((ran.sequence, ran.width, ran.outcome), (0, Width::A4, Outcome::OnTime));
/// ```
#[derive(Debug, Default)]
#[repr(C)]
pub struct StepFlag {
    asked: Line<WidthFlag>,
    executed: Line<AtomicU64>,
}

// A word that loom looks after is larger.
#[cfg(not(loom))]
const _: () = assert!(size_of::<StepFlag>() == 256 && align_of::<StepFlag>() == 128);

impl StepFlag {
    /// Bytes from its start to the word that the latch writes.
    #[cfg(feature = "cuda")]
    pub(crate) const EXECUTED: usize = std::mem::offset_of!(Self, executed);

    /// Words that were never written.
    pub fn new() -> Self {
        Self::default()
    }

    /// The flag, to store decisions in.
    pub fn requested(&self) -> &WidthFlag {
        &self.asked.0
    }

    /// The last step that was latched, and at what it runs; `None` before the first. One Acquire load: what the step before
    /// it wrote to host memory is seen as well.
    ///
    /// A number that does not follow the one before shows steps that ran without being looked at. An outcome other than
    /// [`Outcome::OnTime`] shows that the host left a sequence out, stored one twice, or was late.
    pub fn executed(&self) -> Option<Executed> {
        Executed::from_bits(self.executed.0.load(Ordering::Acquire))
    }

    /// The latch's answer: one Release store.
    pub(crate) fn record(&self, executed: Executed) {
        self.executed.0.store(executed.to_bits(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn outcomes_have_the_numbers_of_the_device_side() {
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
        fn a_word_is_executed_only_if_some_step_encodes_to_it(high: u32, low in prop_oneof![0u32..=0x600, any::<u32>()]) {
            let word = u64::from(high) << 32 | u64::from(low);
            if let Some(executed) = Executed::from_bits(word) {
                prop_assert_eq!(executed.to_bits(), word);
                prop_assert_eq!(executed.sequence, high);
            } else {
                prop_assert!(low >> 8 > 5 || ![2, 4, 8, 16].contains(&(low & 0xFF)));
            }
        }

        #[test]
        fn only_a_steps_own_word_is_as_asked(word: u64, sequence: u32, near in -3i32..=3) {
            let own = FlagWord::encode(sequence.wrapping_add_signed(near), Width::A4);
            let expected = match near {
                0 => Outcome::OnTime,
                ..0 => Outcome::Stale,
                _ => Outcome::Future,
            };
            prop_assert_eq!(Outcome::of(own, sequence), expected);
            let word = FlagWord::from_bits(word);
            let asked = Outcome::of(word, sequence) == Outcome::OnTime;
            prop_assert_eq!(asked, word.decode().is_some_and(|(of, _)| of == sequence));
        }
    }
}
