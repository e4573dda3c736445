from __future__ import annotations

import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from tests.engines.architectures import network
from tests.engines.nets import dense_weight, linear_onnx, sums_and_differences
from tscnc_deploy import models
from tscnc_deploy.engines.onnx.export import export_onnx
from tscnc_deploy.engines.onnx.sparse import write_sparse
from tscnc_deploy.engines.onnx.structure import recount


def test_multiply_adds_that_can_be_counted_by_hand(tmp_path):
    export_onnx(sums_and_differences(), tmp_path / "model.onnx", input_shape=(1, 2, 2))
    structure = recount(tmp_path / "model.onnx")
    # The convolution has one output pixel; 6 of its 8 weights and 2 of the 4 of the linear layer are left.
    assert (structure.multiply_adds, structure.multiply_adds_left) == (12, 8)
    assert structure.multiply_add_sparsity == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    "arch", ["resnet18", "vgg16", *(pytest.param(arch, marks=pytest.mark.slow) for arch in ("wrn28-10", "mobilenetv2"))]
)
def test_files_and_networks_are_counted_alike(architectures, tmp_path, arch):
    dense, sparse = architectures.dense(arch), tmp_path / "sparse.onnx"
    write_sparse(dense, sparse)
    expected = models.layer_multiply_adds(network(arch))
    for path in (dense, sparse):
        assert {layer.name: layer.multiply_adds for layer in recount(path).layers} == expected


def test_zeros_in_early_layers_save_more_than_zeros_in_late_ones(tmp_path):
    early, late = nn.Conv2d(1, 1, 1, bias=False), nn.Conv2d(1, 1, 1, bias=False)
    with torch.no_grad():
        early.weight.zero_()
        late.weight.fill_(1)
    net = nn.Sequential(early, nn.MaxPool2d(4), late, nn.Flatten(), nn.Linear(4, 2)).eval()
    export_onnx(net, tmp_path / "model.onnx", input_shape=(1, 8, 8))
    structure = recount(tmp_path / "model.onnx")
    assert (structure.multiply_adds, structure.multiply_adds_left) == (64 + 4 + 8, 4 + 8)


def test_a_shared_weight_is_applied_by_all_its_layers(tmp_path):
    nodes = [
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("Transpose", ["w"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["flat", "turned"], ["hidden"]),
        helper.make_node("Gemm", ["hidden", "w"], ["wide"]),
        helper.make_node("MatMul", ["wide", "turned"], ["logits"]),
    ]
    weight = dense_weight([1.0, 0, 0, 2, 0, 0, 0, 3], (2, 4))
    structure = recount(linear_onnx(weight, tmp_path / "model.onnx", nodes=nodes))
    assert (structure.multiply_adds, structure.multiply_adds_left) == (24, 9)


def test_a_fixed_batch_counts_as_one_image(tmp_path):
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [5, 1, 2, 2])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [5, 2])
    path = linear_onnx(dense_weight([1.0] * 8), tmp_path / "model.onnx", inputs=[images], outputs=[logits])
    assert recount(path).multiply_adds == 8


def test_where_shapes_do_not_follow_from_the_graph_nothing_is_claimed(tmp_path):
    nodes = [
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("NonZero", ["flat"], ["where"]),
        helper.make_node("Cast", ["where"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["numbers"], ["pairs"], perm=[1, 0]),
        helper.make_node("MatMul", ["pairs", "w"], ["logits"]),
    ]
    structure = recount(linear_onnx(dense_weight([1.0] * 8, (2, 4)), tmp_path / "model.onnx", nodes=nodes))
    assert structure.prunable == 8
    assert structure.multiply_adds is None
    assert structure.to_json()["multiply_add_sparsity"] is None


@pytest.mark.parametrize("inputs", [[], [helper.make_tensor_value_info("images", TensorProto.FLOAT, [])]])
def test_a_graph_whose_input_has_no_sizes_claims_nothing(tmp_path, inputs):
    structure = recount(linear_onnx(dense_weight([1.0] * 8), tmp_path / "model.onnx", inputs=inputs))
    assert structure.prunable == 8
    assert structure.multiply_adds is None
