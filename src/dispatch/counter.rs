//! Algorithm 1 of DyQ-VLA (section IV): raises the width at once, lowers it by a saturating
//! counter.

use crate::Width;

/// The state (b, c, m) of Algorithm 1, and K.
///
/// One step with target h is:
/// ```text
/// if h >= b:  b, c, m = h, 0, h
/// else:       m' = max(h, m if c > 0 else 0)
///             c  = (c if m' == m else 0) + 1
///             m  = m'
///             if c == K:  b = m;  c = c mod K
/// ```
/// The active width is never below the target. Whenever the active width goes down, the new width
/// is at least each of the last K targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaturatingCounter {
    k: u32,
    /// b
    active: Width,
    /// c: number of steps for which `pending` has been the widest target below `active`.
    count: u32,
    /// m: the width that becomes active when the counter reaches K.
    pending: Width,
}

impl SaturatingCounter {
    /// Creates the state (16, 0, 16). A `k` of 0 is treated as 1.
    pub const fn new(k: u32) -> Self {
        Self {
            k: if k == 0 { 1 } else { k },
            active: Width::Bf16,
            count: 0,
            pending: Width::Bf16,
        }
    }

    /// Advances by one target and returns the new active width.
    pub fn step(&mut self, target: Width) -> Width {
        if target >= self.active {
            (self.active, self.count, self.pending) = (target, 0, target);
            return self.active;
        }
        let pending = if self.count > 0 {
            target.max(self.pending)
        } else {
            target
        };
        self.count = if pending == self.pending {
            self.count
        } else {
            0
        } + 1;
        self.pending = pending;
        if self.count == self.k {
            self.active = pending;
            self.count = 0;
        }
        self.active
    }

    /// Returns b, the active width.
    pub const fn active(&self) -> Width {
        self.active
    }

    /// Returns c, the counter. 0 if no lower width is pending.
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Returns m, the pending width.
    pub const fn pending(&self) -> Width {
        self.pending
    }

    /// Resets the state to (16, 0, 16).
    pub const fn reset(&mut self) {
        *self = Self::new(self.k);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Width::{A2, A4, A8, Bf16};

    #[test]
    fn matches_hand_computed_states() {
        let mut c = SaturatingCounter::new(3);
        let states = [A2, A2, A4, A2, A4, A2, A2, A8].map(|h| {
            c.step(h);
            (c.active(), c.count(), c.pending())
        });
        let expected = [
            (Bf16, 1, A2),
            (Bf16, 2, A2),
            (Bf16, 1, A4), // a wider pending target restarts the counter
            (Bf16, 2, A4),
            (A4, 0, A4), // three targets of at most 4
            (A4, 1, A2),
            (A4, 2, A2),
            (A8, 0, A8), // a higher target is active at once
        ];
        assert_eq!(states, expected);
        c.reset();
        assert_eq!(c, SaturatingCounter::new(3));
    }

    #[test]
    fn k_of_one_follows_the_target() {
        let mut c = SaturatingCounter::new(1);
        for h in [A2, Bf16, A4, A8, A8, A2] {
            assert_eq!(c.step(h), h);
        }
    }
}
