//! What clients of the LIBERO simulator do with actions and states.

/// Maps the gripper, the last dimension of an action, from the convention of the training data
/// (0 is closed, 1 is open) to that of the simulator (1 is closed, -1 is open).
///
/// The value becomes one of -1, 0 and 1. An action without dimensions is left unchanged.
pub fn libero_gripper(action: &mut [f64]) {
    if let Some(gripper) = action.last_mut() {
        let centered = 2.0 * *gripper - 1.0;
        // Unlike `signum`, numpy's sign of 0 is 0.
        let sign = if centered == 0.0 {
            0.0
        } else {
            centered.signum()
        };
        *gripper = -sign;
    }
}

/// Returns the axis-angle vector of a quaternion `(x, y, z, w)`.
///
/// It has the direction of the axis and the length of the angle in radians. `w` is clamped to
/// `[-1, 1]`; for the identity the vector is zero.
pub fn axis_angle([x, y, z, w]: [f64; 4]) -> [f64; 3] {
    let w = w.clamp(-1.0, 1.0);
    let sine = (1.0 - w * w).sqrt();
    if sine == 0.0 {
        return [0.0; 3];
    }
    [x, y, z].map(|v| v * 2.0 * w.acos() / sine)
}
