//! Rotations of an action as rotation vectors: quaternions from each representation, and the
//! rotation from one to the next.

use super::layout::ActionPart;
use super::norm;
use crate::{Error, Result};

/// The smallest norm of a quaternion, or of a column of a 6D rotation after Gram-Schmidt. Below it,
/// the numbers are no rotation.
const SMALLEST: f64 = 1e-6;

/// A rotation as a unit quaternion in the order wxyz.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quaternion([f64; 4]);

impl Quaternion {
    /// Reads the numbers of a rotation part, `[dims]`.
    ///
    /// # Errors
    /// [`Error::Range`] if the numbers are no rotation.
    pub(super) fn of_part(part: ActionPart, numbers: &[f64]) -> Result<Self> {
        let bad = |range| Error::Range {
            what: "rotation of an action",
            value: format!("{numbers:?}"),
            range,
        };
        let found = match (part, numbers) {
            (ActionPart::AxisAngle(_), &[x, y, z]) => Self::from_vector([x, y, z]),
            (ActionPart::Euler(_), &[roll, pitch, yaw]) => Self::from_euler(roll, pitch, yaw),
            (ActionPart::QuaternionXyzw(_), &[x, y, z, w])
            | (ActionPart::QuaternionWxyz(_), &[w, x, y, z]) => {
                Self::normalized([w, x, y, z]).ok_or_else(|| bad("a quaternion that is not 0"))?
            }
            (ActionPart::SixD(_), &[a, b, c, d, e, f]) => Self::from_columns([a, b, c], [d, e, f])
                .ok_or_else(|| bad("two columns that are neither 0 nor parallel"))?,
            _ => unreachable!("{part} is no rotation of {} numbers", numbers.len()),
        };
        // A huge angle overflows.
        match found.0.iter().all(|x| x.is_finite()) {
            true => Ok(found),
            false => Err(bad("a rotation of finite angle")),
        }
    }

    /// Returns the rotation about `vector` by its norm.
    fn from_vector(vector: [f64; 3]) -> Self {
        let angle = norm(vector);
        // sin(angle / 2) / angle, whose limit at 0 is 1/2.
        let scale = if angle < 1e-8 {
            0.5
        } else {
            (angle / 2.0).sin() / angle
        };
        let [x, y, z] = vector.map(|v| v * scale);
        Self([(angle / 2.0).cos(), x, y, z])
    }

    fn from_euler(roll: f64, pitch: f64, yaw: f64) -> Self {
        let about = |angle: f64, axis: usize| {
            let mut q = [(angle / 2.0).cos(), 0.0, 0.0, 0.0];
            q[axis] = (angle / 2.0).sin();
            Self(q)
        };
        about(yaw, 3).times(about(pitch, 2)).times(about(roll, 1))
    }

    /// Returns the rotation whose matrix has these first two columns after Gram-Schmidt.
    fn from_columns(first: [f64; 3], second: [f64; 3]) -> Option<Self> {
        let unit = |v: [f64; 3]| {
            let length = norm(v);
            is_norm(length).then(|| v.map(|x| x / length))
        };
        let a = unit(first)?;
        // Normalized first, so that the smallest angle between the columns has no unit.
        let second = unit(second)?;
        let along: f64 = (0..3).map(|i| a[i] * second[i]).sum();
        let b = unit(std::array::from_fn(|i| second[i] - along * a[i]))?;
        let c = [
            a[1] * b[2] - a[2] * b[1],
            a[2] * b[0] - a[0] * b[2],
            a[0] * b[1] - a[1] * b[0],
        ];
        // Row i, column j of the matrix is [a, b, c][j][i]. Each candidate is the quaternion times
        // 4 times one of its elements; the largest element has the smallest rounding error.
        let candidates = [
            [
                1.0 + a[0] + b[1] + c[2],
                b[2] - c[1],
                c[0] - a[2],
                a[1] - b[0],
            ],
            [
                b[2] - c[1],
                1.0 + a[0] - b[1] - c[2],
                b[0] + a[1],
                c[0] + a[2],
            ],
            [
                c[0] - a[2],
                b[0] + a[1],
                1.0 - a[0] + b[1] - c[2],
                c[1] + b[2],
            ],
            [
                a[1] - b[0],
                c[0] + a[2],
                c[1] + b[2],
                1.0 - a[0] - b[1] + c[2],
            ],
        ];
        let largest = (0..4).fold(0, |most, i| {
            if candidates[i][i] > candidates[most][most] {
                i
            } else {
                most
            }
        });
        Self::normalized(candidates[largest])
    }

    fn normalized(q: [f64; 4]) -> Option<Self> {
        let length = norm(q);
        is_norm(length).then(|| Self(q.map(|x| x / length)))
    }

    fn times(self, other: Self) -> Self {
        let ([aw, ax, ay, az], [bw, bx, by, bz]) = (self.0, other.0);
        Self([
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ])
    }

    /// Returns the rotation from `before` to this one in the frame of the base.
    pub(super) fn since(self, before: Self) -> Self {
        let [w, x, y, z] = before.0;
        self.times(Self([w, -x, -y, -z]))
    }

    /// Returns the axis times the angle, whose norm is the geodesic distance to no rotation, at
    /// most pi.
    pub(super) fn vector(self) -> [f64; 3] {
        let [w, x, y, z] = self.0;
        // q and -q are the same rotation. The one with w >= 0 has the smaller angle.
        let sign = if w < 0.0 { -1.0 } else { 1.0 };
        let sine = norm([x, y, z]);
        let scale = match sine > 0.0 {
            true => 2.0 * sine.atan2(w.abs()) / sine,
            false => 2.0,
        };
        [x, y, z].map(|v| sign * scale * v)
    }
}

