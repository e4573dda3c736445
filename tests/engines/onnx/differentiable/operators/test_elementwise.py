from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from tests.engines.onnx.differentiable.cases import (
    NEWEST,
    Case,
    check_gradient,
    check_values,
    examples,
    few_and_many,
    floats,
    gradient,
    shape_of,
    some,
    whole,
)


def _pair_of_shapes(r, most=4):
    """Shapes that broadcast."""
    shape = shape_of(r, 0, most)
    other = [size if r.random() < 0.7 else 1 for size in shape][r.randint(0, len(shape)) :]
    return (shape, other) if r.random() < 0.5 else (other, shape)


def _unary(op, low=-2.0, high=2.0, opset=NEWEST):
    return lambda r: Case(op, [floats(r, *shape_of(r, 0), low=low, high=high)], opset=opset)


def _binary(op, low=-2.0, high=2.0):
    def make(r):
        first, second = _pair_of_shapes(r)
        operands = [floats(r, *first, low=low, high=high), floats(r, *second, low=low, high=high)]
        return Case(op, operands, opset=r.choice([9, NEWEST]), live=(0, 1))

    return make


def _either(op, integral):
    """In floating point, or in integers."""
    plain = _binary(op)

    def make(r):
        case = plain(r)
        if r.random() < 0.5:
            return case
        dtype = r.choice([np.int32, np.int64])
        shapes = [array.shape for array in case.inputs]
        return Case(op, [integral(r, dtype, *shape) for shape in shapes], opset=case.opset, live=(0, 1))

    return make


def _integers(r, dtype, *shape):
    return whole(r, *shape, dtype=dtype)


def _nonzero(r, dtype, *shape):
    return np.asarray(whole(r, *shape, low=1, dtype=dtype) * np.where(whole(r, *shape) < 0, -1, 1), dtype)


def _divide(r):
    case = _either("Div", _nonzero)(r)
    if case.inputs[1].dtype == np.float32:
        case.inputs[1] = np.asarray(np.where(case.inputs[1] < 0, -1, 1) * (0.3 + np.abs(case.inputs[1])), np.float32)
    return case


def _modulo(r):
    first, second = _pair_of_shapes(r)
    if r.random() < 0.5:
        operands = [floats(r, *first, low=-9, high=9), floats(r, *second, low=0.5, high=3)]
        return Case("Mod", operands, {"fmod": 1})
    dtype = r.choice([np.int32, np.int64])
    operands = [_integers(r, dtype, *first), _nonzero(r, dtype, *second)]
    return Case("Mod", operands, some(r, fmod=r.choice([0, 1])), r.choice([10, 13]))


def _many(op):
    def make(r):
        shape = shape_of(r, 0)
        shapes = [[size if r.random() < 0.7 else 1 for size in shape] for _ in range(r.randint(1, 4))]
        return Case(op, [floats(r, *each) for each in shapes], live=tuple(range(len(shapes))))

    return make


def _compare(op):
    def make(r):
        first, second = _pair_of_shapes(r)
        if r.random() < 0.5:
            return Case(op, [floats(r, *first), floats(r, *second)])
        return Case(op, [whole(r, *first, low=-2, high=2), whole(r, *second, low=-2, high=2)], live=(0, 1))

    return make


def _logical(op):
    def make(r):
        first, second = _pair_of_shapes(r)
        operands = [whole(r, *shape, low=0, high=1).astype(bool) for shape in (first, second)]
        return Case(op, operands, live=(0, 1))

    return make


def _negate(r):
    return Case("Not", [whole(r, *shape_of(r, 0), low=0, high=1).astype(bool)])


def _strange(op):
    def make(r):
        values = floats(r, *shape_of(r))
        values.reshape(-1)[0] = r.choice([np.nan, np.inf, -np.inf])
        attributes = (
            some(r, detect_negative=r.choice([0, 1]), detect_positive=r.choice([0, 1])) if op == "IsInf" else {}
        )
        return Case(op, [np.abs(values) if r.random() < 0.5 else values], attributes, live=())

    return make


def _power(r):
    first, second = _pair_of_shapes(r)
    kind = r.randrange(3)
    if kind == 0:
        return Case("Pow", [floats(r, *first, low=0.2), floats(r, *second)], live=(0, 1))
    if kind == 1:
        return Case("Pow", [floats(r, *first), whole(r, *second, low=0, high=3)])
    exponent = r.choice([whole(r, *second, low=0, high=3), np.float32(whole(r, *second, low=0, high=3))])
    return Case("Pow", [whole(r, *first, dtype=np.int32), np.asarray(exponent)])


def _clip(r):
    x, low, high = floats(r, *shape_of(r, 0)), r.uniform(-1, 1), r.uniform(-1, 1.5)
    if r.random() < 0.3:
        return Case("Clip", [x], some(r, min=min(low, high), max=max(low, high)), 9)
    if r.random() < 0.3:
        bounds = [np.array(bound, np.int32) if r.random() < 0.7 else None for bound in (-3, 4)]
        return Case("Clip", [whole(r, 3, 4, dtype=np.int32), *bounds])
    bounds = [np.array(bound, np.float32) if r.random() < 0.7 else None for bound in (low, high)]
    return Case("Clip", [x, *bounds], opset=r.choice([11, 13]))


