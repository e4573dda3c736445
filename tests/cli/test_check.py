from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from tests.bundle.folders import write_bundle
from tests.check.forging import FAST
from tests.conftest import invoke


def test_people_get_a_table_and_the_reason(tiny_build, monkeypatch):
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    result = invoke("check", tiny_build.bundle, *FAST, "--set", "gates.clean=0.999")
    assert "onnx-cpu: clean accuracy, lower end" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("inconclusive; " if result.exit_code == 4 else "failed; ")
    assert re.fullmatch(
        r"onnx-cpu: \d+\.\d% robust \[\d+\.\d%, \d+\.\d%\], \d+ of \d+ images", result.stdout.splitlines()[-2]
    )
    assert result.stderr.splitlines()[-1].startswith("error: onnx-cpu: ")


def test_a_junit_file_in_a_missing_folder_is_refused_before_the_attacks(tiny_build, tmp_path):
    result = invoke("check", tiny_build.bundle, "--junit", tmp_path / "missing" / "junit.xml")
    assert result.exit_code == 2
    assert f"the folder {tmp_path / 'missing'} does not exist" in result.stderr


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
def test_a_budget_that_is_not_one_is_refused(tmp_path, budget):
    assert invoke("check", tmp_path, "--budget", budget).exit_code == 2
