"""The first command of the README as it is written, and what it made under `verify` and `check`."""

from __future__ import annotations

import json

import pytest

from tests.conftest import invoke

pytestmark = [pytest.mark.slow, pytest.mark.default_build]


def test_it_passes_its_gates_and_its_bundle_passes_those_of_the_recipe(tmp_path):
    built = invoke("build", "--arch", "resnet18", "--sparsity", "0.95", "--out", tmp_path / "run", "--json")
    assert built.exit_code == 0, built.stderr
    summary = json.loads(built.stdout)
    assert summary["passed"] is True
    assert (summary["model"]["nonzero"], summary["model"]["prunable"]) == (558_160, 11_163_200)
    assert invoke("verify", tmp_path / "run").exit_code == 0
    checked = invoke("check", tmp_path / "run", "--recipe", "digits", "--json")
    assert checked.exit_code == 0, checked.stderr
    assert json.loads(checked.stdout)["passed"] is True
