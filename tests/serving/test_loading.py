from __future__ import annotations

import hashlib

import numpy as np
import pytest

from tests.bundle.folders import contents
from tests.serving.bundles import expected, write_engine, write_served
from tscnc_deploy.bundle import open_bundle, seal
from tscnc_deploy.errors import BundleError, GateFailedError
from tscnc_deploy.serving.loading import fastest_first, open_model


def test_the_engine_that_passed_is_opened_once_per_instance(served_bundle):
    model = open_model(open_bundle(served_bundle), instances=2, threads=1)
    assert (model.name, model.version, model.passed, len(model.engines)) == ("tiny", "1", True, 2)
    assert model.spec.name == "onnx-cpu"
    assert model.digest == hashlib.sha256((served_bundle / "manifest.json").read_bytes()).hexdigest()
    images = np.ones((2, 1, 8, 8), np.float32)
    for engine in model.engines:
        np.testing.assert_allclose(engine.logits(images), expected(images))


def test_the_fastest_engine_goes_first(tmp_path):
    folder = write_served(tmp_path / "timed", milliseconds={"onnx-cpu": 3.0, "fast": 1.0})
    write_engine(folder / "engines" / "fast", name="fast")
    seal(folder, contents("onnx-cpu", "onnx-cuda", "fast"))
    bundle = open_bundle(folder)
    assert open_model(bundle, threads=1).spec.name == "fast"
    assert fastest_first(bundle, ["onnx-cpu", "onnx-cuda", "fast"]) == ["fast", "onnx-cpu", "onnx-cuda"]


def test_without_times_the_first_by_name_goes_first(served_bundle):
    names = ["onnx-cpu", "onnx-cuda", "fast"]
    assert fastest_first(open_bundle(served_bundle), names) == names


def test_facts_are_threat_model_accuracies_and_gates(served_bundle):
    facts = open_model(open_bundle(served_bundle), threads=1).facts
    assert facts["threat"] == {"norm": "Linf", "epsilon": 0.1}
    assert facts["robust"]["accuracy"] == 0.75
    assert [gate["name"] for gate in facts["gates"]] == ["robust accuracy, lower end"]


def test_a_bundle_that_failed_is_rejected(tmp_path):
    folder = write_served(tmp_path / "failed", passed=False)
    with pytest.raises(GateFailedError, match=r"failed its gates \(robust accuracy, lower end\); use --allow-failed"):
        open_model(open_bundle(folder))
    assert not open_model(open_bundle(folder), "onnx-cpu", allow_failed=True, threads=1).passed


def test_an_engine_that_was_never_attacked_is_rejected(served_bundle, tmp_path):
    with pytest.raises(GateFailedError, match="the engine onnx-cuda was not attacked"):
        open_model(open_bundle(served_bundle), "onnx-cuda")
    folder = write_served(tmp_path / "none", attacked=False)
    with pytest.raises(GateFailedError, match="its engines were not attacked"):
        open_model(open_bundle(folder))


def test_an_unknown_engine_and_a_changed_file_are_rejected(tmp_path):
    folder = write_served(tmp_path / "bundle")
    with pytest.raises(BundleError, match="engine 'tensorrt' not found"):
        open_model(open_bundle(folder), "tensorrt")
    (folder / "engines" / "onnx-cpu" / "model.onnx").write_bytes(b"changed")
    with pytest.raises(BundleError, match=r"model\.onnx has"):
        open_model(open_bundle(folder))
