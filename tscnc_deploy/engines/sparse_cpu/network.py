"""What the sparse CPU engine computes, layer by layer: the form between an ONNX graph and the core's program."""

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
    """A window along one axis; `pad` counts what lies before the first element."""

    kernel: int
    stride: int = 1
    dilation: int = 1
    pad: int = 0


@dataclass(frozen=True)
class SparseWeight:
    """The non-zeros of [filters, fan_in] weights, by filter and then by position.

    Attributes:
        starts: uint32 [filters + 1]; filter f has the entries starts[f] to starts[f + 1].
        positions: uint32, ascending within a filter; linear in (channel, ky, kx).
        values: float32.
        fan_in: Positions of a filter.
    """

    starts: Counts
    positions: Counts
    values: Floats
    fan_in: int

    @classmethod
    def from_entries(cls, indices: NDArray[np.int64], values: Floats, filters: int, fan_in: int) -> SparseWeight:
        """From ascending linear indices into [filters, fan_in]; zeros among the values are dropped."""
        kept = values != 0
        indices, values = indices[kept], values[kept]
        starts = np.searchsorted(indices, np.arange(filters + 1, dtype=np.int64) * fan_in)
        positions = (indices % fan_in).astype(np.uint32)
        return cls(starts.astype(np.uint32), positions, np.ascontiguousarray(values, np.float32), fan_in)

    @classmethod
    def from_dense(cls, weight: Floats) -> SparseWeight:
        """From a dense array whose first axis counts the filters."""
        flat = weight.reshape(-1)
        indices = np.flatnonzero(flat)
        return cls.from_entries(indices, flat[indices], len(weight), math.prod(weight.shape[1:]))

    @property
    def filters(self) -> int:
        """Number of filters."""
        return len(self.starts) - 1

    @property
    def density(self) -> float:
        """Share of the positions that hold a non-zero."""
        return len(self.values) / (self.filters * self.fan_in)

    def scaled(self, factors: NDArray[np.float64]) -> SparseWeight:
        """Each filter times its factor; what becomes zero is dropped."""
        starts = self.starts.astype(np.int64)
        owner = np.repeat(np.arange(self.filters, dtype=np.int64), starts[1:] - starts[:-1])
        values = (self.values * factors[owner]).astype(np.float32)
        return self.from_entries(owner * self.fan_in + self.positions, values, self.filters, self.fan_in)


@dataclass
class Layer:
    """One operation of the core; which fields count depends on `kind`.

    Attributes:
        kind: What is computed.
        sources: Tensors that are read; the second one of a convolution or an elementwise layer is added.
        target: Tensor that is written.
        name: Of the ONNX node, for messages and reports.
        y: Window along the height, of CONV and MAX_POOL.
        x: The same along the width.
        groups: Of CONV.
        weight: Of CONV.
        scale: Per channel, of INPUT and ELEMENTWISE.
        bias: Per channel, of INPUT, CONV and ELEMENTWISE.
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
    """Layers in the order in which they run; the first is INPUT.

    Attributes:
        shapes: Of every tensor.
        layers: What is computed.
        output: Tensor that holds the logits.
    """

    shapes: list[Shape]
    layers: list[Layer]
    output: int
