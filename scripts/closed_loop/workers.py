"""Processes that play episodes."""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

_player = None  # of this process


def _start(binary: Path, folder: Path) -> None:
    global _player
    from .episode import Player

    os.chdir(folder)  # MuJoCo writes its log into the current folder.
    _player = Player(binary)


def _work(job: tuple[Callable, Any, float]) -> Any:
    function, item, end = job
    return None if time.time() >= end else function(_player, item)


def work(
    function: Callable, items: list, jobs: int, binary: Path, folder: Path, end: float = float("inf")
) -> Iterator[Any]:
    """Yields `function(player, item)` for each item in any order; `None` for those not begun before the time `end`.

    The processes keep their players, and work in `folder`.
    """
    context = multiprocessing.get_context("spawn")
    with context.Pool(min(jobs, len(items)), _start, (binary, folder)) as pool:
        work_items: Iterable = ((function, item, end) for item in items)
        yield from pool.imap_unordered(_work, work_items)
