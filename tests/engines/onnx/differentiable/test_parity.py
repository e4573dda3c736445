"""A graph is compared with the runtime before its gradients are trusted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

from tests.engines.nets import random_images
from tests.engines.onnx.graphs import classifier
from tscnc_deploy.engines.onnx.differentiable.graph import GraphModule
from tscnc_deploy.engines.onnx.differentiable.parity import compare_with_runtime, first_difference
from tscnc_deploy.engines.onnx.file import parse_onnx
from tscnc_deploy.engines.onnx.runtime import OnnxRuntimeEngine

IMAGES = random_images(20, (1, 2, 2))


def opened(model, tmp_path, *, contrib=False):
    path = Path(tmp_path) / "model.onnx"
    onnx.save(model, path)
    checked = parse_onnx(path.read_bytes(), path, contrib=contrib)
    return GraphModule(checked, path), OnnxRuntimeEngine(path, threads=1, contrib=contrib), checked


def test_the_same_function(tmp_path):
    module, engine, model = opened(classifier([helper.make_node("Tanh", ["x"], ["y"])]), tmp_path)
    parity = compare_with_runtime(module, engine, IMAGES, model)
    assert (parity.images, parity.agreement, parity.quantised, parity.passed, parity.node) == (20, 1, False, True, None)
    assert parity.difference < 1e-6
    assert "and labels agree on 20 of 20 images" in str(parity)


def test_another_function_is_named_by_its_node(tmp_path):
    nodes = [helper.make_node("Tanh", ["x"], ["t"], name="before"), helper.make_node("Exp", ["t"], ["y"], name="after")]
    _, engine, model = opened(classifier(nodes), tmp_path)
    other = classifier([nodes[0], helper.make_node("Sqrt", ["t"], ["y"], name="after")])
    (tmp_path / "other").mkdir()
    module, _, _ = opened(other, tmp_path / "other")
    parity = compare_with_runtime(module, engine, IMAGES, model)
    assert not parity.passed
    assert parity.node.startswith("node 'after' (Sqrt) differs by ")


def test_what_is_the_same_node_by_node_is_called_that(tmp_path):
    module, _, model = opened(classifier([helper.make_node("Tanh", ["x"], ["y"])]), tmp_path)
    assert first_difference(module, model, IMAGES, 1e-3).startswith("no node alone; onnxruntime's optimised graph")


class Batches(CalibrationDataReader):
    def __init__(self):
        self._left = iter([IMAGES])

    def get_next(self):
        images = next(self._left, None)
        return None if images is None else {"images": images}


@pytest.mark.parametrize("form", ["qdq", "qoperator", "dynamic"])
def test_files_in_8_bits(tmp_path, form):
    # As torch.nn.Conv2d and Linear are exported; a network of several kinds of nodes to quantise. Weights have 7 bits,
    # so that sums of products saturate on no processor.
    random = np.random.default_rng(1)
    stored = {
        "w1": random.normal(size=(8, 1, 2, 2)),
        "w2": random.normal(size=(6, 8, 1, 1)) / 3,
        "w3": random.normal(size=(6, 4)),
        "b3": random.normal(size=4),
    }
    nodes = [
        helper.make_node("Conv", ["images", "w1"], ["a"], pads=[0, 0, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("GlobalAveragePool", ["d"], ["e"]),
        helper.make_node("Flatten", ["e"], ["f"]),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 1, 2, 2])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in stored.items()],
    )
    plain, path = tmp_path / "plain.onnx", tmp_path / "int8.onnx"
    onnx.save(helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 17)]), plain)
    if form == "dynamic":
        quantize_dynamic(plain, path, op_types_to_quantize=["Conv", "Gemm", "MatMul"], reduce_range=True)
    else:
        quantize_static(
            plain, path, Batches(), quant_format=QuantFormat[{"qdq": "QDQ", "qoperator": "QOperator"}[form]],
            weight_type=QuantType.QInt8, per_channel=True, reduce_range=True,
        )  # fmt: skip
    module, engine, model = opened(onnx.load(path), tmp_path, contrib=True)
    parity = compare_with_runtime(module, engine, IMAGES, model)
    assert parity.quantised
    assert parity.passed
    # One step of 255 in every one of a few nodes.
    assert parity.difference < 0.03
    assert parity.agreement >= 0.95
    # Given the runtime's operands, no node is further off than one step.
    assert first_difference(module, model, IMAGES, 1e-4).startswith("no node alone")
