from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.check.outputs.reports import REPORT
from tscnc_deploy.check import CheckReport, CheckResult
from tscnc_deploy.check.outputs.github import step_summary, workflow_commands


def test_annotations_are_one_line_each_and_escaped():
    assert workflow_commands(REPORT) == [
        "::notice title=tscnc-deploy%3A environment::torch 1 -> 2",
        "::error title=tscnc-deploy%3A a%3A robust::62.0%25, 50%25: too low%0Asecond line",
        "::warning title=tscnc-deploy%3A b%3A robust::more",
        "::error title=tscnc-deploy%3A c%3A runs here::pip install",
    ]


@given(st.text(), st.text())
def test_no_text_breaks_out_of_its_line_or_cell(name, message):
    report = CheckReport(Path("bundle"), [CheckResult(name, "failed", message)])
    (line,) = workflow_commands(report)
    assert "\n" not in line
    assert "\r" not in line
    row = step_summary(report).rstrip("\n").split("\n")[-1]
    assert row.startswith("| ")
    assert "<" not in row
