"""How the axes of an ONNX tensor lie in the core's memory: transposing, reshaping and slicing move no data.

The core keeps one image's activations as [channels, height, width]. An axis of a tensor in the graph is a sequence of
`Atom`s, the outermost first, each with a stride over these elements, so that tokens [batch, T, D], heads
[batch, heads, T, d] and images are views of the same memory. The axis of the images is the atom `IMAGES`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Atom:
    """A run of elements: their number, and how far apart they are; a stride of 0 repeats one element."""

    size: int
    stride: int


IMAGES = Atom(0, 0)
"""The axis of the images, which the core runs one after another or side by side."""

Atoms = tuple[Atom, ...]
Axes = tuple[Atoms, ...]


@dataclass(frozen=True)
class Images:
    """A size that is a multiple of the number of images."""

    factor: int = 1

    def __mul__(self, other: int) -> Images:
        return Images(self.factor * other)

    __rmul__ = __mul__

    def __floordiv__(self, other: int) -> Images:
        if self.factor % other:
            msg = "a part of the images"
            raise ValueError(msg)
        return Images(self.factor // other)


Size = int | Images


def size_of(atoms: Iterable[Atom]) -> int:
    """Number of elements of one image along an axis."""
    return math.prod(atom.size for atom in atoms if atom != IMAGES)


def sizes_of(axes: Axes) -> list[Size]:
    """The shape of a tensor."""
    return [Images(size_of(axis)) if IMAGES in axis else size_of(axis) for axis in axes]


def row_major(sizes: Sequence[int]) -> list[int]:
    """Strides of a contiguous array."""
    return [math.prod(sizes[place + 1 :]) for place in range(len(sizes))]


def atom(size: int, stride: int) -> Atoms:
    """An axis of one run; none at all if it has one element."""
    return (Atom(size, stride),) if size != 1 else ()


def simplified(atoms: Iterable[Atom]) -> Atoms:
    """The same elements in as few atoms as possible."""
    result: list[Atom] = []
    for part in atoms:
        if part.size == 1:
            continue
        last = result[-1] if result else IMAGES
        if IMAGES not in (last, part) and last.stride == part.size * part.stride:
            result[-1] = Atom(last.size * part.size, part.stride)
        else:
            result.append(part)
    return tuple(result)


def regrouped(axes: Axes, sizes: Sequence[Size]) -> Axes | None:
    """The elements in the same order as a tensor of another shape; None if an atom would have to be cut unevenly."""
    rest = list(simplified(part for axis in axes for part in axis))
    result: list[Atoms] = []
    for size in sizes:
        images, left = isinstance(size, Images), size.factor if isinstance(size, Images) else size
        taken: list[Atom] = []
        while left > 1 or (images and IMAGES not in taken):
            if not rest or (rest[0] == IMAGES and not images):
                return None
            first = rest.pop(0)
            if first == IMAGES or left % first.size == 0:
                taken.append(first)
                left //= max(first.size, 1)
            elif left > 1 and first.size % left == 0:
                taken.append(Atom(left, first.stride * (first.size // left)))
                rest.insert(0, Atom(first.size // left, first.stride))
                left = 1
            else:
                return None
        result.append(simplified(taken))
    return None if rest else tuple(result)


def refined(first: Atoms, second: Atoms) -> list[tuple[int, int, int]] | None:
    """The loops over two axes of the same size, as (size, stride, stride); None if their atoms do not line up."""
    a, b = list(first), list(second)
    loops: list[tuple[int, int, int]] = []
    while a and b:
        x, y = a.pop(0), b.pop(0)
        inner = min(x.size, y.size)
        if x.size % inner or y.size % inner:
            return None
        # The outer part of the larger one goes with the whole smaller one, so its inner part remains.
        if x.size == y.size:
            loops.append((inner, x.stride, y.stride))
        elif x.size > y.size:
            loops.append((inner, x.stride * (x.size // inner), y.stride))
            a.insert(0, Atom(x.size // inner, x.stride))
        else:
            loops.append((inner, x.stride, y.stride * (y.size // inner)))
            b.insert(0, Atom(y.size // inner, y.stride))
    return None if a or b else loops


def covers(axes: Axes, start: int, size: int) -> bool:
    """Whether the axes reach each of `size` elements exactly once."""
    parts = sorted((part for axis in axes for part in simplified(axis) if part != IMAGES), key=lambda part: part.stride)
    reached = 1
    for part in parts:
        if part.stride != reached:
            return False
        reached *= part.size
    return start == 0 and reached == size


def cut_at(atoms: Atoms, plane: int) -> tuple[Atoms, Atoms] | None:
    """The atoms over channels and those over pixels, of an axis on planes of `plane` pixels.

    None if an atom crosses from one plane to the next in uneven steps.
    """
    channels: list[Atom] = []
    pixels: list[Atom] = []
    for part in simplified(atoms):
        if part == IMAGES:
            continue
        if part.stride % plane == 0:
            channels.append(part)
        elif part.stride * part.size <= plane:
            pixels.append(part)
        elif plane % part.stride == 0 and part.size % (plane // part.stride) == 0:
            inner = plane // part.stride
            channels.append(Atom(part.size // inner, plane))
            pixels.append(Atom(inner, part.stride))
        else:
            return None
    return tuple(channels), tuple(pixels)


def chained(dims: Iterable[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Loops (size, target stride, source stride) over distinct elements, the outermost first and as few as possible."""
    ordered = sorted((dim for dim in dims if dim[0] > 1), key=lambda dim: -dim[1])
    for place in range(len(ordered) - 2, -1, -1):
        outer, inner = ordered[place], ordered[place + 1]
        if all(outer[side] == inner[0] * inner[side] for side in (1, 2)):
            ordered[place : place + 2] = [(outer[0] * inner[0], inner[1], inner[2])]
    return ordered or [(1, 0, 0)]
