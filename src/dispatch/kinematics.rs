//! Windows of recent motion, and the sensitivity S (DyQ-VLA sections III and IV).

use super::config::DispatchConfig;
use super::layout::ActionLayout;
use super::motion::{ArmMotion, Motion, MotionTracker};
use super::scale::{MotionScale, overflow};
use crate::{Error, Result};

/// Numbers in an action of the default layout, [`ActionLayout::end_effector`]: translation xyz,
/// axis-angle rotation, gripper.
pub const ACTION_DIM: usize = 7;

/// One action of the default layout, as the policy outputs it.
pub type Action = [f64; ACTION_DIM];

/// A ring buffer of the last `size` values of a series, at most `MAX`.
#[derive(Clone, Debug)]
pub(crate) struct MotionWindow<const MAX: usize> {
    values: [f64; MAX],
    size: usize,
    len: usize,
    /// Index of the next value. It is the oldest value once the window is full.
    next: usize,
}

impl<const MAX: usize> MotionWindow<MAX> {
    pub(crate) fn new(size: usize) -> Self {
        debug_assert!((1..=MAX).contains(&size));
        Self {
            values: [0.0; MAX],
            size,
            len: 0,
            next: 0,
        }
    }

    pub(crate) fn push(&mut self, value: f64) {
        self.values[self.next] = value;
        self.next = if self.next + 1 == self.size {
            0
        } else {
            self.next + 1
        };
        self.len = (self.len + 1).min(self.size);
    }

    /// Returns the mean of the stored values, summed from the oldest to the newest.
    ///
    /// The sum is computed anew, so the result depends only on the stored values. A running sum
    /// would also depend on values that have left the window.
    pub(crate) fn mean(&self) -> f64 {
        let (newer, older) =
            self.values[..self.len].split_at(if self.len < self.size { 0 } else { self.next });
        older.iter().chain(newer).sum::<f64>() / self.len as f64
    }

    /// Returns the capacity.
    pub(crate) const fn size(&self) -> usize {
        self.size
    }

    /// Returns the number of stored values.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn clear(&mut self) {
        (self.len, self.next) = (0, 0);
    }
}

/// The recent motion of one episode, up to the length of the windows.
///
/// ```
/// use w4ax::dispatch::{DispatchConfig, Kinematics, MotionScale, Thresholds};
/// # fn main() -> w4ax::Result<()> {
/// let motion = MotionScale { mu_max: 1.0, nu_max: 0.2 };
/// let thresholds = Thresholds { theta_24: 0.3, theta_48: 0.4, theta_fp: 0.5 };
/// let mut kinematics = Kinematics::new(&DispatchConfig::new(motion, thresholds))?;
/// kinematics.push(&[0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])?; // M = 1 - .5 / 1, J = 0
/// assert_eq!(kinematics.sensitivity(), 0.25); // lambda is .5
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Kinematics {
    motion: MotionScale,
    lambda: f64,
    macro_motion: MotionWindow<{ DispatchConfig::MAX_WINDOW }>,
    micro_motion: MotionWindow<{ DispatchConfig::MAX_WINDOW }>,
    tracker: MotionTracker,
    /// `[arm]`: number of the last actions in which the arm was still.
    still: [usize; ActionLayout::MAX_ARMS],
}

impl Kinematics {
    /// The largest speed of an arm that is still, as a fraction of `mu_max`, and its largest
    /// rotation per step, as a fraction of `nu_max`.
    pub const REST: f64 = 0.01;

