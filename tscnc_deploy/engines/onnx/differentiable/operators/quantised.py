"""Quantised operators, with the straight-through estimate of rounding.

Where a gradient passes, a quantised tensor is held in floating point, with the integers as values. Rounding has the
gradient of the identity, and saturation has none, as in quantisation-aware training (Jacob et al., arXiv 1712.05877).
"""

from __future__ import annotations

import torch
from onnx import TensorProto
from torch import Tensor

from tscnc_deploy.engines.onnx.differentiable.node import (
    Node,
    Operator,
    UnsupportedError,
    axis_of,
    floating,
    integral,
    straight_through,
)
from tscnc_deploy.engines.onnx.differentiable.operators.convolutions import convolve

_RANGES: dict[int, tuple[int, int]] = {
    TensorProto.INT8: (-128, 127),
    TensorProto.UINT8: (0, 255),
    TensorProto.INT16: (-32768, 32767),
    TensorProto.UINT16: (0, 65535),
    TensorProto.INT4: (-8, 7),
    TensorProto.UINT4: (0, 15),
}
_DTYPES: dict[int, torch.dtype] = {
    TensorProto.INT8: torch.int8,
    TensorProto.UINT8: torch.uint8,
    TensorProto.INT16: torch.int16,
    TensorProto.UINT16: torch.int32,
    TensorProto.INT4: torch.int8,
    TensorProto.UINT4: torch.uint8,
}
# No zero point is an int32; it holds uint16.
_OF_DTYPES = {
    torch.int8: TensorProto.INT8,
    torch.uint8: TensorProto.UINT8,
    torch.int16: TensorProto.INT16,
    torch.int32: TensorProto.UINT16,
}


def quantise(x: Tensor, scale: Tensor, zero: Tensor | None, kind: int) -> Tensor:
    """round(x / scale) + zero, saturated to the range of an ONNX type; x, scale and zero broadcast."""
    if kind not in _RANGES:
        msg = f"quantisation to the type {kind}"
        raise UnsupportedError(msg)
    low, high = _RANGES[kind]
    steps = floating(x) / scale
    shifted = straight_through(torch.round(steps), steps)
    if zero is not None:
        shifted = shifted + floating(zero)
    # Not clamp alone, whose gradient is zero at the ends, to which values inside are rounded.
    inside = (shifted >= low) & (shifted <= high)
    return integral(torch.where(inside, shifted, shifted.detach().clamp(low, high)), _DTYPES[kind])