def _where(r):
    first, second = _pair_of_shapes(r)
    condition = whole(r, *r.choice([first, second]), low=0, high=1).astype(bool)
    if r.random() < 0.5:
        return Case("Where", [condition, floats(r, *first), floats(r, *second)], live=r.choice([(1, 2), (0, 1)]))
    return Case("Where", [condition, whole(r, *first), whole(r, *second)], live=r.choice([(1, 2), (0, 2)]))


def _cast(r):
    shape = shape_of(r, 0)
    x = r.choice(
        [
            floats(r, *shape, low=0, high=100),
            whole(r, *shape, low=0, high=100),
            whole(r, *shape, low=0, high=1).astype(bool),
            floats(r, *shape).astype(np.float16),
            floats(r, *shape).astype(np.float64),
        ]
    )
    if x.dtype.kind == "f" and x.min(initial=0) < 0:
        kinds = ["FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16", "BOOL", "INT32", "INT64"]
    else:
        kinds = ["FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16", "BOOL", "INT8", "UINT8", "INT32", "INT64", "UINT32", "INT16"]
    kind = r.choice(kinds)
    # onnxruntime's results in bfloat16 cannot be read in Python.
    to, opset = getattr(TensorProto, kind), r.choice([13, 21])
    return Case("Cast", [x], {"to": to}, opset, reference=kind == "BFLOAT16")


def _cast_like(r):
    x = r.choice([floats(r, 3, low=-100, high=100), whole(r, 3)])
    like = r.choice([floats(r, 2), whole(r, 2), whole(r, 2, dtype=np.int8), whole(r, 2, low=0, high=1).astype(bool)])
    return Case("CastLike", [x, like], opset=15)


def _stepped(op):
    # No step lies at these values.
    return lambda r: Case(op, [np.float32(whole(r, *shape_of(r))) + np.float32(r.choice([0.25, 0.5, 0.75]))])


CASES = {
    "Abs": _unary("Abs"),
    "Acos": _unary("Acos", -0.9, 0.9),
    "Acosh": _unary("Acosh", 1.1, 4),
    "Add": _either("Add", _integers),
    "And": _logical("And"),
    "Asin": _unary("Asin", -0.9, 0.9),
    "Asinh": _unary("Asinh"),
    "Atan": _unary("Atan"),
    "Atanh": _unary("Atanh", -0.9, 0.9),
    "Cast": _cast,
    "CastLike": _cast_like,
    "Ceil": _stepped("Ceil"),
    "Clip": _clip,
    "Cos": _unary("Cos"),
    "Cosh": _unary("Cosh"),
    "Div": _divide,
    "Equal": _compare("Equal"),
    "Erf": _unary("Erf"),
    "Exp": _unary("Exp"),
    "Floor": _stepped("Floor"),
    "Greater": _compare("Greater"),
    "GreaterOrEqual": _compare("GreaterOrEqual"),
    "Identity": _unary("Identity"),
    "IsInf": _strange("IsInf"),
    "IsNaN": _strange("IsNaN"),
    "Less": _compare("Less"),
    "LessOrEqual": _compare("LessOrEqual"),
    "Log": _unary("Log", 0.1, 4),
    "Max": _many("Max"),
    "Mean": _many("Mean"),
    "Min": _many("Min"),
    "Mod": _modulo,
    "Mul": _either("Mul", _integers),
    "Neg": _unary("Neg"),
    "Not": _negate,
    "Or": _logical("Or"),
    "Pow": _power,
    "Reciprocal": _unary("Reciprocal", 0.3, 3),
    "Round": _stepped("Round"),
    "Sign": _unary("Sign"),
    "Sin": _unary("Sin"),
    "Sinh": _unary("Sinh"),
    "Sqrt": _unary("Sqrt", 0.1, 4),
    "Sub": _either("Sub", _integers),
    "Sum": _many("Sum"),
    "Tan": _unary("Tan", -1.2, 1.2),
    "Where": _where,
    "Xor": _logical("Xor"),
}
SMOOTH = (
    *("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Cos", "Cosh", "Erf", "Exp", "Identity", "Log", "Neg"),
    *("Reciprocal", "Sin", "Sinh", "Sqrt", "Tan", "Max", "Mean", "Min", "Sum"),
)
SMOOTH_PAIRS = {
    "Add": _binary("Add"),
    "Div": _binary("Div", 0.3, 2),
    "Mul": _binary("Mul"),
    "Sub": _binary("Sub"),
    "Pow": _binary("Pow", 0.3, 2),
    "Mod": lambda r: Case("Mod", [floats(r, 5, low=0.1, high=0.9), np.float32([0.3])], {"fmod": 1}),
    "Clip": lambda r: Case("Clip", [floats(r, 5), np.float32(-0.5), np.float32(0.5)]),
    "Where": lambda r: Case("Where", [np.array([True, False]), floats(r, 3, 2), floats(r, 2)], live=(1, 2)),
}


@few_and_many()
@pytest.mark.parametrize("op", CASES)
def test_values_are_those_of_onnxruntime(op, count):
    examples(CASES[op], check_values, count)


@few_and_many(1, 20)
@pytest.mark.parametrize("op", [*SMOOTH, *SMOOTH_PAIRS])
def test_gradients_are_those_of_finite_differences(op, count):
    examples(SMOOTH_PAIRS.get(op) or CASES[op], check_gradient, count)


def test_a_value_at_a_bound_of_a_clip_has_a_gradient():
    case = Case("Clip", [np.float32([-1, 0, 0.5, 1, 2]), np.asarray(np.float32(0)), np.asarray(np.float32(1))])
    assert gradient(case, [(5,)]) == [0, 1, 1, 1, 0]
