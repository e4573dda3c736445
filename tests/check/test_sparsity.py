from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.check import forging
from tests.check.forging import check, outcomes
from tests.conftest import invoke, tiny_options


@pytest.mark.slow
def test_a_dense_model_is_not_sparse(bundle):
    forging.replace_network(bundle, forging.fill_zeros)
    failed = outcomes(check(bundle, status=1))
    assert "engines/onnx-cpu/model.onnx: weights match the manifest" in failed
    assert "engines/onnx-cpu/model.onnx: as sparse as required" in failed
    assert "twin.onnx: weights match the manifest" in failed


def test_a_dense_model_whose_manifest_says_so_is_not_as_sparse_as_required(bundle):
    forging.replace_network(bundle, forging.fill_zeros)

    def admit(contents):
        contents["model"] |= {"nonzero": contents["model"]["prunable"], "sparsity": 0.0}

    forging.reseal(bundle, admit)
    assert "engines/onnx-cpu/model.onnx: as sparse as required" in outcomes(check(bundle, status=1))


@pytest.mark.slow
def test_an_engine_in_eight_bits(tiny_build, tmp_path):
    bundle = _build(tiny_build, tmp_path, "onnx-int8")
    engine = "engines/onnx-int8/model.onnx"
    passed = outcomes(check(bundle, status=0), "passed")
    assert {f"{engine}: weights match the manifest", f"{engine}: as sparse as required"} <= set(passed)
    assert {"twin.onnx: weights match the manifest", "onnx-int8: precision matches the manifest"} <= set(passed)

    _make_weights_of_zeros(bundle / engine)
    forging.reseal(bundle)
    assert f"{engine}: as sparse as required" in outcomes(check(bundle, status=1))


@pytest.mark.slow
def test_an_engine_completed_to_two_of_four(tiny_build, tmp_path):
    (tmp_path / "completed.toml").write_text('complete = "2:4"\ncomplete_channels = 8\n')
    bundle = _build(tiny_build, tmp_path, tmp_path / "completed.toml")
    passed = outcomes(check(bundle, status=0), "passed")
    assert {"twin.onnx: weights match the manifest", "engines/completed/model.onnx: weights match the manifest"} <= set(
        passed
    )


def _build(tiny_build: SimpleNamespace, folder: Path, target: object) -> Path:
    """The tiny build with another engine instead of its own; nothing is trained again."""
    shutil.copytree(tiny_build.folder, folder / "run")
    settings = tiny_options(gates__engine_loss='"none"')
    result = invoke("build", *settings, "--target", target, "--out", folder / "run", "--json")
    assert result.exit_code == 0, result.stderr
    return folder / "run" / "bundle"


def _make_weights_of_zeros(path: Path) -> None:
    """Moves the zero points of the weights; what is stored for each weight does not change."""
    model = onnx.load(path)
    weights = {tensor.name for tensor in model.graph.initializer if len(tensor.dims) == 4}
    quantised = [n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in weights]
    points = {node.input[2] for node in quantised}
    for tensor in model.graph.initializer:
        if tensor.name in points:
            moved = np.ones_like(numpy_helper.to_array(tensor))
            tensor.CopyFrom(numpy_helper.from_array(moved, tensor.name))
    onnx.save(model, path)
