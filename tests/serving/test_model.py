from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from tests.bundle.folders import contents
from tests.serving.bundles import expected, write_engine, write_served
from tscnc_deploy.bundle import open_bundle, seal
from tscnc_deploy.errors import BundleError, GateFailedError
from tscnc_deploy.serving.metrics import Metrics
from tscnc_deploy.serving.model import open_model, quickest_first
from tscnc_deploy.serving.service import Limits, Service


def test_the_engine_that_passed_is_opened_once_per_instance(served_bundle):
    model = open_model(open_bundle(served_bundle), instances=2, threads=1)
    assert (model.name, model.version, model.passed, len(model.engines)) == ("tiny", "1", True, 2)
    assert model.spec.name == "onnx-cpu"
    assert model.digest == hashlib.sha256((served_bundle / "manifest.json").read_bytes()).hexdigest()
    images = np.ones((2, 1, 8, 8), np.float32)
    for engine in model.engines:
        np.testing.assert_allclose(engine.logits(images), expected(images))


def test_the_engine_that_was_quickest_goes_first(tmp_path):
    folder = write_served(tmp_path / "timed", milliseconds={"onnx-cpu": 3.0, "quick": 1.0})
    write_engine(folder / "engines" / "quick", name="quick")
    seal(folder, contents("onnx-cpu", "onnx-cuda", "quick"))
    bundle = open_bundle(folder)
    assert open_model(bundle, threads=1).spec.name == "quick"
    assert quickest_first(bundle, ["onnx-cpu", "onnx-cuda", "quick"]) == ["quick", "onnx-cpu", "onnx-cuda"]


def test_without_times_the_first_by_name_goes_first(served_bundle):
    names = ["onnx-cpu", "onnx-cuda", "quick"]
    assert quickest_first(open_bundle(served_bundle), names) == names


@pytest.mark.parametrize(("limit", "in_place"), [(10.0, True), (None, False)])
def test_single_images_of_quick_engines_are_computed_in_the_event_loop(served_bundle, monkeypatch, limit, in_place):
    if limit is not None:  # above what the sleep takes on the slowest machine
        monkeypatch.setattr("tscnc_deploy.serving.service._IN_PLACE_SECONDS", limit)
    threads = []

    class Watched:
        def __init__(self, engine):
            self.engine, self.spec = engine, engine.spec

        def logits(self, images):
            threads.append(threading.current_thread())
            time.sleep(0.01)
            return self.engine.logits(images)

    def opened(version):
        model = open_model(open_bundle(served_bundle), version=version, threads=1, page=False)
        return replace(model, engines=tuple(Watched(engine) for engine in model.engines))

    async def ask():
        service = Service(opened, Limits(), Metrics())
        await service.start()
        threads.clear()
        for _ in range(3):
            await service.current.batcher.logits(np.zeros((1, 1, 8, 8), np.float32))
        await service.stop()

    asyncio.run(ask())
    assert [thread is threading.main_thread() for thread in threads] == [in_place] * 3


def test_clients_learn_what_protects_the_model(served_bundle):
    facts = open_model(open_bundle(served_bundle), threads=1).facts
    assert facts["threat"] == {"norm": "Linf", "epsilon": 0.1}
    assert facts["robust"]["accuracy"] == 0.75
    assert [gate["name"] for gate in facts["gates"]] == ["robust accuracy, lower end"]


def test_a_bundle_that_failed_is_refused(tmp_path):
    folder = write_served(tmp_path / "failed", passed=False)
    with pytest.raises(GateFailedError, match=r"failed its gates \(robust accuracy, lower end\); --allow-failed"):
        open_model(open_bundle(folder))
    assert not open_model(open_bundle(folder), "onnx-cpu", allow_failed=True, threads=1).passed


def test_an_engine_that_was_never_attacked_is_refused(served_bundle, tmp_path):
    with pytest.raises(GateFailedError, match="the engine onnx-cuda was not attacked"):
        open_model(open_bundle(served_bundle), "onnx-cuda")
    folder = write_served(tmp_path / "none", attacked=False)
    with pytest.raises(GateFailedError, match="its engines were not attacked"):
        open_model(open_bundle(folder))


def test_an_unknown_engine_and_a_changed_file_are_refused(tmp_path):
    folder = write_served(tmp_path / "bundle")
    with pytest.raises(BundleError, match="no engine 'tensorrt'"):
        open_model(open_bundle(folder), "tensorrt")
    (folder / "engines" / "onnx-cpu" / "model.onnx").write_bytes(b"changed")
    with pytest.raises(BundleError, match=r"model\.onnx has"):
        open_model(open_bundle(folder))
