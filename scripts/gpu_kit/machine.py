"""The machine of a run: its device, its clocks and its libraries."""

import json
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any, Dict, List, Optional, Union

from . import process

CLOCKS = [
    "driver_version",
    "clocks.sm",
    "clocks.mem",
    "clocks.max.sm",
    "clocks.max.mem",
    "power.limit",
    "temperature.gpu",
    "persistence_mode",
]
SAMPLED = ["clocks.sm", "clocks.mem", "power.draw", "temperature.gpu"]
SAMPLE_MS = 500
# Seconds that a query may take.
PATIENCE = 60.0


def system() -> str:
    """Returns the name and version of the operating system, and the architecture."""
    return f"{platform.system()} {platform.release()} {platform.machine()}"


def use_libraries(folder: Path, programs: List[Path]) -> None:
    """Uses the libraries of the kit where those of the system are missing or too old."""
    if not shutil.which("ldd"):
        return
    # ldd reports missing libraries on stdout and missing versions of symbols on stderr.
    command = ["ldd", *map(str, programs)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if b"not found" in done.stdout:
        earlier = os.environ.get("LD_LIBRARY_PATH")
        os.environ["LD_LIBRARY_PATH"] = str(folder) + (f":{earlier}" if earlier else "")


def describe(bench: Path, device: int, work: Path, stop: process.Stop) -> Union[Dict[str, Any], str]:
    """Returns the description of the device, or why it is not available."""
    log = work / "describe.log"
    ended = process.run([str(bench), "--describe", "--device", str(device)], log, PATIENCE, stop)
    text = log.read_text(encoding="utf-8", errors="replace").strip()
    if ended.code != 0:
        return text or f"{bench.name} --describe: {ended.why or f'exit status {ended.code}'}"
    try:
        return json.loads(text.splitlines()[-1])
    except (IndexError, ValueError):
        return f"{bench.name} --describe printed no JSON: {text[:200]}"


def _query(device: int, fields: List[str]) -> List[str]:
    return ["nvidia-smi", "-i", str(device), "--query-gpu=" + ",".join(fields), "--format=csv,noheader"]


def clocks_now(device: int) -> Dict[str, str]:
    """Returns the driver's version and the current clocks."""
    if not shutil.which("nvidia-smi"):
        return {"problem": "nvidia-smi is not in PATH"}
    try:
        done = subprocess.run(_query(device, CLOCKS), capture_output=True, text=True, check=False, timeout=PATIENCE)
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"problem": str(error)}
    if done.returncode != 0:
        return {"problem": (done.stdout + done.stderr).strip()}
    return dict(zip(CLOCKS, (value.strip() for value in done.stdout.split(","))))


class Sampler:
    """Samples the clocks until it is stopped."""

    def __init__(self, device: int, work: Path) -> None:
        self.samples = work / "clocks.csv"
        self.process: Optional[subprocess.Popen] = None
        if shutil.which("nvidia-smi"):
            command = [*_query(device, SAMPLED), "-lms", str(SAMPLE_MS)]
            self.process = process.start(command, self.samples, dict(os.environ))

    def stop(self) -> None:
        """Ends the sampling."""
        if self.process:
            process.end(self.process)
            self.process = None

    def summary(self) -> Optional[Dict[str, Any]]:
        """Returns the number of samples, and the minimum and maximum of each field."""
        try:
            lines = self.samples.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return None
        rows = [row for row in map(_numbers, lines) if row]
        if not rows:
            return None
        ranges = {name: [min(column), max(column)] for name, column in zip(SAMPLED, zip(*rows))}
        return {"samples": len(rows), **ranges}


def _numbers(line: str) -> Optional[List[float]]:
    """Returns the numbers of a line such as `1980 MHz, 350.5 W`; `None` for an incomplete line."""
    fields = line.split(",")
    try:
        numbers = [float(field.split()[0]) for field in fields]
    except (IndexError, ValueError):
        return None
    return numbers if len(numbers) == len(SAMPLED) else None
