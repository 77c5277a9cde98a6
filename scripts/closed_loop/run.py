"""`run`: plays all missing episodes of the arms, tasks and seeds with several processes."""

import argparse
import datetime
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from .arms import ARMS, Arm, SourceRun, select
from .progress import Progress
from .server import RESULTS, ROOT, find_binary, private_copy, serve_options
from .skipping import arguments_of, matched_probability
from .store import Store, expand
from .tasks import ROBOSUITE_TASKS, parse_seeds, split_supported
from .workers import Workers


COSTS = ROOT / "docs" / "costs" / "bits.json"


class Usage(Exception):
    """An option is wrong."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `run`."""
    parser.add_argument("--name", default="main", help="name of the results in target/closed-loop [main]")
    parser.add_argument("--arms", default=",".join(ARMS), help="comma-separated; all that the server offers by default")
    parser.add_argument(
        "--costs", type=Path, default=COSTS, help="costs of the consistency rule [docs/costs/bits.json]"
    )
    add_shared_options(parser)


def add_shared_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that `run` and `perturb` share."""
    parser.add_argument("--tasks", default=",".join(ROBOSUITE_TASKS), help="comma-separated, or all [%(default)s]")
    parser.add_argument("--seeds", default="0:200", help="indices FIRST:END [%(default)s]; index i is seed 1000 + i")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="number of processes [%(default)s]")
    parser.add_argument("--until", help="begin no episode after this time, HH:MM")
    parser.add_argument("--server", help="the program w4ax; the release build by default")


def deadline(text: str | None, now: datetime.datetime) -> float:
    """Returns the next time HH:MM in seconds since the epoch; infinity without one.

    Raises `Usage`.
    """
    if text is None:
        return float("inf")
    try:
        clock = datetime.datetime.strptime(text, "%H:%M").time()
    except ValueError:
        raise Usage(f"invalid time {text}: expected HH:MM") from None
    end = datetime.datetime.combine(now.date(), clock)
    if end <= now:
        end += datetime.timedelta(days=1)
    return end.timestamp()


def report_left_out(kind: str, left_out: dict[str, str]) -> None:
    """Prints what is left out, and why."""
    for name, reason in left_out.items():
        print(f"{kind} {name} is left out: {reason}", file=sys.stderr)


def run(options: argparse.Namespace) -> None:
    """Runs the command.

    Raises `Usage`, and what its parts raise.
    """
    from .episode import EPISODE_KEY, STEP_COLUMNS

    end = deadline(options.until, datetime.datetime.now())
    binary = private_copy(find_binary(options.server))
    seeds = parse_seeds(options.seeds)
    tasks, tasks_left_out = split_supported(options.tasks.split(","))
    arms, arms_left_out = select(options.arms.split(","), serve_options(binary))
    report_left_out("task", tasks_left_out)
    report_left_out("arm", arms_left_out)
    if not options.costs.is_file():
        raise Usage(f"no file {options.costs}: expected the costs of a step, JSON")
    if not tasks or not arms:
        raise Usage("no task or no arm is left: expected at least one of each")
    with Store(RESULTS / options.name, STEP_COLUMNS, EPISODE_KEY) as store:
        begun, complete = time.monotonic(), True
        with Workers(options.jobs, binary, RESULTS, end) as workers:
            # The controls last: their schedules need the complete runs of their sources.
            for stage in ([arm for arm in arms if not arm.source], [arm for arm in arms if arm.source]):
                if complete:
                    missing = plans(store, stage, tasks, seeds, binary, options.costs)
                    complete = play_missing(store, missing, workers)
        if not complete:
            print("stopped at --until: the same command goes on", file=sys.stderr)
        seconds = time.monotonic() - begun
        print(f"{len(store.episodes)} episodes in {store.lines_path}, {seconds:.0f} s", file=sys.stderr)


def plans(store: Store, arms: list[Arm], tasks: list[str], seeds: list[int], binary: Path, costs: Path) -> list:
    """Returns the plans of the episodes that are not in the store. Neighbors have the same seed."""
    from .episode import EpisodePlan

    def plan(arm: Arm, task: str) -> Iterator[EpisodePlan | None]:
        source = source_run(store, arm.source, task, seeds) if arm.source else None
        arguments, note = arm.arguments, None
        if arm.costs:
            arguments += ("--costs", str(costs.resolve()))
        if arm.random_skip:
            probability, note = matched_probability(store.episodes, arm, task, seeds, binary)
        elif source:
            note = {"shares": {str(width): round(share, 6) for width, share in source.shares().items()}}
        for seed in seeds:
            if store.has((arm.name, task, seed)):
                yield None
                continue
            added = arguments_of(probability, seed) if arm.random_skip else ()
            schedule = arm.schedule(source, task, seed)
            yield EpisodePlan(
                arm.name, task, seed, arguments + added, arm.policy, schedule, note, own_server=arm.random_skip
            )

    columns = [list(plan(arm, task)) for task in tasks for arm in arms]
    return [entry for row in zip(*columns) for entry in row if entry is not None]


def source_run(store: Store, arm: str, task: str, seeds: list[int]) -> SourceRun:
    """Returns the source arm's widths on a task."""
    wanted = set(seeds)
    return SourceRun(
        {
            episode["seed"]: expand(episode["widths"])
            for episode in store.episodes
            if episode["arm"] == arm and episode["task"] == task and episode["seed"] in wanted
        }
    )


def play_missing(store: Store, missing: list, workers: Workers) -> bool:
    """Plays episodes into the store. Returns false if some were not begun in time."""
    from .episode import Player

    complete = True
    progress = Progress(len(missing), "episodes")
    for result in workers.map(Player.play, missing):
        if result is None:
            complete = False
        else:
            store.add(*result)
            progress.add()
    progress.close()
    return complete
