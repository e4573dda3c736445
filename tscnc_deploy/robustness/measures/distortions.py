"""The common corruptions of Hendrycks and Dietterich: noise, blur, weather and digital processing.

Every function takes images, float32 [N, C, H, W] in [0, 1] with 1 or 3 channels, the randomness of the images and the
parameters of a severity, and returns images of the same shape, which may exceed [0, 1]. An image's result does not
depend on the batch it is in. The parameters of `corruptions.CORRUPTIONS` are those of CIFAR-10-C, for 32 pixels.
Lengths in pixels grow with larger images, see `scale`.

There are two differences from the published files: images are not rounded to 8 bits (except for JPEG, which needs it),
and random numbers come from `Noise`, so they depend only on the image.

Source: Hendrycks and Dietterich, "Benchmarking neural network robustness to common corruptions and perturbations",
arXiv 1903.12261, with the parameters of their script make_cifar_c.py.
"""

from __future__ import annotations

import io
import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tscnc_deploy.pixels import to_unit_range
from tscnc_deploy.robustness.measures import resampling
from tscnc_deploy.robustness.noise import Noise, gaussian

# Weights of ITU-R BT.601, with which the published snow converts colours to grey.
_LUMA = (0.299, 0.587, 0.114)


def scale(images: Tensor) -> float:
    """The factor for lengths in pixels: 1 for images up to 32 pixels, then proportional to the shorter side."""
    return max(1.0, min(images.shape[2:]) / 32)


def gaussian_noise(images: Tensor, noise: Noise, deviation: float) -> Tensor:
    """Adds normally distributed noise."""
    return images + deviation * gaussian(noise, 0, tuple(images.shape[1:]))


def shot_noise(images: Tensor, noise: Noise, photons: float) -> Tensor:
    """Simulates photon counts, with an average of `photons` for white."""
    uniform = noise.uniform(0, tuple(images.shape[1:])).double()
    mean = images.double() * photons
    # The inverse of the Poisson distribution function: the count grows while the uniform number is above it.
    counts, number = torch.zeros_like(mean), 0
    term = below = torch.exp(-mean)
    while (rising := uniform >= below).any():
        counts, number = counts + rising, number + 1
        term = term * mean / number
        below = below + term
    return (counts / photons).float()


def impulse_noise(images: Tensor, noise: Noise, share: float) -> Tensor:
    """Sets a share of the values to 0 or 1 ("salt and pepper")."""
    uniform = noise.uniform(0, tuple(images.shape[1:]))
    salted = torch.where(uniform >= 1 - share / 2, 1.0, images)
    return torch.where(uniform < share / 2, 0.0, salted)


def defocus_blur(images: Tensor, noise: Noise, radius: float, alias: float) -> Tensor:
    """Blurs with a disk whose edge is smoothed over 3 pixels by a normal density of deviation `alias` pixels."""
    radius = radius * scale(images)
    reach = int(radius) + 1
    across = resampling.offsets(reach, images.device)
    disk = (torch.hypot(across[None], across[:, None]) <= radius).double()
    weights = torch.exp(-((resampling.offsets(1, images.device) / alias) ** 2) / 2)
    smooth = weights / weights.sum()
    kernel = torch.zeros_like(disk)
    for row in range(3):
        for column in range(3):
            kernel += smooth[row] * smooth[column] * disk.roll((row - 1, column - 1), (0, 1))
    return resampling.correlate(images, (kernel / disk.sum())[None], "mirror")


def glass_blur(images: Tensor, noise: Noise, sigma: float, distance: float, rounds: float) -> Tensor:
    """Blurs, replaces each pixel by a nearby one `rounds` times, and blurs again.

    A pixel takes the value of one up to `distance` pixels up and to the left, or less than that down and to the right,
    as in the published script: its swap of two pixels overwrites one with the other.
    """
    height, width = images.shape[2:]
    reach = round(distance * scale(images))
    blurred = resampling.gaussian_blur(images, sigma * scale(images))
    sizes = torch.full((2 * height * width,), 2 * reach, device=images.device)
    rows, columns = torch.arange(height, device=images.device)[:, None], torch.arange(width, device=images.device)
    # Rows and columns near the edge are unchanged.
    moving = (rows > reach) & (rows <= height - reach) & (columns > reach) & (columns <= width - reach)
    image = torch.arange(len(images), device=images.device)[:, None, None]
    for counter in range(int(rounds)):
        steps = (noise.integers(counter, sizes).reshape(-1, 2, height, width) - reach) * moving
        down = (rows + steps[:, 0]).clamp(max=height - 1)
        right = (columns + steps[:, 1]).clamp(max=width - 1)
        blurred = blurred[image, :, down, right].permute(0, 3, 1, 2)
    return resampling.gaussian_blur(blurred, sigma * scale(images))


