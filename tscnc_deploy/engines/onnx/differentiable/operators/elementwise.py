"""Arithmetic, comparisons and casts, element by element with numpy's broadcasting."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import torch
from onnx import TensorProto
from torch import Tensor

from tscnc_deploy.engines.onnx.differentiable.node import Node, Operator, UnsupportedError, straight_through

_HALVES: dict[int, torch.dtype] = {TensorProto.FLOAT16: torch.float16, TensorProto.BFLOAT16: torch.bfloat16}
_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE)
INTEGERS: dict[int, torch.dtype] = {
    TensorProto.INT8: torch.int8,
    TensorProto.UINT8: torch.uint8,
    TensorProto.INT16: torch.int16,
    TensorProto.UINT16: torch.int32,
    TensorProto.INT32: torch.int32,
    TensorProto.UINT32: torch.int64,
    TensorProto.INT64: torch.int64,
    TensorProto.UINT64: torch.int64,
}
"""The dtype that holds each of ONNX's integers; unsigned ones are held by wider signed ones."""


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


def _divide(_: Node, a: Tensor, b: Tensor) -> Tensor:
    if a.is_floating_point() or b.is_floating_point():
        return a / b
    return torch.div(a, b, rounding_mode="trunc")


def _modulo(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.fmod(a, b) if node.get("fmod", 0) else torch.remainder(a, b)


def _mean(_: Node, *operands: Tensor) -> Tensor:
    return reduce(torch.add, operands) / len(operands)


def _power(_: Node, a: Tensor, b: Tensor) -> Tensor:
    # The exponent must not raise the result's type.
    return torch.pow(a, b.to(a.dtype)) if b.is_floating_point() and a.is_floating_point() else torch.pow(a, b)


def _clip(node: Node, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    least, most = node.get("min"), node.get("max")
    if low is not None:
        least = low.to(x.dtype).reshape(())
    if high is not None:
        most = high.to(x.dtype).reshape(())
    if least is not None:
        x = torch.clamp(x, min=least)
    return x if most is None else torch.clamp(x, max=most)


def _where(_: Node, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(condition.bool(), a, b)


def _cast(node: Node, x: Tensor, like: Tensor | None = None) -> Tensor:
    if like is not None:
        return _cast_from(x, like.dtype) if like.is_floating_point() or like.dtype == torch.bool else x.to(like.dtype)
    return cast(x, node.get("to"))


def cast(x: Tensor, to: int) -> Tensor:
    """The values as an ONNX type has them, in a floating dtype if they were in one, so that gradients pass.

    Raises:
        UnsupportedError: The type is one that image classifiers are not exported with, such as text.
    """
    if to in _FLOATS:
        return x if x.is_floating_point() else x.to(torch.get_default_dtype())
    if to in _HALVES:
        wide = x if x.is_floating_point() else x.to(torch.get_default_dtype())
        return straight_through(wide.to(_HALVES[to]).to(wide.dtype), wide)
    if to == TensorProto.BOOL:
        return x != 0
    if to in INTEGERS:
        # What has a gradient stays in floating point, as later operators compute with its values.
        return straight_through(x.trunc(), x) if x.requires_grad else x.to(INTEGERS[to])
    msg = f"a cast to the type {to}"
    raise UnsupportedError(msg)


def _cast_from(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x if x.is_floating_point() and dtype != torch.bool else x.to(dtype)


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
    "IsInf": _unary(torch.isinf),
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
