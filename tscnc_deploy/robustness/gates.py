"""Gates: bounds that a build must keep."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tscnc_deploy.robustness.statistics.comparison import Comparison
from tscnc_deploy.robustness.statistics.intervals import Accuracy


@dataclass(frozen=True)
class Gate:
    """One bound and what was measured.

    Attributes:
        name: Which figure of which engine, such as "onnx-cpu robust".
        value: The figure that is held against the limit.
        limit: The bound.
        passed: Whether the value keeps it; a value or limit of NaN never does.
        inconclusive: Whether it failed only because the interval straddles the limit: more images would settle it.
    """

    name: str
    value: float
    limit: float
    passed: bool
    inconclusive: bool = False

    def to_json(self) -> dict[str, object]:
        """All fields by name; a value that is not finite is null, as JSON has no other word for it."""
        value = self.value if math.isfinite(self.value) else None
        return {
            "name": self.name,
            "value": value,
            "limit": self.limit,
            "passed": self.passed,
            "inconclusive": self.inconclusive,
        }


def at_least(name: str, accuracy: Accuracy, limit: float) -> Gate:
    """Passes if the lower end of the accuracy's confidence interval reaches the limit."""
    passed = accuracy.low >= limit
    return Gate(name, accuracy.low, limit, passed, inconclusive=not passed and accuracy.high >= limit)


def loses_at_most(name: str, comparison: Comparison, limit: float) -> Gate:
    """Passes if the upper bound of what the second classifier loses does not exceed the limit."""
    passed = comparison.upper_bound <= limit
    # With few images the bound stays above a small limit even where nothing at all was lost.
    return Gate(name, comparison.upper_bound, limit, passed, inconclusive=not passed and comparison.difference <= limit)


def at_most(name: str, value: float, limit: float) -> Gate:
    """Passes if the value does not exceed the limit."""
    return Gate(name, value, limit, value <= limit)
