"""Writes a network as the program that the core reads and checks; csrc/program.cpp reads this format."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tscnc_deploy.engines.sparse_cpu.network import Axis, Kind, Layer, Network

_MAGIC = int.from_bytes(b"SCPU", "little")
VERSION = 2
"""Version of the format; the core refuses any other."""

Words = NDArray[np.uint32]


def write_program(network: Network) -> bytes:
    """The program of a network: 32-bit little-endian words, first the structure, then the arrays it refers to.

    Layout: magic, version, number of tensors, number of layers, output tensor; per tensor its channels, height and
    width; per layer its kind, target, sources and the fields of the kind; then biases, scales, constants and weights.
    An array is referred to by the index of its first word.
    """
    head: list[int] = [_MAGIC, VERSION, len(network.shapes), len(network.layers), network.output]
    for shape in network.shapes:
        head += [shape.c, shape.h, shape.w]
    arrays: list[Words] = []
    references: list[int] = []
    for layer in network.layers:
        head += _layer(layer, arrays, references, len(head))
    begin = len(head)
    for place, array in zip(references, arrays, strict=True):
        head[place] = begin
        begin += len(array)
    structure = np.array(head, dtype="<u4")
    return b"".join([structure.tobytes(), *(array.astype("<u4", copy=False).tobytes() for array in arrays)])


def _layer(layer: Layer, arrays: list[Words], references: list[int], begin: int) -> list[int]:
    words = [int(layer.kind), layer.target, len(layer.sources), *layer.sources, *_fields(layer)]
    parts = _arrays(layer)
    references += range(begin + len(words), begin + len(words) + len(parts))
    arrays += parts
    return words + [0] * len(parts)


def _fields(layer: Layer) -> list[int]:
    """The words of a kind that are no arrays."""
    match layer.kind:
        case Kind.CONV:
            return [*_axis(layer.y), *_axis(layer.x), layer.groups, *_function(layer)]
        case Kind.MAX_POOL:
            return [*_axis(layer.y), *_axis(layer.x)]
        case Kind.ELEMENTWISE:
            return [int(layer.combine), *_function(layer)]
        case Kind.COPY:
            words = [*_words(layer.fill), len(layer.pieces)]
            for piece in layer.pieces:
                words += [piece.source, piece.target_start, piece.source_start, len(piece.dims)]
                words += [word for dim in piece.dims for word in dim]
            return words
        case Kind.SOFTMAX:
            return [layer.size]
        case Kind.LAYER_NORM:
            return [layer.size, *_words(layer.epsilon)]
        case Kind.MATMUL:
            return [layer.groups, int(layer.filters), *_words(layer.factor)]
    return []


def _arrays(layer: Layer) -> list[Words]:
    parts: list[Words] = []
    if layer.kind in (Kind.CONV, Kind.ELEMENTWISE, Kind.INPUT, Kind.LAYER_NORM):
        parts.append(_bits(layer.bias))
    if layer.kind in (Kind.ELEMENTWISE, Kind.INPUT, Kind.LAYER_NORM):
        parts.append(_bits(layer.scale))
    if layer.kind is Kind.CONSTANT:
        parts.append(_bits(layer.values.reshape(-1)))
    if layer.weight is not None:
        parts += [layer.weight.starts, layer.weight.positions, _bits(layer.weight.values)]
    return parts


def _function(layer: Layer) -> list[int]:
    return [*_words(layer.low, layer.high), int(layer.function), *_words(layer.alpha, layer.beta)]


def _axis(axis: Axis) -> list[int]:
    return [axis.kernel, axis.stride, axis.dilation, axis.pad]


def _bits(values: NDArray[np.floating]) -> Words:
    return np.ascontiguousarray(values, "<f4").view("<u4")


def _words(*values: float) -> list[int]:
    return _bits(np.array(values)).tolist()
