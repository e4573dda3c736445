"""Arithmetic, comparisons and casts, element by element with numpy's broadcasting."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce

import torch
from onnx import TensorProto
from torch import Tensor
from torch.nn import functional

from tscnc_deploy.engines.onnx.differentiable.node import (
    Node,
    Operator,
    UnsupportedError,
    floating,
    integral,
    straight_through,
)

_HALVES: dict[int, torch.dtype] = {TensorProto.FLOAT16: torch.float16, TensorProto.BFLOAT16: torch.bfloat16}
_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE)
# Torch has few operators for unsigned integers of more than 8 bits; wider signed ones hold them.
_INTEGERS: dict[int, torch.dtype] = {
    TensorProto.INT8: torch.int8,
    TensorProto.UINT8: torch.uint8,
    TensorProto.INT16: torch.int16,
    TensorProto.UINT16: torch.int32,
    TensorProto.INT32: torch.int32,
    TensorProto.UINT32: torch.int64,
    TensorProto.INT64: torch.int64,
    TensorProto.UINT64: torch.int64,
}


def _unary(function: Callable[[Tensor], Tensor]) -> Operator:
    def compute(_: Node, x: Tensor) -> Tensor:
        return function(x)

    return compute


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    def compute(_: Node, a: Tensor, b: Tensor) -> Tensor:
        return function(a, b)

    return compute


def _folded(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    def compute(_: Node, *operands: Tensor) -> Tensor:
        return reduce(function, operands)

    return compute


def _stepped(function: Callable[[Tensor], Tensor]) -> Operator:
    """An operator whose gradient is zero wherever it exists; attacks are given that of the identity."""

    def compute(_: Node, x: Tensor) -> Tensor:
        return straight_through(function(x), x)

    return compute


def _sign(_: Node, x: Tensor) -> Tensor:
    # The identity within [-1, 1], as binarised networks are trained with.
    return straight_through(x.sign(), x.clamp(-1, 1)) if x.is_floating_point() else x.sign()


def _divide(node: Node, a: Tensor, b: Tensor) -> Tensor:
    if not a.is_floating_point() and not b.is_floating_point():
        return torch.div(a, b, rounding_mode="trunc")
    quotient = a / b
    return straight_through(quotient.trunc(), quotient) if node.integral else quotient


def _is_infinite(node: Node, x: Tensor) -> Tensor:
    found = torch.isinf(x)
    if not node.get("detect_negative", 1):
        found = found & (x > 0)
    return found if node.get("detect_positive", 1) else found & (x < 0)


def _modulo(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.fmod(a, b) if node.get("fmod", 0) else torch.remainder(a, b)


def _mean(_: Node, *operands: Tensor) -> Tensor:
    return reduce(torch.add, operands) / len(operands)


def _power(_: Node, a: Tensor, b: Tensor) -> Tensor:
    # The exponent does not change the type of the result.
    return torch.pow(a, b).to(a.dtype)


def _clip(node: Node, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    least, most = (
        given if bound is None else bound.to(x.dtype).item()
        for given, bound in ((node.get("min"), low), (node.get("max"), high))
    )
    if not x.is_floating_point():
        return x.clamp(least, most) if (least, most) != (None, None) else x
    most = math.inf if most is None else most
    least = -math.inf if least is None else min(least, most)
    # As hardtanh, because attacks that make gradients smooth look for it. Its own gradient is zero at the bounds: a
    # black pixel must be able to become brighter.
    return torch.where((x >= least) & (x <= most), x, functional.hardtanh(x, least, most))


def _where(_: Node, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(condition.bool(), a, b)


def _cast(node: Node, x: Tensor, like: Tensor | None = None) -> Tensor:
    if like is None:
        return cast(x, node.get("to"))
    if like.is_floating_point() and not node.integral:
        return floating(x)
    if like.dtype == torch.bool:
        return x != 0
    return _truncated(x, torch.int64 if like.is_floating_point() else like.dtype)


def cast(x: Tensor, to: int) -> Tensor:
    """The values as an ONNX type has them, in a floating dtype if they were in one, so that gradients pass.

    Raises:
        UnsupportedError: The type is one that image classifiers are not exported with, such as text.
    """
    if to in _FLOATS:
        return floating(x)
    if to in _HALVES:
        wide = floating(x)
        return straight_through(wide.to(_HALVES[to]).to(wide.dtype), wide)
    if to == TensorProto.BOOL:
        return x != 0
    if to in _INTEGERS:
        return _truncated(x, _INTEGERS[to])
    msg = f"a cast to the type {to}"
    raise UnsupportedError(msg)


def _truncated(x: Tensor, dtype: torch.dtype) -> Tensor:
    return integral(straight_through(x.trunc(), x) if x.is_floating_point() else x, dtype)


def _xor(_: Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.logical_xor(a, b)


OPERATORS: dict[str, Operator] = {
    "Abs": _unary(torch.abs),
    "Acos": _unary(torch.acos),
    "Acosh": _unary(torch.acosh),
    "Add": _binary(torch.add),
    "And": _binary(torch.logical_and),
    "Asin": _unary(torch.asin),
    "Asinh": _unary(torch.asinh),
    "Atan": _unary(torch.atan),
    "Atanh": _unary(torch.atanh),
    "Cast": _cast,
    "CastLike": _cast,
    "Ceil": _stepped(torch.ceil),
    "Clip": _clip,
    "Cos": _unary(torch.cos),
    "Cosh": _unary(torch.cosh),
    "Div": _divide,
    "Equal": _binary(torch.eq),
    "Erf": _unary(torch.erf),
    "Exp": _unary(torch.exp),
    "Floor": _stepped(torch.floor),
    "Greater": _binary(torch.gt),
    "GreaterOrEqual": _binary(torch.ge),
    "Identity": _unary(lambda x: x),
    "IsInf": _is_infinite,
    "IsNaN": _unary(torch.isnan),
    "Less": _binary(torch.lt),
    "LessOrEqual": _binary(torch.le),
    "Log": _unary(torch.log),
    "Max": _folded(torch.maximum),
    "Mean": _mean,
    "Min": _folded(torch.minimum),
    "Mod": _modulo,
    "Mul": _binary(torch.mul),
    "Neg": _unary(torch.neg),
    "Not": _unary(torch.logical_not),
    "Or": _binary(torch.logical_or),
    "Pow": _power,
    "Reciprocal": _unary(torch.reciprocal),
    "Round": _stepped(torch.round),
    "Sign": _sign,
    "Sin": _unary(torch.sin),
    "Sinh": _unary(torch.sinh),
    "Sqrt": _unary(torch.sqrt),
    "Sub": _binary(torch.sub),
    "Sum": _folded(torch.add),
    "Tan": _unary(torch.tan),
    "Where": _where,
    "Xor": _xor,
}
