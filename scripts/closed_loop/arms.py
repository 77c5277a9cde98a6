"""The arms of the experiment: how the width of each control step is picked, and on which policy.

An arm is a server and a schedule. The schedule has one entry per control step: a width to request, `None` for the
server's own decision, or `HOLD` to execute the last action once more without a request.

Arms with a `source` are controls. Their schedules are made from the complete run of the source arm on the same task.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .tasks import STEP_LIMIT

HOLD = "hold"
WIDTH_NAMES = {2: "a2", 4: "a4", 8: "a8", 16: "bf16", 32: "plain"}
Entry = str | None
Schedule = list[Entry]

POLICY = ("--policy", "tests/data/robot/policy.safetensors")
DEEP = ("--policy", "tests/data/robot-deep/deep_policy.safetensors")
SKIPPING = DEEP + ("--skip", "tests/data/robot-deep/skip.safetensors")


@dataclass(frozen=True)
class SourceRun:
    """The widths in bits of the source arm's steps, by seed, on one task."""

    widths: dict[int, Sequence[int]]

    def shares(self) -> dict[int, float]:
        """Returns the share of steps of each width."""
        counts = Counter(width for sequence in self.widths.values() for width in sequence)
        total = sum(counts.values())
        return {width: counts[width] / total for width in sorted(counts)}


# From the source's run, the task and the seed.
MakeSchedule = Callable[[SourceRun | None, str, int], Schedule]


@dataclass(frozen=True)
class Arm:
    """One arm, see the module."""

    name: str
    summary: str
    arguments: tuple[str, ...]  # of `w4ax serve`
    schedule: MakeSchedule
    source: str | None = None
    deep: bool = False  # whether it is the 16-block policy
    costs: bool = False  # whether `--costs` is added
    random_skip: bool = False  # whether `--random-skip` is added, at the source's share of layers

    @property
    def policy(self) -> tuple[str, ...]:
        """The arguments that select its policy."""
        return DEEP if self.deep else POLICY

    def needed_options(self) -> list[str]:
        """Returns the options that the server must offer."""
        options = [argument for argument in self.arguments if argument.startswith("--")]
        return options + ["--costs"] * self.costs + ["--random-skip", "--seed"] * self.random_skip


def fixed(width: str) -> MakeSchedule:
    """Requests one width in all steps."""
    return lambda source, task, seed: [width] * STEP_LIMIT


def decided(source: SourceRun | None, task: str, seed: int) -> Schedule:
    """Leaves all steps to the server."""
    return [None] * STEP_LIMIT


def drawn(name: str) -> MakeSchedule:
    """Draws the width of each step independently, at the shares of the source's run."""

    def schedule(source: SourceRun | None, task: str, seed: int) -> Schedule:
        shares = source.shares()
        generator = random.Random(f"{name} {task} {seed}")
        widths = generator.choices(list(shares), list(shares.values()), k=STEP_LIMIT)
        return [WIDTH_NAMES[width] for width in widths]

    return schedule


def shifted(source: SourceRun | None, task: str, seed: int) -> Schedule:
    """Requests the widths of the source's run of the next seed, from the start again if they end."""
    seeds = sorted(source.widths)
    widths = source.widths[seeds[(seeds.index(seed) + 1) % len(seeds)]]
    return [WIDTH_NAMES[widths[step % len(widths)]] for step in range(STEP_LIMIT)]


def held(width: str, period: int) -> MakeSchedule:
    """Requests a width every `period` steps and holds the action in between."""
    return lambda source, task, seed: [HOLD if step % period else width for step in range(STEP_LIMIT)]


DYNAMIC = POLICY + ("--width", "dynamic")
DEEP_A8 = DEEP + ("--width", "a8")
SKIP_A8 = SKIPPING + ("--width", "a8")

_ARMS = (
    Arm("plain", "unquantized policy", DYNAMIC, fixed("plain")),
    Arm("bf16", "W4A16", DYNAMIC, fixed("bf16")),
    Arm("a8", "W4A8", DYNAMIC, fixed("a8")),
    Arm("a4", "W4A4", DYNAMIC, fixed("a4")),
    Arm("a2", "W4A2", DYNAMIC, fixed("a2")),
    Arm("dyq", "the dispatcher of DyQ-VLA", DYNAMIC, decided),
    # Its costs are given, by default bits: the rule is between A2 and A4. Costs measured by the server would depend
    # on the machine and its load, and select other widths.
    Arm("consistency", "the consistency rule", DYNAMIC + ("--rule", "consistency"), decided, costs=True),
    Arm("hold-a4", "W4A4 every second step, the action held", DYNAMIC, held("a4", 2)),
    Arm("floors", "W4A2 with block 0 at A4", POLICY + ("--width", "a2", "--floors", "0=a4"), decided),
    Arm("random", "independent widths at dyq's shares", DYNAMIC, drawn("random"), "dyq"),
    Arm("shifted", "dyq's widths of the next seed", DYNAMIC, shifted, "dyq"),
    Arm(
        "random-consistency",
        "independent widths at consistency's shares",
        DYNAMIC,
        drawn("random-consistency"),
        "consistency",
    ),
    Arm("deep-plain", "16 blocks, unquantized", DEEP + ("--width", "plain"), decided, deep=True),
    Arm("deep-full", "16 blocks, W4A8", DEEP_A8, decided, deep=True),
    Arm("deep-guided", "16 blocks, W4A8, layers skipped by the guide", SKIP_A8, decided, deep=True),
    Arm(
        "deep-random",
        "16 blocks, W4A8, as many layers skipped at random",
        SKIP_A8,
        decided,
        "deep-guided",
        deep=True,
        random_skip=True,
    ),
    Arm(
        "deep-exit",
        "16 blocks, W4A8, exit after layer 5",
        DEEP_A8 + ("--exit", "tests/data/robot-deep/skip_exit.safetensors"),
        decided,
        deep=True,
    ),
)
ARMS = {arm.name: arm for arm in _ARMS}


def select(names: Sequence[str], offered: frozenset[str]) -> tuple[list[Arm], dict[str, str]]:
    """Returns the named arms in the order of `ARMS`, and the reason of each one that the server cannot run.

    Raises `ValueError` for an unknown name, or a control without its source.
    """
    for name in names:
        if name not in ARMS:
            raise ValueError(f"unknown arm {name}: expected some of {', '.join(ARMS)}")
    left_out = {}
    for name in names:
        missing = [option for option in ARMS[name].needed_options() if option not in offered]
        if missing:
            left_out[name] = f"this w4ax serve has no {', '.join(missing)}"
    for name in names:
        source = ARMS[name].source
        if source in left_out:
            left_out.setdefault(name, f"its source {source} is left out")
        elif source is not None and source not in names:
            raise ValueError(f"arm {name} needs the run of arm {source}: expected it in --arms too")
    return [arm for name, arm in ARMS.items() if name in names and name not in left_out], left_out
