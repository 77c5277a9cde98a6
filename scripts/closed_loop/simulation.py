"""Simulated tasks with reproducible start states, a compiled control step, and the policy's observation.

Importing this module imports robosuite and MuJoCo.

The start state of an episode depends on the task and the seed only. Two influences of robosuite are removed:

- `gripper.current_action` survives a reset, so the fingers would start where the last episode left them;
- the construction draws the size of Lift's cube from numpy's global generator, which is seeded before it.

`Simulation.fingerprint` is a hash over the model and the state. Two episodes with equal fingerprints and equal actions
are equal bit for bit.
"""

import hashlib
from dataclasses import dataclass

from . import environments  # before MuJoCo: selects its renderer

import mujoco
import numpy as np

from . import controller

CONSTRUCTION_SEED = 0
UNSTABLE = (
    mujoco.mjtWarning.mjWARN_BADQPOS,
    mujoco.mjtWarning.mjWARN_BADQVEL,
    mujoco.mjtWarning.mjWARN_BADQACC,
    mujoco.mjtWarning.mjWARN_BADCTRL,
)
OPEN = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0])


@dataclass(frozen=True)
class State:
    """A saved state, see `Simulation.save`."""

    physics: np.ndarray
    finger_target: np.ndarray
    goal_rotation: np.ndarray


class PhysicsError(Exception):
    """The arm is singular, or MuJoCo reports an unstable state."""


