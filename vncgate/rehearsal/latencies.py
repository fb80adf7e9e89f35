"""How long things took: counts in buckets of five per cent, which add up over players and processes. Pure."""

from __future__ import annotations

import math
from typing import Any

from vncgate.tally import Histogram

SHORTEST = 1e-6
"""Seconds: what is shorter counts as this."""
LONGEST = 100.0
"""Seconds: what is longer counts as this, and has been given up by every viewer."""
RATIO = 1.05
"""Each bucket's upper bound, compared with its lower one: what is read off is wrong by half of that at most."""
BOUNDS = tuple(SHORTEST * RATIO**step for step in range(math.ceil(math.log(LONGEST / SHORTEST, RATIO)) + 1))


class Latencies(Histogram):
    """Seconds, as counts below the bounds of a geometric series."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(BOUNDS)

    def observe_all(self, seconds: float, interval: float) -> None:
        """Count an answer, and those that it kept from being asked for, one each `interval` seconds (0: none).

        Who waits for an answer of a second asks nothing meanwhile; without this, ten bad moments would be one
        observation among thousands of good ones ("coordinated omission"; HdrHistogram corrects it in the same way).
        """
        self.observe(seconds)
        if interval:
            while (seconds := seconds - interval) > 0:
                self.observe(seconds)

    def since(self, earlier: Latencies) -> Latencies:
        """What was observed after `earlier` was copied from this."""
        later = type(self)()
        later.counts = [count - before for count, before in zip(self.counts, earlier.counts, strict=True)]
        later.sum = self.sum - earlier.sum
        return later

    @property
    def count(self) -> int:
        """How many were observed."""
        return sum(self.counts)

    @property
    def mean(self) -> float:
        """Seconds on average; 0 where nothing was observed."""
        return self.sum / count if (count := self.count) else 0.0

    def quantile(self, share: float) -> float:
        """The seconds that `share` (0 to 1) of the observations did not exceed; 0 where nothing was observed."""
        wanted = max(1, math.ceil(share * self.count))
        seen = 0
        for place, count in enumerate(self.counts):
            seen += count
            if seen >= wanted:
                return BOUNDS[min(place, len(BOUNDS) - 1)] / math.sqrt(RATIO)
        return 0.0

    def to_json(self) -> dict[str, Any]:
        """What people read, and the buckets that are not empty, by number."""
        return {
            "count": self.count,
            "mean": self.mean,
            "p50": self.quantile(0.5),
            "p95": self.quantile(0.95),
            "p99": self.quantile(0.99),
            "max": self.quantile(1.0),
            "sum": self.sum,
            "buckets": {str(place): count for place, count in enumerate(self.counts) if count},
        }
