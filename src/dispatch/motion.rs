//! The motion of each arm from actions of any layout.

use super::layout::{ActionLayout, ActionMode, ActionPart, MAX_ACTION};
use super::rotation::{Quaternion, wrapped};
use super::{check_finite, norm};
use crate::{Error, Result};

/// The motion of one arm in one step, in action units.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ArmMotion {
    /// The norm of the velocity of the translation or of the joints, per step.
    pub(crate) speed: f64,
    /// The norm of the rotation per step. 0 without a rotation.
    pub(crate) spin: f64,
    /// The norm of the change of the rotation per step, or of the velocity without a rotation. 0
    /// until two rates are known.
    pub(crate) turn: f64,
}

/// The motion of all arms in one step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Motion {
    arms: [ArmMotion; ActionLayout::MAX_ARMS],
    count: usize,
    /// Whether `turn` is known.
    pub(crate) turned: bool,
}

impl Motion {
    /// Returns the motion of each arm.
    pub(crate) fn arms(&self) -> &[ArmMotion] {
        &self.arms[..self.count]
    }

    /// Returns the largest speed of an arm.
    pub(crate) fn speed(&self) -> f64 {
        self.largest(|arm| arm.speed)
    }

    /// Returns the largest turn of an arm.
    pub(crate) fn turn(&self) -> f64 {
        self.largest(|arm| arm.turn)
    }

    fn largest(&self, of: fn(&ArmMotion) -> f64) -> f64 {
        self.arms().iter().map(of).fold(0.0, f64::max)
    }
}

/// Where the parts of an arm are in an action.
#[derive(Clone, Copy, Debug)]
struct ArmPlan {
    /// The translation or the joints: first number, count and mode.
    position: (usize, usize, ActionMode),
    /// The rotation and its first number.
    rotation: Option<(ActionPart, usize)>,
}

impl ArmPlan {
    /// Locates the parts of an arm that begins at number `first`.
    fn new(parts: &[ActionPart], mut first: usize) -> Self {
        let mut plan = Self {
            position: (first, 0, ActionMode::Delta),
            rotation: None,
        };
        for &part in parts {
            match part {
                ActionPart::Translation(mode) | ActionPart::Joints(_, mode) => {
                    plan.position = (first, part.dims(), mode);
                }
                rotation if rotation.is_rotation() => plan.rotation = Some((rotation, first)),
                _ => (),
            }
            first += part.dims();
        }
        plan
    }
}

/// How much of the motion the actions so far determine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// No action was added.
    Nothing,
    /// One action, of a layout with positions: no rate is known yet.
    Position,
    /// At least one rate.
    Rate,
}

/// The last action and its rates: velocities and rotations per step.
#[derive(Clone, Debug)]
pub(crate) struct MotionTracker {
    layout: ActionLayout,
    arms: [ArmPlan; ActionLayout::MAX_ARMS],
    count: usize,
    positions: bool,
    known: Known,
    /// `[dims]`: the last action.
    last: [f64; MAX_ACTION],
    /// `[dims]`: the rate of each part at the numbers of the part. A rotation has 3.
    rates: [f64; MAX_ACTION],
    /// `[dims]`: the rates of the action that was measured last.
    measured: [f64; MAX_ACTION],
}

impl MotionTracker {
    pub(crate) fn new(layout: &ActionLayout) -> Self {
        let mut arms = [ArmPlan::new(&[], 0); ActionLayout::MAX_ARMS];
        let (mut first, mut count) = (0, 0);
        for (plan, parts) in arms.iter_mut().zip(layout.arms()) {
            *plan = ArmPlan::new(parts, first);
            first += parts.iter().map(|part| part.dims()).sum::<usize>();
            count += 1;
        }
        Self {
            layout: *layout,
            arms,
            count,
            positions: layout.has_positions(),
            known: Known::Nothing,
            last: [0.0; MAX_ACTION],
            rates: [0.0; MAX_ACTION],
            measured: [0.0; MAX_ACTION],
        }
    }

