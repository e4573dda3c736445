"""What one check found, and what all of them mean for the exit status."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

Outcome = Literal["passed", "note", "skipped", "failed", "inconclusive", "unavailable", "error"]

# The worst comes first: what is no bundle proves nothing, and what has failed is not mended by more images.
_STATUS: tuple[tuple[Outcome, int], ...] = (("error", 2), ("failed", 1), ("unavailable", 3), ("inconclusive", 4))


@dataclass(frozen=True)
class CheckResult:
    """One check.

    Attributes:
        name: What was checked, such as "onnx-cpu: robust accuracy, lower end".
        outcome: "note" is worth reading and fails nothing; "skipped" was not asked for or cannot be done and is not
            needed, "unavailable" is needed and this machine cannot do it; "error" is bad input.
        message: One or more lines; never empty unless the check passed.
        value: What was measured, where that is a number.
        limit: The bound that it must keep.
        seconds: What it took.
    """

    name: str
    outcome: Outcome
    message: str = ""
    value: float | None = None
    limit: float | None = None
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """All fields by name."""
        return dict(vars(self))


def exit_status(findings: Iterable[CheckResult]) -> int:
    """0 passed, 1 a gate failed, 2 bad input, 3 this machine cannot run an engine, 4 inconclusive; the worst of all."""
    outcomes = {finding.outcome for finding in findings}
    return next((status for outcome, status in _STATUS if outcome in outcomes), 0)


def holds(name: str, kept: bool, message: str, value: float | None = None, limit: float | None = None) -> CheckResult:
    """A finding that passes or fails; the message, which says what is wrong, belongs to the failure only."""
    return CheckResult(name, "passed" if kept else "failed", "" if kept else message, value, limit)
