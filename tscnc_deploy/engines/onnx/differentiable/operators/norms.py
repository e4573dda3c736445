"""Normalisation."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from tscnc_deploy.engines.onnx.differentiable.node import Node, Operator, Output, refuse_outputs

_EPSILON = 1e-5


def _per_channel(values: Tensor, x: Tensor) -> Tensor:
    if tuple(values.shape) != tuple(x.shape[1:2]):
        msg = f"a parameter of the shape {list(values.shape)} is not one number for each channel of {list(x.shape)}"
        raise ValueError(msg)
    return values.reshape(-1, *[1] * (x.ndim - 2))


def _batch_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Output:
    if not node.get("training_mode", 0):
        refuse_outputs(node)
        return _normalised(node, x, scale, bias, mean, variance)
    # Networks that standardise their weights (arXiv 1903.10520) are exported so; `onnx.batch` refuses it on images.
    refuse_outputs(node, 3)
    axes = (0, *range(2, x.ndim))
    own = x.mean(axes), x.var(axes, correction=0)
    kept = node.get("momentum", 0.9)
    running = [old * kept + new * (1 - kept) for old, new in zip((mean, variance), own, strict=True)]
    return (_normalised(node, x, scale, bias, *own), *running)[: node.outputs]


def _normalised(node: Node, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    gain = _per_channel(scale, x) / (_per_channel(variance, x) + node.get("epsilon", _EPSILON)).sqrt()
    return (x - _per_channel(mean, x)) * gain + _per_channel(bias, x)


def _layer_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    refuse_outputs(node)
    axes = tuple(range(node.axis(x.ndim, -1), x.ndim))
    centred = x - x.mean(axes, keepdim=True)
    deviation = (centred.square().mean(axes, keepdim=True) + node.get("epsilon", _EPSILON)).sqrt()
    normal = centred / deviation * scale
    return normal if bias is None else normal + bias


def _rms_norm(node: Node, x: Tensor, scale: Tensor) -> Tensor:
    axes = tuple(range(node.axis(x.ndim, -1), x.ndim))
    return x / (x.square().mean(axes, keepdim=True) + node.get("epsilon", _EPSILON)).sqrt() * scale


def _instance_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    axes = tuple(range(2, x.ndim))
    centred = x - x.mean(axes, keepdim=True)
    deviation = (centred.square().mean(axes, keepdim=True) + node.get("epsilon", _EPSILON)).sqrt()
    return centred / deviation * _per_channel(scale, x) + _per_channel(bias, x)


def _group_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    groups = node.get("num_groups")
    normal = functional.group_norm(x, groups, eps=node.get("epsilon", _EPSILON))
    if node.opset < 21:  # one number for each group; later one for each channel
        scale, bias = (values.repeat_interleave(x.shape[1] // groups) for values in (scale, bias))
    return normal * _per_channel(scale, x) + _per_channel(bias, x)


def _local_response_norm(node: Node, x: Tensor) -> Tensor:
    size = node.get("size")
    alpha, beta, bias = node.get("alpha", 1e-4), node.get("beta", 0.75), node.get("bias", 1.0)
    before, after = (size - 1) // 2, math.ceil((size - 1) / 2)
    squares = functional.pad(x.square().flatten(2).transpose(1, 2), [before, after]).unfold(2, size, 1).sum(-1)
    return x / (bias + alpha / size * squares.transpose(1, 2).reshape(x.shape)) ** beta


def _mean_variance_norm(node: Node, x: Tensor) -> Tensor:
    axes = tuple(node.get("axes", (0, 2, 3)))
    mean = x.mean(axes, keepdim=True)
    deviation = ((x * x).mean(axes, keepdim=True) - mean * mean).sqrt()
    return (x - mean) / (deviation + 1e-9)


def _lp_norm(node: Node, x: Tensor) -> Tensor:
    return x / torch.linalg.vector_norm(x, node.get("p", 2), dim=node.get("axis", -1), keepdim=True)


OPERATORS: dict[str, Operator] = {
    "BatchNormalization": _batch_norm,
    "GroupNormalization": _group_norm,
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "LpNormalization": _lp_norm,
    "LRN": _local_response_norm,
    "MeanVarianceNormalization": _mean_variance_norm,
    "RMSNormalization": _rms_norm,
}
