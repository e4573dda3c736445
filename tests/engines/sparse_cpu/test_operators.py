"""Operators that move, combine and reduce activations, with onnxruntime as the judge."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from tests.engines.sparse_cpu.graphs import assert_same, available, sparse_array, write_graph
from tscnc_deploy.engines.onnx.file import read_onnx
from tscnc_deploy.engines.sparse_cpu.lowering import lower
from tscnc_deploy.engines.sparse_cpu.network import Kind, Shape

node = helper.make_node


def _ints(*values):
    return np.array(values, np.int64)


def _floats(*shape, seed=0):
    return sparse_array(shape, 1.0, seed)


# Nodes from "images" [batch, 6, 10, 12] to "y", and their constants; what follows flattens y.
GRAPHS = {
    "squeeze and excite": (
        [
            node("GlobalAveragePool", ["images"], ["p"]),
            node("Conv", ["p", "w1"], ["q"]),
            node("Relu", ["q"], ["r"]),
            node("Conv", ["r", "w2"], ["s"]),
            node("HardSigmoid", ["s"], ["g"]),
            node("Mul", ["images", "g"], ["y"]),
        ],
        {"w1": _floats(4, 6, 1, 1), "w2": _floats(6, 4, 1, 1)},
    ),
    "a gate before what it gates": (
        [node("GlobalMaxPool", ["images"], ["p"]), node("Sub", ["p", "images"], ["y"])],
        {},
    ),
    "a division of one value a channel": (
        [
            node("ReduceMax", ["images", "pixels"], ["p"]),
            node("Add", ["p", "one"], ["q"]),
            node("Div", ["q", "shifted"], ["y"]),
        ],
        {"pixels": _ints(2, 3), "one": np.float32(1)},
    ),
    "one value a pixel": (
        [
            node("ReduceMean", ["images", "channels"], ["a"]),
            node("ReduceMax", ["images", "channels"], ["b"]),
            node("Concat", ["a", "b"], ["c"], axis=1),
            node("Conv", ["c", "w"], ["d"], pads=[3, 3, 3, 3]),
            node("Sigmoid", ["d"], ["g"]),
            node("Mul", ["g", "images"], ["y"]),
        ],
        {"channels": _ints(1), "w": _floats(1, 2, 7, 7)},
    ),
    "one value a row": (
        [node("ReduceMean", ["images", "columns"], ["p"]), node("Mul", ["images", "p"], ["y"])],
        {"columns": _ints(3)},
    ),
    "rows and columns": (
        [
            node("ReduceSum", ["images", "columns"], ["p"]),
            node("ReduceSum", ["images", "rows"], ["q"]),
            node("Max", ["p", "q"], ["y"]),
        ],
        {"columns": _ints(3), "rows": _ints(2)},
    ),
    "a map of constants": (
        [node("Sub", ["m", "images"], ["a"]), node("Min", ["a", "c"], ["b"]), node("Div", ["b", "n"], ["y"])],
        {"m": _floats(1, 6, 10, 12), "c": _floats(10, 12), "n": _floats(10, 1) + np.float32(4)},
    ),
    "averages of padded windows": (
        [
            node("AveragePool", ["images"], ["a"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 2]),
            node("AveragePool", ["a"], ["b"], kernel_shape=[3, 2], pads=[1, 0, 0, 1], count_include_pad=1),
            node("AveragePool", ["b"], ["y"], kernel_shape=[2, 3], strides=[2, 2], ceil_mode=1),
        ],
        {},
    ),
    "maxima of truncated windows": (
        [
            node("MaxPool", ["shifted"], ["a"], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
            node("MaxPool", ["a"], ["y"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1),
        ],
        {},
    ),
    "asymmetric kernels, dilation, and padding beyond the kernel": (
        [
            node("Conv", ["images", "a"], ["b"], pads=[0, 3, 0, 3]),
            node("Conv", ["b", "c"], ["d"], pads=[3, 0, 3, 0], group=6),
            node("Conv", ["d", "e"], ["f"], pads=[4, 4, 4, 4], dilations=[2, 2], group=6),
            node("Conv", ["f", "g"], ["y"], pads=[1, 2, 1, 0], strides=[2, 1]),
        ],
        {"a": _floats(6, 6, 1, 7), "c": _floats(6, 1, 7, 1), "e": _floats(6, 1, 5, 5), "g": _floats(4, 6, 1, 1)},
    ),
    "a shuffle of channels": (
        [
            node("Reshape", ["images", "groups"], ["a"]),
            node("Transpose", ["a"], ["b"], perm=[0, 2, 1, 3, 4]),
            node("Reshape", ["b", "image"], ["c"]),
            node("Conv", ["c", "w"], ["y"], group=3),
        ],
        {"groups": _ints(-1, 2, 3, 10, 12), "image": _ints(0, 6, 10, 12), "w": _floats(6, 2, 1, 1)},
    ),
    "parts and their order": (
        [
            node("Split", ["images", "sizes"], ["a", "b", "c"], axis=1),
            node("Slice", ["images", "first", "last", "channels", "step"], ["d"]),
            node("Concat", ["c", "a", "d", "b"], ["e"], axis=1),
            node("Gather", ["e", "places"], ["y"], axis=1),
        ],
        {
            "sizes": _ints(1, 2, 3),
            "first": _ints(-5),
            "last": _ints(2**62),
            "channels": _ints(1),
            "step": _ints(2),
            "places": _ints(3, 4, -1, 0, 0),
        },
    ),
    "parts of rows": (
        [
            node("Slice", ["images", "first", "last", "axes"], ["a"]),
            node("Pad", ["a", "pads", "seven"], ["b"]),
            node("Slice", ["b", "zero", "many", "axes", "steps"], ["y"]),
        ],
        {
            "first": _ints(3, 1),
            "last": _ints(9, 12),
            "axes": _ints(2, 3),
            "pads": _ints(0, 1, 2, 0, 0, 0, -1, 3),
            "seven": np.float32(7),
            "zero": _ints(0, 1),
            "many": _ints(99, 99),
            "steps": _ints(2, 3),
        },
    ),
    "repeated pixels": (
        [
            node(
                "Resize",
                ["images", "", "scales"],
                ["y"],
                mode="nearest",
                nearest_mode="floor",
                coordinate_transformation_mode="asymmetric",
            )
        ],
        {"scales": np.array([1, 1, 2, 3], np.float32)},
    ),
    "a norm of channels last": (
        [
            node("Transpose", ["images"], ["t"], perm=[0, 2, 3, 1]),
            node("LayerNormalization", ["t", "g", "s"], ["n"], axis=-1),
            node("MatMul", ["n", "w"], ["m"]),
            node("Add", ["m", "b"], ["a"]),
            node("Gelu", ["a"], ["f"]),
            node("MatMul", ["f", "v"], ["o"]),
            node("Mul", ["o", "g"], ["l"]),
            node("Transpose", ["l"], ["u"], perm=[0, 3, 1, 2]),
            node("Add", ["u", "images"], ["y"]),
        ],
        {"g": _floats(6), "s": _floats(6), "w": sparse_array((6, 9), 0.4, 1), "b": _floats(9), "v": _floats(9, 6)},
    ),
    "a norm of channels first": (
        [
            node("ReduceMean", ["images", "channels"], ["m"]),
            node("Sub", ["images", "m"], ["d"]),
            node("Pow", ["d", "two"], ["q"]),
            node("ReduceMean", ["q", "channels"], ["v"]),
            node("Add", ["v", "epsilon"], ["e"]),
            node("Sqrt", ["e"], ["r"]),
            node("Div", ["d", "r"], ["n"]),
            node("Mul", ["n", "g"], ["y"]),
        ],
        {"channels": _ints(1), "two": np.float32(2), "epsilon": np.float32(1e-5), "g": _floats(6, 1, 1)},
    ),
    "a norm of groups": (
        [
            node("Reshape", ["images", "groups"], ["r"]),
            node("InstanceNormalization", ["r", "one", "zero"], ["i"]),
            node("Reshape", ["i", "image"], ["y"]),
        ],
        {
            "groups": _ints(0, 2, -1),
            "one": np.array([1, 3], np.float32),
            "zero": np.array([0, 1], np.float32),
            "image": _ints(-1, 6, 10, 12),
        },
    ),
    "tokens": (
        [
            node("Reshape", ["images", "tokens"], ["r"]),
            node("Transpose", ["r"], ["t"], perm=[0, 2, 1]),
            node("MatMul", ["t", "w"], ["m"]),
            node("Reshape", ["m", "flat"], ["f"]),
            node("Gemm", ["f", "v", "b"], ["g"], transB=1),
            node("Reshape", ["g", "heads"], ["h"]),
            node("Transpose", ["h"], ["y"], perm=[2, 0, 3, 1, 4]),
            node("Softmax", ["y"], ["s"], axis=2),
            node("Transpose", ["s"], ["back"], perm=[1, 0, 2, 3, 4]),
            node("Identity", ["back"], ["y2"]),
        ],
        {
            "tokens": _ints(-1, 6, 120),
            "w": sparse_array((6, 8), 0.5, 1),
            "flat": _ints(-1, 8),
            "v": sparse_array((12, 8), 0.5, 2),
            "b": _floats(12),
            "heads": _ints(-1, 120, 2, 3, 2),
        },
    ),
    "tokens mixed by a matrix on the left": (
        [node("Reshape", ["images", "tokens"], ["r"]), node("MatMul", ["w", "r"], ["y"])],
        {"tokens": _ints(-1, 6, 120), "w": sparse_array((4, 6), 0.5, 1)},
    ),
}


def _write(tmp_path, what):
    nodes, constants = GRAPHS[what]
    last = "y2" if any("y2" in each.output for each in nodes) else "y"
    size = _size(nodes, constants, last)
    before = [node("Sub", ["images", "middle"], ["shifted"])]
    after = [node("Flatten", [last], ["flattened"]), node("Gemm", ["flattened", "fc"], ["logits"])]
    constants = constants | {"middle": np.float32(2.5), "fc": sparse_array((size, 7), 0.5, 3, size**-0.5)}
    return write_graph(tmp_path / "model.onnx", [*before, *nodes, *after], constants, (6, 10, 12), 7)


def _size(nodes, constants, last):
    """Elements of an image of the result, by onnx's own inference."""
    from onnx import TensorProto, numpy_helper, shape_inference

    graph = helper.make_graph(
        [node("Sub", ["images", "middle"], ["shifted"]), *nodes],
        "shapes",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 6, 10, 12])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants | {"middle": np.float32(2.5)}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    inferred = shape_inference.infer_shapes(model, data_prop=True)
    return int(np.prod([dim.dim_value for dim in inferred.graph.output[0].type.tensor_type.shape.dim]))


