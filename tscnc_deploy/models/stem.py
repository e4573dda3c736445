"""What the small-image forms of all architectures share: the first layers, and numbers of channels."""

from __future__ import annotations

from torch import nn

from tscnc_deploy.models.config import ModelConfig

_LARGE_SIDE = 96


def channels(count: int, width: float) -> int:
    """A number of channels times the width: rounded to a multiple of 8, and at least 8."""
    return max(8, int(count * width / 8 + 0.5) * 8)


def is_large(config: ModelConfig) -> bool:
    """Whether images are so large that the stem should reduce them, as it does on ImageNet."""
    return min(config.input_shape[1:]) >= _LARGE_SIDE


def first_convolution(config: ModelConfig, out: int) -> nn.Conv2d:
    """7x7 with stride 2 for large images, 3x3 with stride 1 for small ones."""
    if is_large(config):
        return nn.Conv2d(config.input_shape[0], out, 7, stride=2, padding=3, bias=False)
    return nn.Conv2d(config.input_shape[0], out, 3, padding=1, bias=False)


def first_pooling(config: ModelConfig) -> nn.Module:
    """3x3 maximum with stride 2 for large images, nothing for small ones."""
    return nn.MaxPool2d(3, stride=2, padding=1) if is_large(config) else nn.Identity()
