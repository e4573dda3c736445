from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto

from tests.engines.onnx.differentiable.cases import (
    Case,
    axis_of,
    check_values,
    examples,
    few_and_many,
    floats,
    gradient,
    shape_of,
    whole,
)
from tests.engines.onnx.differentiable.operators.test_convolutions import convolution

LIMITS = {np.int8: (-128, 127), np.uint8: (0, 255), np.int16: (-300, 300), np.uint16: (0, 900)}


def seven_bits(r, *shape):
    """Signed weights for which no processor's sums of two products in 16 bits saturate."""
    return whole(r, *shape, low=-63, high=63, dtype=np.int8)


def quantised(r, *shape, dtype):
    low, high = LIMITS[dtype]
    return whole(r, *shape, low=low, high=high, dtype=dtype)


def scale(r, *shape):
    return floats(r, *shape, low=0.01, high=0.1)


def zero(r, *shape, dtype):
    return whole(r, *shape, low=0 if dtype in (np.uint8, np.uint16) else -5, high=9, dtype=dtype)


def _scales(r, shape, opset):
    """Of the whole, of an axis, or of blocks along one: attributes, and the shape of scales."""
    kind = r.choice(["whole", "axis", *(["block"] if opset >= 21 and len(shape) > 1 else [])])
    axis = axis_of(r, len(shape))
    if kind == "whole":
        return {}, []
    if kind == "axis":
        return {"axis": axis}, [shape[axis]]
    block = r.randint(1, 3)
    sizes = list(shape)
    sizes[axis] = -(-shape[axis] // block)
    return {"axis": axis, "block_size": block}, sizes


def _quantize(r):
    opset, shape = r.choice([10, 13, 19, 21]), shape_of(r)
    attributes, sizes = _scales(r, shape, opset) if opset >= 13 else ({}, [])
    dtype = r.choice([np.int8, np.uint8, *([np.int16, np.uint16] if opset >= 21 else [])])
    operands = [floats(r, *shape, low=-9, high=9), scale(r, *sizes)]
    if r.random() < 0.8:
        operands.append(zero(r, *sizes, dtype=dtype))
    elif opset >= 21:
        attributes["output_dtype"] = r.choice([TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16])
    return Case("QuantizeLinear", operands, attributes, opset, absolute=1.001)


def _dequantize(r):
    opset, shape = r.choice([10, 13, 19, 21]), shape_of(r)
    attributes, sizes = _scales(r, shape, opset) if opset >= 13 else ({}, [])
    dtype = r.choice([np.int8, np.uint8, *([np.int16, np.uint16] if opset >= 21 else [])])
    if r.random() < 0.2:
        return Case("DequantizeLinear", [whole(r, *shape, dtype=np.int32), scale(r, *sizes)], attributes, opset)
    operands = [quantised(r, *shape, dtype=dtype), scale(r, *sizes)]
    if r.random() < 0.8:
        operands.append(zero(r, *sizes, dtype=dtype))
    return Case("DequantizeLinear", operands, attributes, opset)


def _dynamic(r):
    low = r.choice([-3.0, 0.5])
    return Case("DynamicQuantizeLinear", [floats(r, *shape_of(r), low=low, high=r.choice([2.0, 5.0]))], outputs=3)


def _convolution(r, op):
    case = convolution(r, op)
    dtype = r.choice([np.uint8, np.int8]) if op == "QLinearConv" else np.uint8
    return replace(
        case,
        inputs=[quantised(r, *case.inputs[0].shape, dtype=dtype), seven_bits(r, *case.inputs[1].shape)],
        opset=10,
        live=(0,),
    )


def _qlinear_conv(r):
    case = _convolution(r, "QLinearConv")
    x, weight = case.inputs
    dtype, out = x.dtype.type, len(weight)
    sizes = r.choice([[], [out]])
    weight_zero = np.zeros(sizes, np.int8)
    operands = [x, scale(r), zero(r, dtype=dtype), weight, scale(r, *sizes), weight_zero]
    operands += [np.asarray(scale(r) * 50), zero(r, dtype=dtype)]
    if r.random() < 0.5:
        operands.append(whole(r, out, low=-500, high=500, dtype=np.int32))
    return replace(case, inputs=operands, absolute=1.001)


def _conv_integer(r):
    case = _convolution(r, "ConvInteger")
    zeros = r.choice([[], [zero(r, dtype=np.uint8)], [zero(r, dtype=np.uint8), np.int8(0)]])
    return replace(case, inputs=[*case.inputs, *map(np.asarray, zeros)])


def _matrices(r):
    rows, inner, columns = (r.randint(1, 4) for _ in range(3))
    outer = [r.randint(1, 2) for _ in range(r.randint(0, 1))]
    a = quantised(r, *outer, rows, inner, dtype=np.uint8)
    return a, seven_bits(r, inner, columns) if r.random() < 0.5 else quantised(r, inner, columns, dtype=np.uint8)


def _matmul_integer(r):
    a, b = _matrices(r)
    zeros = [zero(r, dtype=np.uint8), zero(r, *r.choice([[], [b.shape[1]]]), dtype=b.dtype.type)]
    return Case("MatMulInteger", [a, b, *zeros[: r.randint(0, 2)]], opset=10, live=r.choice([(0,), (0, 1)]))


def _qlinear_matmul(r):
    a, b = _matrices(r)
    sizes = r.choice([[], [b.shape[1]]])
    operands = [a, scale(r), zero(r, dtype=np.uint8), b, scale(r, *sizes), zero(r, *sizes, dtype=b.dtype.type)]
    return Case(
        "QLinearMatMul", [*operands, np.asarray(scale(r) * 20), zero(r, dtype=np.uint8)], opset=10, absolute=1.001
    )


CASES = {
    "ConvInteger": _conv_integer,
    "DequantizeLinear": _dequantize,
    "DynamicQuantizeLinear": lambda r: replace(_dynamic(r), absolute=1.001),
    "MatMulInteger": _matmul_integer,
    "QLinearConv": _qlinear_conv,
    "QLinearMatMul": _qlinear_matmul,
    "QuantizeLinear": _quantize,
}


@few_and_many(2, 30)
@pytest.mark.parametrize("op", CASES)
def test_values_are_those_of_onnxruntime(op, count):
    examples(CASES[op], check_values, count)


def test_rounding_has_the_gradient_of_the_identity_and_saturation_has_none():
    operands = [np.float32([0.3, 100, -100]), np.float32(0.5), np.int8(3)]
    assert gradient(Case("QuantizeLinear", list(map(np.asarray, operands))), [(3,)]) == [2, 0, 0]


def test_dequantising_has_the_scale_as_its_gradient():
    operands = [np.int8([1, 2]), np.float32(0.25), np.int8(1)]
    assert gradient(Case("DequantizeLinear", list(map(np.asarray, operands))), [(2,)]) == [0.25, 0.25]


def test_a_quantised_product_has_the_gradient_of_the_one_without_rounding():
    one, none = np.array(0, np.uint8), np.array(0, np.int8)
    weight, half = np.array([[2], [-4]], np.int8), np.array(0.5, np.float32)
    operands = [np.array([[9, 1]], np.uint8), half, one, weight, half, none, np.array(1, np.float32), one]
    assert gradient(Case("QLinearMatMul", operands), [(1, 1)]) == [0.5, -1]


@pytest.mark.parametrize("op", ["Floor", "Ceil", "Round"])
def test_steps_have_the_gradient_of_the_identity(op):
    assert gradient(Case(op, [np.float32([0.25, -1.75])]), [(2,)]) == [1, 1]


def test_the_sign_has_the_gradient_of_the_identity_near_zero():
    assert gradient(Case("Sign", [np.float32([0.5, -0.5, 2])]), [(3,)]) == [1, 1, 0]


def test_casts_to_integers_have_the_gradient_of_the_identity():
    assert gradient(Case("Cast", [np.float32([0.5, 1.5])], {"to": TensorProto.INT32}), [(2,)]) == [1, 1]


def test_the_scales_of_dynamic_quantisation_have_no_gradient():
    found = gradient(Case("DynamicQuantizeLinear", [np.float32([0, 51, 255])], outputs=3), [(3,), (), ()])
    assert found == [1, 1, 1]
