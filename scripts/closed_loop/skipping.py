"""The probability of the random skips that runs as many layers as the guided skips."""

from pathlib import Path

from .arms import Arm
from .server import Server

SEED = 1


def random_skip_arguments(
    episodes: list[dict], arm: Arm, task: str, seeds: list[int], binary: Path
) -> tuple[tuple[str, ...], dict]:
    """Returns the arguments of the server, and what is recorded with the episode.

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
    with Server(binary, arm.arguments + ("--random-skip", "1", "--seed", str(SEED))) as server:
        blocks = server.ask({"describe": True})["policy"]["blocks"]
        server.ask({"reset": True, "task": task})
        fewest = server.ask({"obs": [0.0] * 25})["layers"]
    probability = min(max((blocks - layers) / (blocks - fewest), 0.0), 1.0)
    arguments = ("--random-skip", f"{probability:.4f}", "--seed", str(SEED))
    return arguments, {"layers": round(layers, 4), "random_skip": round(probability, 4)}
