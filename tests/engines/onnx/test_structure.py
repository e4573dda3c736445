from __future__ import annotations

from math import prod

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.engines.architectures import SHAPE, network
from tests.engines.nets import dense_weight, linear_onnx, small_net, sparse_weight, sums_and_differences
from tests.engines.onnx.graphs import exported_graph
from tscnc_deploy.engines import ExportAids, export_engine, load_target
from tscnc_deploy.engines.onnx.export import export_onnx
from tscnc_deploy.engines.onnx.file import read_onnx
from tscnc_deploy.engines.onnx.structure import (
    count_parameters,
    overall_precision,
    recount,
    structure_of,
    weights_of,
)
from tscnc_deploy.tscnc import prunable_weights


def test_zeros_that_can_be_counted_by_hand(tmp_path):
    export_onnx(sums_and_differences(), tmp_path / "model.onnx", input_shape=(1, 2, 2))
    structure = recount(tmp_path / "model.onnx")
    assert [(layer.name, layer.shape, layer.nonzero) for layer in structure.layers] == [
        ("0.weight", (2, 1, 2, 2), 6),
        ("2.weight", (2, 2), 2),
    ]
    assert (structure.prunable, structure.nonzero, structure.sparsity) == (12, 8, 1 - 8 / 12)
    assert structure.precision == "fp32"


def test_explicit_zeros_of_a_sparse_tensor_are_zeros(tmp_path):
    path = linear_onnx(sparse_weight([1.0, 0.0, -0.0], [0, 3, 5]), tmp_path / "model.onnx")
    assert (recount(path).prunable, recount(path).nonzero) == (8, 1)


def test_both_files_count_what_the_masks_left(small_files):
    model = small_net()
    expected = {name: int(weight.count_nonzero()) for name, weight in prunable_weights(model).items()}
    for path in (small_files.model, small_files.dense):
        assert {layer.name: layer.nonzero for layer in recount(path).layers} == expected


@pytest.mark.parametrize(
    "arch", ["resnet18", "vgg16", *(pytest.param(arch, marks=pytest.mark.slow) for arch in ("wrn28-10", "mobilenetv2"))]
)
def test_architectures_are_recounted_weight_by_weight(architectures, tmp_path, arch):
    model, aids = network(arch), ExportAids(dense=architectures.dense(arch))
    files = export_engine(model, load_target("onnx-cpu"), tmp_path, input_shape=SHAPE, aids=aids)
    expected = {name: (tuple(w.shape), int(w.count_nonzero())) for name, w in prunable_weights(model).items()}
    assert {layer.name: (layer.shape, layer.nonzero) for layer in recount(files.model).layers} == expected


@pytest.mark.parametrize("arch", ["resnet18", "mobilenetv2", "vit-tiny"])
def test_parameters_are_those_of_the_module(arch):
    model = network(arch, 8)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data += 0.1  # an exporter adds biases of zeros
    expected = sum(parameter.numel() for parameter in model.parameters())
    assert count_parameters(exported_graph(model, (3, 8, 8)).graph) == expected


def test_parameters_that_can_be_counted_by_hand(tmp_path):
    export_onnx(small_net(), tmp_path / "model.onnx", input_shape=(1, 8, 8))
    convolutions, norm, linear = 16 * 9 + 32 * 8 * 9 + 32, 2 * 16, 32 * 3 + 3
    assert count_parameters(onnx.load(tmp_path / "model.onnx").graph) == convolutions + norm + linear


def test_weights_have_their_zeros_in_both_files(small_files):
    dense, sparse = (weights_of(read_onnx(path).graph) for path in (small_files.dense, small_files.model))
    assert list(dense) == list(sparse)
    assert all(np.array_equal(dense[name], sparse[name]) for name in dense)


