"""Convolutions of one to three spatial axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn import functional

from tscnc_deploy.engines.onnx.differentiable.node import Node, Operator, UnsupportedError
from tscnc_deploy.engines.onnx.differentiable.windows import interleaved, padded, windows_of

SIZES = "tscnc.sizes"
"""Attribute of a convolution whose kernel was cropped, see `taps`: the sizes of the only maps that it is for."""
_CONVOLUTIONS: dict[int, Callable[..., Tensor]] = {
    1: functional.conv1d,
    2: functional.conv2d,
    3: functional.conv3d,
}
_TRANSPOSED: dict[int, Callable[..., Tensor]] = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}


def convolve(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Conv; x is [N, C, spatial axes], the weight [out, C / groups, kernel]."""
    spatial = _spatial(node, x, weight)
    if list(node.get("kernel_shape") or weight.shape[2:]) != list(weight.shape[2:]):
        msg = f"kernel_shape {node.get('kernel_shape')} is not that of the weight {list(weight.shape)}"
        raise ValueError(msg)
    if list(node.get(SIZES, x.shape[2:])) != list(x.shape[2:]):
        msg = f"a map of {list(x.shape[2:])}, which is not {node.get(SIZES)} for every number of images"
        raise UnsupportedError(msg)
    windows = windows_of(node, weight.shape[2:], x.shape[2:])
    padding: Any = windows.begin
    if windows.begin != windows.end:
        x, padding = padded(x, windows.padding), 0
    return _CONVOLUTIONS[spatial](x, weight, bias, windows.strides, padding, windows.dilations, node.get("group", 1))


def _transposed(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    spatial = _spatial(node, x, weight)
    kernel, strides = list(weight.shape[2:]), list(node.get("strides") or [1] * spatial)
    dilations = list(node.get("dilations") or [1] * spatial)
    extra = list(node.get("output_padding") or [0] * spatial)
    whole = [
        strides[place] * (x.shape[2 + place] - 1) + dilations[place] * (kernel[place] - 1) + 1
        for place in range(spatial)
    ]
    begin, end = _cropped(node, x, whole, strides, extra)
    y = _TRANSPOSED[spatial](x, weight, None, strides, 0, 0, node.get("group", 1), dilations)
    # The elements that output_padding adds lie beyond the whole result: zero, before the bias.
    y = padded(y, interleaved([-amount for amount in begin], [-amount for amount in end]))
    return y if bias is None else y + bias.reshape(-1, *[1] * spatial)


def _cropped(
    node: Node, x: Tensor, whole: list[int], strides: list[int], extra: list[int]
) -> tuple[list[int], list[int]]:
    """How much of the whole result is left out before and after, on each axis; negative numbers add to it."""
    spatial, automatic = len(whole), node.get("auto_pad", "NOTSET")
    given = wanted = list(node.get("output_shape") or [])[-spatial:]
    if not given and automatic in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [x.shape[2 + place] * strides[place] for place in range(spatial)]
    if not wanted:
        pads = list(node.get("pads") or [0] * 2 * spatial) if automatic == "NOTSET" else [0] * 2 * spatial
        return pads[:spatial], [pads[spatial + place] - extra[place] for place in range(spatial)]
    begin, end = [], []
    for place in range(spatial):
        total = whole[place] + extra[place] - wanted[place]
        # As onnxruntime does: a result that is too small grows at its end, and only to a given shape.
        half = max(total, 0) // 2
        first = half if automatic == "SAME_UPPER" else max(total, 0) - half
        begin.append(first)
        end.append((total if given else max(total, 0)) - first - extra[place])
    return begin, end


def _spatial(node: Node, x: Tensor, weight: Tensor) -> int:
    spatial = x.ndim - 2
    if spatial not in _CONVOLUTIONS or weight.ndim != x.ndim:
        msg = f"{node.op} of inputs with {x.ndim} axes"
        raise UnsupportedError(msg)
    return spatial


OPERATORS: dict[str, Operator] = {"Conv": convolve, "ConvTranspose": _transposed}
