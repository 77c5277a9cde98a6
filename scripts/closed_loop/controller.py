"""One control step of a Panda under robosuite's OSC_POSE controller, compiled by numba.

robosuite 1.4.0 runs its controller in Python in each of the 25 physics steps of a control step, and calls `mj_forward`
twice as often as the physics needs. Here the whole control step is compiled and calls MuJoCo's C functions:

    goal = pose of the end effector + scaled action              once, before the first physics step
    repeat 25 times:
        mj_step1                                                 positions, velocities, bias forces
        torques = operational-space law(goal)                    Khatib 1987, as in robosuite's osc.py
        mj_step2                                                 forces, constraints, Euler step
    mj_step1                                                     positions and contacts of the new state

The law is that of robosuite with its pseudo-inverses replaced by Cholesky factorizations, which are equal where the arm
is not singular. `Simulation.robosuite_step` is the original, for comparison.
"""

from pathlib import Path

import llvmlite.binding
import mujoco
import numba
import numpy as np
from numba import types

DOF = 7  # joints of the arm
NULLSPACE_GAIN = 10.0  # robosuite's `joint_kp`
GRIPPER_SPEED = 0.01  # change of the gripper's target in a physics step, robosuite's PandaGripper

_library = next(Path(mujoco.__file__).parent.glob("libmujoco.*"))
llvmlite.binding.load_library_permanently(str(_library))
_ADDRESS = types.intp
_step1 = types.ExternalFunction("mj_step1", types.void(_ADDRESS, _ADDRESS))
_step2 = types.ExternalFunction("mj_step2", types.void(_ADDRESS, _ADDRESS))
_jacobian = types.ExternalFunction("mj_jacSite", types.void(_ADDRESS, _ADDRESS, _ADDRESS, _ADDRESS, types.int32))
_full_mass = types.ExternalFunction("mj_fullM", types.void(_ADDRESS, _ADDRESS, _ADDRESS))


@numba.njit(cache=True)
def cholesky(a: np.ndarray) -> bool:
    """Replaces the lower triangle of the symmetric matrix by its factor. Returns whether `a` is positive definite."""
    n = a.shape[0]
    for j in range(n):
        pivot = a[j, j]
        for k in range(j):
            pivot -= a[j, k] * a[j, k]
        if not pivot > 0.0:
            return False
        pivot = np.sqrt(pivot)
        a[j, j] = pivot
        for i in range(j + 1, n):
            total = a[i, j]
            for k in range(j):
                total -= a[i, k] * a[j, k]
            a[i, j] = total / pivot
    return True


@numba.njit(cache=True)
def solve(factor: np.ndarray, x: np.ndarray) -> None:
    """Replaces the vector `x` by the solution of `factor * factor^T * y = x`."""
    n = factor.shape[0]
    for i in range(n):
        total = x[i]
        for k in range(i):
            total -= factor[i, k] * x[k]
        x[i] = total / factor[i, i]
    for i in range(n - 1, -1, -1):
        total = x[i]
        for k in range(i + 1, n):
            total -= factor[k, i] * x[k]
        x[i] = total / factor[i, i]


@numba.njit(cache=True)
def rotate(rotation: np.ndarray, axis_angle: np.ndarray) -> np.ndarray:
    """Returns the matrix `rotation` rotated by `axis_angle` in the world frame."""
    angle = np.sqrt(np.sum(axis_angle * axis_angle))
    x, y, z = axis_angle / angle
    s, c = np.sin(angle), np.cos(angle)
    r = 1.0 - c
    delta = np.array(
        [
            [c + x * x * r, x * y * r - z * s, x * z * r + y * s],
            [y * x * r + z * s, c + y * y * r, y * z * r - x * s],
            [z * x * r - y * s, z * y * r + x * s, c + z * z * r],
        ]
    )
    result = np.zeros((3, 3))
    for i in range(3):
        for j in range(3):
            for k in range(3):
                result[i, j] += delta[i, k] * rotation[k, j]
    return result


