//! The layout of an action: what each of its numbers is.

use super::ACTION_DIM;
use crate::{Error, Result};

/// The largest number of values of an action. It bounds the state of a dispatcher.
pub const MAX_ACTION: usize = 64;

/// Whether a part of an action holds changes or positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ActionMode {
    /// A change per step, such as the translation of a delta end effector.
    Delta,
    /// A position, such as that of a joint.
    Absolute,
}

/// A part of an action: consecutive numbers with one meaning.
///
/// Angles are in radians. A rotation R maps vectors of the tool to vectors of the base, and a
/// change of rotation D is applied as `R(t) = D R(t-1)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ActionPart {
    /// A translation xyz, `[3]`.
    Translation(ActionMode),
    /// A rotation as an axis times an angle, `[3]`.
    AxisAngle(ActionMode),
    /// A rotation as roll, pitch and yaw, `[3]`: `R = Rz(yaw) Ry(pitch) Rx(roll)`.
    Euler(ActionMode),
    /// A rotation as a quaternion in the order xyzw, `[4]`. It need not be normalized.
    QuaternionXyzw(ActionMode),
    /// A rotation as a quaternion in the order wxyz, `[4]`. It need not be normalized.
    QuaternionWxyz(ActionMode),
    /// A rotation as the first two columns of its matrix, one after the other, `[6]` (Zhou et al.,
    /// arXiv 1812.07035). Gram-Schmidt makes them orthonormal.
    SixD(ActionMode),
    /// This many joint positions, or changes of them.
    Joints(usize, ActionMode),
    /// This many numbers of a gripper. The motion ignores them.
    Gripper(usize),
    /// This many other numbers, such as those of a base. The motion ignores them.
    Ignored(usize),
}

impl ActionPart {
    /// Returns the number of values of this part.
    pub const fn dims(self) -> usize {
        match self {
            Self::Translation(_) | Self::AxisAngle(_) | Self::Euler(_) => 3,
            Self::QuaternionXyzw(_) | Self::QuaternionWxyz(_) => 4,
            Self::SixD(_) => 6,
            Self::Joints(count, _) | Self::Gripper(count) | Self::Ignored(count) => count,
        }
    }

    /// Returns whether the part holds changes or positions. `None` if the motion ignores it.
    pub const fn mode(self) -> Option<ActionMode> {
        match self {
            Self::Translation(mode)
            | Self::AxisAngle(mode)
            | Self::Euler(mode)
            | Self::QuaternionXyzw(mode)
            | Self::QuaternionWxyz(mode)
            | Self::SixD(mode)
            | Self::Joints(_, mode) => Some(mode),
            Self::Gripper(_) | Self::Ignored(_) => None,
        }
    }

    /// Returns whether the part is a rotation.
    pub const fn is_rotation(self) -> bool {
        matches!(
            self,
            Self::AxisAngle(_)
                | Self::Euler(_)
                | Self::QuaternionXyzw(_)
                | Self::QuaternionWxyz(_)
                | Self::SixD(_)
        )
    }
}

/// What each number of an action is: the parts of one arm, or of two arms one after the other.
///
/// An arm has either a translation, with or without a rotation, or joints. It has at most one part
/// of each of these kinds, and any number of grippers and ignored numbers.
///
/// # Text
/// A layout is also a text, in files and on command lines. Commas separate the parts of an arm, and
/// `+` separates the arms. A part is one of `xyz`, `axis-angle`, `euler`, `quaternion-xyzw`,
/// `quaternion-wxyz`, `6d` and `joints` with its count, each with `:delta` or `:absolute`, or
/// `gripper` or `ignored`, which may have a count. The names `end-effector` and `aloha` are read as
/// the layouts of these constructors. JSON holds the text as a string.
///
/// ```
/// use w4ax::dispatch::{ActionLayout, ActionMode, ActionPart};
/// # fn main() -> w4ax::Result<()> {
/// let layout = ActionLayout::default();
/// assert_eq!(layout.to_string(), "xyz:delta,axis-angle:delta,gripper");
/// let aloha: ActionLayout = "joints6:absolute,gripper+joints6:absolute,gripper".parse()?;
/// assert_eq!((aloha, aloha.dims()), (ActionLayout::aloha(), 14));
/// let pose = [
///     ActionPart::Translation(ActionMode::Absolute),
///     ActionPart::QuaternionXyzw(ActionMode::Absolute),
///     ActionPart::Gripper(1),
/// ];
/// assert_eq!(ActionLayout::new(&[&pose])?.dims(), 8);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ActionLayout {
    /// `[arm][part]`. The elements after the parts of an arm are [`UNUSED`].
    parts: [[ActionPart; Self::MAX_PARTS]; Self::MAX_ARMS],
    /// `[arm]`: number of parts.
    counts: [usize; Self::MAX_ARMS],
}

