from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from tests.engines.sparse_cpu.graphs import assert_same, sparse_array, write_graph
from tscnc_deploy.engines.onnx.file import read_onnx
from tscnc_deploy.engines.sparse_cpu.lowering import lower
from tscnc_deploy.engines.sparse_cpu.network import Kind, Shape
from tscnc_deploy.errors import InputError

node = helper.make_node
HEAD = [node("GlobalAveragePool", ["last"], ["pooled"]), node("Flatten", ["pooled"], ["logits"])]
NORM = {
    "gain": np.array([2, 0.5, -1], np.float32),
    "shift": np.array([0, 1, 2], np.float32),
    "mean": np.array([0.5, 0, 1], np.float32),
    "variance": np.array([1, 4, 0.25], np.float32),
}
WEIGHT = {"w": sparse_array((3, 2, 3, 3), 0.4, 0), "b": np.array([1, -2, 3], np.float32)}


def _graph(tmp_path, nodes, constants=None, *, shape=(2, 8, 8), classes=3):
    return write_graph(tmp_path / "model.onnx", nodes, constants or WEIGHT, shape, classes)


def _kinds(path):
    return [layer.kind for layer in lower(read_onnx(path), path).layers]


def test_a_norm_and_a_clamp_are_folded_into_the_convolution(tmp_path):
    nodes = [
        node("Conv", ["images", "w", "b"], ["a"], pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["a", "gain", "shift", "mean", "variance"], ["n"], epsilon=0.0),
        node("Relu", ["n"], ["last"]),
        *HEAD,
    ]
    path = _graph(tmp_path, nodes, WEIGHT | NORM)
    network = lower(read_onnx(path), path)
    assert [layer.kind for layer in network.layers] == [Kind.INPUT, Kind.CONV, Kind.MEAN]
    conv = network.layers[1]
    # gain / sqrt(variance) = [2, 0.25, -2]; (b - mean) * that + shift
    assert conv.bias.tolist() == [1.0, 0.5, -2.0]
    assert (conv.low, conv.high) == (0.0, np.inf)
    filters = [conv.weight.values[a:b] for a, b in zip(conv.weight.starts[:-1], conv.weight.starts[1:], strict=True)]
    for factor, filter_, original in zip((2, 0.25, -2), filters, WEIGHT["w"], strict=True):
        np.testing.assert_array_equal(filter_, factor * original[original != 0])
    assert_same(path, (1, 4))


def test_a_gain_of_zero_leaves_no_weights(tmp_path):
    nodes = [
        node("Conv", ["images", "w", "b"], ["a"]),
        node("BatchNormalization", ["a", "gain", "shift", "mean", "variance"], ["last"]),
        *HEAD,
    ]
    path = _graph(tmp_path, nodes, WEIGHT | NORM | {"gain": np.zeros(3, np.float32)})
    weight = lower(read_onnx(path), path).layers[1].weight
    assert weight.starts.tolist() == [0, 0, 0, 0]
    assert_same(path, (1, 2))


def test_a_norm_after_a_result_that_is_read_twice_stays_a_layer(tmp_path):
    nodes = [
        node("Conv", ["images", "w", "b"], ["a"], pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["a", "gain", "shift", "mean", "variance"], ["n"]),
        node("Add", ["a", "n"], ["last"]),
        *HEAD,
    ]
    path = _graph(tmp_path, nodes, WEIGHT | NORM)
    assert _kinds(path) == [Kind.INPUT, Kind.CONV, Kind.ELEMENTWISE, Kind.ELEMENTWISE, Kind.MEAN]
    assert_same(path, (1, 3))


