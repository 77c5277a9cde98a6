//! Eq. 4 of DyQ-VLA (section IV): the window operator that Algorithm 1 approximates.

use crate::Width;

/// The active width by Eq. 4.
///
/// ```text
/// b_t = h_t      if h_t >= b_{t-1}
///     = h_t      if K targets were seen and max(h_{t-K+1..t}) <= h_t
///     = b_{t-1}  otherwise
/// ```
/// For each width, the state holds how many of the latest consecutive targets were at most that
/// wide (a streak). The second case is `streak(h_t) >= K`, for any K and without a stored window.
///
/// The result differs from [`SaturatingCounter`](super::SaturatingCounter) in both directions. Eq.
/// 4 goes down only to the newest target, so it may wait where the counter goes down to the maximum
/// of the window. It may also go down while the counter still counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetWindow {
    k: u32,
    active: Width,
    /// `[width]`, by [`Width::index`]: number of latest consecutive targets at most that wide.
    streaks: [u32; 4],
}

impl TargetWindow {
    /// Creates the state with active width 16 and no targets. A `k` of 0 is treated as 1.
    pub const fn new(k: u32) -> Self {
        Self {
            k: if k == 0 { 1 } else { k },
            active: Width::Bf16,
            streaks: [0; 4],
        }
    }

    /// Advances by one target and returns the new active width.
    pub fn step(&mut self, target: Width) -> Width {
        for width in Width::ALL {
            let streak = &mut self.streaks[width.index()];
            *streak = if target <= width {
                streak.saturating_add(1)
            } else {
                0
            };
        }
        if target >= self.active || self.streak(target) >= self.k {
            self.active = target;
        }
        self.active
    }

    /// Returns the active width.
    pub const fn active(&self) -> Width {
        self.active
    }

    /// Returns the number of latest consecutive targets that were at most this wide.
    pub const fn streak(&self, width: Width) -> u32 {
        self.streaks[width.index()]
    }

    /// Resets the state to active width 16 and no targets.
    pub const fn reset(&mut self) {
        *self = Self::new(self.k);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Width::{A2, A4, A8, Bf16};

    #[test]
    fn matches_hand_computed_widths() {
        let mut w = TargetWindow::new(3);
        let widths = [A2, A2, A4, A2, A4, A2, A2, A2, A8].map(|h| w.step(h));
        // Goes down to 4 at the third target, which is at least the two before it. The counter
        // would restart there.
        assert_eq!(widths, [Bf16, Bf16, A4, A4, A4, A4, A4, A2, A8]);
    }

    #[test]
    fn streak_does_not_overflow() {
        let mut w = TargetWindow::new(u32::MAX);
        w.streaks = [u32::MAX - 1; 4];
        assert_eq!(w.step(A2), A2);
        assert_eq!(w.step(A2), A2);
        assert_eq!(w.streak(A2), u32::MAX);
    }
}
