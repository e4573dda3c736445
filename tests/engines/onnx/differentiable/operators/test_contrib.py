from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.engines.onnx.differentiable.cases import (
    Case,
    check_gradient,
    check_values,
    examples,
    few_and_many,
    floats,
    shape_of,
    some,
    whole,
)
from tests.engines.onnx.differentiable.operators.test_convolutions import convolution
from tests.engines.onnx.differentiable.operators.test_quantised import quantised, scale, seven_bits, zero

OPSET = 17


def _activation(r):
    kind = r.choice(["", "Relu", "LeakyRelu", "Clip", "HardSigmoid", "Sigmoid", "Tanh"])
    parameters = {"LeakyRelu": [0.2], "Clip": [-0.5, 0.5], "HardSigmoid": [0.3, 0.4]}
    found = {"activation": kind} if kind else {}
    return {**found, **({"activation_params": parameters[kind]} if kind in parameters else {})}


def _convolution(r):
    case = convolution(r, "com.microsoft.FusedConv")
    spatial = case.inputs[0].ndim - 2
    # Without its shape, onnxruntime takes the kernel as one-dimensional.
    attributes = {**case.attributes, **_activation(r), "kernel_shape": list(case.inputs[1].shape[-spatial:])}
    return replace(case, attributes=attributes, opset=OPSET)


def _gemm(r):
    attributes = some(r, alpha=0.5, beta=0.25)
    activation = r.choice(["Relu", "LeakyRelu", "Sigmoid", "Tanh"])
    attributes["activation"] = activation
    if activation == "LeakyRelu":
        attributes["activation_alpha"] = 0.2
    operands = [floats(r, 2, 3), floats(r, 3, 4), floats(r, 4)]
    return Case("com.microsoft.FusedGemm", operands, attributes, OPSET, live=(0, 1, 2))


def _matmul(r):
    attributes = some(r, alpha=0.5, transA=r.choice([0, 1]), transB=r.choice([0, 1]))
    outer = r.choice([[], [2]])
    a = [*outer, *([3, 2] if attributes.get("transA") else [2, 3])]
    b = [*outer, *([4, 3] if attributes.get("transB") else [3, 4])]
    return Case("com.microsoft.FusedMatMul", [floats(r, *a), floats(r, *b)], attributes, OPSET, live=(0, 1))


def _plain(op, bias="never", **attributes):
    def make(r):
        shape = shape_of(r, 2)
        parts = [floats(r, shape[-1])] if bias == "always" or (bias == "sometimes" and r.random() < 0.5) else []
        return Case(f"com.microsoft.{op}", [floats(r, *shape), *parts], some(r, **attributes), OPSET, live=(0, 1))

    return make


def _skip_norm(r):
    size = r.randint(2, 5)
    x = [2, 3, size]
    parts = [floats(r, size) for _ in range(r.randint(1, 3))]
    operands = [floats(r, *x), floats(r, *x), *parts]
    attributes = some(r, epsilon=1e-3)
    return Case("com.microsoft.SkipLayerNormalization", operands, attributes, OPSET, live=(0, 1), relative=2e-5)


def _qgemm(r):
    attributes = some(r, alpha=0.5, transA=r.choice([0, 1]), transB=r.choice([0, 1]))
    a = [3, 2] if attributes.get("transA") else [2, 3]
    b = [4, 3] if attributes.get("transB") else [3, 4]
    sizes = r.choice([[], [4]])
    operands = [quantised(r, *a, dtype=np.uint8), scale(r), zero(r, dtype=np.uint8)]
    operands += [seven_bits(r, *b), scale(r, *sizes), zero(r, *sizes, dtype=np.int8)]
    c = whole(r, 4, low=-500, high=500, dtype=np.int32) if r.random() < 0.5 else None
    operands.append(c)
    if r.random() < 0.5:
        operands += [np.asarray(scale(r) * 20), zero(r, dtype=np.uint8)]
        return Case("com.microsoft.QGemm", operands, attributes, OPSET, absolute=1.001)
    return Case("com.microsoft.QGemm", operands, attributes, OPSET)


def _tensor(r, *shape):
    dtype = r.choice([np.uint8, np.int8])
    return [quantised(r, *shape, dtype=dtype), scale(r), zero(r, dtype=dtype)], dtype


def _pair(op):
    def make(r):
        a, dtype = _tensor(r, 2, 3, 4)
        b = [quantised(r, *r.choice([[2, 3, 4], [4], [3, 1]]), dtype=dtype), scale(r), zero(r, dtype=dtype)]
        operands = [*a, *b, scale(r), zero(r, dtype=dtype)]
        return Case(f"com.microsoft.{op}", operands, {}, OPSET, live=(0, 3), absolute=1.001)

    return make


def _requantised(op, **attributes):
    def make(r):
        x, dtype = _tensor(r, 2, 3, 4, 5)
        operands = [*x, scale(r), zero(r, dtype=dtype)]
        return Case(f"com.microsoft.{op}", operands, some(r, **attributes), OPSET, absolute=1.001)

    return make


def _mean(r):
    case = _requantised("QLinearGlobalAveragePool")(r)
    return replace(case, attributes={"channels_last": r.choice([0, 1])})


def _concat(r):
    dtype = np.uint8
    parts = [[quantised(r, 2, size, 3, dtype=dtype), scale(r), zero(r, dtype=dtype)] for size in (1, 2)]
    operands = [scale(r), zero(r, dtype=dtype), *parts[0], *parts[1]]
    return Case(
        "com.microsoft.QLinearConcat", operands, {"axis": r.choice([1, -2])}, OPSET, live=(2, 5), absolute=1.001
    )


CASES = {
    "com.microsoft.BiasGelu": _plain("BiasGelu", "always"),
    "com.microsoft.FastGelu": _plain("FastGelu", "sometimes"),
    "com.microsoft.FusedConv": _convolution,
    "com.microsoft.FusedGemm": _gemm,
    "com.microsoft.FusedMatMul": _matmul,
    "com.microsoft.Gelu": _plain("Gelu"),
    "com.microsoft.QGemm": _qgemm,
    "com.microsoft.QLinearAdd": _pair("QLinearAdd"),
    "com.microsoft.QLinearConcat": _concat,
    "com.microsoft.QLinearGlobalAveragePool": _mean,
    "com.microsoft.QLinearLeakyRelu": _requantised("QLinearLeakyRelu", alpha=0.3),
    "com.microsoft.QLinearMul": _pair("QLinearMul"),
    "com.microsoft.QLinearSigmoid": _requantised("QLinearSigmoid"),
    "com.microsoft.QuickGelu": _plain("QuickGelu", alpha=1.5),
    "com.microsoft.SkipLayerNormalization": _skip_norm,
}


@few_and_many(2, 30)
@pytest.mark.parametrize("op", CASES)
def test_values_are_those_of_onnxruntime(op, count):
    examples(CASES[op], check_values, count)


@few_and_many(1, 20)
@pytest.mark.parametrize("op", [op for op in CASES if ".Q" not in op or "QuickGelu" in op])
def test_gradients_are_those_of_finite_differences(op, count):
    examples(CASES[op], check_gradient, count)
