from __future__ import annotations

import numpy as np
import pytest

from tests.engines.onnx.differentiable.cases import (
    Case,
    check_gradient,
    check_values,
    examples,
    few_and_many,
    floats,
    some,
    whole,
)
from tests.engines.onnx.differentiable.operators.test_convolutions import windows


def _pool(op, opsets, dilated, **choices):
    def make(r):
        spatial, size, opset = r.randint(1, 3), r.randint(5, 7), r.choice(opsets)
        kernel = [r.randint(1, 3) for _ in range(spatial)]
        attributes = {**windows(r, spatial, kernel, size, dilated=opset >= dilated), "kernel_shape": kernel}
        if opset < dilated:
            attributes.pop("dilations", None)
        attributes.update(some(r, **{name: r.choice(values) for name, values in choices.items()}))
        if opset < 10 or (op == "LpPool" and opset < 18):
            attributes.pop("ceil_mode", None)
        shape = (r.choice([1, 2, 5]), r.randint(1, 2), *[size] * spatial)
        x = whole(r, *shape, dtype=np.int8) if op == "MaxPool" and opset >= 12 and r.random() < 0.2 else None
        return Case(op, [floats(r, *shape) if x is None else x], attributes, opset)

    return make


def _whole_images(op, **choices):
    def make(r):
        shape = [r.choice([1, 2, 5]), r.randint(1, 3), *[r.randint(1, 4) for _ in range(r.randint(1, 3))]]
        attributes = some(r, **{name: r.choice(values) for name, values in choices.items()})
        return Case(op, [floats(r, *shape)], attributes, opset=9)

    return make


CASES = {
    "AveragePool": _pool("AveragePool", [9, 11, 19, 22], 19, ceil_mode=[0, 1], count_include_pad=[0, 1]),
    "GlobalAveragePool": _whole_images("GlobalAveragePool"),
    "GlobalLpPool": _whole_images("GlobalLpPool", p=[1, 2, 3]),
    "GlobalMaxPool": _whole_images("GlobalMaxPool"),
    "LpPool": _pool("LpPool", [9, 11, 18, 22], 18, ceil_mode=[0, 1], p=[1, 2, 3]),
    "MaxPool": _pool("MaxPool", [9, 10, 11, 12, 22], 10, ceil_mode=[0, 1], storage_order=[0, 1]),
}


@few_and_many(4, 30)
@pytest.mark.parametrize("op", CASES)
def test_values_are_those_of_onnxruntime(op, count):
    examples(CASES[op], check_values, count)


@few_and_many(1, 20)
@pytest.mark.parametrize("op", CASES)
def test_gradients_are_those_of_finite_differences(op, count):
    def check(case):
        if case.inputs[0].dtype == np.float32:
            check_gradient(case)

    examples(CASES[op], check, count)
