"""`analyze`: tables, JSON and a picture of the results of `run`.

Arms are compared on pairs: episodes of the same task and seed. All arms of a pair must have begun in the same state,
bit for bit; results that mix states are refused.
"""

import argparse
import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

from .arms import ARMS, WIDTH_NAMES
from .intervals import Pairs, mcnemar, wilson
from .picture import draw
from .server import RESULTS
from .store import read_lines, read_steps
from .tasks import TASKS

# First and second arm; the difference is first minus second.
PAIRS = (
    ("plain", "bf16"),
    ("bf16", "a8"),
    ("bf16", "a4"),
    ("bf16", "a2"),
    ("bf16", "dyq"),
    ("bf16", "consistency"),
    ("bf16", "hold-a4"),
    ("bf16", "floors"),
    ("a4", "a2"),
    ("a4", "dyq"),
    ("a4", "consistency"),
    ("a4", "hold-a4"),
    ("floors", "a2"),
    ("dyq", "random"),
    ("dyq", "shifted"),
    ("consistency", "random-consistency"),
    ("consistency", "dyq"),
    ("plain", "deep-plain"),
    ("deep-plain", "deep-full"),
    ("deep-full", "deep-guided"),
    ("deep-full", "deep-random"),
    ("deep-full", "deep-exit"),
    ("deep-guided", "deep-random"),
    ("deep-guided", "deep-exit"),
)
Episodes = dict[tuple[str, str, int], dict]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `analyze`."""
    parser.add_argument("name", nargs="?", default="main", help="name of the results in target/closed-loop [main]")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--out", type=Path, help="folder for NAME.json, NAME.md and NAME.svg; that of the results")


def run(options: argparse.Namespace) -> None:
    """Runs the command.

    Raises `ValueError` for results that cannot be compared.
    """
    base = options.results / options.name
    episodes, _ = read_lines(base.with_name(base.name + ".jsonl"))
    if not episodes:
        raise ValueError(f"no episodes in {base}.jsonl: expected the results of `scripts/closed-loop run`")
    micros = step_micros(base.with_name(base.name + ".csv"), episodes[-1]["steps_end"])
    report = analyze(episodes, micros)
    text = markdown(report)
    out = (options.out or options.results) / options.name
    out.parent.mkdir(parents=True, exist_ok=True)
    for suffix, content in ((".json", json.dumps(report, indent=1) + "\n"), (".md", text), (".svg", draw(report))):
        out.with_name(out.name + suffix).write_text(content)
    print(text)
    print(f"written: {out}.json, .md, .svg")


def step_micros(path: Path, end: int) -> dict[str, list[int]]:
    """Returns the microseconds of the steps with a request, by arm."""
    micros = defaultdict(list)
    for step in read_steps(path, end):
        if int(step["runs"]) > 0:
            micros[step["arm"]].append(int(step["micros"]))
    return micros


def analyze(episodes: list[dict], micros: dict[str, list[int]]) -> dict:
    """Returns the report: `arms`, `pairs`, `tasks` and `setups`.

    Raises `ValueError` if episodes of a pair began in different states.
    """
    check_starts(episodes)
    keyed = {(episode["arm"], episode["task"], episode["seed"]): episode for episode in episodes}
    found = {arm for arm, _, _ in keyed}
    tasks = [task for task in TASKS if any(key[1] == task for key in keyed)]
    names = [name for name in ARMS if name in found]
    compared = [(first, second) for first, second in PAIRS if first in found and second in found]
    pairs = [compare(keyed, first, second, tasks) for first, second in compared]
    return {
        "tasks": tasks,
        "setups": sorted({episode["setup"] for episode in episodes}),
        "arms": [summarize(name, of_arm(keyed, name), tasks, micros.get(name, [])) for name in names],
        "pairs": [pair for pair in pairs if pair is not None],
    }


def of_arm(keyed: Episodes, arm: str) -> list[dict]:
    """Returns the episodes of an arm."""
    return [episode for key, episode in keyed.items() if key[0] == arm]


def check_starts(episodes: Iterable[dict]) -> None:
    """Raises `ValueError` if episodes of the same task and seed began in different states."""
    starts = defaultdict(lambda: defaultdict(set))
    for episode in episodes:
        starts[episode["task"], episode["seed"]][episode["start"]].add(episode["arm"])
    for (task, seed), by_start in starts.items():
        if len(by_start) > 1:
            arms = " and ".join(", ".join(sorted(arms)) for arms in by_start.values())
            raise ValueError(f"task {task}, seed {seed}: start states differ between {arms}: expected one for all arms")


def summarize(name: str, episodes: list[dict], tasks: list[str], micros: list[int]) -> dict:
    """Returns the figures of an arm."""
    successes, total = count_successes(episodes), len(episodes)
    low, high = wilson(successes, total)
    steps = sum(episode["steps"] for episode in episodes)

    def step_mean(field: str) -> float:
        return sum(episode[field] * episode["steps"] for episode in episodes) / steps

    widths = Counter()
    for episode in episodes:
        for width, count in episode["widths"]:
            widths[width] += count
    runs = sum(episode["runs"] for episode in episodes)
    by_task = {task: [episode for episode in episodes if episode["task"] == task] for task in tasks}
    return {
        "arm": name,
        "summary": ARMS[name].summary,
        "success": successes,
        "episodes": total,
        "low": low,
        "high": high,
        "tasks": {task: [count_successes(found), len(found)] for task, found in by_task.items()},
        "failed_at": dict(Counter(episode["failed_at"] for episode in episodes if not episode["success"])),
        "steps": steps / total,
        "error": step_mean("error"),
        "widths": {WIDTH_NAMES[width]: widths[width] / steps for width in sorted(widths)},
        "runs": runs / steps,
        "reran": sum(episode["reran"] for episode in episodes) / steps,
        "layers": None if episodes[0]["layers"] is None else step_mean("layers"),
        "rules": unique(episode["rule"] for episode in episodes if episode["rule"]),
        "micros_mean": step_mean("micros"),
        "micros_median": statistics.median(micros) if micros else None,
    }


def unique(values: Iterable[dict]) -> list[dict]:
    """Returns the different values, in their first order."""
    return [json.loads(text) for text in dict.fromkeys(json.dumps(value) for value in values)]


def count_successes(episodes: Iterable[dict]) -> int:
    """Returns the number of episodes that succeeded."""
    return sum(episode["success"] for episode in episodes)


def count_pairs(keyed: Episodes, first: str, second: str, task: str | None = None) -> Pairs:
    """Counts the pairs that both arms played, of one task or of all."""
    counts = Counter()
    for (arm, of_task, seed), episode in keyed.items():
        other = keyed.get((second, of_task, seed))
        if arm == first and other is not None and task in (None, of_task):
            counts[episode["success"], other["success"]] += 1
    return Pairs(counts[True, True], counts[True, False], counts[False, True], counts[False, False])


def compare(keyed: Episodes, first: str, second: str, tasks: list[str]) -> dict | None:
    """Returns the figures of a pair of arms; `None` without common episodes."""
    pairs = count_pairs(keyed, first, second)
    if pairs.total == 0:
        return None
    low, high = pairs.interval()
    by_task = {task: count_pairs(keyed, first, second, task) for task in tasks}
    return {
        "first": first,
        "second": second,
        "pairs": pairs.total,
        "only_first": pairs.only_first,
        "only_second": pairs.only_second,
        "difference": pairs.difference(),
        "low": low,
        "high": high,
        "p": mcnemar(pairs.only_first, pairs.only_second),
        "tasks": {task: [found.only_first, found.only_second, found.total] for task, found in by_task.items()},
    }


def markdown(report: dict) -> str:
    """Returns the tables."""
    tasks = report["tasks"]
    lines = table(
        ["arm", "success", "95 % (Wilson)", *tasks, "steps", "action error", "widths, % of steps", "runs per step"]
        + ["re-run, % of steps", "layers", "us per step: median", "mean"],
        [
            [
                f"{arm['arm']}: {arm['summary']}",
                f"{arm['success']}/{arm['episodes']} = {percent(arm['success'] / arm['episodes'])} %",
                f"{percent(arm['low'])} to {percent(arm['high'])}",
                *(f"{won}/{played}" for won, played in arm["tasks"].values()),
                f"{arm['steps']:.0f}",
                f"{arm['error']:.4f}",
                ", ".join(f"{width} {percent(share)}" for width, share in arm["widths"].items()),
                f"{arm['runs']:.2f}",
                percent(arm["reran"]),
                "" if arm["layers"] is None else f"{arm['layers']:.1f}",
                "" if arm["micros_median"] is None else f"{arm['micros_median']:.0f}",
                f"{arm['micros_mean']:.0f}",
            ]
            for arm in report["arms"]
        ],
    )
    lines += ["", "Pairs: episodes of the same task and seed. Difference: success of the first arm minus the second."]
    lines += ["Interval: Newcombe's method 10. p: McNemar's exact test. By task: only first, only second, pairs.", ""]
    lines += table(
        ["first", "second", "pairs", "only first", "only second", "difference, points", "95 %", "p", *tasks],
        [
            [
                pair["first"],
                pair["second"],
                str(pair["pairs"]),
                str(pair["only_first"]),
                str(pair["only_second"]),
                signed(pair["difference"]),
                f"{signed(pair['low'])} to {signed(pair['high'])}",
                f"{pair['p']:.3g}",
                *(f"{a}, {b}, {total}" for a, b, total in pair["tasks"].values()),
            ]
            for pair in report["pairs"]
        ],
    )
    lines += ["", "Stages that failed episodes did not complete:", ""]
    for arm in report["arms"]:
        stages = ", ".join(f"{stage} {count}" for stage, count in sorted(arm["failed_at"].items()))
        lines.append(f"- {arm['arm']}: {stages or 'none failed'}")
    rules = [f"- {arm['arm']}: {json.dumps(rule)}" for arm in report["arms"] for rule in arm["rules"]]
    if rules:
        lines += ["", "Rules, as the server describes them:", "", *rules]
    if len(report["setups"]) > 1:
        count, setups = len(report["setups"]), ", ".join(report["setups"])
        lines += ["", f"The results mix {count} versions of program, policies and calibrations: {setups}."]
    return "\n".join(lines) + "\n"


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    """Returns the lines of a Markdown table."""
    return ["| " + " | ".join(cells) + " |" for cells in [header, ["---"] * len(header), *rows]]


def percent(share: float) -> str:
    """Returns a share in percent with one digit."""
    return f"{100 * share:.1f}"


def signed(share: float) -> str:
    """Returns a difference in points with its sign."""
    return f"{100 * share:+.1f}"
