"""Processes that play episodes."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_player = None  # of this process


def _start(binary: Path, folder: Path) -> None:
    global _player
    from .episode import Player

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The parent ends its processes.
    os.chdir(folder)  # MuJoCo writes its log into the current folder.
    _player = Player(binary)


def _work(job: tuple[Callable, Any, float]) -> Any:
    function, item, end = job
    return None if time.time() >= end else function(_player, item)


class Workers:
    """`jobs` processes, each with a `Player` of the program `binary`, in `folder`. Use it in a `with` statement."""

    def __init__(self, jobs: int, binary: Path, folder: Path, end: float):
        """Starts the processes. They begin nothing after the time `end`."""
        self._end = end
        self._pool = multiprocessing.get_context("spawn").Pool(jobs, _start, (binary, folder))

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_) -> None:
        self._pool.terminate()

    def map(self, function: Callable, items: list) -> Iterator[Any]:
        """Yields `function(player, item)` of each item in any order; `None` for those that were not begun."""
        return self._pool.imap_unordered(_work, ((function, item, self._end) for item in items))
