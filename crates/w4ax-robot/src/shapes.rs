//! The shapes of what a policy reads and writes, and the meaning of their numbers.

use serde::Serialize;
use w4ax::dispatch::ACTION_DIM;

/// The length of an observation.
pub const OBS: usize = 25;

/// The length of the policy's input.
pub const INPUT: usize = 64;

/// The 7 action tokens of a step.
pub type Tokens = [u8; ACTION_DIM];

/// Consecutive numbers of an observation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ObservationPart {
    /// What they are.
    pub name: &'static str,
    /// The index of the first.
    pub from: usize,
    /// How many they are.
    pub count: usize,
    /// Their unit, if they have one.
    pub unit: Option<&'static str>,
}

/// Consecutive numbers of an action.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ActionPart {
    /// What they are.
    pub name: &'static str,
    /// The index of the first.
    pub from: usize,
    /// How many they are.
    pub count: usize,
    /// The change per step that the number 1 commands, in `unit`.
    pub scale: f64,
    /// The unit, if there is one.
    pub unit: Option<&'static str>,
}

/// The parts of an observation, in order.
pub const OBSERVATION_PARTS: [ObservationPart; 9] = [
    observed("end effector position - robot base", 0, 3, Some("m")),
    observed("end effector rotation matrix, column 0", 3, 3, None),
    observed("end effector rotation matrix, column 2", 6, 3, None),
    observed("finger positions", 9, 2, Some("m")),
    observed("finger velocities", 11, 2, Some("m/s")),
    observed("object position - robot base", 13, 3, Some("m")),
    observed("target position - robot base", 16, 3, Some("m")),
    observed("object rotation matrix, column 0", 19, 3, None),
    observed("object rotation matrix, column 2", 22, 3, None),
];

/// The parts of an action, in order.
pub const ACTION_PARTS: [ActionPart; 3] = [
    commanded("translation", 0, 3, 0.05, Some("m")),
    commanded("rotation, axis-angle", 3, 3, 0.5, Some("rad")),
    commanded("gripper, -1 open, +1 closed", 6, 1, 1.0, None),
];

const fn observed(
    name: &'static str,
    from: usize,
    count: usize,
    unit: Option<&'static str>,
) -> ObservationPart {
    ObservationPart {
        name,
        from,
        count,
        unit,
    }
}

const fn commanded(
    name: &'static str,
    from: usize,
    count: usize,
    scale: f64,
    unit: Option<&'static str>,
) -> ActionPart {
    ActionPart {
        name,
        from,
        count,
        scale,
        unit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_every_number_once() {
        let observed = OBSERVATION_PARTS.map(|part| (part.from, part.count));
        let commanded = ACTION_PARTS.map(|part| (part.from, part.count));
        for (parts, len) in [(&observed[..], OBS), (&commanded[..], ACTION_DIM)] {
            let end = parts.iter().fold(0, |at, &(from, count)| {
                assert_eq!(from, at);
                from + count
            });
            assert_eq!(end, len);
        }
    }
}
