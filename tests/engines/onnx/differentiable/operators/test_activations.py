from __future__ import annotations

import pytest

from tests.engines.onnx.differentiable.cases import (
    NEWEST,
    Case,
    axis_of,
    check_gradient,
    check_values,
    examples,
    few_and_many,
    floats,
    shape_of,
    some,
)


def _plain(op, low=-4.0, high=4.0, opset=NEWEST, **ranges):
    """Attributes are drawn from a range each."""

    def make(r):
        attributes = some(r, **{name: round(r.uniform(*bounds), 3) for name, bounds in ranges.items()})
        return Case(op, [floats(r, *shape_of(r), low=low, high=high)], attributes, opset)

    return make


def _prelu(r):
    shape = shape_of(r, 2)
    slope = floats(r, *r.choice([[1], shape, [shape[1], *[1] * (len(shape) - 2)], shape[1:]]))
    return Case("PRelu", [floats(r, *shape), slope], opset=r.choice([9, 16]), live=(0, 1))


def _gelu(r):
    return Case("Gelu", [floats(r, *shape_of(r))], some(r, approximate=r.choice(["none", "tanh"])))


def _over_axis(op):
    def make(r):
        opset, shape = r.choice([9, 11, 13]), shape_of(r)
        axis = axis_of(r, len(shape)) if opset >= 11 else r.randrange(len(shape))
        # Without it, the default of older versions is axis 1.
        attributes = some(r, axis=axis) if opset >= 13 or len(shape) > 1 else {"axis": axis}
        return Case(op, [floats(r, *shape)], attributes, opset)

    return make


CASES = {
    "Celu": _plain("Celu", alpha=(0.3, 2)),
    "Elu": _plain("Elu", alpha=(0.3, 2)),
    "Gelu": _gelu,
    "HardSigmoid": _plain("HardSigmoid", alpha=(0.1, 1), beta=(-0.5, 0.5)),
    "HardSwish": _plain("HardSwish"),
    "LeakyRelu": _plain("LeakyRelu", alpha=(-0.5, 0.5)),
    "LogSoftmax": _over_axis("LogSoftmax"),
    "Mish": _plain("Mish"),
    "PRelu": _prelu,
    "Relu": _plain("Relu"),
    "Selu": _plain("Selu", alpha=(0.5, 2), gamma=(0.5, 2)),
    "Shrink": _plain("Shrink", bias=(-1, 1), lambd=(0, 1)),
    "Sigmoid": _plain("Sigmoid"),
    "Softmax": _over_axis("Softmax"),
    "Softplus": _plain("Softplus", -40, 40),
    "Softsign": _plain("Softsign"),
    "Swish": _plain("Swish", opset=24, alpha=(0.5, 2)),
    "Tanh": _plain("Tanh"),
    "ThresholdedRelu": _plain("ThresholdedRelu", alpha=(-1, 1)),
}


@few_and_many()
@pytest.mark.parametrize("op", CASES)
def test_values_are_those_of_onnxruntime(op, count):
    examples(CASES[op], check_values, count)


@few_and_many(1, 20)
@pytest.mark.parametrize("op", CASES)
def test_gradients_are_those_of_finite_differences(op, count):
    examples(CASES[op], check_gradient, count)
