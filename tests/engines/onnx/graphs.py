"""Classifiers written by hand around a few nodes, and exported ones."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import nn

from tscnc_deploy.engines.onnx.export import export_onnx
from tscnc_deploy.engines.onnx.file import read_onnx

WEIGHT = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]], np.float32)


def classifier(
    nodes: Sequence[NodeProto],
    stored: Sequence[TensorProto] = (),
    *,
    batch: int | str = "batch",
    opset: int = 20,
    side: int = 2,
    weight: NDArray[np.float32] = WEIGHT,
) -> ModelProto:
    """Images [batch, 1, 2, 2], flattened to "x" [batch, 4]; the nodes make "y" [batch, 4], a linear layer the logits.

    The layer's weight is called "w4" and has 3 of 12 values; the logits are the first three numbers of "y". With
    another side and weight, images have side * side pixels, and the weight is [side * side, classes].
    """
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["images"], ["x"], name="the Flatten"),
            *nodes,
            helper.make_node("MatMul", ["y", "w4"], ["logits"], name="the layer"),
        ],
        "by hand",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 1, side, side])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, weight.shape[1]])],
        [numpy_helper.from_array(weight, "w4"), *stored],
    )
    return helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", opset)])


def exported_graph(model: nn.Module, input_shape: tuple[int, int, int]) -> ModelProto:
    """The graph that is exported of a module."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_onnx(model, path, input_shape=input_shape)
        return read_onnx(path)