class Simulation:
    """One task with a Panda arm."""

    def __init__(self, task: str):
        """Builds the task. Raises `ValueError` for an unknown one."""
        np.random.seed(CONSTRUCTION_SEED)
        self.task = task
        self._environment = environments.make(task)
        self._env = self._environment.env
        self.reset(0)
        content = np.empty(mujoco.mj_sizeModel(self._model), np.uint8)
        mujoco.mj_saveModel(self._model, None, content)
        self._model_digest = hashlib.sha256(content).digest()

    def reset(self, seed: int) -> None:
        """Starts the episode of `seed`."""
        np.random.seed(seed)
        self._env.robots[0].gripper.current_action = np.zeros(2)
        self._environment.reset(seed)
        self._bind()
        for _ in range(self._environment.settling_steps):
            self.step(OPEN)

    def _bind(self) -> None:
        """Takes views of the state and constants of the controller. A reset makes a new controller."""
        env, robot = self._env, self._env.robots[0]
        law, gripper = robot.controller, robot.gripper
        model, data = env.sim.model._model, env.sim.data._data
        self._model, self._data, self._robot = model, data, robot
        site = self._id(mujoco.mjtObj.mjOBJ_SITE, law.eef_name)
        self._position = data.site_xpos[site]
        self._rotation = data.site_xmat[site].reshape(3, 3)
        self._base = data.xpos[self._id(mujoco.mjtObj.mjOBJ_BODY, robot.robot_model.root_body)]
        object_body = self._environment.object_body()
        self._object_position = data.xpos[object_body]
        self._object_rotation = data.xmat[object_body].reshape(3, 3)
        kind, target = self._environment.target()
        self._target_position = (data.xpos if kind == "body" else data.site_xpos)[target]
        self._finger_joints = np.array(robot._ref_gripper_joint_pos_indexes)
        self._finger_dofs = np.array(robot._ref_gripper_joint_vel_indexes)
        fingers = np.array(robot._ref_joint_gripper_actuator_indexes)
        low, high = model.actuator_ctrlrange[fingers].T
        torque_low, torque_high = robot.torque_limits
        self._finger_target = np.array(gripper.current_action, float)
        self._goal_rotation = np.array(law.goal_ori, float)
        self._step_arguments = (
            np.array(law.output_max, float),
            np.array(law.kp, float),
            np.array(law.initial_joint, float),
            site,
            self._position,
            self._rotation,
            data.qpos,
            data.qvel,
            data.qfrc_bias,
            data.qM,
            data.ctrl,
            np.array(law.qpos_index, np.int64),
            np.array(law.qvel_index, np.int64),
            np.array(robot._ref_joint_actuator_indexes, np.int64),
            np.array(torque_low, float),
            np.array(torque_high, float),
            fingers,
            0.5 * (low + high),
            0.5 * (high - low),
            self._finger_target,
            self._goal_rotation,
        )
        self._substeps = round(env.control_timestep / env.model_timestep)

    def _id(self, kind: mujoco.mjtObj, name: str) -> int:
        return mujoco.mj_name2id(self._model, kind, name)

    def step(self, action: np.ndarray) -> None:
        """Executes an action of 7 numbers for a control step.

        Raises `PhysicsError`.
        """
        model, data = self._model._address, self._data._address
        action = np.asarray(action, float)
        if not controller.control_step(model, data, self._substeps, action, *self._step_arguments):
            raise PhysicsError("the arm is singular")
        # MuJoCo counts a state that is not finite or huge, and resets it.
        if any(self._data.warning[kind].number for kind in UNSTABLE):
            raise PhysicsError("the physics is unstable")
        self._environment.after_step()

    def robosuite_step(self, action: np.ndarray) -> None:
        """Executes an action by robosuite's own code, which is ten times slower. For comparison."""
        law, gripper = self._robot.controller, self._robot.gripper
        law.goal_ori, gripper.current_action = self._goal_rotation.copy(), self._finger_target.copy()
        for substep in range(self._substeps):
            self._env.sim.forward()
            self._env._pre_action(action, substep == 0)
            self._env.sim.step()
        self._env.sim.forward()
        self._goal_rotation[:], self._finger_target[:] = law.goal_ori, gripper.current_action

    def observation(self) -> np.ndarray:
        """Returns the 25 numbers of the policy's observation, F32."""
        base, data = self._base, self._data
        parts = (
            self._position - base,
            self._rotation[:, 0],
            self._rotation[:, 2],
            data.qpos[self._finger_joints],
            data.qvel[self._finger_dofs],
            self._object_position - base,
            self._target_position - base,
            self._object_rotation[:, 0],
            self._object_rotation[:, 2],
        )
        return np.concatenate(parts).astype(np.float32)

    def end_effector(self) -> np.ndarray:
        """Returns the position of the end effector in m, [3]."""
        return self._position.copy()

    def object(self) -> np.ndarray:
        """Returns the position of the manipulated object in m, [3]."""
        return self._object_position.copy()

    def target(self) -> np.ndarray:
        """Returns the position of the target in m, [3]; that of the object in Lift."""
        return self._target_position.copy()

    def success(self) -> bool:
        """Returns whether the task is done in the present state."""
        return bool(self._env._check_success())

    def save(self) -> State:
        """Returns the state. After `restore` the same actions have the same results, bit for bit."""
        physics = np.empty(mujoco.mj_stateSize(self._model, mujoco.mjtState.mjSTATE_INTEGRATION))
        mujoco.mj_getState(self._model, self._data, physics, mujoco.mjtState.mjSTATE_INTEGRATION)
        return State(physics, self._finger_target.copy(), self._goal_rotation.copy())

    def restore(self, state: State) -> None:
        """Returns to a saved state of the same episode."""
        mujoco.mj_setState(self._model, self._data, state.physics, mujoco.mjtState.mjSTATE_INTEGRATION)
        self._finger_target[:] = state.finger_target
        self._goal_rotation[:] = state.goal_rotation
        mujoco.mj_step1(self._model, self._data)

    def fingerprint(self) -> str:
        """Returns a hash over the model and the state."""
        state = self.save()
        digest = hashlib.sha256(self._model_digest)
        # A reset of LIBERO moves fixtures, which are part of the model.
        placed = (self._model.body_pos, self._model.body_quat)
        for part in (*placed, state.physics, state.finger_target, state.goal_rotation):
            digest.update(part.tobytes())
        return digest.hexdigest()[:32]
