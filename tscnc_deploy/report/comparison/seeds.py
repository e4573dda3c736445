"""Statistics over the seeds of a training."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scipy.stats import t


@dataclass(frozen=True)
class Mean:
    """A mean over seeds, with the two-sided 95% interval of Student's t; no interval for a single seed.

    The interval covers the variation between trainings, not the choice of test images, which are the same for all
    seeds; each run has its own interval for that.

    Attributes:
        value: The mean.
        low: Lower end of the interval; equal to the value for a single seed.
        high: Upper end, likewise.
        seeds: Number of seeds.
    """

    value: float
    low: float
    high: float
    seeds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Mean:
        """The mean of at least one value."""
        mean = statistics.fmean(values)
        if len(values) < 2:
            return cls(mean, mean, mean, len(values))
        half = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
        return cls(mean, mean - half, mean + half, len(values))

    @property
    def whiskers(self) -> list[list[float]]:
        """The distances of the ends from the mean, in the format of matplotlib's error bars."""
        return [[self.value - self.low], [self.high - self.value]]

    def to_json(self) -> dict[str, Any]:
        """{"value", "low", "high", "seeds"}; without ends for a single seed."""
        ends = {"low": self.low, "high": self.high} if self.seeds > 1 else {"low": None, "high": None}
        return {"value": self.value, **ends, "seeds": self.seeds}
