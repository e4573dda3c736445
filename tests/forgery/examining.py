"""What `check` finds before it runs an engine; a whole check attacks too, which takes seconds."""

from __future__ import annotations

from pathlib import Path

from tscnc_deploy import open_bundle
from tscnc_deploy.check import CheckResult, choose_policy, exit_status
from tscnc_deploy.check.run import checks_without_running


def examine(folder: Path, *overrides: str, recipe: Path | None = None) -> list[CheckResult]:
    """The results of all checks that run no engine, in order; overrides change the recipe's limits."""
    bundle = open_bundle(folder)
    policy = choose_policy(bundle, recipe=None if recipe is None else str(recipe), overrides=overrides)
    return [result for make in checks_without_running(bundle, policy).values() for result in make()]


def failed(folder: Path, *overrides: str) -> dict[str, str]:
    """The messages of the checks that failed, by name."""
    results = examine(folder, *overrides)
    found = {result.name: result.message for result in results if result.outcome == "failed"}
    assert exit_status(results) == (1 if found else 0)
    return found