/// Returns whether a vector of this length has a direction. An infinite length is an overflow.
fn is_norm(length: f64) -> bool {
    length >= SMALLEST && length.is_finite()
}

/// Returns an angle in (-pi, pi].
pub(super) fn wrapped(angle: f64) -> f64 {
    use std::f64::consts::{PI, TAU};
    // An angle in range keeps its bits.
    if angle > -PI && angle <= PI {
        return angle;
    }
    let turned = angle.rem_euclid(TAU);
    if turned > PI { turned - TAU } else { turned }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::{FRAC_PI_2, PI};

    use super::super::layout::ActionMode::Absolute;
    use super::*;

    fn close(got: [f64; 3], expected: [f64; 3]) {
        let apart = norm((0..3).map(|i| got[i] - expected[i]));
        assert!(apart < 1e-12, "{got:?} not {expected:?}");
    }

    fn vector(part: ActionPart, numbers: &[f64]) -> [f64; 3] {
        Quaternion::of_part(part, numbers).unwrap().vector()
    }

    #[test]
    fn each_representation_matches_hand_computed_vectors() {
        use ActionPart::*;
        let half = std::f64::consts::FRAC_1_SQRT_2;
        // A quarter turn about z maps x to y and y to -x.
        let z = [0.0, 0.0, FRAC_PI_2];
        close(vector(AxisAngle(Absolute), &z), z);
        close(vector(Euler(Absolute), &z), z);
        close(vector(QuaternionXyzw(Absolute), &[0.0, 0.0, half, half]), z);
        close(vector(QuaternionXyzw(Absolute), &[0.0, 0.0, -3.0, -3.0]), z);
        close(vector(QuaternionWxyz(Absolute), &[half, 0.0, 0.0, half]), z);
        close(vector(SixD(Absolute), &[0.0, 1.0, 0.0, -1.0, 0.0, 0.0]), z);
        // Gram-Schmidt removes lengths, and the part of the second column along the first.
        close(vector(SixD(Absolute), &[0.0, 5.0, 0.0, -1.0, 9.0, 0.0]), z);
        // Roll, then pitch, then yaw: Rz(90) Ry(90) Rx(90) is Ry(90).
        let quarters = [FRAC_PI_2; 3];
        close(vector(Euler(Absolute), &quarters), [0.0, FRAC_PI_2, 0.0]);
        // Each branch of the matrix: half turns about x, y and z, and no rotation.
        close(
            vector(SixD(Absolute), &[1.0, 0.0, 0.0, 0.0, -1.0, 0.0]),
            [PI, 0.0, 0.0],
        );
        close(
            vector(SixD(Absolute), &[-1.0, 0.0, 0.0, 0.0, 1.0, 0.0]),
            [0.0, PI, 0.0],
        );
        close(
            vector(SixD(Absolute), &[-1.0, 0.0, 0.0, 0.0, -1.0, 0.0]),
            [0.0, 0.0, PI],
        );
        close(
            vector(SixD(Absolute), &[1.0, 0.0, 0.0, 0.0, 1.0, 0.0]),
            [0.0; 3],
        );
        // More than half a turn is less than half a turn the other way.
        close(
            vector(AxisAngle(Absolute), &[1.5 * PI, 0.0, 0.0]),
            [-FRAC_PI_2, 0.0, 0.0],
        );
    }

    #[test]
    fn tiny_rotations_keep_their_digits() {
        for tiny in [1e-300, 1e-12, 1e-9, 1e-7] {
            let [x, y, z] = vector(ActionPart::AxisAngle(Absolute), &[tiny, 0.0, -2.0 * tiny]);
            assert!(
                (x / tiny - 1.0).abs() < 1e-12 && (z / tiny + 2.0).abs() < 1e-12,
                "{x} {z}"
            );
            assert_eq!(y, 0.0);
        }
    }

    #[test]
    fn rejects_numbers_that_are_no_rotation() {
        let rejected = |part, numbers: &[f64], expected: &str| {
            let error = Quaternion::of_part(part, numbers).unwrap_err();
            assert!(matches!(error, Error::Range { .. }), "{error}");
            assert!(error.to_string().contains(expected), "{error}");
        };
        rejected(ActionPart::QuaternionXyzw(Absolute), &[0.0; 4], "not 0");
        rejected(ActionPart::QuaternionWxyz(Absolute), &[1e-9; 4], "not 0");
        for columns in [
            [0.0, 0.0, 0.0, 0.0, 1.0, 0.0],
            [1.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            [1.0, 2.0, 3.0, -2.0, -4.0, -6.0],
        ] {
            rejected(ActionPart::SixD(Absolute), &columns, "nor parallel");
        }
        rejected(ActionPart::AxisAngle(Absolute), &[1e200; 3], "finite angle");
        rejected(ActionPart::QuaternionXyzw(Absolute), &[1e200; 4], "");
        rejected(ActionPart::SixD(Absolute), &[1e200; 6], "");
    }

    #[test]
    fn wrapped_angles_are_above_minus_pi_and_at_most_pi() {
        for (angle, expected) in [(0.5, 0.5), (PI, PI), (-PI, PI), (4.0, 4.0 - 2.0 * PI)] {
            assert!((wrapped(angle) - expected).abs() < 1e-15, "{angle}");
        }
        assert!((wrapped(-4.0) - (2.0 * PI - 4.0)).abs() < 1e-15);
    }
}
