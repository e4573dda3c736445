"""Activations and softmax."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from tscnc_deploy.engines.onnx.differentiable.node import Node, Operator


def _relu(_: Node, x: Tensor) -> Tensor:
    return torch.relu(x)


def _leaky_relu(node: Node, x: Tensor) -> Tensor:
    return functional.leaky_relu(x, node.get("alpha", 0.01))


def _prelu(_: Node, x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x < 0, slope * x, x)


def _elu(node: Node, x: Tensor) -> Tensor:
    return functional.elu(x, node.get("alpha", 1.0))


def _selu(node: Node, x: Tensor) -> Tensor:
    alpha, gamma = node.get("alpha", 1.67326319217681884765625), node.get("gamma", 1.05070102214813232421875)
    return gamma * torch.where(x > 0, x, alpha * torch.expm1(x.clamp(max=0)))


def _celu(node: Node, x: Tensor) -> Tensor:
    alpha = node.get("alpha", 1.0)
    return x.clamp(min=0) + (alpha * torch.expm1(x / alpha)).clamp(max=0)


def _hard_sigmoid(node: Node, x: Tensor) -> Tensor:
    return (node.get("alpha", 0.2) * x + node.get("beta", 0.5)).clamp(0, 1)


def _hard_swish(_: Node, x: Tensor) -> Tensor:
    return functional.hardswish(x)


def _sigmoid(_: Node, x: Tensor) -> Tensor:
    return torch.sigmoid(x)


def _tanh(_: Node, x: Tensor) -> Tensor:
    return torch.tanh(x)


def _softplus(_: Node, x: Tensor) -> Tensor:
    return functional.softplus(x, threshold=30)


def _softsign(_: Node, x: Tensor) -> Tensor:
    return functional.softsign(x)


def _mish(_: Node, x: Tensor) -> Tensor:
    return functional.mish(x)


def _swish(node: Node, x: Tensor) -> Tensor:
    return x * torch.sigmoid(node.get("alpha", 1.0) * x)


def _gelu(node: Node, x: Tensor) -> Tensor:
    return functional.gelu(x, approximate=node.get("approximate", "none"))


def _thresholded_relu(node: Node, x: Tensor) -> Tensor:
    return torch.where(x > node.get("alpha", 1.0), x, torch.zeros_like(x))


def _shrink(node: Node, x: Tensor) -> Tensor:
    bias, limit = node.get("bias", 0.0), node.get("lambd", 0.5)
    return torch.where(x < -limit, x + bias, torch.where(x > limit, x - bias, torch.zeros_like(x)))


def _over_axis(node: Node, x: Tensor, logarithm: bool) -> Tensor:
    function = functional.log_softmax if logarithm else functional.softmax
    if node.opset >= 13:
        return function(x, dim=node.axis(x.ndim, -1))
    # Until operator set 13, all axes from this one on were one.
    axis = node.axis(x.ndim, 1)
    return function(x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:])), dim=1).reshape(x.shape)


def _softmax(node: Node, x: Tensor) -> Tensor:
    return _over_axis(node, x, False)


def _log_softmax(node: Node, x: Tensor) -> Tensor:
    return _over_axis(node, x, True)


OPERATORS: dict[str, Operator] = {
    "Celu": _celu,
    "Elu": _elu,
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "LeakyRelu": _leaky_relu,
    "LogSoftmax": _log_softmax,
    "Mish": _mish,
    "PRelu": _prelu,
    "Relu": _relu,
    "Selu": _selu,
    "Shrink": _shrink,
    "Sigmoid": _sigmoid,
    "Softmax": _softmax,
    "Softplus": _softplus,
    "Softsign": _softsign,
    "Swish": _swish,
    "Tanh": _tanh,
    "ThresholdedRelu": _thresholded_relu,
}
