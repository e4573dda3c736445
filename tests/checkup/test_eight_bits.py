"""`tscnc-deploy check` on a bundle whose only engine computes in 8 bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.checkup import forging
from tests.checkup.forging import check, outcomes
from tests.conftest import invoke, tiny_options

MODEL = "engines/onnx-int8/model.onnx"


@pytest.fixture
def bundle(tmp_path) -> Path:
    run = tmp_path / "run"
    settings = tiny_options(gates__engine_loss="none", gates__pruning_loss="none")
    result = invoke("build", *settings, "--target", "onnx-int8", "--out", run, "--json")
    assert result.exit_code == 0, result.stderr
    return run / "bundle"


def test_its_zeros_are_counted_and_are_those_of_the_zero_point(bundle):
    document = check(bundle, status=0)
    counted = {finding["name"] for finding in document["findings"] if finding["outcome"] == "passed"}
    for path in (MODEL, "engines/onnx-int8/model.dense.onnx"):
        assert {f"{path}: weights as listed", f"{path}: as sparse as asked for"} <= counted
    assert "onnx-int8: precision as listed" in counted

    _move_zero_points(bundle / MODEL)
    forging.reseal(bundle)
    assert f"{MODEL}: as sparse as asked for" in outcomes(check(bundle, status=1))


def _move_zero_points(path: Path) -> None:
    """Every stored zero becomes a weight, and no stored value changes."""
    model = onnx.load(path)
    weights = {tensor.name for tensor in model.graph.initializer if len(tensor.dims) == 4}
    points = {
        node.input[2] for node in model.graph.node if node.op_type == "DequantizeLinear" and node.input[0] in weights
    }
    for tensor in model.graph.initializer:
        if tensor.name in points:
            moved = np.ones_like(numpy_helper.to_array(tensor))
            tensor.CopyFrom(numpy_helper.from_array(moved, tensor.name))
    assert points
    onnx.save(model, path)
