"""What happens to images without an attacker: noise, blur, light, weather and compression.

Every function takes images, float32 [N, C, H, W] in [0, 1], the level (its unit is said by each) and the randomness of
the images, and returns images of the same shape, which may leave [0, 1]. An image's result does not depend on the
batch it is in. In the spirit of Hendrycks and Dietterich, "Benchmarking neural network robustness to common
corruptions and perturbations", arXiv 1903.12261, but of this package's own making: figures are not comparable with
those on their data sets.
"""

from __future__ import annotations

import io
import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from tscnc_deploy.robustness.noise import Noise, gaussian


def gaussian_noise(images: Tensor, level: float, noise: Noise) -> Tensor:
    """Adds normal numbers; the level is their standard deviation."""
    return images + level * gaussian(noise, 0, tuple(images.shape[1:]))


def uniform_noise(images: Tensor, level: float, noise: Noise) -> Tensor:
    """Adds uniform numbers between -level and level."""
    return images + level * (2 * noise.uniform(0, tuple(images.shape[1:])) - 1)


def shot_noise(images: Tensor, level: float, noise: Noise) -> Tensor:
    """Counts photons; the level is the mean number of them at white."""
    uniform = noise.uniform(0, tuple(images.shape[1:])).double()
    mean = images.double() * level
    # The inverse of the Poisson distribution function: the count rises while the uniform number lies above it.
    counts, number = torch.zeros_like(mean), 0
    term = below = torch.exp(-mean)
    while (rising := uniform >= below).any():
        counts, number = counts + rising, number + 1
        term = term * mean / number
        below = below + term
    return (counts / level).float()


def impulse_noise(images: Tensor, level: float, noise: Noise) -> Tensor:
    """Sets values to 0 or 1 ("salt and pepper"); the level is the share of values."""
    uniform = noise.uniform(0, tuple(images.shape[1:]))
    salted = torch.where(uniform >= 1 - level / 2, 1.0, images)
    return torch.where(uniform < level / 2, 0.0, salted)


def gaussian_blur(images: Tensor, level: float, noise: Noise) -> Tensor:
    """Blurs with a normal density; the level is its standard deviation in pixels, see `pixels`."""
    deviation = pixels(level, images)
    offsets = torch.arange(-math.ceil(4 * deviation), math.ceil(4 * deviation) + 1, device=images.device).double()
    weights = torch.exp(-((offsets / deviation) ** 2) / 2)[None, None]
    return _filter(_filter(images, weights), weights.mT)


def defocus_blur(images: Tensor, level: float, noise: Noise) -> Tensor:
    """Blurs with a disk, as a lens out of focus does; the level is its radius in pixels, see `pixels`."""
    radius = pixels(level, images)
    across, down = _offsets(radius, images.device)
    # A pixel counts as far as the disk reaches into it.
    return _filter(images, (radius + 0.5 - torch.hypot(across, down)).clamp(0, 1)[None])


def motion_blur(images: Tensor, level: float, noise: Noise) -> Tensor:
    """Blurs along a line of random direction; the level is its length in pixels, see `pixels`."""
    length = pixels(level, images)
    across, down = _offsets(length / 2, images.device)
    angle = math.pi * noise.uniform(0, (1, 1)).double()
    along, aside = across * angle.cos() + down * angle.sin(), down * angle.cos() - across * angle.sin()
    return _filter(images, (length / 2 + 0.5 - along.abs()).clamp(0, 1) * (1 - aside.abs()).clamp(0, 1))


def contrast(images: Tensor, level: float, noise: Noise) -> Tensor:
    """Draws every value towards the mean of its channel; the level is the share of the distance that is left."""
    mean = images.double().mean((2, 3), keepdim=True).float()
    return mean + level * (images - mean)


def brightness(images: Tensor, level: float, noise: Noise) -> Tensor:
    """Adds the level to every value."""
    return images + level


def fog(images: Tensor, level: float, noise: Noise) -> Tensor:
    """Lays a white veil of uneven thickness over the image; the level is the mean share of light it swallows."""
    size = tuple(images.shape[2:])
    # Random heights on grids of 2, 4 and 8 cells, each half as high as the coarser one before: between 0 and 1.
    thickness = sum(
        F.interpolate(
            noise.uniform(octave, (1, cells + 1, cells + 1)).double(), size, mode="bilinear", align_corners=True
        )
        * (4 / 7 / 2**octave)
        for octave, cells in enumerate((2, 4, 8))
    )
    veil = (level * (0.5 + thickness)).clamp(max=1).float()
    return images + veil * (1 - images)


def pixelate(images: Tensor, level: float, noise: Noise) -> Tensor:
    """Averages over equal rectangles; the level is the share of rows, and of columns, that stay distinct.

    A pixel across the border of two rectangles gets of each as much as lies in it.
    """
    down, across = (_blocks(side, max(1, round(level * side)), images.device) for side in images.shape[2:])
    return (down @ images.double() @ across).float()


def jpeg(images: Tensor, level: float, noise: Noise) -> Tensor:
    """Compresses 1 channel as grey, 3 as RGB, with the installed Pillow; the level is the quality, from 1 to 95."""
    # Rounded as PyTorch's own conversions to bytes do: to the nearest.
    pixels = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    decoded = np.stack([_through_jpeg(image, int(level)) for image in pixels])
    return torch.from_numpy(decoded).permute(0, 3, 1, 2).to(images.device) / 255


def pixels(level: float, images: Tensor) -> float:
    """A length in pixels: the level itself for images of up to 32 pixels, growing with the shorter side beyond."""
    return level * max(1.0, min(images.shape[2:]) / 32)


def _blocks(side: int, count: int, device: torch.device) -> Tensor:
    """float64 [side, side], symmetric: replaces each of `side` values by the means over `count` equal stretches."""
    ends = torch.arange(count + 1, device=device).double()[:, None] * side / count
    places = torch.arange(side, device=device)
    shares = (torch.minimum(ends[1:], places + 1) - torch.maximum(ends[:-1], places)).clamp(min=0)
    return shares.T @ shares * (count / side)


def _offsets(reach: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Columns and rows around a centre, float64 [1, k] and [k, 1], far enough for a shape of this reach."""
    offsets = torch.arange(-math.ceil(reach), math.ceil(reach) + 1, device=device).double()
    return offsets[None], offsets[:, None]


def _filter(images: Tensor, kernels: Tensor) -> Tensor:
    """Weighted means of each pixel's neighbourhood; the image goes on beyond its edge as it is there.

    Args:
        images: float32 [N, C, H, W].
        kernels: float64 [1 or N, k, l], k and l odd; scaled here to a sum of 1.
    """
    kernels = (kernels / kernels.sum((1, 2), keepdim=True)).float()
    rows, columns = kernels.shape[1:]
    height, width = images.shape[2:]
    padded = F.pad(images, (columns // 2, columns // 2, rows // 2, rows // 2), mode="replicate")
    # One shifted image after the other, not a convolution, whose rounding may depend on the size of the batch.
    total = torch.zeros_like(images)
    for row in range(rows):
        for column in range(columns):
            weight = kernels[:, row, column, None, None, None]
            total = total + weight * padded[:, :, row : row + height, column : column + width]
    return total


def _through_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """uint8 [H, W, C] to the same, compressed and decoded."""
    buffer = io.BytesIO()
    Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).save(buffer, "JPEG", quality=quality)
    decoded = np.asarray(Image.open(buffer))
    return decoded.reshape(image.shape)
