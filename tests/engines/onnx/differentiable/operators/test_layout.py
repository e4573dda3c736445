from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper

from tests.engines.onnx.differentiable.cases import (
    Case,
    axis_of,
    check_gradient,
    check_values,
    examples,
    few_and_many,
    floats,
    int64,
    shape_of,
    some,
    whole,
)

LARGE = 2**31 - 1


def _reshape(r):
    shape = shape_of(r, 1, 3)
    total = int(np.prod(shape))
    wanted = r.choice([[-1], [total], [0, -1], [1, -1, 1], [*shape, 1], [-1, *shape[1:]]])
    return Case("Reshape", [floats(r, *shape), int64(*wanted)], opset=r.choice([9, 13]))


def _flatten(r):
    shape = shape_of(r)
    opset = r.choice([9, 13])
    axis = r.randint(0 if opset == 9 else -len(shape), len(shape))
    return Case("Flatten", [floats(r, *shape)], {"axis": axis} if r.random() < 0.8 else {}, opset)


def _by_axes(op, opset, x, axes):
    """An attribute before operator set 13, an input from then on."""
    if opset < 13:
        return Case(op, [x], {} if axes is None else {"axes": axes}, opset)
    return Case(op, [x] if axes is None else [x, int64(*axes)], opset=opset)


def _squeeze(r):
    shape = [r.choice([1, 1, 3]) for _ in range(r.randint(1, 4))]
    ones = [axis for axis, size in enumerate(shape) if size == 1]
    axes = r.sample(ones, r.randint(1, len(ones))) if ones and r.random() < 0.7 else None
    opset = r.choice([9, 11, 13])
    if axes and opset >= 11 and r.random() < 0.5:
        axes = [axis - len(shape) for axis in axes]
    return _by_axes("Squeeze", opset, floats(r, *shape), axes)


def _unsqueeze(r):
    shape, opset = shape_of(r, 0, 3), r.choice([9, 11, 13])
    added = r.randint(1, 2)
    rank = len(shape) + added
    axes = r.sample(range(rank), added)
    axes = [axis - rank if opset >= 11 and r.random() < 0.5 else axis for axis in axes]
    return _by_axes("Unsqueeze", opset, floats(r, *shape), axes)


def _expand(r):
    shape = [size if r.random() < 0.5 else 1 for size in shape_of(r)]
    wanted = [r.choice([1, size if size > 1 else 3]) for size in shape][r.randint(0, len(shape)) :]
    if len(wanted) == len(shape):
        wanted = [*shape_of(r, 0, 2), *wanted]
    return Case("Expand", [floats(r, *shape), int64(*wanted)], opset=13)


def _tile(r):
    shape = shape_of(r)
    return Case("Tile", [floats(r, *shape), int64(*[r.randint(0, 3) for _ in shape])], opset=13)


def _transpose(r):
    shape = shape_of(r)
    return Case("Transpose", [floats(r, *shape)], some(r, perm=r.sample(range(len(shape)), len(shape))))


def _concat(r):
    shape = shape_of(r)
    axis = axis_of(r, len(shape))
    parts = [[r.randint(0, 3) if a == axis % len(shape) else s for a, s in enumerate(shape)] for _ in range(3)]
    parts = parts[: r.randint(1, 3)]
    return Case("Concat", [floats(r, *part) for part in parts], {"axis": axis}, 11, live=(0, 2))


def _split(r):
    shape, opset = shape_of(r), r.choice([9, 11, 13, 18])
    axis = r.randint(-len(shape) if opset >= 11 else 0, len(shape) - 1)
    pieces = r.randint(1, 3)
    sizes = [r.randint(0 if opset >= 11 else 1, 3) for _ in range(pieces)]
    if r.random() < 0.5:
        sizes = [2] * pieces
    shape[axis] = sum(sizes)
    x, attributes = floats(r, *shape), {"axis": axis}
    equal = len(set(sizes)) == 1 and sizes[0] > 0
    if equal and r.random() < 0.7:
        if opset >= 18:
            attributes["num_outputs"] = pieces
            x = np.delete(x, 0, axis)  # the last one is smaller
        return Case("Split", [x], attributes, opset, outputs=pieces)
    if opset < 13:
        return Case("Split", [x], {**attributes, "split": sizes}, opset, outputs=pieces)
    return Case("Split", [x, int64(*sizes)], attributes, opset, outputs=pieces)


def _slice(r):
    shape = shape_of(r, size=6)
    axes = r.sample(range(len(shape)), r.randint(1, len(shape)))
    starts = [r.randint(-8, 8) for _ in axes]
    ends = [r.choice([r.randint(-8, 8), LARGE]) for _ in axes]
    if r.random() < 0.3:
        return Case("Slice", [floats(r, *shape)], {"starts": starts, "ends": ends, "axes": axes}, 9)
    steps = [r.choice([1, 2, 3, -1, -2]) for _ in axes]
    ends = [-LARGE if step < 0 and r.random() < 0.3 else end for step, end in zip(steps, ends, strict=True)]
    axes = [axis - len(shape) if r.random() < 0.5 else axis for axis in axes]
    bounds = [int64(*starts), int64(*ends), int64(*axes), int64(*steps)]
    if r.random() < 0.2:
        bounds = [int64(*starts), int64(*ends), int64(*axes)]
    if len(axes) == len(shape) and r.random() < 0.3:
        bounds = [int64(*starts), int64(*ends), None, int64(*steps)]
    return Case("Slice", [floats(r, *shape), *bounds], opset=r.choice([10, 13]))


