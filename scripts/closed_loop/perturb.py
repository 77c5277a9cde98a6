"""`perturb`: the effect of one step at another width (DyQ-VLA, section III).

An episode is played by the nominal policy. At each selected step the action of another width, for the same
observation, is executed instead, and the nominal policy continues from there. The rows of NAME.perturb.csv have the
columns of tests/data/robot/perturb.csv, those of NAME.nominal.csv the columns of nominal_actions.csv. Only nominal
episodes that succeed are used.
"""

import argparse
import csv
import datetime
import sys
import time
from pathlib import Path

from .progress import Progress
from .run import Usage, add_shared_options, deadline, report_left_out
from .server import RESULTS, find_binary, private_copy
from .store import Store
from .tasks import parse_seeds, split_supported
from .workers import Workers

WIDTHS = {"a4": 4, "a2": 2, "a8": 8}  # by `draw` in the file
ACTION = tuple(f"a{index}" for index in range(7))
COLUMNS = (
    ("task", "episode", "mode", "t", "T_nom", "phase", "draw", "bits", "e_t", "e_t6")
    + ("D_eef", "D_obj", "D_eef_own", "D_obj_own", "T_own", "success")
    + ACTION
    + tuple(f"d{index}" for index in range(7))
)
NOMINAL_COLUMNS = ("task", "episode", "mode", "t") + ACTION
NO_PHASE = -1
MODE = "bc"  # the policy goes on after the perturbed step


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `perturb`."""
    parser.add_argument("--name", default="main", help="name of the results in target/closed-loop [%(default)s]")
    add_shared_options(parser)
    parser.add_argument("--every", type=int, default=7, help="perturb each N-th step [%(default)s]", metavar="N")
    parser.add_argument("--widths", default="a4,a2,a8", help="widths of the perturbed steps [%(default)s]")
    parser.add_argument(
        "--nominal", choices=("plain", "bf16"), default="plain", help="width of the other steps [%(default)s]"
    )
    parser.set_defaults(seeds="0:3")


def run(options: argparse.Namespace) -> None:
    """Runs the command.

    Raises `Usage`, and what its parts raise.
    """
    from .rollout import PerturbPlan, perturb_episode

    end = deadline(options.until, datetime.datetime.now())
    binary = private_copy(find_binary(options.server))
    tasks, left_out = split_supported(options.tasks.split(","))
    report_left_out("task", left_out)
    widths = options.widths.split(",")
    unknown = [width for width in widths if width not in WIDTHS]
    if unknown:
        raise Usage(f"unknown width {unknown[0]}: expected some of {', '.join(WIDTHS)}")
    if options.every < 1:
        raise Usage(f"--every is {options.every}: expected at least 1")
    with Store(RESULTS / f"{options.name}.perturb", COLUMNS, ("task", "seed")) as store:
        plans = [
            PerturbPlan(task, seed, options.nominal, tuple(widths), options.every)
            for seed in parse_seeds(options.seeds)
            for task in tasks
            if not store.has((task, seed))
        ]
        begun, progress = time.monotonic(), Progress(len(plans), "nominal episodes")
        with Workers(options.jobs, binary, RESULTS, end) as workers:
            for result in workers.map(perturb_episode, plans):
                if result is not None:
                    store.add(*result)
                    progress.add()
        progress.close()
        write_nominal(store.episodes, RESULTS / f"{options.name}.nominal.csv")
        used = sum(episode["success"] for episode in store.episodes)
        print(
            f"{used} of {len(store.episodes)} nominal episodes succeeded, {store.steps_path}, "
            f"{time.monotonic() - begun:.0f} s",
            file=sys.stderr,
        )


def write_nominal(episodes: list[dict], path: Path) -> None:
    """Writes the actions of the nominal episodes that succeeded."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(NOMINAL_COLUMNS)
        for episode in episodes:
            if episode["success"]:
                for t, action in enumerate(episode["nominal"]):
                    writer.writerow([episode["task"], episode["seed"], MODE, t, *(f"{x:.5f}" for x in action)])
