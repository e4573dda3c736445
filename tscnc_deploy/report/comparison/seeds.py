"""What a figure is over the seeds of a training."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scipy.stats import t


@dataclass(frozen=True)
class Mean:
    """A mean over seeds, with the two-sided 95% interval of Student's t; no interval of a single seed.

    It covers how much trainings differ. That the test images are a sample too, and the same for all, it leaves out;
    for that each run has its own interval.

    Attributes:
        value: The mean.
        low: Lower end; that of a single seed is its value, which `seeds` tells from an interval.
        high: Upper end, likewise.
        seeds: How many.
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
        """How far the ends are from the mean, in the form of matplotlib's error bars."""
        return [[self.value - self.low], [self.high - self.value]]

    def to_json(self) -> dict[str, Any]:
        """{"value", "low", "high", "seeds"}; no ends of a single seed."""
        ends = {"low": self.low, "high": self.high} if self.seeds > 1 else {"low": None, "high": None}
        return {"value": self.value, **ends, "seeds": self.seeds}
