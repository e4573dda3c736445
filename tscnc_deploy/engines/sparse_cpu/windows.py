"""The windows of an ONNX convolution or pooling node, and how many of them there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tscnc_deploy.engines.sparse_cpu.network import Axis, Shape


class WindowError(ValueError):
    """Windows that the operator does not define, or that find no place."""


def windows(attributes: Mapping[str, Any], kernel: Sequence[int], image: Shape) -> tuple[Axis, Axis, int, int]:
    """The axes of height and width, and the height and width of the result.

    Args:
        attributes: Of the node: strides, dilations, pads, auto_pad, ceil_mode; ONNX's defaults if absent.
        kernel: (height, width) of a window.
        image: What the windows move over.

    Raises:
        WindowError: The attributes are not those of two axes, or no window fits.
    """
    strides = attributes.get("strides", (1, 1))
    dilations = attributes.get("dilations", (1, 1))
    pads = attributes.get("pads", (0, 0, 0, 0))
    if (len(kernel), len(strides), len(dilations), len(pads)) != (2, 2, 2, 4):
        msg = "its windows do not have two axes"
        raise WindowError(msg)
    automatic = bytes(attributes.get("auto_pad", b"NOTSET")).decode("ascii", "replace")
    ceil = bool(attributes.get("ceil_mode"))
    axes = []
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
        if min(before, after, room) < 0:
            msg = f"no window of {kernel[axis]} fits into {size} pixels"
            raise WindowError(msg)
        count = room // strides[axis] + 1
        # A last window that is cut off counts only if it begins on the image or the padding before it.
        if ceil and room % strides[axis] and count * strides[axis] < size + before:
            count += 1
        axes.append((Axis(kernel[axis], strides[axis], dilations[axis], before), count))
    (y, height), (x, width) = axes
    return y, x, height, width
