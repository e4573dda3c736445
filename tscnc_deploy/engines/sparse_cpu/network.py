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
    COPY = 5
    CONSTANT = 6
    SOFTMAX = 7
    LAYER_NORM = 8
    MATMUL = 9


class Combine(IntEnum):
    """What an elementwise layer does with its sources a and b, numbered as in csrc/functions.hpp."""

    NONE = 0
    ADD = 1
    SUBTRACT = 2
    MULTIPLY = 3
    DIVIDE = 4
    DIVIDE_REVERSED = 5
    LARGEST = 6
    SMALLEST = 7


class Function(IntEnum):
    """Functions of single elements, numbered as in csrc/functions.hpp."""

    NONE = 0
    SIGMOID = 1
    TANH = 2
    EXP = 3
    ERF = 4
    GELU = 5
    GELU_TANH = 6
    SILU = 7
    HARD_SIGMOID = 8
    HARD_SWISH = 9
    LEAKY_RELU = 10
    ELU = 11
    SOFTPLUS = 12
    MISH = 13
    SQRT = 14
    ABS = 15


@dataclass(frozen=True)
class Piece:
    """A box of elements that a COPY copies.

    Attributes:
        source: Number among the layer's sources.
        target_start: First element of the target.
        source_start: First element of the source.
        dims: (size, target stride, source stride) of each loop, in elements of an image; the outermost first.
    """

    source: int
    target_start: int
    source_start: int
    dims: tuple[tuple[int, int, int], ...]


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

    @property
    def plane(self) -> int:
        """Number of pixels."""
        return self.h * self.w


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
        sources: Tensors to read. The second one of a convolution is added; that of an elementwise layer may have one
            channel, or one pixel, that counts for all; those of MATMUL are its factors.
        target: Tensor to write.
        name: Name of the ONNX node, for messages and reports.
        y: Window along the height; CONV and MAX_POOL.
        x: Window along the width; CONV and MAX_POOL.
        groups: Number of groups; CONV and MATMUL.
        weight: The weights; CONV.
        scale: Factor per channel; INPUT and ELEMENTWISE (of its first source); LAYER_NORM, per channel of a group.
        bias: Summand per channel; INPUT, CONV and ELEMENTWISE (after the scale); LAYER_NORM, per channel of a group.
        low: CONV and ELEMENTWISE clamp their result to [low, high].
        high: See `low`.
        combine: What ELEMENTWISE does with its two sources.
        function: What CONV and ELEMENTWISE apply last.
        alpha: First parameter of the function.
        beta: Second parameter of the function.
        pieces: What COPY copies.
        fill: What COPY writes elsewhere.
        values: [c, h, w] of a CONSTANT.
        size: Channels of a group; SOFTMAX and LAYER_NORM.
        epsilon: LAYER_NORM.
        filters: Whether the second factor of MATMUL is [group, out] x [in] instead of [group, in] x [out].
        factor: What the products of MATMUL are multiplied by.
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
    combine: Combine = Combine.NONE
    function: Function = Function.NONE
    alpha: float = 0.0
    beta: float = 0.0
    pieces: tuple[Piece, ...] = ()
    fill: float = 0.0
    values: Floats = field(default_factory=lambda: np.empty(0, np.float32))
    size: int = 1
    epsilon: float = 0.0
    filters: bool = False
    factor: float = 1.0

    @property
    def clamps(self) -> bool:
        """Whether the result is clamped at all."""
        return self.low > -math.inf or self.high < math.inf

    @property
    def is_linear(self) -> bool:
        """Whether nothing follows the sum that a CONV or an ELEMENTWISE computes."""
        return not self.clamps and self.function is Function.NONE


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
