//! The flag: the width of a step in one atomic 64-bit word (DyQ-VLA section V-B).
//!
//! The dispatcher stores (sequence, width) before the step; who runs the step loads the word and asks for its own
//! step's width. Both travel in one word, so a reader never sees one without the other. Whatever is not the valid
//! word of the asked step reads as BF16.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU64, Ordering};

use crate::Width;

/// The encoding of (sequence, width).
///
/// | bits | |
/// | --- | --- |
/// | 63..32 | sequence, the number of the step; wraps |
/// | 31..8 | 0; anything else makes the word invalid |
/// | 7..0 | width in bits: 2, 4, 8 or 16; anything else makes the word invalid |
///
/// All zero is a word that was never written: it is invalid. One aligned 64-bit load reads a word; it is stored in
/// the byte order of the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct FlagWord(u64);

impl FlagWord {
    /// A word that was never written.
    pub const UNWRITTEN: Self = Self(0);

    /// The word of a step.
    pub const fn encode(sequence: u32, width: Width) -> Self {
        Self((sequence as u64) << 32 | width.bits() as u64)
    }

    /// The (sequence, width) of a valid word.
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

    /// The width for step `sequence`: BF16 unless the word is valid and this step's.
    pub const fn width_for(self, sequence: u32) -> Width {
        match self.decode() {
            Some((of, width)) if of == sequence => width,
            _ => Width::Bf16,
        }
    }

    /// A word as it lies in memory, valid or not.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The word as it lies in memory.
    pub const fn to_bits(self) -> u64 {
        self.0
    }
}

/// One [`FlagWord`] that one thread stores and others load, with no lock. 8 bytes, aligned to 8, no other content:
/// it can lie in memory that a device maps.
///
/// ```
/// use w4ax::{Width, WidthFlag};
///
/// let flag = WidthFlag::new();
/// flag.store(7, Width::A4);
/// assert_eq!(flag.load(7), Width::A4);
/// assert_eq!(flag.load(8), Width::Bf16); // Not this step's word.
/// ```
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct WidthFlag(AtomicU64);

// A word that loom looks after is larger.
#[cfg(not(loom))]
const _: () = assert!(size_of::<WidthFlag>() == 8 && align_of::<WidthFlag>() == 8);

impl WidthFlag {
    /// A flag that was never written.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// A flag that was never written.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Publishes the width of step `sequence`, and all that the caller wrote before: one Release store.
    pub fn store(&self, sequence: u32, width: Width) {
        self.store_word(FlagWord::encode(sequence, width));
    }

    /// The width for step `sequence`: BF16 unless the word is valid and this step's. One Acquire load.
    pub fn load(&self, sequence: u32) -> Width {
        self.load_word().width_for(sequence)
    }

    /// The (sequence, width) that the flag holds, if it is a valid word. One Acquire load.
    pub fn read(&self) -> Option<(u32, Width)> {
        self.load_word().decode()
    }

    /// Stores a word as it is: one Release store. [`FlagWord::UNWRITTEN`] takes a flag back.
    pub fn store_word(&self, word: FlagWord) {
        self.0.store(word.to_bits(), Ordering::Release);
    }

    /// Loads the word as it is: one Acquire load.
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
    fn the_layout() {
        assert_eq!(FlagWord::encode(0, Width::A2).to_bits(), 2);
        assert_eq!(FlagWord::encode(1, Width::Bf16).to_bits(), 0x1_0000_0010);
        assert_eq!(
            FlagWord::encode(u32::MAX, Width::A8).to_bits(),
            0xFFFF_FFFF_0000_0008
        );
    }

    #[test]
    fn unwritten_stale_and_future_read_as_bf16() {
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
        fn a_word_is_valid_only_if_some_step_encodes_to_it(high: u32, low in prop_oneof![0u32..=64, any::<u32>()]) {
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

    /// A reader sees each pair whole, in order, and with what was written before it.
    #[test]
    fn two_threads() {
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
