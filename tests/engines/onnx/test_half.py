from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from tests.engines.nets import dense_weight, linear_onnx, random_images, small_net, sums_and_differences
from tscnc_deploy.engines.onnx.export import export_onnx
from tscnc_deploy.engines.onnx.file import read_onnx, write_onnx
from tscnc_deploy.engines.onnx.half import emulate_half, write_half
from tscnc_deploy.engines.onnx.runtime import OnnxRuntimeEngine
from tscnc_deploy.engines.onnx.structure import recount
from tscnc_deploy.errors import InputError


@pytest.fixture
def half(tmp_path, small_files):
    write_half(small_files.dense, tmp_path / "half.onnx")
    return tmp_path / "half.onnx"


def test_the_layers_between_the_first_and_the_last_are_half(half, small_files):
    assert [(layer.name, layer.precision) for layer in recount(half).layers] == [
        ("first.weight", "fp32"),
        ("second.weight", "fp16"),
        ("head.weight", "fp32"),
    ]
    assert recount(half).precision == "fp16"
    assert [layer.nonzero for layer in recount(half).layers] == [
        layer.nonzero for layer in recount(small_files.dense).layers
    ]


def test_images_and_logits_stay_float32_and_close(half):
    graph = onnx.load(half).graph
    assert [value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)] == [TensorProto.FLOAT] * 2
    images = random_images(5, (1, 8, 8))
    twin = small_net()
    with torch.no_grad():
        expected = twin(torch.from_numpy(images)).numpy()
    write_onnx(emulate_half(read_onnx(half)), half.with_name("emulated.onnx"))
    logits = OnnxRuntimeEngine(half.with_name("emulated.onnx")).logits(images)
    assert 0 < np.abs(logits - expected).max() < 2e-3
    np.testing.assert_allclose(OnnxRuntimeEngine(half).logits(images), expected, atol=2e-3)


def test_the_emulation_rounds_after_every_operator(tmp_path):
    model = nn.Sequential(nn.Flatten(), *(nn.Linear(1, 1, bias=False) for _ in range(4))).eval()
    with torch.no_grad():
        for layer, weight in zip((1, 2, 3, 4), (1, 1 / 3, 3, 1), strict=True):
            model[layer].weight.fill_(weight)
    export_onnx(model, tmp_path / "dense.onnx", input_shape=(1, 1, 1))
    write_half(tmp_path / "dense.onnx", tmp_path / "half.onnx")
    write_onnx(emulate_half(read_onnx(tmp_path / "half.onnx")), tmp_path / "emulated.onnx")
    images = np.array([[[[0.7]]], [[[0.1]]]], np.float32)
    expected = [np.float16(3) * (np.float16(1 / 3) * np.float16(pixel)) for pixel in (0.7, 0.1)]
    assert OnnxRuntimeEngine(tmp_path / "emulated.onnx").logits(images)[:, 0].tolist() == [float(e) for e in expected]


def test_it_is_a_valid_graph_with_two_casts_and_norms_in_float32(half):
    model = onnx.load(half)
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node].count("Cast") == 2
    stored = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert stored["second.weight"] == stored["second.bias"] == TensorProto.FLOAT16
    assert stored["norm.running_var"] == stored["norm.weight"] == stored["first.weight"] == TensorProto.FLOAT


def test_a_weight_too_small_for_half_becomes_a_zero_and_a_negative_one_no_negative_zero(tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)).eval()
    with torch.no_grad():
        model[2].weight.fill_(1.0)
        model[2].weight[0, 0] = -1e-9
    export_onnx(model, tmp_path / "dense.onnx", input_shape=(1, 2, 2))
    write_half(tmp_path / "dense.onnx", tmp_path / "half.onnx")
    stored = {t.name: numpy_helper.to_array(t) for t in onnx.load(tmp_path / "half.onnx").graph.initializer}
    assert stored["2.weight"].dtype == np.float16
    assert stored["2.weight"].reshape(-1)[:2].tobytes() == np.array([0, 1], np.float16).tobytes()


def test_a_network_of_two_layers_has_nothing_to_halve(tmp_path):
    export_onnx(sums_and_differences(), tmp_path / "dense.onnx", input_shape=(1, 2, 2))
    with pytest.raises(InputError, match=r"dense\.onnx: 2 layers with weights; .* fp16 needs at least 3"):
        write_half(tmp_path / "dense.onnx", tmp_path / "half.onnx")
    assert not (tmp_path / "half.onnx").exists()


def test_a_value_beyond_half_is_refused_by_name(tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)).eval()
    with torch.no_grad():
        model[2].weight[0, 0] = 1e5
    export_onnx(model, tmp_path / "dense.onnx", input_shape=(1, 2, 2))
    with pytest.raises(InputError, match=r"'2\.weight' contains 100000; the largest float16 is 65504"):
        write_half(tmp_path / "dense.onnx", tmp_path / "half.onnx")


def test_a_network_that_overflows_half_is_refused(tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)).eval()
    with torch.no_grad():
        for layer, scale in ((1, 1e3), (2, 1e3), (3, 1e-3), (4, 1e-3)):
            model[layer].weight.copy_(scale * torch.ones_like(model[layer].weight))
    export_onnx(model, tmp_path / "dense.onnx", input_shape=(1, 2, 2))
    with pytest.raises(InputError, match=r"half\.onnx: its logits differ by .* too much for fp16"):
        write_half(tmp_path / "dense.onnx", tmp_path / "half.onnx")
    assert not (tmp_path / "half.onnx").exists()


def test_a_tensor_that_both_halves_of_the_network_use_is_kept_in_both_types(tmp_path):
    nodes = [
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("Gemm", ["flat", "a", "w"], ["one"]),
        helper.make_node("MatMul", ["one", "b"], ["two"]),
        helper.make_node("Add", ["two", "w"], ["three"]),
        helper.make_node("MatMul", ["three", "c"], ["logits"]),
        helper.make_node("Constant", [], ["a"], value=dense_weight([0.5] * 8)),
        helper.make_node("Constant", [], ["b"], value=dense_weight([0.5] * 4, (2, 2))),
        helper.make_node("Constant", [], ["c"], value=dense_weight([0.5] * 4, (2, 2))),
    ]
    bias = helper.make_tensor("w", TensorProto.FLOAT, [2], [0.25, 0.5])
    path = linear_onnx(bias, tmp_path / "dense.onnx", nodes=[*nodes[5:], *nodes[:5]])
    write_half(path, tmp_path / "half.onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "half.onnx"), full_check=True)
    images = random_images(2, (1, 2, 2))
    expected = OnnxRuntimeEngine(path).logits(images)
    np.testing.assert_allclose(OnnxRuntimeEngine(tmp_path / "half.onnx").logits(images), expected, atol=2e-3)
