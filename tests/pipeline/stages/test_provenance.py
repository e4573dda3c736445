from __future__ import annotations

import inspect
import platform
from importlib.metadata import version
from pathlib import Path

from tscnc_deploy.pipeline.fingerprint import libraries
from tscnc_deploy.pipeline.stages import STAGES
from tscnc_deploy.pipeline.stages.provenance import not_before, versions


def test_versions_of_everything_that_computes_are_recorded():
    found = versions()
    assert found["python"] == platform.python_version()
    for name in ("numpy", "onnx", "onnxscript", "pillow", "scikit-learn", "scipy", "torch", "torchvision"):
        assert found[name] == version(name)
    for stage in STAGES:
        if stage.name != "package":  # it renders what the others computed
            used = {name for name, installed in libraries(Path(inspect.getfile(type(stage)))).items() if installed}
            assert used <= set(found), stage.name


def test_a_clock_that_goes_back_ends_no_build_before_it_began():
    assert not_before("2026-03-01T10:00:00Z", "2026-03-01T09:59:59Z") == "2026-03-01T10:00:00Z"
    assert not_before("2026-03-01T10:00:00Z", "2026-03-01T10:00:01Z") == "2026-03-01T10:00:01Z"
    assert not_before(None, "2026-03-01T10:00:01Z") == "2026-03-01T10:00:01Z"
