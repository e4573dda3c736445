from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.engines.architectures import SHAPE
from tests.engines.nets import random_images
from tscnc_deploy.engines.onnx.file import read_onnx, write_onnx
from tscnc_deploy.engines.onnx.fold_norms import fold_norms
from tscnc_deploy.engines.onnx.runtime import OnnxRuntimeEngine
from tscnc_deploy.engines.onnx.structure import structure_of


def test_a_folded_layer_that_can_be_computed_by_hand(small_files):
    model = read_onnx(small_files.dense)
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    folded = fold_norms(model)
    weights = {t.name: numpy_helper.to_array(t) for t in folded.graph.initializer}
    scale = stored["norm.weight"] / np.sqrt(stored["norm.running_var"] + 1e-5)
    np.testing.assert_allclose(weights["first.weight"], stored["first.weight"] * scale.reshape(-1, 1, 1, 1), rtol=1e-6)
    shift = stored["norm.bias"] - stored["norm.running_mean"] * scale
    np.testing.assert_allclose(weights["first.folded_bias"], shift, rtol=1e-5, atol=1e-7)
    assert "BatchNormalization" not in {node.op_type for node in folded.graph.node}
    assert not [name for name in weights if name.startswith("norm.")]
    assert structure_of(folded).nonzero == structure_of(model).nonzero


@pytest.mark.parametrize(
    ("arch", "norms_left"), [("resnet18", 0), pytest.param("wrn28-10", 12, marks=pytest.mark.slow)]
)
def test_logits_stay_and_norms_that_stand_before_a_convolution_are_left(architectures, tmp_path, arch, norms_left):
    dense = architectures.dense(arch)
    model = read_onnx(dense)
    folded = fold_norms(model)
    onnx.checker.check_model(folded, full_check=True)
    assert [node.op_type for node in folded.graph.node].count("BatchNormalization") == norms_left
    write_onnx(folded, tmp_path / "folded.onnx")
    images = random_images(3, SHAPE)
    expected = OnnxRuntimeEngine(dense).logits(images)
    logits = OnnxRuntimeEngine(tmp_path / "folded.onnx").logits(images)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
