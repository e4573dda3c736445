"""Where weights can hide from the count, and what is not a weight."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.engines.onnx.graphs import classifier
from tscnc_deploy.engines.onnx.hidden import HiddenWeight, hidden_weights, shown
from tscnc_deploy.engines.onnx.structure import structure_of


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs.split(), outputs.split(), name=f"the {op}", **attributes)


def floats(name, *shape):
    return numpy_helper.from_array(np.random.default_rng(0).normal(size=shape).astype(np.float32), name)


def ints(name, *values):
    return numpy_helper.from_array(np.array(values, np.int64), name)


def searched(nodes, *stored):
    """The layer at the end has 3 output channels, so that more than 3 hidden values are too many."""
    return hidden_weights(classifier(nodes, stored), "model.onnx")


SQUARE = floats("w", 4, 4)
PLACES = {"zero": 0, "one": 1, "middle": 1, "five": 5}
HIDING_PLACES = {
    "Einsum": ([node("Einsum", "x w", "y", equation="bi,ij->bj")], [SQUARE], ("Einsum", "w", 16)),
    "Mul and ReduceSum": (
        [
            node("Unsqueeze", "x last", "column"),
            node("Mul", "column w", "products"),
            node("ReduceSum", "products first", "y", keepdims=0),
        ],
        [SQUARE, ints("last", 2), ints("first", 1)],
        ("Mul", "w", 16),
    ),
    "a Constant that is a list": (
        [
            node("Constant", "", "list", value_floats=[float(i) for i in range(16)]),
            node("Reshape", "list square", "w"),
            node("MatMul", "x w", "y"),
        ],
        [ints("square", 4, 4)],
        ("MatMul", "w", 16),
    ),
    "a weight computed by Mul": (
        [node("Mul", "v u", "w"), node("MatMul", "x w", "y")],
        [floats("v", 4, 4), floats("u", 4, 4)],
        ("MatMul", "w", 16),
    ),
    "zeros of a counted weight that become others": (
        [node("Exp", "w", "dense"), node("MatMul", "x dense", "y")],
        [SQUARE],
        ("MatMul", "dense", 16),
    ),
    "weights made at random when the file is opened": (
        [node("RandomNormal", "", "w", shape=[4, 4], seed=1.0), node("MatMul", "x w", "y")],
        [],
        ("MatMul", "w", 16),
    ),
    "parts of a weight, joined": (
        [node("Concat", "top bottom", "w", axis=0), node("MatMul", "x w", "y")],
        [floats("top", 2, 4), floats("bottom", 2, 4)],
        ("MatMul", "w", 16),
    ),
    "templates subtracted from copies": (
        [
            node("Unsqueeze", "x middle", "one"),
            node("Tile", "one many", "copies"),
            node("Sub", "copies w", "apart"),
            node("Abs", "apart", "far"),
            node("ReduceSum", "far last", "y", keepdims=0),
        ],
        [SQUARE, ints("middle", 1), ints("many", 1, 4, 1), ints("last", 2)],
        ("Sub", "w", 16),
    ),
    "a table of rows": (
        [
            node("ArgMax", "x", "place", axis=1, keepdims=0),
            node("Gather", "w place", "y"),
        ],
        [SQUARE],
        ("Gather", "w", 16),
    ),
    "joined to the activations": (
        [
            node("Unsqueeze", "x middle", "row"),
            node("Shape", "x", "sizes"),
            node("Slice", "sizes zero one", "many"),
            node("Concat", "many square", "shape", axis=0),
            node("Expand", "w shape", "ws"),
            node("Concat", "row ws", "both", axis=1),
            node("Slice", "both one five one", "back"),
            node("MatMul", "row back", "product"),
            node("Squeeze", "product middle", "y"),
        ],
        [
            floats("w", 1, 4, 4),
            ints("middle", 1),
            ints("zero", 0),
            ints("one", 1),
            ints("square", 4, 4),
            ints("five", 5),
        ],
        ("the joined Concat", "ws", 16),
    ),
}


@pytest.mark.parametrize("place", HIDING_PLACES)
def test_weights_are_found(place):
    nodes, stored, (op, operand, values) = HIDING_PLACES[place]
    if op == "the joined Concat":
        nodes[5].name, op = op, "Concat"
    found = searched(nodes, *stored)
    assert [(each.op, each.operand, each.values) for each in found.found] == [(op, operand, values)]
    assert (found.values, found.limit, found.idle) == (values, 3, ())


def test_a_weight_that_is_used_twice_counts_once():
    nodes = [
        helper.make_node("Einsum", ["x", "w"], ["once"], equation="bi,ij->bj"),
        helper.make_node("Einsum", ["once", "w"], ["y"], equation="bi,ij->bj"),
    ]
    found = searched(nodes, SQUARE)
    assert [each.values for each in found.found] == [16, 16]
    assert found.values == 16


def test_products_with_single_vectors_are_counted_too():
    """Each is like a factor per channel, but there are more of them than channels."""
    nodes, parts = [], []
    for column in range(4):
        product = helper.make_node("Mul", ["x", f"v{column}"], [f"p{column}"])
        total = helper.make_node("ReduceSum", [f"p{column}", "axis"], [f"s{column}"], keepdims=1)
        nodes += [product, total]
        parts.append(f"s{column}")
    nodes.append(helper.make_node("Concat", parts, ["y"], axis=1))
    found = searched(nodes, *(floats(f"v{column}", 4) for column in range(4)), ints("axis", 1))
    # One fits into the 3 output channels and the image's channel.
    assert [each.operand for each in found.found] == ["v1", "v2", "v3"]
    assert found.values == 12


KNOWN = {
    "a bias": ([node("Add", "x b", "y")], [floats("b", 4)]),
    "a position embedding": (
        [
            node("Reshape", "x tokens", "t"),
            node("Add", "t positions", "p"),
            node("Reshape", "p flat", "y"),
        ],
        [ints("tokens", -1, 2, 2), floats("positions", 1, 2, 2), ints("flat", -1, 4)],
    ),
    "a class token": (
        [
            node("Reshape", "x tokens", "t"),
            node("Shape", "x", "sizes"),
            node("Slice", "sizes zero one", "many"),
            node("Concat", "many token_shape", "shape", axis=0),
            node("Expand", "token shape", "ts"),
            helper.make_node("Concat", ["ts", "t"], ["both"], axis=1),
            helper.make_node("Slice", ["both", "one", "three", "one"], ["back"]),
            node("Flatten", "back", "y"),
        ],
        [ints("tokens", -1, 2, 2), ints("zero", 0), ints("one", 1), ints("three", 3), ints("token_shape", 1, 2),
         floats("token", 1, 1, 2)],
    ),
    "norms and factors": (
        [
            node("LayerNormalization", "x gain shift", "n"),
            node("BatchNormalization", "n gain shift shift gain", "m"),
            node("Mul", "m factor", "f"),
            node("Div", "f number", "y"),
        ],
        [floats("gain", 4), floats("shift", 4), floats("factor", 1), floats("number", 1)],
    ),
    "quantisation": (
        [node("QuantizeLinear", "x scale zero", "q"), node("DequantizeLinear", "q scale zero", "y")],
        [floats("scale"), numpy_helper.from_array(np.array(3, np.uint8), "zero")],
    ),
    "a counted weight that is moved": (
        [node("Reshape", "flat square", "w"), node("Transpose", "w", "t"), node("Cast", "t", "c", to=TensorProto.FLOAT),
         node("MatMul", "x c", "y")],
        [floats("flat", 16), ints("square", 4, 4)],
    ),
    "an order of elements": ([node("Gather", "x places", "y", axis=1)], [ints("places", 3, 2, 1, 0)]),
}  # fmt: skip


@pytest.mark.parametrize("kind", KNOWN)
def test_what_is_not_a_weight_is_not_found(kind):
    nodes, stored = KNOWN[kind]
    found = searched(nodes, *stored)
    assert (found.found, found.values) == ((), 0)


def test_a_weight_computed_by_a_layer_of_two_factors():
    """The factors meet no images, so what they make counts."""
    nodes = [node("MatMul", "left right", "w"), helper.make_node("MatMul", ["x", "w"], ["y"], "second")]
    found = searched(nodes, floats("left", 4, 2), floats("right", 2, 4))
    assert found.found == (HiddenWeight("second", "MatMul", "w", 16),)
    assert found.idle == ()


def test_layers_that_do_not_reach_the_output_are_named():
    found = searched([node("MatMul", "x idle", "nowhere"), node("Neg", "x", "y")], floats("idle", 4, 4))
    assert found.idle == ("idle",)


def test_a_denormal_is_not_a_zero_and_a_negative_zero_is():
    weight = np.array([[1e-45, -0.0, 0.0], [1.0, -1e-45, 0.0], [0, 0, 0], [0, 0, 0]], np.float32)
    (layer,) = structure_of(classifier([node("Neg", "x", "y")], weight=weight)).layers
    assert (layer.nonzero, layer.prunable) == (3, 12)
    half = numpy_helper.from_array(np.array([[6e-8, -0.0]], np.float16), "w16")
    nodes = [node("Cast", "w16", "w", to=TensorProto.FLOAT), node("Gemm", "x w", "g", transB=1), node("Neg", "x", "y")]
    assert structure_of(classifier(nodes, [half])).layers[0].nonzero == 1


def test_the_largest_are_shown_first():
    found = [HiddenWeight(f"n{size}", "Einsum", f"w{size}", size) for size in (1, 7, 3)]
    assert shown(found, most=2) == "7 in 'w7' of node 'n7' (Einsum), 3 in 'w3' of node 'n3' (Einsum) and 1 more"