@numba.njit(cache=True)
def orientation_error(goal: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Returns robosuite's `orientation_error` of two rotation matrices [3, 3]: a vector [3]."""
    error = np.zeros(3)
    for k in range(3):
        error[0] += rotation[1, k] * goal[2, k] - rotation[2, k] * goal[1, k]
        error[1] += rotation[2, k] * goal[0, k] - rotation[0, k] * goal[2, k]
        error[2] += rotation[0, k] * goal[1, k] - rotation[1, k] * goal[0, k]
    return 0.5 * error


@numba.njit(cache=True)
def operational_space_torques(
    mass: np.ndarray,  # [7, 7], overwritten
    jacobian: np.ndarray,  # [6, 7]
    acceleration: np.ndarray,  # [6], wanted: translation, rotation
    posture: np.ndarray,  # [7], wanted joint accelerations in the null space
    bias: np.ndarray,  # [7], Coriolis and gravity
    torques: np.ndarray,  # [7], written
) -> bool:
    """Writes the torques of the law. Returns false if a matrix is singular."""
    posture_torques = np.zeros(DOF)
    for i in range(DOF):
        for k in range(DOF):
            posture_torques[i] += mass[i, k] * posture[k]
    if not cholesky(mass):
        return False
    inverse = jacobian.copy()  # J M^-1, [6, 7]
    for i in range(6):
        solve(mass, inverse[i])
    inertia = np.zeros((6, 6))  # J M^-1 J^T
    null = np.zeros(6)  # J M^-1 posture_torques
    for i in range(6):
        for k in range(DOF):
            null[i] += inverse[i, k] * posture_torques[k]
        for j in range(6):
            for k in range(DOF):
                inertia[i, j] += inverse[i, k] * jacobian[j, k]
    translation, rotation = inertia[:3, :3].copy(), inertia[3:, 3:].copy()
    if not (cholesky(translation) and cholesky(rotation) and cholesky(inertia)):
        return False
    wrench = acceleration.copy()
    solve(translation, wrench[:3])
    solve(rotation, wrench[3:])
    solve(inertia, null)
    for i in range(DOF):
        torques[i] = bias[i] + posture_torques[i]
        for k in range(6):
            torques[i] += jacobian[k, i] * (wrench[k] - null[k])
    return True


@numba.njit(cache=True)
def control_step(
    model: int,  # address of the mjModel
    data: int,  # address of the mjData
    substeps: int,
    action: np.ndarray,  # [7] in [-1, 1]
    scale: np.ndarray,  # [6], m and rad
    stiffness: np.ndarray,  # [6]
    rest: np.ndarray,  # [7], posture in the null space
    site: int,  # of the end effector
    position: np.ndarray,  # [3], view of the site's position
    rotation: np.ndarray,  # [3, 3], view of the site's rotation
    qpos: np.ndarray,  # views of mjData
    qvel: np.ndarray,
    bias: np.ndarray,
    mass: np.ndarray,  # qM, packed
    ctrl: np.ndarray,
    joints: np.ndarray,  # [7] indices into qpos
    dofs: np.ndarray,  # [7] indices into qvel
    motors: np.ndarray,  # [7] indices into ctrl
    torque_low: np.ndarray,  # [7]
    torque_high: np.ndarray,  # [7]
    fingers: np.ndarray,  # [2] indices into ctrl
    finger_center: np.ndarray,  # [2], middle of the range of ctrl
    finger_half: np.ndarray,  # [2], half of that range
    finger_target: np.ndarray,  # [2] in [-1, 1], state of the gripper, updated
    goal_rotation: np.ndarray,  # [3, 3], state of the controller, updated
) -> bool:
    """Performs a control step. Returns false if the arm is singular, with the state in the middle of the step."""
    nv = qvel.shape[0]
    translation, turning = np.empty((3, nv)), np.empty((3, nv))
    full_mass = np.empty((nv, nv))
    arm_mass, jacobian = np.empty((DOF, DOF)), np.empty((6, DOF))
    acceleration, posture, arm_bias, torques = np.empty(6), np.empty(DOF), np.empty(DOF), np.empty(DOF)
    damping = 2.0 * np.sqrt(stiffness)
    null_damping = 2.0 * np.sqrt(NULLSPACE_GAIN)
    goal_position = np.empty(3)
    for substep in range(substeps):
        _step1(model, data)
        if substep == 0:
            delta = np.minimum(np.maximum(action[:6], -1.0), 1.0) * scale
            goal_position[:] = position + delta[:3]
            # Without a rotation robosuite keeps the goal of the step before.
            if np.any(delta[3:] != 0.0):
                goal_rotation[:] = rotate(rotation, delta[3:])
        _jacobian(model, data, translation.ctypes.data, turning.ctypes.data, site)
        _full_mass(model, full_mass.ctypes.data, mass.ctypes.data)
        for i in range(DOF):
            for k in range(3):
                jacobian[k, i] = translation[k, dofs[i]]
                jacobian[3 + k, i] = turning[k, dofs[i]]
            for j in range(DOF):
                arm_mass[i, j] = full_mass[dofs[i], dofs[j]]
            velocity = qvel[dofs[i]]
            posture[i] = NULLSPACE_GAIN * (rest[i] - qpos[joints[i]]) - null_damping * velocity
            arm_bias[i] = bias[dofs[i]]
        acceleration[:3] = goal_position - position
        acceleration[3:] = orientation_error(goal_rotation, rotation)
        for k in range(6):
            velocity = 0.0
            for i in range(DOF):
                velocity += jacobian[k, i] * qvel[dofs[i]]
            acceleration[k] = stiffness[k] * acceleration[k] - damping[k] * velocity
        if not operational_space_torques(arm_mass, jacobian, acceleration, posture, arm_bias, torques):
            return False
        for i in range(DOF):
            ctrl[motors[i]] = min(max(torques[i], torque_low[i]), torque_high[i])
        for i in range(2):
            # The first finger opens toward negative targets, the second one toward positive ones.
            direction = -1.0 if i == 0 else 1.0
            target = finger_target[i] + direction * GRIPPER_SPEED * np.sign(action[6])
            finger_target[i] = min(max(target, -1.0), 1.0)
            ctrl[fingers[i]] = finger_center[i] + finger_half[i] * finger_target[i]
        _step2(model, data)
    _step1(model, data)
    return True
