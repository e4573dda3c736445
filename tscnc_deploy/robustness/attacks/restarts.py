"""Repeating an attack from other random starts, on the images that still stand."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from tscnc_deploy.robustness.attacks.base import Best, random_start
from tscnc_deploy.robustness.noise import Noise
from tscnc_deploy.robustness.threat import Threat


class Ascent(Protocol):
    """One run of a gradient attack from given starting points, inside given bounds."""

    def __call__(self, start: Tensor, low: Tensor, high: Tensor, labels: Tensor) -> Best: ...


def with_restarts(
    ascent: Ascent, images: Tensor, labels: Tensor, threat: Threat, noise: Noise, restarts: int
) -> Tensor:
    """Runs from `restarts` random starts; every run after the first attacks only what no earlier one broke.

    Returns:
        float32 [N, C, H, W], the best point of each image over all runs.
    """
    low, high = threat.bounds(images)
    best = ascent(random_start(low, high, noise, counter=0), low, high, labels)
    for counter in range(1, restarts):
        rows = (~best.broken).nonzero().squeeze(1)
        if len(rows) == 0:
            break
        floor, ceiling = low[rows], high[rows]
        start = random_start(floor, ceiling, noise.select(rows), counter)
        best.put(rows, ascent(start, floor, ceiling, labels[rows]))
    return best.points
