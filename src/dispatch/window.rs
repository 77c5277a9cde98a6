//! Eq. 4 of DyQ-VLA (section IV): the window operator, the reference beside Algorithm 1.

use crate::Width;

/// The active width by Eq. 4:
/// ```text
/// b_t = h_t      if h_t >= b_{t-1}
///     = h_t      if K targets were seen and max(h_{t-K+1..t}) <= h_t
///     = b_{t-1}  otherwise
/// ```
/// It keeps, for each width, how many of the latest targets in a row are at most that wide: the second case is
/// `run(h_t) >= K`, for any K and with no window to store.
///
/// It differs from [`SaturatingCounter`](super::SaturatingCounter) both ways: it goes down to the newest target
/// only, so it may wait where the counter goes to the window's maximum; and it may go down while the counter
/// still counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetWindow {
    k: u32,
    active: Width,
    /// By [`Width::index`]: the length of the run of targets at most that wide, up to now.
    runs: [u32; 4],
}

impl TargetWindow {
    /// Active width 16 and no targets seen. A `k` of 0 counts as 1.
    pub const fn new(k: u32) -> Self {
        Self {
            k: if k == 0 { 1 } else { k },
            active: Width::Bf16,
            runs: [0; 4],
        }
    }

    /// Takes in one target; gives the active width after it.
    pub fn step(&mut self, target: Width) -> Width {
        for width in Width::ALL {
            let run = &mut self.runs[width.index()];
            *run = if target <= width {
                run.saturating_add(1)
            } else {
                0
            };
        }
        if target >= self.active || self.run(target) >= self.k {
            self.active = target;
        }
        self.active
    }

    /// The active width.
    pub const fn active(&self) -> Width {
        self.active
    }

    /// How many of the latest targets in a row were at most this wide.
    pub const fn run(&self, width: Width) -> u32 {
        self.runs[width.index()]
    }

    /// Back to the start.
    pub const fn reset(&mut self) {
        *self = Self::new(self.k);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Width::{A2, A4, A8, Bf16};

    #[test]
    fn by_hand() {
        let mut w = TargetWindow::new(3);
        let widths = [A2, A2, A4, A2, A4, A2, A2, A2, A8].map(|h| w.step(h));
        // Down to 4 at the third target, which covers the two before it; a counter would start again there.
        assert_eq!(widths, [Bf16, Bf16, A4, A4, A4, A4, A4, A2, A8]);
    }

    #[test]
    fn a_run_does_not_overflow() {
        let mut w = TargetWindow::new(u32::MAX);
        w.runs = [u32::MAX - 1; 4];
        assert_eq!(w.step(A2), A2);
        assert_eq!(w.step(A2), A2);
        assert_eq!(w.run(A2), u32::MAX);
    }
}
