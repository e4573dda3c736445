"""Images that are not in the evidence: an engine that was made to fit the evidence may answer otherwise there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.robustness import Noise

IMAGES = 32
"""Images of each kind that is made here."""
DRAWN = "drawn"
"""The kind of the images that the check drew."""
_CORRUPTIONS = ("impulse_noise", "defocus_blur", "contrast", "elastic_transform")
_SEVERITY = 3
# Blurs and displacements need room.
_SMALLEST = 8


def images_elsewhere(bundle: Bundle, seed: int, drawn: Tensor | None = None) -> dict[str, Tensor]:
    """Random, corrupted, interpolated and drawn images, float32 [N, C, H, W] in [0, 1], by kind.

    They depend on the bundle's digest, so that no file in the bundle can have been made for them.

    Args:
        bundle: With its evidence images.
        seed: Seed of the random numbers.
        drawn: Images that the check drew from a data set, which it then also corrupts and interpolates; None takes the
            evidence images for that.
    """
    from tscnc_deploy.robustness import Noise, corrupt

    evidence = torch.from_numpy(bundle.evidence.images) if drawn is None else drawn
    noise = Noise(seed, torch.arange(IMAGES), f"elsewhere/{bundle.digest}")
    first = noise.integers(0, torch.tensor([len(evidence), len(evidence)]))
    share = noise.uniform(1, (1, 1, 1))
    chosen, others = evidence[first[:, 0]], evidence[first[:, 1]]
    shape = tuple(evidence.shape[1:])
    kinds = {
        # From the finest to a single value for the whole image: networks see fine noise as one texture.
        "random": torch.cat([_cells(noise, 2 + place, shape, 4**place)[place::4] for place in range(4)]),
        "interpolated": (share * chosen + (1 - share) * others).clamp(0, 1),
    }
    if shape[0] in (1, 3) and min(shape[1:]) >= _SMALLEST:
        parts = torch.split(chosen, -(-IMAGES // len(_CORRUPTIONS)))
        kinds["corrupted"] = torch.cat(
            [corrupt(part, name, _SEVERITY, seed=seed) for part, name in zip(parts, _CORRUPTIONS, strict=True)]
        )
    return kinds if drawn is None else kinds | {DRAWN: drawn}


def _cells(noise: Noise, counter: int, shape: tuple[int, ...], cell: int) -> Tensor:
    """Images of random cells of a number of pixels on each side."""
    channels, height, width = shape
    cells = noise.uniform(counter, (channels, -(-height // cell), -(-width // cell)))
    return cells.repeat_interleave(cell, 2).repeat_interleave(cell, 3)[..., :height, :width]
