"""`tscnc-deploy check` as a whole, on good bundles and on bundles that cannot be checked to the end."""

from __future__ import annotations

import json

import pytest

from tests.check import forging
from tests.check.forging import check, outcomes


def test_a_good_bundle_passes(bundle):
    document = check(bundle, status=0)
    assert document["passed"] is True
    assert outcomes(document, "skipped") == ["signature"]
    assert document["policy"] == "the bundle itself"
    assert list(document["engines"]["onnx-cpu"]["attacks"]) == ["replay", "twin-apgd-2", "square-5"]
    names = [result["name"] for result in document["results"]]
    assert names[0] == "files: match the manifest"
    assert names[-3:] == [
        "onnx-cpu: clean accuracy, lower end",
        "onnx-cpu: robust accuracy, lower end",
        "onnx-cpu: robust accuracy is not less than recorded",
    ]


def test_the_folder_of_a_run_is_taken_too(bundle):
    check(bundle.parent, status=0)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_figures(bundle):
    first, second = (check(bundle)["engines"]["onnx-cpu"] for _ in range(2))
    assert first["robust"] == second["robust"]


def test_a_flipped_byte_is_bad_input(bundle):
    path = bundle / "engines" / "onnx-cpu" / "model.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    document = check(bundle, status=2)
    assert [result["name"] for result in document["results"]] == ["files"]
    assert "engines/onnx-cpu/model.onnx has changed" in document["results"][0]["message"]


def test_removed_evidence_is_missed(bundle):
    (bundle / "evidence" / "evidence.safetensors").unlink()
    assert "evidence.safetensors is missing" in check(bundle, status=2)["results"][0]["message"]


def test_an_engine_that_does_not_run_here(bundle):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine may run it: it has a GPU")
    target = bundle / "engines" / "onnx-cpu" / "target.json"
    target.write_text(json.dumps(json.loads(target.read_text()) | {"provider": "CUDAExecutionProvider"}))
    forging.reseal(bundle)
    document = check(bundle, status=3)
    assert outcomes(document, "unavailable") == ["onnx-cpu: runs here"]
