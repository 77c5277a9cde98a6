"""Random skips that run as many layers as the guided ones."""

from pathlib import Path

from .arms import Arm
from .server import Server


def arguments_of(probability: float, seed: int) -> tuple[str, ...]:
    """Returns the arguments of the server for an episode."""
    return ("--random-skip", f"{probability:.4f}", "--seed", str(seed))


def matched_probability(
    episodes: list[dict], arm: Arm, task: str, seeds: list[int], binary: Path
) -> tuple[float, dict]:
    """Returns the probability of a skip on a task, and what is recorded with the episodes.

    A skippable layer runs with probability 1 - P, so the mean number of layers falls linearly from all at P = 0 to
    the number of layers at P = 1, which one step of a server reports.
    """
    wanted = set(seeds)
    source = [
        episode
        for episode in episodes
        if episode["arm"] == arm.source and episode["task"] == task and episode["seed"] in wanted
    ]
    steps = sum(episode["steps"] for episode in source)
    layers = sum(episode["layers"] * episode["steps"] for episode in source) / steps
    with Server(binary, arm.arguments + arguments_of(1.0, 0)) as server:
        blocks = server.ask({"describe": True})["policy"]["blocks"]
        server.ask({"reset": True, "task": task})
        fewest = server.ask({"obs": [0.0] * 25})["layers"]
    probability = min(max((blocks - layers) / (blocks - fewest), 0.0), 1.0)
    return probability, {"layers": round(layers, 4), "random_skip": round(probability, 4)}
