"""The layers of the sparse CPU engine: the intermediate representation between an ONNX graph and the core's program."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Counts = NDArray[np.uint32]


class Kind(IntEnum):
    """The core's operations, numbered as in csrc/program.hpp."""

    INPUT = 0
    CONV = 1
    MAX_POOL = 2
    MEAN = 3
    ELEMENTWISE = 4
    CONCAT = 5


@dataclass(frozen=True)
class Shape:
    """Channels, height and width of one image's activations; a row of features is [features, 1, 1]."""

    c: int
    h: int
    w: int

    @property
    def size(self) -> int:
        """Number of values."""
        return self.c * self.h * self.w


@dataclass(frozen=True)
class Axis:
    """A window along one axis; `pad` is the padding before the first element."""

    kernel: int
    stride: int = 1
    dilation: int = 1
    pad: int = 0


@dataclass(frozen=True)
class SparseWeight:
    """The non-zeros of [filters, fan_in] weights, ordered by filter and then by position.

    Attributes:
        starts: uint32 [filters + 1]; filter f has the entries starts[f] to starts[f + 1].
        positions: uint32, ascending within a filter; linear in (channel, ky, kx).
        values: float32.
        fan_in: Number of positions of a filter.
    """

    starts: Counts
    positions: Counts
    values: Floats
    fan_in: int

    @classmethod
    def from_entries(cls, indices: NDArray[np.int64], values: Floats, filters: int, fan_in: int) -> SparseWeight:
        """Creates it from ascending linear indices into [filters, fan_in]; drops zeros among the values."""
        kept = values != 0
        indices, values = indices[kept], values[kept]
        starts = np.searchsorted(indices, np.arange(filters + 1, dtype=np.int64) * fan_in)
        positions = (indices % fan_in).astype(np.uint32)
        return cls(starts.astype(np.uint32), positions, np.ascontiguousarray(values, np.float32), fan_in)

    @classmethod
    def from_dense(cls, weight: Floats) -> SparseWeight:
        """Creates it from a dense array with the filters along the first axis."""
        flat = weight.reshape(-1)
        indices = np.flatnonzero(flat)
        return cls.from_entries(indices, flat[indices], len(weight), math.prod(weight.shape[1:]))

    @property
    def filters(self) -> int:
        """Number of filters."""
        return len(self.starts) - 1

    @property
    def density(self) -> float:
        """Share of the positions with a non-zero."""
        return len(self.values) / (self.filters * self.fan_in)

    def scaled(self, factors: NDArray[np.float64]) -> SparseWeight:
        """Multiplies each filter by its factor; drops values that become zero."""
        starts = self.starts.astype(np.int64)
        owner = np.repeat(np.arange(self.filters, dtype=np.int64), starts[1:] - starts[:-1])
        values = (self.values * factors[owner]).astype(np.float32)
        return self.from_entries(owner * self.fan_in + self.positions, values, self.filters, self.fan_in)


@dataclass
class Layer:
    """One operation of the core; which fields apply depends on `kind`.

    Attributes:
        kind: The operation.
        sources: Tensors to read; the second one of a convolution or an elementwise layer is added.
        target: Tensor to write.
        name: Name of the ONNX node, for messages and reports.
        y: Window along the height; CONV and MAX_POOL.
        x: Window along the width; CONV and MAX_POOL.
        groups: Number of groups; CONV.
        weight: The weights; CONV.
        scale: Factor per channel; INPUT and ELEMENTWISE.
        bias: Summand per channel; INPUT, CONV and ELEMENTWISE.
        low: CONV and ELEMENTWISE clamp their result to [low, high].
        high: See `low`.
    """

    kind: Kind
    sources: list[int]
    target: int
    name: str
    y: Axis = Axis(1)
    x: Axis = Axis(1)
    groups: int = 1
    weight: SparseWeight | None = None
    scale: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    bias: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    low: float = -math.inf
    high: float = math.inf

    @property
    def clamps(self) -> bool:
        """Whether the result is clamped at all."""
        return self.low > -math.inf or self.high < math.inf


@dataclass
class Network:
    """Layers in execution order; the first is INPUT.

    Attributes:
        shapes: Shape of every tensor.
        layers: The layers.
        output: Tensor that contains the logits.
    """

    shapes: list[Shape]
    layers: list[Layer]
    output: int
