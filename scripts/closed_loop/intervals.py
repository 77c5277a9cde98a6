"""Statistics of paired binary outcomes.

Sources: E. B. Wilson 1927 (interval of a share); Q. McNemar 1947 (exact test of discordant pairs); R. G. Newcombe,
"Improved confidence intervals for the difference between binomial proportions based on paired data", Statistics in
Medicine 17 (1998), method 10 (interval of a paired difference).
"""

from dataclasses import dataclass
from math import comb, sqrt

Z95 = 1.959963984540054


def wilson(successes: int, total: int, z: float = Z95) -> tuple[float, float]:
    """Returns Wilson's interval of a share."""
    share, square = successes / total, z * z
    center = share + square / (2 * total)
    half = z * sqrt(share * (1 - share) / total + square / (4 * total * total))
    scale = 1 + square / total
    # Exact at the ends, where rounding would leave the interval.
    low = 0.0 if successes == 0 else (center - half) / scale
    high = 1.0 if successes == total else (center + half) / scale
    return low, high


def mcnemar(only_first: int, only_second: int) -> float:
    """Returns the two-sided p of McNemar's exact test."""
    discordant = only_first + only_second
    tail = sum(comb(discordant, count) for count in range(min(only_first, only_second) + 1))
    return min(1.0, 2 * tail / 2**discordant)


@dataclass(frozen=True)
class Pairs:
    """Counts of pairs by the success of the first and the second arm."""

    both: int
    only_first: int
    only_second: int
    neither: int

    @property
    def total(self) -> int:
        """The number of pairs."""
        return self.both + self.only_first + self.only_second + self.neither

    def difference(self) -> float:
        """Returns the share of the first arm minus that of the second."""
        return (self.only_first - self.only_second) / self.total

    def interval(self) -> tuple[float, float]:
        """Returns Newcombe's 95 % interval of `difference`."""
        first, second = self.both + self.only_first, self.both + self.only_second
        low_1, high_1 = wilson(first, self.total)
        low_2, high_2 = wilson(second, self.total)
        share_1, share_2 = first / self.total, second / self.total
        phi = self._correlation()
        difference = self.difference()

        def half(a: float, b: float) -> float:
            # Not below 0, which rounding could cause at phi = 1.
            return sqrt(max(a * a - 2 * phi * a * b + b * b, 0.0))

        low = difference - half(share_1 - low_1, high_2 - share_2)
        high = difference + half(high_1 - share_1, share_2 - low_2)
        return low, high

    def _correlation(self) -> float:
        """Returns the estimate of phi with Newcombe's correction of continuity."""
        e, f, g, h = self.both, self.only_first, self.only_second, self.neither
        margins = (e + f) * (g + h) * (e + g) * (f + h)
        if margins == 0:
            return 0.0
        numerator = e * h - f * g
        if numerator > 0:
            numerator = max(numerator - self.total / 2, 0.0)
        return numerator / sqrt(margins)