@pytest.mark.parametrize("what", GRAPHS)
def test_operators_agree_with_onnxruntime(tmp_path, what):
    path = _write(tmp_path, what)
    for instructions in available():
        for threads in (1, 2):
            assert_same(path, (1, 2, 9, 33), instructions=instructions, threads=threads, tolerance=1e-5)


def test_channels_last_need_no_copies(tmp_path):
    path = _write(tmp_path, "a norm of channels last")
    network = lower(read_onnx(path), path)
    assert [layer.kind for layer in network.layers if layer.kind is Kind.COPY] == []
    assert [network.shapes[layer.target] for layer in network.layers if layer.kind is Kind.LAYER_NORM] == [
        Shape(6, 10, 12)
    ]


def test_a_shuffle_moves_whole_planes(tmp_path):
    path = _write(tmp_path, "a shuffle of channels")
    copies = [layer for layer in lower(read_onnx(path), path).layers if layer.kind is Kind.COPY]
    # Target channel (i, j) is source channel (j, i), and 120 pixels lie side by side.
    assert [piece.dims for piece in copies[0].pieces] == [((3, 240, 120), (2, 120, 360), (120, 1, 1))]


def _attention(path, heads, tokens, width, *, class_token=True, fused=True, merged=False):
    """Patches, a class token, positions, a block of attention and a head, as exporters write them."""
    each, side = width // heads, int(tokens**0.5)
    length = tokens + class_token
    constants = {
        "patch": sparse_array((width, 3, 2, 2), 0.5, 0),
        "rows": _ints(-1, width, tokens),
        "cls": sparse_array((1, 1, width), 1.0, 1),
        "one": _ints(1),
        "wide": _ints(width),
        "positions": sparse_array((1, length, width), 1.0, 2),
        "g": sparse_array((width,), 1.0, 3),
        "scale": np.float32(each**-0.5),
        "split": _ints(-1, length, 3, heads, each),
        "q": _ints(0),
        "k": _ints(1),
        "v": _ints(2),
        "end": _ints(3),
        "axis": _ints(0),
        "joined": _ints(-1, length, width),
        "wo": sparse_array((width, width), 0.3, 6, 0.2),
        "index": np.array(0, np.int64),
        "head": sparse_array((5, width), 0.5, 7),
        "wqkv": sparse_array((width, 3 * width), 0.3, 4, 0.2),
    }
    nodes = [
        node("Conv", ["images", "patch"], ["patches"], strides=[2, 2]),
        node("Reshape", ["patches", "rows"], ["row"]),
        node("Transpose", ["row"], ["tokens"], perm=[0, 2, 1]),
    ]
    last = "tokens"
    if class_token:
        nodes += [
            node("Shape", ["images"], ["sizes"], start=0, end=1),
            node("Concat", ["sizes", "one", "wide"], ["form"], axis=0),
            node("Expand", ["cls", "form"], ["many"]),
            node("Concat", ["many", "tokens"], ["all"], axis=1),
        ]
        last = "all"
    nodes += [
        node("Add", [last, "positions"], ["x"]),
        node("LayerNormalization", ["x", "g"], ["n"], axis=2),
        node("MatMul", ["n", "wqkv"], ["qkv"]),
        node("Reshape", ["qkv", "split"], ["apart"]),
        node("Transpose", ["apart"], ["parts"], perm=[2, 0, 3, 1, 4]),
        node("Gather", ["parts", "index"], ["q0"], axis=0),
        node("Slice", ["parts", "k", "v", "axis"], ["k1"]),
        node("Squeeze", ["k1", "axis"], ["k0"]),
        node("Slice", ["parts", "v", "end", "axis"], ["v1"]),
        node("Squeeze", ["v1", "axis"], ["v0"]),
        node("Transpose", ["k0"], ["kt"], perm=[0, 1, 3, 2]),
        node("Mul", ["q0", "scale"], ["qs"]),
    ]
    if merged:
        # [batch * heads, tokens, width of a head], as torch.nn.MultiheadAttention has it.
        constants |= {
            "qm": _ints(-1, length, each),
            "km": _ints(-1, each, length),
            "apart4": _ints(-1, heads, length, each),
        }
        nodes += [
            node("Reshape", ["qs", "qm"], ["q3"]),
            node("Reshape", ["kt", "km"], ["k3"]),
            node("Reshape", ["v0", "qm"], ["v3"]),
            node("MatMul", ["q3", "k3"], ["scores"]),
            node("Softmax", ["scores"], ["shares"], axis=-1),
            node("MatMul", ["shares", "v3"], ["o3"]),
            node("Reshape", ["o3", "apart4"], ["o"]),
        ]
    else:
        nodes += [
            node("MatMul", ["qs", "kt"], ["scores"]),
            node("Softmax", ["scores"], ["shares"], axis=-1),
            node("MatMul", ["shares", "v0"], ["o"]),
        ]
    nodes += [
        node("Transpose", ["o"], ["turned"], perm=[0, 2, 1, 3]),
        node("Reshape", ["turned", "joined"], ["oj"]),
        node("MatMul", ["oj", "wo"], ["p"]),
        node("Add", ["x", "p"], ["r"]),
        node("Gather", ["r", "index"], ["first"], axis=1),
        node("Gemm", ["first", "head"], ["logits"], transB=1),
    ]
    return write_graph(path / "model.onnx", nodes, constants, (3, 2 * side, 2 * side), 5)


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize(("heads", "tokens", "width"), [(1, 4, 6), (3, 25, 24), (4, 196, 28)])
def test_attention_agrees_with_onnxruntime(tmp_path, heads, tokens, width, merged):
    for class_token in (True, False):
        path = _attention(tmp_path, heads, tokens, width, class_token=class_token, merged=merged)
        for instructions in available():
            for threads in (1, 2):
                assert_same(path, (1, 2, 9), instructions=instructions, threads=threads, tolerance=1e-5)


def test_attention_of_each_image_gives_the_same_bits_again(tmp_path):
    from tests.engines.nets import random_images
    from tscnc_deploy.engines.sparse_cpu.engine import SparseCpuEngine

    path = _attention(tmp_path, 3, 25, 24)
    images = random_images(7, (3, 10, 10))
    for threads in (1, 3):
        engines = [SparseCpuEngine(path, threads=threads) for _ in range(2)]
        first = engines[0].logits(images).tobytes()
        assert first == engines[0].logits(images).tobytes() == engines[1].logits(images).tobytes()
