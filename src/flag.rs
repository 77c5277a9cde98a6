//! The flag: the width of a step in one atomic 64-bit word (DyQ-VLA, section V-B).
//!
//! The dispatcher stores (sequence, width) before the step. The step loads the word and reads the
//! width for its own sequence number. Both are in one word, so a reader never sees one without the
//! other. The width of any other word, valid or not, is BF16.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU64, Ordering};

use crate::Width;

/// The encoding of (sequence, width).
///
/// | bits | content |
/// | --- | --- |
/// | 63..32 | sequence, the number of the step; wraps |
/// | 31..8 | 0 |
/// | 7..0 | width in bits: 2, 4, 8 or 16 |
///
/// Any other content is invalid. The word 0 was never written and is invalid as well. A word is
/// read by one aligned 64-bit load, in the byte order of the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct FlagWord(u64);

impl FlagWord {
    /// The word that was never written.
    pub const UNWRITTEN: Self = Self(0);

    /// Encodes the word of step `sequence`.
    pub const fn encode(sequence: u32, width: Width) -> Self {
        Self((sequence as u64) << 32 | width.bits() as u64)
    }

    /// Decodes (sequence, width). `None` if the word is invalid.
    pub const fn decode(self) -> Option<(u32, Width)> {
        let width = match self.0 as u32 {
            2 => Width::A2,
            4 => Width::A4,
            8 => Width::A8,
            16 => Width::Bf16,
            _ => return None,
        };
        Some(((self.0 >> 32) as u32, width))
    }

    /// Returns the width for step `sequence`. BF16 if the word is invalid or belongs to another
    /// step.
    pub const fn width_for(self, sequence: u32) -> Width {
        match self.decode() {
            Some((of, width)) if of == sequence => width,
            _ => Width::Bf16,
        }
    }

    /// Creates a word from its bits, valid or not.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Returns the bits of the word.
    pub const fn to_bits(self) -> u64 {
        self.0
    }
}

/// An atomic [`FlagWord`] that one thread stores and others load, without a lock.
///
/// It has 8 bytes and an alignment of 8, so it may be in memory that a device maps.
///
/// ```
/// use w4ax::{Width, WidthFlag};
///
/// let flag = WidthFlag::new();
/// flag.store(7, Width::A4);
/// assert_eq!(flag.load(7), Width::A4);
/// assert_eq!(flag.load(8), Width::Bf16); // The word belongs to another step.
/// ```
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct WidthFlag(AtomicU64);

// Atomics of loom are larger.
#[cfg(not(loom))]
const _: () = assert!(size_of::<WidthFlag>() == 8 && align_of::<WidthFlag>() == 8);

impl WidthFlag {
    /// Creates a flag that was never written.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Creates a flag that was never written.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Stores the width of step `sequence`. One Release store, which also publishes the caller's
    /// earlier writes.
    pub fn store(&self, sequence: u32, width: Width) {
        self.store_word(FlagWord::encode(sequence, width));
    }

    /// Returns the width for step `sequence`. BF16 if the word is invalid or belongs to another
    /// step. One Acquire load.
    pub fn load(&self, sequence: u32) -> Width {
        self.load_word().width_for(sequence)
    }

    /// Returns the stored (sequence, width). `None` if the word is invalid. One Acquire load.
    pub fn read(&self) -> Option<(u32, Width)> {
        self.load_word().decode()
    }

    /// Stores a word. One Release store. [`FlagWord::UNWRITTEN`] clears the flag.
    pub fn store_word(&self, word: FlagWord) {
        self.0.store(word.to_bits(), Ordering::Release);
    }

    /// Loads the word. One Acquire load.
    pub fn load_word(&self) -> FlagWord {
        FlagWord::from_bits(self.0.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn encodes_sequence_and_width_in_their_bits() {
        assert_eq!(FlagWord::encode(0, Width::A2).to_bits(), 2);
        assert_eq!(FlagWord::encode(1, Width::Bf16).to_bits(), 0x1_0000_0010);
        assert_eq!(
            FlagWord::encode(u32::MAX, Width::A8).to_bits(),
            0xFFFF_FFFF_0000_0008
        );
    }

    #[test]
    fn unwritten_stale_and_future_words_read_as_bf16() {
        let flag = WidthFlag::new();
        assert_eq!(flag.read(), None);
        assert_eq!(flag.load(0), Width::Bf16);
        flag.store(7, Width::A2);
        assert_eq!(flag.read(), Some((7, Width::A2)));
        assert_eq!([6, 7, 8].map(|s| flag.load(s).bits()), [16, 2, 16]);
        flag.store_word(FlagWord::UNWRITTEN);
        assert_eq!(flag.load(7), Width::Bf16);
    }

    proptest! {
        #[test]
        fn decodes_only_words_that_a_step_encodes_to(
            high: u32,
            low in prop_oneof![0u32..=64, any::<u32>()],
        ) {
            let word = FlagWord::from_bits(u64::from(high) << 32 | u64::from(low));
            match word.decode() {
                Some((sequence, width)) => {
                    prop_assert_eq!(FlagWord::encode(sequence, width), word);
                    prop_assert_eq!(word.width_for(sequence), width);
                }
                None => {
                    prop_assert!(![2, 4, 8, 16].contains(&low));
                    prop_assert_eq!(word.width_for(high), Width::Bf16);
                }
            }
            prop_assert_eq!(word.width_for(high.wrapping_add(1)), Width::Bf16);
        }
    }

    /// A reader sees consistent pairs in order, and the writes that precede them.
    #[test]
    fn concurrent_reader_sees_consistent_words_in_order() {
        const STEPS: u32 = 200_000;
        let width_of = |step: u32| Width::ALL[(step % 4) as usize];
        let (flag, payload) = (WidthFlag::new(), AtomicU32::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for step in 1..=STEPS {
                    payload.store(step, Ordering::Relaxed);
                    flag.store(step, width_of(step));
                }
            });
            let mut last = 0;
            while last < STEPS {
                let Some((step, width)) = flag.read() else {
                    continue;
                };
                assert_eq!(width, width_of(step));
                assert!(step >= last, "{step} after {last}");
                assert!(payload.load(Ordering::Relaxed) >= step);
                last = step;
            }
        });
    }
}
