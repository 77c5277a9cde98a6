"""Plays the perturbed episodes of `perturb`."""

from dataclasses import dataclass

import numpy as np

from .arms import POLICY
from .episode import Player
from .perturb import ACTION, MODE, NO_PHASE, WIDTHS
from .server import Server
from .simulation import PhysicsError, Simulation, State
from .tasks import STEP_LIMIT


@dataclass(frozen=True)
class PerturbPlan:
    """A nominal episode and its perturbed steps."""

    task: str
    seed: int
    nominal: str  # width of all other steps
    widths: tuple[str, ...]  # of the perturbed step
    every: int


@dataclass
class Episode:
    """Steps from the start or from a perturbed step: positions are those after each step."""

    success: bool
    last: int  # the step that succeeded, otherwise the last one
    end_effector: list[np.ndarray]
    object: list[np.ndarray]


def perturb_episode(player: Player, plan: PerturbPlan) -> tuple[dict, list[dict]]:
    """Plays the nominal episode and all its perturbed ones. Returns the record and the rows."""
    simulation = player.simulation(plan.task)
    server = player.server(POLICY + ("--width", plan.nominal))
    server.ask({"reset": True, "task": plan.task})
    simulation.reset(plan.seed)
    record = {"task": plan.task, "seed": plan.seed, "start": simulation.fingerprint(), "width": plan.nominal}
    observations: list[list[float]] = []
    actions: list[list[float]] = []
    states: list[State] = []

    def nominal_action() -> list[float]:
        states.append(simulation.save())
        observations.append(simulation.observation().tolist())
        actions.append(server.ask({"obs": observations[-1]})["action"])
        return actions[-1]

    nominal = play(simulation, nominal_action, 0, None)
    record |= {"success": nominal.success, "T_nom": nominal.last, "nominal": actions}
    if not nominal.success:
        return record, []
    steps = range(0, len(actions), plan.every)
    rows = []
    others = {width: server.ask_all([{"obs": observations[t], "width": width} for t in steps]) for width in plan.widths}
    for at, t in enumerate(steps):
        for width, replies in others.items():
            action = np.array(replies[at]["action"])
            simulation.restore(states[t])
            rows.append(perturbed_row(plan, simulation, server, nominal, t, np.array(actions[t]), action, width))
    return record, rows


def play(simulation: Simulation, next_action, first: int, until: int | None) -> Episode:
    """Plays steps from `first` on until the task is done, and at least through the step `until`."""
    episode = Episode(False, STEP_LIMIT - 1, [], [])
    for t in range(first, STEP_LIMIT):
        try:
            simulation.step(np.array(next_action()))
        except PhysicsError:
            break
        episode.end_effector.append(simulation.end_effector())
        episode.object.append(simulation.object())
        if not episode.success and simulation.success():
            episode.success, episode.last = True, t
        if episode.success and (until is None or t >= until):
            break
    return episode


def perturbed_row(
    plan: PerturbPlan,
    simulation: Simulation,
    server: Server,
    nominal: Episode,
    t: int,
    nominal_action: np.ndarray,
    action: np.ndarray,
    width: str,
) -> dict:
    """Plays from the restored state of step `t` with `action` in that step. Returns the row."""
    pending = [action]

    def next_action() -> np.ndarray | list[float]:
        if pending:
            return pending.pop()
        return server.ask({"obs": simulation.observation().tolist()})["action"]

    other = play(simulation, next_action, t, nominal.last)
    change = action - nominal_action
    # By index: at the nominal end, and each at its own end.
    at_nominal, own = nominal.last - t, other.last - t
    deviations = {}
    for name, positions, nominal_positions in (
        ("D_eef", other.end_effector, nominal.end_effector),
        ("D_obj", other.object, nominal.object),
    ):
        end = nominal_positions[nominal.last]
        deviations[name] = np.linalg.norm(positions[min(at_nominal, len(positions) - 1)] - end)
        deviations[f"{name}_own"] = np.linalg.norm(positions[min(own, len(positions) - 1)] - end)
    return {
        "task": plan.task,
        "episode": plan.seed,
        "mode": MODE,
        "t": t,
        "T_nom": nominal.last,
        "phase": NO_PHASE,
        "draw": list(WIDTHS).index(width),
        "bits": WIDTHS[width],
        "e_t": f"{np.linalg.norm(change):.5f}",
        "e_t6": f"{np.linalg.norm(change[:6]):.5f}",
        **{name: f"{value:.6f}" for name, value in deviations.items()},
        "T_own": other.last,
        "success": int(other.success),
        **{name: f"{value:.4f}" for name, value in zip(ACTION, nominal_action)},
        **{f"d{index}": f"{value:.4f}" for index, value in enumerate(change)},
    }
