"""Dense 3x3 convolutions, which are computed in the transformed domain."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from tests.engines.nets import random_images
from tests.engines.sparse_cpu.graphs import assert_same, available, sparse_array, write_graph
from tscnc_deploy.engines.onnx.runtime import OnnxRuntimeEngine
from tscnc_deploy.engines.sparse_cpu.engine import SparseCpuEngine


def network(path, shape, filters=40, density=1.0, pads=(1, 1, 1, 1)):
    """Two 3x3 convolutions, the second with a residual and a clamp, then a linear layer."""
    channels, height, width = shape
    after = (height + pads[0] + pads[2] - 2, width + pads[1] + pads[3] - 2)
    nodes = [
        helper.make_node("Conv", ["images", "w0", "b0"], ["a"], pads=pads),
        helper.make_node("Conv", ["a", "w1"], ["b"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["b", "a"], ["c"]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Flatten", ["d"], ["flat"]),
        helper.make_node("Gemm", ["flat", "fc"], ["logits"], transB=1),
    ]
    size = filters * after[0] * after[1]
    constants = {
        "w0": sparse_array((filters, channels, 3, 3), density, 1, (9 * channels) ** -0.5),
        "b0": sparse_array((filters,), 1.0, 2),
        "w1": sparse_array((filters, filters, 3, 3), density, 3, (9 * filters) ** -0.5),
        "fc": sparse_array((7, size), 0.5, 4, size**-0.5),
    }
    return write_graph(path, nodes, constants, shape, 7)


def transformed(engine, images):
    return ["winograd" in step for step in engine.describe(images)["steps"] if step["action"] == "conv"]


@pytest.mark.parametrize("instructions", available())
@pytest.mark.parametrize(
    ("shape", "pads"),
    [
        ((32, 32, 32), (1, 1, 1, 1)),
        ((33, 14, 18), (1, 1, 1, 1)),
        ((32, 11, 9), (0, 1, 2, 0)),
        ((32, 6, 5), (2, 2, 2, 2)),
        ((32, 3, 3), (0, 0, 0, 0)),
    ],
)
def test_whole_and_cut_tiles_agree_with_onnxruntime(tmp_path, instructions, shape, pads):
    path = network(tmp_path / "model.onnx", shape, pads=pads)
    for threads in (1, 2):
        assert_same(path, (1, 2, 5, 19), instructions=instructions, threads=threads, tolerance=1e-5)


@pytest.mark.parametrize("instructions", available())
def test_density_decides(tmp_path, instructions):
    dense = SparseCpuEngine(network(tmp_path / "dense.onnx", (32, 16, 16)), instructions=instructions)
    sparse = SparseCpuEngine(network(tmp_path / "sparse.onnx", (32, 16, 16), density=0.05), instructions=instructions)
    assert transformed(dense, 1) == [True, True, False]
    assert transformed(sparse, 1) == [False, False, False]


def test_other_convolutions_are_not_transformed(tmp_path):
    nodes = [
        helper.make_node("Conv", ["images", "w0"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["a", "w1"], ["b"], dilations=[2, 2], pads=[2, 2, 2, 2]),
        helper.make_node("Conv", ["b", "w2"], ["c"], group=2, pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["c", "w3"], ["d"]),
        helper.make_node("GlobalAveragePool", ["d"], ["e"]),
        helper.make_node("Flatten", ["e"], ["logits"]),
    ]
    constants = {
        "w0": sparse_array((32, 32, 3, 3), 1.0, 0, 0.05),
        "w1": sparse_array((32, 32, 3, 3), 1.0, 1, 0.05),
        "w2": sparse_array((32, 16, 3, 3), 1.0, 2, 0.05),
        "w3": sparse_array((32, 32, 1, 1), 1.0, 3, 0.05),
    }
    path = write_graph(tmp_path / "model.onnx", nodes, constants, (32, 32, 32), 32)
    assert transformed(SparseCpuEngine(path), 1) == [False] * 4
    assert_same(path, (1, 3))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_same_images_give_the_same_bits(tmp_path, threads):
    path = network(tmp_path / "model.onnx", (32, 10, 10))
    images = random_images(5, (32, 10, 10))
    for instructions in available():
        first, second = (SparseCpuEngine(path, threads=threads, instructions=instructions) for _ in range(2))
        assert first.logits(images).tobytes() == first.logits(images).tobytes() == second.logits(images).tobytes()


def test_rounding_stays_small_over_many_layers(tmp_path):
    nodes, constants, last = [], {}, "images"
    for i in range(12):
        constants[f"w{i}"] = sparse_array((48, 48, 3, 3), 1.0, i, (2 / (9 * 48)) ** 0.5)
        nodes.append(helper.make_node("Conv", [last, f"w{i}"], [f"a{i}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"a{i}"], [f"r{i}"]))
        last = f"r{i}"
    nodes += [
        helper.make_node("GlobalAveragePool", [last], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["logits"]),
    ]
    path = write_graph(tmp_path / "deep.onnx", nodes, constants, (48, 16, 16), 48)
    engine = SparseCpuEngine(path)
    assert transformed(engine, 1) == [True] * 12
    images = random_images(4, (48, 16, 16))
    expected = OnnxRuntimeEngine(path).logits(images)
    np.testing.assert_allclose(engine.logits(images), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
