"""Writes a network as the program that the core reads and checks; csrc/program.cpp reads this format."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tscnc_deploy.engines.sparse_cpu.network import Axis, Kind, Layer, Network

_MAGIC = int.from_bytes(b"SCPU", "little")
VERSION = 1
"""Version of the format; the core refuses any other."""

Words = NDArray[np.uint32]


def write_program(network: Network) -> bytes:
    """The program of a network: 32-bit little-endian words, first the structure, then the arrays it refers to.

    Layout: magic, version, number of tensors, number of layers, output tensor; per tensor its channels, height and
    width; per layer its kind, target, sources and the fields of the kind; then biases, scales and weights. An array is
    referred to by the index of its first word.
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
    words = [int(layer.kind), layer.target, len(layer.sources), *layer.sources]
    if layer.kind in (Kind.CONV, Kind.MAX_POOL):
        words += _axis(layer.y) + _axis(layer.x)
    if layer.kind is Kind.CONV:
        words.append(layer.groups)
    parts: list[Words] = []
    if layer.kind in (Kind.CONV, Kind.ELEMENTWISE):
        words += _bits(np.array([layer.low, layer.high])).tolist()
    if layer.kind in (Kind.CONV, Kind.ELEMENTWISE, Kind.INPUT):
        parts.append(_bits(layer.bias))
    if layer.kind in (Kind.ELEMENTWISE, Kind.INPUT):
        parts.append(_bits(layer.scale))
    if layer.weight is not None:
        parts += [layer.weight.starts, layer.weight.positions, _bits(layer.weight.values)]
    references += range(begin + len(words), begin + len(words) + len(parts))
    arrays += parts
    return words + [0] * len(parts)


def _axis(axis: Axis) -> list[int]:
    return [axis.kernel, axis.stride, axis.dilation, axis.pad]


def _bits(values: NDArray[np.floating]) -> Words:
    return np.ascontiguousarray(values, "<f4").view("<u4")
