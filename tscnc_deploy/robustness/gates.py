"""Gates: limits that a build must meet."""

from __future__ import annotations

from tscnc_deploy.record import Accuracy, Comparison, Gate


def at_least(name: str, accuracy: Accuracy, limit: float) -> Gate:
    """Passes if the lower end of the accuracy's confidence interval reaches the limit."""
    passed = accuracy.low >= limit
    return _gate(name, accuracy.low, limit, passed, inconclusive=not passed and accuracy.high >= limit)


def loses_at_most(name: str, comparison: Comparison, limit: float) -> Gate:
    """Passes if the upper bound of what the second classifier loses does not exceed the limit."""
    passed = comparison.upper_bound <= limit
    # With few images the bound exceeds a small limit even if nothing was lost.
    inconclusive = not passed and comparison.difference <= limit
    return _gate(name, comparison.upper_bound, limit, passed, inconclusive=inconclusive)


def at_most(name: str, value: float, limit: float) -> Gate:
    """Passes if the value does not exceed the limit."""
    return _gate(name, value, limit, value <= limit)


def _gate(name: str, value: float, limit: float, passed: bool, inconclusive: bool = False) -> Gate:
    return Gate(name=name, value=value, limit=limit, passed=passed, inconclusive=inconclusive)
