"""Graphs that are refused because an image's answer depends on its batch, and graphs that are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.engines.onnx.graphs import classifier
from tscnc_deploy.engines.onnx.batch import needs_single_images, require_independent_images
from tscnc_deploy.engines.onnx.signature import signature_of
from tscnc_deploy.errors import InputError

PATH = Path("model.onnx")


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs.split(" ") if inputs else [], outputs.split(), name=f"the {op}", **attributes)


def ints(name, *values):
    return numpy_helper.from_array(np.array(values, np.int64), name)


def scalar(name, value):
    return numpy_helper.from_array(np.array(value, np.int64), name)


def checked(nodes, *stored, **options):
    """Checks images [batch, 1, 2, 2] -> `nodes`, from "x" [batch, 4] to "y" [batch, 4] -> logits [batch, 3]."""
    model = classifier(nodes, stored, **options)
    require_independent_images(model, signature_of(model, PATH), PATH)


SIZE = [node("Shape", "x", "sizes"), node("Gather", "sizes zero", "size")]
ZERO, ONE, MINUS, WIDE = scalar("zero", 0), scalar("one", 1), ints("minus", -1), ints("wide", 4)

DEPENDENT = {
    "an equal batch size chooses": (
        [
            *SIZE,
            node("Equal", "size one", "alone"),
            node("Neg", "x", "negative"),
            node("Where", "alone negative x", "y"),
        ],
        [ZERO, ONE],
        "the Where' .Where. computes with 'alone', a number made of the batch's size",
    ),
    "the size as a factor": (
        [*SIZE, node("Cast", "size", "many", to=TensorProto.FLOAT), node("Mul", "x many", "y")],
        [ZERO],
        "the Mul' .Mul. computes with 'many'",
    ),
    "the number of all elements": (
        [node("Size", "x", "size"), node("Cast", "size", "many", to=TensorProto.FLOAT), node("Div", "x many", "y")],
        [],
        "the Div' .Div. computes with 'many'",
    ),
    "a table read at the batch size": (
        [*SIZE, node("Min", "size three", "place"), node("Gather", "table place", "row"), node("Add", "x row", "y")],
        [ZERO, scalar("three", 3), numpy_helper.from_array(np.ones((4, 4), np.float32), "table")],
        "the Add' .Add. computes with 'row'",
    ),
    "places in the batch": (
        [
            *SIZE,
            node("Range", "zero size one", "places"),
            node("Cast", "places", "floats", to=TensorProto.FLOAT),
            node("Unsqueeze", "floats ones", "column"),
            node("Mul", "x column", "y"),
        ],
        [ZERO, ONE, ints("ones", 1)],
        "the Mul' .Mul. computes with 'column'",
    ),
    "a shape that is 1 unless the batch has 37 images": (
        [
            *SIZE,
            node("Equal", "size special", "equal"),
            node("Cast", "equal", "number", to=TensorProto.INT64),
            node("Add", "number one", "count"),
            node("Unsqueeze", "count zeros", "shape"),
            node("Expand", "half shape", "more"),
            node("ReduceSum", "more", "sum", keepdims=0),
            node("Mul", "x sum", "y"),
        ],
        [ZERO, ONE, scalar("special", 37), ints("zeros", 0), numpy_helper.from_array(np.ones(1, np.float32), "half")],
        "the Expand' .Expand. makes a shape of 'shape', which is not a multiple of the batch's size",
    ),
    "a count by summing ones": (
        [
            *SIZE,
            node("Unsqueeze", "size zeros", "shape"),
            node("Expand", "half shape", "more"),
            node("ReduceSum", "more", "sum", keepdims=0),
            node("Mul", "x sum", "y"),
        ],
        [ZERO, ints("zeros", 0), numpy_helper.from_array(np.ones(1, np.float32), "half")],
        "the ReduceSum' .ReduceSum. works along axis 0 of 'more', that of the images",
    ),
    "the mean over the batch": (
        [node("ReduceMean", "x axes", "mean", keepdims=1), node("Sub", "x mean", "y")],
        [ints("axes", 0)],
        "the ReduceMean' .ReduceMean. works along axis 0 of 'x'",
    ),
    "the largest of everything": (
        [node("ReduceMax", "x", "largest", keepdims=1), node("Div", "x largest", "y")],
        [],
        "the ReduceMax' .ReduceMax. works along axis 0",
    ),
    "a softmax over the batch": ([node("Softmax", "x", "y", axis=0)], [], "the Softmax' .Softmax. works along axis 0"),
    "a softmax over the batch, transposed": (
        [node("Transpose", "x", "t", perm=[1, 0]), node("Softmax", "t", "s"), node("Transpose", "s", "y", perm=[1, 0])],
        [],
        "the Softmax' .Softmax. works along axis 1 of 't'",
    ),
    "a layer norm of everything": (
        [node("Transpose", "x", "t"), node("LayerNormalization", "t g", "n", axis=0), node("Transpose", "n", "y")],
        [numpy_helper.from_array(np.ones((4, 1), np.float32), "g")],
        "the LayerNormalization' .LayerNormalization. works along axis [01] of 't'",
    ),
    "sorted images": (
        [node("TopK", "x one_", "y places", axis=0)],
        [ints("one_", 1)],
        "the TopK' .TopK. works along axis 0",
    ),
    "a running sum": ([node("CumSum", "x zero", "y")], [ZERO], "the CumSum' .CumSum. works along axis 0"),
    "frequencies over the batch": (
        [
            node("Unsqueeze", "x last", "complex"),
            node("DFT", "complex  zero", "f"),
            node("ReduceSum", "f last", "y", keepdims=0),
        ],
        [ZERO, ints("last", 2)],
        "the DFT' .DFT. works along axis 0",
    ),
    "a loss, which is a mean over the batch": (
        [
            node("ArgMax", "x", "labels", axis=1, keepdims=0),
            node("SoftmaxCrossEntropyLoss", "x labels", "loss"),
            node("Mul", "x loss", "y"),
        ],
        [],
        "the SoftmaxCrossEntropyLoss' .SoftmaxCrossEntropyLoss. works along axis 0 of 'x'",
    ),
    "the first image's features": (
        [node("Gather", "x zero", "first", axis=0), node("Sub", "x first", "y")],
        [ZERO],
        "the Gather' .Gather. works along axis 0 of 'x'",
    ),
    "the images backwards": (
        [node("Slice", "x starts ends axes steps", "y")],
        [ints("starts", -1), ints("ends", -(2**31)), ints("axes", 0), ints("steps", -1)],
        "the Slice' .Slice. works along axis 0 of 'x'",
    ),
    "elements of several images as those of one": (
        [
            node("Reshape", "x turned", "t"),
            node("ReduceSum", "t axes", "s", keepdims=0),
            node("Unsqueeze", "s ones", "u"),
            node("Mul", "x u", "y"),
        ],
        [ints("turned", 4, -1), ints("axes", 0), ints("ones", 1)],
        "the Reshape' .Reshape. lays out the elements of images so that those of several become one's",
    ),
    "products of images": (
        [
            node("Transpose", "x", "t", perm=[1, 0]),
            node("MatMul", "x t", "m"),
            node("MatMul", "m x", "y"),
        ],
        [],
        "the MatMul' .MatMul. combines every image with every other",
    ),
    "an einsum over images": (
        [node("Einsum", "x x", "c", equation="bi,bj->ij"), node("MatMul", "x c", "y")],
        [],
        "the Einsum' .Einsum. works along axis 0 of 'x'",
    ),
    "a resize by so little that only large batches grow": (
        [
            node("Resize", "x none by", "more"),
            node("Shape", "x", "sizes"),
            node("Resize", "more none none sizes", "y"),
        ],
        [
            numpy_helper.from_array(np.array([1.05, 1], np.float32), "by"),
            numpy_helper.from_array(np.zeros(0, np.float32), "none"),
        ],
        "the Resize' .Resize. resizes along the axis of the images",
    ),
    "a batch norm in training mode": (
        [
            node("BatchNormalization", "x g g g g", "y m v", training_mode=1),
        ],
        [numpy_helper.from_array(np.ones(4, np.float32), "g")],
        "the BatchNormalization' .BatchNormalization. is in training mode and normalises by the statistics",
    ),
    "dropout in training mode": (
        [node("Dropout", "x ratio mode", "y")],
        [
            numpy_helper.from_array(np.array(0.5, np.float32), "ratio"),
            numpy_helper.from_array(np.array(True), "mode"),
        ],
        "the Dropout' .Dropout. is in training mode and drops values at random",
    ),
}


@pytest.mark.parametrize("name", DEPENDENT)
def test_a_graph_that_depends_on_the_batch_is_refused(name):
    nodes, stored, message = DEPENDENT[name]
    with pytest.raises(InputError, match=message):
        checked(nodes, *stored)


INDEPENDENT = {
    "the size in a Reshape": (
        [*SIZE, node("Unsqueeze", "size zeros", "s"), node("Concat", "s wide", "shape", axis=0),
         node("Reshape", "x shape", "y")],
        [ZERO, ints("zeros", 0), WIDE],
    ),
    "a token, expanded to the batch as TorchScript exports it": (
        [
            *SIZE,
            node("Unsqueeze", "size zeros", "s"),
            node("Concat", "s wide", "shape", axis=0),
            node("Shape", "shape", "length"),
            node("ConstantOfShape", "length", "ones", value=ints("", 1)),
            node("Mul", "ones negative", "minuses"),
            node("Equal", "shape minuses", "absent"),
            node("Where", "absent ones shape", "chosen"),
            node("Expand", "token chosen", "tokens"),
            node("Add", "x tokens", "y"),
        ],
        [ZERO, ints("zeros", 0), WIDE, scalar("negative", -1),
         numpy_helper.from_array(np.ones((1, 4), np.float32), "token")],
    ),
    "the number of channels as a factor": (
        [node("Shape", "x", "sizes"), node("Gather", "sizes one", "wide"),
         node("Cast", "wide", "many", to=TensorProto.FLOAT), node("Sqrt", "many", "root"), node("Div", "x root", "y")],
        [ONE],
    ),
    "a resize of everything but the batch": (
        [
            node("Reshape", "x tokens", "t"),
            node("Resize", "t none by", "more"),
            node("ReduceMean", "more last", "y", keepdims=0),
        ],
        [
            ints("tokens", -1, 4, 1),
            ints("last", 2),
            numpy_helper.from_array(np.array([1, 1, 2.5], np.float32), "by"),
            numpy_helper.from_array(np.zeros(0, np.float32), "none"),
        ],
    ),
    "a padding that is computed": (
        # torch lays pads out the other way round: [0, 1, 0, 0] becomes [[0, 1], [0, 0]], turned, [0, 0, 0, 1].
        [
            node("ConstantOfShape", "three", "none", value=ints("", 0)),
            node("Slice", "none from_two three zero", "one_more"),
            node("Concat", "zeros one_ one_more zeros", "pads_", axis=0),
            node("Reshape", "pads_ pairs", "two_by_two"),
            node("Slice", "two_by_two last far zero back", "turned"),
            node("Transpose", "turned", "columns", perm=[1, 0]),
            node("Reshape", "columns flat_", "pads"),
            node("Pad", "x pads", "five"),
            node("Slice", "five zero four one_", "y"),
        ],
        [ints("three", 3), ints("from_two", 2), ints("zero", 0), ints("zeros", 0), ints("one_", 1),
         ints("pairs", -1, 2), ints("last", -1), ints("far", -2**63), ints("back", -1), ints("flat_", -1),
         ints("four", 4)],
    ),
    "all of a slice": (
        [node("Slice", "x starts ends axes", "y")],
        [ints("starts", 0), ints("ends", 2**63 - 1), ints("axes", 0)],
    ),
    "attention with the sequence first": (
        [
            node("Reshape", "x tokens", "t"),  # [batch, 2, 2]
            node("Transpose", "t", "first", perm=[1, 0, 2]),  # [2, batch, 2]
            node("Reshape", "first rows", "r"),  # [2 * batch, 2]
            node("Softmax", "r", "soft", axis=-1),
            node("Reshape", "soft again", "back"),  # [2, batch, 2]
            node("Softmax", "back", "over", axis=0),
            node("Transpose", "over", "last", perm=[1, 0, 2]),
            node("Reshape", "last flat", "y"),
        ],
        [ints("tokens", -1, 2, 2), ints("rows", -1, 2), ints("again", 2, -1, 2), ints("flat", -1, 4)],
    ),
    "an einsum of each image": ([node("Einsum", "x w", "y", equation="bi,ij->bj")],
                                [numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")]),
    "a batch norm of weights in training mode": (
        [node("BatchNormalization", "weight g g g g", "standard m v", training_mode=1),
         node("Flatten", "standard", "w"), node("MatMul", "x w", "y")],
        [numpy_helper.from_array(np.ones(4, np.float32), "g"),
         numpy_helper.from_array(np.arange(16, dtype=np.float32).reshape(4, 4, 1), "weight")],
    ),
    "a batch norm and dropout in eval mode": (
        [node("BatchNormalization", "x g g g g", "n"), node("Dropout", "n ratio mode", "y")],
        [
            numpy_helper.from_array(np.ones(4, np.float32), "g"),
            numpy_helper.from_array(np.array(0.5, np.float32), "ratio"),
            numpy_helper.from_array(np.array(False), "mode"),
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", INDEPENDENT)
def test_a_graph_that_treats_images_alone_is_accepted(name):
    nodes, stored = INDEPENDENT[name]
    checked(nodes, *stored)


def test_a_fixed_batch_has_a_first_axis_too():
    mean = [node("ReduceMean", "x axes", "mean", keepdims=1), node("Sub", "x mean", "y")]
    with pytest.raises(InputError, match="works along axis 0"):
        checked(mean, ints("axes", 0), batch=3)
    checked(mean, ints("axes", 0), batch=1)


def test_nodes_out_of_order_are_refused():
    with pytest.raises(InputError, match=r"'the Neg' .Neg. reads 't' before it is computed"):
        checked([node("Neg", "t", "y"), node("Neg", "x", "t")])


def test_dynamic_quantisation_takes_single_images():
    model = classifier(DYNAMIC, [])
    assert needs_single_images(model, signature_of(model, PATH), PATH)
    plain = classifier([node("Neg", "x", "y")], [])
    assert not needs_single_images(plain, signature_of(plain, PATH), PATH)
    fixed = classifier(DYNAMIC, [], batch=3)
    with pytest.raises(InputError, match=r"takes its scale from all 3 images of a batch, .*export it with a"):
        needs_single_images(fixed, signature_of(fixed, PATH), PATH)


DYNAMIC = [
    node("DynamicQuantizeLinear", "x", "q scale zero_point"),
    node("DequantizeLinear", "q scale zero_point", "y"),
]
