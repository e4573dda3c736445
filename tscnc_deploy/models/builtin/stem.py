"""Shared parts of the architectures' small-image forms: the first layers and channel counts."""

from __future__ import annotations

from torch import nn

from tscnc_deploy.models.config import ModelConfig

_LARGE_SIDE = 96


def channels(count: int, width: float) -> int:
    """A number of channels times the width, rounded to a multiple of 8 and at least 8."""
    return max(8, int(count * width / 8 + 0.5) * 8)


def is_large(config: ModelConfig) -> bool:
    """Whether images are large enough for the stem to reduce them, as for ImageNet."""
    return min(config.input_shape[1:]) >= _LARGE_SIDE


def first_convolution(config: ModelConfig, out: int) -> nn.Conv2d:
    """7x7 with stride 2 for large images, 3x3 with stride 1 for small ones."""
    if is_large(config):
        return nn.Conv2d(config.input_shape[0], out, 7, stride=2, padding=3, bias=False)
    return nn.Conv2d(config.input_shape[0], out, 3, padding=1, bias=False)


def first_pooling(config: ModelConfig) -> nn.Module:
    """3x3 max pooling with stride 2 for large images, identity for small ones."""
    return nn.MaxPool2d(3, stride=2, padding=1) if is_large(config) else nn.Identity()
