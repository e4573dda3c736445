"""What is to be checked, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tscnc_deploy.check.result import CheckResult, exit_status

if TYPE_CHECKING:
    from collections.abc import Callable

    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.bundle.signing.keyless import Identity
    from tscnc_deploy.verify.budget import Budget


_VERDICTS = {0: "passed", 1: "failed", 2: "bad input", 3: "cannot run here", 4: "inconclusive"}


@dataclass(frozen=True)
class Request:
    """What is to be checked, and how.

    Attributes:
        bundle: The bundle's folder.
        key: Public key of whom the signature must be.
        identity: Or whose keyless signature it must be; with neither, unsigned bundles are taken too.
        recipe: Name or file of the recipe whose bounds count.
        overrides: Changes to it, KEY=VALUE.
        baseline: Folder of a bundle that this one must not be worse than.
        margin: Largest share of robust accuracy that it may lose against it.
        engines: Which to run; empty takes every one that this machine runs.
        attacks: Names of the fresh attacks; empty takes those of `attack.ATTACKS`.
        budget: What all fresh attacks together may cost; None is no bound.
        seed: Of the attacks.
        device: Where PyTorch computes, "cpu" or "cuda".
        dataset: Name of the data set of evidence images that bundles withhold; None takes their recipes'.
        data_root: Where it is; None takes the default. With neither, no data set is opened.
        rebuild: Builds the bundle again from its recipe, for a comparison; None compares nothing.
    """

    bundle: Path
    key: Path | None = None
    identity: Identity | None = None
    recipe: str | None = None
    overrides: tuple[str, ...] = ()
    baseline: Path | None = None
    margin: float = 0.02
    engines: tuple[str, ...] = ()
    attacks: tuple[str, ...] = ()
    budget: Budget | None = None
    seed: int = 0
    device: str = "cpu"
    dataset: str | None = None
    data_root: str | None = None
    rebuild: Callable[[Bundle], Bundle] | None = None


@dataclass
class CheckReport:
    """What was found.

    Attributes:
        bundle: The bundle's folder.
        findings: In the order in which they were made.
        policy: Whose bounds counted; None if the bundle could not be opened.
        engines: Every figure of the fresh attacks by engine, as `verify --json` has them.
        baseline: Likewise for what the baseline answered them with.
        seconds: What all of it took.
        stage: What is being checked, to name what ends it.
    """

    bundle: Path
    findings: list[CheckResult] = field(default_factory=list)
    policy: str | None = None
    engines: dict[str, Any] = field(default_factory=dict)
    baseline: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    stage: str = "files"

    @property
    def status(self) -> int:
        """The exit status, see `exit_status`."""
        return exit_status(self.findings)

    @property
    def verdict(self) -> str:
        """The exit status in words."""
        return _VERDICTS[self.status]

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "bundle": str(self.bundle),
            "passed": self.status == 0,
            "status": self.status,
            "policy": self.policy,
            "findings": [finding.to_json() for finding in self.findings],
            "engines": self.engines,
            "baseline": self.baseline,
            "seconds": self.seconds,
        }