    /// Creates an empty history.
    ///
    /// # Errors
    /// As [`DispatchConfig::validate`].
    pub fn new(config: &DispatchConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self {
            motion: config.motion(),
            lambda: config.lambda(),
            macro_motion: MotionWindow::new(config.window_macro()),
            micro_motion: MotionWindow::new(config.window_micro()),
            tracker: MotionTracker::new(config.layout()),
            still: [usize::MAX; ActionLayout::MAX_ARMS],
        })
    }

    /// Adds the action of one step, `[dims]` by the layout: `M = 1 - speed / mu_max`,
    /// `J = |change of rotation| / nu_max`, see the [module](super). J is 0 for the first action
    /// with a speed. The first action of a layout with positions has no speed: the history remains
    /// empty.
    ///
    /// # Errors
    /// The history is unchanged after an error.
    /// - [`Error::Shape`] if the action does not have the numbers of the layout.
    /// - [`Error::NotFinite`] if an element is NaN or infinite.
    /// - [`Error::Range`] if the elements are finite, but M or J overflows, or the numbers of a
    ///   rotation are no rotation, such as a quaternion of 0.
    pub fn push(&mut self, action: &[f64]) -> Result<()> {
        if let Some(motion) = self.tracker.measure(action)? {
            let (m, j, still) = self.combined(&motion).ok_or_else(|| overflow(action))?;
            self.macro_motion.push(m);
            self.micro_motion.push(j);
            self.still = still;
        }
        self.tracker.commit(action);
        Ok(())
    }

    /// Returns M and J of a step, and for how many actions each arm has been still. `None` if M or
    /// J of an arm is not finite.
    fn combined(&self, motion: &Motion) -> Option<(f64, f64, [usize; ActionLayout::MAX_ARMS])> {
        let scaled = |arm: &ArmMotion| {
            let m = 1.0 - arm.speed / self.motion.mu_max;
            let j = arm.turn / self.motion.nu_max;
            (m.is_finite() && j.is_finite()).then_some((m, j))
        };
        let mut still = self.still;
        if let [arm] = motion.arms() {
            return scaled(arm).map(|(m, j)| (m, j, still));
        }
        let least = (f64::NEG_INFINITY, f64::NEG_INFINITY);
        let (mut all, mut moving) = (least, None);
        for (arm, still) in motion.arms().iter().zip(&mut still) {
            let (m, j) = scaled(arm)?;
            let larger = |(most_m, most_j): (f64, f64)| (most_m.max(m), most_j.max(j));
            let rests = arm.speed <= Self::REST * self.motion.mu_max
                && arm.spin <= Self::REST * self.motion.nu_max;
            *still = if rests { still.saturating_add(1) } else { 0 };
            all = larger(all);
            if *still < self.macro_motion.size() {
                moving = Some(larger(moving.unwrap_or(least)));
            }
        }
        let (m, j) = moving.unwrap_or(all);
        Some((m, j, still))
    }

    /// Sets the scale of the actions from now on.
    pub(super) fn set_motion(&mut self, motion: MotionScale) {
        self.motion = motion;
    }

    /// Returns the scale of the motion.
    pub const fn motion(&self) -> MotionScale {
        self.motion
    }

    /// Returns the layout of the actions.
    pub const fn layout(&self) -> &ActionLayout {
        self.tracker.layout()
    }

    /// Returns `S = max(0, lambda * mean(M) + (1 - lambda) * mean(J))`, or 1 without history.
    ///
    /// S is NaN if the sums overflow. [`Thresholds::target`](super::Thresholds::target) maps NaN to
    /// BF16.
    pub fn sensitivity(&self) -> f64 {
        if self.is_empty() {
            return 1.0;
        }
        let s =
            self.lambda * self.macro_motion.mean() + (1.0 - self.lambda) * self.micro_motion.mean();
        // f64::max would replace NaN by 0, which has the lowest width.
        if s < 0.0 { 0.0 } else { s }
    }

    /// Returns the mean of M over the last `window_macro` actions, or over fewer at the start of an
    /// episode. `None` without history. No unit.
    pub fn macro_motion(&self) -> Option<f64> {
        (!self.is_empty()).then(|| self.macro_motion.mean())
    }

    /// Returns the mean of J over the last `window_micro` actions, or over fewer at the start of an
    /// episode. `None` without history. No unit.
    pub fn micro_motion(&self) -> Option<f64> {
        (!self.is_empty()).then(|| self.micro_motion.mean())
    }

    /// Returns whether the history is empty.
    pub fn is_empty(&self) -> bool {
        self.macro_motion.len == 0
    }

    /// Clears the history.
    pub fn clear(&mut self) {
        self.macro_motion.clear();
        self.micro_motion.clear();
        self.tracker.clear();
        self.still = [usize::MAX; ActionLayout::MAX_ARMS];
    }
}

/// Returns [`Error::NotFinite`] with the first element that is not finite.
pub(crate) fn check_finite(action: &[f64]) -> Result<()> {
    match action.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(index) => Err(Error::NotFinite {
            what: "action",
            index,
            value: action[index],
        }),
    }
}

