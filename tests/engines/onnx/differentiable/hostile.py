"""Graphs that ask for more than any network needs, or for nothing that can be computed."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from tests.engines.onnx.graphs import classifier

HUGE = 1 << 20


def _with(*nodes: NodeProto, **arrays: object) -> ModelProto:
    """The nodes read "x" [batch, 4] and write "z"; the logits are its sum."""
    every = [
        *nodes,
        helper.make_node("Cast", ["z"], ["as float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["as float"], ["total"], keepdims=0),
        helper.make_node("Add", ["x", "total"], ["y"]),
    ]
    return classifier(every, [numpy_helper.from_array(np.asarray(value), name) for name, value in arrays.items()])


def _one(op: str, *operands: object, images: bool = True, outputs: int = 1, **attributes: object) -> ModelProto:
    """One node of "x" and constants; an image [batch, 1, 2, 2] is called "image" in its place."""
    arrays = {f"c{place}": value for place, value in enumerate(operands) if value is not None}
    names = ["" if value is None else f"c{place}" for place, value in enumerate(operands)]
    shape = helper.make_node("Reshape", ["x", "as image"], ["image"])
    first = ["image"] if images else []
    results = ["z", *[f"more{place}" for place in range(outputs - 1)]]
    node = helper.make_node(op, [*first, *names], results, name="the node", **attributes)
    return _with(shape, node, **arrays, **{"as image": np.int64([-1, 1, 2, 2])})


def _sizes(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


_FILL = numpy_helper.from_array(np.float32([1]))
_KERNEL = np.ones((1, 1, 3, 3), np.float32)
_EMPTY = np.float32([])
REFUSED: dict[str, ModelProto] = {
    "Expand to 2^40": _one("Expand", _sizes(HUGE, HUGE, 2, 2)),
    "Expand to 2^80": _one("Expand", _sizes(*[HUGE] * 4)),
    "Expand to negative sizes": _one("Expand", _sizes(-1, -1, -1, -1)),
    "Tile 2^40 times": _one("Tile", _sizes(1, HUGE, HUGE, 1)),
    "Tile negative times": _one("Tile", _sizes(1, -1, 1, 1)),
    "Range of 2^40": _one("Range", np.int64(0), np.int64(1 << 40), np.int64(1), images=False),
    "Range with the step 0": _one("Range", np.int64(0), np.int64(5), np.int64(0), images=False),
    "ConstantOfShape of 2^40": _one("ConstantOfShape", _sizes(HUGE, HUGE), images=False, value=_FILL),
    "ConstantOfShape of a negative size": _one("ConstantOfShape", _sizes(-1), images=False, value=_FILL),
    "Pad to 2^40": _one("Pad", _sizes(0, 0, 0, 0, 0, 0, HUGE, HUGE)),
    "Pad to 2^40 by reflection": _one("Pad", _sizes(0, 0, 0, 0, 0, 0, HUGE, HUGE), mode="reflect"),
    "Pad to 2^62": _one("Pad", _sizes(0, 0, 0, 0, 0, 0, 0, 1 << 62), mode="edge"),
    "Pad with too few amounts": _one("Pad", _sizes(0, 0, 1)),
    "Pad to a negative size": _one("Pad", _sizes(0, 0, -5, 0, 0, 0, 0, 0)),
    "Reshape with -1 twice": _one("Reshape", _sizes(-1, -1)),
    "Reshape to negative sizes": _one("Reshape", _sizes(-2, 2)),
    "Reshape to another number of elements": _one("Reshape", _sizes(3)),
    "Resize to 2^40": _one("Resize", None, None, _sizes(1, 1, HUGE, HUGE)),
    "Resize by a matrix of 2^40": _one("Resize", None, None, _sizes(1, 1, 2, 1 << 40), mode="linear"),
    "Resize to a negative size": _one("Resize", None, None, _sizes(1, 1, -2, 2)),
    "Resize by 0": _one("Resize", None, np.float32([1, 1, 0, 1])),
    "Resize by a negative factor": _one("Resize", None, np.float32([1, 1, -2, 1])),
    "Resize by 1e30": _one("Resize", None, np.float32([1, 1, 1e30, 1])),
    "Resize by a tiny factor with antialias": _one(
        "Resize", None, np.float32([1, 1, 1, 1e-30]), None, mode="cubic", antialias=1
    ),
    "Resize by too few factors": _one("Resize", None, np.float32([2])),
    "Split into sizes that do not sum": _one("Split", _sizes(1, 2), outputs=2, axis=2),
    "Split into negative sizes": _one("Split", _sizes(-1, 3), outputs=2, axis=2),
    "Split into too few": _one("Split", _sizes(2), outputs=2, axis=2),
    "Split into 0 outputs": _one("Split", axis=2, num_outputs=0),
    "Squeeze of a size of 2": _one("Squeeze", _sizes(2)),
    "Slice with the step 0": _one("Slice", _sizes(0), _sizes(1), _sizes(2), _sizes(0)),
    "Slice of an axis that is not there": _one("Slice", _sizes(0), _sizes(1), _sizes(9)),
    "TopK of too many": _one("TopK", _sizes(5), outputs=2),
    "TopK of a negative number": _one("TopK", _sizes(-1), outputs=2),
    "a kernel larger than the image": _one("Conv", _KERNEL),
    "a kernel of another rank": _one("Conv", np.ones((1, 1, 1), np.float32)),
    "groups that do not divide": _one("Conv", np.ones((3, 1, 1, 1), np.float32), group=2),
    "strides of 2^31 - 1 of a transposed convolution": _one("ConvTranspose", _KERNEL, strides=[2**31 - 1] * 2),
    "a transposed convolution to 2^40": _one("ConvTranspose", _KERNEL, output_shape=[HUGE, HUGE]),
    "windows of 2^40 elements": _one("AveragePool", kernel_shape=[HUGE, HUGE], pads=[HUGE] * 4, strides=[HUGE, HUGE]),
    "windows of 2^40 norms": _one("LpPool", kernel_shape=[HUGE, HUGE], pads=[HUGE] * 4, strides=[HUGE, HUGE]),
    "a pool without a kernel": _one("MaxPool"),
    "a pool with text for a kernel": _one("MaxPool", kernel_shape="ab"),
    "a number for text": _one("Conv", np.ones((1, 1, 1, 1), np.float32), auto_pad=3),
    "Einsum of nonsense": _one("Einsum", equation="...->)"),
    "Einsum without an equation": _one("Einsum"),
    "Einsum of 2^40": _one(
        "Einsum", np.zeros(1 << 20, np.float32), np.zeros(1 << 20, np.float32), equation="abcd,x,y->xy"
    ),
    "a block of 0": _one("DepthToSpace", blocksize=0),
    "a negative block": _one("DepthToSpace", blocksize=-2),
    "a missing block": _one("SpaceToDepth"),
    "an axis out of range": _one("Softmax", axis=7),
    "an axis of a concatenation out of range": _one("Concat", axis=-9),
    "an axis of a sum out of range": _one("ReduceSum", _sizes(4)),
    "an axis of text": _one("Softmax", axis="one"),
    "a perm that is none": _one("Transpose", perm=[0, 0, 1, 2]),
    "LRN of negative size": _one("LRN", size=-3),
    "LRN of 2^31 - 1": _one("LRN", size=2**31 - 1),
    "a norm of other channels": _one("BatchNormalization", *[np.float32([1, 1, 1])] * 4),
    "groups of a norm that do not divide": _one("GroupNormalization", *[np.float32([1])] * 2, num_groups=3),
    "Gather out of range": _with(
        helper.make_node("Gather", ["c", "i"], ["z"], name="the node"), c=_sizes(1, 2), i=_sizes(9)
    ),
    "OneHot of 2^40": _with(
        helper.make_node("OneHot", ["i", "d", "v"], ["z"], name="the node"),
        i=_sizes(*range(1000)),
        d=_sizes(1 << 40),
        v=np.float32([0, 1]),
    ),
    "EyeLike of 2^40": _with(
        helper.make_node("ConstantOfShape", ["s"], ["e"]),
        helper.make_node("EyeLike", ["e"], ["z"], name="the node"),
        s=_sizes(HUGE, HUGE),
    ),
    "too many operands": _one("Relu", np.float32(1), np.float32(1)),
    "too few operands": _one("Add"),
    "a cast to text": _one("Cast", to=TensorProto.STRING),
    "a cast to nothing": _one("Cast"),
}


def _range_of(*bounds: float) -> ModelProto:
    """The numbers are computed, as a file has no numbers that are not finite."""
    names = []
    nodes = []
    for place, bound in enumerate(bounds):
        names.append(f"b{place}")
        if math.isnan(bound):
            nodes.append(helper.make_node("Div", ["nothing", "nothing"], [names[-1]]))
        elif math.isinf(bound):
            nodes.append(helper.make_node("Div", ["one", "nothing"], [names[-1]]))
        else:
            nodes.append(helper.make_node("Constant", [], [names[-1]], value_float=bound))
    return _with(
        *nodes,
        helper.make_node("Range", names, ["z"], name="the node"),
        one=np.float32(1),
        nothing=np.float32(0),
    )


def _resized_by_nan() -> ModelProto:
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["image"]),
        helper.make_node("Div", ["zeros", "zeros"], ["scales"]),
        helper.make_node("Resize", ["image", "", "scales"], ["z"], name="the node"),
    ]
    return _with(*nodes, shape=_sizes(-1, 1, 2, 2), zeros=np.zeros(4, np.float32))


def _products_of_constants() -> ModelProto:
    """Few numbers in the file, but 20,000 products of matrices."""
    nodes = [helper.make_node("Expand", ["one", "shape"], ["m"])]
    nodes += [helper.make_node("MatMul", ["m", "m"], [f"p{place}"]) for place in range(15_000)]
    return _with(*nodes, helper.make_node("Sum", ["p0", "p14999"], ["z"]), one=np.float32(1), shape=_sizes(900, 900))


def _memory() -> ModelProto:
    """Every value may be as large as it is, but not all of them together."""
    nodes = [helper.make_node("Expand", ["x", "shape"], ["e0"])]
    nodes += [helper.make_node("Exp", [f"e{place}"], [f"e{place + 1}"]) for place in range(40)]
    return _with(*nodes, helper.make_node("Identity", ["e40"], ["z"]), shape=_sizes(1 << 23, 1, 4))


REFUSED |= {
    "Range from NaN": _range_of(math.nan, 5, 1),
    "Range to infinity": _range_of(0, math.inf, 1),
    "Range with an infinite step": _range_of(0, math.nan, math.inf),
    "Resize by NaN": _resized_by_nan(),
    "15,000 products of constants": _products_of_constants(),
    "a gradient of many large values": _memory(),
}


def chain(op: str = "Relu", count: int = 19_990) -> ModelProto:
    names = ["x", *[f"v{place}" for place in range(count - 1)], "y"]
    return classifier([helper.make_node(op, [a], [b]) for a, b in pairwise(names)])
