"""Whether a line of measurements rises: its slope an hour with a confidence interval, and the rule for what is flat.

The slope is the median of the slopes between all pairs of points (Theil and Sen), the interval the one that Kendall's
rank statistic gives: a few wild points move neither. Neighboring samples are alike, which would make the interval look
narrower than it is, so the run is first cut into windows, and each gives one point, its median.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

HOUR_S = 3600.0
WINDOWS = 30
CONFIDENCE = 0.95
FEWEST_POINTS = 5


@dataclass(frozen=True)
class Trend:
    """A slope an hour; `low` and `high` are the ends of its interval, `typical` the median of all samples."""

    slope: float
    low: float
    high: float
    typical: float
    seconds: float


@dataclass(frozen=True)
class Rule:
    """A line is not flat when even `low` says that it rises by more than `per_hour`, and by more than `in_run`.

    With `relative` both are parts of what is typical. The second bound is for short runs, in which next to nothing
    makes for a large slope.
    """

    per_hour: float
    in_run: float
    relative: bool

    def is_flat(self, trend: Trend) -> bool:
        unit = trend.typical if self.relative else 1.0
        return trend.low <= self.per_hour * unit or trend.low * trend.seconds / HOUR_S <= self.in_run * unit


def trend(times_s: Sequence[float], values: Sequence[float]) -> Trend:
    """Return the trend of samples in the order of their times; there must be `FEWEST_POINTS` or more."""
    if len(values) < FEWEST_POINTS:
        raise ValueError(f"expected {FEWEST_POINTS} samples or more, got {len(values)}")
    points = _windows(times_s, values)
    slopes = sorted((b[1] - a[1]) / (b[0] - a[0]) * HOUR_S for a, b in combinations(points, 2))
    n = len(points)
    z = statistics.NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    spread = z * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    low = max(0, math.floor((len(slopes) - spread) / 2))
    high = min(len(slopes) - 1, math.ceil((len(slopes) + spread) / 2))
    typical = statistics.median(values)
    return Trend(statistics.median(slopes), slopes[low], slopes[high], typical, times_s[-1] - times_s[0])


def _windows(times_s: Sequence[float], values: Sequence[float]) -> list[tuple[float, float]]:
    count = min(WINDOWS, len(values))
    edges = [round(index * len(values) / count) for index in range(count + 1)]
    return [(statistics.median(times_s[a:b]), statistics.median(values[a:b])) for a, b in pairwise(edges)]
