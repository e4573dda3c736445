from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from tests.check.outputs.reports import REPORT
from tscnc_deploy.check import CheckReport, CheckResult
from tscnc_deploy.check.outputs.junit import render_junit


def test_junit_has_a_case_for_every_result():
    suite = ElementTree.fromstring(render_junit(REPORT))[0]
    assert suite.attrib == {
        "name": "tscnc-deploy check", "time": "1.500", "tests": "6", "failures": "2", "errors": "1", "skipped": "1",
    }  # fmt: skip
    cases = {case.get("name"): case for case in suite}
    assert list(cases["files: match the manifest"]) == []
    assert cases["environment"].findtext("system-out") == "torch 1 -> 2"
    failure = cases["a: robust"].find("failure")
    assert (failure.get("message"), failure.get("type")) == ("62.0%, 50%: too low", "failed")
    assert failure.text.endswith("second line")
    assert cases["b: robust"].find("failure").get("type") == "inconclusive"
    assert cases["c: runs here"].find("error") is not None
    assert cases["signature"].find("skipped").get("message") == "not signed"


@given(st.text(), st.text())
def test_no_text_breaks_the_document(name, message):
    report = CheckReport(Path("bundle"), [CheckResult(name, "failed", message)])
    assert len(ElementTree.fromstring(render_junit(report))[0]) == 1
