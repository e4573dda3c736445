"""Images in memory: one split, and the three splits of a data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from tscnc_deploy.pixels import to_unit_range

_CHUNK = 4096


@dataclass(frozen=True, eq=False)
class Split:
    """Images and labels on one device.

    Attributes:
        images: [N, C, H, W], uint8 (0 to 255) or float32 in [0, 1].
        labels: int64 [N].
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Float32 images [n, C, H, W] in [0, 1] and labels [n] of the given indices, on the split's device."""
        index = index.to(self.images.device)
        images = self.images[index]
        return to_unit_range(images) if images.dtype == torch.uint8 else images, self.labels[index]

    def to(self, device: torch.device | str) -> Self:
        """The same split on another device."""
        return type(self)(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True, eq=False)
class Dataset:
    """Disjoint splits for training, for validation (tuning and early stopping), and for testing.

    Attributes:
        name: Name of the data set, as in `data.dataset`.
        classes: Names of the classes, indexed by labels.
        skipped: Corrupt files that were skipped because `data.corrupt_images = "skip"`.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    skipped: tuple[str, ...] = ()

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of every image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    def channel_statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel over the training images, for values in [0, 1].

        The standard deviation of a constant channel is given as 1, so that it is safe to divide by.
        """
        images = self.train.images
        # Sums of integers are exact in float64, so neither the order nor the number of threads changes the result.
        scale = 255.0 if images.dtype == torch.uint8 else 1.0
        total = torch.zeros(images.shape[1], dtype=torch.float64, device=images.device)
        squares = torch.zeros_like(total)
        for start in range(0, len(images), _CHUNK):
            values = images[start : start + _CHUNK].double()
            total += values.sum((0, 2, 3))
            squares += values.square().sum((0, 2, 3))
        count = images.numel() // images.shape[1]
        mean = total / count
        deviation = (squares / count - mean.square()).clamp(min=0).sqrt() / scale
        # Anything below a thousandth of a grey level is rounding error.
        deviation[deviation < 1e-6] = 1
        return tuple((mean / scale).tolist()), tuple(deviation.tolist())
