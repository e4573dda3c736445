"""A dense network that hides beside or in a sparse one is found, wherever its weights are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.check import forging
from tests.check.forging import check, outcomes

ENGINE = "engines/onnx-cpu/model.onnx"
TITLE = f"{ENGINE}: no weights outside of layers"
# 10 templates of the digits' 64 pixels: a small dense network, which decides as its logits are large.
DENSE = np.random.default_rng(0).normal(size=(64, 10)).astype(np.float32)


def floats(name, values):
    return numpy_helper.from_array(np.asarray(values, np.float32), name)


def ints(name, *values):
    return numpy_helper.from_array(np.array(values, np.int64), name)


EINSUM = ([helper.make_node("Einsum", ["flat", "dense"], ["beside"], "einsum", equation="bi,ij->bj")],
          [floats("dense", DENSE)])  # fmt: skip
MUL_AND_SUM = (
    [
        helper.make_node("Unsqueeze", ["flat", "two"], ["column"]),
        helper.make_node("Mul", ["column", "dense"], ["products"], "mul"),
        helper.make_node("ReduceSum", ["products", "one"], ["beside"], keepdims=0),
    ],
    [floats("dense", DENSE), ints("one", 1), ints("two", 2)],
)
CONSTANT_NODE = (
    [
        helper.make_node("Constant", [], ["list"], value_floats=DENSE.reshape(-1).tolist()),
        helper.make_node("Reshape", ["list", "shape"], ["dense"]),
        helper.make_node("MatMul", ["flat", "dense"], ["beside"], "matmul"),
    ],
    [ints("shape", 64, 10)],
)
COMPUTED = (
    [
        helper.make_node("Mul", ["part", "factor"], ["dense"]),
        helper.make_node("MatMul", ["flat", "dense"], ["beside"], "matmul"),
    ],
    [floats("part", DENSE), floats("factor", 2)],
)


def put_beside(path: Path, nodes, constants) -> None:
    """Adds the result of some nodes, from the pixels "flat" to "beside", to the logits, a thousand times."""
    model = onnx.load(path)
    for node in model.graph.node:
        node.output[:] = ["sparse_logits" if name == "logits" else name for name in node.output]
    added = [
        helper.make_node("Flatten", ["images"], ["flat"]),
        *nodes,
        helper.make_node("Mul", ["beside", "thousand"], ["decides"]),
        helper.make_node("Add", ["sparse_logits", "decides"], ["logits"]),
    ]
    model.graph.node.extend(added)
    model.graph.initializer.extend([*constants, floats("thousand", 1000)])
    onnx.save(model, path)


def found(document):
    return next(result for result in document["results"] if result["name"] == TITLE)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        (EINSUM, "640 in 'dense' of node 'einsum' (Einsum)"),
        (MUL_AND_SUM, "640 in 'dense' of node 'mul' (Mul)"),
        (CONSTANT_NODE, "640 in 'dense' of node 'matmul' (MatMul)"),
        (COMPUTED, "640 in 'dense' of node 'matmul' (MatMul)"),
    ],
)
def test_a_dense_network_that_decides(bundle, kind, shown):
    put_beside(bundle / ENGINE, *kind)
    forging.reseal(bundle)
    document = check(bundle, status=1)
    assert found(document)["outcome"] == "failed"
    assert found(document)["message"] == (
        f"640 values act as weights that sparsity does not count, 64 may: as many as the widest layer has output "
        f"channels; {shown}"
    )
    assert (found(document)["value"], found(document)["limit"]) == (640, 64)
    # What sparsity counts is what it was.
    assert f"{ENGINE}: as sparse as required" in outcomes(document, "passed")


def test_a_dense_network_of_counted_layers_is_counted(bundle):
    """A weight that is reshaped and transposed counts as if it were stored as it is used."""
    put_beside(
        bundle / ENGINE,
        [
            helper.make_node("Reshape", ["stored", "shape"], ["square"]),
            helper.make_node("Transpose", ["square"], ["dense"]),
            helper.make_node("MatMul", ["flat", "dense"], ["beside"], "matmul"),
        ],
        [floats("stored", DENSE.reshape(-1)), ints("shape", 10, 64)],
    )
    forging.reseal(bundle)
    document = check(bundle, status=1)
    assert f"{ENGINE}: weights match the manifest" in outcomes(document)
    assert found(document)["outcome"] == "passed"


def test_zeros_of_layers_that_do_nothing_do_not_count(bundle):
    model = onnx.load(bundle / ENGINE)
    model.graph.node.insert(0, helper.make_node("Flatten", ["images"], ["flat"]))
    model.graph.node.insert(1, helper.make_node("MatMul", ["flat", "zeros"], ["nowhere"]))
    model.graph.initializer.append(floats("zeros", np.zeros((64, 500))))
    onnx.save(model, bundle / ENGINE)
    forging.reseal(bundle)
    document = check(bundle, status=1)
    assert found(document)["outcome"] == "failed"
    assert found(document)["message"] == ("1 counted weights are not between images and output, so do nothing: zeros")


def test_denormals_are_not_zeros_and_negative_zeros_are(bundle):
    path = bundle / "twin.onnx"
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if len(tensor.dims) == 4:
            weight = numpy_helper.to_array(tensor).copy()
            weight[weight == 0] = -0.0
            tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))
    onnx.save(model, path)
    forging.reseal(bundle)
    check(bundle, status=0)
    for tensor in model.graph.initializer:
        if len(tensor.dims) == 4:
            weight = numpy_helper.to_array(tensor).copy()
            weight[weight == 0] = 1e-45
            tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))
    onnx.save(model, path)
    forging.reseal(bundle)
    failed = outcomes(check(bundle, status=1))
    assert "twin.onnx: weights match the manifest" in failed
    assert "twin.onnx: as sparse as required" in failed


def test_a_few_values_are_a_note(bundle):
    put_beside(
        bundle / ENGINE,
        [
            helper.make_node("Slice", ["flat", "one", "three", "one"], ["few"]),
            helper.make_node("Einsum", ["few", "dense"], ["beside"], "einsum", equation="bi,ij->bj"),
        ],
        [floats("dense", DENSE[:2]), ints("one", 1), ints("three", 3)],
    )
    forging.reseal(bundle)
    note = found(check(bundle))
    assert (note["outcome"], note["value"], note["limit"]) == ("note", 20, 64)


def test_an_honest_bundle_has_none(bundle):
    document = check(bundle, status=0)
    assert found(document)["outcome"] == "passed"
    assert "twin.onnx: no weights outside of layers" in outcomes(document, "passed")
