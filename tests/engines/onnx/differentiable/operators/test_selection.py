from __future__ import annotations

import numpy as np
import pytest

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


def _gather(r):
    shape = shape_of(r)
    axis = axis_of(r, len(shape))
    indices = whole(r, *shape_of(r, 0, 2), low=-shape[axis], high=shape[axis] - 1, dtype=r.choice([np.int32, np.int64]))
    attributes = {"axis": axis} if axis or r.random() < 0.5 else {}
    return Case("Gather", [floats(r, *shape), indices], attributes, 13, live=r.choice([(0,), (0, 1)]))


def _gather_elements(r):
    shape = shape_of(r)
    axis = axis_of(r, len(shape))
    like = [r.randint(1, size) for size in shape]
    like[axis] = r.randint(1, 5)
    indices = whole(r, *like, low=-shape[axis], high=shape[axis] - 1)
    return Case("GatherElements", [floats(r, *shape), indices], {"axis": axis}, 13, live=r.choice([(0,), (0, 1)]))


def _places(r, shape, rank, depth, outer=()):
    """Indices [*outer, ..., depth] into the axes of a shape after the outer ones."""
    around = [*outer, *[r.randint(1, 3) for _ in range(rank)]]
    sizes = shape[len(outer) : len(outer) + depth]
    return np.stack([whole(r, *around, low=-size, high=size - 1) for size in sizes], -1)


def _gather_nd(r):
    shape = shape_of(r, 2, 4)
    outer = r.randint(0, len(shape) - 1)
    indices = _places(r, shape, r.randint(0, 2), r.randint(1, len(shape) - outer), shape[:outer])
    return Case("GatherND", [floats(r, *shape), indices], {"batch_dims": outer} if outer else {}, 13)


def _scatter_nd(r):
    shape = shape_of(r, 2, 4)
    depth = r.randint(1, len(shape))
    count = r.randint(1, int(np.prod(shape[:depth])))
    # Without an index twice, which has no defined order.
    flat = np.random.default_rng(r.randrange(999)).permutation(int(np.prod(shape[:depth])))[:count]
    indices = np.stack(np.unravel_index(flat, shape[:depth]), -1)
    attributes, opset = {}, 13
    if r.random() < 0.6:
        attributes, opset = {"reduction": r.choice(["none", "add", "mul", "max", "min"])}, 18
        if attributes["reduction"] != "none":
            indices = np.concatenate([indices, indices[:1]])
    updates = floats(r, len(indices), *shape[depth:])
    return Case("ScatterND", [floats(r, *shape), indices, updates], attributes, opset, live=(0, 2))


def _scatter_elements(r):
    shape = shape_of(r)
    axis = axis_of(r, len(shape))
    like = [r.randint(1, size) for size in shape]
    order = np.random.default_rng(r.randrange(999)).permutation(shape[axis])[: like[axis]]
    indices = np.broadcast_to(np.expand_dims(order, [a for a in range(len(shape)) if a != axis % len(shape)]), like)
    attributes, opset = {"axis": axis}, 13
    if r.random() < 0.6:
        attributes["reduction"], opset = r.choice(["none", "add", "mul", "max", "min"]), 18
        if attributes["reduction"] != "none":
            indices = whole(r, *like, low=-shape[axis], high=shape[axis] - 1)
    return Case(
        "ScatterElements", [floats(r, *shape), np.array(indices), floats(r, *like)], attributes, opset, live=(0, 2)
    )


def _one_hot(r):
    shape, depth = shape_of(r, 1, 3), r.randint(1, 4)
    indices = whole(r, *shape, low=-depth - 1, high=depth + 1)
    values = r.choice([floats(r, 2), int64(0, 1), int64(3, -2)])
    number = r.choice([np.int64(depth), int64(depth)])
    return Case("OneHot", [indices, np.asarray(number), values], some(r, axis=axis_of(r, len(shape) + 1)), 11)


def _top_k(r):
    shape = shape_of(r)
    opset = r.choice([9, 10, 11])
    axis = axis_of(r, len(shape)) if opset > 9 else len(shape) - 1
    k = r.randint(1, shape[axis])
    # With equal ones.
    x = np.float32(whole(r, *shape, low=0, high=3))
    if opset == 9:
        return Case("TopK", [x], {"k": k, "axis": axis}, 9, outputs=2)
    attributes = some(r, largest=r.choice([0, 1])) if opset == 11 else {}
    return Case("TopK", [x, int64(k)], {"axis": axis, **attributes}, opset, outputs=2)


def _non_zero(r):
    """Only of constants: what the images show must not give a size."""
    return Case("NonZero", [whole(r, *shape_of(r), low=0, high=1)], opset=13, live=())


CASES = {
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "NonZero": _non_zero,
    "OneHot": _one_hot,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "TopK": _top_k,
}
SMOOTH = {op: CASES[op] for op in ("Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND")}


@few_and_many(2, 30)
@pytest.mark.parametrize("op", CASES)
def test_values_are_those_of_onnxruntime(op, count):
    examples(CASES[op], check_values, count)


@few_and_many(1, 20)
@pytest.mark.parametrize("op", SMOOTH)
def test_gradients_are_those_of_finite_differences(op, count):
    def check(case):
        case.live = tuple(place for place in case.live if case.inputs[place].dtype == np.float32)
        check_gradient(case)

    examples(SMOOTH[op], check, count)


def test_the_largest_have_the_gradient_of_the_identity():
    check_gradient(Case("TopK", [np.float32([3, 1, 2, 5]), int64(2)], opset=11))