def dequantise(x: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
    """(x - zero) * scale; the three broadcast."""
    # The scale's dtype is that of the module.
    values = floating(x).to(scale.dtype)
    return (values if zero is None else values - zero) * scale


def kind_of(zero: Tensor | None, default: int = TensorProto.UINT8) -> int:
    """The ONNX type that a zero point has.

    Raises:
        UnsupportedError: It is not a type of 8 or 16 bits.
    """
    if zero is None:
        return default
    if zero.dtype not in _OF_DTYPES:
        msg = f"a zero point of the type {zero.dtype}"
        raise UnsupportedError(msg)
    return _OF_DTYPES[zero.dtype]


def _along(values: Tensor | None, x: Tensor, node: Node, axis: int) -> Tensor | None:
    """Scales or zero points in a shape that broadcasts with x: of the whole, of an axis, or of blocks along one."""
    if values is None or values.numel() == 1:
        return None if values is None else values.reshape(())
    axis = axis_of(axis, x.ndim)
    block = node.get("block_size", 0)
    if values.ndim == 1 and not block:
        return values.reshape(-1, *[1] * (x.ndim - axis - 1))
    if values.ndim != x.ndim or block < 1 or values.shape[axis] * block < x.shape[axis]:
        msg = f"scales or zero points of the shape {list(values.shape)} do not fit, with blocks of {block}"
        raise ValueError(msg)
    return values.repeat_interleave(block, axis).narrow(axis, 0, x.shape[axis])


def _quantize_linear(node: Node, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    axis = node.get("axis", 1)
    kind = node.get("output_dtype", 0) or kind_of(zero)
    shifts = _along(zero, x, node, axis)
    scales = _along(scale, x, node, axis)
    return quantise(floating(x), scale if scales is None else scales, shifts, kind)


def _dequantize_linear(node: Node, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    axis = node.get("axis", 1)
    scales = _along(scale, x, node, axis)
    return dequantise(x, scale if scales is None else scales, _along(zero, x, node, axis))


def _dynamic_quantize(_: Node, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    # Scale and zero point have no gradient: their share of a change in one pixel is that of one among all.
    low, high = x.detach().amin().clamp(max=0), x.detach().amax().clamp(min=0)
    scale = (high - low) / 255
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero = torch.round(-low / scale).clamp(0, 255)
    return quantise(x, scale, zero, TensorProto.UINT8), scale, zero.to(torch.uint8)


def _convolve_integers(
    node: Node, x: Tensor, weight: Tensor, x_zero: Tensor | None = None, weight_zero: Tensor | None = None
) -> Tensor:
    values = _shifted(x, x_zero)
    return integral(convolve(node, values, _shifted(weight, weight_zero, 0).to(values.dtype)), torch.int32)


def _multiply_integers(
    _: Node, a: Tensor, b: Tensor, a_zero: Tensor | None = None, b_zero: Tensor | None = None
) -> Tensor:
    left, right = _shifted(a, a_zero, -2), _shifted(b, b_zero, -1)
    wider = torch.promote_types(left.dtype, right.dtype)
    return integral(torch.matmul(left.to(wider), right.to(wider)), torch.int32)


def _shifted(x: Tensor, zero: Tensor | None, axis: int = 1) -> Tensor:
    """x - zero; a zero point for each row or column lies along an axis."""
    values = floating(x)
    if zero is None:
        return values
    shift = floating(zero)
    if shift.ndim == 1 and shift.numel() > 1:
        shift = shift.reshape(-1, *[1] * (x.ndim - axis_of(axis, x.ndim) - 1))
    return values - shift


def per_channel(values: Tensor | None, x: Tensor, axis: int) -> Tensor | None:
    """Scales or zero points of a weight, one for all or one for each element of an axis, in a shape that broadcasts."""
    if values is None or values.numel() == 1:
        return None if values is None else values.reshape(())
    return values.reshape(-1, *[1] * (x.ndim - axis_of(axis, x.ndim) - 1))


def _quantised_convolution(
    node: Node,
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor,
    weight: Tensor,
    w_scale: Tensor,
    w_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
    bias: Tensor | None = None,
) -> Tensor:
    scales = per_channel(w_scale, weight, 0)
    weights = dequantise(weight, w_scale if scales is None else scales, per_channel(w_zero, weight, 0))
    # The bias is in units of the products.
    offset = None if bias is None else dequantise(bias, x_scale * w_scale, None)
    y = convolve(node, dequantise(x, x_scale, x_zero), weights, offset)
    return quantise(y, y_scale, y_zero, kind_of(y_zero))


def _quantised_product(
    _: Node,
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
) -> Tensor:
    left = dequantise(a, _rows(a_scale, a), _rows(a_zero, a))
    right = dequantise(b, b_scale, b_zero)
    return quantise(torch.matmul(left, right), y_scale, y_zero, kind_of(y_zero))


def _rows(values: Tensor, x: Tensor) -> Tensor:
    return values.reshape(-1, 1) if values.ndim == 1 and values.numel() > 1 and x.ndim > 1 else values


OPERATORS: dict[str, Operator] = {
    "ConvInteger": _convolve_integers,
    "DequantizeLinear": _dequantize_linear,
    "DynamicQuantizeLinear": _dynamic_quantize,
    "MatMulInteger": _multiply_integers,
    "QLinearConv": _quantised_convolution,
    "QLinearMatMul": _quantised_product,
    "QuantizeLinear": _quantize_linear,
}
