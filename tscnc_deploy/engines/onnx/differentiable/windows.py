"""Where the windows of a convolution or of a pooling lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from tscnc_deploy.engines.onnx.differentiable.node import Node, UnsupportedError


@dataclass(frozen=True)
class Windows:
    """Kernel, strides, dilations and padding, one number for each spatial axis.

    Attributes:
        kernel: Number of elements.
        strides: Steps between windows.
        dilations: Steps between elements of a window.
        begin: Padding before the first element.
        end: Padding after the last one; with `ceil_mode` without what makes the last window complete.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]

    @property
    def padding(self) -> list[int]:
        """In the order of `torch.nn.functional.pad`: the last axis first."""
        return interleaved(self.begin, self.end)

    def missing(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """With `ceil_mode`, how many elements the last window lacks on each axis of these sizes."""
        lacking = []
        for place, size in enumerate(sizes):
            reach = self.dilations[place] * (self.kernel[place] - 1) + 1
            padded = size + self.begin[place] + self.end[place]
            steps = math.ceil(max(padded - reach, 0) / self.strides[place])
            # A window that would begin in the padding at the end is left out.
            if steps * self.strides[place] >= size + self.begin[place]:
                steps -= 1
            lacking.append(max(steps * self.strides[place] + reach - padded, 0))
        return tuple(lacking)


def windows_of(node: Node, kernel: Sequence[int], sizes: Sequence[int]) -> Windows:
    """The windows of a node.

    Args:
        node: A convolution or a pooling.
        kernel: Size of the kernel.
        sizes: Size of the input on the spatial axes.
    """
    rank = len(kernel)
    strides = tuple(node.get("strides") or [1] * rank)
    dilations = tuple(node.get("dilations") or [1] * rank)
    automatic = node.get("auto_pad", "NOTSET")
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        begin, end = [], []
        for place, size in enumerate(sizes):
            reach = dilations[place] * (kernel[place] - 1) + 1
            total = max((math.ceil(size / strides[place]) - 1) * strides[place] + reach - size, 0)
            less, more = total // 2, total - total // 2
            begin.append(less if automatic == "SAME_UPPER" else more)
            end.append(more if automatic == "SAME_UPPER" else less)
    elif automatic not in ("NOTSET", "VALID"):
        msg = f"auto_pad {automatic!r}"
        raise UnsupportedError(msg)
    else:
        pads = list(node.get("pads") or [0] * 2 * rank) if automatic == "NOTSET" else [0] * 2 * rank
        begin, end = pads[:rank], pads[rank:]
    return Windows(tuple(kernel), strides, dilations, tuple(begin), tuple(end))


def interleaved(begin: Sequence[int], end: Sequence[int]) -> list[int]:
    """Padding in the order of `torch.nn.functional.pad`: both ends of the last axis, then of the one before."""
    return [amount for pair in zip(reversed(begin), reversed(end), strict=True) for amount in pair]


def padded(x: Tensor, padding: Sequence[int], value: float = 0.0) -> Tensor:
    """The tensor with padding as `interleaved` gives it; negative amounts crop."""
    return functional.pad(x, list(padding), value=value) if any(padding) else x