def _pad(r):
    shape, opset = [r.randint(2, 5) for _ in range(r.randint(1, 4))], r.choice([9, 11, 13, 18, 19])
    mode = r.choice(["constant", "reflect", "edge", *(["wrap"] if opset >= 19 else [])])
    low = -1 if mode == "constant" else 0
    amounts = [[r.randint(low, size - 1) if r.random() < 0.7 else 0 for size in shape] for _ in range(2)]
    amounts = [*amounts[0], *[max(a, 1 - s - b) for a, b, s in zip(amounts[1], amounts[0], shape, strict=True)]]
    x, attributes = floats(r, *shape), some(r, mode=mode) if mode == "constant" else {"mode": mode}
    if opset == 9:
        return Case("Pad", [x], {**attributes, "pads": amounts, **some(r, value=1.5)}, 9)
    value = np.float32(2.5) if mode == "constant" and r.random() < 0.5 else None
    if opset >= 18 and r.random() < 0.5:
        axis = axis_of(r, len(shape))
        pads = int64(r.randint(0, 1), r.randint(0, 1))
        return Case("Pad", [x, pads, value, int64(axis)], attributes, opset)
    return Case("Pad", [x, int64(*amounts), *([] if value is None else [np.asarray(value)])], attributes, opset)


def _depth_to_space(r):
    block, kept = r.randint(1, 3), r.randint(1, 2)
    x = floats(r, r.choice([1, 2, 5]), kept * block**2, r.randint(1, 3), r.randint(1, 3))
    return Case("DepthToSpace", [x], {"blocksize": block, **some(r, mode=r.choice(["DCR", "CRD"]))}, 13)


def _space_to_depth(r):
    block = r.randint(1, 3)
    x = floats(r, 2, r.randint(1, 2), block * r.randint(1, 2), block * r.randint(1, 2))
    return Case("SpaceToDepth", [x], {"blocksize": block}, 13)


def _shape(r):
    return Case("Shape", [floats(r, *shape_of(r))], some(r, start=r.randint(-5, 5), end=r.randint(-5, 5)), 15)


def _size(r):
    return Case("Size", [floats(r, *shape_of(r))], opset=13)


def _constant_of_shape(r):
    value = r.choice([floats(r, 1), int64(7), np.array([True]), None, np.array([0.5], np.float16)])
    attributes = {} if value is None else {"value": numpy_helper.from_array(value)}
    return Case("ConstantOfShape", [int64(*[r.randint(0, 3) for _ in range(r.randint(0, 3))])], attributes, 9, live=())


def _range(r):
    step = r.choice([-2, -1, 1, 3])
    bounds = [r.randint(-5, 5), r.randint(-5, 5), step]
    if r.random() < 0.5:
        bounds = [bound * 0.25 for bound in bounds]
    dtype = np.float32 if isinstance(bounds[0], float) else r.choice([np.int32, np.int64])
    return Case("Range", [np.array(bound, dtype) for bound in bounds], opset=11, live=())


def _dropout(r):
    if r.random() < 0.3:
        return Case("Dropout", [floats(r, 2, 3)], some(r, ratio=0.3), 10)
    ratio, training = np.float32(0.3), np.array(False)
    parts = r.choice([[], [ratio], [ratio, training], [None, training]])
    parts = [None if part is None else np.asarray(part) for part in parts]
    return Case("Dropout", [floats(r, 2, 3), *parts], opset=13, outputs=r.choice([1, 2]))


def _constant(r):
    attributes = r.choice(
        [
            {"value": numpy_helper.from_array(floats(r, 2, 3))},
            {"value": numpy_helper.from_array(floats(r, 2, 3).astype(np.float16))},
            {"value": numpy_helper.from_array(floats(r, 2, 3).astype(np.float64))},
            {"value": numpy_helper.from_array(whole(r, 3))},
            {"value_float": 0.5},
            {"value_floats": [0.5, 1.5]},
            {"value_int": 3},
            {"value_ints": [3, 4]},
        ]
    )
    return Case("Constant", [], attributes, 13, live=())


def _eye_like(r):
    x = floats(r, r.randint(1, 4), r.randint(1, 4))
    kinds = [TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32]
    return Case("EyeLike", [x], some(r, k=r.randint(-2, 2), dtype=r.choice(kinds)), 9)


def _trilu(r):
    shape = shape_of(r, 2)
    k = [] if r.random() < 0.3 else [np.array(r.randint(-3, 3))]
    x = whole(r, *shape) if r.random() < 0.3 else floats(r, *shape)
    return Case("Trilu", [x, *k], some(r, upper=r.choice([0, 1])), 14)


CASES = {
    "Concat": _concat,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "DepthToSpace": _depth_to_space,
    "Dropout": _dropout,
    "Expand": _expand,
    "EyeLike": _eye_like,
    "Flatten": _flatten,
    "Pad": _pad,
    "Range": _range,
    "Reshape": _reshape,
    "Shape": _shape,
    "Size": _size,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Trilu": _trilu,
    "Unsqueeze": _unsqueeze,
}
WITHOUT_GRADIENT = ("Constant", "ConstantOfShape", "EyeLike", "Range", "Shape", "Size", "Dropout")


@few_and_many(2, 30)
@pytest.mark.parametrize("op", CASES)
def test_values_are_those_of_onnxruntime(op, count):
    examples(CASES[op], check_values, count)


@few_and_many(1, 20)
@pytest.mark.parametrize("op", [op for op in CASES if op not in WITHOUT_GRADIENT])
def test_gradients_are_those_of_finite_differences(op, count):
    def check(case):
        if case.inputs[0].dtype == np.float32:
            check_gradient(case)

    examples(CASES[op], check, count)
