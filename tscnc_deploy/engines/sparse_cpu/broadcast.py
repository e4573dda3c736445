"""Arithmetic of two operands whose shapes may differ, as ONNX broadcasts them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from tscnc_deploy.engines.sparse_cpu.arrange import contiguous, covering, planes, whole
from tscnc_deploy.engines.sparse_cpu.builder import Builder, Factors
from tscnc_deploy.engines.sparse_cpu.network import Combine, Kind, Piece, Shape
from tscnc_deploy.engines.sparse_cpu.values import Activation, RefusedError
from tscnc_deploy.engines.sparse_cpu.views import (
    IMAGES,
    Atom,
    Atoms,
    Axes,
    chained,
    refined,
    row_major,
    simplified,
    size_of,
)

Loops = list[tuple[int, int, int]]

_REVERSED = {
    Combine.ADD: Combine.ADD,
    Combine.MULTIPLY: Combine.MULTIPLY,
    Combine.DIVIDE: Combine.DIVIDE_REVERSED,
    Combine.LARGEST: Combine.LARGEST,
    Combine.SMALLEST: Combine.SMALLEST,
}


def with_activation(
    builder: Builder, node: NodeProto, combine: Combine, first: Activation, second: Activation
) -> Activation:
    """Combines two activations; the smaller one counts for several elements of the larger one."""
    name = node.name
    rank = max(len(first.axes), len(second.axes))
    first, second = (replace(side, axes=((),) * (rank - len(side.axes)) + side.axes) for side in (first, second))
    if [IMAGES in axis for axis in first.axes] != [IMAGES in axis for axis in second.axes]:
        msg = f"it combines {first.shown} with {second.shown}"
        raise RefusedError(msg)
    sizes = [(size_of(a), size_of(b)) for a, b in zip(first.axes, second.axes, strict=True)]
    if any(a != b and 1 not in (a, b) for a, b in sizes):
        msg = f"it combines {first.shown} with {second.shown}"
        raise RefusedError(msg)
    swapped = all(a <= b for a, b in sizes) and any(a < b for a, b in sizes)
    if swapped:
        first, second = second, first
    elif any(a < b for a, b in sizes):
        first = replace(first, axes=tuple(_repeated(a, b) for a, b in zip(first.axes, second.axes, strict=True)))
    first = whole(builder, name, first)
    other = _aligned(builder, name, first, second)
    same = builder.shape(Activation(other, ())) == builder.shape(first)
    if combine is Combine.ADD and same and not swapped:
        return Activation(builder.total(node, first, Activation(other, first.axes)), first.axes)
    if not swapped:
        return Activation(builder.elementwise(name, first, other, combine), first.axes)
    if combine is Combine.SUBTRACT:
        negated = -np.ones(builder.shape(first).c)
        return Activation(builder.elementwise(name, first, other, Combine.ADD, scale=negated), first.axes)
    return Activation(builder.elementwise(name, first, other, _REVERSED[combine]), first.axes)


def with_constant(
    builder: Builder,
    node: NodeProto,
    position: int,
    combine: Combine,
    constant: NDArray[np.floating],
    computed: Activation | None = None,
    *,
    fold: bool = True,
) -> Activation:
    """Combines activations with a constant; per channel it is folded, see `Builder.per_channel`.

    Args:
        builder: The network so far.
        node: The node.
        position: Which operand the activations are, 0 or 1; the constant is the other one.
        combine: What to compute.
        constant: Any shape that ONNX broadcasts.
        computed: The activations, if they are not the node's input at that position.
        fold: False if something else than the result needs the activations, too.
    """
    source = _widened(builder, node, computed or builder.activation(node, position), constant)
    arranged = _along(source, builder.shape(source), constant)
    if arranged is None:
        source = contiguous(builder, node.name, source)
        arranged = _along(source, builder.shape(source), constant)
    if arranged is None:
        msg = f"its constant of shape {list(constant.shape)} does not fit {source.shown}"
        raise RefusedError(msg)
    shape = builder.shape(source)
    if combine in (Combine.LARGEST, Combine.SMALLEST) or arranged.shape[1:] != (1, 1):
        return Activation(_map(builder, node, position, combine, source, arranged), source.axes)
    factors = np.broadcast_to(arranged.reshape(-1).astype(np.float64), shape.c).copy()
    ones = np.ones(shape.c)
    scale, bias = _affine(combine, position, factors, ones)
    if scale is None:
        reciprocal = builder.add(
            Kind.ELEMENTWISE,
            node.name,
            [source.tensor, _stored(builder, node, arranged)],
            shape,
            scale=ones,
            bias=0 * ones,
            combine=Combine.DIVIDE_REVERSED,
        )
        return Activation(reciprocal, source.axes)
    if not fold:
        return Activation(builder.elementwise(node.name, source, scale=scale, bias=bias), source.axes)
    return Activation(builder.per_channel(node, position, source, scale, bias), source.axes)


def scaled(builder: Builder, node: NodeProto, scale: Factors, bias: Factors) -> Activation:
    """scale * the first input + bias, both [channels] along its second axis."""
    source = whole(builder, node.name, builder.activation(node))
    form = (1, -1, *(1,) * (len(source.axes) - 2))
    factors = _per_channel(builder, source, (scale.reshape(form), bias.reshape(form)))
    if factors is None:
        source = planes(builder, node.name, source, 1)
        factors = [scale, bias]
    return Activation(builder.per_channel(node, 0, source, factors[0], factors[1]), source.axes)


def _per_channel(builder: Builder, source: Activation, parts: Sequence[Factors]) -> list[Factors] | None:
    """Constants as one number for each channel of a tensor; None if they also vary from pixel to pixel."""
    shape = builder.shape(source)
    arranged = [_along(source, shape, part) for part in parts]
    if any(part is None or part.shape[1:] != (1, 1) for part in arranged):
        return None
    return [np.broadcast_to(part.reshape(-1), shape.c).copy() for part in arranged if part is not None]


def _affine(combine: Combine, position: int, factors: Factors, ones: Factors) -> tuple[Factors | None, Factors]:
    """The scale and the bias of arithmetic with constants; no scale if it divides by the activations."""
    match combine, position:
        case Combine.ADD, _:
            return ones, factors
        case Combine.SUBTRACT, 0:
            return ones, -factors
        case Combine.SUBTRACT, _:
            return -ones, factors
        case Combine.MULTIPLY, _:
            return factors, 0 * ones
        case Combine.DIVIDE, 0:
            with np.errstate(divide="ignore", over="ignore"):
                return 1 / factors, 0 * ones
    return None, 0 * ones


def _map(
    builder: Builder,
    node: NodeProto,
    position: int,
    combine: Combine,
    source: Activation,
    arranged: NDArray[np.floating],
) -> int:
    """A layer that combines a tensor with a constant one."""
    other = _stored(builder, node, arranged)
    if position == 1 and combine is Combine.SUBTRACT:
        negated = -np.ones(builder.shape(source).c)
        return builder.elementwise(node.name, source, other, Combine.ADD, scale=negated)
    return builder.elementwise(node.name, source, other, combine if position == 0 else _REVERSED[combine])


def _stored(builder: Builder, node: NodeProto, arranged: NDArray[np.floating]) -> int:
    values = np.ascontiguousarray(arranged, np.float32)
    if not np.isfinite(values).all():
        msg = "its constant is not finite"
        raise RefusedError(msg)
    return builder.add(Kind.CONSTANT, node.name, [], Shape(*arranged.shape), values=values)


def _widened(builder: Builder, node: NodeProto, source: Activation, constant: NDArray[np.floating]) -> Activation:
    """The activations, repeated along axes where only the constant has several elements."""
    axes = list(source.axes)
    if constant.ndim > len(axes):
        if any(size != 1 for size in constant.shape[: constant.ndim - len(axes)]):
            msg = f"its constant of shape {list(constant.shape)} has more axes than {source.shown}"
            raise RefusedError(msg)
        axes = [*[()] * (constant.ndim - len(axes)), *axes]
    for place, size in enumerate(constant.shape, start=len(axes) - constant.ndim):
        own = size_of(axes[place])
        if size not in (1, own) and (own != 1 or IMAGES in axes[place]):
            msg = f"its constant of shape {list(constant.shape)} does not fit {source.shown}"
            raise RefusedError(msg)
        if own == 1 and size > 1:
            axes[place] = (Atom(size, 0),)
    return whole(builder, node.name, replace(source, axes=tuple(axes)))


def _along(source: Activation, shape: Shape, constant: NDArray[np.floating]) -> NDArray[np.floating] | None:
    """A constant as [c or 1, h or 1, w or 1] of the tensor that a whole activation looks at.

    None if the axes of the two cannot be brought into line.
    """
    lead = len(source.axes) - constant.ndim
    sizes = (1,) * lead + constant.shape
    strides = [0 if size == 1 else stride for size, stride in zip(sizes, row_major(sizes), strict=True)]
    axes = tuple((Atom(size, stride),) if size > 1 else () for size, stride in zip(sizes, strides, strict=True))
    loops = _loops(source.axes, axes, shape.plane)
    if loops is None:
        return None
    flat = constant.reshape(-1)
    channels = _gathered(flat, [loop for loop in loops if loop[1] >= shape.plane])
    if not any(loop[2] for loop in loops if loop[1] < shape.plane):
        return channels.reshape(-1, 1, 1)
    if not any(loop[2] for loop in loops if loop[1] >= shape.plane):
        pixels = _gathered(flat, [loop for loop in loops if loop[1] < shape.plane])
        return pixels.reshape(1, shape.h, shape.w)
    return _gathered(flat, loops).reshape(shape.c, shape.h, shape.w)


def _gathered(flat: NDArray[np.floating], loops: Loops) -> NDArray[np.floating]:
    """The elements of a constant in the order of the tensor; one if they are all the same one."""
    if not any(stride for _, _, stride in loops):
        return flat[:1]
    places = np.zeros(1, np.int64)
    for size, _, stride in sorted(loops, key=lambda loop: -loop[1]):
        places = (places[:, None] + np.arange(size, dtype=np.int64) * stride).reshape(-1)
    return flat[places]


def _aligned(builder: Builder, name: str, first: Activation, second: Activation) -> int:
    """A tensor that a whole activation can be combined with: of the same shape, or with one channel or one pixel."""
    shape = builder.shape(first)
    loops = _loops(first.axes, second.axes, shape.plane)
    if loops is None:
        second = contiguous(builder, name, second)
        loops = _loops(first.axes, second.axes, shape.plane)
    if loops is None:
        msg = f"it combines {first.shown} with {second.shown} in another order"
        raise RefusedError(msg)
    one_channel = not any(loop[2] for loop in loops if loop[1] >= shape.plane)
    one_pixel = not any(loop[2] for loop in loops if loop[1] < shape.plane)
    target = Shape(1 if one_channel else shape.c, *((1, 1) if one_pixel else (shape.h, shape.w)))
    unit = shape.plane if one_pixel else 1
    moved = [(size, to // unit, from_) for size, to, from_ in loops if from_]
    there = builder.shape(second) == target and covering(builder, second)
    if there and all(to == from_ for _, to, from_ in moved):
        return second.tensor
    dims = [(size, to // unit, from_) for size, to, from_ in loops if _kept(to, shape, one_channel, one_pixel)]
    piece = Piece(0, 0, second.start, tuple(chained(dims)))
    return builder.add(Kind.COPY, name, [second.tensor], target, pieces=(piece,))


def _kept(stride: int, shape: Shape, one_channel: bool, one_pixel: bool) -> bool:
    return not (one_channel if stride >= shape.plane else one_pixel)


def _loops(first: Axes, second: Axes, plane: int) -> Loops | None:
    """The loops over all elements of the first axes, each within the channels or within the pixels."""
    loops: Loops = []
    for a, b in zip(first, second, strict=True):
        found = _pair(a, b)
        if found is None:
            return None
        loops += found
    result: Loops = []
    for size, to, from_ in loops:
        if to < plane < size * to:
            inner = plane // to
            if plane % to or size % inner:
                return None
            result += [(size // inner, plane, from_ * inner), (inner, to, from_)]
        else:
            result.append((size, to, from_))
    return result


def _pair(first: Atoms, second: Atoms) -> Loops | None:
    a = [part for part in simplified(first) if part != IMAGES]
    b = [part for part in simplified(second) if part != IMAGES]
    if math.prod(part.size for part in b) == 1:
        return [(part.size, part.stride, 0) for part in a]
    if IMAGES in first and IMAGES in second and simplified(first).index(IMAGES) != simplified(second).index(IMAGES):
        return None
    return refined(tuple(a), tuple(b))


def _repeated(first: Atoms, second: Atoms) -> Atoms:
    return (Atom(size_of(second), 0),) if size_of(first) < size_of(second) else first
