"""Reductions along axes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tscnc_deploy.engines.onnx.differentiable.node import (
    Node,
    Operator,
    axes_of,
    axis_of,
    floating,
    integers,
    straight_through,
)

Reduce = Callable[[Tensor, tuple[int, ...], bool], Tensor]


def _reduction(function: Reduce) -> Operator:
    def compute(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
        chosen = axes_of(node, axes)
        if not chosen and node.get("noop_with_empty_axes", 0):
            return function(x.unsqueeze(-1), (-1,), False)
        along = tuple(axis_of(axis, x.ndim) for axis in chosen) if chosen else tuple(range(x.ndim))
        found = function(x, along, bool(node.get("keepdims", 1))) if along else function(x.reshape(1), (0,), False)
        if not x.is_floating_point():
            return found.to(x.dtype)
        return straight_through(found.trunc(), found) if node.integral else found

    return compute


def _product(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


def _argument(largest: bool) -> Operator:
    def compute(node: Node, x: Tensor) -> Tensor:
        axis, keep = node.axis(x.ndim, 0), bool(node.get("keepdims", 1))
        find = torch.argmax if largest else torch.argmin
        if not node.get("select_last_index", 0):
            return find(x, dim=axis, keepdim=keep)
        return x.shape[axis] - 1 - find(x.flip(axis), dim=axis, keepdim=keep)

    return compute


def _cumulative_sum(node: Node, x: Tensor, axis: Tensor) -> Tensor:
    along = integers(axis)[0]
    turned = x.flip(along) if node.get("reverse", 0) else x
    summed = turned.cumsum(along, dtype=x.dtype)
    if node.get("exclusive", 0):
        rest = summed.narrow(along, 0, max(x.shape[along] - 1, 0))
        summed = torch.cat([torch.zeros_like(x.narrow(along, 0, min(x.shape[along], 1))), rest], along)
    return summed.flip(along) if node.get("reverse", 0) else summed


OPERATORS: dict[str, Operator] = {
    "ArgMax": _argument(True),
    "ArgMin": _argument(False),
    "CumSum": _cumulative_sum,
    "ReduceL1": _reduction(lambda x, axes, keep: x.abs().sum(axes, keep)),
    "ReduceL2": _reduction(lambda x, axes, keep: torch.linalg.vector_norm(floating(x), dim=axes, keepdim=keep)),
    "ReduceLogSum": _reduction(lambda x, axes, keep: floating(x).sum(axes, keep).log()),
    "ReduceLogSumExp": _reduction(lambda x, axes, keep: torch.logsumexp(floating(x), axes, keep)),
    "ReduceMax": _reduction(lambda x, axes, keep: torch.amax(x, axes, keep)),
    "ReduceMean": _reduction(lambda x, axes, keep: floating(x).mean(axes, keep)),
    "ReduceMin": _reduction(lambda x, axes, keep: torch.amin(x, axes, keep)),
    "ReduceProd": _reduction(_product),
    "ReduceSum": _reduction(lambda x, axes, keep: x.sum(axes, keep)),
    "ReduceSumSquare": _reduction(lambda x, axes, keep: x.square().sum(axes, keep)),
}