const UNUSED: ActionPart = ActionPart::Ignored(0);

impl ActionLayout {
    /// The largest number of arms.
    pub const MAX_ARMS: usize = 2;
    /// The largest number of parts of an arm.
    pub const MAX_PARTS: usize = 6;

    /// Creates a layout from the parts of each arm, in the order of the numbers.
    ///
    /// # Errors
    /// [`Error::Config`] with field `layout` if there are too many arms, parts or numbers, a part
    /// has no numbers, or the parts of an arm are not those of an arm.
    pub fn new(arms: &[&[ActionPart]]) -> Result<Self> {
        if !(1..=Self::MAX_ARMS).contains(&arms.len()) {
            let reason = format!("has {} arms: expected 1 to {}", arms.len(), Self::MAX_ARMS);
            return Err(invalid(reason));
        }
        let mut layout = Self {
            parts: [[UNUSED; Self::MAX_PARTS]; Self::MAX_ARMS],
            counts: [0; Self::MAX_ARMS],
        };
        for (arm, parts) in arms.iter().enumerate() {
            check_arm(arm, parts)?;
            layout.parts[arm][..parts.len()].copy_from_slice(parts);
            layout.counts[arm] = parts.len();
        }
        let dims = arms
            .iter()
            .flat_map(|parts| parts.iter())
            .fold(0_usize, |sum, part| sum.saturating_add(part.dims()));
        if dims > MAX_ACTION {
            let reason = format!("has {dims} numbers: expected at most {MAX_ACTION}");
            return Err(invalid(reason));
        }
        Ok(layout)
    }

    /// Returns the layout of a delta end effector, which is the default: translation xyz,
    /// axis-angle rotation, gripper. It has [`ACTION_DIM`] numbers.
    pub const fn end_effector() -> Self {
        use ActionPart::{AxisAngle, Gripper, Translation};
        let mut arm = [UNUSED; Self::MAX_PARTS];
        arm[0] = Translation(ActionMode::Delta);
        arm[1] = AxisAngle(ActionMode::Delta);
        arm[2] = Gripper(1);
        let layout = Self {
            parts: [arm, [UNUSED; Self::MAX_PARTS]],
            counts: [3, 0],
        };
        debug_assert!(layout.dims() == ACTION_DIM);
        layout
    }

    /// Returns the layout of ALOHA (arXiv 2304.13705): two arms of 6 joint positions and a gripper,
    /// all absolute, 14 numbers.
    pub const fn aloha() -> Self {
        let mut arm = [UNUSED; Self::MAX_PARTS];
        arm[0] = ActionPart::Joints(6, ActionMode::Absolute);
        arm[1] = ActionPart::Gripper(1);
        Self {
            parts: [arm; Self::MAX_ARMS],
            counts: [2; Self::MAX_ARMS],
        }
    }

    /// Returns the layout of one arm of `count` joints without a gripper.
    ///
    /// # Errors
    /// [`Error::Config`] with field `layout` if `count` is 0 or above [`MAX_ACTION`].
    pub fn joints(count: usize, mode: ActionMode) -> Result<Self> {
        Self::new(&[&[ActionPart::Joints(count, mode)]])
    }

