"""The parts of a run: smoke tests, tests, sanitizers and benches, in the order of their worth."""

import re
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

from .durations import Durations

SMOKE, TEST, SANITIZER, BENCH = "smoke", "test", "sanitizer", "bench"
KINDS = (SMOKE, TEST, SANITIZER, BENCH)
# Worth of a test: the first expression that matches its name. Tests of failing calls are last because a fault among
# them can leave the device in a state that fails later tests.
FAILING = re.compile(r"^failing::|::rejects_|::reports_host_function")
WORTH = [
    re.compile(r"^smoke::"),
    re.compile(r"^kernels::every_kernel"),
    re.compile(r"^(kernels|bf16_results|row_op|shapes|order|streams)::"),
    re.compile(r"^(graphs|latch|routing|skip)::"),
    re.compile(r"^(device|capi)::"),
]
# Name of a test that needs two devices.
TWO_DEVICES = re.compile(r"_of_another_device$")
# Parts of the names of the tests that run under compute-sanitizer.
SANITIZED_TESTS = ("random_calls", "non_finite", "quantized_activations")
# In kernels that copy by TMA, CUTLASS's included, two of the tools report transaction barriers and the accesses that
# they order (NVIDIA/cutlass #2626). A second run without the wgmma kernels gives the others their own result.
SANITIZERS: List[Tuple[str, List[str]]] = [
    *((tool, []) for tool in ("memcheck", "racecheck", "synccheck", "initcheck")),
    *((tool, ["--kernel-name-exclude", "kns=wgmma"]) for tool in ("racecheck", "synccheck")),
]
# The benches by worth.
BENCHES = ("decode", "chain", "prefill", "routing", "peers")


class Part:
    """A program that runs once. `result` is pending, running, ok, failed, timeout, stopped or left out."""

    def __init__(self, name: str, kind: str, command: List[str], env: Optional[Dict[str, str]] = None) -> None:
        self.name, self.kind, self.command, self.env = name, kind, command, env or {}
        self.expected = 0.0
        self.result = "pending"
        self.seconds: Optional[float] = None
        self.exit: Optional[int] = None
        self.why: Optional[str] = None
        self.log: Optional[str] = None

    @property
    def measures(self) -> bool:
        """Whether the program writes a report by --json and ends by itself at its --deadline."""
        return self.kind == BENCH or self.name == "smoke::bandwidth"

    @property
    def short_name(self) -> str:
        """The last component of the name."""
        return self.name.rsplit("::", 1)[1]

    def leave_out(self, why: str) -> None:
        """Sets that the part does not run, and why."""
        self.result, self.why = "left out", why

    def entry(self) -> Dict[str, Any]:
        """Returns the part as it is in the report."""
        fields = {"name": self.name, "kind": self.kind, "result": self.result, "expected": self.expected}
        for field in ("seconds", "exit", "why", "log"):
            value = getattr(self, field)
            if value is not None:
                fields[field] = value
        return fields


def worth(name: str) -> int:
    """Returns the rank of a test: the lower, the earlier."""
    if FAILING.search(name):
        return len(WORTH) + 1
    return next((rank for rank, pattern in enumerate(WORTH) if pattern.search(name)), len(WORTH))


def tests(programs: List[Tuple[str, List[str]]]) -> List[Part]:
    """Returns the tests of programs, each with the names of its tests, by worth.

    Each test runs in a process of its own, so that a failure on the device does not affect the next one.
    """
    found = []
    for program, names in programs:
        prefix = Path(program).name[len("test") :].lstrip("-")
        for name in names:
            shown = f"{prefix}::{name}" if prefix else name
            kind = SMOKE if shown.startswith("smoke::") else TEST
            command = [program, "--exact", name, "--ignored", "--test-threads=1", "--nocapture"]
            found.append(Part(shown, kind, command))
    return sorted(found, key=lambda part: worth(part.name))


def sanitizers(program: str) -> List[Part]:
    """Returns the runs of the tests' program under compute-sanitizer."""
    found = []
    for tool, options in SANITIZERS:
        name = f"sanitizer::{tool}" + ("-without-wgmma" if options else "")
        command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "86", *options]
        command += [program, "--ignored", "--test-threads=1", *SANITIZED_TESTS]
        found.append(Part(name, SANITIZER, command, {"W4AX_QUICK": "1"}))
    return found


def benches(bench: str, peers: str, device: int, quick: bool) -> List[Part]:
    """Returns the smoke test of the bandwidths, and the benches."""
    options = ["--device", str(device)] + (["--quick"] if quick else [])
    found = [Part("smoke::bandwidth", SMOKE, [bench, "limits", *options])]
    for name in BENCHES:
        command = ["python3", peers, *options] if name == "peers" else [bench, name, *options]
        found.append(Part(f"bench::{name}", BENCH, command))
    return found


def in_order(parts: List[Part], durations: Durations) -> List[Part]:
    """Sets the expected durations, and returns the parts in the order in which they run."""
    for part in parts:
        part.expected = durations.expected(part.name)
    return sorted(parts, key=lambda part: KINDS.index(part.kind))


def shard_of(text: str) -> Tuple[int, int]:
    """Returns i and n of `i/n`. Raises `ValueError` for another text."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    shard = tuple(map(int, match.groups())) if match else (0, 0)
    if not 1 <= shard[0] <= shard[1]:
        raise ValueError(f"invalid shard {text}: expected i/n with 1 <= i <= n")
    return shard[0], shard[1]


def select(parts: List[Part], only: Optional[str], shard: Tuple[int, int], smoke: bool) -> List[Part]:
    """Returns the parts that are selected, in their order.

    Smoke tests belong to every selection unless `smoke` is false. The position in the list decides about the shard, and
    never a duration: the shards of one kit with one `only` are disjoint, and together they are everything.
    """
    matches: Callable[[str], Any] = re.compile(only or "").search
    others = [part for part in parts if part.kind != SMOKE and matches(part.name)]
    at, count = shard
    return [part for part in parts if part.kind == SMOKE and smoke] + others[at - 1 :: count]
