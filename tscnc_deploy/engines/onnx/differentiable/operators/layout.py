"""Operators that only move, repeat, cut or join elements, and those that make shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import zip_longest

import torch
from onnx import numpy_helper
from torch import Tensor
from torch.nn import functional

from tscnc_deploy.engines.onnx.differentiable.node import (
    Node,
    Operator,
    UnsupportedError,
    axes_of,
    axis_of,
    integers,
    sizes,
    tensor_of,
)
from tscnc_deploy.engines.onnx.differentiable.operators.elementwise import cast
from tscnc_deploy.engines.onnx.differentiable.windows import interleaved

_ENDS = (2**31 - 1, 2**63 - 1)


def _reshape(node: Node, x: Tensor, shape: Tensor | None = None) -> Tensor:
    wanted = integers(shape) if shape is not None else list(node.get("shape"))
    if not node.get("allowzero", 0):
        wanted = [x.shape[place] if size == 0 else size for place, size in enumerate(wanted)]
    return x.reshape(wanted)


def _flatten(node: Node, x: Tensor) -> Tensor:
    axis = node.get("axis", 1)
    axis = axis if axis == x.ndim else axis_of(axis, x.ndim)
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def _squeeze(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    chosen = axes_of(node, axes)
    if chosen is None:
        return x.squeeze()
    if any(x.shape[axis] != 1 for axis in chosen):
        msg = f"axes {chosen} of the shape {list(x.shape)} are not all of size 1"
        raise ValueError(msg)
    return x.squeeze(tuple(chosen))


def _unsqueeze(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    chosen = axes_of(node, axes) or []
    rank = x.ndim + len(chosen)
    for axis in sorted(axis_of(axis, rank) for axis in chosen):
        x = x.unsqueeze(axis)
    return x


def _expand(_: Node, x: Tensor, shape: Tensor) -> Tensor:
    wanted = sizes(shape)
    both = zip_longest(reversed(x.shape), reversed(wanted), fillvalue=1)
    return x.expand([b if a == 1 else a if b == 1 else b for a, b in both][::-1])


def _tile(_: Node, x: Tensor, repeats: Tensor) -> Tensor:
    return x.tile(integers(repeats))


def _transpose(node: Node, x: Tensor) -> Tensor:
    return x.permute(node.get("perm") or list(reversed(range(x.ndim))))


def _concat(node: Node, *parts: Tensor) -> Tensor:
    return torch.cat(parts, dim=node.get("axis", 1))


def _split(node: Node, x: Tensor, split: Tensor | None = None) -> Sequence[Tensor]:
    axis = node.axis(x.ndim, 0)
    given = sizes(split) if split is not None else node.get("split")
    if given:
        return torch.split(x, list(given), dim=axis)
    count = node.get("num_outputs", node.outputs)
    return torch.split(x, math.ceil(x.shape[axis] / count), dim=axis)


def _slice(
    node: Node,
    x: Tensor,
    starts: Tensor | None = None,
    ends: Tensor | None = None,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    first = integers(starts) if starts is not None else list(node.get("starts"))
    last = integers(ends) if ends is not None else list(node.get("ends"))
    along = axes_of(node, axes) or list(range(len(first)))
    strides = integers(steps) if steps is not None else [1] * len(first)
    for axis, start, end, step in zip(along, first, last, strides, strict=True):
        taken = _taken(x.shape[axis], start, end, step)
        if step > 0:
            x = x.narrow(axis, taken.start, 0) if not taken else _stepped(x, axis, taken)
        else:
            x = x.index_select(axis, torch.arange(len(taken), device=x.device) * step + taken.start)
    return x


def _taken(size: int, start: int, end: int, step: int) -> range:
    """The elements of an axis; Python's slices do the same, but for bounds before the first when going backward."""
    if step > 0:
        return range(*slice(start, end, step).indices(size))
    if end in _ENDS:  # onnxruntime takes them as the end in both directions
        end = -size - 1
    first = min(max(start + size if start < 0 else start, 0), size - 1)
    last = max(min(end + size if end < 0 else end, size - 1), -1)
    return range(first, last, step)


def _stepped(x: Tensor, axis: int, taken: range) -> Tensor:
    cut = [slice(None)] * x.ndim
    cut[axis] = slice(taken.start, taken[-1] + 1, taken.step)
    return x[tuple(cut)]


