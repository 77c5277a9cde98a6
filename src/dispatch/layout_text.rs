//! The text of an action layout.

use std::fmt::{Display, Formatter};
use std::str::FromStr;

use super::layout::{ActionLayout, ActionMode, ActionPart, MAX_ACTION, invalid};
use crate::{Error, Result};

impl Display for ActionMode {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Delta => "delta",
            Self::Absolute => "absolute",
        })
    }
}

impl Display for ActionPart {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Translation(mode) => write!(f, "xyz:{mode}"),
            Self::AxisAngle(mode) => write!(f, "axis-angle:{mode}"),
            Self::Euler(mode) => write!(f, "euler:{mode}"),
            Self::QuaternionXyzw(mode) => write!(f, "quaternion-xyzw:{mode}"),
            Self::QuaternionWxyz(mode) => write!(f, "quaternion-wxyz:{mode}"),
            Self::SixD(mode) => write!(f, "6d:{mode}"),
            Self::Joints(count, mode) => write!(f, "joints{count}:{mode}"),
            Self::Gripper(1) => f.write_str("gripper"),
            Self::Gripper(count) => write!(f, "gripper{count}"),
            Self::Ignored(1) => f.write_str("ignored"),
            Self::Ignored(count) => write!(f, "ignored{count}"),
        }
    }
}

impl Display for ActionLayout {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        for (at, parts) in self.arms().enumerate() {
            f.write_str(if at == 0 { "" } else { "+" })?;
            for (at, part) in parts.iter().enumerate() {
                f.write_str(if at == 0 { "" } else { "," })?;
                part.fmt(f)?;
            }
        }
        Ok(())
    }
}

impl FromStr for ActionPart {
    type Err = Error;

    /// Reads the text of a part, see [`ActionLayout`].
    ///
    /// # Errors
    /// [`Error::Config`] with field `layout`.
    fn from_str(text: &str) -> Result<Self> {
        let unknown = || {
            invalid(format!(
                "has part `{text}`: expected xyz, axis-angle, euler, quaternion-xyzw, \
                 quaternion-wxyz, 6d or joints<count> with :delta or :absolute, or \
                 gripper<count> or ignored<count>"
            ))
        };
        let (name, mode) = match text.split_once(':') {
            None => (text, None),
            Some((name, "delta")) => (name, Some(ActionMode::Delta)),
            Some((name, "absolute")) => (name, Some(ActionMode::Absolute)),
            Some(_) => return Err(unknown()),
        };
        // Without a count, `missing` is the count.
        let count = |digits: &str, missing: Option<usize>| match digits {
            "" => missing.ok_or_else(unknown),
            _ if !digits.bytes().all(|byte| byte.is_ascii_digit()) => Err(unknown()),
            _ => match digits.parse() {
                Ok(count) if (1..=MAX_ACTION).contains(&count) => Ok(count),
                _ => Err(invalid(format!(
                    "has part `{text}`: expected a count of 1 to {MAX_ACTION}"
                ))),
            },
        };
        match (name, mode) {
            ("xyz", Some(mode)) => Ok(Self::Translation(mode)),
            ("axis-angle", Some(mode)) => Ok(Self::AxisAngle(mode)),
            ("euler", Some(mode)) => Ok(Self::Euler(mode)),
            ("quaternion-xyzw", Some(mode)) => Ok(Self::QuaternionXyzw(mode)),
            ("quaternion-wxyz", Some(mode)) => Ok(Self::QuaternionWxyz(mode)),
            ("6d", Some(mode)) => Ok(Self::SixD(mode)),
            (name, Some(mode)) => {
                let digits = name.strip_prefix("joints").ok_or_else(unknown)?;
                Ok(Self::Joints(count(digits, None)?, mode))
            }
            (name, None) => match (name.strip_prefix("gripper"), name.strip_prefix("ignored")) {
                (Some(digits), _) => Ok(Self::Gripper(count(digits, Some(1))?)),
                (_, Some(digits)) => Ok(Self::Ignored(count(digits, Some(1))?)),
                _ => Err(unknown()),
            },
        }
    }
}

impl FromStr for ActionLayout {
    type Err = Error;

