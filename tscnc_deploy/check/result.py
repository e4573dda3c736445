"""The result of one check, the report of all of them, and the exit status they amount to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Outcome = Literal["passed", "note", "skipped", "failed", "inconclusive", "not checked", "unavailable", "error"]

# The worst comes first: a folder that is not a bundle proves nothing, and more images do not fix a failed gate. What
# was not checked has a status of its own, as pipelines let inconclusive checks pass.
_STATUS: tuple[tuple[Outcome, int], ...] = (
    ("error", 2),
    ("failed", 1),
    ("unavailable", 3),
    ("not checked", 5),
    ("inconclusive", 4),
)
_VERDICTS = {
    0: "passed",
    1: "failed",
    2: "bad input",
    3: "cannot run here",
    4: "inconclusive",
    5: "not checked",
}


@dataclass(frozen=True)
class CheckResult:
    """The result of one check.

    Attributes:
        name: What was checked, such as "onnx-cpu: robust accuracy, lower end".
        outcome: "note" is worth reading and fails nothing; "skipped" was not requested, or is impossible and not
            needed; "not checked" is a gate that the bundle lacks the means to check; "unavailable" is needed but this
            machine cannot do it; "error" is bad input.
        message: One or more lines; empty only if the check passed.
        value: The measured value, if it is a number.
        limit: The limit that the value is compared with.
        seconds: Duration.
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


@dataclass
class CheckReport:
    """Everything that a run of `check` found.

    Attributes:
        bundle: Folder of the bundle.
        results: One per check, in the order in which they ran.
        policy: Where the limits come from; None if the bundle could not be opened.
        engines: All figures of the fresh attacks by engine, in the form of `verify --json`.
        baseline: The same for the baseline, by the name of the engine that it was compared with.
        seconds: Total duration.
        stage: What is being checked right now; names the result if an error ends the run.
    """

    bundle: Path
    results: list[CheckResult] = field(default_factory=list)
    policy: str | None = None
    engines: dict[str, Any] = field(default_factory=dict)
    baseline: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    stage: str = "files"

    @property
    def status(self) -> int:
        """The exit status, see `exit_status`."""
        return exit_status(self.results)

    @property
    def verdict(self) -> str:
        """The exit status in words."""
        return _VERDICTS[self.status]

    def to_json(self) -> dict[str, Any]:
        """The document that `check --json` prints."""
        return {
            "bundle": str(self.bundle),
            "passed": self.status == 0,
            "status": self.status,
            "policy": self.policy,
            "results": [result.to_json() for result in self.results],
            "engines": self.engines,
            "baseline": self.baseline,
            "seconds": self.seconds,
        }


def exit_status(results: Iterable[CheckResult]) -> int:
    """The worst of: 0 passed, 4 inconclusive, 5 a gate was not checked, 3 this machine cannot run an engine, 1 a gate
    failed, 2 bad input."""
    outcomes = {result.outcome for result in results}
    return next((status for outcome, status in _STATUS if outcome in outcomes), 0)


def pass_or_fail(
    name: str, passed: bool, message: str, value: float | None = None, limit: float | None = None
) -> CheckResult:
    """A result that passed or failed; the message says what is wrong and is dropped if nothing is."""
    return CheckResult(name, "passed" if passed else "failed", "" if passed else message, value, limit)
