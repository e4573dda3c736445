"""The values of the names in an ONNX graph during lowering."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tscnc_deploy.engines.sparse_cpu.network import SparseWeight
from tscnc_deploy.engines.sparse_cpu.views import Axes, Images, Size, sizes_of


class RefusedError(Exception):
    """Why a node is not supported; `lowering` adds the file, the node and what to use instead."""


@dataclass(frozen=True)
class Activation:
    """A tensor of the graph that depends on the images: which elements of a tensor of the network it has, see `views`.

    Attributes:
        tensor: Number of the network's tensor.
        axes: The axes of the graph's tensor; `IMAGES` is in one of them.
        start: The element with the index 0 along all axes.
    """

    tensor: int
    axes: Axes
    start: int = 0

    @property
    def sizes(self) -> list[Size]:
        """The shape that the graph sees."""
        return sizes_of(self.axes)

    @property
    def shown(self) -> str:
        """The shape, for messages."""
        shown = (
            (f"{size.factor} * batch" if size.factor > 1 else "batch") if isinstance(size, Images) else str(size)
            for size in self.sizes
        )
        return f"[{', '.join(shown)}]"


@dataclass(frozen=True)
class SparseConstant:
    """A sparse initializer: its shape, ascending linear indices, and the values at these indices."""

    shape: tuple[int, ...]
    indices: NDArray[np.int64]
    values: NDArray[np.float32]

    def dense(self) -> NDArray[np.float32]:
        """All elements."""
        flat = np.zeros(math.prod(self.shape), np.float32)
        flat[self.indices] = self.values
        return flat.reshape(self.shape)

    def transposed(self) -> SparseConstant:
        """Rows and columns of a matrix exchanged."""
        rows, columns = self.shape
        moved = self.indices % columns * rows + self.indices // columns
        order = np.argsort(moved, kind="stable")
        return SparseConstant((columns, rows), moved[order], self.values[order])


Constant = SparseConstant | NDArray[Any]
Value = Activation | Constant


def filters_of(constant: Constant) -> SparseWeight:
    """The weight of a convolution or a linear layer, filter by filter."""
    if isinstance(constant, SparseConstant):
        fan_in = math.prod(constant.shape[1:])
        return SparseWeight.from_entries(constant.indices, constant.values, constant.shape[0], fan_in)
    return SparseWeight.from_dense(constant)


def transposed(constant: Constant) -> Constant:
    """Rows and columns of a matrix exchanged."""
    return constant.transposed() if isinstance(constant, SparseConstant) else np.ascontiguousarray(constant.T)