    /// Returns the number of values of an action.
    pub const fn dims(&self) -> usize {
        let (mut dims, mut arm) = (0, 0);
        while arm < Self::MAX_ARMS {
            let mut part = 0;
            while part < self.counts[arm] {
                dims += self.parts[arm][part].dims();
                part += 1;
            }
            arm += 1;
        }
        dims
    }

    /// Returns the parts of each arm, in the order of the numbers.
    pub fn arms(&self) -> impl Iterator<Item = &[ActionPart]> {
        let arms = self.parts.iter().zip(self.counts);
        arms.map(|(parts, count)| &parts[..count])
            .filter(|parts| !parts.is_empty())
    }

    /// Returns whether a part holds positions, so that the first action of an episode has no
    /// motion.
    pub fn has_positions(&self) -> bool {
        self.arms()
            .flatten()
            .any(|part| part.mode() == Some(ActionMode::Absolute))
    }

    /// Splits a chunk of actions, row-major `[n, dims]` with n at least 1.
    pub(crate) fn rows<'a, T>(
        &self,
        what: &'static str,
        actions: &'a [T],
    ) -> Result<std::slice::ChunksExact<'a, T>> {
        split_rows(what, self.dims(), actions)
    }
}

/// Splits numbers into n rows of `dims` numbers, with n at least 1.
pub(crate) fn split_rows<'a, T>(
    what: &'static str,
    dims: usize,
    actions: &'a [T],
) -> Result<std::slice::ChunksExact<'a, T>> {
    if actions.is_empty() || !actions.len().is_multiple_of(dims) {
        let whole = actions.len().div_ceil(dims).max(1);
        return Err(Error::shape(what, [whole, dims], [actions.len()]));
    }
    Ok(actions.chunks_exact(dims))
}

/// Copies an action of `dims` numbers to `buffer` and returns it as f64.
pub(crate) fn widen<'a, T: Copy + Into<f64>>(
    dims: usize,
    action: &[T],
    buffer: &'a mut [f64; MAX_ACTION],
) -> Result<&'a [f64]> {
    if action.len() != dims {
        return Err(Error::shape("action", [dims], [action.len()]));
    }
    let buffer = &mut buffer[..dims];
    for (to, from) in buffer.iter_mut().zip(action) {
        *to = (*from).into();
    }
    Ok(buffer)
}

/// Checks the parts of an arm.
fn check_arm(arm: usize, parts: &[ActionPart]) -> Result<()> {
    let most = ActionLayout::MAX_PARTS;
    if !(1..=most).contains(&parts.len()) {
        let reason = format!(
            "has {} parts of arm {arm}: expected 1 to {most}",
            parts.len()
        );
        return Err(invalid(reason));
    }
    if parts.iter().any(|part| part.dims() == 0) {
        let reason = format!("has a part of arm {arm} without numbers: expected at least 1");
        return Err(invalid(reason));
    }
    let count = |kind: fn(ActionPart) -> bool| parts.iter().filter(|part| kind(**part)).count();
    let translations = count(|part| matches!(part, ActionPart::Translation(_)));
    let joints = count(|part| matches!(part, ActionPart::Joints(..)));
    let rotations = count(ActionPart::is_rotation);
    match (translations, rotations, joints) {
        (1, 0 | 1, 0) | (0, 0, 1) => Ok(()),
        _ => Err(invalid(format!(
            "has {translations} translations, {rotations} rotations and {joints} parts of joints \
             in arm {arm}: expected a translation, a translation and a rotation, or one part of \
             joints"
        ))),
    }
}

pub(super) fn invalid(reason: String) -> Error {
    Error::Config {
        field: "layout",
        reason,
    }
}

impl Default for ActionLayout {
    /// Returns [`ActionLayout::end_effector`].
    fn default() -> Self {
        Self::end_effector()
    }
}