    pub(crate) const fn layout(&self) -> &ActionLayout {
        &self.layout
    }

    /// Returns the motion of the step that commands this action. `None` if the action is the first
    /// of an episode and has positions. [`commit`](Self::commit) adds the action.
    ///
    /// # Errors
    /// - [`Error::Shape`] if the action does not have the numbers of the layout.
    /// - [`Error::NotFinite`] if an element is NaN or infinite.
    /// - [`Error::Range`] if the numbers of a rotation are no rotation.
    pub(crate) fn measure(&mut self, action: &[f64]) -> Result<Option<Motion>> {
        let dims = self.layout.dims();
        if action.len() != dims {
            return Err(Error::shape("action", [dims], [action.len()]));
        }
        check_finite(action)?;
        let known = !(self.positions && self.known == Known::Nothing);
        let mut motion = Motion {
            arms: [ArmMotion::default(); ActionLayout::MAX_ARMS],
            count: self.count,
            turned: self.known == Known::Rate,
        };
        for arm in 0..self.count {
            motion.arms[arm] = self.arm(self.arms[arm], action, known)?;
        }
        Ok(known.then_some(motion))
    }

    /// Computes the motion of one arm. Without known rates, only its rotation is checked.
    fn arm(&mut self, plan: ArmPlan, action: &[f64], known: bool) -> Result<ArmMotion> {
        let (first, count, mode) = plan.position;
        let range = first..first + count;
        for i in range.clone() {
            self.measured[i] = match mode {
                ActionMode::Delta => action[i],
                ActionMode::Absolute => action[i] - self.last[i],
            };
        }
        let turned = self.known == Known::Rate;
        let mut motion = ArmMotion {
            speed: norm(self.measured[range.clone()].iter().copied()),
            ..ArmMotion::default()
        };
        let Some((part, first)) = plan.rotation else {
            if turned {
                motion.turn = norm(range.map(|i| self.measured[i] - self.rates[i]));
            }
            return Ok(motion);
        };
        let rate = self.rotation_rate(part, first, action, known)?;
        motion.spin = norm(rate);
        if turned {
            let before = &self.rates[first..first + 3];
            let change: [f64; 3] = std::array::from_fn(|i| rate[i] - before[i]);
            motion.turn = norm(match part {
                ActionPart::Euler(ActionMode::Delta) => change.map(wrapped),
                _ => change,
            });
        }
        self.measured[first..first + 3].copy_from_slice(&rate);
        Ok(motion)
    }

    /// Returns the rotation per step: the numbers of a delta axis-angle or Euler rotation, or a
    /// rotation vector.
    fn rotation_rate(
        &self,
        part: ActionPart,
        first: usize,
        action: &[f64],
        known: bool,
    ) -> Result<[f64; 3]> {
        let numbers = first..first + part.dims();
        if let ActionPart::AxisAngle(ActionMode::Delta) | ActionPart::Euler(ActionMode::Delta) =
            part
        {
            return Ok([action[first], action[first + 1], action[first + 2]]);
        }
        let now = Quaternion::of_part(part, &action[numbers.clone()])?;
        match part.mode() {
            Some(ActionMode::Absolute) if known => {
                let before = Quaternion::of_part(part, &self.last[numbers])?;
                Ok(now.since(before).vector())
            }
            Some(ActionMode::Absolute) => Ok([0.0; 3]),
            _ => Ok(now.vector()),
        }
    }

    /// Adds the action that was measured last.
    pub(crate) fn commit(&mut self, action: &[f64]) {
        let dims = action.len();
        self.last[..dims].copy_from_slice(action);
        self.rates[..dims].copy_from_slice(&self.measured[..dims]);
        self.known = match self.known {
            Known::Nothing if self.positions => Known::Position,
            _ => Known::Rate,
        };
    }

    /// Starts an episode.
    pub(crate) fn clear(&mut self) {
        self.known = Known::Nothing;
    }
}