def test_a_weight_is_found_through_a_transpose_and_counted_once_for_two_uses(tmp_path):
    nodes = [
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("Transpose", ["w"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["flat", "turned"], ["hidden"]),
        helper.make_node("Gemm", ["hidden", "w"], ["wide"]),
        helper.make_node("MatMul", ["wide", "turned"], ["logits"]),
    ]
    weight = dense_weight([1.0, 0, 0, 2, 0, 0, 0, 3], (2, 4))
    structure = recount(linear_onnx(weight, tmp_path / "model.onnx", nodes=nodes))
    assert [(layer.name, layer.nonzero) for layer in structure.layers] == [("w", 3)]


def test_a_weight_in_a_constant_node_is_counted(tmp_path):
    nodes = [
        helper.make_node("Constant", [], ["k"], value=dense_weight([0.0, 1, 0, 0, 0, 0, 0, 0])),
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("MatMul", ["flat", "k"], ["logits"]),
    ]
    structure = recount(linear_onnx(dense_weight([1.0] * 8), tmp_path / "model.onnx", nodes=nodes))
    assert [(layer.name, layer.nonzero) for layer in structure.layers] == [("k", 1)]


def test_precision_is_what_is_stored(tmp_path):
    half = helper.make_tensor("w", TensorProto.FLOAT16, [4, 2], [1.0] * 8)
    assert recount(linear_onnx(half, tmp_path / "model.onnx")).precision == "fp16"


@pytest.mark.parametrize(
    ("point", "attributes", "nonzero"),
    [
        (None, {}, 3),
        (helper.make_tensor("z", TensorProto.INT8, [], [0]), {}, 3),
        (helper.make_tensor("z", TensorProto.INT8, [], [5]), {}, 7),
        (helper.make_tensor("z", TensorProto.INT8, [2], [5, 5]), {"axis": 1}, 7),
        (helper.make_tensor("z", TensorProto.INT8, [2], [5, 0]), {"axis": 1}, 4),
        (helper.make_tensor("z", TensorProto.INT8, [2], [5, 0]), {"axis": -1}, 4),
        (helper.make_tensor("z", TensorProto.INT8, [2], [5, 0]), {}, 4),
        (helper.make_tensor("z", TensorProto.INT8, [4], [5, 0, 0, 0]), {"axis": 0}, 3),
        (helper.make_tensor("z", TensorProto.INT8, [2, 2], [5, 0, 0, 0]), {"axis": 0, "block_size": 2}, 8),
    ],
)
def test_zero_is_what_the_zero_point_says(tmp_path, point, attributes, nonzero):
    weight = helper.make_tensor("w", TensorProto.INT8, [4, 2], [5, 0, 0, 0, 1, 0, 0, 7])
    nodes = [
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("DequantizeLinear", ["w", "s", *(["z"] if point else [])], ["real"], **attributes),
        helper.make_node("MatMul", ["flat", "real"], ["logits"]),
    ]
    path = linear_onnx(weight, tmp_path / "model.onnx", nodes=nodes)
    model = onnx.load(path)
    scale = helper.make_tensor(
        "s", TensorProto.FLOAT, point.dims if point else [], [0.5] * (prod(point.dims) if point else 1)
    )
    model.graph.initializer.extend([scale, *([point] if point else [])])
    assert structure_of(model).nonzero == nonzero


@pytest.mark.parametrize(
    ("precisions", "overall"),
    [
        (["fp32", "fp32"], "fp32"),
        (["fp32", "fp16", "fp16", "fp32"], "fp16"),
        (["fp16", "fp16", "fp16"], "fp16"),
        (["fp32", "fp16", "fp32", "fp16", "fp32"], "fp16+fp32"),
        (["int8", "fp16", "fp32"], "fp16+fp32+int8"),
        (["fp16", "fp32"], "fp16+fp32"),
        (["fp16"], "fp16"),
        ([], "none"),
    ],
)
def test_first_and_last_layer_may_stay_in_float32(precisions, overall):
    assert overall_precision(precisions) == overall


def test_as_json(small_files):
    document = recount(small_files.model).to_json()
    assert document["prunable"] == 16 * 9 + 32 * 8 * 9 + 32 * 3
    assert document["layers"][0]["shape"] == [16, 1, 3, 3]
    assert document["sparsity"] == 1 - document["nonzero"] / document["prunable"]