def test_a_sum_is_computed_by_the_earlier_convolution(tmp_path):
    nodes = [
        node("Conv", ["images", "w", "b"], ["first"], pads=[1, 1, 1, 1], name="first"),
        node("Conv", ["images", "v"], ["second"], pads=[0, 0, 0, 0], name="second"),
        node("Add", ["second", "first"], ["sum"]),
        node("Clip", ["sum", "low", "high"], ["last"]),
        *HEAD,
    ]
    constants = WEIGHT | {"v": sparse_array((3, 2, 1, 1), 0.9, 1), "low": np.float32(-0.5), "high": np.float32(1.5)}
    path = _graph(tmp_path, nodes, constants)
    layers = lower(read_onnx(path), path).layers
    assert [layer.name for layer in layers[1:3]] == ["second", "first"]
    assert layers[2].sources[1] == layers[1].target
    assert (layers[2].low, layers[2].high) == (-0.5, 1.5)
    assert_same(path, (1, 3))


def test_constants_around_the_images_are_one_layer(tmp_path):
    nodes = [
        node("Sub", ["images", "m"], ["s"]),
        node("Div", ["s", "d"], ["t"]),
        node("Mul", ["two", "t"], ["u"]),
        node("Sub", ["two", "u"], ["v"]),
        node("Conv", ["v", "w", "b"], ["last"], pads=[1, 1, 1, 1]),
        *HEAD,
    ]
    constants = WEIGHT | {
        "m": np.array([0.5, 0.25], np.float32).reshape(1, 2, 1, 1),
        "d": np.array([0.5, 2], np.float32).reshape(2, 1, 1),
        "two": np.float32(2),
    }
    path = _graph(tmp_path, nodes, constants)
    network = lower(read_onnx(path), path)
    assert [layer.kind for layer in network.layers] == [Kind.INPUT, Kind.CONV, Kind.MEAN]
    assert network.layers[0].scale.tolist() == [-4, -1]
    assert network.layers[0].bias.tolist() == [4, 2.25]
    assert_same(path, (1, 5))


def test_a_linear_layer_on_an_image_is_a_convolution_as_large_as_the_image(tmp_path):
    nodes = [
        node("Conv", ["images", "w", "b"], ["a"]),
        node("Relu", ["a"], ["r"]),
        node("Flatten", ["r"], ["f"]),
        node("Gemm", ["f", "g", "c"], ["h"], transB=1, alpha=0.5, beta=2.0),
        node("Relu", ["h"], ["i"]),
        node("MatMul", ["i", "k"], ["j"]),
        node("Add", ["j", "e"], ["logits"]),
    ]
    constants = WEIGHT | {
        "g": sparse_array((7, 3 * 6 * 6), 0.2, 1),
        "c": np.arange(7, dtype=np.float32),
        "k": sparse_array((7, 4), 0.6, 2),
        "e": np.float32(1),
    }
    path = _graph(tmp_path, nodes, constants, classes=4)
    network = lower(read_onnx(path), path)
    assert [layer.kind for layer in network.layers] == [Kind.INPUT, Kind.CONV, Kind.CONV, Kind.CONV]
    assert (network.layers[2].y.kernel, network.layers[2].x.kernel) == (6, 6)
    assert network.shapes[network.output] == Shape(4, 1, 1)
    assert_same(path, (1, 2, 9))


