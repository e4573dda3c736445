"""A report with a result of every kind."""

from __future__ import annotations

from pathlib import Path

from tscnc_deploy.check import CheckReport, CheckResult

REPORT = CheckReport(
    Path("bundle"),
    [
        CheckResult("files: match the manifest", "passed", seconds=0.25),
        CheckResult("environment", "note", "torch 1 -> 2"),
        CheckResult("signature", "skipped", "not signed"),
        CheckResult("a: robust", "failed", "62.0%, 50%: too low\nsecond line", 0.5, 0.8),
        CheckResult("b: robust", "inconclusive", "more", 0.79, 0.8),
        CheckResult("c: runs here", "unavailable", "pip install"),
    ],
    policy="--recipe",
    seconds=1.5,
)
