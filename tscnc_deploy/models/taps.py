"""Convolutions on maps so small that some of their taps meet nothing but padding.

A 3x3 convolution on a map of one pixel uses one of its nine taps. Libraries multiply the other eight with zeros: for a
ResNet-18 on 8x8 images that is a third of all work. The cropped kernel computes the same sums without them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Taps:
    """The part of a convolution's kernel that reaches a map of a certain size.

    Attributes:
        rows: First row of the kernel that is needed, and the row after the last.
        columns: Likewise.
        padding: What the cropped kernel needs, so that its output has the same size.
    """

    rows: tuple[int, int]
    columns: tuple[int, int]
    padding: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the cropped kernel."""
        return self.rows[1] - self.rows[0], self.columns[1] - self.columns[0]

    def of(self, weight: Tensor) -> Tensor:
        """A view of those taps of a weight, [out, in, kh, kw]."""
        return weight[:, :, self.rows[0] : self.rows[1], self.columns[0] : self.columns[1]]


def needed_taps(layer: nn.Conv2d, height: int, width: int) -> Taps | None:
    """The taps that reach a map of that size; None where all of them do, or where the rest has no symmetric padding."""
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        return None
    (first_row, end_row, above), (first_column, end_column, left) = (
        _along(length, kernel, stride, padding, dilation)
        for length, kernel, stride, padding, dilation in zip(
            (height, width), layer.kernel_size, layer.stride, layer.padding, layer.dilation, strict=True
        )
    )
    taps = Taps((first_row, end_row), (first_column, end_column), (above, left))
    return None if taps.shape == layer.kernel_size else taps


def _along(length: int, kernel: int, stride: int, padding: int, dilation: int) -> tuple[int, int, int]:
    """First tap, the one after the last, and the padding, along one side of a map."""
    outputs = _outputs(length, kernel, stride, padding, dilation)
    reaching = [
        tap for tap in range(kernel) if any(0 <= o * stride - padding + tap * dilation < length for o in range(outputs))
    ]
    if not reaching:
        return 0, kernel, padding
    first, end = reaching[0], reaching[-1] + 1
    rest = padding - first * dilation
    if rest < 0 or _outputs(length, end - first, stride, rest, dilation) != outputs:
        return 0, kernel, padding
    return first, end, rest


def _outputs(length: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    return (length + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def taps_by_layer(model: nn.Module, input_shape: tuple[int, int, int]) -> dict[str, Taps]:
    """`needed_taps` of a network's convolutions, by the layer's name; layers that need all of theirs are left out.

    Args:
        model: In eval mode; it is run on one black image.
        input_shape: [C, H, W].
    """
    sizes: dict[str, set[tuple[int, int]]] = {}

    def note(name: str) -> Any:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            sizes.setdefault(name, set()).add((inputs[0].shape[-2], inputs[0].shape[-1]))

        return hook

    # Not subclasses, whose forward may be another, as that of a parametrised layer is.
    layers = {name: layer for name, layer in model.named_modules() if type(layer) is nn.Conv2d}
    hooks = [layer.register_forward_pre_hook(note(name)) for name, layer in layers.items()]
    weight = next(iter(model.parameters()), torch.empty(0))
    try:
        with torch.no_grad():
            model(torch.zeros(1, *input_shape, dtype=weight.dtype, device=weight.device))
    finally:
        for handle in hooks:
            handle.remove()
    # A layer that is called on maps of several sizes needs what any of them needs: it keeps all.
    found = {name: needed_taps(layers[name], *next(iter(seen))) for name, seen in sizes.items() if len(seen) == 1}
    return {name: taps for name, taps in found.items() if taps is not None}


class _Cropped(nn.Module):
    """A convolution with the needed taps of another one's weight; the gradient of the others is zero, as it was."""

    def __init__(self, layer: nn.Conv2d, taps: Taps) -> None:
        super().__init__()
        self.layer, self.taps = layer, taps

    def __getattr__(self, name: str) -> Any:
        """What a convolution has, such as its weight, for modules that read it."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)

    def forward(self, images: Tensor) -> Tensor:
        layer, taps = self.layer, self.taps
        return F.conv2d(
            images, taps.of(layer.weight), layer.bias, layer.stride, taps.padding, layer.dilation, layer.groups
        )


def cropped(model: nn.Module, input_shape: tuple[int, int, int]) -> nn.Module:
    """The network without the taps that only meet padding, for images of one size: the same function, with less work.

    Args:
        model: Any network; it is not changed.
        input_shape: Of the images, [C, H, W].

    Returns:
        A copy that shares every parameter and buffer with the network, so that training one trains the other; it has
        the network's mode (train or eval) and keeps its own from then on. The network itself where all taps are needed.
    """
    shared: dict[int, Any] = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    twin = copy.deepcopy(model, shared)
    mode = {name: module.training for name, module in twin.named_modules()}
    taps = taps_by_layer(twin.eval(), input_shape)
    if not taps:
        return model
    for name, module in twin.named_modules():
        module.training = mode[name]
    crop_(twin, taps)
    return twin


def crop_(model: nn.Module, taps: Mapping[str, Taps]) -> None:
    """Replaces convolutions, by name, with ones that use those taps of the same weights."""
    for name, part in taps.items():
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Conv2d)
        replaced = _Cropped(layer, part)
        replaced.training = layer.training
        model.set_submodule(name, replaced)
