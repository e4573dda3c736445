"""The ONNX operators that move elements; most only change how the following ones look at a tensor, see `views`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from onnx import NodeProto

from tscnc_deploy.engines.sparse_cpu.arrange import assembled, contiguous, copied, natural_channels
from tscnc_deploy.engines.sparse_cpu.builder import Builder
from tscnc_deploy.engines.sparse_cpu.values import Activation, RefusedError, Value
from tscnc_deploy.engines.sparse_cpu.views import IMAGES, Atom, Axes, Images, Size, regrouped, simplified, size_of

Attributes = Mapping[str, Any]

_MAX_PARTS = 4096


def same(builder: Builder, node: NodeProto, _: Attributes) -> Value:
    """Identity, and Dropout in inference."""
    if node.input[0] not in builder.values:
        msg = f"its input {node.input[0]!r} is not defined"
        raise RefusedError(msg)
    return builder.values[node.input[0]]


def reshape(builder: Builder, node: NodeProto, attributes: Attributes) -> Value:
    """Reshape to sizes that are constants or multiples of the number of images."""
    source = builder.activation(node)
    requested = builder.required(node, 1).reshape(-1).tolist()
    if not attributes.get("allowzero"):
        current = source.sizes
        if any(size == 0 and place >= len(current) for place, size in enumerate(requested)):
            msg = f"it reshapes {source.shown} to {requested}"
            raise RefusedError(msg)
        requested = [current[place] if size == 0 else size for place, size in enumerate(requested)]
    return _reshaped(builder, node, source, requested)


def flatten(builder: Builder, node: NodeProto, attributes: Attributes) -> Value:
    """Flatten of each image."""
    source = builder.activation(node)
    axis = attributes.get("axis", 1)
    if axis not in (1, 1 - len(source.axes)) or source.axes[0] != (IMAGES,):
        msg = "it does not flatten each image"
        raise RefusedError(msg)
    return _reshaped(builder, node, source, [Images(), -1])


def transpose(builder: Builder, node: NodeProto, attributes: Attributes) -> Value:
    """Transpose."""
    source = builder.activation(node)
    order = list(attributes.get("perm", range(len(source.axes))[::-1]))
    if sorted(order) != list(range(len(source.axes))):
        msg = f"its order of axes is {order}"
        raise RefusedError(msg)
    return replace(source, axes=tuple(source.axes[place] for place in order))


def squeeze(builder: Builder, node: NodeProto, attributes: Attributes) -> Value:
    """Squeeze of axes of size 1."""
    source = builder.activation(node)
    stored = builder.stored(node, 1)
    given = attributes.get("axes") if stored is None else stored.reshape(-1).tolist()
    if given is None:
        msg = "it does not say which axes it removes"
        raise RefusedError(msg)
    removed = {builder.axis(source, axis) for axis in given}
    if any(source.axes[place] for place in removed):
        msg = f"it removes axes of more than one element from {source.shown}"
        raise RefusedError(msg)
    return replace(source, axes=tuple(axis for place, axis in enumerate(source.axes) if place not in removed))


def unsqueeze(builder: Builder, node: NodeProto, attributes: Attributes) -> Value:
    """Unsqueeze."""
    source = builder.activation(node)
    stored = builder.stored(node, 1)
    given = attributes.get("axes", ()) if stored is None else stored.reshape(-1).tolist()
    rank = len(source.axes) + len(given)
    new = {axis % rank for axis in given if -rank <= axis < rank}
    if len(new) != len(given):
        msg = f"it adds the axes {list(given)}"
        raise RefusedError(msg)
    rest = iter(source.axes)
    return replace(source, axes=tuple(() if place in new else next(rest) for place in range(rank)))


def expand(builder: Builder, node: NodeProto, _: Attributes) -> Value:
    """Expand of activations, or of a constant to the number of images."""
    sizes = builder.required(node, 1).reshape(-1).tolist()
    value = builder.values.get(node.input[0])
    if isinstance(value, Activation):
        source = value
    else:
        array = builder.required(node, 0)
        lead = (1,) * (len(sizes) - array.ndim)
        source = builder.constant(node.name, array.reshape(lead + array.shape))
    axes = ((),) * (len(sizes) - len(source.axes)) + source.axes
    sizes = [1] * (len(axes) - len(sizes)) + sizes
    result = []
    for axis, size in zip(axes, sizes, strict=True):
        if IMAGES in axis or size == 1 or size == size_of(axis):
            result.append(axis)
        elif size_of(axis) == 1 and isinstance(size, int) and size > 0:
            result.append((Atom(size, 0),))
        else:
            msg = f"it expands {source.shown} to {_shown(sizes)}"
            raise RefusedError(msg)
    if any(isinstance(size, Images) and axis != (IMAGES,) for axis, size in zip(axes, sizes, strict=True)):
        msg = f"it expands {source.shown} to {_shown(sizes)}"
        raise RefusedError(msg)
    return replace(source, axes=tuple(result))


def slice_(builder: Builder, node: NodeProto, attributes: Attributes) -> Value:
    """Slice with constant bounds and positive steps."""
    source = builder.activation(node)
    inputs = [builder.stored(node, position) for position in range(1, 5)]
    starts, ends, axes, steps = (None if part is None else part.reshape(-1).tolist() for part in inputs)
    starts, ends = starts or list(attributes.get("starts", ())), ends or list(attributes.get("ends", ()))
    axes = axes or list(attributes.get("axes", range(len(starts))))
    steps = steps or [1] * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps):
        msg = "its bounds are not one for each axis"
        raise RefusedError(msg)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        place = builder.axis(source, axis)
        if IMAGES in source.axes[place]:
            if start == 0 and step == 1 and isinstance(end, int) and end >= 1 << 31:
                continue
            msg = "it slices along the axis of the images"
            raise RefusedError(msg)
        size = size_of(source.axes[place])
        if not all(isinstance(bound, int) for bound in (start, end, step)) or step < 1:
            msg = f"it slices in steps of {step}"
            raise RefusedError(msg)
        first, last, _ = slice(start, end, step).indices(size)
        count = len(range(first, last, step))
        if not count:
            msg = f"it leaves nothing of {source.shown}"
            raise RefusedError(msg)
        source = sliced(builder, node.name, source, place, first, count, step)
    return source


def split(builder: Builder, node: NodeProto, attributes: Attributes) -> list[Value]:
    """Split into parts of constant or equal sizes."""
    source = builder.activation(node)
    axis = builder.axis(source, attributes.get("axis", 0))
    size = size_of(source.axes[axis])
    stored = builder.stored(node, 1)
    each = -(-size // len(node.output))
    sizes = [min(each, size - first) for first in range(0, size, each)]
    if stored is not None or "split" in attributes:
        sizes = list(attributes["split"]) if stored is None else stored.reshape(-1).tolist()
    if IMAGES in source.axes[axis] or sum(sizes) != size or len(sizes) != len(node.output) or min(sizes) < 1:
        msg = f"it splits axis {axis} of {source.shown} into {len(node.output)} parts"
        raise RefusedError(msg)
    firsts = np.cumsum([0, *sizes[:-1]]).tolist()
    return [sliced(builder, node.name, source, axis, first, count) for first, count in zip(firsts, sizes, strict=True)]


def gather(builder: Builder, node: NodeProto, attributes: Attributes) -> Value:
    """Gather of constant places along one axis."""
    source = builder.activation(node)
    axis = builder.axis(source, attributes.get("axis", 0))
    indices = builder.required(node, 1)
    size = size_of(source.axes[axis])
    places = [place % size for place in indices.reshape(-1).tolist() if -size <= place < size]
    if IMAGES in source.axes[axis] or len(places) != indices.size or not places or indices.ndim > 1:
        msg = f"it takes the places {indices.tolist()} of axis {axis} of {source.shown}"
        raise RefusedError(msg)
    if indices.ndim == 0:
        one = sliced(builder, node.name, source, axis, places[0], 1)
        return replace(one, axes=(*one.axes[:axis], *one.axes[axis + 1 :]))
    parts = [sliced(builder, node.name, source, axis, first, count) for first, count in _runs(places)]
    return parts[0] if len(parts) == 1 else _joined(builder, node, parts, axis)


def concat(builder: Builder, node: NodeProto, attributes: Attributes) -> Value:
    """Concat of activations, and of constants that are the same for every image."""
    axis = attributes.get("axis", 1)
    computed = [builder.values.get(name) for name in node.input]
    parts = []
    for position, value in enumerate(computed):
        if not isinstance(value, Activation):
            if builder.batch != 1:
                msg = f"its input {position} is not computed from the images"
                raise RefusedError(msg)
            value = builder.constant(node.name, builder.required(node, position))
        parts.append(value)
    return _joined(builder, node, parts, builder.axis(parts[0], axis))


def pad(builder: Builder, node: NodeProto, attributes: Attributes) -> Value:
    """Pad with a constant."""
    source = builder.activation(node)
    mode = bytes(attributes.get("mode", b"constant")).decode("ascii", "replace")
    stored, value, along = (builder.stored(node, position) for position in (1, 2, 3))
    amounts = list(attributes.get("pads", ())) if stored is None else stored.reshape(-1).tolist()
    rank = len(source.axes)
    axes = list(range(rank)) if along is None else [builder.axis(source, axis) for axis in along.reshape(-1).tolist()]
    if mode != "constant" or len(amounts) != 2 * len(axes):
        msg = f"its mode is {mode!r}"
        raise RefusedError(msg)
    sizes, offsets = [size_of(axis) for axis in source.axes], [0] * rank
    for place, axis in enumerate(axes):
        before, after = amounts[place], amounts[place + len(axes)]
        if (before or after) and IMAGES in source.axes[axis]:
            msg = "it pads along the axis of the images"
            raise RefusedError(msg)
        if min(before, after) < 0:
            size = sizes[axis] + min(before, 0) + min(after, 0)
            if size < 1:
                msg = f"it leaves nothing of {source.shown}"
                raise RefusedError(msg)
            source = sliced(builder, node.name, source, axis, max(-before, 0), size)
            before, after, sizes[axis] = max(before, 0), max(after, 0), size
        offsets[axis] = before
        sizes[axis] += before + after
    fill = 0.0 if value is None else float(value.reshape(-1)[0])
    if not any(amounts):
        return source
    return assembled(builder, node.name, sizes, [(source, offsets)], natural_channels(builder, source), fill)


def resize(builder: Builder, node: NodeProto, attributes: Attributes) -> Value:
    """Resize of images to a multiple of their size, each pixel repeated."""
    source = builder.activation(node)
    scales, sizes = builder.stored(node, 2), builder.stored(node, 3)
    mode = bytes(attributes.get("mode", b"nearest")).decode("ascii", "replace")
    where = bytes(attributes.get("coordinate_transformation_mode", b"half_pixel")).decode("ascii", "replace")
    nearest = bytes(attributes.get("nearest_mode", b"round_prefer_floor")).decode("ascii", "replace")
    plain = (where, nearest) in (("asymmetric", "floor"), ("half_pixel", "round_prefer_floor"))
    if mode != "nearest" or not plain or "axes" in attributes or len(source.axes) != 4:
        msg = f"it resizes by {mode!r} ({where}, {nearest})"
        raise RefusedError(msg)
    own = [size_of(axis) for axis in source.axes]
    if scales is not None and scales.size == 4:
        factors = scales.reshape(-1).tolist()
    elif sizes is not None and sizes.size == 4:
        wanted = sizes.reshape(-1).tolist()
        factors = [1.0, *(size / old for size, old in zip(wanted[1:], own[1:], strict=True))]
    else:
        factors = [0.0]
    if factors[:2] != [1, 1] or any(factor < 1 or factor % 1 for factor in factors):
        msg = f"it resizes by the factors {factors}"
        raise RefusedError(msg)
    pairs = zip(source.axes, factors, strict=True)
    axes = tuple((*axis, Atom(int(factor), 0)) if factor > 1 else axis for axis, factor in pairs)
    return replace(source, axes=axes)


def sliced(
    builder: Builder, name: str, source: Activation, axis: int, first: int, count: int, step: int = 1
) -> Activation:
    """`count` places along an axis, from `first`, `step` apart."""
    atoms = simplified(source.axes[axis])
    if first == 0 and count == size_of(atoms) and step == 1:
        return source
    if count == 1:
        start = source.start
        for part in reversed(atoms):
            start += first % part.size * part.stride
            first //= part.size
        return replace(source, axes=_with(source.axes, axis, ()), start=start)
    inner = size_of(atoms[1:])
    if first % inner or count % inner or (inner > 1 and step > 1):
        source = copied(builder, name, source, natural_channels(builder, source))
        return sliced(builder, name, source, axis, first, count, step)
    head = Atom(count // inner, atoms[0].stride * step)
    start = source.start + first // inner * atoms[0].stride
    return replace(source, axes=_with(source.axes, axis, simplified((head, *atoms[1:]))), start=start)


def _with(axes: Axes, place: int, axis: tuple[Atom, ...]) -> Axes:
    return (*axes[:place], axis, *axes[place + 1 :])


def _joined(builder: Builder, node: NodeProto, parts: Sequence[Activation], axis: int) -> Activation:
    """Activations one after another along an axis."""
    if any(IMAGES in part.axes[axis] for part in parts if axis < len(part.axes)):
        msg = "it concatenates along the axis of the images"
        raise RefusedError(msg)
    others = {(tuple(map(str, part.sizes[:axis])), tuple(map(str, part.sizes[axis + 1 :]))) for part in parts}
    if len(others) != 1 or len({len(part.axes) for part in parts}) != 1:
        msg = f"it concatenates {', '.join(part.shown for part in parts)}"
        raise RefusedError(msg)
    sizes = [size_of(along) for along in parts[0].axes]
    placed, at = [], 0
    for part in parts:
        offsets = [0] * len(sizes)
        offsets[axis] = at
        placed.append((part, offsets))
        at += size_of(part.axes[axis])
    sizes[axis] = at
    widest = max(parts, key=lambda part: math.prod(size_of(along) for along in part.axes))
    channels = natural_channels(builder, widest)
    return assembled(builder, node.name, sizes, placed, channels)


def _runs(places: Sequence[int]) -> list[tuple[int, int]]:
    """Places as (first, count) of runs of neighbours."""
    runs: list[tuple[int, int]] = []
    for place in places:
        if runs and place == sum(runs[-1]):
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((place, 1))
    if len(runs) > _MAX_PARTS:
        msg = f"it takes {len(runs)} parts"
        raise RefusedError(msg)
    return runs


def _reshaped(builder: Builder, node: NodeProto, source: Activation, requested: Sequence[Size]) -> Activation:
    for sizes in _candidates(source, requested, builder.batch):
        axes = regrouped(source.axes, sizes)
        if axes is not None:
            return replace(source, axes=axes)
        if math.prod(size.factor if isinstance(size, Images) else size for size in sizes) != _elements(source):
            continue
        row = contiguous(builder, node.name, source)
        axes = regrouped(row.axes, sizes)
        if axes is not None:
            return replace(row, axes=axes)
    msg = f"it reshapes {source.shown} to {_shown(requested)}"
    raise RefusedError(msg)


def _candidates(source: Activation, requested: Sequence[Size], batch: int | None) -> list[list[Size]]:
    """What sizes may mean: -1 is computed, and one of them has the images."""
    total = _elements(source)
    if list(requested).count(-1) > 1 or any(isinstance(size, int) and size < -1 for size in requested):
        return []
    factors = [size.factor if isinstance(size, Images) else size for size in requested if size != -1]
    if sum(isinstance(size, Images) for size in requested):
        known = [list(requested)]
    elif batch is None:
        known = [[Images(-1) if size == -1 else size for size in requested]]
    else:
        known = [
            [*requested[:place], Images(size // batch), *requested[place + 1 :]]
            for place, size in enumerate(requested)
            if isinstance(size, int) and size > 0 and size % batch == 0
        ]
        known += [[Images(-1) if size == -1 else size for size in requested]] * (-1 in requested)
    result = []
    for sizes in known:
        factors = [size.factor if isinstance(size, Images) else size for size in sizes]
        rest = math.prod(factor for factor in factors if factor != -1)
        if -1 in factors and (rest < 1 or total % rest):
            continue
        filled = [total // rest if factor == -1 else factor for factor in factors]
        pairs = zip(sizes, filled, strict=True)
        result.append([Images(factor) if isinstance(size, Images) else factor for size, factor in pairs])
    return result


def _elements(source: Activation) -> int:
    return math.prod(size_of(axis) for axis in source.axes)


def _shown(sizes: Sequence[Size]) -> str:
    return str([f"{size.factor} * batch" if isinstance(size, Images) else size for size in sizes])


OPERATORS = {
    "Concat": concat,
    "Dropout": same,
    "Expand": expand,
    "Flatten": flatten,
    "Gather": gather,
    "Identity": same,
    "Pad": pad,
    "Reshape": reshape,
    "Resize": resize,
    "Slice": slice_,
    "Split": split,
    "Squeeze": squeeze,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
}
