"""Brings activations into the arrangement that a layer needs: as they are where possible, else by a copy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from tscnc_deploy.engines.sparse_cpu.network import Kind, Piece, Shape
from tscnc_deploy.engines.sparse_cpu.values import Activation, RefusedError
from tscnc_deploy.engines.sparse_cpu.views import (
    IMAGES,
    Atoms,
    Axes,
    atom,
    chained,
    covers,
    cut_at,
    row_major,
    simplified,
    size_of,
)

MAX_CHANNELS, MAX_SIDE, MAX_DIMS = 1 << 16, 1 << 14, 16
"""Limits of the core, see csrc/program.cpp."""


class Layers(Protocol):
    """What `Builder` offers to this module."""

    def shape(self, activation: Activation) -> Shape:
        """Shape of the tensor that an activation looks at."""

    def add(self, kind: Kind, name: str, sources: Sequence[int], shape: Shape, **fields: object) -> int:
        """Appends a layer that makes a new tensor, and returns the tensor."""


def covering(layers: Layers, activation: Activation) -> bool:
    """Whether it has each element of its tensor once."""
    return covers(activation.axes, activation.start, layers.shape(activation).size)


def whole(layers: Layers, name: str, activation: Activation) -> Activation:
    """All elements of a tensor, whose axes are each made of channels and of pixels."""
    plane = layers.shape(activation).plane
    if covering(layers, activation) and all(cut_at(axis, plane) is not None for axis in activation.axes):
        return activation
    return copied(layers, name, activation, natural_channels(layers, activation))


def planes(layers: Layers, name: str, activation: Activation, axis: int) -> Activation:
    """The channels of the tensor are one axis, and the pixels are all others."""
    _require_within_images(activation, axis)
    shape = layers.shape(activation)
    if covering(layers, activation) and simplified(activation.axes[axis]) == atom(shape.c, shape.plane):
        return activation
    return copied(layers, name, activation, [axis])


def groups(layers: Layers, name: str, activation: Activation, axis: int) -> Activation:
    """Neighbouring channels of the tensor are one axis; the others may be channels around them, or pixels."""
    _require_within_images(activation, axis)
    along = atom(size_of(activation.axes[axis]), layers.shape(activation).plane)
    if covering(layers, activation) and simplified(activation.axes[axis]) == along:
        return activation
    return copied(layers, name, activation, [axis])


def picture(layers: Layers, name: str, activation: Activation) -> Activation:
    """[batch, c, h, w] as the tensor has them."""
    if len(activation.axes) != 4 or activation.axes[0] != (IMAGES,):
        msg = f"it reads activations of shape {activation.shown} as images"
        raise RefusedError(msg)
    channels, height, width = (size_of(axis) for axis in activation.axes[1:])
    if layers.shape(activation) == Shape(channels, height, width) and activation.axes == picture_axes(
        Shape(channels, height, width)
    ):
        return activation
    return copied(layers, name, activation, [1])


def picture_axes(shape: Shape) -> Axes:
    """The axes of a tensor that the graph sees as [batch, c, h, w]."""
    return ((IMAGES,), atom(shape.c, shape.plane), atom(shape.h, shape.w), atom(shape.w, 1))


def contiguous(layers: Layers, name: str, activation: Activation) -> Activation:
    """A copy in the order that the graph sees."""
    first = next((place for place, axis in enumerate(activation.axes) if size_of(axis) > 1), 0)
    return copied(layers, name, activation, [first])


def copied(layers: Layers, name: str, activation: Activation, channels: Sequence[int]) -> Activation:
    """A copy in which some axes are the channels, and the others the pixels."""
    sizes = [size_of(axis) for axis in activation.axes]
    return assembled(layers, name, sizes, [(activation, [0] * len(sizes))], channels)


def natural_channels(layers: Layers, activation: Activation) -> list[int]:
    """The axes that are channels already, or else the one that most layers take for them."""
    plane = layers.shape(activation).plane
    found = []
    for place, axis in enumerate(activation.axes):
        cut = cut_at(axis, plane)
        if cut is not None and cut[0] and not cut[1] and any(part.stride for part in cut[0]):
            found.append(place)
    if plane == 1 or not found:
        last = len(activation.axes) - 1
        return [1 if last == 3 and activation.axes[1] != (IMAGES,) else last]
    return found


def assembled(
    layers: Layers,
    name: str,
    sizes: Sequence[int],
    parts: Sequence[tuple[Activation, Sequence[int]]],
    channels: Sequence[int],
    fill: float = 0.0,
) -> Activation:
    """A new tensor that activations are copied into.

    Args:
        layers: The network so far.
        name: Name of the node.
        sizes: Sizes of the result without the images; IMAGES is where the parts have it.
        parts: What is copied, and the index along every axis at which it begins.
        channels: The axes that become the channels, the outermost first; the others become pixels.
        fill: What the parts do not cover.
    """
    pattern = parts[0][0].axes
    places = _places(sizes, pattern, channels)
    order = [place for place, _ in places]
    lengths = {place: _length(sizes, pattern, place) for place in order}
    outer = [lengths[place] for place, is_channel in places if is_channel]
    pixels = [lengths[place] for place, is_channel in places if not is_channel and not _is_none(place, pattern)]
    shape = _shape(outer, pixels)
    strides = dict(zip(order, row_major([lengths[place] for place in order]), strict=True))
    pieces = []
    for number, (activation, offsets) in enumerate(parts):
        dims = []
        start = 0
        for axis, offset in enumerate(offsets):
            for side, atoms in enumerate(_sides(activation.axes[axis])):
                stride = strides[(axis, side)]
                start += offset * stride
                inner = row_major([part.size for part in atoms])
                dims += [(part.size, stride * step, part.stride) for part, step in zip(atoms, inner, strict=True)]
        chain = chained(dims)
        if len(chain) > MAX_DIMS:
            msg = "its copy has too many dimensions"
            raise RefusedError(msg)
        pieces.append(Piece(number, start, activation.start, tuple(chain)))
    sources = [activation.tensor for activation, _ in parts]
    tensor = layers.add(Kind.COPY, name, sources, shape, pieces=tuple(pieces), fill=fill)
    axes = tuple(
        _joined([atom(lengths[(axis, side)], strides[(axis, side)]) for side in range(len(_sides(atoms)))])
        for axis, atoms in enumerate(pattern)
    )
    return Activation(tensor, axes)


def _sides(atoms: Atoms) -> list[Atoms]:
    """The atoms of an axis, or those before and those after the images."""
    if IMAGES not in atoms:
        return [simplified(atoms)]
    at = atoms.index(IMAGES)
    return [simplified(atoms[:at]), simplified(atoms[at + 1 :])]


def _joined(sides: Sequence[Atoms]) -> Atoms:
    return sides[0] if len(sides) == 1 else (*sides[0], IMAGES, *sides[1])


def _places(sizes: Sequence[int], pattern: Axes, channels: Sequence[int]) -> list[tuple[tuple[int, int], bool]]:
    """(axis, side) in the order of the copy, channels in their given order, and whether it is a channel."""
    others = [axis for axis in range(len(sizes)) if axis not in channels]
    return [
        ((axis, side), axis in channels) for axis in (*channels, *others) for side in range(len(_sides(pattern[axis])))
    ]


def _is_none(place: tuple[int, int], pattern: Axes) -> bool:
    """Whether a side of the images' axis has no atoms."""
    axis, side = place
    return IMAGES in pattern[axis] and not _sides(pattern[axis])[side]


def _length(sizes: Sequence[int], pattern: Axes, place: tuple[int, int]) -> int:
    axis, side = place
    sides = _sides(pattern[axis])
    return sizes[axis] if len(sides) == 1 else size_of(sides[side])


def _shape(channels: Sequence[int], pixels: Sequence[int]) -> Shape:
    # Two axes are height and width, even if one has a single element.
    kept = list(pixels) if len(pixels) == 2 else [size for size in pixels if size > 1]
    height, width = (math.prod(kept[:-1]), kept[-1]) if kept else (1, 1)
    if width > MAX_SIDE or height > MAX_SIDE:
        height = next(side for side in range(math.isqrt(height * width), 0, -1) if height * width % side == 0)
        width = math.prod(kept) // height
    if math.prod(channels) > MAX_CHANNELS or width > MAX_SIDE:
        msg = f"it needs {math.prod(channels)} channels of {height} x {width} pixels"
        raise RefusedError(msg)
    return Shape(math.prod(channels), height, width)


def _require_within_images(activation: Activation, axis: int) -> None:
    if IMAGES in activation.axes[axis]:
        msg = "it works along the axis of the images"
        raise RefusedError(msg)
