"""Runs one program within a limit, and stops it when the run itself is stopped."""

import ctypes
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Callable, Dict, List, Optional

# Seconds between two looks at the limit and at signals.
STEP = 0.2
# Steps between two calls of `beat`.
BEAT = 10
# Seconds that a program has to end by itself after SIGTERM.
GRACE = 1.0
# Seconds after SIGKILL until a program counts as stuck in the driver. The run goes on without it.
STUCK = 5.0
PR_SET_PDEATHSIG = 1
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def _libc_prctl() -> Optional[Callable[..., int]]:
    try:
        return ctypes.CDLL(None).prctl
    except (AttributeError, OSError):
        return None


_prctl = _libc_prctl()


def _die_with_parent() -> None:
    """Makes the kernel kill this process when its parent dies, even by SIGKILL."""
    if _prctl:
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Stop:
    """Remembers the signal that asks this process to stop."""

    def __init__(self) -> None:
        self.signal: Optional[int] = None

    def watch(self) -> None:
        """Handles the signals from now on."""
        for number in STOPPING:
            signal.signal(number, self._received)

    def _received(self, number: int, _frame: object) -> None:
        self.signal = self.signal or number

    def name(self) -> str:
        """Returns the name of the signal. Fails without one."""
        assert self.signal
        return signal.Signals(self.signal).name


class Ended:
    """How a program ended. `code` is its exit status, or `None` if it was stopped."""

    def __init__(self, code: Optional[int], seconds: float, why: Optional[str] = None) -> None:
        self.code, self.seconds, self.why = code, seconds, why


def start(command: List[str], log: Path, env: Dict[str, str]) -> subprocess.Popen:
    """Starts a program in a session of its own, with its output in a file. Raises `OSError`."""
    with open(log, "wb") as file:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=log.parent,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )


def end(process: subprocess.Popen) -> None:
    """Ends a program and what it started."""
    for number, seconds in ((signal.SIGTERM, GRACE), (signal.SIGKILL, STUCK)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            pass
        try:
            # After SIGTERM the members of the group that outlive the program are killed too.
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            pass


def run(
    command: List[str],
    log: Path,
    limit: float,
    stop: Stop,
    env: Optional[Dict[str, str]] = None,
    beat: Callable[[], None] = lambda: None,
) -> Ended:
    """Runs a program until it ends, for at most `limit` seconds, or until a signal arrives.

    `beat` is called every two seconds.
    """
    begin = time.monotonic()
    try:
        process = start(command, log, {**os.environ, **(env or {})})
    except OSError as error:
        log.write_text(f"{command[0]} could not be started: {error}\n", encoding="utf-8")
        return Ended(127, 0.0)
    steps = 0
    while True:
        seconds = time.monotonic() - begin
        if stop.signal or seconds >= limit:
            end(process)
            why = stop.name() if stop.signal else f"after {limit:.0f} s"
            return Ended(None, time.monotonic() - begin, why)
        try:
            code = process.wait(timeout=max(0.01, min(STEP, limit - seconds)))
        except subprocess.TimeoutExpired:
            steps += 1
            if steps % BEAT == 0:
                beat()
            continue
        return Ended(code, time.monotonic() - begin)
