"""A progress bar on standard error."""

import sys
import time

WIDTH = 30
LINE_SECONDS = 30.0  # between lines where standard error is not a terminal


class Progress:
    """Counts finished items of `total`. `noun` is their plural."""

    def __init__(self, total: int, noun: str):
        self._total, self._noun, self._done = total, noun, 0
        self._start = self._shown = time.monotonic()
        self._terminal = sys.stderr.isatty()

    def add(self) -> None:
        """Counts one more."""
        self._done += 1
        now = time.monotonic()
        if self._terminal or now - self._shown >= LINE_SECONDS or self._done == self._total:
            self._shown = now
            self._show(now - self._start)

    def close(self) -> None:
        """Ends the line of the bar."""
        if self._terminal and self._done:
            print(file=sys.stderr)

    def _show(self, seconds: float) -> None:
        filled = WIDTH * self._done // self._total
        rate = self._done / max(seconds, 1e-9)
        left = (self._total - self._done) / rate
        text = (
            f"[{'#' * filled}{'.' * (WIDTH - filled)}] {self._done}/{self._total} {self._noun}, "
            f"{60 * rate:.0f} per minute, {left / 60:.0f} min left"
        )
        end = "" if self._terminal else "\n"
        print(("\r" if self._terminal else "") + text, end=end, file=sys.stderr, flush=True)