def _pad(
    node: Node, x: Tensor, pads: Tensor | None = None, value: Tensor | None = None, axes: Tensor | None = None
) -> Tensor:
    amounts = integers(pads) if pads is not None else list(node.get("pads"))
    named = integers(axes) if axes is not None else list(range(x.ndim))
    begin, end = [0] * x.ndim, [0] * x.ndim
    for axis, before, after in zip(named, amounts[: len(named)], amounts[len(named) :], strict=True):
        begin[axis], end[axis] = before, after
    mode = node.get("mode", "constant")
    if mode == "constant":
        filler = node.get("value", 0.0) if value is None else value.reshape(()).item()
        return functional.pad(x, interleaved(begin, end), value=filler)
    for axis, (before, after) in enumerate(zip(begin, end, strict=True)):
        if before or after:
            places = torch.arange(-before, x.shape[axis] + after, device=x.device)
            x = x.index_select(axis, _reflected(places, x.shape[axis], mode))
    return x


def _reflected(places: Tensor, size: int, mode: str) -> Tensor:
    """Where the elements of a padded axis come from."""
    if mode == "edge":
        return places.clamp(0, size - 1)
    if mode == "wrap":
        return places % size
    if mode == "reflect":
        period = max(2 * (size - 1), 1)
        return torch.minimum(places % period, period - places % period)
    msg = f"Pad with mode {mode!r}"
    raise UnsupportedError(msg)


def _depth_to_space(node: Node, x: Tensor) -> Tensor:
    block = node.get("blocksize")
    batch, channels, height, width = x.shape
    kept = channels // block**2
    if node.get("mode", "DCR") == "DCR":
        parts = x.reshape(batch, block, block, kept, height, width).permute(0, 3, 4, 1, 5, 2)
    else:
        parts = x.reshape(batch, kept, block, block, height, width).permute(0, 1, 4, 2, 5, 3)
    return parts.reshape(batch, kept, height * block, width * block)


def _space_to_depth(node: Node, x: Tensor) -> Tensor:
    block = node.get("blocksize")
    batch, channels, height, width = x.shape
    parts = x.reshape(batch, channels, height // block, block, width // block, block).permute(0, 3, 5, 1, 2, 4)
    return parts.reshape(batch, channels * block**2, height // block, width // block)


def _shape(node: Node, x: Tensor) -> Tensor:
    return torch.tensor(list(x.shape)[node.get("start", 0) : node.get("end")], dtype=torch.int64)


def _size(_: Node, x: Tensor) -> Tensor:
    return torch.tensor(x.numel(), dtype=torch.int64)


def _constant_of_shape(node: Node, shape: Tensor) -> Tensor:
    filler = node.get("value")
    value = torch.zeros(()) if filler is None else tensor_of(numpy_helper.to_array(filler)).reshape(())
    return value.expand(sizes(shape))


def _range(_: Node, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    # torch.arange may give an element more where the steps are fractions.
    first, last, step = (value.item() for value in (start, limit, delta))
    count = math.ceil((last - first) / step) if start.is_floating_point() else -((first - last) // step)
    return start + delta * torch.arange(max(count, 0), dtype=start.dtype)


def _dropout(_: Node, x: Tensor, ratio: Tensor | None = None, training: Tensor | None = None) -> tuple[Tensor, Tensor]:
    if training is not None and bool(training):
        msg = "Dropout in training mode"
        raise UnsupportedError(msg)
    return x, torch.ones_like(x, dtype=torch.bool)


def _constant(node: Node) -> Tensor:
    (name,) = node.attributes
    value = node.attributes[name]
    if name == "value":
        return tensor_of(numpy_helper.to_array(value))
    if name in ("value_float", "value_floats"):
        return torch.tensor(value, dtype=torch.float32)
    if name in ("value_int", "value_ints"):
        return torch.tensor(value, dtype=torch.int64)
    msg = f"a constant given as {name}"
    raise UnsupportedError(msg)


def _eye_like(node: Node, x: Tensor) -> Tensor:
    rows, columns = (torch.arange(size, device=x.device) for size in x.shape)
    ones = columns - rows.unsqueeze(1) == node.get("k", 0)
    to = node.get("dtype")
    return ones.to(x.dtype) if to is None else cast(ones, to)


def _trilu(node: Node, x: Tensor, diagonal: Tensor | None = None) -> Tensor:
    k = integers(diagonal)[0] if diagonal is not None else 0
    return x.triu(k) if node.get("upper", 1) else x.tril(k)


OPERATORS: dict[str, Operator] = {
    "Concat": _concat,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "DepthToSpace": _depth_to_space,
    "Dropout": _dropout,
    "Expand": _expand,
    "EyeLike": _eye_like,
    "Flatten": _flatten,
    "Pad": _pad,
    "Range": _range,
    "Reshape": _reshape,
    "Shape": _shape,
    "Size": _size,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Trilu": _trilu,
    "Unsqueeze": _unsqueeze,
}
