//! Motion windows and the fused sensitivity S (DyQ-VLA sections III and IV).

use super::config::{DispatchConfig, MAX_WINDOW, MotionScale};
use crate::{Error, Result};

/// Numbers in an action: translation xyz, axis-angle rotation, gripper.
pub const ACTION_DIM: usize = 7;

/// One action, as the policy gives it.
pub type Action = [f64; ACTION_DIM];

/// The last `size` values of a series, in fixed storage.
#[derive(Clone, Debug)]
pub(crate) struct Window<const MAX: usize = MAX_WINDOW> {
    values: [f64; MAX],
    size: usize,
    len: usize,
    /// Where the next value goes; the oldest value once the window is full.
    next: usize,
}

impl<const MAX: usize> Window<MAX> {
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

    /// Over what there is. Summed anew, oldest value first: the result depends on the values in the window alone,
    /// not on what has left it (as a running sum would) nor on where the ring starts.
    pub(crate) fn mean(&self) -> f64 {
        let (newer, older) =
            self.values[..self.len].split_at(if self.len < self.size { 0 } else { self.next });
        older.iter().chain(newer).sum::<f64>() / self.len as f64
    }

    /// How many values it holds at most.
    pub(crate) const fn size(&self) -> usize {
        self.size
    }

    /// How many values there are.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn clear(&mut self) {
        (self.len, self.next) = (0, 0);
    }
}

/// The motion of one episode so far, as far back as the windows reach.
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
    macro_motion: Window,
    micro_motion: Window,
    /// The rotation of the last action.
    rotation: Option<[f64; 3]>,
}

impl Kinematics {
    /// No history yet.
    ///
    /// # Errors
    /// [`Error::Config`] as [`DispatchConfig::validate`] gives it.
    pub fn new(config: &DispatchConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self {
            motion: config.motion,
            lambda: config.lambda,
            macro_motion: Window::new(config.window_macro),
            micro_motion: Window::new(config.window_micro),
            rotation: None,
        })
    }

    /// Takes in the action of one step: `M = 1 - |a_xyz| / mu_max`, and J from the change of rotation, 0 for the
    /// first action.
    ///
    /// # Errors
    /// The history stays as it was after
    /// - [`Error::NotFinite`]: an element is NaN or infinite;
    /// - [`Error::Range`]: the elements are finite, but so large that M or J is not.
    pub fn push(&mut self, action: &Action) -> Result<()> {
        check_finite(action)?;
        let [x, y, z, rx, ry, rz, _gripper] = *action;
        let rotation = [rx, ry, rz];
        let turned = self
            .rotation
            .map_or(0.0, |[px, py, pz]| norm([rx - px, ry - py, rz - pz]));
        let m = 1.0 - norm([x, y, z]) / self.motion.mu_max;
        let j = turned / self.motion.nu_max;
        if !(m.is_finite() && j.is_finite()) {
            return Err(Error::Range {
                what: "action",
                value: format!("{action:?}"),
                range: "what has a finite motion",
            });
        }
        self.macro_motion.push(m);
        self.micro_motion.push(j);
        self.rotation = Some(rotation);
        Ok(())
    }

    /// `S = max(0, lambda * mean(M) + (1 - lambda) * mean(J))`, and 1 with no history. NaN if the sums overflow:
    /// [`Thresholds::target`](super::Thresholds::target) gives BF16 for that.
    pub fn sensitivity(&self) -> f64 {
        if self.is_empty() {
            return 1.0;
        }
        let s =
            self.lambda * self.macro_motion.mean() + (1.0 - self.lambda) * self.micro_motion.mean();
        // Not f64::max: it would turn NaN into 0, the lowest width.
        if s < 0.0 { 0.0 } else { s }
    }

    /// The mean of M over the last `window_macro` actions, or as many as there are; `None` with no history. No unit.
    pub fn macro_motion(&self) -> Option<f64> {
        (!self.is_empty()).then(|| self.macro_motion.mean())
    }

    /// The mean of J over the last `window_micro` actions, or as many as there are; `None` with no history. No unit.
    pub fn micro_motion(&self) -> Option<f64> {
        (!self.is_empty()).then(|| self.micro_motion.mean())
    }

    /// Whether no action was taken in yet, or none since [`clear`](Self::clear).
    pub fn is_empty(&self) -> bool {
        self.macro_motion.len == 0
    }

    /// Forgets all motion.
    pub fn clear(&mut self) {
        self.macro_motion.clear();
        self.micro_motion.clear();
        self.rotation = None;
    }
}

/// [`Error::NotFinite`] for the first element that is not.
pub(crate) fn check_finite(action: &Action) -> Result<()> {
    match action.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(index) => Err(Error::NotFinite {
            what: "action",
            index,
            value: action[index],
        }),
    }
}

/// The L2 norm.
pub(crate) fn norm<const N: usize>(v: [f64; N]) -> f64 {
    v.iter().map(|x| x * x).sum::<f64>().sqrt()
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
        DispatchConfig {
            window_macro,
            window_micro,
            lambda,
            ..DispatchConfig::new(motion, thresholds)
        }
    }

    #[test]
    fn a_window_is_the_mean_of_its_last_values_for_every_phase() {
        for size in [1, 2, 3, 5, MAX_WINDOW] {
            let mut window = Window::<MAX_WINDOW>::new(size);
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
    fn by_hand() {
        let mut k = Kinematics::new(&config(2, 2, 0.5)).unwrap();
        assert_eq!(k.sensitivity(), 1.0);
        assert_eq!((k.macro_motion(), k.micro_motion()), (None, None));
        // |xyz| = .25: M = .5; the first J is 0.
        k.push(&[0.25, 0.0, 0.0, 0.9, 0.0, 0.0, 1.0]).unwrap();
        assert_eq!(k.sensitivity(), 0.25);
        assert_eq!((k.macro_motion(), k.micro_motion()), (Some(0.5), Some(0.0)));
        // M = 0, J = .125 / .25 = .5. The gripper counts for nothing.
        k.push(&[0.0, 0.3, 0.4, 0.775, 0.0, 0.0, -1.0]).unwrap();
        assert!((k.sensitivity() - 0.25).abs() < 1e-12);
        assert_eq!(k.macro_motion(), Some(0.25));
        assert!((k.micro_motion().unwrap() - 0.25).abs() < 1e-12);
        // Faster than mu_max: M = -1, S is cut at 0.
        k.push(&[1.0, 0.0, 0.0, 0.775, 0.0, 0.0, 0.0]).unwrap();
        k.push(&[1.0, 0.0, 0.0, 0.775, 0.0, 0.0, 0.0]).unwrap();
        assert_eq!(k.sensitivity(), 0.0);
        k.clear();
        assert_eq!(k.sensitivity(), 1.0);
        assert_eq!((k.macro_motion(), k.micro_motion()), (None, None));
    }

    #[test]
    fn a_refused_action_leaves_the_history() {
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
    fn overflowing_sums_ask_for_bf16() {
        let mut config = config(2, 2, 0.5);
        config.motion = MotionScale {
            mu_max: 1e-160,
            nu_max: 1e-160,
        };
        let mut k = Kinematics::new(&config).unwrap();
        // Finite M and J, near the largest f64 with opposite signs; their sums are infinite.
        for sign in [1.0, -1.0, 1.0] {
            k.push(&[1e148, 0.0, 0.0, sign * 0.8e148, 0.0, 0.0, 0.0])
                .unwrap();
        }
        assert!(k.sensitivity().is_nan(), "{}", k.sensitivity());
        assert_eq!(
            config.thresholds.target(k.sensitivity()),
            crate::Width::Bf16
        );
    }
}
