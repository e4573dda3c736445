"""Operators of onnxruntime's own (domain com.microsoft) that optimised and quantised files contain.

Described in onnxruntime's docs/ContribOperators.md.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from tscnc_deploy.engines.onnx.differentiable.node import Node, Operator, UnsupportedError, floating
from tscnc_deploy.engines.onnx.differentiable.operators.convolutions import convolve
from tscnc_deploy.engines.onnx.differentiable.operators.linear import gemm
from tscnc_deploy.engines.onnx.differentiable.operators.quantised import (
    dequantise,
    kind_of,
    per_channel,
    quantise,
)

DOMAIN = "com.microsoft"


def _activated(node: Node, x: Tensor) -> Tensor:
    """The activation that a fused operator ends with."""
    kind = node.get("activation", "")
    parameters = list(node.get("activation_params") or [])
    if kind == "":
        return x
    if kind == "Relu":
        return torch.relu(x)
    if kind == "LeakyRelu":
        alpha = parameters[0] if parameters else node.get("activation_alpha", 0.01)
        return functional.leaky_relu(x, alpha)
    if kind == "Clip":
        return x.clamp(parameters[0], parameters[1])
    if kind == "HardSigmoid":
        return (parameters[0] * x + parameters[1]).clamp(0, 1)
    if kind in ("Sigmoid", "Tanh"):
        return torch.sigmoid(x) if kind == "Sigmoid" else torch.tanh(x)
    msg = f"{node.op} with the activation {kind!r}"
    raise UnsupportedError(msg)


def _fused_convolution(
    node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None, added: Tensor | None = None
) -> Tensor:
    y = convolve(node, x, weight, bias)
    return _activated(node, y if added is None else y + added)


def _fused_gemm(node: Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    return _activated(node, gemm(node, a, b, c))


def _fused_matmul(node: Node, a: Tensor, b: Tensor) -> Tensor:
    if node.get("transBatchA", 0) or node.get("transBatchB", 0):
        msg = "FusedMatMul with transposed batches"
        raise UnsupportedError(msg)
    a = a.transpose(-1, -2) if node.get("transA", 0) else a
    b = b.transpose(-1, -2) if node.get("transB", 0) else b
    return node.get("alpha", 1.0) * torch.matmul(a, b)


def _gelu(_: Node, x: Tensor) -> Tensor:
    return functional.gelu(x)


def _bias_gelu(_: Node, x: Tensor, bias: Tensor) -> Tensor:
    return functional.gelu(x + bias)


def _fast_gelu(_: Node, x: Tensor, bias: Tensor | None = None) -> Tensor:
    return functional.gelu(x if bias is None else x + bias, approximate="tanh")


def _quick_gelu(node: Node, x: Tensor) -> Tensor:
    return x * torch.sigmoid(node.get("alpha", 1.702) * x)


def _skip_layer_norm(
    node: Node, x: Tensor, skip: Tensor, gamma: Tensor, beta: Tensor | None = None, bias: Tensor | None = None
) -> tuple[Tensor, ...]:
    total = x + skip
    if bias is not None:
        total = total + bias
    normal = functional.layer_norm(total, total.shape[-1:], gamma, beta, node.get("epsilon", 1e-12))
    if node.outputs in (2, 3):
        msg = "output 2 of SkipLayerNormalization"
        raise UnsupportedError(msg)
    return (normal, normal, normal, total)[: node.outputs]


def _quantised_gemm(
    node: Node,
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor,
    c: Tensor | None = None,
    y_scale: Tensor | None = None,
    y_zero: Tensor | None = None,
) -> Tensor:
    a_values, b_values = floating(a) - floating(a_zero), floating(b)
    columns = 0 if node.get("transB", 0) else 1
    zero = per_channel(b_zero, b, columns)
    b_values = b_values if zero is None else b_values - floating(zero)
    a_values = a_values.t() if node.get("transA", 0) else a_values
    b_values = b_values.t() if node.get("transB", 0) else b_values
    product = torch.matmul(a_values, b_values.to(a_values.dtype))
    if c is not None:
        product = product + floating(c)
    y = node.get("alpha", 1.0) * a_scale * b_scale * product
    return y if y_scale is None else quantise(y, y_scale, y_zero, kind_of(y_zero))


def _quantised_pair(function: str) -> Operator:
    def compute(
        _: Node,
        a: Tensor,
        a_scale: Tensor,
        a_zero: Tensor | None,
        b: Tensor,
        b_scale: Tensor,
        b_zero: Tensor | None,
        y_scale: Tensor,
        y_zero: Tensor | None = None,
    ) -> Tensor:
        left, right = dequantise(a, a_scale, a_zero), dequantise(b, b_scale, b_zero)
        return quantise(left + right if function == "add" else left * right, y_scale, y_zero, kind_of(y_zero))

    return compute


def _requantised(function: str) -> Operator:
    def compute(
        node: Node, x: Tensor, x_scale: Tensor, x_zero: Tensor | None, y_scale: Tensor, y_zero: Tensor | None = None
    ) -> Tensor:
        values = dequantise(x, x_scale, x_zero)
        if function == "leaky":
            found = functional.leaky_relu(values, node.get("alpha", 0.01))
        elif function == "sigmoid":
            found = torch.sigmoid(values)
        elif node.get("channels_last", 0):
            found = values.mean(tuple(range(1, values.ndim - 1)), keepdim=True)
        else:
            found = values.mean(tuple(range(2, values.ndim)), keepdim=True)
        return quantise(found, y_scale, y_zero, kind_of(y_zero))

    return compute


def _quantised_concat(node: Node, y_scale: Tensor, y_zero: Tensor, *parts: Tensor) -> Tensor:
    values = [dequantise(*parts[place : place + 3]) for place in range(0, len(parts), 3)]
    return quantise(torch.cat(values, node.get("axis")), y_scale, y_zero, kind_of(y_zero))


_OWN: dict[str, Operator] = {
    "BiasGelu": _bias_gelu,
    "FastGelu": _fast_gelu,
    "FusedConv": _fused_convolution,
    "FusedGemm": _fused_gemm,
    "FusedMatMul": _fused_matmul,
    "Gelu": _gelu,
    "QGemm": _quantised_gemm,
    "QLinearAdd": _quantised_pair("add"),
    "QLinearConcat": _quantised_concat,
    "QLinearGlobalAveragePool": _requantised("mean"),
    "QLinearLeakyRelu": _requantised("leaky"),
    "QLinearMul": _quantised_pair("multiply"),
    "QLinearSigmoid": _requantised("sigmoid"),
    "QuickGelu": _quick_gelu,
    "SkipLayerNormalization": _skip_layer_norm,
}
OPERATORS: dict[str, Operator] = {f"{DOMAIN}.{name}": operator for name, operator in _OWN.items()}
