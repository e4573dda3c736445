"""Random shifts and mirroring of training images."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


def augment(images: Tensor, kind: Literal["none", "crop", "crop-flip"], generator: torch.Generator) -> Tensor:
    """Randomly shifts, and optionally mirrors, every image.

    Args:
        images: float32 [N, C, H, W] on any device.
        kind: "none" does nothing; "crop" shifts by up to an eighth of the side in each direction, rounded down, and
            fills with zeros (the usual padding of 4 for 32x32); "crop-flip" also mirrors every image with probability
            1/2.
        generator: CPU generator, so that random numbers are the same on every device.

    Returns:
        float32 [N, C, H, W] on the same device.

    Raises:
        ValueError: Unknown kind.
    """
    if kind == "none":
        return images
    if kind not in ("crop", "crop-flip"):
        msg = f"unknown augmentation {kind!r}; use none, crop or crop-flip"
        raise ValueError(msg)
    count, channels, height, width = images.shape
    down, right = height // 8, width // 8
    rows = torch.arange(height) + torch.randint(2 * down + 1, (count, 1), generator=generator)
    columns = torch.arange(width).expand(count, width)
    offsets = torch.randint(2 * right + 1, (count, 1), generator=generator)
    if kind == "crop-flip":
        mirrored = torch.randint(2, (count, 1), generator=generator).bool()
        columns = torch.where(mirrored, columns.flip(1), columns)
    columns = columns + offsets
    device = images.device
    # The copy of a few small integers does not have to wait for pending GPU work.
    rows, columns = rows.to(device, non_blocking=True), columns.to(device, non_blocking=True)
    padded = F.pad(images, (right, right, down, down))
    return padded[
        torch.arange(count, device=device)[:, None, None, None],
        torch.arange(channels, device=device)[None, :, None, None],
        rows[:, None, :, None],
        columns[:, None, None, :],
    ]
