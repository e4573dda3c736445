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


def _reduce(op, low=-2.0, whole_numbers=True):
    """The axes are an attribute before operator set 18 (13 for ReduceSum), and an input from then on."""

    def make(r):
        shape = shape_of(r, 0 if op != "ReduceLogSumExp" else 1)
        opset = r.choice([9, 11, 13, 18])
        attributes = some(r, keepdims=r.choice([0, 1]))
        axes = r.sample(range(len(shape)), r.randint(0, len(shape)))
        axes = [axis - len(shape) if opset >= 11 and r.random() < 0.5 else axis for axis in axes]
        x = floats(r, *shape, low=low)
        if whole_numbers and r.random() < 0.2:
            x = whole(r, *shape, low=1, high=5, dtype=np.int32)
        if opset < (13 if op == "ReduceSum" else 18):
            return Case(op, [x], {**attributes, **({"axes": axes} if axes else {})}, opset)
        attributes |= some(r, noop_with_empty_axes=r.choice([0, 1]))
        return Case(op, [x, *([int64(*axes)] if axes or r.random() < 0.3 else [])], attributes, opset)

    return make


def _argument(op):
    def make(r):
        shape, opset = shape_of(r), r.choice([9, 11, 12, 13])
        attributes = some(r, axis=axis_of(r, len(shape)) if opset >= 11 else 0, keepdims=r.choice([0, 1]))
        if opset >= 12:
            attributes |= some(r, select_last_index=r.choice([0, 1]))
        return Case(op, [np.float32(whole(r, *shape, low=0, high=2))], attributes, opset)

    return make


def _cumulative_sum(r):
    shape = shape_of(r)
    attributes = some(r, exclusive=r.choice([0, 1]), reverse=r.choice([0, 1]))
    x = whole(r, *shape, dtype=np.int32) if r.random() < 0.3 else floats(r, *shape)
    return Case("CumSum", [x, np.int64(axis_of(r, len(shape)))], attributes, r.choice([11, 14]))


CASES = {
    "ArgMax": _argument("ArgMax"),
    "ArgMin": _argument("ArgMin"),
    "CumSum": _cumulative_sum,
    "ReduceL1": _reduce("ReduceL1"),
    "ReduceL2": _reduce("ReduceL2"),
    "ReduceLogSum": _reduce("ReduceLogSum", low=0.1, whole_numbers=False),
    "ReduceLogSumExp": _reduce("ReduceLogSumExp", whole_numbers=False),
    "ReduceMax": _reduce("ReduceMax"),
    "ReduceMean": _reduce("ReduceMean"),
    "ReduceMin": _reduce("ReduceMin"),
    # Of integers it may not fit into 32 bits, and then depends on how it is computed.
    "ReduceProd": _reduce("ReduceProd", whole_numbers=False),
    "ReduceSum": _reduce("ReduceSum"),
    "ReduceSumSquare": _reduce("ReduceSumSquare"),
}
SMOOTH = [op for op in CASES if not op.startswith("Arg")]


@few_and_many(2, 30)
@pytest.mark.parametrize("op", CASES)
def test_values_are_those_of_onnxruntime(op, count):
    examples(CASES[op], check_values, count)


@few_and_many(1, 20)
@pytest.mark.parametrize("op", SMOOTH)
def test_gradients_are_those_of_finite_differences(op, count):
    def check(case):
        if case.inputs[0].dtype == np.float32:
            check_gradient(case)

    examples(CASES[op], check, count)
