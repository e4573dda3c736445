"""Adaptive average pooling in operators that every engine has.

PyTorch's exporter writes it as a gather over all pixels, unless windows are equal; networks made for 224x224 pixels
pool their last map to 7x7 even where small images leave a single pixel.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


@contextmanager
def plain_pooling() -> Iterator[None]:
    """Context in which `F.adaptive_avg_pool2d`, and the module that calls it, is `adaptive_average`."""
    original = F.adaptive_avg_pool2d
    F.adaptive_avg_pool2d = adaptive_average  # type: ignore[assignment]
    try:
        yield
    finally:
        F.adaptive_avg_pool2d = original


def adaptive_average(images: Tensor, output_size: Any) -> Tensor:
    """The mean over windows that cover a map evenly, as `F.adaptive_avg_pool2d` defines them.

    Args:
        images: [N, C, H, W], or [C, H, W]; H and W must be known.
        output_size: Height and width of the result, or one number for both; None keeps a side.
    """
    sides = output_size if isinstance(output_size, tuple | list) else (output_size, output_size)
    if tuple(sides) == (1, 1):
        return images.mean((-2, -1), keepdim=True)
    for axis, side in zip((-2, -1), sides, strict=True):
        images = _along(images, axis, side)
    return images


def _along(images: Tensor, axis: int, windows: int | None) -> Tensor:
    length = images.shape[axis]
    if windows is None or windows == length:
        return images
    if windows == 1:
        return images.mean(axis, keepdim=True)
    if length % windows == 0:
        kernel = [length // windows if place == axis else 1 for place in (-2, -1)]
        return F.avg_pool2d(images, kernel)
    bounds = [(window * length // windows, -(-(window + 1) * length // windows)) for window in range(windows)]
    parts = [images.narrow(axis, start, end - start) for start, end in bounds]
    return torch.cat([part if part.shape[axis] == 1 else part.mean(axis, keepdim=True) for part in parts], axis)
