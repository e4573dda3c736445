"""JUnit XML and what GitHub Actions reads: well-formed whatever a bundle says."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bundle.folders import write_bundle
from tests.check.forging import FAST
from tests.conftest import invoke
from tscnc_deploy.check import CheckReport, CheckResult, exit_status
from tscnc_deploy.check.outputs.github import step_summary, workflow_commands
from tscnc_deploy.check.outputs.junit import render_junit

FOUND = CheckReport(
    Path("bundle"),
    [
        CheckResult("files: as listed", "passed", seconds=0.25),
        CheckResult("environment", "note", "torch 1 -> 2"),
        CheckResult("signature", "skipped", "not signed"),
        CheckResult("a: robust", "failed", "62.0%, 50%: too low\nsecond line", 0.5, 0.8),
        CheckResult("b: robust", "inconclusive", "more", 0.79, 0.8),
        CheckResult("c: runs here", "unavailable", "pip install"),
    ],
    policy="--recipe",
    seconds=1.5,
)


def test_the_worst_outcome_decides():
    def status(*outcomes):
        return exit_status(CheckResult("x", outcome) for outcome in outcomes)

    assert [status(), status("passed", "note", "skipped"), status("failed"), status("error")] == [0, 0, 1, 2]
    assert [status("unavailable"), status("inconclusive")] == [3, 4]
    assert status("inconclusive", "failed", "unavailable") == 1
    assert status("failed", "error") == 2


def test_junit_has_a_case_for_every_finding():
    suite = ElementTree.fromstring(render_junit(FOUND))[0]
    assert suite.attrib == {
        "name": "tscnc-deploy check", "time": "1.500", "tests": "6", "failures": "2", "errors": "1", "skipped": "1",
    }  # fmt: skip
    cases = {case.get("name"): case for case in suite}
    assert list(cases["files: as listed"]) == []
    assert cases["environment"].findtext("system-out") == "torch 1 -> 2"
    failure = cases["a: robust"].find("failure")
    assert (failure.get("message"), failure.get("type")) == ("62.0%, 50%: too low", "failed")
    assert failure.text.endswith("second line")
    assert cases["b: robust"].find("failure").get("type") == "inconclusive"
    assert cases["c: runs here"].find("error") is not None
    assert cases["signature"].find("skipped").get("message") == "not signed"


def test_annotations_are_one_line_each_and_escaped():
    assert workflow_commands(FOUND) == [
        "::notice title=tscnc-deploy%3A environment::torch 1 -> 2",
        "::error title=tscnc-deploy%3A a%3A robust::62.0%25, 50%25: too low%0Asecond line",
        "::warning title=tscnc-deploy%3A b%3A robust::more",
        "::error title=tscnc-deploy%3A c%3A runs here::pip install",
    ]


@given(st.text(), st.text())
def test_no_text_breaks_out(name, message):
    found = CheckReport(Path("bundle"), [CheckResult(name, "failed", message)])
    assert len(ElementTree.fromstring(render_junit(found))[0]) == 1
    (line,) = workflow_commands(found)
    assert "\n" not in line
    assert "\r" not in line
    row = step_summary(found).rstrip("\n").split("\n")[-1]
    assert row.startswith("| ")
    assert "<" not in row


def test_github_gets_annotations_and_a_summary(tmp_path, monkeypatch):
    bundle = write_bundle(tmp_path / "bundle")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    (bundle / "README.md").write_text("changed")
    result = invoke("check", bundle, *FAST, "--junit", tmp_path / "junit.xml", "--json")
    assert result.exit_code == 2
    assert "::error title=tscnc-deploy%3A files::" in result.stderr
    assert "::error" not in result.stdout
    assert (tmp_path / "summary.md").read_text().startswith("### tscnc-deploy check: bad input")
    assert ElementTree.parse(tmp_path / "junit.xml").getroot()[0].get("errors") == "1"
    assert "::error" in invoke("check", bundle, *FAST).stdout


@pytest.mark.parametrize("budget", ["0s", "soon", "-3q"])
def test_a_budget_that_is_none_is_refused(tmp_path, budget):
    assert invoke("check", tmp_path, "--budget", budget).exit_code == 2
