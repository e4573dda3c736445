"""Functions of single elements, against float64."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper
from scipy import special

from tests.engines.sparse_cpu.graphs import assert_same, available, sparse_array, write_graph
from tscnc_deploy.engines.onnx.file import read_onnx
from tscnc_deploy.engines.sparse_cpu.engine import SparseCpuEngine
from tscnc_deploy.engines.sparse_cpu.lowering import lower
from tscnc_deploy.engines.sparse_cpu.network import Function, Kind

node = helper.make_node
EPSILON = float(np.finfo(np.float32).eps)


def _softplus(x):
    return np.logaddexp(0, x)


def _hard(x, alpha, beta):
    return np.clip(alpha * x + beta, 0, 1)


# The nodes from x to y; the exact function; the largest error, in units of the last place and absolute, both in 1.2e-7.
FUNCTIONS = {
    "Sigmoid": ([node("Sigmoid", ["x"], ["y"])], special.expit, 3, 0),
    "Tanh": ([node("Tanh", ["x"], ["y"])], np.tanh, 2, 0),
    "Exp": ([node("Exp", ["x"], ["y"])], np.exp, 2, 0),
    "Erf": ([node("Erf", ["x"], ["y"])], special.erf, 2, 0),
    "Softplus": ([node("Softplus", ["x"], ["y"])], _softplus, 3, 0),
    "Mish": ([node("Mish", ["x"], ["y"])], lambda x: x * np.tanh(_softplus(x)), 4, 0),
    "Sqrt": ([node("Abs", ["x"], ["a"]), node("Sqrt", ["a"], ["y"])], lambda x: np.sqrt(abs(x)), 1, 0),
    "Abs": ([node("Abs", ["x"], ["y"])], abs, 0, 0),
    "Neg": ([node("Neg", ["x"], ["y"])], lambda x: -x, 0, 0),
    "Pow": ([node("Pow", ["x", "three"], ["y"])], lambda x: x**3, 2, 0),
    "Reciprocal": ([node("Exp", ["x"], ["e"]), node("Reciprocal", ["e"], ["y"])], lambda x: np.exp(-x), 4, 0),
    "LeakyRelu": ([node("LeakyRelu", ["x"], ["y"], alpha=0.25)], lambda x: np.where(x < 0, x / 4, x), 0, 0),
    "PRelu": ([node("PRelu", ["x", "slope"], ["y"])], lambda x: np.where(x < 0, -x / 2, x), 0, 0),
    "Elu": ([node("Elu", ["x"], ["y"], alpha=2.0)], lambda x: np.where(x < 0, 2 * np.expm1(x), x), 2, 2),
    "HardSigmoid": ([node("HardSigmoid", ["x"], ["y"], alpha=0.25)], lambda x: _hard(x, 0.25, 0.5), 1, 1),
    "HardSwish": ([node("HardSwish", ["x"], ["y"])], lambda x: x * _hard(x, 1 / 6, 0.5), 2, 2),
    "HardSwish of two nodes": (
        [node("HardSigmoid", ["x"], ["g"], alpha=0.25), node("Mul", ["x", "g"], ["y"])],
        lambda x: x * _hard(x, 0.25, 0.5),
        2,
        2,
    ),
    "SiLU": ([node("Sigmoid", ["x"], ["g"]), node("Mul", ["g", "x"], ["y"])], lambda x: x * special.expit(x), 4, 0),
    "Mish of three nodes": (
        [node("Softplus", ["x"], ["s"]), node("Tanh", ["s"], ["t"]), node("Mul", ["x", "t"], ["y"])],
        lambda x: x * np.tanh(_softplus(x)),
        4,
        0,
    ),
    # 1 + erf loses what is far below 1, as in other runtimes.
    "Gelu": ([node("Gelu", ["x"], ["y"])], lambda x: x * special.ndtr(x), 3, 4),
    "Gelu by tanh": (
        [node("Gelu", ["x"], ["y"], approximate="tanh")],
        lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
        3,
        4,
    ),
    "Gelu of five nodes": (
        [
            node("Div", ["x", "root"], ["d"]),
            node("Erf", ["d"], ["e"]),
            node("Add", ["e", "one"], ["p"]),
            node("Mul", ["x", "p"], ["m"]),
            node("Mul", ["m", "half"], ["y"]),
        ],
        lambda x: x * special.ndtr(x),
        3,
        4,
    ),
}
CONSTANTS = {
    "factor": np.float32(32),
    "shift": np.float32(16),
    "shape": np.array([-1, 4096]),
    "three": np.float32(3),
    "slope": np.float32(-0.5).reshape(1),
    "root": np.float32(2**0.5),
    "one": np.float32(1),
    "half": np.float32(0.5),
}


def _graph(tmp_path, what):
    nodes = [
        node("Mul", ["images", "factor"], ["f"]),
        node("Sub", ["f", "shift"], ["x"]),
        *FUNCTIONS[what][0],
        node("Reshape", ["y", "shape"], ["logits"]),
    ]
    return write_graph(tmp_path / "model.onnx", nodes, CONSTANTS, (1, 64, 64), 4096)


@pytest.mark.parametrize("what", FUNCTIONS)
def test_errors_are_those_of_rounding(tmp_path, what):
    _, exact, places, absolute = FUNCTIONS[what]
    # Multiples of 2^-11 in [-16, 16], and more of them near 0: exact in float32.
    steps = np.arange(4096, dtype=np.float32)
    for images in (steps / 4096, 0.5 + (steps - 2048) / 2**22):
        images = images.reshape(1, 1, 64, 64)
        x = images.astype(np.float64).reshape(-1) * 32 - 16
        expected = exact(x)
        for instructions in available():
            found = SparseCpuEngine(_graph(tmp_path, what), instructions=instructions).logits(images)[0]
            allowed = EPSILON * (places * np.abs(expected) + absolute) + 1e-37
            assert (np.abs(found - expected) <= allowed).all(), (
                instructions,
                x[np.argmax(np.abs(found - expected) - allowed)],
            )


@pytest.mark.parametrize("what", ["SiLU", "Mish of three nodes", "Gelu of five nodes", "HardSwish of two nodes"])
def test_functions_of_several_nodes_are_one_layer(tmp_path, what):
    path = _graph(tmp_path, what)
    kinds = [layer.kind for layer in lower(read_onnx(path), path).layers]
    assert kinds == [Kind.INPUT, Kind.ELEMENTWISE, Kind.COPY]


def test_a_gate_that_is_read_elsewhere_stays(tmp_path):
    nodes = [
        node("Sigmoid", ["images"], ["g"]),
        node("Mul", ["images", "g"], ["m"]),
        node("Add", ["m", "g"], ["a"]),
        node("Flatten", ["a"], ["logits"]),
    ]
    path = write_graph(tmp_path / "model.onnx", nodes, {}, (5, 1, 1), 5)
    functions = [layer.function for layer in lower(read_onnx(path), path).layers]
    assert functions == [Function.NONE, Function.SIGMOID, Function.NONE, Function.NONE]
    assert_same(path, (1, 3), tolerance=1e-6)


@pytest.mark.parametrize("density", [0.1, 1.0])
@pytest.mark.parametrize("function", ["Sigmoid", "HardSwish", "Gelu", "Tanh"])
def test_a_convolution_applies_the_function(tmp_path, function, density):
    nodes = [
        node("Conv", ["images", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        node(function, ["c"], ["f"]),
        # Not folded into the convolution, which has a function now.
        node("Mul", ["f", "b"], ["m"]),
        node("GlobalAveragePool", ["m"], ["p"]),
        node("Flatten", ["p"], ["logits"]),
    ]
    constants = {"w": sparse_array((33, 24, 3, 3), density, 0, 0.1), "b": sparse_array((33, 1, 1), 1.0, 1)}
    nodes[0].input[2] = "bias"
    constants["bias"] = constants["b"].reshape(-1)
    path = write_graph(tmp_path / "model.onnx", nodes, constants, (24, 17, 13), 33)
    layers = lower(read_onnx(path), path).layers
    assert [layer.kind for layer in layers] == [Kind.INPUT, Kind.CONV, Kind.ELEMENTWISE, Kind.MEAN]
    assert layers[1].function is not Function.NONE
    for instructions in available():
        for threads in (1, 2):
            assert_same(path, (1, 2, 9), instructions=instructions, threads=threads, tolerance=1e-5)