def motion_blur(images: Tensor, noise: Noise, radius: float, sigma: float) -> Tensor:
    """Blurs along a line within 45 degrees of the horizontal."""
    return _smear(images, 90 * noise.uniform(0, (1,)).double() - 45, radius * scale(images), sigma * scale(images))


def zoom_blur(images: Tensor, noise: Noise, largest: float) -> Tensor:
    """The mean of the image and its enlargements by 1, 1.01, 1.02 and so on, up to `largest` inclusive."""
    factors = [1 + step / 100 for step in range(round(100 * (largest - 1)) + 1)]
    total = images.double()
    for factor in factors:
        total = total + _zoomed(images, factor)
    return (total / (len(factors) + 1)).float()


def snow(
    images: Tensor,
    noise: Noise,
    mean: float,
    deviation: float,
    size: float,
    threshold: float,
    radius: float,
    sigma: float,
    share: float,
) -> Tensor:
    """Snowflakes falling approximately vertically, over a mix of `share` of the image and the rest of a paler copy.

    Flakes are where normal numbers with this mean and deviation, enlarged by `size`, exceed the threshold; they are
    blurred along a line with this radius and deviation sigma, in pixels.
    """
    height, width = images.shape[2:]
    flakes = _zoomed((mean + deviation * gaussian(noise, 0, (height, width)))[:, None], size)
    flakes = torch.where(flakes < threshold, 0.0, flakes).clamp(0, 1).float()
    angle = 90 * noise.uniform(1, (1,)).double() - 135
    flakes = _smear(flakes, angle, radius * scale(images), sigma * scale(images))
    grey = images if images.shape[1] == 1 else (images * images.new_tensor(_LUMA)[:, None, None]).sum(1, keepdim=True)
    paler = torch.maximum(images, 1.5 * grey + 0.5)
    return share * images + (1 - share) * paler + flakes + flakes.flip((2, 3))


def fog(images: Tensor, noise: Noise, thickness: float, decay: float) -> Tensor:
    """Adds a cloud between 0 and `thickness` and scales the sum back to the image's largest value.

    The larger the decay, the smoother the cloud.
    """
    height, width = images.shape[2:]
    brightest = images.amax((1, 2, 3), keepdim=True)
    cloud = thickness * _cloud(noise, max(height, width), decay)[:, None, :height, :width].float()
    return (images + cloud) * brightest / (brightest + thickness)


def brightness(images: Tensor, noise: Noise, added: float) -> Tensor:
    """Adds to the value of each pixel in HSV; hue and saturation are unchanged."""
    value = images.amax(1, keepdim=True)
    brighter = (value + added).clamp(max=1)
    # Black has no hue: it becomes grey.
    return torch.where(value > 0, images * (brighter / value.clamp(min=torch.finfo(value.dtype).tiny)), brighter)


def contrast(images: Tensor, noise: Noise, share: float) -> Tensor:
    """Scales each value's distance from the mean of its channel."""
    mean = images.double().mean((2, 3), keepdim=True).float()
    return mean + share * (images - mean)


def elastic_transform(images: Tensor, noise: Noise, strength: float, sigma: float, shift: float) -> Tensor:
    """Distorts by a random affine map, then moves every pixel by a smooth random field.

    Args:
        images: float32 [N, C, H, W].
        noise: Randomness of the images.
        strength: Strength of the field before smoothing; like the others a share of the shorter side, at any size.
        sigma: Standard deviation of the field's smoothing.
        shift: Maximum move of the three points that define the affine map, along each axis.
    """
    height, width = images.shape[2:]
    side = min(height, width)
    rows = torch.arange(height, device=images.device).double()[:, None]
    columns = torch.arange(width, device=images.device).double()
    warped = resampling.sample(images, *_affine(noise, height, width, shift * side, rows, columns), edge="mirror")
    field = 2 * noise.uniform(1, (2, height, width)).double() - 1
    moved = strength * side * resampling.gaussian_blur(field, sigma * side, "reflect", truncate=3)
    return resampling.sample(warped, rows + moved[:, 0], columns + moved[:, 1], "reflect").float()


def pixelate(images: Tensor, noise: Noise, share: float) -> Tensor:
    """Scales both sides down by a factor with Pillow's BOX filter, and up again."""
    down, across = (_pixelated(side, max(1, int(side * share)), images.device) for side in images.shape[2:])
    return resampling.separable(images, down, across).float()


def jpeg_compression(images: Tensor, noise: Noise, quality: float) -> Tensor:
    """Compresses 1 channel as grey, 3 as RGB, with the installed Pillow."""
    # Rounded to nearest, as in PyTorch's own conversions to bytes.
    pixels = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    decoded = np.stack([_through_jpeg(image, int(quality)) for image in pixels])
    return to_unit_range(torch.from_numpy(decoded).permute(0, 3, 1, 2).to(images.device))


