"""Plays episodes: a simulation, the servers of the arms, and the unquantized policy as the reference."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .arms import DEEP, HOLD, Schedule
from .server import Server, setup_digest
from .simulation import PhysicsError, Simulation
from .store import run_lengths
from .tasks import STEP_LIMIT

DEEP_BLOCKS = 16
ACTION_COLUMNS = tuple(f"a{index}" for index in range(7))
STEP_COLUMNS = (
    ("arm", "task", "seed", "t", "width", "target", "sensitivity", "reason", "runs", "reran", "layers", "micros")
    + ("token_std", "margin", "clipped", "error", "reach", "lift", "distance")
    + ACTION_COLUMNS
)
RULE_FIELDS = ("rule", "rule_widths", "costs", "floors")
EPISODE_KEY = ("arm", "task", "seed")
LIFTED = 0.02  # m above the start
OVER_TARGET = 0.03  # m, horizontal


@dataclass(frozen=True)
class EpisodePlan:
    """All that an episode depends on."""

    arm: str
    task: str
    seed: int
    arguments: tuple[str, ...]  # of the arm's server
    policy: tuple[str, ...]  # arguments that select the policy
    schedule: Schedule
    note: dict | None = None  # recorded with the episode
    own_server: bool = False  # whether its server ends with the episode, because it keeps a state over resets


class Player:
    """Keeps simulations and servers for the next episode. Use it in a `with` statement."""

    def __init__(self, binary: Path):
        self._binary = binary
        self._setup = setup_digest(binary)
        self._simulations: dict[str, Simulation] = {}
        self._servers: dict[tuple[str, ...], Server] = {}

    def __enter__(self) -> "Player":
        return self

    def __exit__(self, *_) -> None:
        for server in self._servers.values():
            server.close()

    def simulation(self, task: str) -> Simulation:
        """Returns the simulation of a task."""
        if task not in self._simulations:
            self._simulations[task] = Simulation(task)
        return self._simulations[task]

    def server(self, arguments: tuple[str, ...]) -> Server:
        """Returns the server with these arguments."""
        if arguments not in self._servers:
            self._servers[arguments] = Server(self._binary, arguments)
        return self._servers[arguments]

    def close_server(self, arguments: tuple[str, ...]) -> None:
        """Ends the server with these arguments."""
        self._servers.pop(arguments).close()

    def reference_actions(self, policy: tuple[str, ...], task: str, observations: list[list[float]]) -> np.ndarray:
        """Returns the actions of the unquantized policy, [steps, 7]."""
        server = self.server(policy + ("--width", "plain"))
        server.ask({"reset": True, "task": task})
        replies = server.ask_all([{"obs": observation} for observation in observations])
        return np.array([reply["action"] for reply in replies])

    def play(self, plan: EpisodePlan) -> tuple[dict, list[dict]]:
        """Plays an episode. Returns its record and the rows of its steps."""
        simulation, server = self.simulation(plan.task), self.server(plan.arguments)
        simulation.reset(plan.seed)
        start = simulation.fingerprint()
        server.ask({"reset": True, "task": plan.task})
        steps: list[dict] = []
        observations: list[list[float]] = []
        failure = None
        start_height = simulation.object()[2]
        success = False
        for t in range(STEP_LIMIT):
            observation = simulation.observation().tolist()
            observations.append(observation)
            reply = self._reply(server, plan.schedule[t], observation, steps)
            end_effector, moved, target = simulation.end_effector(), simulation.object(), simulation.target()
            steps.append(
                {
                    **reply,
                    "t": t,
                    "reach": float(np.linalg.norm(end_effector - moved)),
                    "lift": float(moved[2] - start_height),
                    "distance": float(np.linalg.norm((target - moved)[:2])),
                }
            )
            try:
                simulation.step(np.array(reply["action"]))
            except PhysicsError as error:
                failure = str(error)
                break
            if simulation.success():
                success = True
                break
        actions = np.array([step["action"] for step in steps])
        reference = self.reference_actions(plan.policy, plan.task, observations)
        for step, distance in zip(steps, np.linalg.norm(actions - reference, axis=1)):
            step["error"] = float(distance)
        record = {
            "arm": plan.arm,
            "task": plan.task,
            "seed": plan.seed,
            "start": start,
            "success": success,
            "steps": len(steps),
            "failed_at": None if success else failure or stage(steps, plan.task),
            "error": mean(steps, "error"),
            "micros": mean(steps, "micros"),
            "runs": sum(step["runs"] for step in steps),
            "reran": sum(reran(step) for step in steps),
            "widths": run_lengths(step["width"] for step in steps),
            "layers": self._layers(plan, steps),
            "actions": hashlib.sha256(actions.tobytes()).hexdigest()[:32],
            "setup": self._setup,
            "rule": self._rule(plan),
            "note": plan.note,
        }
        if plan.own_server:
            self.close_server(plan.arguments)
        return record, [row(plan, step) for step in steps]

    def _reply(self, server: Server, entry: str | None, observation: list[float], steps: list[dict]) -> dict:
        """Returns the server's reply, or the last one with `runs` 0 if the action is held."""
        if entry == HOLD:
            held = {"runs": 0, "micros": 0, "reason": "hold"}
            return {name: steps[-1][name] for name in ("action", "width")} | held
        request = {"obs": observation}
        if entry is not None:
            request["width"] = entry
        if steps and steps[-1]["runs"] == 0:
            request["executed"] = steps[-1]["action"]
        return server.ask(request)

    def _rule(self, plan: EpisodePlan) -> dict | None:
        """Returns what the server reports of the rule that decided the widths; `None` without decisions."""
        if plan.schedule[0] is not None:
            return None
        description = self.server(plan.arguments).ask({"describe": True})
        if description["width"] != "dynamic":
            return None
        return {name: description[name] for name in RULE_FIELDS if name in description}

    def _layers(self, plan: EpisodePlan, steps: list[dict]) -> float | None:
        """Returns the mean number of layers of a step of the deep policy."""
        if plan.policy != DEEP:
            return None
        for step in steps:
            step.setdefault("layers", DEEP_BLOCKS)
        return mean(steps, "layers")


def mean(steps: list[dict], name: str) -> float:
    """Returns the mean of a number over the steps."""
    return round(sum(step[name] for step in steps) / len(steps), 6)


def reran(step: dict) -> bool:
    """Returns whether the policy ran again, with another width or with no layer skipped."""
    return step.get("reran", False) or step["runs"] > 1


def stage(steps: list[dict], task: str) -> str:
    """Returns the stage that a failed episode did not complete: grasp, lift, transport or place."""
    lifted = [step for step in steps if step["lift"] > LIFTED]
    if not lifted:
        return "grasp"
    if task == "Lift":
        return "lift"
    return "transport" if min(step["distance"] for step in lifted) > OVER_TARGET else "place"


def row(plan: EpisodePlan, step: dict) -> dict:
    """Returns the row of a step, its numbers with few digits."""
    values = {"arm": plan.arm, "task": plan.task, "seed": plan.seed}
    for name in STEP_COLUMNS[3:-7]:
        value = step.get(name)
        values[name] = f"{value:.5g}" if isinstance(value, float) else value
    values["reran"] = int(reran(step))
    values["clipped"] = len(step.get("clipped", ()))
    return values | {name: f"{value:.4f}" for name, value in zip(ACTION_COLUMNS, step["action"])}
