"""Operators that pick elements by index or by size."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tscnc_deploy.engines.onnx.differentiable.node import Node, Operator, UnsupportedError, integers

_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _index(indices: Tensor, size: int) -> Tensor:
    whole = indices.long()
    return torch.where(whole < 0, whole + size, whole)


def _gather(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    axis = node.axis(x.ndim, 0)
    picked = x.index_select(axis, _index(indices, x.shape[axis]).reshape(-1))
    return picked.reshape([*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]])


def _gather_elements(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    axis = node.axis(x.ndim, 0)
    return x.gather(axis, _index(indices, x.shape[axis]))


def _gather_nd(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    outer = node.get("batch_dims", 0)
    batches = [
        torch.arange(size, device=x.device).reshape(*[1] * place, size, *[1] * (indices.ndim - 2 - place))
        for place, size in enumerate(x.shape[:outer])
    ]
    chosen = [_index(part, x.shape[outer + place]) for place, part in enumerate(indices.unbind(-1))]
    # With an axis more, as torch reads the number of an index without axes.
    return x[tuple(places.unsqueeze(-1) for places in batches + chosen)].squeeze(indices.ndim - 1)


def _scatter_nd(node: Node, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    depth = indices.shape[-1]
    _require_updates(updates, (*indices.shape[:-1], *x.shape[depth:]))
    rows, row = x.shape[:depth], x.shape[depth:]
    place = torch.zeros_like(indices[..., 0])
    for axis, part in enumerate(indices.unbind(-1)):
        place = place * rows[axis] + _checked(_index(part, rows[axis]), rows[axis])
    flat, columns = x.reshape(math.prod(rows), math.prod(row)), updates.reshape(-1, math.prod(row))
    where = place.reshape(-1, 1).expand(columns.shape)
    return _scattered(node, flat, 0, where, columns).reshape(x.shape)


def _scatter_elements(node: Node, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    axis = node.axis(x.ndim, 0)
    _require_updates(updates, tuple(indices.shape))
    return _scattered(node, x, axis, _index(indices, x.shape[axis]), updates)


def _scattered(node: Node, x: Tensor, axis: int, where: Tensor, updates: Tensor) -> Tensor:
    reduction = node.get("reduction", "none")
    if reduction == "none":
        return x.scatter(axis, where, updates)
    if reduction not in _REDUCTIONS:
        msg = f"{node.op} with the reduction {reduction!r}"
        raise UnsupportedError(msg)
    return x.scatter_reduce(axis, where, updates, _REDUCTIONS[reduction])


def _require_updates(updates: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(updates.shape) != shape:
        msg = f"updates of the shape {list(updates.shape)} instead of {list(shape)}"
        raise ValueError(msg)


def _checked(places: Tensor, size: int) -> Tensor:
    if not places.is_meta and bool(((places < 0) | (places >= size)).any()):
        msg = f"an index is not below {size}"
        raise IndexError(msg)
    return places


def _one_hot(node: Node, indices: Tensor, depth: Tensor, values: Tensor) -> Tensor:
    size, axis = integers(depth)[0], node.axis(indices.ndim + 1, -1)
    hot = _index(indices, size).unsqueeze(axis) == torch.arange(size, device=indices.device).reshape(
        size, *[1] * (indices.ndim - axis)
    )
    return torch.where(hot, values[1], values[0])


def _top_k(node: Node, x: Tensor, k: Tensor | None = None) -> tuple[Tensor, Tensor]:
    count = integers(k)[0] if k is not None else node.get("k")
    axis = node.axis(x.ndim, -1)
    # Not torch.topk: of equal ones, those of the lowest indices come first.
    values, places = torch.sort(x, dim=axis, descending=bool(node.get("largest", 1)), stable=True)
    return values.narrow(axis, 0, count), places.narrow(axis, 0, count)


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
