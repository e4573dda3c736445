"""Filtering and sampling of images between pixels, with results that do not depend on the batch.

Filters are sums of shifted images, because the rounding of a convolution may depend on the batch size; operations on
whole rows and columns are computed in float64.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

Edge = Literal["nearest", "mirror", "reflect"]
"""How an image continues beyond its edge, in the terms of scipy.ndimage: aaa|abc|ccc, cb|abc|ba or cba|abc|cba."""


def inside(places: Tensor, side: int, edge: Edge) -> Tensor:
    """The pixel that is used for each position, int64, on a side of `side` pixels."""
    if edge == "nearest" or side == 1:
        return places.clamp(0, side - 1)
    if edge == "mirror":
        period = 2 * (side - 1)
        return torch.minimum(places % period, period - places % period)
    period = 2 * side
    return torch.minimum(places % period, period - 1 - places % period)


def correlate(images: Tensor, kernels: Tensor, edge: Edge) -> Tensor:
    """Weighted sums of each pixel's neighbourhood.

    Args:
        images: float32 or float64 [N, C, H, W].
        kernels: float64 [1 or N, k, l], k and l odd.
        edge: See `Edge`.
    """
    rows, columns = kernels.shape[1:]
    height, width = images.shape[2:]
    down = inside(torch.arange(-(rows // 2), height + rows // 2, device=images.device), height, edge)
    across = inside(torch.arange(-(columns // 2), width + columns // 2, device=images.device), width, edge)
    padded = images[:, :, down][:, :, :, across]
    weights = kernels.to(images)
    total = torch.zeros_like(images)
    for row in range(rows):
        for column in range(columns):
            weight = weights[:, row, column, None, None, None]
            total = total + weight * padded[:, :, row : row + height, column : column + width]
    return total


def gaussian_blur(images: Tensor, sigma: float, edge: Edge = "nearest", truncate: float = 4) -> Tensor:
    """Blurs with a normal density of standard deviation `sigma` pixels, cut off at `truncate` of them."""
    reach = int(truncate * sigma + 0.5)
    if reach == 0:
        return images
    weights = torch.exp(-((offsets(reach, images.device) / sigma) ** 2) / 2)[None, None]
    weights = weights / weights.sum()
    return correlate(correlate(images, weights, edge), weights.mT, edge)


def sample(images: Tensor, rows: Tensor, columns: Tensor, edge: Edge) -> Tensor:
    """Samples images between pixels with linear interpolation.

    Args:
        images: [N, C, H, W].
        rows: float64 [N, H, W], the row of each pixel of the result.
        columns: Likewise.
        edge: See `Edge`.
    """
    height, width = images.shape[2:]
    top, left = rows.floor().long(), columns.floor().long()
    below, beside = (rows - top)[:, None], (columns - left)[:, None]
    image = torch.arange(len(images), device=images.device)[:, None, None]

    def pixels(down: int, right: int) -> Tensor:
        taken = images[image, :, inside(top + down, height, edge), inside(left + right, width, edge)]
        return taken.permute(0, 3, 1, 2)

    upper = pixels(0, 0) * (1 - beside) + pixels(0, 1) * beside
    lower = pixels(1, 0) * (1 - beside) + pixels(1, 1) * beside
    return upper * (1 - below) + lower * below


def separable(images: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Multiplies the rows, then the columns, of images by matrices [H', H] and [W', W]; float64."""
    return down @ images.double() @ across.mT


def box(side: int, count: int, device: torch.device) -> Tensor:
    """float64 [count, side]: Pillow's BOX filter, which includes a pixel if its centre is in the box."""
    ratio = side / count
    half = max(ratio, 1.0) / 2
    centres = (torch.arange(count, device=device).double()[:, None] + 0.5) * ratio
    distance = torch.arange(side, device=device) + 0.5 - centres
    taken = ((distance > -half) & (distance <= half)).double()
    return taken / taken.sum(1, keepdim=True)


def zoom(side: int, factor: float, device: torch.device) -> Tensor:
    """float64 [side, side]: the middle of a side, enlarged by a factor of at least 1 with linear interpolation."""
    cut = math.ceil(side / factor)
    large = round(cut * factor)
    first, trimmed = (side - cut) // 2, (large - side) // 2
    places = (torch.arange(side, device=device).double() + trimmed) * ((cut - 1) / max(large - 1, 1)) + first
    pixels = torch.arange(side, device=device)
    return (1 - (places[:, None] - pixels).abs()).clamp(min=0)


def offsets(reach: int, device: torch.device) -> Tensor:
    """float64 [2 * reach + 1], from -reach to reach."""
    return torch.arange(-reach, reach + 1, device=device).double()