def _smear(images: Tensor, angles: Tensor, radius: float, sigma: float) -> Tensor:
    """Half of a normal density along a line: the motion blur of ImageMagick.

    Args:
        images: float32 [N, C, H, W].
        angles: float64 [N, 1], in degrees.
        radius: Half of the line's length in pixels.
        sigma: Standard deviation in pixels.
    """
    height, width = images.shape[2:]
    steps = torch.arange(2 * math.ceil(radius) + 1, device=images.device).double()
    weights = torch.exp(-((steps / sigma) ** 2) / 2)
    weights = (weights / weights.sum()).to(images)
    turned = torch.deg2rad(angles)
    right, down = ((steps * part - 0.5).ceil().long() for part in (turned.cos(), turned.sin()))
    rows, columns = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
    image = torch.arange(len(images), device=images.device)[:, None, None]
    total = torch.zeros_like(images)
    for step, weight in enumerate(weights):
        across = resampling.inside(columns + right[:, step, None], width, "nearest")[:, None]
        below = resampling.inside(rows + down[:, step, None], height, "nearest")[:, :, None]
        total = total + weight * images[image, :, below, across].permute(0, 3, 1, 2)
    return total


def _zoomed(images: Tensor, factor: float) -> Tensor:
    down, across = (resampling.zoom(side, factor, images.device) for side in images.shape[2:])
    return resampling.separable(images, down, across)


def _cloud(noise: Noise, side: int, decay: float) -> Tensor:
    """Diamond-square fractals, float64 [N, S, S] in [0, 1], where S is the next power of two from `side`.

    They are periodic: left continues at right, and top at bottom.
    """
    size = max(2, 1 << (side - 1).bit_length())
    heights = torch.zeros(len(noise.indices), size, size, dtype=torch.float64, device=noise.indices.device)
    step, wobble, counter = size, 100.0, 0

    def rough(sums: Tensor) -> Tensor:
        nonlocal counter
        drawn = 2 * noise.uniform(counter, tuple(sums.shape[1:])).double() - 1
        counter += 1
        return sums / 4 + wobble**2 * drawn

    while step >= 2:
        half = step // 2
        corners = heights[:, ::step, ::step]
        pairs = corners + corners.roll(-1, 1)
        heights[:, half::step, half::step] = rough(pairs + pairs.roll(-1, 2))
        middles, corners = heights[:, half::step, half::step], heights[:, ::step, ::step]
        above = middles + middles.roll(1, 1)
        heights[:, ::step, half::step] = rough(above + corners + corners.roll(-1, 2))
        beside = middles + middles.roll(1, 2)
        heights[:, half::step, ::step] = rough(beside + corners + corners.roll(-1, 1))
        step, wobble = half, wobble / decay
    heights = heights - heights.amin((1, 2), keepdim=True)
    return heights / heights.amax((1, 2), keepdim=True)


def _affine(
    noise: Noise, height: int, width: int, shift: float, rows: Tensor, columns: Tensor
) -> tuple[Tensor, Tensor]:
    """The source of each pixel, float64 [N, H, W] twice, under an affine map that moves three points at random."""
    reach = max(1, min(height, width) // 3)
    # Column and row of the points, in pixels from the centre of the image.
    points = torch.tensor([[reach, reach], [reach, -reach], [-reach, -reach]], device=rows.device).double()
    moved = points + shift * (2 * noise.uniform(0, (3, 2)).double() - 1)
    across, down = columns - width // 2, rows - height // 2
    # Barycentric coordinates of each pixel among the moved points are those of its origin among the points.
    first, second = moved[:, 1] - moved[:, 0], moved[:, 2] - moved[:, 0]
    area = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
    from_first = across - moved[:, 0, 0, None, None], down - moved[:, 0, 1, None, None]

    def cross(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> Tensor:
        return (a[0] * b[1] - a[1] * b[0]) / area[:, None, None]

    towards = tuple(part[:, None, None] for part in (first[:, 0], first[:, 1], second[:, 0], second[:, 1]))
    along = cross(from_first, (towards[2], towards[3]))
    beside = cross((towards[0], towards[1]), from_first)
    origin = [
        points[0, axis] + along * (points[1] - points[0])[axis] + beside * (points[2] - points[0])[axis]
        for axis in (0, 1)
    ]
    return origin[1] + height // 2, origin[0] + width // 2


def _pixelated(side: int, count: int, device: torch.device) -> Tensor:
    return resampling.box(count, side, device) @ resampling.box(side, count, device)


def _through_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """Compresses and decodes uint8 [H, W, C]."""
    buffer = io.BytesIO()
    Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).save(buffer, "JPEG", quality=quality)
    decoded = np.asarray(Image.open(buffer))
    return decoded.reshape(image.shape)