    /// Reads the text of a layout, see [`ActionLayout`].
    ///
    /// # Errors
    /// [`Error::Config`] with field `layout`.
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "end-effector" => return Ok(Self::end_effector()),
            "aloha" => return Ok(Self::aloha()),
            _ => (),
        }
        let arm = |text: &str| text.split(',').map(str::parse).collect::<Result<Vec<_>>>();
        let arms = text.split('+').map(arm).collect::<Result<Vec<_>>>()?;
        let arms: Vec<&[ActionPart]> = arms.iter().map(Vec::as_slice).collect();
        Self::new(&arms)
    }
}

impl serde::Serialize for ActionLayout {
    fn serialize<S: serde::Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for ActionLayout {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_back_as_the_same_layout() {
        for (text, dims) in [
            ("xyz:delta,axis-angle:delta,gripper", 7),
            ("xyz:absolute,euler:absolute,gripper", 7),
            ("xyz:delta,quaternion-xyzw:absolute,gripper2", 9),
            ("ignored3,xyz:absolute,quaternion-wxyz:delta", 10),
            (
                "xyz:absolute,6d:absolute,gripper+xyz:absolute,6d:absolute,gripper",
                20,
            ),
            ("joints6:absolute,gripper+joints6:absolute,gripper", 14),
            ("joints7:delta,gripper,ignored", 9),
            ("joints64:absolute", 64),
            ("xyz:delta", 3),
        ] {
            let layout: ActionLayout = text.parse().unwrap();
            assert_eq!((layout.to_string().as_str(), layout.dims()), (text, dims));
            let json = serde_json::to_string(&layout).unwrap();
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<ActionLayout>(&json).unwrap(), layout);
        }
        for (name, layout) in [
            ("end-effector", ActionLayout::default()),
            ("aloha", ActionLayout::aloha()),
        ] {
            assert_eq!(name.parse::<ActionLayout>().unwrap(), layout);
        }
    }

    #[test]
    fn rejects_invalid_text_with_the_part_or_the_arm() {
        for (text, expected) in [
            ("", "has part ``"),
            ("xyz", "has part `xyz`"),
            ("xyz:Delta", "has part `xyz:Delta`"),
            ("xyz:delta,", "has part ``"),
            ("xyz:delta, gripper", "has part ` gripper`"),
            ("joints:absolute", "has part `joints:absolute`"),
            ("joints6", "has part `joints6`"),
            ("joints+6:delta", "has part `joints`"),
            ("joints0:absolute", "a count of 1 to 64"),
            ("joints65:absolute", "a count of 1 to 64"),
            ("joints99999999999999999999:delta", "a count of 1 to 64"),
            ("joints6:absolute,gripper:delta", "has part `gripper:delta`"),
            ("joints64:absolute,gripper", "has 65 numbers"),
            (
                "gripper",
                "0 translations, 0 rotations and 0 parts of joints in arm 0",
            ),
            (
                "xyz:delta+euler:delta",
                "0 translations, 1 rotations and 0 parts of joints in arm 1",
            ),
            ("xyz:delta,euler:delta,6d:delta", "2 rotations"),
            (
                "xyz:delta,joints6:delta",
                "1 translations, 0 rotations and 1 parts of joints",
            ),
            (
                "xyz:delta+xyz:delta+xyz:delta",
                "has 3 arms: expected 1 to 2",
            ),
            (
                "xyz:delta,ignored,ignored,ignored,ignored,ignored,ignored",
                "has 7 parts of arm 0",
            ),
        ] {
            let error = text.parse::<ActionLayout>().unwrap_err().to_string();
            assert!(
                error.starts_with("invalid configuration: layout"),
                "{error}"
            );
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(ActionLayout::new(&[]).is_err());
        assert!(ActionLayout::new(&[&[]]).is_err());
        assert!(ActionLayout::joints(0, ActionMode::Delta).is_err());
        assert!(ActionLayout::joints(usize::MAX, ActionMode::Delta).is_err());
        let parts = [
            ActionPart::Joints(usize::MAX, ActionMode::Delta),
            ActionPart::Gripper(2),
        ];
        assert!(ActionLayout::new(&[&parts]).is_err());
    }
}
