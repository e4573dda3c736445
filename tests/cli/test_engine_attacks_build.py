"""A build whose engine attacks have settings that are lists."""

from __future__ import annotations

import shutil

import pytest

from tests.conftest import invoke, tiny_options
from tscnc_deploy import open_bundle


@pytest.mark.slow
def test_twin_apgd_reaches_the_bundle_with_its_settings(tiny_build, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(tiny_build.folder, run)
    result = invoke("build", *tiny_options(verify__engine_attacks='["twin-apgd-2"]'), "--out", run)
    assert result.exit_code == 0, result.stderr
    engine = open_bundle(run / "bundle").record.evaluations.engines["onnx-cpu"]
    assert list(engine.attacks) == ["replay", "twin-apgd-2"]
    assert engine.settings["twin-apgd-2"]["losses"] == ("cross-entropy", "dlr (margin below 4 classes)")
    assert "losses cross-entropy, dlr (margin below 4 classes)" in (run / "bundle" / "report.html").read_text()
