"""Gaussian numbers that belong to an image, as `Noise` gives uniform ones."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tscnc_deploy.robustness.noise import Noise


def gaussian(noise: Noise, counter: int, shape: tuple[int, ...]) -> Tensor:
    """float32 [N, *shape], standard normal, by Box and Muller's transform; at most 5.77 in size.

    Args:
        noise: Randomness of N images.
        counter: As in `Noise.uniform`, which draws from the same sequences.
        shape: Of the numbers for one image.

    Source: Box and Muller, "A note on the generation of random normal deviates", Ann. Math. Stat. 29:610-611, 1958.
    """
    count = math.prod(shape)
    uniform = noise.uniform(counter, (2, (count + 1) // 2))
    # The uniform numbers may be 0 but never 1, so the logarithm is finite.
    radius = torch.sqrt(-2 * torch.log1p(-uniform[:, 0]))
    angle = 2 * math.pi * uniform[:, 1]
    pairs = torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], 1)
    return pairs[:, :count].reshape(-1, *shape)
