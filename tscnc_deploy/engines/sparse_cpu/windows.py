"""The windows of an ONNX convolution or pooling node, and their number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tscnc_deploy.engines.sparse_cpu.network import Axis, Shape


class WindowError(ValueError):
    """The windows are not defined for the operator, or do not fit."""


def windows(attributes: Mapping[str, Any], kernel: Sequence[int], image: Shape) -> tuple[Axis, Axis, int, int]:
    """The axes of height and width, and the height and width of the result.

    Args:
        attributes: The node's strides, dilations, pads, auto_pad and ceil_mode; ONNX's defaults if absent.
        kernel: (height, width) of a window.
        image: (height, width) that the windows move over.

    Raises:
        WindowError: The attributes are not those of two axes, or no window fits.
    """
    axes = [
        (Axis(run.kernel, run.stride, run.dilation, run.before), run.count) for run in _runs(attributes, kernel, image)
    ]
    (y, height), (x, width) = axes
    return y, x, height, width


def sizes_of_windows(
    attributes: Mapping[str, Any], kernel: Sequence[int], image: Shape, padding: bool
) -> tuple[list[int], list[int]]:
    """How many rows, and how many columns, each window covers; with or without the padding."""
    rows, columns = _runs(attributes, kernel, image)
    return rows.all_covered(padding), columns.all_covered(padding)


@dataclass(frozen=True)
class _Run:
    """The windows along one axis."""

    size: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int
    count: int

    def all_covered(self, padding: bool) -> list[int]:
        return [self._covered(place, padding) for place in range(self.count)]

    def _covered(self, place: int, padding: bool) -> int:
        first = place * self.stride - self.before
        low, high = (-self.before, self.size + self.after) if padding else (0, self.size)
        return sum(low <= first + tap * self.dilation < high for tap in range(self.kernel))


def _runs(attributes: Mapping[str, Any], kernel: Sequence[int], image: Shape) -> list[_Run]:
    strides = attributes.get("strides", (1, 1))
    dilations = attributes.get("dilations", (1, 1))
    pads = attributes.get("pads", (0, 0, 0, 0))
    if (len(kernel), len(strides), len(dilations), len(pads)) != (2, 2, 2, 4):
        msg = "its windows do not have two axes"
        raise WindowError(msg)
    automatic = bytes(attributes.get("auto_pad", b"NOTSET")).decode("ascii", "replace")
    ceil = bool(attributes.get("ceil_mode"))
    runs = []
    for axis, size in enumerate((image.h, image.w)):
        before, after = pads[axis], pads[axis + 2]
        reach = (kernel[axis] - 1) * dilations[axis] + 1
        if automatic in ("SAME_UPPER", "SAME_LOWER"):
            total = max(0, (-(-size // strides[axis]) - 1) * strides[axis] + reach - size)
            before, after = total // 2, total - total // 2
            if automatic == "SAME_LOWER":
                before, after = after, before
        elif automatic == "VALID":
            before = after = 0
        room = size + before + after - reach
        # With ceil_mode a window may be truncated, also the only one.
        if min(before, after) < 0 or room <= (-strides[axis] if ceil else -1):
            msg = f"a window of {kernel[axis]} does not fit into {size} pixels"
            raise WindowError(msg)
        count = room // strides[axis] + 1
        # A truncated last window counts only if it starts in the image or the padding before it.
        if ceil and room % strides[axis] and count * strides[axis] < size + before:
            count += 1
        runs.append(_Run(size, kernel[axis], strides[axis], dilations[axis], before, after, count))
    return runs
