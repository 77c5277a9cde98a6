"""What a run leaves in its folder: report.json, summary.txt and logs.tar.gz.

Each is replaced as a whole, so that it is valid whenever the run is cut off. A run that is killed while it replaces one
of them can leave a fourth file, `.part`, which the next run overwrites. Files of programs that are still running are in
a folder `w4ax-kit-*` of the system's folder for temporary files.
"""

import gzip
import json
import os
import tarfile
import time
from pathlib import Path
from typing import Any, Dict, List, Optional

from .parts import Part

REPORT, SUMMARY, LOGS, STAGING = "report.json", "summary.txt", "logs.tar.gz", ".part"
# Lines of a log that the report has, and bytes of the start and of the end of a log that the archive has.
TAIL_LINES = 40
HEAD_BYTES, TAIL_BYTES = 64 << 10, 192 << 10
# A bench prints this line ahead of its short table.
SHORT_TABLE = "== summary"
SUMMARY_LINES = 40


def tail(text: str) -> str:
    """Returns the last lines of a log, each cut to a readable length."""
    return "\n".join(line[:2000] for line in text.splitlines()[-TAIL_LINES:])


def shortened(log: bytes) -> bytes:
    """Returns the start and the end of a long log."""
    if len(log) <= HEAD_BYTES + TAIL_BYTES:
        return log
    left_out = len(log) - HEAD_BYTES - TAIL_BYTES
    return log[:HEAD_BYTES] + f"\n... {left_out} bytes left out ...\n".encode() + log[-TAIL_BYTES:]


class Archive:
    """The logs as a tar file, of which each member is compressed by itself."""

    def __init__(self) -> None:
        self.members: List[bytes] = []

    def add(self, name: str, log: bytes) -> None:
        """Adds a log."""
        info = tarfile.TarInfo(name.replace("::", "-") + ".log")
        log = shortened(log)
        info.size, info.mtime = len(log), int(time.time())
        padding = -len(log) % tarfile.BLOCKSIZE
        self.members.append(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + log + bytes(padding)))

    def data(self) -> bytes:
        """Returns the archive."""
        return b"".join(self.members) + gzip.compress(bytes(tarfile.RECORDSIZE))


class Report:
    """The results of a run so far."""

    def __init__(self, folder: Path, header: Dict[str, Any]) -> None:
        self.folder, self.header = folder, header
        self.begin = time.monotonic()
        self.state = "starting"
        self.problems: List[str] = []
        self.device: Optional[Dict[str, Any]] = None
        self.parts: List[Part] = []
        self.clocks: Dict[str, Any] = {"before": None, "during": None, "after": None}
        self.measured: Dict[str, Any] = {}
        self.tables: Dict[str, List[str]] = {}
        self.archive = Archive()

    def seconds(self) -> float:
        """Returns the seconds since the start."""
        return time.monotonic() - self.begin

    def count(self, *results: str) -> int:
        """Returns the number of parts with one of the results."""
        return sum(part.result in results for part in self.parts)

    def failures(self) -> int:
        """Returns the number of failures; a device that is not available is one."""
        return self.count("failed", "timeout") + len(self.problems)

    def unfinished(self) -> List[str]:
        """Returns the names of the parts that did not run to their end."""
        return [part.name for part in self.parts if part.result not in ("ok", "failed", "timeout")]

    def cut_off(self) -> int:
        """Returns the number of parts that did not run to their end because the time was over."""
        return sum(
            part.result in ("pending", "running", "stopped") or (part.why or "").startswith("deadline")
            for part in self.parts
        )

    def document(self) -> Dict[str, Any]:
        """Returns the contents of report.json."""
        return {
            **self.header,
            "state": self.state,
            "seconds": round(self.seconds(), 1),
            "device": self.device,
            "problem": "; ".join(self.problems) or None,
            "passed": self.count("ok"),
            "failed": self.failures(),
            "left_out": self.count("left out"),
            "cut_off": self.cut_off(),
            "not_run": self.unfinished(),
            "parts": [part.entry() for part in self.parts],
            "clocks": self.clocks,
            "benches": self.measured,
        }

    def counts(self) -> str:
        """Returns the counts in one line."""
        return (
            f"{self.count('ok')} passed, {self.failures()} failed, {self.cut_off()} cut off, "
            f"{self.count('left out')} left out"
        )

    def text(self) -> str:
        """Returns the contents of summary.txt."""
        name = self.device["name"] if self.device else "no device"
        lines = [f"{name}; {self.state} after {self.seconds():.0f} s; {self.counts()}"]
        lines += self.problems
        for part in self.parts:
            seconds = "" if part.seconds is None else f"{part.seconds:.1f} s"
            lines.append(f"{part.result:9} {seconds:>9}  {part.name}" + (f": {part.why}" if part.why else ""))
        for part_name, table in self.tables.items():
            lines += ["", f"{part_name}:", *table]
        return "\n".join(lines) + "\n"

    def add_log(self, part: Part, log: bytes) -> None:
        """Adds the log of a part that ended to the archive, and its short table to the summary."""
        text = log.decode("utf-8", errors="replace")
        self.archive.add(part.name, log)
        if part.result != "ok":
            part.log = tail(text)
        if SHORT_TABLE in text:
            self.tables[part.name] = text.rsplit(SHORT_TABLE, 1)[1].strip("\n").splitlines()[:SUMMARY_LINES]

    def write(self, logs: bool = False) -> None:
        """Replaces the report and the summary, and with `logs` the archive."""
        if logs:
            self._replace(LOGS, self.archive.data())
        self._replace(SUMMARY, self.text().encode())
        self._replace(REPORT, (json.dumps(self.document(), indent=1) + "\n").encode())

    def _replace(self, name: str, data: bytes) -> None:
        staging = self.folder / STAGING
        with open(staging, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(staging, self.folder / name)
