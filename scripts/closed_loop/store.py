"""Results on disk: NAME.jsonl with a line per episode, NAME.csv with a row per control step.

An episode is complete when its line is in NAME.jsonl. The rows of its steps are written first, and the line has the
length of NAME.csv after them (`steps_end`). Opening a store cuts off what an interrupted run left behind.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

Key = tuple


class Store:
    """The two files of a run. Only one process may write them."""

    def __init__(self, base: Path, columns: Sequence[str], key: Sequence[str]):
        """Opens the files `base`.jsonl and `base`.csv, and reads the episodes in the first.

        `columns` are those of a step, `key` the fields that identify an episode. Raises `ValueError` for a damaged
        file.
        """
        self.columns, self._key = tuple(columns), tuple(key)
        self.lines_path, self.steps_path = base.with_name(base.name + ".jsonl"), base.with_name(base.name + ".csv")
        base.parent.mkdir(parents=True, exist_ok=True)
        self.episodes, length = read_lines(self.lines_path)
        header = self._text([dict(zip(self.columns, self.columns))])
        end = self.episodes[-1]["steps_end"] if self.episodes else 0
        self._lines, self._steps = self.lines_path.open("ab"), self.steps_path.open("ab")
        if self._steps.tell() < end:
            raise ValueError(f"{self.steps_path} has {self._steps.tell()} bytes: expected at least {end}")
        self._lines.truncate(length)
        self._steps.truncate(end)
        if end == 0:
            self._steps.write(header)
        elif first_line(self.steps_path) != header:
            raise ValueError(f"{self.steps_path} has other columns: expected {','.join(self.columns)}")
        self._done = {self.key_of(episode) for episode in self.episodes}

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_) -> None:
        self._lines.close()
        self._steps.close()

    def key_of(self, episode: dict) -> Key:
        """Returns the key of an episode."""
        return tuple(episode[name] for name in self._key)

    def has(self, key: Key) -> bool:
        """Returns whether the episode is complete."""
        return key in self._done

    def add(self, episode: dict, steps: Iterable[dict]) -> None:
        """Appends a complete episode."""
        self._steps.write(self._text(steps))
        self._steps.flush()
        episode = episode | {"steps_end": self._steps.tell()}
        self._lines.write(json.dumps(episode).encode() + b"\n")
        self._lines.flush()
        self.episodes.append(episode)
        self._done.add(self.key_of(episode))

    def _text(self, steps: Iterable[dict]) -> bytes:
        text = io.StringIO()
        csv.DictWriter(text, self.columns, lineterminator="\n").writerows(steps)
        return text.getvalue().encode()


def first_line(path: Path) -> bytes:
    """Returns the first line with its end."""
    with path.open("rb") as file:
        return file.readline()


def read_lines(path: Path) -> tuple[list[dict], int]:
    """Returns the objects of a file of JSON lines, and the length of the complete lines in bytes.

    A last line without its end is left out. A missing file has no lines. Raises `ValueError` for another invalid line.
    """
    if not path.exists():
        return [], 0
    content = path.read_bytes()
    length = content.rfind(b"\n") + 1
    objects = []
    for number, line in enumerate(content[:length].splitlines(), 1):
        try:
            objects.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
    return objects, length


def read_steps(path: Path, end: int) -> Iterator[dict]:
    """Yields the rows of the first `end` bytes of a file of steps."""

    def lines() -> Iterator[str]:
        left = end
        with path.open("rb") as file:
            for line in file:
                left -= len(line)
                if left < 0:
                    return
                yield line.decode()

    yield from csv.DictReader(lines())


def run_lengths(values: Iterable) -> list[list]:
    """Returns `[value, count]` of each run of equal values."""
    runs: list[list] = []
    for value in values:
        if runs and runs[-1][0] == value:
            runs[-1][1] += 1
        else:
            runs.append([value, 1])
    return runs


def expand(runs: Iterable[Sequence]) -> list:
    """Returns the values of `run_lengths`."""
    return [value for value, count in runs for _ in range(count)]
