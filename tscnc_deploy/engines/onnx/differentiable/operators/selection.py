"""Operators that pick elements by index or by size."""

from __future__ import annotations

import torch
from torch import Tensor

from tscnc_deploy.engines.onnx.differentiable.node import Node, Operator, UnsupportedError, bounded, integers


def _index(indices: Tensor, size: int) -> Tensor:
    whole = indices.long()
    return torch.where(whole < 0, whole + size, whole)


def _gather(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    axis = node.get("axis", 0) % x.ndim
    picked = x.index_select(axis, _index(indices, x.shape[axis]).reshape(-1))
    return picked.reshape([*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]])


def _gather_elements(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    axis = node.get("axis", 0) % x.ndim
    return x.gather(axis, _index(indices, x.shape[axis]))


def _gather_nd(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    outer = node.get("batch_dims", 0)
    batches = [
        torch.arange(size, device=x.device).reshape(*[1] * place, size, *[1] * (indices.ndim - 2 - place))
        for place, size in enumerate(x.shape[:outer])
    ]
    chosen = [_index(part, x.shape[outer + place]) for place, part in enumerate(indices.unbind(-1))]
    return x[tuple(batches + chosen)]


def _scatter_nd(node: Node, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    if node.get("reduction", "none") != "none":
        msg = f"ScatterND with the reduction {node.get('reduction')!r}"
        raise UnsupportedError(msg)
    chosen = tuple(_index(part, x.shape[place]) for place, part in enumerate(indices.unbind(-1)))
    return x.index_put(chosen, updates)


def _scatter_elements(node: Node, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    if node.get("reduction", "none") != "none":
        msg = f"ScatterElements with the reduction {node.get('reduction')!r}"
        raise UnsupportedError(msg)
    axis = node.get("axis", 0) % x.ndim
    return x.scatter(axis, _index(indices, x.shape[axis]), updates)


def _one_hot(node: Node, indices: Tensor, depth: Tensor, values: Tensor) -> Tensor:
    size, axis = bounded(integers(depth)[0]), node.get("axis", -1)
    axis += indices.ndim + 1 if axis < 0 else 0
    hot = _index(indices, size).unsqueeze(axis) == torch.arange(size, device=indices.device).reshape(
        size, *[1] * (indices.ndim - axis)
    )
    return torch.where(hot, values[1], values[0])


def _top_k(node: Node, x: Tensor, k: Tensor | None = None) -> tuple[Tensor, Tensor]:
    count = integers(k)[0] if k is not None else node.get("k")
    found = torch.topk(x, count, dim=node.get("axis", -1), largest=bool(node.get("largest", 1)))
    return found.values, found.indices


def _non_zero(_: Node, x: Tensor) -> Tensor:
    return x.nonzero().t()


OPERATORS: dict[str, Operator] = {
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "NonZero": _non_zero,
    "OneHot": _one_hot,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "TopK": _top_k,
}
