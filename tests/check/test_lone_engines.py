"""`tscnc-deploy check` on bundles of which no engine has the twin's weights as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from tests.check import forging
from tests.check.forging import check, outcomes
from tests.conftest import invoke, tiny_options


def test_in_eight_bits(tmp_path):
    bundle = _build(tmp_path, "onnx-int8")
    engine = "engines/onnx-int8/model.onnx"
    passed = outcomes(check(bundle, status=0), "passed")
    assert {f"{engine}: weights as listed", f"{engine}: as sparse as asked for"} <= set(passed)
    assert {"twin: weights as listed", "onnx-int8: precision as listed"} <= set(passed)

    _make_weights_of_zeros(bundle / engine)
    forging.reseal(bundle)
    assert f"{engine}: as sparse as asked for" in outcomes(check(bundle, status=1))


def test_completed_to_two_of_four(tmp_path):
    (tmp_path / "completed.toml").write_text('complete = "2:4"\ncomplete_channels = 8\n')
    passed = outcomes(check(_build(tmp_path, tmp_path / "completed.toml"), status=0), "passed")
    assert {"twin: weights as listed", "engines/completed/model.onnx: weights as listed"} <= set(passed)


def _build(folder: Path, target: object) -> Path:
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
