"""An 8-bit file's activations must have the ranges that a calibration finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper

from tests.engines.nets import random_images
from tscnc_deploy.engines.onnx.equivalence import difference_from_twin
from tscnc_deploy.engines.onnx.file import read_onnx
from tscnc_deploy.engines.onnx.ranges import range_problem

LARGEST = 1 << 22


@pytest.fixture(params=["onnxruntime", "tensorrt"])
def runtime(request):
    return request.param


@pytest.fixture
def in_8_bits(architectures, runtime):
    return read_onnx(architectures.int8(runtime, images=32))


@pytest.fixture
def images(in_8_bits):
    sizes = [dim.dim_value for dim in in_8_bits.graph.input[0].type.tensor_type.shape.dim][1:]
    # Other images than those of the calibration.
    return random_images(40, tuple(sizes), seed=5)


def scaled(model, factor, position):
    """Multiplies the scale of a quantised activation in the middle; gives the name of its node."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type == "QuantizeLinear" and node.input[0] not in stored]
    node = nodes[position]
    tensor = stored[node.input[1]]
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), tensor.name))
    return node.name


def test_our_own_calibration_fits_other_images(in_8_bits, images):
    assert range_problem(in_8_bits, images, LARGEST, Path("f.onnx")) is None


@pytest.mark.parametrize(
    ("factor", "message"), [(1e6, "so that steps are lost"), (10, "so that steps are lost"), (0.2, "which clips ")]
)
@pytest.mark.parametrize("position", [0, 7, -1])
def test_a_range_that_no_calibration_finds(in_8_bits, images, factor, message, position):
    name = scaled(in_8_bits, factor, position)
    problem = range_problem(in_8_bits, images, LARGEST, Path("f.onnx"))
    assert problem.startswith(f"'{name}' has the range [")
    assert message in problem


def test_the_comparison_with_the_export_does_not_see_it(architectures):
    model = read_onnx(architectures.int8("tensorrt", images=32))
    scaled(model, 1e6, 7)
    assert difference_from_twin(read_onnx(architectures.dense()), model, Path("f.onnx")) is None