def test_pooling_and_joining_agree_with_onnxruntime(tmp_path):
    nodes = [
        node("Conv", ["images", "w", "b"], ["a"], pads=[1, 1, 1, 1]),
        node("MaxPool", ["a"], ["p"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("AveragePool", ["a"], ["q"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Identity", ["q"], ["q2"]),
        node("Concat", ["p", "q2"], ["joined"], axis=1),
        node("Dropout", ["joined"], ["kept"]),
        node("ReduceMean", ["kept", "axes"], ["logits"], keepdims=0),
    ]
    # Negative everywhere, so that a padding of 0 would win.
    constants = WEIGHT | {"b": np.full(3, -50, np.float32), "axes": np.array([-1, -2])}
    path = _graph(tmp_path, nodes, constants, classes=6)
    assert Kind.COPY in _kinds(path)
    assert_same(path, (1, 2, 16))


REFUSED = {
    "Selu": ([node("Selu", ["images"], ["last"])], "it has no kernel"),
    "QuantizeLinear": ([node("QuantizeLinear", ["images", "s"], ["last"])], "it is quantised arithmetic"),
    "a softmax over images": ([node("Softmax", ["images"], ["last"], axis=0)], "it works along the axis of the images"),
    "a second output": (
        [node("MaxPool", ["images"], ["a", "i"], kernel_shape=[2, 2]), node("Add", ["a", "i"], ["last"])],
        "its second output is read",
    ),
    "a norm in training": (
        [node("BatchNormalization", ["images", *"sbmv"], ["last"], training_mode=1)],
        "it is in training mode",
    ),
    "a computed weight": ([node("Conv", ["images", "images"], ["last"])], "its weight is not a constant"),
    "a weight for other images": ([node("Conv", ["images", "w5"], ["last"])], "does not fit 2 channels"),
    "a window larger than the image": (
        [node("MaxPool", ["images"], ["last"], kernel_shape=[9, 9])],
        "a window of 9 does not fit into 8 pixels",
    ),
    "windows along one axis": ([node("MaxPool", ["images"], ["last"], kernel_shape=[2])], "do not have two axes"),
    "an average over images": (
        [node("ReduceMean", ["images", "place"], ["last"])],
        "it reduces over the axis of the images",
    ),
    "a constant of another size": (
        [node("Mul", ["images", "b5"], ["last"])],
        r"shape \[5\] does not fit \[batch, 2, 8, 8\]",
    ),
    "a division by zero": ([node("Div", ["images", "zero"], ["last"])], "factors that are not finite"),
    "an order of axes": ([node("Transpose", ["images"], ["last"], perm=[0, 1])], r"its order of axes is \[0, 1\]"),
    "another shape": ([node("Reshape", ["images", "one"], ["last"])], r"it reshapes \[batch, 2, 8, 8\] to \[1\]"),
    "a name that is not there": ([node("Identity", ["nothing"], ["last"])], "its input 'nothing' is not defined"),
    "a matrix for other features": ([node("MatMul", ["images", "m5"], ["last"])], "its weight expects 5 features"),
    "a product of images with each other": (
        [node("Transpose", ["images"], ["t"], perm=[1, 2, 0, 3]), node("MatMul", ["t", "t"], ["last"])],
        "it multiplies",
    ),
    "a padding with reflections": (
        [node("Pad", ["images", "pads"], ["last"], mode="reflect")],
        "its mode is 'reflect'",
    ),
    "a step backwards": ([node("Slice", ["images", "ends", "starts", "one", "back"], ["last"])], "in steps of -1"),
    "steep slopes": ([node("PRelu", ["images", "two"], ["last"])], "one of its slopes is above 1"),
    "an odd power": ([node("Pow", ["images", "b5"], ["last"])], "its exponent is nan"),
}


@pytest.mark.without_core
@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_run_is_named_with_what_to_use_instead(tmp_path, what):
    nodes, message = REFUSED[what]
    constants = {
        "s": np.float32(1),
        "zero": np.float32(0),
        "w5": np.ones((3, 5, 1, 1), np.float32),
        "m5": np.ones((5, 8), np.float32),
        "b5": np.ones(5, np.float32),
        "one": np.array([1]),
        "place": np.array([0]),
        "two": np.float32(2).reshape(1),
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "starts": np.array([0]),
        "ends": np.array([1]),
        "back": np.array([-1]),
    } | {name: np.ones(2, np.float32) for name in "bmv"}
    nodes[0].name = "the node"
    path = _graph(tmp_path, [*nodes, *HEAD], constants)
    with pytest.raises(InputError, match=message) as refused:
        lower(read_onnx(path), path)
    assert str(refused.value).startswith(f"{path}: node 'the node' ({nodes[0].op_type}): ") or len(nodes) > 1
    assert str(refused.value).endswith("use the target onnx-cpu")


@pytest.mark.without_core
def test_an_output_that_is_no_logits_is_refused(tmp_path):
    path = _graph(tmp_path, [node("Flatten", ["images"], ["logits"])], classes=3)
    with pytest.raises(InputError, match="its output must be 3 logits per image"):
        lower(read_onnx(path), path)
