"""A run from its start to its end."""

import json
import os
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from . import machine, parts, process
from .durations import Durations
from .parts import Part
from .report import Report, tail

# Seconds before the deadline in which nothing runs: the last report is written then.
RESERVE = 3.0
# A bench that ends by itself at its deadline begins only if it has this many seconds.
LEAST_BENCH = 15.0
# Loading a bench and writing its report take a moment; one that overruns its deadline by much is stopped.
BENCH_MARGIN, BENCH_FACTOR = 2.0, 1.25
# Limits of a part in seconds: without a deadline, and under one. Each is at least a multiple of the expected duration.
LIMIT, LIMIT_UNDER_DEADLINE, LIMIT_FACTOR = 1800.0, 120.0, 5.0
PASSED = re.compile(r"^test result: ok\. [1-9][0-9]* passed", re.MULTILINE)
ALLOW_MISSING = "W4AX_ALLOW_MISSING_TOOLS"


class Session:
    """The state of a run. `options` are those of the command line."""

    def __init__(self, kit: Path, options: Any, earlier: List[Dict[str, Any]], stop: process.Stop, work: Path) -> None:
        self.kit, self.options, self.stop, self.work = kit, options, stop, work
        self.earlier = earlier
        self.durations = Durations(earlier)
        self.torch_checked = False
        self.about = _read_json(kit / "kit.json")
        header = {
            "kit": self.about,
            "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "system": machine.system(),
            "options": {name: getattr(options, name) for name in ("only", "shard", "deadline", "quick", "sanitizer")},
        }
        self.report = Report(Path(options.out).resolve(), header)

    def left(self) -> float:
        """Returns the seconds until nothing may run; infinite without a deadline."""
        if self.options.deadline is None:
            return float("inf")
        return self.options.deadline - RESERVE - self.report.seconds()

    def list_parts(self) -> List[Part]:
        """Returns the selected parts. A program that prints no tests is a problem of the report."""
        programs = []
        for program in sorted((self.kit / "bin").glob("test*")):
            if not os.access(program, os.X_OK):
                continue
            names = self.test_names(program)
            if not names:
                self.report.problems.append(f"{program.name} --list prints no tests")
            programs.append((str(program), names))
        bench, peers = str(self.kit / "bin" / "bench"), str(self.kit / "gpu-peers")
        found = parts.tests(programs) + parts.benches(bench, peers, self.options.device, self.options.quick)
        if self.options.sanitizer:
            found += parts.sanitizers(str(self.kit / "bin" / "test"))
        ordered = parts.in_order(found, self.durations)
        shard = parts.shard_of(self.options.shard)
        return parts.select(ordered, self.options.only, shard, not self.options.no_smoke)

    def test_names(self, program: Path) -> List[str]:
        """Returns the names of the tests of a program that need a device."""
        log = self.work / "list.log"
        process.run([str(program), "--list", "--ignored", "--format", "terse"], log, machine.PATIENCE, self.stop)
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        return [line[: -len(": test")] for line in lines if line.endswith(": test")]

    def run(self) -> int:
        """Runs all parts. Returns the exit status."""
        report = self.report
        report.folder.mkdir(parents=True, exist_ok=True)
        report.write(logs=True)
        machine.use_libraries(self.kit / "lib", [self.kit / "bin" / "test", self.kit / "bin" / "bench"])
        report.parts = self.list_parts()
        report.state = "running"
        report.write()
        described = machine.describe(self.kit / "bin" / "bench", self.options.device, self.work, self.stop)
        if self.stop.signal:
            # What was interrupted is no problem of the machine.
            report.problems.clear()
            return self.finish(None)
        if isinstance(described, str):
            report.problems.append(described)
            print(f"the device is not available: {described}", file=sys.stderr)
        else:
            report.device = described
            print(f"device: {described.get('name')}", flush=True)
            report.clocks["before"] = machine.clocks_now(self.options.device)
        self.leave_out()
        report.write()
        sampler = machine.Sampler(self.options.device, self.work) if report.device else None
        try:
            for part in report.parts:
                if part.kind == parts.BENCH:
                    self.check_peers()
                if part.result == "pending" and not self.stop.signal:
                    self.run_part(part, sampler)
        finally:
            if sampler:
                sampler.stop()
        return self.finish(sampler)

    def leave_out(self) -> None:
        """Leaves out what cannot run here, and what passed earlier."""
        passed = {
            part["name"]
            for report in self.earlier
            if report.get("kit") == self.about
            for part in report.get("parts", [])
            if part["result"] == "ok" and "why" not in part
        }
        device = self.report.device
        for part in self.report.parts:
            if device is None:
                part.leave_out("no device")
            elif part.kind != parts.SMOKE and part.name in passed:
                part.leave_out("passed in an earlier run of this kit")
            elif parts.TWO_DEVICES.search(part.name) and device.get("devices", 1) < 2:
                part.leave_out("one device")
            elif part.kind == parts.SANITIZER and not shutil.which("compute-sanitizer"):
                self.missing(part, "compute-sanitizer is not in PATH")

    def missing(self, part: Part, problem: str) -> None:
        """Sets that a tool of a part is missing: a failure unless missing tools are allowed."""
        if os.environ.get(ALLOW_MISSING) == "1":
            part.leave_out(problem)
        else:
            part.result, part.why = "failed", f"{problem} ({ALLOW_MISSING}=1 leaves this part out)"
        print(f"{part.name}: {part.why}", file=sys.stderr)

    def check_peers(self) -> None:
        """Finds out whether the peers' bench can run. Loading torch takes many seconds, so tests run before."""
        for part in self.report.parts:
            if part.name == "bench::peers" and part.result == "pending" and not self.torch_checked:
                self.torch_checked = True
                problem = self.torch_problem()
                if problem and not self.stop.signal:
                    self.missing(part, problem)

    def torch_problem(self) -> Optional[str]:
        """Returns why the peers' bench cannot run, if so."""
        if not shutil.which("python3"):
            return "python3 is not in PATH"
        log = self.work / "torch.log"
        if process.run(["python3", "-c", "import torch"], log, machine.PATIENCE, self.stop).code == 0:
            return None
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines() or ["no reason"]
        return f"python3 has no torch: {lines[-1]}"

    def time_for(self, part: Part) -> Tuple[float, Optional[float]]:
        """Returns the limit of a part in seconds, 0 if it cannot be expected to end in time, and the bench's deadline.

        A bench ends by itself at its deadline: its share of the time that is left to the benches.
        """
        left = self.left()
        if left == float("inf"):
            return max(LIMIT, LIMIT_FACTOR * part.expected), None
        if part.kind != parts.BENCH:
            limit = min(left, max(LIMIT_UNDER_DEADLINE, LIMIT_FACTOR * part.expected))
            limit = limit if part.expected <= left else 0.0
            return limit, max(1.0, limit - BENCH_MARGIN) if part.measures else None
        waiting = [other for other in self.report.parts if other.kind == parts.BENCH and other.result == "pending"]
        share = left * part.expected / sum(other.expected for other in waiting)
        share = min(left, max(share, LEAST_BENCH))
        if share < min(LEAST_BENCH, part.expected):
            return 0.0, None
        return min(left, share * BENCH_FACTOR + LEAST_BENCH), max(1.0, share - BENCH_MARGIN)

    def run_part(self, part: Part, sampler: Optional[machine.Sampler]) -> None:
        """Runs a part, and writes the report before it, while it runs, and after it."""
        report, (limit, deadline) = self.report, self.time_for(part)
        if limit <= 0.0:
            part.leave_out(f"deadline: {part.expected:.0f} s expected, {max(0.0, self.left()):.0f} s left")
            report.write()
            return
        part.result = "running"
        report.write()
        print(f"{part.name:60} ", end="", flush=True)
        log, json_file = self.work / "part.log", self.work / "part.json"
        command, env = list(part.command), dict(part.env)
        if part.measures:
            json_file.unlink() if json_file.exists() else None
            command += ["--json", str(json_file)]
        if deadline is not None:
            command += ["--deadline", f"{deadline:.0f}"]
        if self.options.quick:
            env["W4AX_QUICK"] = "1"
        env["W4AX_DEVICE"] = str(self.options.device)
        begin = time.monotonic()

        def beat() -> None:
            part.seconds = round(time.monotonic() - begin, 1)
            part.log = _tail_of(log)
            self.take_measured(part, json_file, sampler)
            report.write()

        ended = process.run(command, log, limit, self.stop, env, beat)
        part.seconds, part.exit, part.log = round(ended.seconds, 1), ended.code, None
        text = log.read_bytes()
        part.result, part.why = self.judge(part, ended, text.decode("utf-8", errors="replace"))
        self.take_measured(part, json_file, sampler)
        if part.measures and part.result == "ok" and part.short_name not in report.measured:
            part.result, part.why = "failed", "the bench wrote no report"
        unmeasured = (report.measured.get(part.short_name) or {}).get("not_measured")
        if part.measures and part.result == "ok" and unmeasured:
            part.why = f"deadline: {len(unmeasured)} cases were not measured"
        report.add_log(part, text)
        report.write(logs=True)
        print(f"{part.result} ({part.seconds:.1f} s)" + (f": {part.why}" if part.why else ""), flush=True)

    def judge(self, part: Part, ended: process.Ended, log: str) -> Tuple[str, Optional[str]]:
        """Returns the result of a part, and why it is not ok."""
        if ended.code is None:
            if self.stop.signal:
                return "stopped", f"the run received {self.stop.name()}"
            if self.left() <= 0.5 or (part.measures and self.options.deadline is not None):
                return "stopped", f"deadline: stopped {ended.why}"
            return "timeout", f"stopped {ended.why}"
        if ended.code != 0:
            return "failed", f"exit status {ended.code}"
        if not part.measures and not PASSED.search(log):
            return "failed", "no test ran"
        return "ok", None

    def take_measured(self, part: Part, json_file: Path, sampler: Optional[machine.Sampler]) -> None:
        """Takes over what a bench has measured so far, and the clocks."""
        if part.measures:
            found = _read_json(json_file)
            if found is not None:
                self.report.measured[part.short_name] = found
        if sampler:
            self.report.clocks["during"] = sampler.summary()

    def finish(self, sampler: Optional[machine.Sampler]) -> int:
        """Writes the last report. Returns the exit status."""
        report = self.report
        # Looked at once: a signal from here on finds the run ended.
        stopped = self.stop.signal
        for part in report.parts:
            if part.result == "pending":
                part.leave_out(f"the run received {self.stop.name()}")
        if stopped:
            report.state = "terminated"
        else:
            report.state = "cut off at the deadline" if report.cut_off() else "finished"
        if sampler:
            report.clocks["during"] = sampler.summary()
        report.write(logs=True)
        if report.device and not stopped:
            report.clocks["after"] = machine.clocks_now(self.options.device)
            report.write()
        print(f"{report.counts()}; report in {report.folder}")
        if stopped:
            return 128 + stopped
        if report.failures():
            return 1
        return 3 if report.cut_off() else 0


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _tail_of(log: Path) -> str:
    with open(log, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - (16 << 10)))
        return tail(file.read().decode("utf-8", errors="replace"))
