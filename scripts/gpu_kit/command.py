"""The command line of a kit's `run`."""

import argparse
import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import List

from . import parts, process
from .session import Session

DESCRIPTION = """Runs the GPU tests of w4ax, its benches and the peers' bench on this machine.

Needs Python 3.8 and an NVIDIA driver; for the peers, torch too. Order: a smoke test (one kernel of each family, the
bandwidths); every kernel; graphs and routing; the C ABI; failing calls; sanitizers, if requested; benches. The report
is rewritten after every part, so that a run can be cut off at any time.

With --deadline, nothing begins that is not expected to end in time, and what runs at the deadline is stopped.
"""
EPILOG = """It leaves report.json, summary.txt and logs.tar.gz in the folder of --out. Exit status: 0 if all parts
passed or were left out, 1 if one failed, 3 if none failed and the time was over before the end, 128 + N after signal N.

A missing tool is a failure. With W4AX_ALLOW_MISSING_TOOLS=1 its part is left out.
"""


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    made = argparse.ArgumentParser(
        "run", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--only", metavar="REGEX", help="smoke tests, and the parts whose name has a match; see --list")
    made.add_argument("--shard", metavar="i/n", default="1/1", help="smoke tests, and every n-th part from the i-th on")
    made.add_argument("--deadline", metavar="S", type=float, help="seconds after which the run has ended")
    made.add_argument("--out", metavar="DIR", help="folder of the report; default: the kit's")
    earlier = "reports of earlier runs: their durations are expected, and what passed with the same kit is left out"
    made.add_argument("--after", metavar="REPORT", nargs="+", default=[], help=earlier)
    made.add_argument("--sanitizer", action="store_true", help="run some tests under compute-sanitizer")
    made.add_argument("--quick", action="store_true", help="a tenth of the random cases, and one shape in the benches")
    made.add_argument("--device", metavar="N", type=int, default=0, help="ordinal of the device; default: 0")
    made.add_argument("--no-smoke", action="store_true", help="no smoke test first")
    made.add_argument("--list", action="store_true", help="print the parts in their order with expected seconds only")
    return made


def check(made: argparse.ArgumentParser, options: argparse.Namespace, kit: Path) -> None:
    """Exits with a message if an option is invalid or the kit is incomplete."""
    if options.deadline is not None and not 0 < options.deadline < float("inf"):
        made.error(f"invalid --deadline {options.deadline}: expected a number of seconds above 0")
    try:
        parts.shard_of(options.shard)
        re.compile(options.only or "")
    except ValueError as error:
        made.error(str(error))
    except re.error as error:
        made.error(f"invalid --only {options.only}: {error}")
    for program in ("bin/test", "bin/bench", "gpu-peers"):
        if not (kit / program).is_file():
            made.error(f"{kit / program} is missing: copy the whole folder")


def read_reports(made: argparse.ArgumentParser, paths: List[str]) -> List[dict]:
    """Returns earlier reports. Exits with a message if one cannot be read."""
    reports = []
    for path in paths:
        try:
            reports.append(json.loads(Path(path).read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            made.error(f"invalid --after {path}: {error}")
    return reports


def main(kit: Path) -> int:
    """Runs the command. Returns the exit status."""
    made = parser()
    options = made.parse_args()
    options.out = options.out or str(kit)
    check(made, options, kit)
    earlier = read_reports(made, options.after)
    stop = process.Stop()
    stop.watch()
    work = Path(tempfile.mkdtemp(prefix="w4ax-kit-"))
    try:
        session = Session(kit, options, earlier, stop, work)
        if not options.list:
            return session.run()
        for part in session.list_parts():
            print(f"{part.kind:9} {part.expected:6.0f} s  {part.name}")
        return 0
    finally:
        shutil.rmtree(work, ignore_errors=True)