/// Returns the L2 norm.
pub(crate) fn norm(v: impl IntoIterator<Item = f64>) -> f64 {
    v.into_iter().map(|x| x * x).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::super::Thresholds;
    use super::*;

    fn config(window_macro: usize, window_micro: usize, lambda: f64) -> DispatchConfig {
        let motion = MotionScale {
            mu_max: 0.5,
            nu_max: 0.25,
        };
        let thresholds = Thresholds {
            theta_24: 0.1,
            theta_48: 0.3,
            theta_fp: 0.5,
        };
        DispatchConfig::new(motion, thresholds)
            .with_window_macro(window_macro)
            .with_window_micro(window_micro)
            .with_lambda(lambda)
    }

    #[test]
    fn window_mean_covers_the_last_values_at_every_phase() {
        for size in [1, 2, 3, 5, 256] {
            let mut window = MotionWindow::<256>::new(size);
            let series: Vec<f64> = (0..3 * size + 1).map(|i| (i as f64 * 0.7).sin()).collect();
            for t in 0..series.len() {
                window.push(series[t]);
                let last = &series[(t + 1).saturating_sub(size)..=t];
                // The same order of summation, so the same bits.
                assert_eq!(window.mean(), last.iter().sum::<f64>() / last.len() as f64);
            }
        }
    }

    #[test]
    fn matches_hand_computed_values() {
        let mut k = Kinematics::new(&config(2, 2, 0.5)).unwrap();
        assert_eq!(k.sensitivity(), 1.0);
        assert_eq!((k.macro_motion(), k.micro_motion()), (None, None));
        // |xyz| = .25: M = .5; the first J is 0.
        k.push(&[0.25, 0.0, 0.0, 0.9, 0.0, 0.0, 1.0]).unwrap();
        assert_eq!(k.sensitivity(), 0.25);
        assert_eq!((k.macro_motion(), k.micro_motion()), (Some(0.5), Some(0.0)));
        // M = 0, J = .125 / .25 = .5. The gripper is ignored.
        k.push(&[0.0, 0.3, 0.4, 0.775, 0.0, 0.0, -1.0]).unwrap();
        assert!((k.sensitivity() - 0.25).abs() < 1e-12);
        assert_eq!(k.macro_motion(), Some(0.25));
        assert!((k.micro_motion().unwrap() - 0.25).abs() < 1e-12);
        // Faster than mu_max: M = -1, S is clamped to 0.
        k.push(&[1.0, 0.0, 0.0, 0.775, 0.0, 0.0, 0.0]).unwrap();
        k.push(&[1.0, 0.0, 0.0, 0.775, 0.0, 0.0, 0.0]).unwrap();
        assert_eq!(k.sensitivity(), 0.0);
        k.clear();
        assert_eq!(k.sensitivity(), 1.0);
        assert_eq!((k.macro_motion(), k.micro_motion()), (None, None));
    }

    #[test]
    fn rejected_action_leaves_history_unchanged() {
        let mut k = Kinematics::new(&config(4, 4, 0.5)).unwrap();
        k.push(&[0.1; 7]).unwrap();
        let before = k.sensitivity();
        for (bad, index) in [(f64::NAN, 6), (f64::INFINITY, 0), (f64::NEG_INFINITY, 4)] {
            let mut action = [0.1; 7];
            action[index] = bad;
            match k.push(&action).unwrap_err() {
                Error::NotFinite {
                    what: "action",
                    index: i,
                    ..
                } => assert_eq!(i, index),
                other => panic!("{other}"),
            }
        }
        for huge in [1e200, f64::MAX, -f64::MAX] {
            assert!(matches!(
                k.push(&[huge; 7]),
                Err(Error::Range { what: "action", .. })
            ));
        }
        assert_eq!(k.sensitivity(), before);
    }

    #[test]
    fn overflowing_sums_have_target_bf16() {
        let config = config(2, 2, 0.5).with_motion(MotionScale {
            mu_max: 1e-160,
            nu_max: 1e-160,
        });
        let mut k = Kinematics::new(&config).unwrap();
        // M and J are finite, near the largest f64 and of opposite signs. Their sums are infinite.
        for sign in [1.0, -1.0, 1.0] {
            k.push(&[1e148, 0.0, 0.0, sign * 0.8e148, 0.0, 0.0, 0.0])
                .unwrap();
        }
        assert!(k.sensitivity().is_nan(), "{}", k.sensitivity());
        assert_eq!(
            config.thresholds().target(k.sensitivity()),
            crate::Width::Bf16
        );
    }
}
