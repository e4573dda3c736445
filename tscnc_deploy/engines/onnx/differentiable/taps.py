"""Convolutions on maps so small that some taps of their kernels meet nothing but padding.

A 3x3 convolution on a map of one pixel uses one of its nine taps. Libraries multiply the other eight with zeros: for a
ResNet-18 on 8x8 images that is a third of all work. The cropped kernel computes the same sums without them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from tscnc_deploy.engines.onnx.differentiable.operators.convolutions import SIZES
from tscnc_deploy.engines.onnx.differentiable.step import Step
from tscnc_deploy.engines.onnx.differentiable.windows import windows_of


def cropped(step: Step, outlines: Mapping[str, Tensor], constants: Mapping[str, Tensor]) -> tuple[Step, Tensor] | None:
    """A convolution without the taps that only meet padding.

    Args:
        step: Any node.
        outlines: The values of the graph, see `shapes.outlines_of`.
        constants: Those that are known, by name.

    Returns:
        The node, which reads a weight of another name, and that weight; None if the node needs all taps, or is no
        convolution with a constant weight.
    """
    weight = constants.get(step.inputs[1]) if step.node.op == "Conv" and len(step.inputs) > 1 else None
    if weight is None or step.inputs[0] not in outlines:
        return None
    sizes, kernel = outlines[step.inputs[0]].shape[2:], weight.shape[2:]
    windows = windows_of(step.node, kernel, sizes)
    axes = zip(sizes, kernel, windows.strides, windows.begin, windows.end, windows.dilations, strict=True)
    parts = [_along(*axis) for axis in axes]
    taps = tuple(slice(first, end) for first, end, _, _ in parts)
    name = f"{step.inputs[1]}{[(part.start, part.stop) for part in taps]}"
    part = weight[:, :, *taps]
    if part.shape == weight.shape or name in outlines:
        return None
    attributes = dict(step.node.attributes) | {
        "kernel_shape": list(part.shape[2:]),
        "pads": [*(before for _, _, before, _ in parts), *(after for _, _, _, after in parts)],
        "auto_pad": "NOTSET",
        SIZES: list(sizes),
    }
    inputs = (step.inputs[0], name, *step.inputs[2:])
    return replace(step, node=replace(step.node, attributes=attributes), inputs=inputs), part


def _along(length: int, kernel: int, stride: int, before: int, after: int, dilation: int) -> tuple[int, int, int, int]:
    """First tap, the one after the last, and the padding before and after, along one axis of a map."""
    outputs = _outputs(length + before + after, kernel, stride, dilation)
    reaching = [
        tap for tap in range(kernel) if any(0 <= o * stride - before + tap * dilation < length for o in range(outputs))
    ]
    if reaching:
        first, end = reaching[0], reaching[-1] + 1
        start = before - first * dilation
        lacking = (outputs - 1) * stride + dilation * (end - first - 1) + 1 - length - start
        # The same on both sides if possible: libraries pad otherwise in an operation of its own.
        for rest in (start, max(lacking, 0)):
            if start >= 0 and _outputs(length + start + rest, end - first, stride, dilation) == outputs:
                return first, end, start, rest
    return 0, kernel, before, after


def _outputs(length: int, kernel: int, stride: int, dilation: int) -> int:
    return (length - dilation * (kernel - 1) - 1) // stride + 1
