"""How long a part is expected to take: given figures, or those of an earlier report.

The given figures are estimates for one data center GPU with 16 cores; none was measured. Most of the time of a test is
that of the reference on the CPU.
"""

import re
from typing import Any, Dict, List, Optional, Pattern, Tuple

# The first expression that matches the name counts.
GIVEN: List[Tuple[Pattern[str], float]] = [
    (re.compile(pattern), seconds)
    for pattern, seconds in [
        (r"^smoke::", 15),
        (r"^kernels::every_kernel", 60),
        (r"^kernels::random_calls", 90),
        (r"^kernels::", 20),
        (r"^shapes::", 45),
        (r"^bf16_results::", 20),
        (r"^(order|row_op|streams|capi)::", 15),
        (r"^(graphs|latch|routing|skip)::", 15),
        (r"^(device|failing)::", 8),
        (r"^sanitizer::racecheck", 1200),
        (r"^sanitizer::", 600),
        (r"^bench::prefill", 220),
        (r"^bench::peers", 150),
        (r"^bench::decode", 140),
        (r"^bench::chain", 90),
        (r"^bench::", 45),
        (r"", 30),
    ]
]
# Two runs of a test differ by less than this factor.
MARGIN = 1.3
# A part that was stopped needs more than it had, by an unknown factor.
STOPPED_MARGIN = 2.0


def given(name: str) -> float:
    """Returns the estimate for a part in seconds."""
    return next(seconds for pattern, seconds in GIVEN if pattern.search(name))


def learned(report: Dict[str, Any]) -> Dict[str, float]:
    """Returns the expected seconds of the parts that ran in an earlier report, by name."""
    found = {}
    for part in report.get("parts", []):
        seconds = part.get("seconds")
        if seconds is None:
            continue
        if part["result"] in ("ok", "failed"):
            found[part["name"]] = seconds * MARGIN
        elif part["result"] in ("stopped", "timeout"):
            found[part["name"]] = max(given(part["name"]), seconds * STOPPED_MARGIN)
    return found


class Durations:
    """The expected durations of a run."""

    def __init__(self, earlier: Optional[List[Dict[str, Any]]] = None) -> None:
        self.learned: Dict[str, float] = {}
        for report in earlier or []:
            self.learned.update(learned(report))

    def expected(self, name: str) -> float:
        """Returns the expected seconds of a part."""
        return round(max(1.0, self.learned.get(name, given(name))), 1)
