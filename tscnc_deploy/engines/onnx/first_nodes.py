"""What the first nodes of a graph say about the images that it takes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto

from tscnc_deploy.engines.onnx.file import array_of
from tscnc_deploy.engines.onnx.flow import attributes_of

# Means of ImageNet's pixels from 0 to 255, blue first, as networks of Caffe subtract them.
_BLUE_FIRST = (103.939, 116.779, 123.68)
_CLOSE = 1.0
# Pixels in [0, 1] are not divided by such a number, and have no such mean.
_LARGE_DIVISOR = 50.0
_LARGE_MEAN = 2.0
_MOST = 8
_FOLLOWED = ("Add", "Cast", "Div", "Identity", "Mul", "Sub", "Transpose")


@dataclass(frozen=True)
class Hints:
    """What is beyond doubt; None for what is not.

    Attributes:
        layout: Order of the axes.
        range: 255 if pixels are from 0 to 255.
        channels: Order of the colours.
        why: How the range shows.
    """

    layout: Literal["nchw", "nhwc"] | None = None
    range: int | None = None
    channels: Literal["bgr"] | None = None
    why: str = ""


def hints_of(graph: GraphProto, images: str, stored: Collection[str]) -> Hints:
    """Follows the input through nodes that move, cast, scale or shift it.

    Args:
        graph: The graph.
        images: Name of its input.
        stored: Names of its initializers.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    values = {node.output[0]: attributes_of(node).get("value") for node in graph.node if node.op_type == "Constant"}
    constants |= {name: tensor for name, tensor in values.items() if tensor is not None}
    name, layout, pixels, channels, why = images, None, None, None, ""
    for _ in range(_MOST):
        readers = [node for node in graph.node if name in node.input]
        if len(readers) != 1 or not readers[0].output:
            break
        (node,) = readers
        others = [other for other in node.input if other and other != name]
        tensors = [constants[other] for other in others if other in constants]
        if len(tensors) < len(others) or node.op_type not in _FOLLOWED:
            break
        if node.op_type == "Transpose":
            layout = layout or _layout(node)
        elif tensors and pixels is None:
            numbers = array_of(tensors[0]).astype(np.float64).reshape(-1)
            pixels, channels, why = _pixels(node, name, numbers)
        name = node.output[0]
    return Hints(layout, pixels, channels, why)


def _layout(node: NodeProto) -> Literal["nchw", "nhwc"] | None:
    order = list(attributes_of(node).get("perm", ()))
    return "nhwc" if order == [0, 3, 1, 2] else "nchw" if order == [0, 2, 3, 1] else None


def _pixels(
    node: NodeProto, name: str, numbers: NDArray[Any]
) -> tuple[Literal[255] | None, Literal["bgr"] | None, str]:
    sizes = np.abs(numbers)
    if node.op_type == "Div" and node.input[0] == name and sizes.size and sizes.min() >= _LARGE_DIVISOR:
        return 255, None, f"its first nodes divide them by {numbers[0]:.4g}"
    if node.op_type == "Mul" and sizes.size and 0 < sizes.max() <= 1 / _LARGE_DIVISOR:
        return 255, None, f"its first nodes divide them by {1 / numbers[0]:.4g}"
    if node.op_type in ("Add", "Sub") and node.input[0] == name and sizes.size and sizes.min() > _LARGE_MEAN:
        blue = len(sizes) == 3 and bool((np.abs(sizes - _BLUE_FIRST) < _CLOSE).all())
        return 255, "bgr" if blue else None, f"its first nodes subtract {sizes[0]:.4g}"
    return None, None, ""
