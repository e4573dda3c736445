"""Compares runs: rows of equal settings over seeds, differences paired by seed, tables, figures, an HTML page."""

from __future__ import annotations

from tscnc_deploy.report.comparison.rows import Comparison, Row, compare_runs
from tscnc_deploy.report.comparison.runs import Result, read_run
from tscnc_deploy.report.comparison.seeds import Mean

__all__ = ["Comparison", "Mean", "Result", "Row", "compare_runs", "read_run"]
